"""How many regions a two-stage detector learns from and looks at."""

import pytest
import torch

from striate.config import Layer, TrainSettings, resolve
from striate.errors import UsageError
from striate.models.detectors.catalog import DETECTORS, create_detector
from striate.models.detectors.two_stage import learn_from, look_at, looked_at
from striate.runs.building import choose_regions
from striate.tasks.catalog import build_task

SIZE = (64, 64)


def _build(name):
    with torch.device("meta"):
        return create_detector(name, backbone="resnet18", classes=3, channels=3, size=SIZE)


def test_a_detector_looks_at_as_many_proposals_as_it_is_told_also_from_its_file():
    torch.manual_seed(0)
    network = create_detector("light_head_rcnn", backbone="resnet18", classes=3, channels=3, size=SIZE).eval()
    document = {"task": "detection", "classes": ["a", "b", "c"]}
    task = build_task(network, document | {"proposals": 7})
    assert task.to_json()["proposals"] == 7 == looked_at(network)
    with torch.inference_mode():
        assert network(torch.randn(1, 3, *SIZE))["proposals"].shape == (1, 7, 4)
    again = build_task(_build("light_head_rcnn"), task.to_json())
    assert again.to_json() == task.to_json()


def test_more_proposals_than_the_paper_takes_are_asked_of_the_network():
    network = _build("faster_rcnn")
    look_at(network, 5000)
    assert (network.rpn.numbers.testing.before, network.rpn.numbers.testing.after) == (5000, 5000)


@pytest.mark.parametrize("name", [name for name, line in DETECTORS.items() if line.regions != "none"])
def test_two_stage_detectors_of_the_catalog_learn_from_as_many_regions_as_they_are_told(name):
    line = DETECTORS[name]
    with torch.device("meta"):
        network = create_detector(name, classes=3, channels=3, size=line.size)
    learn_from(network, 5)
    assert network.sampling.count == 5
    assert line.regions == ("given" if hasattr(network, "proposer") else "proposed")


def test_what_looks_at_no_regions_refuses_a_number_of_them():
    with pytest.raises(UsageError, match="two-stage"):
        learn_from(_build("fcos"), 5)
    for name in ("fcos", "rcnn_windows"):
        with pytest.raises(UsageError, match="proposal network or selective search"):
            look_at(_build(name), 5)


def _chosen(size, **given):
    defaults = {"task": "detection", "backbone": "resnet18"}
    settings = choose_regions(resolve(Layer(source="test", values=defaults | given)), size).settings
    return settings.regions, settings.proposals


def test_small_images_have_fewer_regions_unless_somebody_says_so():
    assert _chosen((128, 128), model="faster_rcnn") == (32, 100)
    assert _chosen((128, 128), model="faster_rcnn", regions=64, proposals=300) == (64, 300)
    assert _chosen((800, 1344), model="faster_rcnn") == ("auto", "auto")
    assert _chosen((128, 128), model="rcnn_windows") == (32, "auto")
    assert _chosen((128, 128), model="fcos") == (TrainSettings().regions, TrainSettings().proposals)
    for name in ("regions", "proposals"):
        with pytest.raises(UsageError, match=f"--{name}: fcos looks at no regions"):
            _chosen((128, 128), model="fcos", **{name: 5})
