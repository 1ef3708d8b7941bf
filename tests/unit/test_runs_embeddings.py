"""Embeddings: the file, exact and approximate neighbours, clusters and maps, against NumPy and scikit-learn."""

import base64
import io
import json
import re
import sys
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.numpy import load_file, save_file
from sklearn.cluster import KMeans
from sklearn.datasets import make_blobs
from sklearn.manifold import trustworthiness
from sklearn.metrics import silhouette_score
from sklearn.metrics.cluster import adjusted_rand_score, contingency_matrix
from sklearn.neighbors import NearestNeighbors

from striate.data.preprocess import Preprocessing
from striate.engine.log import Display
from striate.errors import DataError, UsageError
from striate.models.catalog import create
from striate.models.contract import Classifier
from striate.runs.clusters import TRIED, cluster_embeddings, write_clusters
from striate.runs.embed import gather, open_model
from striate.runs.embedding_map import map_embeddings, thumbnails, write_map
from striate.runs.embeddings import About, Embeddings, open_embeddings, write_embeddings
from striate.runs.model import Model
from striate.runs.model_file import Card
from striate.runs.neighbours import nearest
from striate.tasks.classification import Classification
from striate.viz.contact_sheet import search_sheet
from striate.viz.scatter import fit

GREY = Preprocessing(size=(8, 8), channels=1, mean=(0.5,), std=(0.25,))
QUIET = Display(quiet=True)


