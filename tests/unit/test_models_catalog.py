"""Names, sizes and the messages about them."""

import pytest
import torch

from striate.errors import UsageError
from striate.models.catalog import CATALOG, create, names, native_size


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


@pytest.mark.parametrize("name", CATALOG)
def test_the_smallest_size_is_named_and_works(name):
    architecture = CATALOG[name]
    if not architecture.only_size:
        height, width = architecture.smallest
        with torch.device("meta"):
            create(name, classes=2, channels=1, size=(height, width))
        if height > 1:
            with pytest.raises(UsageError, match=f"at least {height}x{width} pixels"):
                create(name, classes=2, channels=1, size=(height - 1, width))


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
