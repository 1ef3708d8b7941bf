"""Inspections as trees, CSV and Markdown."""

import csv
import io

import pytest
import torch

from striate.analysis.inspection import inspect_network
from striate.analysis.tables import fold, to_csv, to_markdown
from striate.models.catalog import create


@pytest.fixture(scope="module")
def inspection():
    with torch.device("meta"):
        network = create("resnet20", classes=10, channels=3, size=(32, 32))
    return inspect_network(network, (3, 32, 32), name="resnet20")


@pytest.mark.parametrize("depth", [1, 2, 3, None])
def test_a_folded_tree_adds_up_at_every_depth(inspection, depth):
    rows = fold(inspection, depth)
    assert max(row.depth for row in rows) == min(depth or 9, 4)
    for figure in ("parameters", "trainable_parameters", "macs", "activations"):
        assert sum(getattr(row, figure) for row in rows if row.depth == 1) == getattr(inspection, figure)


def test_rows_name_modules_and_end_with_their_last_output(inspection):
    rows = {row.path: row for row in fold(inspection, 2)}
    assert [row.name for row in rows.values() if row.depth == 1] == ["backbone", "head"]
    stage = rows["backbone.stage2"]
    assert (stage.type, stage.output_shape, stage.layer) == ("Sequential", (32, 16, 16), None)
    assert stage.receptive_field == inspection.stages[1].receptive_field
    assert rows["backbone.conv1"].layer is inspection.layers[0]


def test_operations_stand_in_the_module_that_runs_them(inspection):
    rows = fold(inspection)
    names = [row.name for row in rows if row.path.startswith("backbone.stage1.0")]
    assert names == ["0", "conv1", "bn1", "(relu)", "conv2", "bn2", "(add)", "(relu)"]


def test_csv_has_a_line_per_layer(inspection):
    lines = list(csv.DictReader(io.StringIO(to_csv(inspection))))
    assert len(lines) == len(inspection.layers)
    assert sum(int(line["macs"]) for line in lines) == inspection.macs
    first = lines[0]
    assert (first["name"], first["kernel"], first["output_shape"]) == ("backbone.conv1", "3x3", "16x32x32")
    assert lines[-1]["receptive_field"] == "whole"


def test_markdown_is_a_table_with_totals(inspection):
    lines = to_markdown(inspection, 1).splitlines()
    assert len(lines) == 2 + 2 + 1
    assert len({line.count("|") for line in lines}) == 1
    assert f"**{inspection.macs:,}**" in lines[-1]
