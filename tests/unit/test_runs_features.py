"""Features of images at a layer: the network's own, computed once, whatever happened to the process."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from striate.data.loader import Loader
from striate.data.open import open_dataset
from striate.data.preprocess import Preprocessing
from striate.engine.log import Display
from striate.errors import InterruptedRunError, UsageError
from striate.models.catalog import create
from striate.models.contract import Classifier
from striate.models.features import FeatureExtractor, fold_batch_norm, last_layer
from striate.runs.features import Extractor, cache_folder, extract

ROWS = np.arange(40, dtype=np.int64)
GREY = Preprocessing(size=(28, 28), channels=1, mean=(0.13,), std=(0.31,))
CPU = torch.device("cpu")
QUIET = Display(quiet=True)


def trained_statistics(network: Classifier, images: Tensor) -> Classifier:
    """Running statistics that are not the start's, so that folding them away could go wrong."""
    network.train()
    with torch.no_grad():
        network(images)
    return network.eval()


@pytest.fixture(scope="module")
def network() -> Classifier:
    torch.manual_seed(0)
    return trained_statistics(create("resnet20", classes=10, channels=1, size=(28, 28)), torch.randn(16, 1, 28, 28))


def test_the_last_full_layer_makes_the_scores_of_the_features(network: Classifier) -> None:
    images = torch.randn(3, 1, 28, 28)
    features = FeatureExtractor(network)(images)
    torch.testing.assert_close(network.get_submodule("head.fc")(features), network(images))


@pytest.mark.parametrize("name", ["squeezenet1_1", "mobilenet_v3_small", "lenet5", "vit_b_16", "timm:resnet18"])
def test_the_last_layer_is_the_one_with_the_classes(name: str) -> None:
    with torch.device("meta"):
        few, more = (create(name, classes=k, channels=1, size=(32, 32) if "t5" in name else (224, 224)) for k in (7, 9))
    shapes = {key: tensor.shape for key, tensor in few.state_dict().items()}
    grown = {key.rpartition(".")[0] for key, tensor in more.state_dict().items() if tensor.shape != shapes[key]}
    assert last_layer(few) in grown


def test_features_are_those_of_timm() -> None:
    import timm

    torch.manual_seed(0)
    network = create("timm:resnet18", classes=5, channels=3, size=(64, 64)).eval()
    theirs = timm.create_model("resnet18", num_classes=5).eval()
    theirs.load_state_dict(network.get_submodule("backbone.network").state_dict())
    images = torch.randn(2, 3, 64, 64)
    expected = theirs.forward_head(theirs.forward_features(images), pre_logits=True)
    torch.testing.assert_close(FeatureExtractor(network)(images), expected)


def test_a_stage_is_averaged_over_its_positions(network: Classifier) -> None:
    images = torch.randn(2, 1, 28, 28)
    for number, stage in enumerate(network.backbone.stages):
        expected = network.backbone(images)[number].mean((2, 3))
        torch.testing.assert_close(FeatureExtractor(network, stage.name)(images), expected)


def test_an_unknown_layer_is_answered_with_near_ones(network: Classifier) -> None:
    stage = network.backbone.stages[-1].name
    with pytest.raises(UsageError, match=stage):
        FeatureExtractor(network, stage[:-1] + "x")


def test_folding_changes_no_score_and_leaves_no_normalisation(network: Classifier) -> None:
    images = torch.randn(4, 1, 28, 28)
    folded = fold_batch_norm(network, images)
    assert not [module for module in folded.modules() if isinstance(module, torch.nn.BatchNorm2d)]
    torch.testing.assert_close(folded(images), network(images), rtol=1e-4, atol=1e-4)


