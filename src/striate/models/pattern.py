"""Networks written in the field's own layer notation.

    "[[CONV 32 -> RELU]*2 -> POOL]*3 -> [FC 256 -> RELU]*1 -> FC"

The notation is that of the CS231n course notes ("Layer Patterns"), with numbers. Upper and lower case are the same,
and so are -> and the arrow sign.

    pattern  =  item { "->" item }
    item     =  ( layer | "[" pattern "]" ) { "*" number | "?" }

    layer                                left out
    CONV c [kxk] [/stride] [same|valid]  32 maps, 3x3, /1, same
    POOL [max|avg] [kxk] [/stride]       max, 2x2, a stride equal to the kernel; no padding
    GAP                                  global average pooling: the mean of each map
    RELU LEAKY PRELU ELU TANH SIGMOID SOFTPLUS
    BN                                   batch normalisation
    LRN                                  local response normalisation, Krizhevsky et al. 2012, section 3.3
    DROPOUT p                            p = 0.5
    FC n                                 256 units; the last FC gives the classes

- ``*n`` repeats, ``*0`` leaves out. ``?`` marks what may be left out: it is built, unless ``optional=False``.
- `same` keeps the size (rounded up by a stride), with zeros around the map; `valid` uses whole kernels only.
- A convolution or full layer directly before BN has no bias, which BN would take away again.
- Weights start by what follows them (`nn/initialise.py`): He for the ReLU family, Glorot for tanh and sigmoid.
- Everything before the first GAP or FC is the backbone, with one stage per stride; the rest is the head.

Letters: B images, C channels, H height, W width, K classes.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Literal, NoReturn

from torch import Tensor, nn

from striate.errors import UsageError, did_you_mean
from striate.models.contract import Backbone, Classifier, Stage
from striate.nn.activations import ACTIVATIONS
from striate.nn.initialise import Follower, initialise
from striate.nn.lrn import local_response_norm

MOST_LAYERS = 10_000
MOST_NESTED = 50
LARGEST_NUMBER = 1_000_000
MOST_PARAMETERS = 2**30  # 4 GiB of float32

DEFAULT_MAPS = 32
DEFAULT_UNITS = 256

# What a layer of each name is in `ACTIVATIONS`, and how the weights before it start.
_ACTIVATIONS: Mapping[str, tuple[str, Follower]] = {
    "RELU": ("relu", "rectifier"),
    "LEAKY": ("leaky_relu", "leaky"),
    "PRELU": ("parametric_relu", "parametric"),
    "ELU": ("elu", "rectifier"),
    "TANH": ("tanh", "saturating"),
    "SIGMOID": ("logistic", "saturating"),
    "SOFTPLUS": ("softplus", "rectifier"),
}
LAYERS = ("CONV", "POOL", "GAP", *_ACTIVATIONS, "BN", "LRN", "DROPOUT", "FC")


# ---- the tree --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Conv:
    """A convolution."""

    maps: int = DEFAULT_MAPS
    kernel: tuple[int, int] = (3, 3)  # height, width
    stride: int = 1
    padding: Literal["same", "valid"] = "same"
    at: int = field(default=0, compare=False)  # where it stands in the text

    def __str__(self) -> str:
        kernel = "" if self.kernel == (3, 3) else f" {self.kernel[0]}x{self.kernel[1]}"
        stride = "" if self.stride == 1 else f" /{self.stride}"
        return f"CONV {self.maps}{kernel}{stride}{'' if self.padding == 'same' else ' valid'}"


@dataclass(frozen=True, kw_only=True)
class Pool:
    """Max- or average pooling."""

    kind: Literal["max", "avg"] = "max"
    kernel: tuple[int, int] = (2, 2)  # height, width
    stride: tuple[int, int] = (2, 2)
    at: int = field(default=0, compare=False)

    def __str__(self) -> str:
        kind = "" if self.kind == "max" else " avg"
        kernel = "" if self.kernel == (2, 2) else f" {self.kernel[0]}x{self.kernel[1]}"
        stride = "" if self.stride == self.kernel else f" /{self.stride[0]}"
        return f"POOL{kind}{kernel}{stride}"


@dataclass(frozen=True, kw_only=True)
class Full:
    """A fully connected layer; without units it takes the default, or the classes if it is the last."""

    units: int | None = None
    at: int = field(default=0, compare=False)

    def __str__(self) -> str:
        return "FC" if self.units is None else f"FC {self.units}"


@dataclass(frozen=True, kw_only=True)
class Dropout:
    """Dropout of single values (Srivastava et al. 2014)."""

    probability: float = 0.5
    at: int = field(default=0, compare=False)

    def __str__(self) -> str:
        return f"DROPOUT {Decimal(repr(self.probability)):f}"


@dataclass(frozen=True, kw_only=True)
class Plain:
    """A layer without numbers: an activation, BN, LRN or GAP."""

    name: str
    at: int = field(default=0, compare=False)

    def __str__(self) -> str:
        return self.name


Layer = Conv | Pool | Full | Dropout | Plain


@dataclass(frozen=True, kw_only=True)
class Group:
    """A part in brackets, repeated or optional."""

    items: "tuple[Layer | Group, ...]"
    repeat: int = 1
    optional: bool = False
    at: int = field(default=0, compare=False)

    def __str__(self) -> str:
        inner = " -> ".join(str(item) for item in self.items)
        suffix = "?" if self.optional else f"*{self.repeat}"
        alone = len(self.items) == 1 and self.optional and not isinstance(self.items[0], Group)
        return inner + suffix if alone or self._twice() else f"[{inner}]{suffix}"

    def _twice(self) -> bool:
        """Whether this only adds the other mark to a marked part, as in ``[CONV 32]*2?``."""
        only = self.items[0]
        return len(self.items) == 1 and isinstance(only, Group) and only.optional != self.optional and not only._twice()


@dataclass(frozen=True, kw_only=True)
class Pattern:
    """A parsed pattern."""

    items: tuple[Layer | Group, ...]
    text: str = field(default="", compare=False)  # as it was written

    def __str__(self) -> str:
        return " -> ".join(str(item) for item in self.items)


def canonical(pattern: str) -> str:
    """The one way to write ``pattern``: upper case, single spaces, defaults left out.

    ``canonical(canonical(p)) == canonical(p)``, and both build the same network.

    Raises:
        UsageError: as `parse`.
    """
    return str(parse(pattern))


# ---- reading ---------------------------------------------------------------------------------------------------------

_TOKEN = re.compile(
    r"(?P<space>\s+)|(?P<arrow>->|→)|(?P<size>[0-9]+[xX\u00d7][0-9]+)|(?P<number>[0-9]+\.[0-9]*|\.[0-9]+|[0-9]+)"
    r"|(?P<word>[A-Za-z_]+)|(?P<mark>[\[\]*?/])"
)


@dataclass(frozen=True, kw_only=True)
class _Token:
    kind: str  # arrow, size, number, word, end, or the mark itself
    text: str
    at: int


def _refuse(text: str, at: int, what: str, mend: str) -> NoReturn:
    """Raise a `UsageError` that shows the pattern with a caret under place ``at``."""
    window, before = 100, 60  # of a long pattern only the neighbourhood is shown
    first = max(0, min(at - before, len(text) - window))
    shown = re.sub(r"\s", " ", text[first : first + window])
    left, right = "... " if first else "", " ..." if first + window < len(text) else ""
    caret = " " * (len(left) + at - first) + "^"
    raise UsageError(f"in the layer pattern, {what}\n    {left}{shown}{right}\n    {caret}\n{mend}")


def _tokens(text: str) -> list[_Token]:
    tokens: list[_Token] = []
    at = 0
    while at < len(text):
        match = _TOKEN.match(text, at)
        if match is None:
            _refuse(text, at, f"{text[at]!r} means nothing.", "It is made of layers, ->, [ ], *n, ? and numbers.")
        kind = match.lastgroup or ""
        if kind != "space":
            tokens.append(_Token(kind=match.group() if kind == "mark" else kind, text=match.group(), at=at))
        at = match.end()
    tokens.append(_Token(kind="end", text="", at=len(text)))
    return tokens


class _Parser:
    """Recursive descent over the grammar of the module's first lines."""

    def __init__(self, text: str, *, optional: bool):
        self.text = text
        self.tokens = _tokens(text)
        self.position = 0
        self.optional = optional

    @property
    def next(self) -> _Token:
        return self.tokens[self.position]

    def take(self) -> _Token:
        token = self.next
        self.position += 1
        return token

    def pattern(self) -> tuple[Layer | Group, ...]:
        if self.next.text.upper() == "INPUT":  # CS231n writes it; it says nothing
            self.take()
            arrow = self.take()
            if arrow.kind != "arrow":
                _refuse(self.text, arrow.at, "INPUT is followed by ->.", "Expected: ->")
        items = self.sequence(depth=0)
        if self.next.kind == "]":
            self.refuse_next("this ] closes nothing.", "Drop it, or open it with [ further left.")
        return items

    def sequence(self, depth: int) -> tuple[Layer | Group, ...]:
        items = [*self.item(depth)]
        while self.next.kind == "arrow":
            self.take()
            items.extend(self.item(depth))
        if self.next.kind not in ("end", "]"):
            token = self.next
            missing = " An arrow is missing." if token.kind == "[" or token.text.upper() in LAYERS else ""
            self.refuse_next(f"{token.text!r} cannot stand here.{missing}", "Expected: ->, *n, ?, ] or the end")
        return tuple(items)

    def item(self, depth: int) -> list[Layer | Group]:
        token = self.next
        if token.kind == "[":
            if depth == MOST_NESTED:
                self.refuse_next(f"brackets are nested more than {MOST_NESTED} deep.", "Write it flatter.")
            self.take()
            items = [*self.sequence(depth + 1)]
            if self.next.kind != "]":
                _refuse(self.text, token.at, "this [ is never closed.", "Expected: ] further right")
            self.take()
        else:
            items: list[Layer | Group] = [self.layer()]
        seen: set[str] = set()
        while self.next.kind in ("*", "?"):
            if self.next.kind in seen:
                self.refuse_next(f"this is a second {self.next.kind}.", "One *n and one ? are enough; or use brackets.")
            mark = self.take()
            seen.add(mark.kind)
            if mark.kind == "*":
                number = self.next
                repeat = self.whole("how often to repeat", smallest=0)
                # *1 and an empty part (all of it was optional) are not worth a group
                if repeat != 1 and items:
                    items = [Group(items=tuple(items), repeat=repeat, at=number.at)]
            elif self.optional:
                items = [Group(items=tuple(items), optional=True, at=mark.at)] if items else []
            else:
                items = []
        return items

    def layer(self) -> Layer:
        token = self.next
        name = token.text.upper()
        if token.kind != "word" or name not in LAYERS:
            found = "the pattern ends too early." if token.kind == "end" else f"{token.text!r} is not a layer."
            if not self.text.strip():
                found = "there is nothing."
            self.refuse_next(
                found + (did_you_mean(name, LAYERS) if token.kind == "word" else ""),
                f"Expected: {', '.join(LAYERS)}, [",
            )
        self.take()
        if name == "CONV":
            return self.conv(token.at)
        if name == "POOL":
            return self.pool(token.at)
        if name == "FC":
            return Full(units=self.whole("units") if self.next.kind == "number" else None, at=token.at)
        if name == "DROPOUT":
            return self.dropout(token.at)
        return Plain(name=name, at=token.at)

    def conv(self, at: int) -> Conv:
        maps, kernel, stride, padding = None, None, None, None
        while True:
            token = self.next
            word = token.text.lower()
            if token.kind == "number":
                self.once(maps, "number of maps")
                maps = self.whole("maps")
            elif token.kind == "size":
                self.once(kernel, "kernel")
                kernel = self.kernel()
            elif token.kind == "/":
                self.once(stride, "stride")
                stride = self.stride()
            elif word == "same" or word == "valid":
                self.once(padding, "padding")
                padding = word
                self.take()
            elif token.kind == "word":
                self.unknown_option(("same", "valid"), "a number of maps, 3x3, /2, same, valid, ->")
            else:
                return Conv(
                    maps=maps or DEFAULT_MAPS,
                    kernel=kernel or (3, 3),
                    stride=stride or 1,
                    padding=padding or "same",
                    at=at,
                )

    def pool(self, at: int) -> Pool:
        kind, kernel, stride = None, None, None
        while True:
            token = self.next
            word = token.text.lower()
            if word == "max" or word == "avg":
                self.once(kind, "kind")
                kind = word
                self.take()
            elif token.kind == "size":
                self.once(kernel, "kernel")
                kernel = self.kernel()
            elif token.kind == "/":
                self.once(stride, "stride")
                stride = self.stride()
            elif token.kind == "number":
                self.refuse_next(
                    f"POOL takes a height and a width, not {token.text}.", f"Write {token.text}x{token.text}."
                )
            elif token.kind == "word":
                self.unknown_option(("max", "avg"), "max, avg, 2x2, /2, ->")
            else:
                kernel = kernel or (2, 2)
                return Pool(kind=kind or "max", kernel=kernel, stride=(stride, stride) if stride else kernel, at=at)

    def dropout(self, at: int) -> Dropout:
        if self.next.kind != "number":
            return Dropout(at=at)
        probability = float(self.next.text)
        if not 0 <= probability < 1:
            self.refuse_next(
                f"DROPOUT {self.next.text[:40]} would leave nothing.",
                "Expected: a probability from 0 to below 1, as in 0.5",
            )
        self.take()
        return Dropout(probability=probability, at=at)

    def kernel(self) -> tuple[int, int]:
        height, width = (int(side[:10]) for side in re.split(r"[xX\u00d7]", self.next.text))
        if not (0 < height <= LARGEST_NUMBER and 0 < width <= LARGEST_NUMBER):
            self.refuse_next(
                f"a kernel of {self.next.text[:40]} does not exist.",
                f"Expected: height x width from 1 to {LARGEST_NUMBER:,}, as in 3x3",
            )
        self.take()
        return height, width

    def stride(self) -> int:
        self.take()
        return self.whole("pixels of stride")

    def whole(self, what: str, smallest: int = 1) -> int:
        token = self.next
        expected = f"Expected: {what}, a whole number from {smallest} to {LARGEST_NUMBER:,}"
        if token.kind != "number":
            self.refuse_next(
                "a number is missing." if token.kind == "end" else f"{token.text!r} is no number.", expected
            )
        if not token.text.isdigit() or len(token.text) > 10 or not smallest <= int(token.text) <= LARGEST_NUMBER:
            self.refuse_next(f"{token.text[:40]} does not fit.", expected)
        self.take()
        return int(token.text)

    def once(self, value: object, what: str) -> None:
        if value is not None:
            self.refuse_next(
                f"this is a second {what}.", "One is enough; if a new layer begins here, write -> before it."
            )

    def unknown_option(self, options: tuple[str, ...], expected: str) -> None:
        word = self.next.text
        if word.upper() in LAYERS:
            self.refuse_next(f"an arrow is missing before {word}.", "Expected: ->")
        self.refuse_next(f"{word!r} is unknown.{did_you_mean(word, options)}", f"Expected: {expected}")

    def refuse_next(self, what: str, mend: str) -> NoReturn:
        _refuse(self.text, self.next.at, what, mend)


