"""The layer notation: what it reads, what it builds, and how it answers mistakes."""

import contextlib
import random

import pytest
import torch
from torch import nn

from striate.errors import UsageError
from striate.models import pattern
from striate.models.pattern import Conv, Dropout, Full, Group, Pattern, Plain, Pool, build, canonical, layers, parse

EXAMPLE = "[[CONV 32 -> RELU]*2 -> POOL]*3 -> [FC 256 -> RELU]*1 -> FC"


def _build(text, classes=10, channels=1, size=(28, 28), **options):
    return build(text, classes=classes, channels=channels, size=size, **options)


def test_the_example_is_read_as_a_tree():
    inner = Group(items=(Conv(maps=32), Plain(name="RELU")), repeat=2)
    expected = (Group(items=(inner, Pool()), repeat=3), Full(units=256), Plain(name="RELU"), Full())
    assert parse(EXAMPLE).items == expected


@pytest.mark.parametrize(
    ("text", "layer"),
    [
        ("CONV", Conv(maps=32)),
        ("conv 7", Conv(maps=7)),
        ("Conv 7 5x3 /2 valid", Conv(maps=7, kernel=(5, 3), stride=2, padding="valid")),
        ("CONV valid /2 5x3 7", Conv(maps=7, kernel=(5, 3), stride=2, padding="valid")),
        ("CONV 7 5\u00d73", Conv(maps=7, kernel=(5, 3))),
        ("POOL", Pool()),
        ("POOL avg", Pool(kind="avg")),
        ("POOL 3x3", Pool(kernel=(3, 3), stride=(3, 3))),
        ("POOL max 3x3 /2", Pool(kernel=(3, 3), stride=(2, 2))),
        ("DROPOUT", Dropout(probability=0.5)),
        ("dropout .25", Dropout(probability=0.25)),
        ("softplus", Plain(name="SOFTPLUS")),
    ],
)
def test_a_layer_is_read(text, layer):
    assert parse(f"{text} -> FC").items == (layer, Full())


@pytest.mark.parametrize(
    ("text", "shortest"),
    [
        (EXAMPLE, "[[CONV 32 -> RELU]*2 -> POOL]*3 -> FC 256 -> RELU -> FC"),
        ("input→conv→fc", "CONV 32 -> FC"),
        ("[[[CONV]]]*1 -> fc", "CONV 32 -> FC"),
        ("conv 8 3x3 /1 same -> pool max 2x2 /2 -> fc", "CONV 8 -> POOL -> FC"),
        ("conv*2? -> [pool]?*3 -> fc", "[CONV 32]*2? -> POOL?*3 -> FC"),
        ("conv*0 -> dropout 0.1 -> fc", "[CONV 32]*0 -> DROPOUT 0.1 -> FC"),
        ("  conv\n->\tfc  ", "CONV 32 -> FC"),
    ],
)
def test_canonical_text(text, shortest):
    assert canonical(text) == shortest
    assert canonical(shortest) == shortest


def _random_items(draw, depth):
    return tuple(_random_item(draw, depth) for _ in range(draw.randint(1, 3)))


def _random_item(draw, depth):
    if depth and draw.random() < 0.5:
        items = _random_items(draw, depth - 1)
        if draw.random() < 0.4:
            return Group(items=items, optional=True)
        return Group(items=items, repeat=draw.choice([0, 2, 3, 17]))
    side = draw.randint(1, 9)
    return draw.choice(
        [
            Conv(
                maps=draw.randint(1, 99),
                kernel=(draw.randint(1, 9), draw.randint(1, 9)),
                stride=draw.randint(1, 4),
                padding=draw.choice(["same", "valid"]),
            ),
            Pool(
                kind=draw.choice(["max", "avg"]),
                kernel=(side, draw.randint(1, 9)),
                stride=(side, side),
            ),
            Pool(kernel=(side, side), stride=(side, side)),
            Dropout(probability=draw.choice([0.0, 0.5, 1e-7, 0.1 + 0.2, draw.random()])),
            Full(units=draw.choice([None, 1, 84, 1_000_000])),
            *(Plain(name=name) for name in ("RELU", "PRELU", "BN", "LRN", "GAP", "TANH")),
        ]
    )


@pytest.mark.parametrize("seed", range(100))
def test_what_is_written_is_read_back(seed):
    draw = random.Random(seed)
    tree = Pattern(items=_random_items(draw, 4))
    assert parse(str(tree)) == tree
    assert canonical(str(tree)) == str(tree)


@pytest.mark.parametrize("seed", range(100))
def test_mutilated_patterns_are_answered_in_words(seed):
    draw = random.Random(seed)
    text = list(EXAMPLE)
    for _ in range(draw.randint(1, 6)):
        at = draw.randrange(len(text))
        text[at : at + draw.randint(0, 3)] = draw.choice(
            ["", "*", "?", "[", "]", "->", "/", "9", "x", "\n", "é", "٣", "."]
        )
    with torch.device("meta"), contextlib.suppress(UsageError):  # any other exception fails
        _build("".join(text))


