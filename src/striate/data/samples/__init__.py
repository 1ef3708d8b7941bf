"""Data that ships with the package, with its licence."""
