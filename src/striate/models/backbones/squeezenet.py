"""SqueezeNet: AlexNet's accuracy with a fiftieth of its parameters.

Iandola, Han, Moskewicz, Ashraf, Dally, Keutzer: "SqueezeNet: AlexNet-level accuracy with 50x fewer parameters and
<0.5MB model size", 2016, arXiv 1602.07360, table 1 (s: 1x1 kernels that squeeze, e: kernels that expand, e of 1x1 and e
of 3x3):

    layer       output         what          s     e   parameters
    input         3 x 224 x 224
    conv1        96 x 111 x 111   7x7/2                    14,208
    maxpool1     96 x  55 x  55   3x3/2
    fire2       128 x  55 x  55             16    64       11,920
    fire3       128 x  55 x  55             16    64       12,432
    fire4       256 x  55 x  55             32   128       45,344
    maxpool4    256 x  27 x  27   3x3/2
    fire5       256 x  27 x  27             32   128       49,440
    fire6       384 x  27 x  27             48   192      104,880
    fire7       384 x  27 x  27             48   192      111,024
    fire8       512 x  27 x  27             64   256      188,992
    maxpool8    512 x  13 x  12   3x3/2
    fire9       512 x  13 x  13             64   256      197,184
    conv10     1000 x  13 x  13   1x1                     513,000
    avgpool10  1000 x   1 x   1   13x13
                                                        1,248,424

ReLU follows every convolution, dropout of 0.5 fire9. The maps of 111 and 55 want images of 227x227, which the authors'
published code takes; 224x224 give 109 and 54 there, and 27 and 13 again after (models/published/squeezenet.py).

`squeezenet1_1` is the authors' later version, from their repository: conv1 of 64 kernels of 3x3, the poolings after
conv1, fire3 and fire5. 1,235,496 parameters, 349,151,936 multiply-accumulates for 224x224, where `squeezenet1_0` takes
818,924,576. `squeezenet1_0_bypass` adds what fire3, fire5, fire7 and fire9 read to what they give (section 6, simple
bypass); it has no parameters more.

Weights start as in the authors' published code: uniform with variance 1 / fan-in (Caffe's "xavier"), those of conv10
normal with standard deviation 0.01, biases 0.

Differences: conv10 has no padding, as in the table; the authors' code pads it by one, which gives 15x15 scores, the
outer ones of biases only. Any number of channels and classes, and any size from `SMALLEST`.

Letters: B images, C channels, H height, W width, K classes.
"""

from collections import OrderedDict
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from striate.models.contract import Backbone, Classifier, Stage
from striate.models.weights import Names, Origin

# Table 1: kernels that squeeze, by the number of the fire module. Both kinds that expand are four times as many.
SQUEEZE = {2: 16, 3: 16, 4: 32, 5: 32, 6: 48, 7: 48, 8: 64, 9: 64}
BYPASSED = (3, 5, 7, 9)  # section 6


@dataclass(frozen=True, kw_only=True)
class Spec:
    """One network."""

    maps: int  # of conv1
    kernel: int  # of conv1
    fires: tuple[tuple[int, ...], ...]  # numbers of the fire modules between the poolings
    bypass: bool = False


VARIANTS: dict[str, Spec] = {
    "squeezenet1_0": Spec(maps=96, kernel=7, fires=((2, 3, 4), (5, 6, 7, 8), (9,))),
    "squeezenet1_0_bypass": Spec(maps=96, kernel=7, fires=((2, 3, 4), (5, 6, 7, 8), (9,)), bypass=True),
    "squeezenet1_1": Spec(maps=64, kernel=3, fires=((2, 3), (4, 5), (6, 7, 8, 9))),
}

# The last pooling, whose last window may reach over the border, needs 2x2.
SMALLEST: dict[str, tuple[int, int]] = {
    "squeezenet1_0": (21, 21),
    "squeezenet1_0_bypass": (21, 21),
    "squeezenet1_1": (17, 17),
}


