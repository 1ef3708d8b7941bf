"""Names, sizes and the messages about them."""

import pytest
import torch

from striate.errors import UsageError
from striate.models.catalog import CATALOG, create, names, native_size, obstacle


def test_names_come_in_the_order_of_the_catalog_and_by_glob():
    assert names() == list(CATALOG)
    assert names("LeNet5*") == ["lenet5", "lenet5_modern"]
    assert names("nothing*") == []


def test_an_unknown_name_is_answered_with_the_nearest():
    with pytest.raises(UsageError, match=r"no model 'resent20'.*Did you mean 'resnet20'"):
        create("resent20", classes=10, channels=1, size=(32, 32))
    with pytest.raises(UsageError, match="no model 'lenet6'"):
        native_size("lenet6")


def test_a_network_for_one_size_refuses_others_and_names_its_own():
    with pytest.raises(UsageError, match="lenet5 takes images of 32x32 pixels only, not 28x30: set the size to 32x32"):
        create("lenet5", classes=10, channels=1, size=(28, 30))


@pytest.mark.parametrize(
    ("name", "size", "layer", "works"),
    [
        ("vgg16", (16, 16), "backbone.stage5.pool is 1x1", "32x32"),
        ("alexnet", (20, 300), "backbone.stage2.pool2 is 1x36", "63x300"),
        ("inception_v3", (40, 40), "backbone.mixed6a.conv3x3.conv is 2x2", "75x75"),
    ],
)
def test_a_size_too_small_is_answered_with_the_layer_and_the_smallest_that_works(name, size, layer, works):
    with pytest.raises(UsageError, match=f"what reaches {layer}, too small for it. The smallest that works is {works}"):
        create(name, classes=2, channels=3, size=size)
    height, width = (int(side) for side in works.split("x"))
    with torch.device("meta"):
        create(name, classes=2, channels=3, size=(height, width))


def test_what_only_training_on_one_image_cannot_do_is_not_refused():
    assert create("resnet18", classes=2, channels=3, size=(32, 32)).eval()(torch.zeros(1, 3, 32, 32)).shape == (1, 2)
    assert not obstacle("resnet18", (32, 32), batch=2, training=True)
    assert "backbone.stage4.0.bn1 is 1x1: one value per channel" in obstacle("resnet18", (32, 32), training=True)
    assert "auxiliary.inception4a" in obstacle("googlenet", (32, 32), batch=2, training=True)


@pytest.mark.parametrize(("classes", "channels", "size"), [(1, 1, (28, 28)), (10, 0, (28, 28)), (10, 1, (28, 0))])
def test_numbers_that_no_network_can_take_are_refused(classes, channels, size):
    with pytest.raises(UsageError, match="at least 2 classes, 1 channel and 1x1 pixels"):
        create("FC", classes=classes, channels=channels, size=size)


def test_native_size():
    assert native_size("lenet5") == (32, 32)
    assert native_size("lenet5_modern") == (28, 28)
    assert native_size("resnet20") is None
    assert native_size("CONV 3 -> FC") is None


@pytest.mark.parametrize("name", CATALOG)
def test_every_line_of_the_catalog_says_what_it_is(name):
    assert CATALOG[name].summary
    assert CATALOG[name].task == "classification"
