"""What `striate models` answers when its filters do not apply or leave nothing."""

import json

import pytest
from commands import Cli


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