class Fire(nn.Module):
    """Squeeze to few maps, expand from them by 1x1 and 3x3 kernels (figure 1)."""

    def __init__(self, channels: int, squeeze: int, *, bypass: bool):
        super().__init__()
        self.squeeze = nn.Conv2d(channels, squeeze, 1)
        self.expand1x1 = nn.Conv2d(squeeze, 4 * squeeze, 1)
        self.expand3x3 = nn.Conv2d(squeeze, 4 * squeeze, 3, padding=1)
        self.bypass = bypass

    def forward(self, x: Tensor) -> Tensor:
        """From (B, channels, H, W) to (B, 8 squeeze, H, W)."""
        squeezed = F.relu(self.squeeze(x), inplace=True)
        expanded = F.relu(torch.cat([self.expand1x1(squeezed), self.expand3x3(squeezed)], 1), inplace=True)
        return expanded + x if self.bypass else expanded


class SqueezeNet(Backbone):
    """conv1, and three stages of a pooling and its fire modules."""

    def __init__(self, spec: Spec, *, channels: int):
        super().__init__()
        self.stem = nn.Sequential(
            OrderedDict[str, nn.Module](
                conv1=nn.Conv2d(channels, spec.maps, spec.kernel, stride=2), relu1=nn.ReLU(inplace=True)
            )
        )
        stages = [Stage(name="stem", channels=spec.maps, stride=2)]
        maps = spec.maps
        for number, fires in enumerate(spec.fires, 1):
            stage = OrderedDict[str, nn.Module](pool=nn.MaxPool2d(3, stride=2, ceil_mode=True))
            for fire in fires:
                stage[f"fire{fire}"] = Fire(maps, SQUEEZE[fire], bypass=spec.bypass and fire in BYPASSED)
                maps = 8 * SQUEEZE[fire]
            self.add_module(f"stage{number}", nn.Sequential(stage))
            stages.append(Stage(name=f"stage{number}", channels=maps, stride=2 ** (number + 1)))
        self.stages = tuple(stages)

    def forward(self, images: Tensor) -> list[Tensor]:
        """(B, C, H, W) images to conv1's map and the last of each stage."""
        x = images
        outputs: list[Tensor] = []
        for stage in self.children():
            x = stage(x)
            outputs.append(x)
        return outputs


def build(variant: str, *, classes: int, channels: int, size: tuple[int, int]) -> Classifier:
    """A network of `VARIANTS`; ``size`` is only noted, any size from `SMALLEST` can be given to it."""
    backbone = SqueezeNet(VARIANTS[variant], channels=channels)
    head = nn.Sequential(
        OrderedDict[str, nn.Module](
            drop9=nn.Dropout(0.5),
            conv10=nn.Conv2d(backbone.stages[-1].channels, classes, 1),
            relu10=nn.ReLU(inplace=True),
            pool10=nn.AdaptiveAvgPool2d(1),
            flatten=nn.Flatten(),
        )
    )
    model = Classifier(backbone, head, classes=classes, channels=channels, size=size)
    for name, layer in model.named_modules():
        if isinstance(layer, nn.Conv2d):
            if name == "head.conv10":
                nn.init.normal_(layer.weight, std=0.01)
            else:
                nn.init.kaiming_uniform_(layer.weight, nonlinearity="linear")
            assert layer.bias is not None
            nn.init.zeros_(layer.bias)
    return model


def _torchvision(spec: Spec) -> Names:
    """Names there: conv1, ReLU, poolings and fire modules numbered in one row."""
    rows = [("features.0.{p}", "backbone.stem.conv1.{p}"), ("classifier.1.{p}", "head.conv10.{p}")]
    there = 2
    for number, fires in enumerate(spec.fires, 1):
        for place, fire in enumerate(fires, there + 1):
            rows.append((f"features.{place}.{{layer}}.{{p}}", f"backbone.stage{number}.fire{fire}.{{layer}}.{{p}}"))
        there += 1 + len(fires)
    return tuple(rows)


def origins(variant: str) -> dict[str, Origin]:
    """Libraries that have the network ``variant`` too."""
    spec = VARIANTS[variant]
    return {} if spec.bypass else {"torchvision": Origin(model=variant, names=_torchvision(spec))}