def parse(text: str, *, optional: bool = True) -> Pattern:
    """Read a pattern.

    Args:
        text: the pattern.
        optional: whether what is marked ``?`` stays.

    Raises:
        UsageError: where the pattern is wrong, with a caret under the place and what could stand there.
    """
    return Pattern(items=_Parser(text, optional=optional).pattern(), text=text)


def looks_like_pattern(text: str) -> bool:
    """Whether ``text`` is meant as a pattern rather than as a name: it has an arrow or a bracket, or begins as one."""
    words = re.findall(r"[A-Za-z_]+", text)
    return any(mark in text for mark in ("->", "→", "[", "]")) or bool(
        words and words[0].upper() in LAYERS and re.match(r"\s*[A-Za-z_]+([\s0-9*?/]|$)", text)
    )


# ---- building --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class _Map:
    """What flows between two layers."""

    channels: int
    size: tuple[int, int] | None  # height, width; None once a GAP or FC has given up position


def _count(items: tuple[Layer | Group, ...]) -> int:
    return sum(item.repeat * _count(item.items) if isinstance(item, Group) else 1 for item in items)


def _expand(items: tuple[Layer | Group, ...]) -> Iterator[Layer]:
    for item in items:
        if isinstance(item, Group):
            for _ in range(item.repeat):
                yield from _expand(item.items)
        else:
            yield item


