"""What holds for every study."""

import json
import re
from dataclasses import asdict, fields, is_dataclass
from importlib import import_module
from pathlib import Path

import pytest

import striate.studies
from striate.data import known
from striate.errors import UsageError
from striate.studies import catalog

FILES = Path(striate.studies.__file__).parent.glob("*.py")


def test_every_file_with_a_study_is_listed():
    written = {file.stem.replace("_", "-") for file in FILES if "\nSTUDY = " in file.read_text(encoding="utf-8")}
    assert set(catalog.NAMES) == written
    assert len(set(catalog.NAMES)) == len(catalog.NAMES)


@pytest.mark.parametrize("name", catalog.NAMES)
def test_every_study_says_what_it_is(name: str):
    study = catalog.find(name)
    assert study.name == name
    for text in (study.title, study.claim, study.citation, study.rule):
        assert text.strip() == text
        assert "  " not in text
    assert len(study.title) <= 90
    assert re.search(r"\b(19|20)\d\d\b", study.citation)
    assert set(study.data) <= set(known.NAMES)
    for plan in (study.quick, study.full):
        assert is_dataclass(plan)
        assert json.loads(json.dumps(asdict(plan)))  # type: ignore[call-overload]
        assert type(plan).__dataclass_params__.frozen
    assert type(study.quick) is type(study.full)
    assert study.quick != study.full
    assert {entry.name for entry in fields(study.quick)} - {"seeds"}
    assert import_module(f"striate.studies.{name.replace('-', '_')}").__doc__


def test_names_are_forgiving_about_the_dash_and_near_misses_are_named():
    assert catalog.find("where_the_work_is").name == "where-the-work-is"
    with pytest.raises(UsageError, match="Did you mean 'vanishing-gradients'"):
        catalog.find("vanishing-gradient")
