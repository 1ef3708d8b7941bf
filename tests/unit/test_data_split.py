"""Splits: official ones are respected, drawn ones are stratified, grouped, and the same whatever the file order."""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.model_selection import StratifiedGroupKFold

from striate.core.annotations import Classifications
from striate.data.dataset import Dataset, ImageArrays
from striate.data.open import open_dataset
from striate.data.split import Splits, assign_groups, fewer, split
from striate.errors import DataError, UsageError

SHARES = np.array([0.6, 0.2, 0.2])


def made(labels: Sequence[int], ids: Sequence[str] | None = None, **official: Sequence[int]) -> Dataset:
    """Images of one pixel."""
    count = len(labels)
    return Dataset(
        name="made",
        format="in memory",
        path=None,
        task="classification",
        classes=tuple(f"class {k}" for k in range(max(labels) + 1)),
        ids=[f"{i:04d}.png" for i in range(count)] if ids is None else ids,
        images=ImageArrays((np.arange(count) % 251).astype(np.uint8).reshape(-1, 1, 1, 1)),
        truths=Classifications(labels=torch.tensor(labels, dtype=torch.int64)),
        splits={name: np.array(rows, dtype=np.int64) for name, rows in official.items()},
    )


def counts(splits: Splits, dataset: Dataset) -> dict[str, list[int]]:
    """Images per class in each split."""
    labels = dataset.truths.labels.numpy()
    return {
        name: np.bincount(labels[rows], minlength=len(dataset.classes)).tolist()
        for name, rows in splits.indices.items()
    }


DRAWN = [
    # images per class, images per class in train, val and test; why
    ([10, 5], [6, 3], [2, 1], [2, 1]),  # comes out even
    ([100, 10, 10], [60, 6, 6], [20, 2, 2], [20, 2, 2]),  # rare classes keep their share
    ([3, 3], [1, 1], [1, 1], [1, 1]),  # just enough for one each
    ([2, 10], [1, 6], [0, 2], [1, 2]),  # two: train, then test
    ([1, 10], [1, 6], [0, 2], [0, 2]),  # one: train
    ([4], [2], [1], [1]),
]


@pytest.mark.parametrize(("sizes", "train", "val", "test"), DRAWN)
def test_draws_by_class(sizes: list[int], train: list[int], val: list[int], test: list[int]) -> None:
    dataset = made(np.repeat(np.arange(len(sizes)), sizes).tolist())
    assert counts(split(dataset), dataset) == {"train": train, "val": val, "test": test}


@pytest.mark.parametrize("per_class", [5, 6, 7, 8, 9, 13])
def test_rounding_does_not_add_up(per_class: int) -> None:
    """A hundred classes, each of which must round: the whole comes out within an image of its share."""
    dataset = made(np.repeat(np.arange(100), per_class).tolist())
    result = split(dataset)
    for name, share in zip(("train", "val", "test"), SHARES, strict=True):
        assert abs(len(result.indices[name]) - share * len(dataset)) <= 1
    for name, per in counts(result, dataset).items():
        assert max(per) - min(per) <= 1, name


def test_every_image_is_in_one_split() -> None:
    dataset = made(np.random.default_rng(0).integers(0, 7, 500).tolist())
    for options in ({}, {"group_by": r"\d\d"}, {"fractions": (0.8, 0.0, 0.2)}):
        result = split(dataset, **options)  # type: ignore[arg-type]
        rows = np.concatenate(list(result.indices.values()))
        assert sorted(rows) == list(range(500))
        for part in result.indices.values():
            assert (np.diff(part) > 0).all()
    assert set(split(dataset, fractions=(0.8, 0.0, 0.2)).indices) == {"train", "test"}


@pytest.mark.parametrize("group_by", [None, r"^\d\d"])
def test_the_order_of_the_files_does_not_matter(group_by: str | None) -> None:
    labels = np.random.default_rng(0).integers(0, 5, 300)
    ids = [f"{i:04d}.png" for i in range(300)]
    order = np.random.default_rng(1).permutation(300)
    one = made(labels.tolist(), ids)
    two = made(labels[order].tolist(), [ids[i] for i in order])
    two = replace(two, images=ImageArrays(one.images.pixels[order]))  # type: ignore[attr-defined]
    first, second = split(one, group_by=group_by), split(two, group_by=group_by)
    for name in ("train", "val", "test"):
        assert {one.ids[i] for i in first.indices[name]} == {two.ids[i] for i in second.indices[name]}
    assert first.fingerprints == second.fingerprints