def layers(pattern: Pattern) -> list[Layer]:
    """All layers of ``pattern``, repeats written out.

    Raises:
        UsageError: for more than `MOST_LAYERS` layers, for none, and for an order of layers that cannot be built.
    """
    text = pattern.text or str(pattern)
    count = _count(pattern.items)
    if count > MOST_LAYERS:
        largest = max(
            (i for i in pattern.items if isinstance(i, Group)), key=lambda group: _count((group,)), default=None
        )
        _refuse(
            text,
            largest.at if largest else 0,
            f"the repeats make {count:,} layers.",
            f"At most {MOST_LAYERS:,} are built: repeat less.",
        )
    row = list(_expand(pattern.items))
    lost: tuple[int, Layer] | None = None
    for number, layer in enumerate(row, 1):
        needs_map = isinstance(layer, Conv | Pool) or (isinstance(layer, Plain) and layer.name in ("GAP", "LRN"))
        if lost and needs_map:
            _refuse(
                text,
                layer.at,
                f"layer {number} ({layer}) needs a map, but layer {lost[0]} ({lost[1]}) has left only numbers.",
                "Put CONV, POOL, LRN and GAP before the first FC or GAP.",
            )
        if not lost and (isinstance(layer, Full) or (isinstance(layer, Plain) and layer.name == "GAP")):
            lost = (number, layer)
    if not row or not isinstance(row[-1], Full):
        _refuse(
            text,
            row[-1].at if row else 0,
            f"the last layer is {row[-1]}." if row else "no layer is left.",
            "End with '-> FC', which gives one score per class; the softmax after it is in the loss.",
        )
    return row


