"""One file per data format: recognise, load, save."""
