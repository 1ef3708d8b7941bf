"""What every network of the catalog promises, and layer patterns with it.

The whole catalog is held to its shapes on the meta device, which costs nothing. What needs numbers is asked of the
small networks and of the smallest network of every architecture file.
"""

import functools
import io
import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from striate.models.backbones import hourglass
from striate.models.catalog import CATALOG, create, parameters, published
from striate.models.detectors.catalog import create_backbone
from striate.models.regressor import Regressor

PATTERNS = (
    "[[CONV 8 -> RELU]*2 -> POOL]*2 -> [FC 16 -> RELU]*1 -> FC",
    "CONV 8 3x3 /2 -> BN -> LEAKY -> POOL avg 3x3 /2 -> CONV 12 2x2 -> PRELU -> LRN -> GAP -> DROPOUT 0.2 -> FC",
)
SMALL = 2_000_000  # parameters
LARGE = 100_000_000  # parameters above which what needs numbers takes seconds: marked slow


def _representatives():
    files = {}
    for name, line in CATALOG.items():
        files.setdefault(line.build.func.__module__, []).append((parameters(name), name))
    return [name for found in files.values() for count, name in found if count < SMALL or (count, name) == min(found)]


EVERY = (*CATALOG, *PATTERNS)
ALL = (*_representatives(), *PATTERNS)
ANY_SIZE = tuple(name for name in ALL if name not in CATALOG or not CATALOG[name].only_size)
FULL = {"linear", "lenet300", "lenet300-100"}  # one weight per pixel: built for one size
RUNS_AT_ANY_SIZE = tuple(name for name in ANY_SIZE if name not in FULL and (name in CATALOG or "GAP" in name))
HEAVY = {name for name in ALL if name in CATALOG and parameters(name) > LARGE}
CLASSES, CHANNELS = 5, 3


def _marked(names):
    return [pytest.param(name, marks=pytest.mark.slow if name in HEAVY else ()) for name in names]