def _name(number: int, layer: Layer) -> str:
    return f"{str(layer).split()[0].lower()}{number}"


def _window(layer: Conv | Pool) -> tuple[tuple[int, int], tuple[int, int], bool]:
    """Kernel, stride (both height, width) and whether zeros surround the map."""
    if isinstance(layer, Conv):
        return layer.kernel, (layer.stride, layer.stride), layer.padding == "same"
    return layer.kernel, layer.stride, False


def _smallest(row: list[Layer]) -> tuple[int, int]:
    """The smallest input of which every window leaves at least one pixel."""
    need = [1, 1]
    for layer in reversed(row):
        if isinstance(layer, Conv | Pool):
            kernel, stride, same = _window(layer)
            need = [(n - 1) * s + (1 if same else k) for n, k, s in zip(need, kernel, stride, strict=True)]
    return need[0], need[1]


def _trace(text: str, row: list[Layer], *, classes: int, channels: int, size: tuple[int, int]) -> list[_Map]:
    """What each layer of ``row`` gives out, refusing what cannot be built."""
    flow = _Map(channels=channels, size=size)
    flows: list[_Map] = []
    parameters = 0
    for number, layer in enumerate(row, 1):
        if isinstance(layer, Conv | Pool):
            assert flow.size is not None  # `layers` has seen to it
            kernel, stride, same = _window(layer)
            if not same and (kernel[0] > flow.size[0] or kernel[1] > flow.size[1]):
                need = _smallest(row)
                same_mend = (
                    ", write 'same' instead of 'valid'"
                    if any(isinstance(i, Conv) and i.padding == "valid" for i in row)
                    else ""
                )
                _refuse(
                    text,
                    layer.at,
                    f"nothing is left of the map at layer {number} of {len(row)} ({layer}): its window is "
                    f"{kernel[0]}x{kernel[1]}, the map that reaches it {flow.size[0]}x{flow.size[1]}.",
                    f"From {size[0]}x{size[1]} images this pattern does not get further: give it images of at least "
                    f"{need[0]}x{need[1]}, or pool and stride less{same_mend}.",
                )
            height, width = (
                (n - 1) // s + 1 if same else (n - k) // s + 1
                for n, k, s in zip(flow.size, kernel, stride, strict=True)
            )
            maps = layer.maps if isinstance(layer, Conv) else flow.channels
            if isinstance(layer, Conv):
                parameters += maps * flow.channels * kernel[0] * kernel[1]
            flow = _Map(channels=maps, size=(height, width))
        elif isinstance(layer, Full):
            inputs = flow.channels * (flow.size[0] * flow.size[1] if flow.size else 1)
            units = layer.units or (classes if number == len(row) else DEFAULT_UNITS)
            if number == len(row) and units != classes:
                _refuse(
                    text,
                    layer.at,
                    f"the last layer gives {units} scores, but there are {classes} classes.",
                    "Write FC without a number at the end: it takes the number of classes.",
                )
            parameters += inputs * units
            flow = _Map(channels=units, size=None)
        elif isinstance(layer, Plain) and layer.name == "GAP":
            flow = _Map(channels=flow.channels, size=None)
        if parameters > MOST_PARAMETERS:
            _refuse(
                text,
                layer.at,
                f"layer {number} ({layer}) brings the network to {parameters:,} weights.",
                f"At most {MOST_PARAMETERS:,} are built: pool more before it, or make it narrower.",
            )
        flows.append(flow)
    return flows


