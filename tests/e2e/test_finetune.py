"""Fine-tuning through the real command: what is frozen, how fast the rest learns, and an exact resume in the middle."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from commands import Cli, kill_after
from safetensors.torch import load_file

import striate

SMALL = ["digits", "--model", "resnet20", "--per-class", 20, "--augment", "none", "--batch", 32]
PLAIN = ["--precision", "float32", "--no-channels-last"]


@pytest.fixture(scope="module")
def start(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run to start from."""
    settings = {"model": "resnet20", "per_class": 20, "augment": "none", "batch": 32, "precision": "float32"}
    run = tmp_path_factory.mktemp("start") / "run"
    return striate.train("digits", **settings, channels_last=False, epochs=2, out=run, quiet=True).path


def changed(one: Path, other: Path) -> set[str]:
    before, after = (load_file(run / "model.safetensors") for run in (one, other))
    return {name for name in before if not torch.equal(before[name], after[name])}


def test_the_head_alone_leaves_the_body_and_its_statistics_as_they_were(cli: Cli, start: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    given = ["--from", start, "--transfer", "finetune", "--unfreeze", 0, "--epochs", 2, "--lr", 0.01]
    found = cli("train", *SMALL, *PLAIN, *given, "--out", run)
    assert found.code == 0, found.err
    assert changed(start, run) == {"head.fc.weight", "head.fc.bias"}
    assert "never: frozen" in found.err
    shown = cli("inspect", run, "--depth", 2)
    assert "frozen" in shown.out
    assert cli("inspect", run, "--json").json["trainable_parameters"] == 650


def test_each_stage_has_its_rate_and_its_time(cli: Cli, start: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    given = ["--from", start, "--transfer", "finetune", "--unfreeze", 2, "--head-epochs", 1, "--gradual", "--epochs", 3]
    found = cli("train", *SMALL, *PLAIN, *given, "--layer-decay", 0.5, "--lr", 0.004, "--out", run)
    assert found.code == 0, found.err
    rows = [line.split() for line in found.err.splitlines() if line.startswith("  ") and len(line.split()) >= 4]
    table = {row[0]: row[2:] for row in rows}
    assert table["classifier"] == ["0.004", "from", "epoch", "1"]
    assert table["stage3"] == ["0.002", "from", "epoch", "2"]
    assert table["stage2"] == ["0.001", "from", "epoch", "3"]
    assert table["stage1"] == ["-", "never:", "frozen"]
    assert not [name for name in changed(start, run) if name.startswith(("backbone.stage1", "backbone.conv1"))]


def test_a_run_killed_while_stages_join_ends_with_the_same_bits(cli: Cli, start: Path, tmp_path: Path) -> None:
    given = ["--from", start, "--transfer", "finetune", "--head-epochs", 1, "--gradual", "--epochs", 4]
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    assert cli("train", *SMALL, *PLAIN, *given, "--out", whole).code == 0
    kill_after(2, cut, *SMALL, *PLAIN, *given)
    assert cli("train", "--resume", cut).code == 0
    assert not changed(whole, cut)


def test_a_run_killed_before_its_first_state_begins_with_its_weights(cli: Cli, start: Path, tmp_path: Path) -> None:
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    assert cli("train", *SMALL, *PLAIN, "--from", start, "--epochs", 1, "--out", whole).code == 0
    shutil.copytree(whole, cut)
    for name in ("model.safetensors", "metrics.jsonl", "state/epoch.safetensors"):
        (cut / name).unlink()
    (cut / "state" / "last.safetensors").unlink(missing_ok=True)
    resumed = cli("train", "--resume", cut)
    assert "nothing was saved yet" in resumed.err, resumed.err
    assert not changed(whole, cut)


def test_classes_keep_their_weights_by_name(cli: Cli, start: Path, tmp_path: Path) -> None:
    import numpy as np
    from PIL import Image

    generator = np.random.default_rng(0)
    for name in ("7", "new", "3"):
        (tmp_path / "data" / name).mkdir(parents=True)
        for number in range(8):
            pixels = generator.integers(0, 256, (28, 28), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / "data" / name / f"{number}.png")
    run = tmp_path / "run"
    found = cli("train", tmp_path / "data", *PLAIN, "--from", start, "--lr", 1e-9, "--epochs", 1, "--out", run)
    assert found.code == 0, found.err
    assert "2 of 3 classes keep the weights that they had by their names" in found.err
    before, after = (load_file(path / "model.safetensors")["head.fc.weight"] for path in (start, run))
    torch.testing.assert_close(after[[0, 1]], before[[3, 7]], rtol=1e-4, atol=1e-5)  # classes are sorted: 3, 7, new


def test_what_would_do_nothing_is_refused(cli: Cli, start: Path, tmp_path: Path) -> None:
    for given, words in (
        (["--transfer", "finetune"], "give --weights FILE"),
        (["--from", start, "--unfreeze", 1], "--unfreeze does nothing with --transfer none"),
        (["--from", start, "--transfer", "finetune", "--unfreeze", "al"], "Did you mean 'all'"),
        (["--from", start, "--transfer", "finetune", "--unfreeze", 9], "0 to 3 (stage1, stage2"),
        (["--temperature", 2], "without a --teacher"),
    ):
        found = cli("train", *SMALL, *PLAIN, *given, "--out", tmp_path / "none")
        assert found.code == 2
        assert words in found.err
        assert not (tmp_path / "none").exists()


def test_the_record_shows_the_rates(cli: Cli, start: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    given = ["--from", start, "--transfer", "finetune", "--epochs", 2]
    found = cli("train", *SMALL, *PLAIN, *given, "--out", run, "--json")
    assert found.code == 0, found.err
    document = json.loads(cli("runs", "show", run, "--json").out)
    assert document["settings"]["layer_decay"] == pytest.approx(0.3846)


def test_the_range_test_leaves_frozen_stages_alone(start: Path) -> None:
    from striate.config import Layer, resolve
    from striate.engine.lr_range import lr_range
    from striate.engine.precision import Precision
    from striate.runs.prepare import loader, prepare

    given = {"data": "digits", "per_class": 20, "weights": str(start), "transfer": "finetune", "unfreeze": "1"}
    prepared = prepare(resolve(Layer(source="test", values=given)))
    before = {name: tensor.clone() for name, tensor in prepared.network.state_dict().items()}
    train = loader(prepared, "train", batch=32, training=True)
    lr_range(prepared.task, train, prepared.resolved.settings, Precision(), prepared.groups)
    after = prepared.network.state_dict()
    moved = {name.split(".")[1] for name in before if not torch.equal(before[name], after[name])}
    assert moved == {"stage3", "fc"}
