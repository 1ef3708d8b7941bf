"""Tables of images: CSV in the many shapes that people make it in."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from striate.data.formats import table
from striate.errors import DataError

FILES = ("a.png", "b.png", "sub/c.png", "ein Käse.png")

TABLES = [
    # content, id -> (class, split), group columns, line -> words of why it was skipped; each row with its reason
    ("path,label\na.png,cat\nb.png,dog\n", {"a.png": ("cat", None), "b.png": ("dog", None)}, [], {}),
    # no header
    ("a.png,cat\nb.png,dog\n", {"a.png": ("cat", None), "b.png": ("dog", None)}, [], {}),
    # no header, the label first and a split
    ("cat,a.png,train\ndog,b.png,test\n", {"a.png": ("cat", "train"), "b.png": ("dog", "test")}, [], {}),
    # other names and another order
    (
        "Class,Filename,subset\ncat,a.png,Training\ndog,b.png,validation\n",
        {"a.png": ("cat", "train"), "b.png": ("dog", "val")},
        [],
        {},
    ),
    # a header of unknown names: the path by its look, the label is the first of the rest
    ("bild,art,scene\na.png,cat,1\nb.png,dog,2\n", {"a.png": ("cat", None), "b.png": ("dog", None)}, ["scene"], {}),
    # other columns can be grouped by; without a header they are numbered
    ("path,scene,label\na.png,1,cat\nb.png,1,dog\n", {"a.png": ("cat", None), "b.png": ("dog", None)}, ["scene"], {}),
    ("a.png,cat,7\nb.png,dog,8\n", {"a.png": ("cat", None), "b.png": ("dog", None)}, ["column 3"], {}),
    # semicolons, as a German Excel writes; tabs; bars
    ("path;label\na.png;cat\nb.png;dog, brown\n", {"a.png": ("cat", None), "b.png": ("dog, brown", None)}, [], {}),
    ("path\tlabel\na.png\tcat\n", {"a.png": ("cat", None)}, [], {}),
    ("path|label\na.png|cat\n", {"a.png": ("cat", None)}, [], {}),
    # a byte order mark, Windows' line ends, blank lines, spaces around
    ("\ufeffpath,label\r\n\r\na.png, cat \r\n,\r\nb.png,dog", {"a.png": ("cat", None), "b.png": ("dog", None)}, [], {}),
    # quotes
    ('path,label\n"a.png","a ""big"", cat"\n', {"a.png": ('a "big", cat', None)}, [], {}),
    ('path, label\na.png, "cat, big"\n', {"a.png": ("cat, big", None)}, [], {}),  # a space before a quote
    # sub-folders, backslashes, names beyond ASCII and with spaces
    ("path,label\nsub/c.png,cat\n", {"sub/c.png": ("cat", None)}, [], {}),
    (
        "path,label\nsub\\c.png,cat\nein Käse.png,dog\n",
        {"sub/c.png": ("cat", None), "ein Käse.png": ("dog", None)},
        [],
        {},
    ),
    # what cannot be used is skipped, with its line
    (
        "path,label,split\na.png,cat,train\nmissing.png,cat,train\nb.png,,train\n,cat,train\nb.png\nb.png,dog,holdout\n",
        {"a.png": ("cat", "train")},
        [],
        {3: "no file missing.png", 4: "label is empty", 5: "path is empty", 6: "1 columns", 7: "'holdout'"},
    ),
    # twice the same; twice with another label
    (
        "path,label\na.png,cat\na.png,cat\na.png,dog\n",
        {"a.png": ("cat", None)},
        [],
        {3: "listed a second time", 4: "another label: 'dog', first 'cat'"},
    ),
    # a column that is only called like a split
    ("path,label,set\na.png,cat,7\nb.png,dog,8\n", {"a.png": ("cat", None), "b.png": ("dog", None)}, ["set"], {}),
]


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    for k, name in enumerate(FILES):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        Image.fromarray(np.full((2, 3), k, dtype=np.uint8)).save(tmp_path / name)
    return tmp_path


@pytest.mark.parametrize(("content", "expected", "groups", "skipped"), TABLES)
def test_reads_a_table(
    content: str, expected: dict[str, tuple[str, str | None]], groups: list[str], skipped: dict[int, str], photos: Path
) -> None:
    path = photos / "labels.csv"
    path.write_bytes(content.encode())
    dataset = table.load(path)
    split_of = {int(i): name for name, rows in dataset.splits.items() for i in rows}
    labels = dataset.truths.labels.tolist()
    assert {id_: (dataset.classes[labels[i]], split_of.get(i)) for i, id_ in enumerate(dataset.ids)} == expected
    assert list(dataset.groups) == groups
    assert {entry.source for entry in dataset.skipped} == {f"labels.csv line {line}" for line in skipped}
    for entry in dataset.skipped:
        assert skipped[int(entry.source.split()[-1])] in entry.reason
    for i, id_ in enumerate(dataset.ids):
        assert (dataset.images.read(i) == FILES.index(id_)).all()


def test_utf16_is_read(photos: Path) -> None:
    (photos / "labels.csv").write_text("path\tlabel\nein Käse.png\tgrün\n", encoding="utf-16")
    assert table.load(photos / "labels.csv").classes == ("grün",)


def test_numbers_sort_by_value(photos: Path) -> None:
    (photos / "labels.csv").write_text("a.png,10\nb.png,9\nsub/c.png,-1\n")
    assert table.load(photos / "labels.csv").classes == ("-1", "9", "10")


def test_the_order_of_the_rows_does_not_matter(photos: Path) -> None:
    (photos / "one.csv").write_text("path,label,who\na.png,cat,x\nb.png,dog,y\n")
    (photos / "two.csv").write_text("path,label,who\nb.png,dog,y\na.png,cat,x\n")
    one, two = table.load(photos / "one.csv"), table.load(photos / "two.csv")
    assert list(one.ids) == list(two.ids)
    assert one.truths.labels.tolist() == two.truths.labels.tolist()
    assert one.groups == two.groups == {"who": ["x", "y"]}


def test_absolute_paths_are_read(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.mktemp("elsewhere") / "labels.csv"
    path.write_text(f"path,label\n{photos / 'a.png'},cat\n")
    dataset = table.load(path)
    assert list(dataset.ids) == [(photos / "a.png").as_posix()]
    assert dataset.images.read(0).shape == (2, 3, 1)


def test_groups_survive_a_round_trip(photos: Path) -> None:
    (photos / "labels.csv").write_text("path,label,split,scene\na.png,cat,train,1\nb.png,dog,test,2\n")
    before = table.load(photos / "labels.csv")
    table.save(before, photos / "out")
    after = table.load(photos / "out" / "labels.csv")
    assert after.groups == before.groups
    assert list(after.ids) == ["images/a.png", "images/b.png"]
    assert (photos / "out" / "images" / "a.png").read_bytes() == (photos / "a.png").read_bytes()


BROKEN = [
    # content, words of the message
    (b"", "the table is empty"),
    (b"path,label\n", "a header, but no rows"),
    (b"name,age\nAnn,7\n", "no column holds image files; its first row is: name, age"),
    (b"path\na.png\n", "none of labels"),
    (b"path,label\nx.png,cat\ny.png,dog\n", "none of its images exists, as .*x.png"),
    (b"path,label\na.png,\n", "no row can be used. labels.csv line 2: the label is empty"),
    (b"path,label\na.png,K\xe4se\n", "line 2 is not UTF-8"),  # Latin-1
    (b'path,label\na.png,"' + b"x" * 200_000 + b'"\n', "is not CSV"),  # a quote that never closes, in effect
]


@pytest.mark.parametrize(("content", "words"), BROKEN, ids=[row[1] for row in BROKEN])
def test_names_what_is_wrong(content: bytes, words: str, photos: Path) -> None:
    (photos / "labels.csv").write_bytes(content)
    with pytest.raises(DataError, match=words):
        table.load(photos / "labels.csv")