def drawn(count: int, features: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((count, features)).astype(np.float32)


def lengths(values: np.ndarray) -> np.ndarray:
    return np.linalg.norm(values, axis=1).astype(np.float32)


def written(folder: Path, values: np.ndarray, *, labels: object = None, classes: tuple[str, ...] = ()) -> Embeddings:
    """A file of embeddings of 12x10 images that lie in ``folder/images``."""
    ids = [f"{row:04d}.png" for row in range(len(values))]
    (folder / "images").mkdir(exist_ok=True)
    for row in range(min(len(values), 40)):
        shade = np.full((12, 10), 6 * row, dtype=np.uint8)
        Image.fromarray(shade).save(folder / "images" / ids[row])
    about = About(
        model="linear",
        key="k",
        layer="input of head",
        preprocessing=GREY,
        classes=classes,
        folder=str(folder / "images"),
    )
    return write_embeddings(
        folder / "a.embeddings",
        about,
        values=values,
        labels=np.full(len(values), -1) if labels is None else np.asarray(labels, dtype=np.int64),
        rows=np.arange(len(values)),
        ids=ids,
    )


# ---- neighbours


@pytest.mark.parametrize(("count", "features", "top"), [(500, 64, 12), (37, 5, 37), (1000, 300, 1), (1, 3, 1)])
def test_neighbours_are_those_of_scikit_learn(count: int, features: int, top: int) -> None:
    values, queries = drawn(count, features) * 7, drawn(5, features, seed=1)
    reference = NearestNeighbors(n_neighbors=top, metric="cosine", algorithm="brute").fit(values.astype(np.float64))
    distances, rows = reference.kneighbors(queries.astype(np.float64))
    found = nearest(values, lengths(values), queries, top)
    np.testing.assert_array_equal([near.rows for near in found], rows)
    np.testing.assert_allclose([near.similarities for near in found], 1 - distances, atol=1e-7)


def test_the_order_is_exact_where_the_product_in_float32_is_not() -> None:
    base = drawn(1, 512)
    values = (base + 3e-4 * drawn(3000, 512, seed=1)).astype(np.float32)
    wide, query = values.astype(np.float64), base[0].astype(np.float64)
    exact = np.argsort(-(wide @ query) / np.linalg.norm(wide, axis=1), kind="stable")[:50]
    rough = np.argsort(-(values @ base[0]) / lengths(values), kind="stable")[:50]
    assert (exact != rough).any()  # or this would test nothing
    np.testing.assert_array_equal(nearest(values, lengths(values), base, 50)[0].rows, exact)


def test_equal_images_come_in_the_order_of_the_file_wherever_they_stand() -> None:
    values = np.tile(drawn(7, 131), (40, 1))
    (near,) = nearest(values, lengths(values), values[3:4], 80)
    np.testing.assert_array_equal(near.rows[:40], np.arange(3, 280, 7))
    np.testing.assert_allclose(near.similarities[:40], 1)
    assert len(set(near.similarities[:40].tolist())) == 1
    np.testing.assert_array_equal(np.diff(near.rows[40:]), 7)


def test_many_queries_at_once_are_the_same_as_one_by_one() -> None:
    values, queries = drawn(300, 40), drawn(70, 40, seed=1)
    norms = lengths(values)
    for near, query in zip(nearest(values, norms, queries, 9), queries, strict=True):
        (alone,) = nearest(values, norms, query[None], 9)
        np.testing.assert_array_equal(near.rows, alone.rows)
        np.testing.assert_array_equal(near.similarities, alone.similarities)


def test_what_is_all_zeros_is_like_nothing() -> None:
    values = drawn(4, 6)
    values[2] = 0
    (near,) = nearest(values, lengths(values), -values[:1], 4)
    assert near.similarities[near.rows == 2] == [0]
    (near,) = nearest(values, lengths(values), np.zeros((1, 6), np.float32), 4)
    np.testing.assert_array_equal(near.rows, range(4))
    np.testing.assert_array_equal(near.similarities, 0)


def test_the_index_finds_nearly_all_neighbours_and_orders_them_exactly(tmp_path: Path) -> None:
    values = make_blobs(3000, 32, centers=30, random_state=0)[0].astype(np.float32)
    found = written(tmp_path, values)
    queries = values[::100] + 0.1 * drawn(30, 32)
    exact = found.search_all(queries, 12)
    near = found.search_all(queries, 12, approximately=True)
    shared = [len(set(one.rows) & set(other.rows)) / 12 for one, other in zip(exact, near, strict=True)]
    assert np.mean(shared) > 0.95
    for one, other in zip(exact, near, strict=True):
        if set(one.rows) == set(other.rows):
            np.testing.assert_array_equal(one.rows, other.rows)
            np.testing.assert_allclose(one.similarities, other.similarities, atol=1e-12)


def test_the_index_is_built_once_and_anew_for_other_embeddings(tmp_path: Path) -> None:
    values = drawn(200, 16)
    written(tmp_path, values).search_all(values[:1], 3, approximately=True)
    (index,) = tmp_path.glob("*.usearch")
    before = index.stat().st_mtime_ns
    written(tmp_path, values).search_all(values[:1], 3, approximately=True)
    assert index.stat().st_mtime_ns == before
    (near,) = written(tmp_path, values[::-1]).search_all(values[:1], 3, approximately=True)
    assert near.rows[0] == 199
    assert len(list(tmp_path.glob("*.usearch"))) == 2


@pytest.mark.parametrize("damage", [b"", b"x" * 50, None])
def test_a_damaged_index_is_named(tmp_path: Path, damage: bytes | None) -> None:
    values = drawn(200, 16)
    found = written(tmp_path, values)
    found.search_all(values[:1], 3, approximately=True)
    (index,) = tmp_path.glob("*.usearch")
    index.write_bytes(index.read_bytes()[:-500] if damage is None else damage)
    again = open_embeddings(found.path)
    with pytest.raises(DataError, match=r"usearch is damaged.*Remove it"):
        again.search_all(values[:1], 3, approximately=True)


def test_without_usearch_the_message_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = written(tmp_path, drawn(5, 3))
    monkeypatch.setitem(sys.modules, "usearch.index", None)
    with pytest.raises(UsageError, match=re.escape("pip install 'striate[ann]'")):
        found.search_all(found.values[:1], 3, approximately=True)
    assert found.search(np.asarray(found.values[2]), 1).rows.tolist() == [2]


# ---- the file


def test_a_file_comes_back_as_it_was_written(tmp_path: Path) -> None:
    values = drawn(6, 5)
    about = About(
        model="/runs/first", weights="w.pth", origin="timm", key="abc", layer="conv5", preprocessing=GREY,
        classes=("cat", "dög"), folder="/photos", skipped=(("bad.jpg", "truncated"),),
    )  # fmt: skip
    ids = ["a.jpg", "b c.jpg", "ä/ö.jpg", "not-utf8-\udcff.jpg", "e", "f"]
    labels = np.array([0, 1, -1, 1, 0, 0])
    write_embeddings(tmp_path / "sub" / "x.embeddings", about, values=values, labels=labels, rows=labels * 0, ids=ids)
    found = open_embeddings(tmp_path / "sub" / "x.embeddings")
    assert found.about.striate
    assert {**vars(found.about), "striate": ""} == vars(about)
    assert found.ids == tuple(ids)
    np.testing.assert_array_equal(found.values, values)
    np.testing.assert_array_equal(found.labels, labels)
    np.testing.assert_allclose(found.norms, np.linalg.norm(values, axis=1), rtol=1e-6)
    assert [found.class_of(row) for row in range(4)] == ["cat", "dög", None, "dög"]
    np.testing.assert_allclose(np.linalg.norm(found.units(), axis=1), 1, rtol=1e-6)


def test_the_file_can_be_read_without_striate_as_documented(tmp_path: Path) -> None:
    values = drawn(4, 3)
    path = written(tmp_path, values, labels=[0, 0, 1, -1], classes=("a", "b")).path
    arrays = load_file(path)
    np.testing.assert_array_equal(arrays["embeddings"], values)
    assert bytes(arrays["ids"]).decode().split("\0") == ["0000.png", "0001.png", "0002.png", "0003.png"]
    assert sorted(arrays) == ["embeddings", "ids", "labels", "norms", "rows"]
    header = json.loads(path.read_bytes()[8:][: int.from_bytes(path.read_bytes()[:8], "little")])
    document = json.loads(header["__metadata__"]["striate"])
    assert document["schema"] == "striate.embeddings/1"
    assert document["preprocessing"]["size"] == [8, 8]


def test_embeddings_are_mapped_and_not_read(tmp_path: Path) -> None:
    found = written(tmp_path, drawn(5, 3))
    assert isinstance(found.values.base, np.memmap)
    with pytest.raises(ValueError, match="read-only"):
        found.values[0, 0] = 1


def test_a_file_is_replaced_whole_or_not_at_all(tmp_path: Path) -> None:
    found = written(tmp_path, drawn(5, 3))
    before = found.path.read_bytes()
    broken = drawn(5, 3)
    broken[3, 1] = np.inf
    with pytest.raises(DataError, match=r"not finite for 0003\.png"):
        written(tmp_path, broken)
    with pytest.raises(DataError, match="no image"):
        written(tmp_path, drawn(0, 3))
    assert found.path.read_bytes() == before


def _tensors(path: Path) -> dict[str, np.ndarray]:
    return {name: np.array(value) for name, value in load_file(path).items()}


def _rewrite(path: Path, arrays: dict[str, np.ndarray], **changes: object) -> None:
    header = json.loads(path.read_bytes()[8:][: int.from_bytes(path.read_bytes()[:8], "little")])
    document = json.loads(header["__metadata__"]["striate"]) | changes
    save_file(arrays, path, metadata={"striate": json.dumps(document)})


def test_a_file_cut_anywhere_is_refused_in_one_sentence(tmp_path: Path) -> None:
    path = written(tmp_path, drawn(9, 7)).path
    whole = path.read_bytes()
    for end in (0, 1, 7, 8, 9, 100, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:end])
        with pytest.raises(DataError, match=r"a\.embeddings is truncated or not an embeddings file"):
            open_embeddings(path)


