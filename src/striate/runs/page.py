"""Fills the report of a run from its record and its last evaluation."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from striate.core.annotations import Classifications
from striate.data.dataset import Dataset
from striate.runs.evaluate import Evaluated
from striate.runs.folder import RunFolder
from striate.runs.report import Curve, Headline, Mistake, Report, Setting, write_report
from striate.runs.where_page import fields_of
from striate.viz.charts import Mark, Series

MISTAKES = 24


def write_page(
    run: RunFolder, found: Evaluated, result: Mapping[str, Any], skipped: Sequence[Mapping[str, str]]
) -> None:
    """Write ``report.html``.

    Args:
        run: whose settings and record are shown.
        found: the evaluation that the page opens with.
        result: the run's ``striate.run/1`` document.
        skipped: files that could not be used, as ``{source, reason}``.
    """
    document, events = run.document, run.events()
    settings, sources = document["settings"], document["sources"]
    write_report(
        run.report,
        Report(
            name=run.path.name,
            task=found.task,
            model=settings["model"],
            data=document["data"]["name"],
            headline=Headline(
                metric=found.headline,
                value=found.metrics[found.headline],
                interval=found.interval,
                split=found.split,
                images=found.samples,
                note=found.held_out,
            ),
            metrics=found.metrics | ({} if found.details is None else found.details.voc),
            facts=[*_facts(document, result), *_speed(found)],
            curves=_curves(events, result, found.headline),
            classes=found.classes,
            **_of_task(found),
            skipped=[(item["source"], item["reason"]) for item in skipped],
            settings=[
                Setting(name=name, value=str(value), source=sources.get(name, "default"))
                for name, value in settings.items()
            ],
            warnings=[event["text"] for event in events if event["event"] == "message"],
        ),
    )


def _of_task(found: Evaluated) -> dict[str, Any]:
    """The fields of a report that only some tasks have."""
    metric = found.classification
    if metric is None:
        return fields_of(found)
    return {
        "confusion": metric.confusion,
        "per_class": metric.per_class(found.classes),
        "reliability": metric.reliability(),
        "mistakes": mistakes(found),
    }


def mistakes(found: Evaluated, most: int = MISTAKES) -> list[Mistake]:
    """The wrong predictions that the model was surest of, the surest first."""
    predictions, truths = found.predictions, found.truths
    assert isinstance(predictions, Classifications)
    assert predictions.scores is not None
    sure = predictions.scores.gather(1, predictions.labels[:, None])[:, 0]
    wrong = (predictions.labels != truths.labels).nonzero()[:, 0]
    order = wrong[sure[wrong].argsort(descending=True, stable=True)][:most]
    return [_mistake(found, found.dataset, int(row), float(sure[row])) for row in order]


def _mistake(found: Evaluated, dataset: Dataset, row: int, score: float) -> Mistake:
    index, truth = int(found.indices[row]), int(found.truths.labels[row])
    assert isinstance(found.predictions, Classifications)
    assert found.predictions.scores is not None
    return Mistake(
        image=dataset.images.read(index),
        truth=found.classes[truth],
        prediction=found.classes[int(found.predictions.labels[row])],
        score=score,
        truth_score=float(found.predictions.scores[row, truth]),
        id=dataset.ids[index],
    )


def _facts(document: Mapping[str, Any], result: Mapping[str, Any]) -> list[tuple[str, str]]:
    trained = document["settings"].get("transfer") != "features"
    images = ", ".join(f"{count:,} {name}" for name, count in document["data"]["images"].items())
    data = document["data"]
    return [
        ("command", document["command"]),
        ("started", document["started"]),
        *((("transfer", document["transfer"]),) if "transfer" in document else ()),
        ("data", f"{data['name']}, {data['format']} ({data['source']})"),
        ("licence of the data", str(data["licence"] or "not stated")),
        ("images", images),
        ("parameters", f"{document['parameters']:,}"),
        *((("epochs", f"{result['epochs']}, kept the weights of epoch {result['best']['epoch']}"),) if trained else ()),
        ("training time", f"{result['seconds']:.1f} s"),
        ("hardware", ", ".join(f"{name} {value}" for name, value in document["hardware"].items())),
        ("versions", ", ".join(f"{name} {value}" for name, value in document["versions"].items())),
        ("fingerprint of the data", ", ".join(f"{name} {value[:12]}" for name, value in data["fingerprints"].items())),
    ]


def _speed(found: Evaluated) -> list[tuple[str, str]]:
    if found.speed is None:
        return []
    rate, latency = found.speed["images_per_second"], found.speed["latency_ms"]
    return [("speed", f"{rate:g} images/s, {latency:g} ms for one image; images/s are {found.pace}")]


def _curves(events: Sequence[Mapping[str, Any]], result: Mapping[str, Any], headline: str) -> list[Curve]:
    epochs = {event["epoch"]: event for event in events if event["event"] == "epoch"}
    numbers = sorted(epochs)
    marks = [Mark(x=result["best"]["epoch"], label="best epoch")] if result["best"]["metrics"] else []
    losses = [Series(name="train", x=numbers, y=[epochs[number]["train_loss"] for number in numbers])]
    accuracies: list[Series] = []
    measured = {  # by split
        number: ({"val": epoch["val"]} if "val" in epoch else {}) | epoch.get("watched", {})
        for number, epoch in epochs.items()
    }
    for split in measured[numbers[-1]] if numbers else ():
        found = {name: [measured[number][split].get(name, np.nan) for number in numbers] for name in ("loss", headline)}
        measure = f"{split}, as evaluated" if split == "train" else split
        if not np.isnan(found["loss"]).all():
            losses.append(Series(name=measure, x=numbers, y=found["loss"]))
        accuracies.append(Series(name=split, x=numbers, y=found[headline]))
    curves: list[Curve] = []
    if accuracies:
        splits = " and ".join(series.name for series in accuracies)
        what = "Accuracy" if headline == "top1" else headline
        curves.append(Curve(title=f"{what} on {splits}", unit=headline, series=accuracies, marks=marks))
    if numbers:
        curves.insert(0, Curve(title="Loss", series=losses, marks=marks))
    for event in events:
        if event["event"] == "cross_validation":
            trials = event["trials"]
            accuracy, deviation = ([trial[name] for trial in trials] for name in ("accuracy", "deviation"))
            series = Series(
                name=event["classifier"],
                x=[trial["penalty"] for trial in trials],
                y=accuracy,
                low=[a - d for a, d in zip(accuracy, deviation, strict=True)],
                high=[a + d for a, d in zip(accuracy, deviation, strict=True)],
            )
            knn = series.name == "knn"
            curves.append(
                Curve(
                    title=f"Cross-validation, {series.name}",
                    unit="top1, ± over folds",
                    series=[series],
                    x_label="neighbours" if knn else "penalty",
                    x_log=min(series.x) > 0,
                )
            )
    steps = [event for event in events if event["event"] == "step"]
    if steps:
        rates = Series(name="learning rate", x=[step["step"] for step in steps], y=[step["lr"] for step in steps])
        curves.append(Curve(title="Learning rate", series=[rates], x_label="step"))
    return curves
