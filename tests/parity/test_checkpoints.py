"""Every network that another library has too: its random weights in ours, outputs and gradients, and the names back."""

import functools

import pytest
import torch
import torch.nn.functional as F

from striate.errors import ModelFileError, UsageError
from striate.models.catalog import CATALOG, load, parameters
from striate.models.weights import from_ours

LIBRARIES = ("torchvision", "timm")  # which build the network here; of other origins only weights are at hand
PAIRS = [(name, origin) for name, line in CATALOG.items() for origin in line.origins if origin in LIBRARIES]
CLASSES = 7
LARGE = 30_000_000  # parameters above which a pair takes seconds
HUGE = 400_000_000  # and above which it is too large for a test


@functools.cache
def _heavy(name):
    return parameters(name) > LARGE


def _mark(name):
    if _heavy(name) and parameters(name) > HUGE:
        return pytest.mark.skip(reason="takes 11 GB of memory and minutes; its smaller siblings are tested")
    return pytest.mark.slow if _heavy(name) else ()


def _marked(pairs):
    return [pytest.param(*pair, marks=_mark(pair[0])) for pair in pairs]


def _theirs(name, origin, size):
    """The other library's network with random weights and running statistics that do something."""
    torch.manual_seed(0)
    there = CATALOG[name].origins[origin].model
    if origin == "torchvision":
        import torchvision

        options = {"aux_logits": True, "init_weights": False} if there in ("googlenet", "inception_v3") else {}
        sizes = {"image_size": size[0]} if there.startswith("vit_") else {}
        network = torchvision.models.get_model(there, weights=None, num_classes=CLASSES, **options, **sizes)
    else:
        import timm

        sizes = {"img_size": size} if there.startswith("vit_") else {}
        network = timm.create_model(there, pretrained=False, num_classes=CLASSES, **sizes)
    with torch.no_grad():
        for key, tensor in network.state_dict().items():
            if key.endswith("running_mean"):
                tensor.normal_(std=0.1)
            elif key.endswith("running_var"):
                tensor.uniform_(0.8, 1.2)
            elif tensor.is_floating_point() and tensor.numel() == max(tensor.shape, default=0):
                tensor.add_(torch.randn_like(tensor) * 0.1)  # biases and scales that tell a mix-up
            elif tensor.is_floating_point() and not tensor.any():
                tensor.normal_(std=0.05)  # a head that starts at zero would hide everything before it
    return network.eval()


def _size(name):
    """Small, so that a pair takes a second; a patch network only takes multiples of its patch."""
    line = CATALOG[name]
    return tuple(-(-max(64, side) // line.multiple) * line.multiple for side in line.smallest)


@pytest.mark.parametrize(("name", "origin"), _marked(PAIRS))
def test_transplanted_weights_give_the_same_outputs_and_gradients_and_go_back(name, origin):
    size = _size(name)
    theirs = _theirs(name, origin, size)
    state = theirs.state_dict()
    ours = load(name, state, where="memory", origin=origin, size=size).eval()
    assert ours.classes == CLASSES

    images = torch.randn(2, 3, *size)
    mine, other = ours(images), theirs(images)
    scale = other.abs().max().clamp(min=1)
    torch.testing.assert_close(mine / scale, other / scale, rtol=1e-5, atol=1e-5)

    F.cross_entropy(mine, torch.tensor([1, 3])).backward()
    F.cross_entropy(other, torch.tensor([1, 3])).backward()
    gradients = from_ours(
        {key: p.grad for key, p in ours.named_parameters() if p.grad is not None}, CATALOG[name].origins[origin]
    )
    expected = {key: p.grad for key, p in theirs.named_parameters() if p.grad is not None}
    assert gradients.keys() == expected.keys()
    for key, gradient in gradients.items():
        largest = expected[key].abs().max().clamp(min=1e-6)
        torch.testing.assert_close(gradient / largest, expected[key] / largest, rtol=1e-3, atol=1e-3, msg=key)

    back = from_ours(ours.state_dict(), CATALOG[name].origins[origin])
    unused = set(state) - set(back)
    assert set(back) <= set(state)
    assert all(torch.equal(back[key], state[key]) for key in back)
    assert not unused or CATALOG[name].origins[origin].unused, f"left over: {sorted(unused)[:5]}"


LIGHT = [pair for pair in PAIRS if not _heavy(pair[0])]


@pytest.mark.parametrize(("name", "origin"), LIGHT[:1])
def test_a_key_left_over_is_an_error(name, origin):
    state = dict(_theirs(name, origin, _size(name)).state_dict()) | {"extra.weight": torch.zeros(3)}
    with pytest.raises(ModelFileError, match=r"1 names of the checkpoint have no place in .*: extra\.weight"):
        load(name, state, where="memory", origin=origin, size=_size(name))


@pytest.mark.parametrize(("name", "origin"), LIGHT[:1])
def test_a_missing_key_is_named(name, origin):
    state = dict(_theirs(name, origin, _size(name)).state_dict())
    state.pop(next(iter(state)))
    with pytest.raises(ModelFileError, match="the weights in memory do not fit the model: 1 missing"):
        load(name, state, where="memory", origin=origin, size=_size(name))


@pytest.mark.parametrize(("name", "origin"), LIGHT[:1])
def test_a_wrong_origin_is_told_from_the_names(name, origin):
    state = _theirs(name, origin, _size(name)).state_dict()
    with pytest.raises(ModelFileError, match=f"the names in memory are not striate's but .*{origin}"):
        load(name, state, where="memory", origin="striate", size=_size(name))
    with pytest.raises(UsageError, match="knows no checkpoints of 'keras'"):
        load(name, state, where="memory", origin="keras")


@pytest.mark.parametrize(("name", "origin"), LIGHT[:1])
def test_a_head_of_another_size_is_answered_in_words_or_made_anew(name, origin):
    state = _theirs(name, origin, _size(name)).state_dict()
    with pytest.raises(ModelFileError, match=f"the head of memory knows {CLASSES} classes, 4 were asked for"):
        load(name, state, where="memory", origin=origin, classes=4, size=_size(name))
    network = load(name, state, where="memory", origin=origin, classes=4, size=_size(name), new_head=True)
    assert network(torch.randn(2, 3, *_size(name))).shape == (2, 4)


@pytest.mark.parametrize(("name", "origin"), LIGHT[:1])
def test_a_grey_image_scores_as_three_equal_channels_do(name, origin):
    size = _size(name)
    state = _theirs(name, origin, size).state_dict()
    grey = torch.randn(2, 1, *size)
    one = load(name, state, where="memory", origin=origin, channels=1, size=size).eval()(grey)
    three = load(name, state, where="memory", origin=origin, size=size).eval()(grey.expand(-1, 3, -1, -1))
    torch.testing.assert_close(one, three, rtol=1e-4, atol=1e-4)