def test_a_normalisation_of_something_else_is_not_folded() -> None:
    torch.manual_seed(0)
    images = torch.randn(2, 3, 64, 64)
    network = trained_statistics(create("densenet121", classes=3, channels=3, size=(64, 64)), images)
    folded = fold_batch_norm(network, images)  # most of its normalisations come before the convolution
    assert [module for module in folded.modules() if isinstance(module, torch.nn.BatchNorm2d)]
    torch.testing.assert_close(folded(images), network(images), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("layer", [None, "stage1", "backbone.conv1"])
def test_extracts_what_the_network_makes_of_each_image(network: Classifier, layer: str | None, tmp_path: Path) -> None:
    dataset = open_dataset("digits")
    layer = network.backbone.stages[0].name if layer == "stage1" else layer
    extractor = Extractor(network, GREY, layer=layer, device=CPU)
    found = extract(extractor, dataset, ROWS[::-1].copy(), cache=tmp_path, display=QUIET)
    images = torch.from_numpy(np.stack([GREY(dataset.images.read(int(row))) for row in ROWS[::-1]]))
    assert np.array_equal(found.rows, ROWS[::-1])
    assert found.values.dtype == np.float32
    assert found.values.shape == (40, extractor.dimension)
    with torch.no_grad():
        expected = FeatureExtractor(network, layer)(images)
    torch.testing.assert_close(torch.from_numpy(found.values), expected, rtol=1e-3, atol=1e-4)


def test_computes_once_and_goes_on_where_it_was_killed(network: Classifier, tmp_path: Path) -> None:
    dataset = open_dataset("digits")
    extractor = Extractor(network, GREY, device=CPU)
    first = extract(extractor, dataset, ROWS[:30], cache=tmp_path, display=QUIET)
    assert first.computed == 30
    (file,) = tmp_path.rglob("*.rows")
    whole = file.read_bytes()
    record = len(whole) // 30
    file.write_bytes(whole[: 20 * record + 7])  # killed in the middle of a record
    damaged = bytearray(file.read_bytes())
    damaged[5 * record + 40] ^= 1
    file.write_bytes(damaged)
    again = extract(extractor, dataset, ROWS, cache=tmp_path, display=QUIET)
    assert again.computed == 21  # 20 to 39, and the damaged one
    assert np.array_equal(again.rows, ROWS)
    np.testing.assert_allclose(again.values[:30], first.values, rtol=1e-4, atol=1e-5)
    assert extract(extractor, dataset, ROWS, cache=tmp_path, display=QUIET).computed == 0
    assert extract(extractor, dataset, ROWS, cache=None, display=QUIET).computed == 40


def test_stops_between_batches_and_keeps_what_it_has(tmp_path: Path) -> None:
    size = Preprocessing(size=(256, 256), channels=1, mean=(0.13,), std=(0.31,))  # in batches of 16
    network = create("linear", classes=10, channels=1, size=(256, 256)).eval()
    extractor = Extractor(network, size, device=CPU)
    answers = iter((False, True))
    with pytest.raises(InterruptedRunError):
        extract(extractor, open_dataset("digits"), ROWS, cache=tmp_path, display=QUIET, stop=lambda: next(answers))
    assert extract(extractor, open_dataset("digits"), ROWS, cache=tmp_path, display=QUIET).computed == 24


def test_the_key_follows_weights_layer_and_preprocessing_and_not_the_classes(network: Classifier) -> None:
    key = Extractor(network, GREY, device=CPU).key
    other_head = create("resnet20", classes=3, channels=1, size=(28, 28))
    trunk = {name: tensor for name, tensor in network.state_dict().items() if not name.startswith("head.fc")}
    other_head.load_state_dict(other_head.state_dict() | trunk)
    assert Extractor(other_head, GREY, device=CPU).key == key
    brighter = Preprocessing(size=(28, 28), channels=1, mean=(0.2,), std=(0.31,))
    assert Extractor(network, brighter, device=CPU).key != key
    assert Extractor(network, GREY, layer=network.backbone.stages[-1].name, device=CPU).key != key
    with torch.no_grad():
        other_head.backbone.get_parameter("conv1.weight")[0, 0, 0, 0] += 1
    assert Extractor(other_head, GREY, device=CPU).key != key


def test_a_loader_that_keeps_nothing_gives_the_same_batches() -> None:
    dataset = open_dataset("digits")
    kept, read = (Loader(dataset, ROWS, GREY, batch=16, seed=0, keep=keep) for keep in (True, False))
    for one, other in zip(kept.epoch(0), read.epoch(0), strict=True):
        assert torch.equal(one.images, other.images)


def test_the_cache_has_a_place(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_folder("auto") == tmp_path / "striate"
    assert cache_folder("none") is None
    assert cache_folder(str(tmp_path / "here")) == tmp_path / "here"
