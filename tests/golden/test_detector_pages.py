"""The committed pages of `docs/detectors/` are what `docs/generate.py` writes."""

import importlib.util
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "docs" / "generate.py"
MEND = "run: python docs/generate.py"


def _generate():
    spec = importlib.util.spec_from_file_location("generate", SCRIPT)
    generate = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(generate)
    return generate


GENERATE = _generate()
FILES = GENERATE.detector_files()


def _committed(name):
    return (GENERATE.DETECTORS / name).read_text(encoding="utf-8")


def test_the_index_is_up_to_date_and_there_are_no_other_pages():
    assert _committed("README.md") == GENERATE.detector_index(), MEND
    pages = {f"{module.rpartition('.')[2]}.md" for module in FILES}
    assert {path.name for path in GENERATE.DETECTORS.glob("*.md")} == pages | {"README.md"}


@pytest.mark.parametrize("module", FILES)
def test_the_pages_are_up_to_date(module):
    assert _committed(f"{module.rpartition('.')[2]}.md") == GENERATE.detector_page(module, FILES[module]), MEND
