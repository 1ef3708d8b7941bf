"""The field's classic claims, measured again: one claim per file, and the harness that runs them."""