def test_the_seed_decides() -> None:
    dataset = made([0, 1] * 100)
    assert split(dataset).fingerprints == split(dataset).fingerprints
    assert split(dataset).fingerprints != split(dataset, seed=1).fingerprints


def test_this_draw_stays_what_it_is() -> None:
    """Another outcome would move images from the held-out side of every model that was ever trained."""
    assert split(made([0, 1] * 10)).indices["test"].tolist() == [2, 9, 13, 16]


def test_a_new_image_moves_few_of_the_old() -> None:
    before, after = made([0] * 200), made([0] * 201)
    moved = sum(
        len(set(split(before).indices[name]) - set(split(after).indices[name])) for name in ("train", "val", "test")
    )
    assert moved <= 3


OFFICIAL = [
    # official splits, seen afterwards: split -> size; words of the origin
    (
        {"train": range(60), "val": range(60, 80), "test": range(80, 100)},
        {"train": 60, "val": 20, "test": 20},
        "official train, val, test",
    ),
    # val comes out of train, a sixth, and test stays
    (
        {"train": range(60), "test": range(60, 100)},
        {"train": 50, "val": 10, "test": 40},
        "val is 10 of train's 60 images, drawn by class, seed 0",
    ),
    # nothing is called test behind one's back
    ({"train": range(60), "val": range(60, 100)}, {"train": 60, "val": 40}, "official train, val"),
    # only train: nothing official about it
    ({"train": range(100)}, {"train": 60, "val": 20, "test": 20}, "drawn 60/20/20 by class, seed 0"),
    # only test: for evaluation
    ({"test": range(100)}, {"test": 100}, "official test"),
    # an empty one is none
    ({"train": range(100), "val": [], "test": []}, {"train": 60, "val": 20, "test": 20}, "drawn 60/20/20"),
]


@pytest.mark.parametrize(("official", "sizes", "origin"), OFFICIAL)
def test_respects_official_splits(official: dict[str, Sequence[int]], sizes: dict[str, int], origin: str) -> None:
    dataset = made([0, 1] * 50, **official)
    result = split(dataset)
    assert {name: len(rows) for name, rows in result.indices.items()} == sizes
    assert origin in result.origin
    for name in set(official) & {"test"}:
        assert set(official[name]) <= set(result.indices[name].tolist()) or not len(official[name])
    rows = np.concatenate(list(result.indices.values()))
    assert len(set(rows.tolist())) == len(rows) == 100


def test_at_most_ten_thousand_are_taken_for_val() -> None:
    dataset = made([0, 1] * 60_000, train=range(119_000), test=range(119_000, 120_000))
    assert len(split(dataset).indices["val"]) == 10_000


def test_a_split_that_is_not_there_is_named() -> None:
    result = split(made([0, 1] * 50, train=range(60), val=range(60, 100)))
    with pytest.raises(DataError, match=r"no split 'test' in this data, only train, val \(official train, val\)"):
        result.of("test")
    assert len(result.of("val")) == 40


def test_classes_that_are_missing_are_named() -> None:
    result = split(made([0] * 10 + [1] * 2 + [2]))
    assert result.notes == ("val has no image of 'class 1', 'class 2'", "test has no image of 'class 2'")
    many = split(made([0] * 10 + list(range(1, 9))))
    assert many.notes[0].endswith("'class 5' and 3 more")


@pytest.mark.parametrize("fractions", [(0.5, 0.2, 0.2), (0.0, 0.5, 0.5), (1.2, -0.1, -0.1), (0.5, 0.5)])
def test_fractions_must_sum_to_one(fractions: tuple[float, float, float]) -> None:
    with pytest.raises(UsageError, match="that sum to 1"):
        split(made([0, 1]), fractions=fractions)


