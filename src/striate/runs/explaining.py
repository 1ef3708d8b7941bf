"""Pictures of what a detector learns from: which of its anchors, cells, points or queries answers for which object."""

from dataclasses import dataclass, replace
from pathlib import Path

import torch

from striate.data.dataset import Dataset
from striate.data.loader import Loader
from striate.data.open import open_dataset
from striate.data.preprocess import Preprocessing
from striate.data.split import split
from striate.errors import UsageError
from striate.files import replacing
from striate.models.contract import Detector
from striate.models.detectors.catalog import DETECTORS, create_detector
from striate.runs.building import LARGE_SCENE, SMALL_SCENE, says_where, usual_backbone
from striate.runs.evaluate import for_classes
from striate.runs.folder import RunFolder, is_run
from striate.runs.model_file import read_model
from striate.runs.samples import denormalised, spread
from striate.runs.writing import stems
from striate.viz.instances import draw_assigned, passed_over


@dataclass(frozen=True, kw_only=True)
class Responsible:
    """What answers for the objects of one image."""

    id: str
    kind: str  # in the detector's own word: "anchor", "cell", ...
    objects: int
    assigned: int  # anchors, cells, ... that answer for an object
    unanswered: int  # objects that are to be learnt, and nothing answers for
    passed_over: int  # crowds and ignored objects, which teach nothing
    picture: Path


def explain_targets(
    model: str,
    data: str,
    out: Path,
    *,
    backbone: str | None = None,
    root: Path | None = None,
    split_name: str = "train",
    count: int = 4,
    seed: int = 0,
) -> list[Responsible]:
    """Draw which anchors, cells, points or queries of a detector learn which object.

    Args:
        model: a detector's name (with fresh weights), a run folder or a model file.
        data: path or known name of data with boxes.
        out: folder for the pictures.
        backbone: of a detector named; None: the published one.
        root: folder of a known data set.
        split_name: the split that images are taken from.
        count: images.
        seed: which images, and of what the detector draws at random.

    Raises:
        UsageError: no detector, or data without boxes.
    """
    dataset = open_dataset(data, root=root)
    if not says_where(dataset.task):
        raise UsageError(f"the truth of {dataset.name} is for {dataset.task}: nothing in it has a place.")
    detector, preprocessing, dataset = _detector(model, backbone, dataset)
    rows = spread(dataset, split(dataset).of(split_name), count, seed)
    preprocessing = replace(preprocessing, multiple=None)  # all in one batch
    batches = Loader(dataset, rows, preprocessing, batch=len(rows), seed=seed, shuffle=False)
    batch = next(batches.epoch(0))
    torch.manual_seed(seed)
    with torch.no_grad():
        assigned = detector.train().assigned(batch)
    found: list[Responsible] = []
    indices: list[int] = batch.indices.tolist()
    ids = [dataset.ids[row] for row in indices]
    names = {id_: stem.replace("[", "-").replace("]", "") for id_, stem in zip(ids, stems(ids), strict=True)}
    pictures = denormalised(batch.images, preprocessing)
    for pixels, truth, one, row in zip(pictures, batch.instances, assigned, indices, strict=True):
        id_ = dataset.ids[row]
        file = out / f"{names[id_]}-targets.png"
        with replacing(file) as temporary:
            draw_assigned(pixels, truth, one, dataset.classes).save(temporary, "PNG")
        counted = ~passed_over(truth)
        answered = torch.zeros_like(counted)
        answered[one.objects] = True
        found.append(
            Responsible(
                id=id_,
                kind=one.kind,
                objects=len(truth),
                assigned=len(one.objects),
                unanswered=int((counted & ~answered).sum()),
                passed_over=int((~counted).sum()),
                picture=file,
            )
        )
    return found


def _detector(model: str, backbone: str | None, dataset: Dataset) -> tuple[Detector, Preprocessing, Dataset]:
    path = Path(model).expanduser()
    if path.exists() and model not in DETECTORS:
        if backbone is not None:
            raise UsageError(f"{model} has its own backbone: leave --backbone {backbone} out.")
        task, card = read_model(RunFolder(path).model if is_run(path) else path)
        if not isinstance(task.network, Detector):
            raise UsageError(f"{model} is a model for {task.name}: only a detector has targets to draw.")
        return task.network, card.preprocessing, for_classes(dataset, card.classes)
    height, width = dataset.images.read(0).shape[:2]
    architecture = DETECTORS.get(model)
    step = architecture.multiple if architecture else 1
    size = (-(-height // step) * step, -(-width // step) * step) if max(height, width) <= SMALL_SCENE else LARGE_SCENE
    if architecture is not None and architecture.only_size:
        size = architecture.size
    torch.manual_seed(0)
    backbone = backbone or (usual_backbone(model, (height, width))[1] if architecture else None)
    detector = create_detector(model, backbone=backbone, classes=len(dataset.classes), channels=3, size=size)
    plain = Preprocessing(size=size, channels=3, mean=(0.5,) * 3, std=(0.25,) * 3, resize="fit", fill=114)
    return detector, plain, dataset
