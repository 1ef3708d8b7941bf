"""AlexNet: the network that won ImageNet in 2012.

Krizhevsky, Sutskever, Hinton: "ImageNet Classification with Deep Convolutional Neural Networks", NIPS 2012, section 3.5
and figure 2. `alexnet_two_tower` is the published network, whose two halves lived on two devices and met in conv3 and
the full layers only: convolutions of two groups. `alexnet_one_tower` is the same without the split, as it is taught.

    layer   what                            output         parameters, one tower   two towers
    input                                    3 x 227 x 227
    conv1   11x11, stride 4                 96 x  55 x  55                34,944       34,944
    pool1   normalisation, max 3x3/2        96 x  27 x  27
    conv2   5x5, padding 2                 256 x  27 x  27               614,656      307,456
    pool2   normalisation, max 3x3/2       256 x  13 x  13
    conv3   3x3, padding 1                 384 x  13 x  13               885,120      885,120
    conv4   3x3, padding 1                 384 x  13 x  13             1,327,488      663,936
    conv5   3x3, padding 1                 256 x  13 x  13               884,992      442,624
    pool5   max 3x3/2                      256 x   6 x   6
    fc6     full                          4096                        37,752,832   37,752,832
    fc7     full                          4096                        16,781,312   16,781,312
    fc8     full                          1000                         4,097,000    4,097,000
                                                                      62,378,344   60,965,224
    multiply-accumulates                                           1,135,256,096  724,406,816

ReLU follows every layer but the last, dropout of 0.5 the first two full ones. The convolutions hold 6% of the
parameters of one tower and do 95% of its work.

Where the paper's own figures do not add up (models/published/alexnet.py):
- Its input of 224x224 gives no map of 55x55 without padding; 227x227 does.
- Figure 2 counts 253,440 units in the first layer, 55 x 48 x 96; 55 x 55 x 96 are 290,400.
- Its 650,000 neurons are 659,272 with that, 622,312 as figure 2 counts; its 60 million parameters are 61 million.

`alexnet` is torchvision's network of that name, the one tower of Krizhevsky: "One weird trick for parallelizing
convolutional neural networks", 2014, arXiv 1404.5997: 64, 192, 384, 256 and 256 maps, no normalisation, 224x224 pixels
with a padding of 2. 61,100,840 parameters, 714,188,480 multiply-accumulates.

Weights start as in the paper (section 5): normal with standard deviation 0.01; biases 1 in conv2, conv4, conv5 and the
hidden full layers, where positive inputs give the rectifiers something to learn from at once, and 0 elsewhere.

Differences:
- The local response normalisation of the two towers sums over neighbours across their border, as the paper's formula
  and Caffe do; on two devices each saw its own maps only.
- The weights of fc8 start with a deviation of 0.001. torch's dropout doubles what it keeps in training, where the
  paper's halves it in use, and on doubled inputs 0.01 puts the first loss far above ln K.
- In torchvision's `alexnet` dropout comes before fc6 and fc7, here after them, as in the paper. It has no weights.
- Any number of channels and classes, and any size from `SMALLEST`: the last map is averaged to 6x6.

Letters: B images, C channels, H height, W width, K classes.
"""

from collections import OrderedDict
from dataclasses import dataclass

from torch import Tensor, nn

from striate.models.contract import Backbone, Classifier, Stage
from striate.models.weights import Names, Origin
from striate.nn.full_head import full_head
from striate.nn.lrn import local_response_norm


@dataclass(frozen=True, kw_only=True)
class Spec:
    """One network of the table."""

    maps: tuple[int, int, int, int, int]  # of conv1 to conv5
    padding: int  # of conv1
    towers: int  # groups of conv2, conv4 and conv5
    normalise: bool  # after conv1 and conv2


VARIANTS: dict[str, Spec] = {
    "alexnet": Spec(maps=(64, 192, 384, 256, 256), padding=2, towers=1, normalise=False),
    "alexnet_one_tower": Spec(maps=(96, 256, 384, 384, 256), padding=0, towers=1, normalise=True),
    "alexnet_two_tower": Spec(maps=(96, 256, 384, 384, 256), padding=0, towers=2, normalise=True),
}