@pytest.mark.parametrize(
    ("text", "marked", "said"),
    [
        # text with | where the caret must stand; what the message must hold
        ("|", "", "Expected: CONV"),
        ("|COMV 32 -> FC", "COMV", "Did you mean 'CONV'"),
        ("CONV 32 |RELU -> FC", "", "arrow is missing before RELU"),
        ("[CONV 3] |[RELU] -> FC", "", "arrow is missing"),
        ("CONV |smae -> FC", "", "Did you mean 'same'"),
        ("POOL |avgg -> FC", "", "Did you mean 'avg'"),
        ("POOL |2 -> FC", "", "Write 2x2"),
        ("CONV |0 -> FC", "", "from 1 to 1,000,000"),
        ("CONV |2.5 -> FC", "", "whole number"),
        ("CONV |99999999999999999999999 -> FC", "", "does not fit"),
        ("CONV 3 |0x3 -> FC", "", "a kernel of 0x3 does not exist"),
        ("CONV 3 /|0 -> FC", "", "stride"),
        ("CONV 3 /|valid -> FC", "", "'valid' is no number"),
        ("CONV 3 3x3 |3x3 -> FC", "", "second kernel"),
        ("DROPOUT |1 -> FC", "", "0 to below 1"),
        ("CONV -> |", "", "ends too early"),
        ("CONV -> |-> FC", "", "'->' is not a layer"),
        ("|[CONV -> FC", "", "never closed"),
        ("CONV|] -> FC", "", "closes nothing"),
        ("[|] -> FC", "", "']' is not a layer"),
        ("[CONV]*|", "", "a number is missing"),
        ("[CONV]*|x -> FC", "", "'x' is no number"),
        ("[CONV]*2|*2 -> FC", "", "second *"),
        ("CONV |% -> FC", "", "'%' means nothing"),
        ("INPUT |CONV -> FC", "", "followed by ->"),
        ("CONV -> |RELU", "", "End with '-> FC'"),
        ("|[CONV]*0", "", "no layer is left"),
        ("FC 3 -> |CONV -> FC", "", "layer 2 (CONV 32) needs a map, but layer 1 (FC 3)"),
        ("GAP -> |POOL -> FC", "", "needs a map"),
        ("CONV -> |FC 3", "", "3 scores, but there are 10 classes"),
        ("[[CONV]*1000]*|1000 -> FC", "", "1,000,001 layers"),
        ("FC 1000000 -> |FC 1000000 -> FC", "", "weights"),
        ("CONV 3 -> |CONV 3 29x29 valid -> FC", "", "at least 29x29"),
        ("POOL 4x4 -> POOL 4x4 -> |POOL 4x4 -> FC", "", "at least 64x64"),
        ("[" * 50 + "|[", "", "nested more than 50"),
    ],
)
def test_a_mistake_is_shown_with_a_caret_under_its_place(text, marked, said):
    at = text.index("|")
    clean = text.replace("|", "", 1)
    with pytest.raises(UsageError) as raised:
        _build(clean)
    _, shown, caret, mend = str(raised.value).split("\n", 3)
    assert shown[4:] == clean
    assert caret == " " * (4 + at) + "^"
    assert clean[at:].startswith(marked)
    assert mend
    assert said in str(raised.value)


def test_of_a_long_pattern_the_neighbourhood_of_the_place_is_shown():
    text = "CONV 32 -> RELU -> " * 100 + "POLO -> " + "RELU -> " * 100 + "FC"
    with pytest.raises(UsageError) as raised:
        parse(text)
    _, shown, caret, _ = str(raised.value).split("\n")
    assert len(shown) < 120
    assert shown[caret.index("^") :].startswith("POLO")


def test_a_map_that_shrinks_to_nothing_names_layer_size_and_mend():
    with pytest.raises(UsageError, match=r"layer 25 of 26 \(POOL\).*the map that reaches it 1x1") as raised:
        _build("[[CONV 32 -> RELU]*2 -> POOL]*5 -> FC")
    assert "at least 32x32" in str(raised.value)
    assert _build("[[CONV 2 -> RELU]*2 -> POOL]*5 -> FC", size=(32, 32))


@pytest.mark.parametrize("seed", range(40))
def test_the_smallest_size_named_is_the_smallest_that_works(seed):
    draw = random.Random(seed)
    row = [
        draw.choice(["CONV 1 4x3 valid", "CONV 1 2x5 /2", "POOL", "POOL 3x3 /2", "CONV 1 3x3 /2 valid"])
        for _ in range(4)
    ]
    text = " -> ".join([*row, "CONV 1 2x2 valid", "FC"])
    with pytest.raises(UsageError) as raised:
        _build(text, size=(1, 1))
    height, width = map(int, str(raised.value).split("at least ")[1].split(",")[0].split("x"))
    assert _build(text, size=(height, width))(torch.rand(1, 1, height, width)).shape == (1, 10)
    for size in ((height - 1, width), (height, width - 1)):
        with pytest.raises(UsageError):
            _build(text, size=size)


