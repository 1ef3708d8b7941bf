"""Real processes, killed and resumed; several processes as one."""

import json
import random
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from commands import Cli, events, finish, kill_after, same_result, striate, torchrun, wait_for
from scenes import ODD, some

from striate.data.formats import coco

TASKS = {  # a sample with the task, and what learns; AlexNet has no normalisation that would see another batch
    "detection": ("scenes", ["--model", "ssd", "--backbone", "alexnet"]),
    "localization": ("scenes-one", ["--model", "alexnet"]),
    "head by head": ("scenes-one", ["--model", "alexnet", "--heads", "class_first", "--first-epochs", "2"]),
    "keypoints": ("scenes-card", ["--model", "alexnet"]),
}
SETTINGS = ["digits", "--precision", "float32", "--no-channels-last", "--batch", "32"]


@pytest.mark.slow  # four processes that each import torch and train, one after the other
def test_killed_at_random_moments_it_ends_with_the_same_bits(tmp_path: Path) -> None:
    long = [*SETTINGS, "--epochs", "8", "--checkpoint-every", "0.3", "--model", "lenet5", "--ema", "0.99"]
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    finish(striate("train", *long, "--out", whole))
    draw = random.Random()  # another moment each time; the outcome must not depend on it
    process = striate("train", *long, "--out", killed)
    wait_for(lambda: (killed / "state" / "last.safetensors").exists(), process)
    for _ in range(2):
        time.sleep(draw.uniform(0, 1.5))
        process.send_signal(signal.SIGKILL)
        process.communicate()
        before = (killed / "metrics.jsonl").stat().st_size
        process = striate("train", "--resume", killed)
        wait_for(lambda size=before: (killed / "metrics.jsonl").stat().st_size != size, process)
    assert "Resuming at epoch" in finish(process)
    same_result(killed, whole)


@pytest.mark.slow  # three processes that each import torch and train
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_told_to_stop_it_saves_and_exits_with_7(number: signal.Signals, tmp_path: Path) -> None:
    settings = [*SETTINGS, "--epochs", "5"]
    whole, stopped = tmp_path / "whole", tmp_path / "stopped"
    finish(striate("train", *settings, "--out", whole))
    process = striate("train", *settings, "--out", stopped)
    wait_for(lambda: (stopped / "metrics.jsonl").exists() and len(events_so_far(stopped)) > 3, process)
    process.send_signal(number)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 7, err
    assert f"striate train --resume {stopped}" in err
    assert "Traceback" not in err
    assert "Resuming at epoch" in finish(striate("train", "--resume", stopped))
    same_result(stopped, whole)


def events_so_far(run: Path) -> list[bytes]:
    return (run / "metrics.jsonl").read_bytes().split(b"\n")[:-1]


@pytest.mark.slow  # a process that imports torch and trains, twice
def test_a_full_disk_stops_the_run_and_keeps_what_was_saved(tmp_path: Path) -> None:
    """A limit on the size of a file stands for a full disk: the state is larger than the model."""
    code = (
        "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (400_000, 400_000));"
        "import sys; from striate.cli.main import main; main(sys.argv[1:])"
    )
    run = tmp_path / "run"
    arguments = ["train", *SETTINGS, "--epochs", "3", "--out", str(run)]
    full = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=False)
    assert full.returncode == 1, full.stderr
    assert f"cannot write {run / 'state' / 'epoch.safetensors'}" in full.stderr
    assert "--resume" in full.stderr
    assert "Traceback" not in full.stderr
    assert not [path for path in run.rglob("*") if path.name.endswith(".tmp")]
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[0] != 400_000
    finish(striate("train", "--resume", run))


@pytest.mark.slow  # three processes that each import torch and train
@pytest.mark.parametrize(
    ("mix", "alike"),
    [
        # The order of sums shows in last bits. A convex loss keeps them last; others blow them up sooner or later.
        (["--model", "linear"], 40),
        (["--model", "linear", "--augment", "light", "--mixup", "0.2"], 40),
        (["--model", "lenet5_modern"], 10),
    ],
    ids=["convex", "augmented", "convolutional"],
)
def test_two_processes_train_as_one(mix: list[str], alike: int, tmp_path: Path) -> None:
    settings = [*SETTINGS, "--epochs", "2", "--optimizer", "sgd", "--lr", "0.02", "--batch", "50", *mix]
    one, two = tmp_path / "one", tmp_path / "two"
    finish(striate("train", *settings, "--out", one))
    finish(torchrun("train", *settings, "--out", two))
    losses = [[float(str(event["loss"])) for event in events(run, "step")] for run in (one, two)]
    assert len(losses[0]) == 40
    assert losses[0][:alike] == pytest.approx(losses[1][:alike], abs=5e-5)
    values = [events(run, "epoch")[-1]["val"] for run in (one, two)]
    assert values[0]["top1"] == pytest.approx(values[1]["top1"], abs=0.02)  # type: ignore[index]
    counts = [events(run, "end")[0]["result"]["epochs"] for run in (one, two)]  # type: ignore[index]
    assert counts == [2, 2]


def of_task(name: str, folder: Path) -> list[object]:
    """A little data for a task, and the settings to learn it in steps of four images."""
    sample, given = TASKS[name]
    coco.save(some(sample, ODD), folder)
    task = "localization" if name == "head by head" else name
    plain = ["--precision", "float32", "--no-channels-last", "--workers", 1, "--optimizer", "sgd", "--lr", 0.001]
    return [folder, "--task", task, *given, "--batch", 4, "--epochs", 4, *plain]


@pytest.mark.slow  # two processes that each import torch and train
@pytest.mark.parametrize("name", TASKS)
def test_what_says_where_is_killed_and_ends_with_the_same_bits(cli: Cli, name: str, tmp_path: Path) -> None:
    given = of_task(name, tmp_path / "data")
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    found = cli("train", *given, "--out", whole)
    assert found.code == 0, found.err
    kill_after(1, killed, *given)
    found = cli("train", "--resume", killed)
    assert found.code == 0, found.err
    assert "Resuming at epoch" in found.err
    same_result(killed, whole)


@pytest.mark.slow  # three processes that each import torch and train
@pytest.mark.parametrize("name", TASKS)
def test_what_says_where_is_trained_by_two_processes_and_measured_as_by_one(
    cli: Cli, name: str, tmp_path: Path
) -> None:
    given = of_task(name, tmp_path / "data")
    one, two = tmp_path / "one", tmp_path / "two"
    found = cli("train", *given, "--out", one)
    assert found.code == 0, found.err
    finish(torchrun("train", *given, "--out", two))
    losses = [[float(str(event["loss"])) for event in events(run, "step")] for run in (one, two)]
    assert len(losses[1]) == 12
    if name != "detection":  # whose loss is a mean over a process's own objects
        assert losses[1] == pytest.approx(losses[0], abs=1e-3)
    # The weights that two processes kept, measured by both and by one.
    result: dict[str, Any] = json.loads(json.dumps(events(two, "end")[0]["result"]))
    alone = cli("evaluate", two, "--json")
    assert alone.code == 0, alone.err
    assert alone.json["samples"] == ODD["test"]
    assert result["metrics"] == pytest.approx(alone.json["metrics"], abs=1e-5)
    val = cli("evaluate", two, "--split", "val", "--json").json
    assert val["samples"] == ODD["val"]
    assert result["best"]["metrics"] == pytest.approx(
        {metric: val["metrics"][metric] for metric in result["best"]["metrics"]}, abs=1e-5
    )
