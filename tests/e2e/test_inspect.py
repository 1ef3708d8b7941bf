"""`striate inspect` and `striate models` as a person drives them."""

import csv
import dataclasses
import io
import json
import re
import shutil

import pytest
import torch
from commands import Cli
from torch import nn

import striate
from striate.analysis.inspection import Uncounted, inspect_network
from striate.errors import UsageError
from striate.models.catalog import CATALOG


def test_shows_layers_stages_and_totals(cli: Cli) -> None:
    found = cli("inspect", "alexnet_one_tower")
    assert found.code == 0, found.err
    for text in ("Conv2d 11x11 /4", "96x55x55", "34,944", "62,378,344", "peak at inference", "receptive field"):
        assert text in found.out
    assert "not counted" not in found.out


def test_the_document_is_whole_and_adds_up(cli: Cli) -> None:
    document = json.loads(cli("inspect", "vgg16", "--json").out)
    assert document["schema"] == "striate.inspect/1"
    assert (document["model"], document["input"]) == ("vgg16", [3, 224, 224])
    assert document["parameters"] == document["trainable_parameters"] == 138_357_544
    assert document["macs"] == sum(layer["macs"] for layer in document["layers"]) == 15_470_264_320
    assert document["flops"] == 2 * document["macs"]
    first = document["layers"][0]
    assert first["type"] == "Conv2d"
    assert first["output_shape"] == [64, 224, 224]
    assert first["kernel"] == [3, 3]
    assert first["receptive_field"]["size"] == [3, 3]
    assert document["uncounted"] == []
    assert [stage["receptive_field"]["size"][0] for stage in document["stages"]] == [6, 16, 44, 100, 212]


def test_writes_csv_and_markdown(cli: Cli) -> None:
    rows = list(csv.DictReader(io.StringIO(cli("inspect", "lenet5", "--csv").out)))
    assert sum(int(row["parameters"]) for row in rows) == 60_000
    table = cli("inspect", "lenet5", "--markdown", "--depth", 1).out
    assert table.startswith("| layer | type |")
    assert "**60,000**" in table


def test_takes_patterns_timm_runs_and_model_files(cli: Cli, run) -> None:
    found = cli("inspect", "[CONV 8 -> RELU -> POOL]*2 -> FC", "--input", "20x30x1", "--classes", 4, "--json")
    assert json.loads(found.out)["input"] == [1, 20, 30]
    assert json.loads(cli("inspect", "timm:resnet10t", "--json").out)["parameters"] > 5_000_000
    for model in (run, run / "model.safetensors"):
        found = cli("inspect", model, "--json")
        assert found.code == 0, found.err
        assert json.loads(found.out)["input"] == [1, 28, 28]


def test_two_stand_side_by_side_and_many_in_one_table(cli: Cli) -> None:
    found = cli("inspect", "resnet20", "plain20")
    assert "second / first" in found.out
    document = json.loads(cli("inspect", "resnet20", "lenet*", "--json").out)
    assert document["schema"] == "striate.inspections/1"
    assert [model["model"] for model in document["models"]][:2] == ["resnet20", "lenet300"]


def test_verify_prints_each_published_row_as_held_or_not(cli: Cli) -> None:
    found = cli("inspect", "lenet5", "--verify")
    assert found.code == 0
    assert "60,000" in found.out
    assert "held" in found.out
    document = json.loads(cli("inspect", "alexnet*", "--verify", "--json").out)
    assert document["held"] is True
    assert {check["held"] for check in document["checks"]} == {True, False}
    assert all(check["disputed"] for check in document["checks"] if not check["held"])


def test_measures_the_peak_beside_the_prediction(cli: Cli) -> None:
    document = json.loads(cli("inspect", "lenet5_modern", "--measure", "--batch", 64, "--json").out)
    predicted, measured = document["memory"], document["measured_memory"]
    assert abs(measured["inference"] / predicted["inference_peak"] - 1) < 0.1
    assert abs(measured["adam"] / predicted["training_peak"]["adam"] - 1) < 0.1


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("resent50",), "Did you mean 'resnet50'"),
        (
            ("vgg16", "--input", "16"),
            "vgg16 cannot take images of 16x16 pixels: what reaches backbone.stage5.pool is 1x1",
        ),
        (("vgg16", "--input", "big"), "--input 'big' is no size of images"),
        (("nothing*",), "no model's name matches 'nothing*'"),
        (("vgg16", "--json", "--csv"), "--json does not go with --csv"),
        (("vgg16", "--json", "--depth", 2), "--json does not go with --depth"),
        (("vgg16", "--csv", "--depth", 2), "--csv does not go with --depth"),
        (("vgg16", "--verify", "--csv", "--input", 64), "--verify does not go with --input, --csv"),
        (("vgg16", "--measure", "--field", "a.png"), "--measure does not go with --field"),
        (("vgg16", "--markdown", "--data", "digits"), "--data does not go with --markdown"),
        (("vgg16", "--stage", "stage1"), "--stage does nothing without --field or --data"),
        (("vgg16", "--root", "here", "--field", "a.png"), "--root does nothing without --data"),
        (("vgg16", "--out", "a.png"), "--out does nothing without --field"),
        (("vgg16", "--weights", "a.pth"), "--weights does nothing without --field or --data"),
        (("vgg16", "vgg11", "--csv"), "--csv: for one model only"),
        (("vgg16", "vgg11", "vgg13", "--batch", 2), "--batch: for one model or two"),
        (("timm:resnet50", "--verify"), "published figures exist for names of the catalog only"),
        (("CONV " + "-> CONV " * 60 + "-> FC", "--data", "digits", "--stage", "odd"), "no map called 'odd'"),
        (("lenet5", "--input", "28"), "lenet5 takes images of 32x32 pixels only"),
    ],
)
def test_bad_input_gets_one_message(cli: Cli, arguments, words) -> None:
    found = cli("inspect", *arguments)
    assert found.code == 2
    assert words in " ".join(found.err.split())
    assert "Traceback" not in found.err


