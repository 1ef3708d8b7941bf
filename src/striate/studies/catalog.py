"""All studies: a literal table. A study is the `STUDY` of the module that is called like it, with underscores."""

from importlib import import_module

from striate.errors import UsageError, did_you_mean
from striate.studies.study import Study

NAMES: tuple[str, ...] = (
    "mnist-table",
    "activations",
    "vanishing-gradients",
    "depth",
    "batch-norm",
    "dropout",
    "weight-decay",
    "early-stopping",
    "augmentation",
    "capacity",
    "normalise-input",
    "where-the-work-is",
    "one-by-one",
    "why-convolution",
    "first-filters",
    "transfer",
    "test-set",
)  # fmt: skip


def find(name: str) -> Study:
    """A study by its name.

    Raises:
        UsageError: there is none of that name; names the nearest ones.
    """
    wanted = name.replace("_", "-")
    if wanted not in NAMES:
        raise UsageError(f"there is no study {name!r}.{did_you_mean(wanted, NAMES)} 'striate study' lists them all.")
    study = import_module(f"striate.studies.{wanted.replace('-', '_')}").STUDY
    assert isinstance(study, Study)
    return study
