"""Pictures of annotations, curves and tables. Sees only core types."""
