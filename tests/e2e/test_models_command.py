"""What `striate models` answers when its filters do not apply or leave nothing."""

import json

import pytest
from commands import Cli
from PIL import Image


@pytest.mark.parametrize("json_too", [(), ("--json",)])
@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (
            ("le*", "--max-parameters", "1k"),
            "no model like 'le*' has at most 1,000 parameters; the smallest is lenet1 with 2,578.",
        ),
        (
            ("lenet*", "--min-parameters", "1M"),
            "no model like 'lenet*' has at least 1,000,000 parameters; the largest is lenet300-100 with 266,610.",
        ),
        (
            ("vgg1[16]", "--min-parameters", "133M", "--max-parameters", "0.138B"),
            "at least 133,000,000 and at most 138,000,000 parameters; the next smaller is vgg11 with 132,863,336 and "
            "the next larger is vgg16 with 138,357,544.",
        ),
        (
            ("squeezenet*", "--weights", "bsd", "--max-parameters", "1k"),
            "with official weights whose licence has 'bsd' has at most 1,000 parameters; the smallest",
        ),
        (("lenet*", "--weights", "bsd"), "no model like 'lenet*' has official weights whose licence has 'bsd'"),
        (("--weights", "gpl"), "The licences that there are: BSD-3-Clause"),
        (("--min-parameters", "2M", "--max-parameters", "1M"), "--min-parameters 2M is more than --max-parameters 1M"),
        (
            ("timm:resnet*", "--max-parameters", "5M"),
            "timm's models are listed by name only: leave --max-parameters out",
        ),
        (("timm:*", "--weights", "bsd", "--task", "x"), "listed by name only: leave --task and --weights out"),
        (("timm:*", "--min-parameters", "1"), "listed by name only: leave --min-parameters out"),
    ],
)
def test_filters_that_leave_nothing_are_named_with_the_nearest(cli: Cli, arguments, words, json_too) -> None:
    found = cli("models", *arguments, *json_too)
    assert found.code == 2
    assert words in " ".join(found.err.split())
    assert found.out == ""


def test_the_document_says_that_a_checksum_is_a_prefix(cli: Cli) -> None:
    (model,) = json.loads(cli("models", "squeezenet1_1", "--json").out)["models"]
    (weights,) = model["weights"]
    assert weights["url"].endswith(f"-{weights['sha256_prefix']}.pth")
    assert "sha256" not in weights


def test_detectors_are_listed_with_their_backbones_and_shown_with_their_page(cli: Cli) -> None:
    (model,) = json.loads(cli("models", "ssd300", "--task", "detection", "--json").out)["models"]
    assert (model["task"], model["backbone"], model["input"]) == ("detection", "vgg16", [3, 300, 300])
    assert model["parameters"] == 34_305_206
    assert model["only_size"]
    found = cli("models", "ssd300")
    assert "SSD: Single Shot MultiBox Detector" in found.out
    assert "--backbone NAME" in found.out


def test_any_network_that_classifies_localizes(cli: Cli) -> None:
    model, *_ = json.loads(cli("models", "lenet5", "--task", "localization", "--json").out)["models"]
    assert model["tasks"] == ["classification", "localization", "keypoints"]
    assert cli("models", "ssd300", "--task", "keypoints").code == 2
    assert cli("models", "resnet20", "--task", "detection").code == 2


def test_a_detector_is_inspected_and_does_not_embed(cli: Cli, tmp_path) -> None:
    found = json.loads(cli("inspect", "ssd", "--backbone", "mobilenet_v3_small", "--input", "64x96", "--json").out)
    assert found["input"] == [3, 64, 96]
    assert found["macs"] > 0
    assert not found["uncounted"]
    refused = cli("inspect", "resnet20", "--backbone", "resnet18")
    assert (refused.code, "is no detector" in refused.err) == (2, True)
    folder = tmp_path / "images"
    folder.mkdir()
    Image.new("RGB", (8, 8)).save(folder / "one.png")
    refused = cli("embed", "ssd", str(folder))
    assert (refused.code, "networks that classify" in " ".join(refused.err.split())) == (2, True)