def _module(row: list[Layer], index: int, before: _Map, after: _Map) -> nn.Module:
    """The module of one layer, with its weights drawn."""
    layer = row[index]
    if isinstance(layer, Conv | Full):
        following = row[index + 1] if index + 1 < len(row) else None
        bias = not (isinstance(following, Plain) and following.name == "BN")
        if isinstance(layer, Full):
            inputs = before.channels * (before.size[0] * before.size[1] if before.size else 1)
            full = nn.Linear(inputs, after.channels, bias)
            initialise(full, _follower(row, index))
            return full
        return _convolution(layer, before.channels, bias, _follower(row, index))
    if isinstance(layer, Pool):
        pool = nn.MaxPool2d if layer.kind == "max" else nn.AvgPool2d
        return pool(layer.kernel, layer.stride)
    if isinstance(layer, Dropout):
        return nn.Dropout(layer.probability)
    if layer.name == "GAP":
        return nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
    if layer.name == "BN":
        return nn.BatchNorm2d(after.channels) if after.size else nn.BatchNorm1d(after.channels)
    if layer.name == "LRN":
        return local_response_norm()
    previous = row[index - 1] if index else None
    if layer.name == "RELU" and (
        isinstance(previous, Conv | Full) or (isinstance(previous, Plain) and previous.name == "BN")
    ):
        return nn.ReLU(inplace=True)  # nobody else reads what it overwrites
    return ACTIVATIONS[_ACTIVATIONS[layer.name][0]].module()


