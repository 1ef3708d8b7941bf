"""The value types that every room shares. Imports torch only."""
