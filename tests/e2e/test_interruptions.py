"""Real processes, killed and resumed; several processes as one."""

import json
import os
import random
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from commands import striate

SETTINGS = ["digits", "--precision", "float32", "--no-channels-last", "--batch", "32"]


def events(run: Path, kind: str) -> list[dict[str, object]]:
    lines = (run / "metrics.jsonl").read_text().splitlines()
    return [event for event in map(json.loads, lines) if event["event"] == kind]


def finish(process: subprocess.Popen[str]) -> str:
    _, err = process.communicate(timeout=240)
    assert process.returncode == 0, err
    return err


def wait_for(condition: Callable[[], bool], process: subprocess.Popen[str], seconds: float = 60) -> None:
    until = time.monotonic() + seconds
    while not condition():
        assert process.poll() is None, process.communicate()[1]
        assert time.monotonic() < until
        time.sleep(0.02)


def same_result(run: Path, whole: Path) -> None:
    assert (run / "model.safetensors").read_bytes() == (whole / "model.safetensors").read_bytes()
    for kind in ("step", "epoch"):
        assert events(run, kind) == events(whole, kind)
    ends = [events(folder, "end")[0]["result"] for folder in (run, whole)]
    assert ends[0]["metrics"] == ends[1]["metrics"]  # type: ignore[index]


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
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "striate"]
    process = subprocess.run(
        [*launch, "train", *settings, "--out", str(two)],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )
    assert process.returncode == 0, process.stderr
    losses = [[float(str(event["loss"])) for event in events(run, "step")] for run in (one, two)]
    assert len(losses[0]) == 40
    assert losses[0][:alike] == pytest.approx(losses[1][:alike], abs=5e-5)
    values = [events(run, "epoch")[-1]["val"] for run in (one, two)]
    assert values[0]["top1"] == pytest.approx(values[1]["top1"], abs=0.02)  # type: ignore[index]
    counts = [events(run, "end")[0]["result"]["epochs"] for run in (one, two)]  # type: ignore[index]
    assert counts == [2, 2]