def test_optional_layers_are_built_unless_left_out():
    text = "CONV 4 -> POOL? -> [RELU -> CONV 8]? -> FC"
    assert [type(layer) for layer in layers(parse(text))] == [Conv, Pool, Plain, Conv, Full]
    assert [type(layer) for layer in layers(parse(text, optional=False))] == [Conv, Full]
    assert canonical(text) == text
    assert len(list(_build(text, optional=False).modules())) < len(list(_build(text).modules()))
    assert parse("[POOL?]*3 -> FC", optional=False).items == (Full(),)


@pytest.mark.parametrize("stride", [1, 2, 3])
@pytest.mark.parametrize("kernel", ["1x1", "2x2", "3x3", "4x5"])
@pytest.mark.parametrize("size", [(7, 9), (8, 6)])
def test_same_keeps_the_size_up_to_the_stride(kernel, stride, size):
    model = _build(f"CONV 4 {kernel} /{stride} -> FC", size=size)
    (features,) = model.backbone(torch.rand(1, 1, *size))[-1:]
    assert features.shape == (1, 4, -(-size[0] // stride), -(-size[1] // stride))


def test_layers_are_torchs():
    model = _build(
        "CONV 6 5x5 valid -> LRN -> POOL avg 3x3 /2 -> PRELU -> DROPOUT 0.3 -> FC 5 -> TANH -> FC", classes=3
    )
    leaves = [m for part in (model.backbone, model.head) for m in part.modules() if not list(m.children())]
    kinds = [type(m) for m in leaves]
    assert kinds == [
        *(nn.Conv2d, nn.LocalResponseNorm, nn.AvgPool2d, nn.PReLU, nn.Dropout),
        *(nn.Flatten, nn.Linear, nn.Tanh, nn.Linear),
    ]
    pool = model.backbone.get_submodule("layers.pool3")
    assert (pool.kernel_size, pool.stride) == ((3, 3), (2, 2))
    assert model.head.get_submodule("fc6").in_features == 6 * 11 * 11


def test_lrn_is_alexnets_formula():
    lrn = _build("LRN -> FC", channels=7).backbone.get_submodule("layers.lrn1")
    x = torch.rand(1, 7, 2, 2) * 100
    squares = torch.stack([(x[:, max(0, i - 2) : i + 3] ** 2).sum(1) for i in range(7)], 1)
    torch.testing.assert_close(lrn(x), x / (2 + 1e-4 * squares) ** 0.75)


def test_a_layer_before_batch_normalisation_has_no_bias():
    model = _build("CONV 4 -> BN -> RELU -> CONV 4 -> GAP -> FC 6 -> BN -> FC")
    has_bias = [m.bias is not None for m in model.modules() if isinstance(m, nn.Conv2d | nn.Linear)]
    assert has_bias == [False, True, False, True]
    assert isinstance(model.head.get_submodule("bn7"), nn.BatchNorm1d)


def test_with_gap_any_size_can_follow():
    model = _build("CONV 4 -> RELU -> POOL -> GAP -> FC").eval()
    assert model(torch.rand(2, 1, 13, 50)).shape == (2, 10)


def test_a_rectifier_never_overwrites_the_images_or_a_stage():
    for text in ("RELU -> FC", "CONV 4 -> POOL -> RELU -> CONV 4 /2 -> RELU -> FC"):
        model = _build(text)
        images = torch.randn(1, 1, 28, 28)
        kept = images.clone()
        first = [f.clone() for f in model.backbone(images)]
        torch.testing.assert_close(images, kept, rtol=0, atol=0)
        torch.testing.assert_close(model.backbone(images), first, rtol=0, atol=0)


@pytest.mark.parametrize(
    ("text", "variance"),
    [
        ("CONV 64 7x7 -> RELU -> FC", 2 / 490),
        ("CONV 64 7x7 -> BN -> POOL -> ELU -> FC", 2 / 490),
        ("CONV 64 7x7 -> TANH -> FC", 2 / (490 + 64 * 49)),
        ("CONV 64 7x7 -> SIGMOID -> FC", 2 / (490 + 64 * 49)),
        ("CONV 64 7x7 -> CONV 4 -> RELU -> FC", 1 / 490),
    ],
)
def test_weights_start_by_what_follows_them(text, variance):
    torch.manual_seed(0)
    weight = _build(text, channels=10).backbone.get_submodule("layers.conv1").weight
    assert weight.var().item() == pytest.approx(variance, rel=0.05)


@pytest.mark.parametrize("text", ["CONV", "FC", "fc*2", "conv 3", "pool?", "CONV->FC", "a → b", "[x"])
def test_patterns_are_told_from_names(text):
    assert pattern.looks_like_pattern(text)


@pytest.mark.parametrize(
    "text", ["", "linear", "lenet300-100", "resnet20", "convnext", "fc_net", "conv-next", "pool.pt"]
)
def test_names_are_told_from_patterns(text):
    assert not pattern.looks_like_pattern(text)