GROUPS = [
    # pattern, ids -> group; why
    (r"scene\d+", {"a/scene1_x.png": "A", "a/scene1_y.png": "A", "a/scene2_x.png": "B"}),  # the whole match
    (r"scene(\d+)", {"scene1_x.png": "A", "scene1_y.png": "A", "SCENE1.png": "B"}),  # the first group
    (r"^(\d)", {"9/1a.png": "A", "8/1b.png": "A", "9/2.png": "B"}),  # of the file name, not of the folder
    (r"(s\d+)/", {"s1/1.png": "A", "s1/2.png": "A", "s2/1.png": "B"}),  # with a slash, of the whole path
    (r"x(y)?", {"x1.png": "A", "x2.png": "B", "xy.png": "C"}),  # a group that took no part: each its own
]


@pytest.mark.parametrize(("pattern", "expected"), GROUPS)
def test_groups_by_a_pattern(pattern: str, expected: dict[str, str]) -> None:
    """Of many copies of the same names, whatever belongs together is on one side."""
    ids = list(expected)
    for seed in range(20):
        result = split(made([0] * len(ids), ids), group_by=pattern, seed=seed)
        side = {ids[i]: name for name, rows in result.indices.items() for i in rows}
        for group in set(expected.values()):
            assert len({side[id_] for id_ in ids if expected[id_] == group}) == 1
    assert len({*side.values()}) == len(set(expected.values()))


