"""The training loop and all that it needs; contains no name of a task."""
