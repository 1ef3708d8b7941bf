"""One file per task: what its truth is, its losses, its predictions, its metric."""