# Each of the three poolings must see 3x3: 15x15 after conv1.
SMALLEST: dict[str, tuple[int, int]] = {
    "alexnet": (63, 63),
    "alexnet_one_tower": (67, 67),
    "alexnet_two_tower": (67, 67),
}


class AlexNet(Backbone):
    """conv1 to pool5, a stage up to each pooling."""

    def __init__(self, spec: Spec, *, channels: int):
        super().__init__()
        first, second, third, fourth, fifth = spec.maps

        def normalisation() -> nn.Module:
            return local_response_norm() if spec.normalise else nn.Identity()

        self.stage1 = nn.Sequential(
            OrderedDict[str, nn.Module](
                conv1=nn.Conv2d(channels, first, 11, stride=4, padding=spec.padding),
                relu1=nn.ReLU(inplace=True),
                norm1=normalisation(),
                pool1=nn.MaxPool2d(3, stride=2),
            )
        )
        self.stage2 = nn.Sequential(
            OrderedDict[str, nn.Module](
                conv2=nn.Conv2d(first, second, 5, padding=2, groups=spec.towers),
                relu2=nn.ReLU(inplace=True),
                norm2=normalisation(),
                pool2=nn.MaxPool2d(3, stride=2),
            )
        )
        self.stage3 = nn.Sequential(
            OrderedDict[str, nn.Module](
                conv3=nn.Conv2d(second, third, 3, padding=1),
                relu3=nn.ReLU(inplace=True),
                conv4=nn.Conv2d(third, fourth, 3, padding=1, groups=spec.towers),
                relu4=nn.ReLU(inplace=True),
                conv5=nn.Conv2d(fourth, fifth, 3, padding=1, groups=spec.towers),
                relu5=nn.ReLU(inplace=True),
                pool5=nn.MaxPool2d(3, stride=2),
            )
        )
        self.stages = (
            Stage(name="stage1", channels=first, stride=8),
            Stage(name="stage2", channels=second, stride=16),
            Stage(name="stage3", channels=fifth, stride=32),
        )

    def forward(self, images: Tensor) -> list[Tensor]:
        """(B, C, H, W) images to the map after each pooling."""
        first = self.stage1(images)
        second = self.stage2(first)
        return [first, second, self.stage3(second)]


def build(variant: str, *, classes: int, channels: int, size: tuple[int, int]) -> Classifier:
    """A network of `VARIANTS`; ``size`` is only noted, any size from `SMALLEST` can be given to it."""
    backbone = AlexNet(VARIANTS[variant], channels=channels)
    head = full_head(backbone.stages[-1].channels, 6, classes)
    model = Classifier(backbone, head, classes=classes, channels=channels, size=size)
    for name, layer in model.named_modules():
        if isinstance(layer, nn.Conv2d | nn.Linear):
            nn.init.normal_(layer.weight, std=0.001 if name.endswith("fc8") else 0.01)
            assert layer.bias is not None
            positive = name.endswith(("conv2", "conv4", "conv5", "fc6", "fc7"))
            nn.init.constant_(layer.bias, 1.0 if positive else 0.0)
    return model


_TORCHVISION: Names = (
    *(
        (f"features.{there}.{{p}}", f"backbone.{here}.{{p}}")
        for there, here in ((0, "stage1.conv1"), (3, "stage2.conv2"), (6, "stage3.conv3"))
    ),
    *((f"features.{there}.{{p}}", f"backbone.stage3.{here}.{{p}}") for there, here in ((8, "conv4"), (10, "conv5"))),
    *((f"classifier.{there}.{{p}}", f"head.{here}.{{p}}") for there, here in ((1, "fc6"), (4, "fc7"), (6, "fc8"))),
)


def origins(variant: str) -> dict[str, Origin]:
    """Libraries that have the network ``variant`` too."""
    if variant != "alexnet":
        return {}
    return {"torchvision": Origin(model="alexnet", names=_TORCHVISION)}
