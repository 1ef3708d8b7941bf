"""One file per detector: a page on which every number of its paper is visible."""
