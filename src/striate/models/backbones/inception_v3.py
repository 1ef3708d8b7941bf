"""Inception v3: factorised convolutions and efficient grid reduction.

Szegedy, Vanhoucke, Ioffe, Shlens, Wojna: "Rethinking the Inception Architecture for Computer Vision", 2015, arXiv
1512.00567 (CVPR 2016), table 1 and figures 5 to 8 and 10. Error on ImageNet 21.2% top-1 and 5.6% top-5 with one network
and one crop, "5 billion multiply-adds per inference" and "less than 25 million parameters" (abstract).

    the paper's table 1                           the released network, as here          parameters           MACs
    type            patch/stride   input size     layer               output
    conv            3x3/2          299x299x3      conv1a 3x3/2        149x149x32                928     19,181,664
    conv            3x3/1          149x149x32     conv2a 3x3          147x147x32              9,280    199,148,544
    conv padded     3x3/1          147x147x32     conv2b 3x3, padded  147x147x64             18,560    398,297,088
    pool            3x3/2          147x147x64     pool1 3x3/2         73x73x64
    conv            3x3/1          73x73x64       conv3b 1x1          73x73x80                5,280     27,284,480
    conv            3x3/2          71x71x80       conv4a 3x3          71x71x192             138,624    696,867,840
    conv            3x3/1          35x35x192      pool2 3x3/2         35x35x192
    3 x Inception   figure 5       35x35x288      mixed5b-d           35x35x256, 288, 288     818,528    999,129,600
    5 x Inception   figure 6       17x17x768      mixed6a, 6b-e       17x17x768             7,974,656  2,369,319,936
    2 x Inception   figure 7       8x8x1280       mixed7a, 7b-c       8x8x1280, 2048       12,819,712  1,001,938,944
    pool            8x8            8x8x2048       average pool        1x1x2048
    linear          logits         1x1x2048       fc                  1x1x1000            2,049,000      2,048,000
    softmax         classifier     1x1x1000                                              23,834,568  5,713,216,096

Table 1 does not describe the network that Google released with the paper's results, and that torchvision and timm have
too; here is the released one. It differs by the layers on the right, by 5x5 kernels in one branch of the 35x35 modules
(figure 5 has 3x3), and by the auxiliary classifier, which ends in a 5x5 convolution with 768 filters (figure 8: a full
layer of 1,024). It takes 5.7 billion multiply-accumulates instead of the 5 billion (abstract) and 4.8 billion (table
3). The auxiliary classifier reads the last 17x17 map and adds 3,326,696 parameters, 27,161,264 in all; its loss counts
0.4 as in Google's training code. Dropout is 50% as in torchvision (Google's code: 20%); batch normalisation has
epsilon 0.001. Weights start as in `nn/initialise.py`, which the paper leaves open.

Differences from torchvision: its `transform_input`, which its official weights are used with, turns images normalised
by ImageNet's mean and deviation into (pixel - 0.5) / 0.5, and is a matter of the preprocessing here. For images that
are not 299x299 the auxiliary classifier pools to 5x5, where torchvision's refuses smaller ones and convolves over more
places of larger ones. In a batch of one, where its last normalisation sees one value per channel, the running
statistics are used. timm's `inception_v3` is the same network, but without auxiliary classifier unless asked for: with
`aux_logits=True` its names are torchvision's.

Differences from the paper: any number of channels and classes.

Letters: B images, C channels, H height, W width, K classes.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from striate.models.contract import Backbone, Classifier, Stage
from striate.models.weights import Names, Origin
from striate.nn.conv import ConvNormAct
from striate.nn.initialise import initialise
from striate.nn.pooled_head import PooledHead

AUXILIARY_WEIGHT = 0.4  # of Google's training code; the paper gives none
DROPOUT = 0.5  # of torchvision
NORM_EPS = 1e-3  # of Google's code
SMALLEST = (107, 107)  # from which the 17x17 map has the 5x5 that the auxiliary classifier pools


@dataclass(frozen=True, kw_only=True)
class Spec:
    """The numbers that change from module to module."""

    pool_proj: tuple[int, int, int]  # filters after the pooling in mixed5b to mixed5d
    seven: tuple[int, int, int, int]  # filters inside the 7x7 branches of mixed6b to mixed6e


VARIANTS: dict[str, Spec] = {"inception_v3": Spec(pool_proj=(32, 64, 64), seven=(128, 160, 160, 192))}


def _conv(
    in_channels: int,
    out_channels: int,
    kernel_size: int | tuple[int, int],
    stride: int = 1,
    *,
    padding: int | None = None,
) -> ConvNormAct:
    return ConvNormAct(in_channels, out_channels, kernel_size, stride, padding=padding, eps=NORM_EPS)


def _pool_proj(in_channels: int, out_channels: int) -> nn.Sequential:
    return nn.Sequential(nn.AvgPool2d(3, stride=1, padding=1), _conv(in_channels, out_channels, 1))


class Inception35(nn.Module):
    """Module for the 35x35 grid (figure 5): a 5x5 convolution and one factorised into two of 3x3."""

    def __init__(self, in_channels: int, pool_proj: int):
        super().__init__()
        self.conv1x1 = _conv(in_channels, 64, 1)
        self.conv5x5 = nn.Sequential(_conv(in_channels, 48, 1), _conv(48, 64, 5))
        self.double3x3 = nn.Sequential(_conv(in_channels, 64, 1), _conv(64, 96, 3), _conv(96, 96, 3))
        self.pool_proj = _pool_proj(in_channels, pool_proj)

    def forward(self, x: Tensor) -> Tensor:
        """From (B, in_channels, H, W) to (B, 224 + pool_proj, H, W)."""
        return torch.cat([self.conv1x1(x), self.conv5x5(x), self.double3x3(x), self.pool_proj(x)], 1)


class Reduction35(nn.Module):
    """From the 35x35 to the 17x17 grid (figure 10): convolution and pooling side by side, so that no map is narrow."""

    def __init__(self, in_channels: int):
        super().__init__()
        self.conv3x3 = _conv(in_channels, 384, 3, 2, padding=0)
        self.double3x3 = nn.Sequential(_conv(in_channels, 64, 1), _conv(64, 96, 3), _conv(96, 96, 3, 2, padding=0))
        self.pool = nn.MaxPool2d(3, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        """From (B, in_channels, H, W) to (B, 480 + in_channels, (H - 3) / 2 + 1, (W - 3) / 2 + 1), rounded down."""
        return torch.cat([self.conv3x3(x), self.double3x3(x), self.pool(x)], 1)


class Inception17(nn.Module):
    """Module for the 17x17 grid (figure 6 with n = 7): 7x7 convolutions factorised into 1x7 and 7x1."""

    def __init__(self, in_channels: int, seven: int):
        super().__init__()
        self.conv1x1 = _conv(in_channels, 192, 1)
        self.conv7x7 = nn.Sequential(
            _conv(in_channels, seven, 1),
            _conv(seven, seven, (1, 7)),
            _conv(seven, 192, (7, 1)),
        )
        self.double7x7 = nn.Sequential(
            _conv(in_channels, seven, 1),
            _conv(seven, seven, (7, 1)),
            _conv(seven, seven, (1, 7)),
            _conv(seven, seven, (7, 1)),
            _conv(seven, 192, (1, 7)),
        )
        self.pool_proj = _pool_proj(in_channels, 192)

    def forward(self, x: Tensor) -> Tensor:
        """From (B, in_channels, H, W) to (B, 768, H, W)."""
        return torch.cat([self.conv1x1(x), self.conv7x7(x), self.double7x7(x), self.pool_proj(x)], 1)


class Reduction17(nn.Module):
    """From the 17x17 to the 8x8 grid (figure 10)."""

    def __init__(self, in_channels: int):
        super().__init__()
        self.conv3x3 = nn.Sequential(_conv(in_channels, 192, 1), _conv(192, 320, 3, 2, padding=0))
        self.conv7x7x3 = nn.Sequential(
            _conv(in_channels, 192, 1),
            _conv(192, 192, (1, 7)),
            _conv(192, 192, (7, 1)),
            _conv(192, 192, 3, 2, padding=0),
        )
        self.pool = nn.MaxPool2d(3, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        """From (B, in_channels, H, W) to (B, 512 + in_channels, (H - 3) / 2 + 1, (W - 3) / 2 + 1), rounded down."""
        return torch.cat([self.conv3x3(x), self.conv7x7x3(x), self.pool(x)], 1)


class Fork(nn.Module):
    """1x3 and 3x1 convolutions of the same map side by side (figure 7)."""

    def __init__(self, channels: int):
        super().__init__()
        self.horizontal = _conv(channels, channels, (1, 3))
        self.vertical = _conv(channels, channels, (3, 1))

    def forward(self, x: Tensor) -> Tensor:
        """From (B, channels, H, W) to (B, 2 channels, H, W)."""
        return torch.cat([self.horizontal(x), self.vertical(x)], 1)


class Inception8(nn.Module):
    """Module for the 8x8 grid (figure 7): wide, for the high-dimensional features before the classifier."""

    def __init__(self, in_channels: int):
        super().__init__()
        self.conv1x1 = _conv(in_channels, 320, 1)
        self.conv3x3 = nn.Sequential(_conv(in_channels, 384, 1), Fork(384))
        self.double3x3 = nn.Sequential(_conv(in_channels, 448, 1), _conv(448, 384, 3), Fork(384))
        self.pool_proj = _pool_proj(in_channels, 192)

    def forward(self, x: Tensor) -> Tensor:
        """From (B, in_channels, H, W) to (B, 2048, H, W)."""
        return torch.cat([self.conv1x1(x), self.conv3x3(x), self.double3x3(x), self.pool_proj(x)], 1)


class InceptionV3(Backbone):
    """Table 1 up to the last pooling."""

    def __init__(self, spec: Spec, *, channels: int):
        super().__init__()
        first, second, third = spec.pool_proj
        self.conv1a = _conv(channels, 32, 3, 2, padding=0)
        self.conv2a = _conv(32, 32, 3, padding=0)
        self.conv2b = _conv(32, 64, 3)
        self.pool1 = nn.MaxPool2d(3, stride=2)
        self.conv3b = _conv(64, 80, 1)
        self.conv4a = _conv(80, 192, 3, padding=0)
        self.pool2 = nn.MaxPool2d(3, stride=2)
        self.mixed5b = Inception35(192, first)
        self.mixed5c = Inception35(224 + first, second)
        self.mixed5d = Inception35(224 + second, third)
        self.mixed6a = Reduction35(224 + third)
        self.mixed6b = Inception17(768, spec.seven[0])
        self.mixed6c = Inception17(768, spec.seven[1])
        self.mixed6d = Inception17(768, spec.seven[2])
        self.mixed6e = Inception17(768, spec.seven[3])
        self.mixed7a = Reduction17(768)
        self.mixed7b = Inception8(1280)
        self.mixed7c = Inception8(2048)
        self.stages = (
            Stage(name="conv2b", channels=64, stride=2),
            Stage(name="conv4a", channels=192, stride=4),
            Stage(name="mixed5d", channels=224 + third, stride=8),
            Stage(name="mixed6e", channels=768, stride=16),
            Stage(name="mixed7c", channels=2048, stride=32),
        )

    def forward(self, images: Tensor) -> list[Tensor]:
        """(B, C, H, W) images to the last map of each size."""
        two = self.conv2b(self.conv2a(self.conv1a(images)))
        four = self.conv4a(self.conv3b(self.pool1(two)))
        five = self.mixed5d(self.mixed5c(self.mixed5b(self.pool2(four))))
        six = self.mixed6e(self.mixed6d(self.mixed6c(self.mixed6b(self.mixed6a(five)))))
        return [two, four, five, six, self.mixed7c(self.mixed7b(self.mixed7a(six)))]


class Auxiliary(nn.Module):
    """Auxiliary classifier on the 17x17 map (figure 8), as released."""

    def __init__(self, in_channels: int, classes: int):
        super().__init__()
        self.pool = nn.AvgPool2d(5, stride=3)
        self.pool5x5 = nn.AdaptiveAvgPool2d(5)
        self.conv0 = _conv(in_channels, 128, 1)
        self.conv1 = _conv(128, 768, 5, padding=0)
        self.flatten = nn.Flatten()
        self.fc = nn.Linear(768, classes)

    def forward(self, x: Tensor) -> Tensor:
        """From (B, in_channels, H, W) to (B, K) logits."""
        x = self.conv0(self.pool5x5(self.pool(x)))
        if self.training and len(x) == 1:  # one value per channel has no variance
            norm = self.conv1.norm
            x = F.batch_norm(
                self.conv1.conv(x), norm.running_mean, norm.running_var, norm.weight, norm.bias, eps=norm.eps
            )
            x = F.relu(x, inplace=True)
        else:
            x = self.conv1(x)
        return self.fc(self.flatten(x))


def build(variant: str, *, classes: int, channels: int, size: tuple[int, int]) -> Classifier:
    """A network of `VARIANTS`, initialised as in `nn/initialise.py`; ``size`` is only noted."""
    backbone = InceptionV3(VARIANTS[variant], channels=channels)
    head = PooledHead(2048, classes, dropout=DROPOUT)
    auxiliary = Auxiliary(768, classes)
    model = Classifier(
        backbone,
        head,
        classes=classes,
        channels=channels,
        size=size,
        auxiliary={"mixed6e": auxiliary},
        auxiliary_weight=AUXILIARY_WEIGHT,
    )
    for layer in model.modules():
        if isinstance(layer, nn.Conv2d):
            initialise(layer, "rectifier")
        elif isinstance(layer, nn.Linear):
            initialise(layer, "softmax")
    return model


# torchvision's names of the layers of the parts, and ours.
_BRANCHES = (
    ("branch1x1", "conv1x1"),
    ("branch5x5_1", "conv5x5.0"),
    ("branch5x5_2", "conv5x5.1"),
    ("branch3x3", "conv3x3"),  # of the first reduction
    ("branch3x3_1", "conv3x3.0"),
    ("branch3x3_2", "conv3x3.1"),
    ("branch3x3_2a", "conv3x3.1.horizontal"),
    ("branch3x3_2b", "conv3x3.1.vertical"),
    ("branch3x3dbl_1", "double3x3.0"),
    ("branch3x3dbl_2", "double3x3.1"),
    ("branch3x3dbl_3", "double3x3.2"),
    ("branch3x3dbl_3a", "double3x3.2.horizontal"),
    ("branch3x3dbl_3b", "double3x3.2.vertical"),
    *((f"branch7x7_{place + 1}", f"conv7x7.{place}") for place in range(3)),
    *((f"branch7x7dbl_{place + 1}", f"double7x7.{place}") for place in range(5)),
    *((f"branch7x7x3_{place + 1}", f"conv7x7x3.{place}") for place in range(4)),
    ("branch_pool", "pool_proj.1"),
)
_CONVOLUTIONS = (
    ("Conv2d_1a_3x3", "backbone.conv1a"),
    ("Conv2d_2a_3x3", "backbone.conv2a"),
    ("Conv2d_2b_3x3", "backbone.conv2b"),
    ("Conv2d_3b_1x1", "backbone.conv3b"),
    ("Conv2d_4a_3x3", "backbone.conv4a"),
    *((f"Mixed_{{part}}.{theirs}", f"backbone.mixed{{part}}.{ours}") for theirs, ours in _BRANCHES),
    ("AuxLogits.conv0", "auxiliary.mixed6e.conv0"),
    ("AuxLogits.conv1", "auxiliary.mixed6e.conv1"),
)
TORCHVISION: Names = (
    *((f"{theirs}.conv.weight", f"{ours}.conv.weight") for theirs, ours in _CONVOLUTIONS),
    *((f"{theirs}.bn.{{p}}", f"{ours}.norm.{{p}}") for theirs, ours in _CONVOLUTIONS),
    ("AuxLogits.fc.{p}", "auxiliary.mixed6e.fc.{p}"),
    ("fc.{p}", "head.fc.{p}"),
)


def origins(variant: str) -> Mapping[str, Origin]:
    """Who else has this network, by which names; timm's has no auxiliary classifier."""
    return {"torchvision": Origin(model=variant, names=TORCHVISION)}