def test_other_files_are_told_apart_from_embeddings(tmp_path: Path) -> None:
    path = tmp_path / "x.embeddings"
    path.write_text("hello, this is a text\n" * 10)
    with pytest.raises(DataError, match="truncated or not an embeddings file"):
        open_embeddings(path)
    save_file({"weight": drawn(2, 2)}, path)
    with pytest.raises(DataError, match="no embeddings file: it holds tensors of another kind"):
        open_embeddings(path)
    save_file({"weight": drawn(2, 2)}, path, metadata={"striate": json.dumps({"schema": "striate.model/1"})})
    with pytest.raises(DataError, match=r"no embeddings file: it holds striate\.model"):
        open_embeddings(path)
    save_file({"weight": drawn(2, 2)}, path, metadata={"striate": "{"})
    with pytest.raises(DataError, match="cannot be read"):
        open_embeddings(path)
    with pytest.raises(DataError, match="is a folder"):
        open_embeddings(tmp_path)
    with pytest.raises(DataError, match=r"y\.embeddings is not there. Did you mean '.*x\.embeddings'"):
        open_embeddings(tmp_path / "y.embeddings")


def test_parts_that_do_not_belong_together_are_refused(tmp_path: Path) -> None:
    path = written(tmp_path, drawn(5, 3), labels=[0, 0, 0, 1, -1], classes=("a", "b")).path
    arrays = _tensors(path)
    damaged = {
        "norms": arrays["norms"][:4], "labels": np.array([0, 0, 0, 2, -1]), "ids": arrays["ids"][:-9],
        "rows": arrays["rows"][:2], "embeddings": arrays["embeddings"][:4],
    }  # fmt: skip
    for name, array in damaged.items():
        _rewrite(path, arrays | {name: np.ascontiguousarray(array)})
        with pytest.raises(DataError, match="do not belong together"):
            open_embeddings(path)
    _rewrite(path, arrays | {"embeddings": arrays["embeddings"].astype(np.float64)})
    with pytest.raises(DataError, match="lacks embeddings"):
        open_embeddings(path)
    _rewrite(path, arrays, schema="striate.embeddings/2")
    with pytest.raises(DataError, match="update it"):
        open_embeddings(path)
    for change in ({"preprocessing": {"size": 3}}, {"classes": None}, {"surprise": 1}):
        _rewrite(path, arrays, **{"schema": "striate.embeddings/1"} | change)
        with pytest.raises(DataError, match="cannot be read"):
            open_embeddings(path)


