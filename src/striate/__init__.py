"""striate: from images to a convolutional network that you understand and can ship.

    import striate
    run = striate.train("digits")                     # run.path, run.metrics
    model = striate.load(run.path)
    for prediction in model.predict(["a.png"]): ...
    striate.evaluate(run.path, split="test").metrics["top1"]
    net = striate.create("resnet20", classes=10, channels=3)
    striate.inspect("vgg16").layers[0].macs
    striate.study("activations").findings.verdict
    striate.embed(run.path, "photos/", out="photos.embeddings").search("query.jpg", top=12)

Importing striate loads nothing heavy; each name is loaded when it is first used.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from striate.api import create, embed, evaluate, inspect, resume, save_weights, study, train
    from striate.runs.embeddings import open_embeddings
    from striate.runs.model import load

__all__ = [
    "create",
    "embed",
    "evaluate",
    "inspect",
    "load",
    "open_embeddings",
    "resume",
    "save_weights",
    "study",
    "train",
]

_HOMES = {"load": "striate.runs.model", "open_embeddings": "striate.runs.embeddings"}


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module 'striate' has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_HOMES.get(name, "striate.api")), name)


def __dir__() -> list[str]:
    return __all__