def test_groups_by_a_column() -> None:
    dataset = replace(made([0, 1] * 30), groups={"scene": [str(i // 6) for i in range(60)]})
    result = split(dataset, group_by="scene")
    sides = [{i // 6 for i in rows} for rows in result.indices.values()]
    assert sum(map(len, sides)) == 10
    assert "grouped by 'scene'" in result.origin


def test_an_empty_cell_is_a_group_of_its_own() -> None:
    dataset = replace(made([0] * 10), groups={"scene": [""] * 10})
    assert counts(split(dataset, group_by="scene"), dataset) == {"train": [6], "val": [2], "test": [2]}


BAD_GROUPS = [
    ("scne", "matches no file name, as '0000.png'. The data has the columns scene. Did you mean 'scene'?"),
    ("[", "is neither a column nor a pattern: unterminated character set"),
]


@pytest.mark.parametrize(("group_by", "words"), BAD_GROUPS)
def test_a_group_that_is_none_is_answered(group_by: str, words: str) -> None:
    with pytest.raises(UsageError) as raised:
        split(replace(made([0, 1]), groups={"scene": ["1", "2"]}), group_by=group_by)
    assert words in str(raised.value)


def test_groups_torn_by_official_splits_are_told() -> None:
    dataset = made([0, 1] * 10, train=range(10), val=range(10, 15), test=range(15, 20))
    dataset = replace(dataset, groups={"scene": ["s"] + ["t"] * 18 + ["s"]})
    assert "1 groups are in both official splits train and val" in split(dataset, group_by="scene").notes
    assert "2 groups are in both official splits train and test" in split(dataset, group_by="scene").notes


def test_val_is_taken_from_official_train_by_groups() -> None:
    dataset = made([0, 1] * 60, train=range(96), test=range(96, 120))
    dataset = replace(dataset, groups={"scene": [str(i // 4) for i in range(120)]})
    result = split(dataset, group_by="scene")
    assert not {i // 4 for i in result.indices["train"]} & {i // 4 for i in result.indices["val"]}
    assert len(result.indices["val"]) == 16


def data(kind: str, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Labels and groups of 600 images."""
    chance = np.random.default_rng(seed)
    if kind == "scenes of one class":
        groups = np.sort(chance.integers(0, 90, 600))
        return groups % 4, groups
    if kind == "mixed scenes":
        return chance.integers(0, 4, 600), chance.integers(0, 60, 600)
    if kind == "a rare class":
        groups = np.sort(chance.integers(0, 90, 600))
        return np.where(groups % 15 == 0, 1, 0), groups
    sizes = chance.zipf(1.6, 400).clip(max=60)  # a few scenes with most of the images
    groups = np.repeat(np.arange(400), sizes)[:600]
    return groups % 3, groups


@pytest.mark.parametrize("kind", ["scenes of one class", "mixed scenes", "a rare class", "unequal scenes"])
def test_grouped_draws_are_as_even_as_scikit_learns(kind: str) -> None:
    """Against StratifiedGroupKFold, of which five folds make 60/20/20, over ten data sets."""
    ours: list[float] = []
    theirs: list[float] = []
    for seed in range(10):
        labels, groups = data(kind, seed)

        def unevenness(assigned: np.ndarray, labels: np.ndarray = labels) -> float:
            """Largest distance of a split's count of a class from its share, in shares of the class."""
            table = np.array([[((assigned == s) & (labels == k)).sum() for k in np.unique(labels)] for s in range(3)])
            return float(np.abs(table / table.sum(0) - SHARES[:, None]).max())

        ids = [str(i) for i in range(len(labels))]
        assigned = assign_groups(ids, labels, [str(group) for group in groups], SHARES, seed)
        for group in np.unique(groups):
            assert len(set(assigned[groups == group])) == 1
        assert all(((assigned == s) & (labels == k)).any() for s in range(3) for k in np.unique(labels))
        ours.append(unevenness(assigned))

        folds = StratifiedGroupKFold(5, shuffle=True, random_state=seed).split(labels, labels, groups)
        for fold, (_, rows) in enumerate(folds):
            assigned[rows] = {3: 1, 4: 2}.get(fold, 0)
        theirs.append(unevenness(assigned))
    assert np.mean(ours) <= np.mean(theirs)


FEW_GROUPS = [
    # groups as (size, class), splits that must hold the class 0; why
    ([(5, 0)] * 3, {0, 1, 2}),  # three equal scenes: one each, though train wants three fifths
    ([(50, 0), (2, 0), (2, 0)], {0, 1, 2}),
    ([(5, 0), (5, 0)], {0, 1}),  # the first splits come first
    ([(5, 0), (90, 1), (30, 1), (30, 1)], {0}),  # the only scene of its class goes to train
]


@pytest.mark.parametrize(("groups", "expected"), FEW_GROUPS)
def test_a_class_with_few_groups_goes_where_it_is_needed(groups: list[tuple[int, int]], expected: set[int]) -> None:
    labels = np.concatenate([np.full(size, label) for size, label in groups])
    keys = [str(k) for k, (size, _) in enumerate(groups) for _ in range(size)]
    assigned = assign_groups([str(i) for i in range(len(labels))], labels, keys, SHARES, 0)
    assert set(assigned[labels == 0].tolist()) == expected


@pytest.fixture
def saved(tmp_path: Path) -> tuple[Path, Dataset, Splits]:
    dataset = made([0, 1] * 50)
    result = split(dataset, seed=3, group_by=r"^\d{3}")
    result.save(tmp_path / "deep" / "split.json", dataset)
    return tmp_path / "deep" / "split.json", dataset, result


def test_what_is_saved_is_loaded(saved: tuple[Path, Dataset, Splits]) -> None:
    path, dataset, before = saved
    after = Splits.load(path, dataset)
    assert {name: rows.tolist() for name, rows in after.indices.items()} == {
        name: rows.tolist() for name, rows in before.indices.items()
    }
    assert after.fingerprints == before.fingerprints
    assert (after.seed, after.group_by, after.notes) == (3, r"^\d{3}", ())
    assert before.origin in after.origin
    assert str(path) in after.origin
    document = json.loads(path.read_text())
    assert document["schema"] == "striate.split/1"
    assert document["splits"]["val"] == [dataset.ids[i] for i in before.indices["val"]]
    assert [file.name for file in path.parent.iterdir()] == ["split.json"]


def test_data_that_has_changed_is_told(saved: tuple[Path, Dataset, Splits]) -> None:
    path, dataset, before = saved
    gone = int(before.indices["test"][0])
    ids = list(dataset.ids)
    ids[gone] = "new.png"
    labels = dataset.truths.labels.clone()
    labels[int(before.indices["train"][0])] ^= 1
    after = Splits.load(path, replace(dataset, ids=ids, truths=Classifications(labels=labels)))
    assert len(after.indices["test"]) == len(before.indices["test"]) - 1
    assert any(f"1 images of {path} are no longer in the data, as {gone:04d}.png" in note for note in after.notes)
    assert any("1 images of the data are in no split" in note for note in after.notes)
    changed = [note.split()[0] for note in after.notes if "is not what it was" in note]
    assert changed == ["train", "test"]
    assert after.fingerprints["val"] == before.fingerprints["val"]


def test_a_file_of_other_data_is_refused(saved: tuple[Path, Dataset, Splits]) -> None:
    path, dataset, _ = saved
    with pytest.raises(DataError, match="none of its 100 images is in made"):
        Splits.load(path, replace(dataset, ids=[f"other/{id_}" for id_ in dataset.ids]))


BROKEN = [
    # what becomes of the document, words of the message
    (lambda text: text[:50], "is not JSON"),
    (lambda text: "[]", "its schema is 'list'"),
    (lambda text: text.replace("split/1", "split/9"), "its schema is 'striate.split/9', expected 'striate.split/1'"),
    (lambda text: text.replace('"seed"', '"sed"'), "the field 'seed' is missing"),
    (lambda text: text.replace("0000.png", "0001.png"), "an image is listed twice"),
    (lambda text: text.replace('"0000.png"', "7"), "not a list of image ids"),
    (lambda text: text.replace('"splits": {', '"splits": {"extra": "0000.png",'), "not a list of image ids"),
]


@pytest.mark.parametrize(("damage", "words"), BROKEN, ids=[row[1] for row in BROKEN])
def test_a_broken_file_is_named(damage: object, words: str, saved: tuple[Path, Dataset, Splits]) -> None:
    path, dataset, _ = saved
    path.write_text(damage(path.read_text()))  # type: ignore[operator]
    with pytest.raises(DataError) as raised:
        Splits.load(path, dataset)
    assert words in str(raised.value)
    assert str(path) in str(raised.value)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="cannot be read"):
        Splits.load(tmp_path / "none.json", made([0]))


def test_a_file_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    dataset = made([0, 1] * 5)
    with pytest.raises(DataError, match="cannot be written"):
        split(dataset).save(tmp_path / "file" / "split.json", dataset)


@pytest.mark.parametrize(
    ("official", "validation", "words"),
    [
        ({}, 0.8, "--validation 0.8 leaves nothing to train on: here it takes a share from 0 up to, but without, 0.8"),
        ({}, 0.85, "up to, but without, 0.8"),
        ({}, -0.1, "from 0 up"),
        ({"train": range(6), "test": range(6, 10)}, 1.0, "up to, but without, 1 "),
    ],
)
def test_validation_must_leave_something_to_train_on(
    official: dict[str, Sequence[int]], validation: float, words: str
) -> None:
    with pytest.raises(UsageError) as caught:
        split(made([0, 1] * 5, **official), validation=validation)
    assert words in str(caught.value)


def test_much_of_an_official_train_set_may_be_validation() -> None:
    found = split(made([0, 1] * 50, train=range(80), test=range(80, 100)), validation=0.9)
    assert (len(found.indices["train"]), len(found.indices["val"])) == (8, 72)


def test_validation_that_cannot_be_used_is_told() -> None:
    dataset = made([0, 1] * 5, train=range(4), val=range(4, 6), test=range(6, 10))
    assert "--validation 0.3 is not used" in split(dataset, validation=0.3).notes[0]
    assert not split(dataset).notes


def test_fewer_takes_so_many_of_each_class_and_keeps_the_rest_apart() -> None:
    dataset = open_dataset("digits")
    splits = split(dataset, seed=3)
    few, more = (fewer(splits, dataset, count) for count in (5, 20))
    labels = dataset.truths.labels.numpy()
    assert np.bincount(labels[few.indices["train"]]).tolist() == [5] * 10
    assert set(few.indices["train"]) < set(more.indices["train"]) < set(splits.indices["train"])
    together = np.sort(np.concatenate([few.indices["train"], few.indices["unused"]]))
    assert np.array_equal(together, splits.indices["train"])
    assert few.fingerprints["train"] == dataset.fingerprint(few.indices["train"])
    again = fewer(few, dataset, 5)
    assert all(np.array_equal(again.indices[name], rows) for name, rows in few.indices.items())
    other = fewer(split(dataset, seed=4), dataset, 5)
    assert not np.array_equal(other.indices["train"], few.indices["train"])