def test_queries_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    found = written(tmp_path, drawn(5, 3))
    with pytest.raises(UsageError, match=r"a query has 4 features.*embeddings of 3.*input of head"):
        found.search(drawn(1, 4)[0])
    with pytest.raises(UsageError, match=r"6 neighbours were asked for.*holds 5 images"):
        found.search(drawn(1, 3)[0], 6)
    with pytest.raises(UsageError, match="not finite"):
        found.search(np.array([1, np.nan, 0]), 2)


# ---- where the images are


def test_images_that_moved_are_missing_until_their_new_place_is_said(tmp_path: Path) -> None:
    found = written(tmp_path, drawn(3, 3))
    assert [picture is not None and int(picture[0, 0, 0]) for picture in found.pictures([2, 0])] == [12, 0]
    (tmp_path / "images").rename(tmp_path / "moved")
    again = open_embeddings(found.path)
    assert again.pictures([0, 1]) == [None, None]
    there = again.located(tmp_path / "moved")
    assert there.pictures([1])[0] is not None
    assert there.file(1) == str(tmp_path / "moved" / "0001.png")
    assert again.located(None).pictures([1]) == [None]


def folder_of(root: Path, *names: str) -> Path:
    for number, name in enumerate(names):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((9, 9), number, dtype=np.uint8)).save(root / name)
    return root


