"""Receptive fields against brute force: which rows and columns of the image change a unit when they are changed."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from striate.analysis.inspection import inspect_network
from striate.analysis.positions import State
from striate.analysis.receptive_field import Fields
from striate.analysis.trace import trace
from striate.nn.lecun import Subsampling, TableConv2d

SIZE = (48, 40)


class Graph(nn.Module):
    """A network given as layers and a function of them."""

    def __init__(self, forward, **layers):
        super().__init__()
        self.layers = nn.ModuleDict(layers)
        self.function = forward

    def forward(self, x):
        return self.function(x, **self.layers)


def conv(cin, cout, k=3, s=1, p=0, d=1, **more):
    return nn.Conv2d(cin, cout, k, s, p, d, **more)


def up(cin, cout, k, s, p=0, **more):
    return nn.ConvTranspose2d(cin, cout, k, s, p, **more)


def option_a(x, a, b):
    y = b(F.relu(a(x)))
    return F.relu(y + F.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, 0, 2)))


def pyramid(mode):
    def forward(x, stem, c2, c3, l1, l2, l3):
        one = F.relu(stem(x))
        two = F.relu(c2(one))
        three = F.relu(c3(two))
        p3 = l3(three)
        p2 = l2(two) + F.interpolate(p3, size=two.shape[-2:], mode=mode)
        return l1(one) + F.interpolate(p2, scale_factor=2, mode=mode)

    return Graph(
        forward,
        stem=conv(3, 4, 3, 2, 1),
        c2=conv(4, 4, 3, 2, 1),
        c3=conv(4, 4, 3, 2, 1),
        l1=conv(4, 4, 1),
        l2=conv(4, 4, 1),
        l3=conv(4, 4, 1),
    )


def unet(x, a, b, c, up, d):
    top = F.relu(a(x))
    middle = F.relu(b(F.max_pool2d(top, 2)))
    back = up(F.relu(c(middle)))
    crop = [(big - small) // 2 for big, small in zip(top.shape[-2:], back.shape[-2:], strict=True)]
    top = top[:, :, crop[0] : crop[0] + back.shape[2], crop[1] : crop[1] + back.shape[3]]
    return d(torch.cat([top, back], 1))


def windows(shift):
    """Self-attention in windows of 4x4 of a map of 12x10 (Liu et al. 2021), the last windows padded."""

    def forward(x, patch, qkv, out):
        maps = F.pad(patch(x).permute(0, 2, 3, 1), (0, 0, 0, 2))
        b, h, w, c = maps.shape
        if shift:
            maps = torch.roll(maps, (-shift, -shift), (1, 2))
        parts = maps.view(b, h // 4, 4, w // 4, 4, c).permute(0, 1, 3, 2, 4, 5).reshape(-1, 16, c)
        q, k, v = qkv(parts).reshape(parts.shape[0], 16, 3, 2, c // 2).permute(2, 0, 3, 1, 4)
        scores = q @ k.transpose(-2, -1)
        if shift:  # what was rolled in from the other side is another image region
            region = [torch.tensor([0] * (n - 4) + [1] * (4 - shift) + [2] * shift) for n in (h, w)]
            region = (region[0][:, None] * 3 + region[1]).view(h // 4, 4, w // 4, 4).transpose(1, 2).reshape(-1, 1, 16)
            scores = scores.view(b, -1, 2, 16, 16).masked_fill(region.transpose(1, 2)[:, None] != region[:, None], -1e9)
            scores = scores.view(-1, 2, 16, 16)
        y = scores.softmax(-1) @ v
        y = out(y.transpose(1, 2).reshape(-1, 16, c))
        y = y.view(b, h // 4, w // 4, 4, 4, c).permute(0, 1, 3, 2, 4, 5).reshape(b, h, w, c)
        if shift:
            y = torch.roll(y, (shift, shift), (1, 2))
        return (maps + y if not shift else y)[:, :, :10].permute(0, 3, 1, 2)

    return Graph(forward, patch=conv(3, 4, 4, 4), qkv=nn.Linear(4, 12), out=nn.Linear(4, 4))


def asymmetric(x, a, b, c):
    return torch.cat([a(x), c(b(x)), F.avg_pool2d(F.pad(x, (0, 1, 1, 0)), 2, 1)], 1)


def sliced(x, a, b):
    y = torch.cat([x[..., ::2, ::2], x[..., 1::2, ::2], x[..., ::2, 1::2], x[..., 1::2, 1::2]], 1)
    return b(F.relu(a(y)))


def mixed_speed(x, a, b):
    y = F.relu(a(x))
    context = F.interpolate(b(F.avg_pool2d(y, 4)), size=y.shape[-2:], mode="nearest")
    return y + context


def channels_last(x, stem, depthwise, norm, full, back):
    y = stem(x)
    z = depthwise(y).permute(0, 2, 3, 1)
    return y + back(F.gelu(full(norm(z)))).permute(0, 3, 1, 2)


def in_place(x, a, b):
    y = a(x)
    z = torch.zeros_like(y)
    z[:, :2] = b(y)[:, :2]
    z[:, 2:] = y[:, 2:]
    return z


def patches(x, full):
    columns = F.unfold(x, 3, padding=1, stride=2)
    return full(columns.transpose(1, 2)).transpose(1, 2).reshape(x.shape[0], 4, x.shape[2] // 2, x.shape[3] // 2)


GRAPHS = {
    "three 3x3": nn.Sequential(conv(3, 4), nn.ReLU(), conv(4, 4), nn.ReLU(), conv(4, 4)),
    "three 3x3 of stride 3": nn.Sequential(conv(3, 4, 3, 3), conv(4, 4, 3, 3), conv(4, 4, 2, 1)),
    "strides and padding": nn.Sequential(conv(3, 4, 7, 2, 3), nn.MaxPool2d(3, 2, 1), conv(4, 4, 3, 2, 1)),
    "oblong": nn.Sequential(conv(3, 4, (1, 7), 1, (0, 3)), conv(4, 4, (5, 1), (2, 1), (1, 0))),
    "dilation": nn.Sequential(conv(3, 4, 3, 1, 1, 1), conv(4, 4, 3, 1, 2, 2), conv(4, 4, 3, 2, 4, 4)),
    "dilated even kernel": nn.Sequential(conv(3, 4, 2, 1, 0, 3), nn.MaxPool2d(2, 2, dilation=2)),
    "same padding, even kernel": nn.Sequential(nn.Conv2d(3, 4, 4, padding="same"), conv(4, 4, 3, 2)),
    "grouped": nn.Sequential(conv(3, 6, 3, 2, 1), conv(6, 6, 5, 1, 2, groups=6), conv(6, 4, 1, groups=2)),
    "overlapping pooling, rounded up": nn.Sequential(
        conv(3, 4, 3, 1, 1), nn.MaxPool2d(3, 2, ceil_mode=True), nn.AvgPool2d(3, 2, 1)
    ),
    "lp pooling": nn.Sequential(nn.ReLU(), nn.LPPool2d(2, 3, 2)),
    "response normalisation": nn.Sequential(conv(3, 6, 5, 2), nn.LocalResponseNorm(3), nn.MaxPool2d(3, 2)),
    "inception": Graph(
        lambda x, a, b, c, d: torch.cat([a(x), b(x), c(x), d(F.max_pool2d(x, 3, 1, 1))], 1),
        a=conv(3, 2, 1),
        b=nn.Sequential(conv(3, 2, 1), conv(2, 2, 3, 1, 1)),
        c=conv(3, 2, 5, 1, 2),
        d=conv(3, 2, 1),
    ),
    "inception with reduction": Graph(
        lambda x, a, b: torch.cat([a(x), b(x), F.max_pool2d(x, 3, 2)], 1),
        a=conv(3, 2, 3, 2),
        b=nn.Sequential(conv(3, 2, 1), conv(2, 2, 3, 1, 1), conv(2, 2, 3, 2)),
    ),
    "branches of unlike padding": Graph(
        asymmetric, a=conv(3, 2, 3, 1, 1), b=conv(3, 2, (1, 5), 1, (0, 2)), c=conv(2, 2, (5, 1), 1, (2, 0))
    ),
    "residual": Graph(
        lambda x, a, b, short: F.relu(b(F.relu(a(x))) + short(x)),
        a=conv(3, 4, 3, 2, 1),
        b=nn.Sequential(nn.BatchNorm2d(4), conv(4, 4, 3, 1, 1)),
        short=conv(3, 4, 1, 2),
    ),
    "residual, option A": Graph(option_a, a=conv(3, 4, 3, 2, 1), b=conv(4, 5, 3, 1, 1)),
    "dense": Graph(
        lambda x, a, b, c: F.avg_pool2d(c(torch.cat([x, a(x), b(torch.cat([x, a(x)], 1))], 1)), 2),
        a=conv(3, 2, 3, 1, 1),
        b=conv(5, 2, 3, 1, 1),
        c=conv(7, 3, 1),
    ),
    "pyramid, nearest": pyramid("nearest"),
    "pyramid, bilinear": pyramid("bilinear"),
    "transposed 2/2": nn.Sequential(conv(3, 4, 3, 2, 1), up(4, 4, 2, 2), conv(4, 4, 3)),
    "transposed 4/2": nn.Sequential(conv(3, 4, 3, 4), up(4, 4, 4, 2, 1), up(4, 4, 4, 2, 1)),
    "transposed 3/2 with output padding": nn.Sequential(conv(3, 4, 3, 2, 1), up(4, 4, 3, 2, 1, output_padding=1)),
    "transposed with dilation": nn.Sequential(conv(3, 4, 5, 3), up(4, 4, 3, 3, 2, dilation=2)),
    "transposed with holes": nn.Sequential(conv(3, 4, 3, 2, 1), up(4, 4, 1, 2), conv(4, 4, 3, 1, 1)),
    "u-net with crops": Graph(unet, a=conv(3, 4), b=conv(4, 4), c=conv(4, 4), up=up(4, 4, 2, 2), d=conv(8, 4)),
    "bicubic": nn.Sequential(conv(3, 4, 3, 2, 1), nn.Upsample(scale_factor=2, mode="bicubic")),
    "bilinear, corners aligned": nn.Sequential(
        conv(3, 4, 3, 2, 1), nn.Upsample(size=(47, 39), mode="bilinear", align_corners=True)
    ),
    "bilinear, by a third": nn.Sequential(conv(3, 4, 3, 2, 1), nn.Upsample(size=(32, 30), mode="bilinear")),
    "nearest, odd": nn.Sequential(conv(3, 4, 4, 4), nn.Upsample(size=(17, 23)), conv(4, 4, 3, 1, 1)),
    "downsampled": nn.Sequential(nn.Upsample(scale_factor=1 / 3, mode="bilinear"), conv(3, 4, 3)),
    "two speeds": Graph(mixed_speed, a=conv(3, 4, 3, 1, 1), b=conv(4, 4, 1)),
    "pixel shuffle": nn.Sequential(conv(3, 8, 3, 2, 1), nn.PixelShuffle(2), conv(2, 4, 3, 1, 1)),
    "pixel unshuffle": nn.Sequential(nn.PixelUnshuffle(2), conv(12, 4, 3, 1, 1)),
    "space to depth by slices": Graph(sliced, a=conv(12, 4, 3, 1, 1), b=conv(4, 4, 3, 2, 1)),
    "reflection and replication": nn.Sequential(
        nn.ReflectionPad2d(2), conv(3, 4, 5), nn.ReplicationPad2d(1), conv(4, 4)
    ),
    "adaptive, even": nn.Sequential(conv(3, 4, 3, 1, 1), nn.AdaptiveAvgPool2d((12, 10)), conv(4, 4, 3, 1, 1)),
    "adaptive, uneven": nn.Sequential(conv(3, 4, 3, 1, 1), nn.AdaptiveMaxPool2d((11, 9))),
    "adaptive to its own size": nn.Sequential(conv(3, 4, 3, 2, 1), nn.AdaptiveAvgPool2d((24, 20))),
    "channels last": Graph(
        channels_last,
        stem=conv(3, 4, 4, 4),
        depthwise=conv(4, 4, 7, 1, 3, groups=4),
        norm=nn.LayerNorm(4),
        full=nn.Linear(4, 16),
        back=nn.Linear(16, 4),
    ),
    "channel shuffle": nn.Sequential(conv(3, 4, 3, 2, 1), nn.ChannelShuffle(2), conv(4, 4, 3, 1, 1, groups=4)),
    "windowed attention": windows(0),
    "shifted windowed attention": windows(2),
    "written in place": Graph(in_place, a=conv(3, 4, 3, 2, 1), b=conv(4, 4, 3, 1, 1)),
    "unfolded patches": Graph(patches, full=nn.Linear(27, 4)),
    "table convolution and subsampling": nn.Sequential(
        TableConv2d(3, ((0, 1), (1, 2), (0, 2), (0, 1, 2)), 5), Subsampling(4), nn.Tanh(), conv(4, 4, 3)
    ),
}


def _positive(network):
    """Weights that let every pixel be seen, and none cancel another."""
    torch.manual_seed(0)
    for parameter in network.parameters():
        nn.init.uniform_(parameter, 0.02, 0.05) if parameter.dim() > 1 else nn.init.uniform_(parameter, 0.1, 0.2)
    return network.double().eval()


def _seen(network, axis):
    """For every unit along ``axis`` the first and last row (0) or column (1) that changes it."""
    images = torch.rand(1, 3, *SIZE, dtype=torch.float64, generator=torch.Generator().manual_seed(0)) * 0.1
    changed = images.repeat(SIZE[axis], 1, 1, 1)
    rows = torch.arange(SIZE[axis])
    if axis == 0:
        changed[rows, :, rows] += 0.5
    else:
        changed[rows, :, :, rows] += 0.5
    with torch.no_grad():
        before, after = network(images), network(changed)
    differs = ((after - before).abs() > 1e-13 * before.abs()).any(1)  # (rows, h, w)
    differs = differs.any(2 - axis)  # (rows, units)
    return [column.nonzero().flatten().tolist() for column in differs.T]


@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel lengths")
@pytest.mark.parametrize("name", GRAPHS)
def test_every_unit_sees_what_changes_it(name):
    network = _positive(GRAPHS[name])
    record = trace(network, (3, *SIZE))
    fields = Fields(record)
    for operation in record.operations:
        fields.step(operation)
    state = fields.of(record.calls[0].outputs[0])
    assert isinstance(state, State)
    for axis in (0, 1):
        span, compared = state.spans[axis], 0
        for unit, seen in enumerate(_seen(network, axis)):
            low, high = span.at(unit)
            if low > high:
                assert not seen
            elif low >= 0 and high < SIZE[axis]:  # nothing of the border
                assert (low, high) == (seen[0], seen[-1]), (axis, unit)
                compared += 1
            else:
                assert seen[0] >= low
                assert seen[-1] <= high
        assert compared >= 2


def _last(network, size=(224, 224)):
    return inspect_network(network, (3, *size), name="").layers[-1].receptive_field


@pytest.mark.parametrize(
    ("network", "size", "jump"),
    [
        (nn.Sequential(*(conv(3, 3) for _ in range(3))), 7, 1),
        (nn.Sequential(*(conv(3, 3, 3, 3) for _ in range(3))), 27, 27),  # what is taught for three 3x3 of stride 1
        (nn.Sequential(*(conv(3, 3, 3, 1, d, d) for d in (1, 2, 4, 8))), 31, 1),  # Yu and Koltun 2016, figure 1
    ],
)
def test_known_chains(network, size, jump):
    field = _last(network)
    assert (field.size, field.jump, field.whole) == ((size, size), (jump, jump), False)


def test_offsets_are_centres_in_pixels():
    assert _last(conv(3, 4, 16, 16)).offset == (7.5, 7.5)
    assert _last(conv(3, 4, 7, 2, 3)).offset == (0, 0)
    assert _last(conv(3, 4, (3, 5))).offset == (1, 2)


@pytest.mark.parametrize(
    "network",
    [
        nn.Sequential(conv(3, 4, 3, 2, 1), nn.AdaptiveAvgPool2d(1)),
        nn.Sequential(conv(3, 4, 3, 2, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2)),
        nn.Sequential(conv(3, 4, 32, 32), nn.Flatten(), nn.Linear(4 * 49, 2)),
        nn.Sequential(conv(3, 4, 32, 32), nn.Flatten(2), nn.Linear(49, 49)),
        nn.Sequential(conv(3, 4, 32, 32), nn.Flatten(2), nn.Softmax(2)),
        Graph(lambda x: x.mean((2, 3)).amax(1)),
        Graph(lambda x: x + x.mean((2, 3), keepdim=True)),
        Graph(lambda x: torch.cat([x, F.interpolate(x.mean((2, 3), keepdim=True), size=224)], 1)),
    ],
)
def test_what_crosses_all_positions_sees_the_whole_image(network):
    field = _last(network)
    assert field.whole
    assert (field.size, field.jump, field.offset) == ((224, 224), (0, 0), (111.5, 111.5))


def test_pooling_along_one_axis_is_whole_along_that_axis():
    field = _last(Graph(lambda x, a: a(x).mean(2), a=conv(3, 4, 3, 2, 1)))
    assert (field.size, field.whole) == ((224, 3), False)


@pytest.mark.parametrize("gate", [lambda x, g: x * g, lambda x, g: g * x, lambda x, g: x / g])
def test_a_gate_without_position_leaves_the_local_field(gate):
    network = Graph(
        lambda x, a, fc: gate(a(x), fc(a(x).mean((2, 3), keepdim=True)).sigmoid()), a=conv(3, 4), fc=conv(4, 4, 1)
    )
    assert _last(network).size == (3, 3)


def test_a_token_for_the_class_sees_the_whole_image_after_attention_only():
    class Tokens(nn.Module):
        def __init__(self):
            super().__init__()
            self.patch = conv(3, 8, 32, 32)
            self.token = nn.Parameter(torch.zeros(1, 1, 8))
            self.norm = nn.LayerNorm(8)
            self.attention = nn.MultiheadAttention(8, 2, batch_first=True)

        def forward(self, x):
            x = self.patch(x).flatten(2).transpose(1, 2)
            x = self.norm(torch.cat([self.token.expand(len(x), -1, -1), x], 1))
            return self.attention(x, x, x, need_weights=False)[0][:, 0]

    layers = {layer.name: layer.receptive_field for layer in inspect_network(Tokens(), (3, 224, 224), name="").layers}
    assert (layers["norm"].size, layers["norm"].whole) == ((32, 32), False)
    assert layers["attention"].whole


def test_what_no_rule_covers_is_unknown_and_so_is_what_follows():
    network = nn.Sequential(conv(3, 3), Graph(lambda x: torch.flip(x, (3,))), conv(3, 4))
    first, flipped, last = inspect_network(network, (3, 32, 32), name="").layers
    assert first.receptive_field is not None
    assert flipped.receptive_field is last.receptive_field is None


def test_the_published_field_of_vgg16():
    import torchvision

    with torch.device("meta"):
        network = torchvision.models.vgg16()
    fields = {layer.name: layer.receptive_field for layer in inspect_network(network, (3, 224, 224), name="").layers}
    # Araujo, Norris, Sim: "Computing Receptive Fields of Convolutional Neural Networks", Distill 2019, table
    assert (fields["features.30"].size, fields["features.30"].jump) == ((212, 212), (32, 32))
