"""``striate evaluate``."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import click

from striate.cli.output import print_json, print_table


@click.command()
@click.argument("model", type=click.Path(path_type=Path))
@click.argument("data", required=False)
@click.option("--split", metavar="NAME", help="train, val, test or all  [test where there is one]")
@click.option("--root", type=click.Path(path_type=Path), help="folder that holds a known data set")
@click.option("--download", is_flag=True, help="fetch a known data set that is not there yet")
@click.option("--device", default="auto", help="cpu, cuda, cuda:1, mps")
@click.option("--json", "as_json", is_flag=True, help="one JSON document on standard output")
def command(
    model: Path, data: str | None, split: str | None, root: Path | None, download: bool, device: str, as_json: bool
) -> None:
    """Measure MODEL, a run folder or a model file, on its own DATA or on other data."""
    from striate.engine import distributed
    from striate.runs.evaluate import evaluate_model

    found = evaluate_model(model, data, split=split, root=root, download=download, device=device)
    if distributed.rank() == 0:
        if as_json:
            print_json(found.to_json())
            return
        click.echo(f"{found.dataset.name}, {found.split} split, {found.samples:,} images ({found.held_out}).")
        rows = [(name, f"{value:.4f}") for name, value in found.metrics.items()]
        if found.interval is not None:
            low, high = found.interval
            rows.insert(1, ("", f"95% interval {low:.4f} to {high:.4f}"))
        if found.details is not None:
            rows += [(name, f"{value:.4f}") for name, value in found.details.voc.items()]
        if found.speed is not None:
            pace = found.speed
            rows += [("images/s", f"{pace['images_per_second']:g}"), ("ms for one image", f"{pace['latency_ms']:g}")]
        print_table(("metric", "value"), rows)
        if found.speed is not None:
            click.echo(f"Images/s are {found.pace}.")
        if found.details is not None:
            chosen = "the model file" if found.details.measured else "this split"
            click.echo(f"Precision, recall and F1 hold at IoU 0.5 and each class' threshold, which is from {chosen}.")
            kinds = found.details.mistakes
            print_table(
                ("mistake", "count", "AP50 it costs"),
                [(name, f"{kinds.counts[name]:,}", f"{kinds.costs[name]:.4f}") for name in kinds.counts],
                right=("count", "AP50 it costs"),
            )
        _print_figures("class", found.per_class)
        if found.per_point:
            _print_figures("point", found.per_point)


def _print_figures(what: str, rows: Sequence[Mapping[str, Any]]) -> None:
    """A row of figures for each class, or for what else the rows are of."""
    from striate.runs.report import figure

    columns = [name for name in rows[0] if name != "name"]
    print_table(
        (what, *("images" if name == "support" else name for name in columns)),
        [(str(row["name"]), *(figure(row[name]) for name in columns)) for row in rows],
        right=("images", *columns),
    )
