"""striate: from images to a convolutional network that you understand and can ship.

    import striate
    run = striate.train("digits")                     # run.path, run.metrics
    model = striate.load(run.path)
    for prediction in model.predict(["a.png"]): ...
    striate.evaluate(run.path, split="test").metrics["top1"]
    net = striate.create("resnet20", classes=10, channels=3)
    striate.inspect("vgg16").layers[0].macs
    striate.study("activations").findings.verdict

Importing striate loads nothing heavy; each name is loaded when it is first used.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from striate.api import create, evaluate, inspect, resume, save_weights, study, train
    from striate.runs.model import load

__all__ = ["create", "evaluate", "inspect", "load", "resume", "save_weights", "study", "train"]

_HOMES = {"load": "striate.runs.model"}


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module 'striate' has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_HOMES.get(name, "striate.api")), name)


def __dir__() -> list[str]:
    return __all__