@pytest.fixture(scope="module", autouse=True)
def _one_thread():
    """The maps here are tiny: handing them to a second thread costs more than it saves."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def _step(name, pixels):
    """The nearest size from ``pixels`` upwards that the network takes: patches are not cut."""
    multiple = CATALOG[name].multiple if name in CATALOG else 1
    return -(-pixels // multiple) * multiple


def _size(name, extra=0):
    """Small, so that the deep ones are quick."""
    if name not in CATALOG:
        return (12, 12)
    line = CATALOG[name]
    if line.only_size:
        return line.images[1:]
    return tuple(_step(name, max(12, side) + extra) for side in line.smallest)


def _build(name, seed=0, size=None):
    torch.manual_seed(seed)
    return create(name, classes=CLASSES, channels=CHANNELS, size=size or _size(name))


@pytest.mark.parametrize("name", CATALOG)
def test_the_published_network_gives_the_declared_stages_and_scores(name):
    network = published(name).eval()
    line = CATALOG[name]
    images = torch.empty(2, *line.images, device="meta")
    maps = network.backbone(images)
    assert len(maps) == len(network.backbone.stages) > 0
    for stage, features in zip(network.backbone.stages, maps, strict=True):
        assert features.shape[:2] == (2, stage.channels), stage
        assert features.dim() == (4 if stage.stride else 2), stage
    assert len({stage.name for stage in network.backbone.stages}) == len(maps)
    assert network(images).shape == (2, line.classes)
    assert (network.classes, network.channels, network.size) == (line.classes, line.images[0], line.images[1:])


@pytest.mark.parametrize("name", [name for name in CATALOG if not CATALOG[name].only_size])
def test_the_smallest_size_is_the_smallest(name):
    def trains(size):
        with torch.device("meta"):
            network = CATALOG[name].build(classes=CLASSES, channels=CHANNELS, size=size).train()
        network.training_logits(torch.empty(1, CHANNELS, *size, device="meta"))

    height, width = CATALOG[name].smallest
    trains((height, width))
    if height > 1:
        with pytest.raises((RuntimeError, ValueError)):
            trains((height - 1, width - 1))


@pytest.mark.parametrize("name", CATALOG)
def test_backward_finds_a_way_to_every_parameter(name):
    network = published(name).train()
    logits = network.training_logits(torch.empty(2, *CATALOG[name].images, device="meta"))
    sum(x.sum() for x in logits.values()).backward()
    assert [key for key, parameter in network.named_parameters() if parameter.grad is None] == []


@functools.cache
def _model(name):
    return _build(name).eval()


def _images(count, size):
    return torch.randn(count, CHANNELS, *size, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("name", _marked(ALL))
@torch.no_grad()
def test_builds_on_the_meta_device_and_is_whole_once_weights_are_loaded(name):
    with torch.device("meta"):
        model = create(name, classes=CLASSES, channels=CHANNELS, size=_size(name))
    assert all(tensor.is_meta for tensor in model.state_dict().values())
    model.load_state_dict(_model(name).state_dict(), assign=True)
    images = _images(2, _size(name))
    torch.testing.assert_close(model.eval()(images), _model(name)(images), rtol=0, atol=0)


@pytest.mark.parametrize("name", _marked(ALL))
@torch.no_grad()
def test_gives_one_score_per_class_and_remembers_what_it_was_built_for(name):
    model = _model(name)
    scores = model(_images(2, _size(name)))
    assert (scores.shape, scores.dtype) == ((2, CLASSES), torch.float32)
    assert scores.isfinite().all()
    assert (model.classes, model.channels, model.size) == (CLASSES, CHANNELS, _size(name))


def _keeps_position(name):
    with torch.device("meta"):
        return _build(name).backbone.stages[0].stride > 0


@pytest.mark.parametrize("name", _marked(filter(_keeps_position, ALL)))
@torch.no_grad()
def test_a_stride_is_how_far_the_image_grows_per_step_on_the_map(name):
    backbone, (height, width) = _model(name).backbone, _size(name)
    for index, stage in enumerate(backbone.stages):
        if not stage.stride:
            continue
        small = backbone(_images(1, (height, width)))[index]
        large = backbone(_images(1, (height + 3 * stage.stride, width + 2 * stage.stride)))[index]
        assert (large.shape[2] - small.shape[2], large.shape[3] - small.shape[3]) == (3, 2)


@pytest.mark.parametrize("name", _marked(ALL))
def test_backward_reaches_every_parameter(name):
    size = _size(name, extra=8)
    model = _build(name, size=size).train()
    logits = model.training_logits(_images(8, size))
    sum(F.cross_entropy(x, torch.arange(8) % CLASSES) for x in logits.values()).backward()
    unreached = [n for n, p in model.named_parameters() if p.grad is None or not p.grad.any()]
    assert unreached == []


@pytest.mark.parametrize("name", _marked(ALL))
@torch.no_grad()
def test_the_first_loss_is_near_ln_of_the_classes(name):
    model = _build(name).train()
    loss = F.cross_entropy(model(_images(32, _size(name))), torch.arange(32) % CLASSES).item()
    assert abs(loss - math.log(CLASSES)) < 0.3


@pytest.mark.parametrize("name", _marked(ALL))
@torch.no_grad()
def test_an_image_is_scored_alike_alone_and_in_a_batch(name):
    images = _images(3, _size(name))
    torch.testing.assert_close(_model(name)(images[1:2]), _model(name)(images)[1:2], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", _marked(ALL))
def test_trains_on_a_batch_of_one(name):
    model = _build(name).train()
    model(_images(1, _size(name))).sum().backward()


@pytest.mark.parametrize("name", _marked(ANY_SIZE))
@pytest.mark.parametrize("more", [(1, 1), (3, 9)])
@torch.no_grad()
def test_takes_odd_and_oblong_images(name, more):
    size = tuple(_step(name, side + extra) for side, extra in zip(_size(name), more, strict=True))
    assert _build(name, size=size).eval()(_images(2, size)).shape == (2, CLASSES)


@pytest.mark.parametrize("name", _marked(RUNS_AT_ANY_SIZE))
@torch.no_grad()
def test_runs_at_another_size_than_it_was_built_for(name):
    height, width = _size(name)
    assert _model(name)(_images(2, (_step(name, height + 5), _step(name, width + 2)))).shape == (2, CLASSES)


@pytest.mark.parametrize("name", _marked(ALL))
@torch.no_grad()
def test_is_deterministic_in_eval_and_leaves_the_images_alone(name):
    images = _images(2, _size(name))
    kept = images.clone()
    first = _model(name)(images)
    assert torch.equal(first, _model(name)(images))
    assert torch.equal(images, kept)


@pytest.mark.parametrize("name", _marked(ALL))
def test_the_same_seed_gives_the_same_weights_and_another_others(name):
    first, again, other = _build(name).state_dict(), _build(name).state_dict(), _build(name, seed=1).state_dict()
    assert all(torch.equal(first[key], again[key]) for key in first)
    assert any(not torch.equal(first[key], other[key]) for key in first)


@pytest.mark.parametrize("name", _marked(ALL))
@torch.no_grad()
def test_weights_survive_a_file(name):
    file = io.BytesIO()
    torch.save(_model(name).state_dict(), file)
    file.seek(0)
    model = _build(name, seed=1).eval()
    model.load_state_dict(torch.load(file, weights_only=True))
    images = _images(2, _size(name))
    assert torch.equal(model(images), _model(name)(images))


@pytest.mark.parametrize("name", _marked(ALL))
@torch.no_grad()
def test_channels_last_scores_alike(name):
    images = _images(2, _size(name))
    model = _build(name).eval().to(memory_format=torch.channels_last)
    scores, expected = model(images.to(memory_format=torch.channels_last)), _model(name)(images)
    scale = expected.abs().max().clamp(min=1)  # deep networks give thousands before their statistics are known
    torch.testing.assert_close(scores / scale, expected / scale, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", _marked(ALL))
def test_no_submodule_appears_twice(name):
    modules = [m for m in _model(name).modules() if not isinstance(m, nn.Identity)]
    assert len(modules) == len({id(m) for m in modules})


@pytest.mark.parametrize("name", _marked(ALL))
def test_the_exported_program_scores_alike_at_any_batch(name):
    images = _images(3, _size(name))
    batch = torch.export.Dim("batch", min=1, max=64)
    program = torch.export.export(_model(name), (images,), dynamic_shapes=({0: batch},))
    for count in (3, 5):
        images = _images(count, _size(name))
        torch.testing.assert_close(program.module()(images), _model(name)(images), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", [name for name in (*CATALOG, *hourglass.VARIANTS) if name not in FULL])
def test_heads_on_the_last_map_leave_no_parameter_without_a_gradient(name):
    """One that nothing reads would learn nothing, be counted all the same, and stop training by several processes."""
    channels, *size = CATALOG[name].images if name in CATALOG else (3, 256, 256)
    with torch.device("meta"):
        backbone = create_backbone(name, channels=channels, size=tuple(size))
        network = Regressor(backbone, {"logits": 3, "boxes": 4}, channels=channels, size=tuple(size))
        sum(said.sum() for said in network(torch.empty(2, channels, *size)).values()).backward()
    assert [key for key, parameter in network.named_parameters() if parameter.grad is None] == []