def test_class_folders_give_labels_and_other_images_are_taken_without(tmp_path: Path) -> None:
    root = folder_of(tmp_path / "p", "cat/1.png", "dog/2.png", "dog/deep/3.png", "loose.png")
    found = gather([root])
    labels = [found.dataset.classes[label] if label >= 0 else None for label in found.dataset.truths.labels.tolist()]
    assert dict(zip(found.dataset.ids, labels, strict=True)) == {
        "cat/1.png": "cat", "dog/2.png": "dog", "dog/deep/3.png": "dog", "loose.png": None,
    }  # fmt: skip
    assert found.folder == root


def test_several_sources_are_one_set_without_doubles(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one = folder_of(tmp_path / "one", "b/1.png", "a/2.png")
    two = folder_of(tmp_path / "two", "x.png", "y.png")
    monkeypatch.chdir(tmp_path)
    found = gather(["one", str(two / "*.png"), "two/x.png", str(one / "a")])
    assert list(found.dataset.ids) == ["one/a/2.png", "one/b/1.png", "two/x.png", "two/y.png"]
    assert found.dataset.classes == ("a", "b")
    assert found.dataset.truths.labels.tolist() == [0, 1, -1, -1]
    assert found.folder == tmp_path


def test_a_known_data_set_is_found_again_by_name_and_row() -> None:
    found = gather(["digits"])
    assert (found.folder, found.data) == (None, "digits")
    assert found.dataset.ids[0] == "train[0]"


def test_sources_that_are_not_there_are_answered(tmp_path: Path) -> None:
    folder_of(tmp_path / "photos", "x.png")
    (tmp_path / "empty").mkdir()
    with pytest.raises(UsageError, match="Did you mean 'digits'"):
        gather(["digit"])
    with pytest.raises(UsageError, match=r"Did you mean '.*photos'"):
        gather([tmp_path / "photo", tmp_path / "photos"])
    with pytest.raises(UsageError, match="empty holds no images"):
        gather([tmp_path / "empty"])
    with pytest.raises(UsageError, match="nothing matches"):
        gather([tmp_path / "*.jpg"])
    with pytest.raises(UsageError, match="digits is embedded on its own"):
        gather(["digits", tmp_path / "photos"])
    with pytest.raises(UsageError, match="lie in files"):
        gather(["-"])


# ---- the model


def small() -> Model:
    torch.manual_seed(0)
    network = create("CONV 4 -> RELU -> GAP -> FC 3 -> RELU -> FC", classes=2, channels=1, size=(8, 8))
    task = Classification(network, ("a", "b"))
    card = Card(model="x", channels=1, size=(8, 8), task=task.to_json(), preprocessing=GREY)
    return Model(task, card, Path("m"), torch.device("cpu"))


def test_a_model_embeds_images_of_every_kind_in_their_order(tmp_path: Path) -> None:
    model = small()
    pictures = np.random.default_rng(0).integers(0, 256, (3, 8, 8), dtype=np.uint8)
    Image.fromarray(pictures[0]).save(tmp_path / "a.png")
    (tmp_path / "bad.png").write_bytes(b"no image")
    sources = [tmp_path / "a.png", tmp_path / "bad.png", pictures[1], torch.from_numpy(pictures[2:3])]
    with pytest.warns(UserWarning, match="1 inputs could not be read"):
        found = model.embed(sources, batch=2)
    network = model.task.network
    assert isinstance(network, Classifier)
    seen: list[torch.Tensor] = []
    last = [module for module in network.modules() if isinstance(module, torch.nn.Linear)][-1]
    handle = last.register_forward_pre_hook(lambda _module, inputs: seen.append(inputs[0]))
    with torch.no_grad():
        network(torch.from_numpy(GREY.normalise(pictures[..., None])))
    handle.remove()
    np.testing.assert_allclose(found.values, seen[0].numpy(), rtol=1e-5, atol=1e-6)
    assert found.sources == (str(tmp_path / "a.png"), "image 2", "image 3")
    assert [item.source for item in found.failed] == [str(tmp_path / "bad.png")]
    assert model.embed([]).values.shape == (0, 3)
    with pytest.raises(UsageError, match="no layer 'haed'"):
        model.embed(pictures[0], layer="haed")


def test_untrained_networks_are_the_same_every_time_and_said_to_be_untrained() -> None:
    one, other = open_model("lenet5"), open_model("lenet5", weights="none")
    assert not one.trained
    for name, tensor in one.network.state_dict().items():
        torch.testing.assert_close(tensor, other.network.state_dict()[name], rtol=0, atol=0)


# ---- clusters


def blobs(count: int = 240, centres: int = 6) -> tuple[np.ndarray, np.ndarray]:
    values, truth = make_blobs(count, 20, centers=centres, cluster_std=0.5, random_state=3)
    return values.astype(np.float32), truth


def test_the_number_of_clusters_is_the_one_with_the_greatest_silhouette(tmp_path: Path) -> None:
    values, truth = blobs()
    found = written(tmp_path, values)
    clusters = found.cluster()
    assert list(clusters.silhouettes) == list(TRIED)
    assert len(clusters.clusters) == 6
    assigned = np.empty(len(values))
    for number, cluster in enumerate(clusters.clusters):
        assigned[cluster.rows] = number
    assert adjusted_rand_score(truth, assigned) == 1
    reference = silhouette_score(found.units(), assigned)
    assert clusters.silhouettes[6] == pytest.approx(reference, abs=1e-5)
    assert max(clusters.silhouettes.values()) == clusters.silhouettes[6]


def test_clusters_purity_and_centres_are_those_of_scikit_learn(tmp_path: Path) -> None:
    values, truth = blobs()
    labels = np.where(np.arange(len(values)) % 5 == 0, (truth + 1) % 6, truth)  # every fifth is called wrong
    labels[:12] = -1
    found = written(tmp_path, values, labels=labels, classes=tuple("abcdef"))
    clusters = cluster_embeddings(found, 6, seed=1)
    units = values / np.linalg.norm(values, axis=1, keepdims=True)
    reference = KMeans(6, n_init=4, random_state=1).fit(units)
    assigned = np.empty(len(values))
    for number, cluster in enumerate(clusters.clusters):
        assigned[cluster.rows] = number
        assert (np.diff(cluster.similarities) <= 0).all()
        centre = units[cluster.rows].mean(0)
        closest = cluster.rows[np.argmax(units[cluster.rows] @ centre)]
        assert closest == cluster.rows[0]
    assert adjusted_rand_score(reference.labels_, assigned) == 1
    named = labels >= 0
    table = contingency_matrix(labels[named], assigned[named])
    assert clusters.purity == pytest.approx(table.max(0).sum() / table.sum())
    sizes = [len(cluster.rows) for cluster in clusters.clusters]
    assert sizes == sorted(sizes, reverse=True)
    assert clusters.silhouettes == {}


def test_too_many_clusters_for_the_images_are_refused(tmp_path: Path) -> None:
    found = written(tmp_path, np.repeat(drawn(3, 4), 3, axis=0))
    assert len(cluster_embeddings(found, 3).clusters) == 3
    with pytest.raises(UsageError, match=r"4 clusters were asked for.*3 different embeddings of 9 images"):
        cluster_embeddings(found, 4)
    few = written(tmp_path, np.repeat(drawn(2, 4), 3, axis=0))
    with pytest.raises(UsageError, match="too few to choose"):
        cluster_embeddings(few)


def test_sheets_and_tables_of_clusters_are_written_and_replaced(tmp_path: Path) -> None:
    values, truth = blobs(30, 3)
    found = written(tmp_path, values, labels=truth, classes=("x", "y", "z,1"))
    out = tmp_path / "clusters"
    sheets, missing = write_clusters(cluster_embeddings(found, 5), out)
    assert (len(sheets), missing) == (5, 0)
    clusters = cluster_embeddings(found, 3)
    sheets, _ = write_clusters(clusters, out)
    names = ["cluster-01.png", "cluster-02.png", "cluster-03.png", "clusters.csv", "clusters.json", "images.csv"]
    assert sorted(file.name for file in out.iterdir()) == names
    lines = (out / "clusters.csv").read_text().splitlines()
    assert lines[0] == "cluster,size,class,purity"
    assert sorted(line.partition(",")[2] for line in lines[1:]) == ['10,"z,1",1.0000', "10,x,1.0000", "10,y,1.0000"]
    document = json.loads((out / "clusters.json").read_text())
    assert document["purity"] == 1
    assert document["sheets"] == [sheet.name for sheet in sheets]
    assert len((out / "images.csv").read_text().splitlines()) == 31
    (out / "clusters.json").unlink()
    with pytest.raises(UsageError, match="holds other things"):
        write_clusters(clusters, out)
    assert len(list(out.iterdir())) == 5


def test_a_cluster_whose_images_are_gone_has_tiles(tmp_path: Path) -> None:
    found = written(tmp_path, blobs(20, 2)[0])
    (tmp_path / "images" / "0003.png").unlink()
    _, missing = write_clusters(cluster_embeddings(found, 2), tmp_path / "out")
    assert missing == 1


def test_without_scikit_learn_the_message_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = written(tmp_path, drawn(9, 3))
    monkeypatch.setitem(sys.modules, "sklearn", None)
    with pytest.raises(UsageError, match=re.escape("pip install 'striate[sklearn]'")):
        cluster_embeddings(found)
    with pytest.raises(UsageError, match=re.escape("pip install 'striate[sklearn]'")):
        map_embeddings(found)


# ---- maps


def test_a_map_keeps_neighbourhoods_and_is_the_same_again(tmp_path: Path) -> None:
    values, _ = blobs(120)
    found = written(tmp_path, values)
    one, again = map_embeddings(found, seed=3), map_embeddings(found, seed=3)
    np.testing.assert_array_equal(one.points, again.points)
    assert trustworthiness(found.units(), one.points) > 0.9
    assert "perplexity 30" in one.words
    plain = map_embeddings(found, method="pca")
    assert trustworthiness(found.units(), plain.points) > 0.8


def test_of_too_many_images_an_even_sample_is_mapped(tmp_path: Path) -> None:
    found = written(tmp_path, blobs(200)[0])
    small_map = map_embeddings(found, method="pca", most=50, seed=1)
    assert len(small_map.rows) == len(set(small_map.rows.tolist())) == 50
    assert (np.diff(small_map.rows) > 0).all()
    write_map(small_map, tmp_path / "m.html", QUIET)
    assert "50 of 200 images, drawn evenly with seed 1" in (tmp_path / "m.html").read_text()


def test_there_is_no_map_of_next_to_nothing(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="fewer than three"):
        map_embeddings(written(tmp_path, np.repeat(drawn(2, 4), 5, axis=0)))
    assert len(map_embeddings(written(tmp_path, drawn(3, 4))).points) == 3


def test_umap_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "umap", None)
    with pytest.raises(UsageError, match="pip install umap-learn"):
        map_embeddings(written(tmp_path, drawn(9, 4)), method="umap")