def _convolution(layer: Conv, in_channels: int, bias: bool, follower: Follower) -> nn.Module:
    height, width = layer.kernel
    odd = height % 2 == 1 and width % 2 == 1
    padding = (height // 2, width // 2) if layer.padding == "same" and odd else 0
    convolution = nn.Conv2d(in_channels, layer.maps, layer.kernel, layer.stride, padding, bias=bias)
    initialise(convolution, follower)
    if layer.padding == "same" and not odd:  # one zero more on the right and below
        border = ((width - 1) // 2, width // 2, (height - 1) // 2, height // 2)
        return nn.Sequential(nn.ZeroPad2d(border), convolution)
    return convolution


def _follower(row: list[Layer], index: int) -> Follower:
    """What the output of layer ``index`` goes through before it meets weights again."""
    for layer in row[index + 1 :]:
        if isinstance(layer, Plain) and layer.name in _ACTIVATIONS:
            return _ACTIVATIONS[layer.name][1]
        if isinstance(layer, Conv | Full):
            return "nothing"
    return "softmax"


class PatternBackbone(Backbone):
    """The layers of a pattern before its first GAP or FC, named by kind and place, as in conv1 and pool5.

    There is one stage per stride: the last map before the next pooling or strided convolution.
    """

    def __init__(self, named: dict[str, nn.Module], stages: tuple[Stage, ...]):
        super().__init__()
        self.layers = nn.ModuleDict(named)
        self.stages = stages
        self.outputs = frozenset(stage.name for stage in stages)

    def forward(self, images: Tensor) -> list[Tensor]:
        """(B, C, H, W) images to one map per stage."""
        x = images
        outputs: list[Tensor] = [x] if "images" in self.outputs else []
        for name, layer in self.layers.items():
            x = layer(x)
            if name in self.outputs:
                outputs.append(x)
        return outputs


def build(text: str, *, classes: int, channels: int, size: tuple[int, int], optional: bool = True) -> Classifier:
    """The network that a pattern describes.

    Args:
        text: the pattern.
        classes: K, the outputs of the last FC.
        channels: C of the images.
        size: height and width of the images. A network with GAP takes other sizes too.
        optional: whether what is marked ``?`` is built.

    Raises:
        UsageError: for a pattern that cannot be read or built, naming the place and the mend.
    """
    pattern = parse(text, optional=optional)
    row = layers(pattern)
    flows = _trace(text, row, classes=classes, channels=channels, size=size)
    before = [_Map(channels=channels, size=size), *flows[:-1]]
    cut = next(index for index, flow in enumerate(flows) if flow.size is None)  # the last FC at the latest
    modules = [_module(row, index, before[index], flows[index]) for index in range(len(row))]
    names = [_name(number, layer) for number, layer in enumerate(row, 1)]
    stages = _stages(row[:cut], flows[:cut], names[:cut], channels)
    backbone = PatternBackbone(dict(zip(names[:cut], modules[:cut], strict=True)), stages)
    head = nn.Sequential()
    if isinstance(row[cut], Full):
        head.add_module("flatten", nn.Flatten())
    for name, module in zip(names[cut:], modules[cut:], strict=True):
        head.add_module(name, module)
    return Classifier(backbone, head, classes=classes, channels=channels, size=size)


def _stages(row: list[Layer], flows: list[_Map], names: list[str], channels: int) -> tuple[Stage, ...]:
    if not row:
        return (Stage(name="images", channels=channels, stride=1),)
    stages: list[Stage] = []
    stride = 1
    for index, layer in enumerate(row):
        if isinstance(layer, Conv | Pool):
            step = _window(layer)[1]
            if max(step) > 1:
                if index:
                    stages.append(Stage(name=names[index - 1], channels=flows[index - 1].channels, stride=stride))
                stride *= max(step)
    stages.append(Stage(name=names[-1], channels=flows[-1].channels, stride=stride))
    return tuple(stages)
