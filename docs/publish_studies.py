"""Take finished studies into `docs/studies/`: their pages and documents, and a list of the verdicts.

    striate study NAME --full                          # for each
    python docs/publish_studies.py studies/*-full

A test holds the committed list to the committed documents.
"""

import html
import json
import re
import sys
from pathlib import Path
from typing import Any

from striate.files import write_text
from striate.studies.catalog import NAMES
from striate.studies.run import SCHEMA

FOLDER = Path(__file__).resolve().parent / "studies"


def take(study: Path) -> str:
    """Copy a study's page and its document, without the places where they lay; gives the study's name."""
    document = json.loads((study / "study.json").read_text(encoding="utf-8"))
    if document["schema"] != SCHEMA:
        raise ValueError(f"{study}/study.json has the schema {document['schema']}, not {SCHEMA}")
    name: str = document["study"]
    kept = {key: value for key, value in document.items() if key not in ("path", "page")}
    page = (study / "study.html").read_text(encoding="utf-8")
    kept["command"] = re.sub(r"(?<= )/\S*/(?=\S)", "", document["command"])
    page = page.replace(html.escape(document["command"]), html.escape(kept["command"]))
    write_text(FOLDER / f"{name}.json", json.dumps(kept, indent=1) + "\n")
    write_text(FOLDER / f"{name}.html", page)
    return name


def listing() -> str:
    """The text of `docs/studies/README.md`, from the documents beside it."""
    documents: dict[str, dict[str, Any]] = {}
    for file in FOLDER.glob("*.json"):
        document = json.loads(file.read_text(encoding="utf-8"))
        documents[document["study"]] = document
    text = ["# What the studies found", "", "Each row is a page that `striate study NAME --full` wrote:", ""]
    text += [
        f"- [`{name}.html`]({name}.html): {documents[name]['title']}. **{documents[name]['verdict'].capitalize()}.** "
        f"{documents[name]['why']} ({_how(documents[name])})"
        for name in NAMES
        if name in documents
    ]
    return "\n".join(text) + "\n"


def _how(document: dict[str, Any]) -> str:
    machine = document["machines"][-1]["hardware"]
    parts = [document["data"] or "no data"] if "/" not in document["data"] else []
    parts += [f"{document['seeds']} seeds"] if document["seeds"] else []
    parts += [machine.get("gpu") or f"{machine['cpu']}, {machine['threads']} threads"]
    return ", ".join([*parts, f"{document['seconds'] / 60:.0f} minutes"])


if __name__ == "__main__":
    for folder in sys.argv[1:]:
        print(take(Path(folder)))
    write_text(FOLDER / "README.md", listing())