class _Texts(HTMLParser):
    """What stands in the elements of a page."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: dict[str, list[str]] = {}
        self._tag = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._tag = tag
        self.found.setdefault(tag, []).append("")

    def handle_data(self, data: str) -> None:
        if self._tag:
            self.found[self._tag][-1] += data

    def handle_endtag(self, tag: str) -> None:
        self._tag = ""


def test_the_page_holds_every_image_and_no_name_can_break_out_of_it(tmp_path: Path) -> None:
    values, truth = blobs(30, 3)
    evil = "</script><script>alert(1)</script>"
    found = written(tmp_path, values, labels=truth, classes=("a", evil, "c"))
    (tmp_path / "images" / "0007.png").unlink()
    placed = map_embeddings(found, method="pca")
    assert write_map(placed, tmp_path / "m.html", QUIET) == 1
    page = (tmp_path / "m.html").read_text()
    texts = _Texts(page)
    data, script = texts.found["script"]
    document = json.loads(data)
    assert document["names"] == list(found.ids)
    assert document["classes"] == ["a", evil, "c"]
    assert document["label"] == truth.tolist()
    assert "alert" not in script
    assert document["heights"][7] == 0
    assert (document["heights"][0], document["widths"][0]) == (12, 10)
    assert len(texts.found["svg"]) == 1 + 3  # the map, and a dot for each class
    assert "default-src 'none'" in page
    assert not re.findall(r'(?:src|href)="(?!data:)[^"#]', page)
    assert len(re.findall("h0", page.split('class="dots"', 1)[1].split("</svg>")[0])) == 30


def test_classes_beyond_the_marks_share_one(tmp_path: Path) -> None:
    labels = np.concatenate([np.repeat(np.arange(30), 2), [-1] * 4])
    found = written(tmp_path, drawn(64, 5), labels=labels, classes=tuple(f"k{number}" for number in range(30)))
    write_map(map_embeddings(found, method="pca"), tmp_path / "m.html", QUIET)
    page = (tmp_path / "m.html").read_text()
    assert "6 more classes, and images without" in page
    assert page.count('class="dots"') == 25
    document = json.loads(_Texts(page).found["script"][0])
    assert document["group"][58] == 24
    assert document["label"][58] == 29


def _sheet(uri: str) -> Image.Image:
    return Image.open(io.BytesIO(base64.b64decode(uri.partition(",")[2])))


def test_thumbnails_of_small_images_are_the_images_themselves(tmp_path: Path) -> None:
    found = written(tmp_path, drawn(40, 3))
    small = thumbnails(found, np.array([5, 30]), QUIET)
    assert small.sizes.tolist() == [[12, 10], [12, 10]]
    assert small.cell == 12
    pixels = np.asarray(_sheet(small.sheets[0]))
    assert pixels.shape == (12, 24)
    assert (pixels[:, 1:11] == 30).all()
    assert (pixels[:, 13:23] == 180).all()


def test_thumbnails_of_photos_lie_where_the_page_looks_for_them(tmp_path: Path) -> None:
    count = 1100  # more than one sheet holds
    found = written(tmp_path, drawn(count, 3))
    for row in range(1020, count):
        Image.new("RGB", (300, 150), (row - 1000, 100, 200)).save(tmp_path / "images" / f"{row:04d}.png")
    small = thumbnails(found, np.arange(count), QUIET)
    assert (small.cell, len(small.sheets)) == (64, 2)
    for row in (1021, 1023, 1024, 1099):
        assert small.sizes[row].tolist() == [32, 64]
        place = row % 1024
        middle = (64 * (place % 32) + 32, 64 * (place // 32) + 32)
        assert _sheet(small.sheets[row // 1024]).convert("RGB").getpixel(middle) == pytest.approx(
            (row - 1000, 100, 200), abs=4
        )


def test_points_fill_the_drawing_without_being_stretched() -> None:
    points = fit(np.array([[0.0, 0.0], [4.0, 0.0], [4.0, 2.0]]), margin=0)
    np.testing.assert_allclose(points, [[0, 750], [1000, 750], [1000, 250]])


def test_a_search_sheet_takes_a_caption_for_every_picture() -> None:
    tile = np.zeros((8, 8, 1), np.uint8)
    sheet = search_sheet([tile, tile], [[tile] * 13, []], ["q", "r"], [["hit"] * 13, []])
    assert sheet.width < 1400
    with pytest.raises(ValueError, match="a caption for each"):
        search_sheet([tile], [[tile]], ["q"], [[]])
