"""What reads the maps: one file per head of detectors, and the heads that a classifier can be given instead of its own.

`Head` and `replace_head` are those of `classification`.
"""

from striate.models.heads.classification import Head, replace_head

__all__ = ["Head", "replace_head"]
