"""The committed list of verdicts is what `docs/publish_studies.py` makes of the committed documents."""

import importlib.util
import json
from pathlib import Path
from types import ModuleType

import pytest

from striate.engine.log import Display
from striate.studies.run import run_study
from striate.studies.vanishing_gradients import STUDY, Sizes
from striate.viz.text import escape

SCRIPT = Path(__file__).parents[2] / "docs" / "publish_studies.py"


@pytest.fixture
def publish() -> ModuleType:
    spec = importlib.util.spec_from_file_location("publish_studies", SCRIPT)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_list_is_up_to_date(publish: ModuleType):
    documents = [json.loads(file.read_text(encoding="utf-8")) for file in publish.FOLDER.glob("*.json")]
    for document in documents:
        page = (publish.FOLDER / f"{document['study']}.html").read_text(encoding="utf-8")
        assert escape(document["why"]) in page
        assert document["effort"] == "full"
    if documents:
        assert (publish.FOLDER / "README.md").read_text(encoding="utf-8") == publish.listing()


def test_a_finished_study_is_taken_over(publish: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    sizes = Sizes(width=8, depths=(2, 3), per_class=5, steps=2, rates=(0.01,), seeds=2)
    run_study(STUDY, plan=sizes, data="digits", out=tmp_path / "study", display=Display(quiet=True))
    monkeypatch.setattr(publish, "FOLDER", tmp_path / "docs")
    assert publish.take(tmp_path / "study") == "vanishing-gradients"
    text = publish.listing()
    assert "(vanishing-gradients.html)" in text
    assert "(digits, 2 seeds, " in text
    assert str(tmp_path) not in (tmp_path / "docs" / "vanishing-gradients.json").read_text()
