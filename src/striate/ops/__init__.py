"""Pure functions on tensors: boxes, coders, matching, suppression, losses. No parameters; sees core only."""