def test_draws_the_diagram_and_then_prints_what_is_asked_for(cli: Cli, tmp_path) -> None:
    found = cli("inspect", "lenet5", "--diagram", tmp_path / "d.svg")
    assert (found.code, found.out) == (0, "")
    found = cli("inspect", "lenet5", "--diagram", tmp_path / "e.svg", "--json")
    assert found.json["parameters"] == 60_000
    assert (tmp_path / "d.svg").read_text() == (tmp_path / "e.svg").read_text()


@pytest.mark.parametrize(
    "arguments", [("resnet20",), ("resnet20", "plain20"), ("lenet5", "lenet1", "vgg16"), ("lenet*", "--verify")]
)
def test_tables_fit_a_narrow_terminal(cli: Cli, monkeypatch: pytest.MonkeyPatch, arguments) -> None:
    monkeypatch.setenv("COLUMNS", "60")
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    monkeypatch.setattr("striate.cli.output.PIPED_WIDTH", 60)
    found = cli("inspect", *arguments)
    assert found.code == 0, found.err
    lines = re.sub("\x1b\\[[0-9;]*m", "", found.out).splitlines()
    # A line of a record may be as long as its text, for the terminal breaks it; a table's may not.
    assert all(len(line) <= 60 for line in lines if not line.startswith(("source: ", "lenet")))
    assert not any(len(line.strip()) == 1 and line.strip().isalpha() for line in lines)


def test_the_field_is_that_of_the_same_weights_each_time(cli: Cli, run, tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    state = torch.get_rng_state()
    first, second = (cli("inspect", "resnet20", "--data", "digits", "--stage", "stage1", "--json") for _ in "ab")
    assert first.out == second.out
    assert first.json["weights"] == "fresh weights, seed 0"
    assert torch.equal(torch.get_rng_state(), state)
    assert cli("inspect", run, "--data", "digits", "--json").json["weights"] == "the run's weights"
    assert "measured with fresh weights, seed 0" in cli("inspect", "lenet1", "--data", "digits").out
    network = striate.create("resnet20", classes=3)
    for parameter in network.parameters():
        nn.init.ones_(parameter)
    torch.save(network.state_dict(), "ones.pth")
    loaded = cli(
        *("inspect", "resnet20", "--data", "digits", "--stage", "stage1", "--json"),
        *("--weights", "ones.pth", "--origin", "striate"),
    )
    assert loaded.code == 0, loaded.err
    assert loaded.json["weights"] == "ones.pth"
    assert loaded.json["fields"] != first.json["fields"]


def test_a_folder_that_is_no_run_hides_no_name(cli: Cli, tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("resnet20", "odd"):
        (tmp_path / name).mkdir()
    assert cli("inspect", "resnet20", "--json").json["parameters"] == 269_722
    assert "the folder odd is no run" in cli("inspect", "odd").err


def test_damaged_images_are_left_out_and_counted(cli: Cli, digits_folder, tmp_path) -> None:
    folder = tmp_path / "data"
    shutil.copytree(digits_folder, folder)
    for path in sorted(folder.glob("0/*.png"))[:2]:
        path.write_bytes(b"no image")
    found = cli("inspect", "lenet1", "--data", folder, "--json")
    assert found.code == 0, found.err
    assert found.json["skipped"] == 2
    assert found.json["data"][0]["count"] == 398
    assert "left out: 2 images" in cli("inspect", "lenet1", "--data", folder).out


def test_what_is_not_counted_is_said_everywhere(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    missing = (Uncounted(operation="aten::fft_rfft2", layer="backbone", times=3),)

    def inspect(*arguments, **words):
        return dataclasses.replace(inspect_network(*arguments, **words), uncounted=missing)

    monkeypatch.setattr("striate.runs.inspecting.inspect_network", inspect)
    line = "not counted: aten::fft_rfft2 in backbone, 3 times"
    found = cli("inspect", "lenet5", "--csv")
    assert line in found.err
    assert line not in found.out
    assert cli("inspect", "lenet5", "--markdown").out.endswith(f"|\n\n{line}\n")
    assert "operations not counted" in cli("inspect", "lenet5", "lenet1").out
    assert "not counted" in cli("inspect", "lenet5", "lenet1", "resnet20").out


def test_a_module_of_ones_own_in_python() -> None:
    class Odd(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(3, 4, 3)

        def forward(self, x):
            return torch.fft.rfft2(self.conv(x)).abs()

    found = striate.inspect(Odd(), size=(8, 8), batch=None)
    assert found.layers[0].macs == 36 * 3 * 36
    assert [item.operation for item in found.uncounted]
    with pytest.raises(UsageError, match="give size"):
        striate.inspect(nn.Conv2d(3, 4, 3))


def test_models_are_filtered_by_size_and_licence_of_weights(cli: Cli) -> None:
    names = [model["name"] for model in json.loads(cli("models", "--max-parameters", "100k", "--json").out)["models"]]
    assert "lenet5" in names
    assert "resnet18" not in names
    document = json.loads(cli("models", "squeezenet*", "--weights", "bsd", "--json").out)
    assert all(model["weights"] for model in document["models"])
    assert cli("models", "--max-parameters", "many").code == 2
    found = cli("models", "resnet18")
    assert "torchvision:IMAGENET1K_V1" in found.out
    assert len(CATALOG) > 80
