"""The network that YOLO stands on, as it was trained to classify; its authors call it "Extraction".

Redmon, Divvala, Girshick, Farhadi: "You Only Look Once: Unified, Real-Time Object Detection", CVPR 2016, arXiv
1506.02640v5, section 2.2: the first 20 convolutions of figure 3, on images half as large as the detector's, then the
average and a full layer. Alternating 1x1 convolutions reduce the features between the 3x3 ones.

    layer     what                                                    output        parameters              MACs
    block1    7x7x64-s-2                                              112x112x64         9,536       118,013,952
    block2    pooling 2x2-s-2; 3x3x192                                56x56x192        110,976       346,816,512
    block3    pooling; 1x1x128, 3x3x256, 1x1x256, 3x3x512             28x28x512      1,566,976     1,226,702,848
    block4    pooling; (1x1x256, 3x3x512) four times, 1x1x512,        14x14x1024    10,232,832     2,003,828,736
              3x3x1024
    block5    pooling; (1x1x512, 3x3x1024) twice                      7x7x1024      10,491,904       513,802,240
    head      average, full layer                                     1000           1,025,000         1,024,000
                                                                                    23,437,224     4,210,188,288

The authors report 88% top-5 on ImageNet's validation images, one crop (section 2.2). Activations are x above zero and
0.1 x below (equation 2).

Differences: every convolution is followed by batch normalisation, as in the networks that the authors released later
(yolov1.cfg of darknet) and not in the paper. A stage is the map before the pooling that the next block begins with.

Letters: B images, C channels, H height, W width, K classes.
"""

from collections.abc import Callable
from functools import partial

from torch import Tensor, nn

from striate.models.contract import Backbone, Classifier, Stage
from striate.models.weights import Origin
from striate.nn.conv import ConvNormAct
from striate.nn.initialise import initialise
from striate.nn.pooled_head import PooledHead

LEAKY: Callable[[], nn.Module] = partial(nn.LeakyReLU, 0.1, inplace=True)  # equation 2

# (kernel, channels) of each convolution of each block, figure 3.
BLOCKS: tuple[tuple[tuple[int, int], ...], ...] = (
    ((7, 64),),
    ((3, 192),),
    ((1, 128), (3, 256), (1, 256), (3, 512)),
    (*((1, 256), (3, 512)) * 4, (1, 512), (3, 1024)),
    ((1, 512), (3, 1024)) * 2,
)

SMALLEST = (63, 63)  # a batch of one needs more than one pixel in the last block, 1/32 of the image


class DarknetYolo(Backbone):
    """The five blocks of the table above."""

    def __init__(self, *, channels: int):
        super().__init__()
        stages: list[Stage] = []
        for number, convolutions in enumerate(BLOCKS, 1):
            layers: list[nn.Module] = [] if number == 1 else [nn.MaxPool2d(2)]
            for kernel, maps in convolutions:
                layers.append(ConvNormAct(channels, maps, kernel, 2 if number == 1 else 1, activation=LEAKY))
                channels = maps
            self.add_module(f"block{number}", nn.Sequential(*layers))
            stages.append(Stage(name=f"block{number}", channels=channels, stride=2**number))
        self.stages = tuple(stages)

    def forward(self, images: Tensor) -> list[Tensor]:
        """(B, C, H, W) images to the map of each block."""
        x = images
        outputs: list[Tensor] = []
        for block in self.children():
            x = block(x)
            outputs.append(x)
        return outputs


def build(variant: str, *, classes: int, channels: int, size: tuple[int, int]) -> Classifier:
    """The one network there is; ``size`` is only noted, any size from `SMALLEST` can be given to it."""
    backbone = DarknetYolo(channels=channels)
    head = PooledHead(backbone.stages[-1].channels, classes)
    for layer in backbone.modules():
        if isinstance(layer, nn.Conv2d):
            initialise(layer, "leaky")
    initialise(head.fc, "softmax")
    return Classifier(backbone, head, classes=classes, channels=channels, size=size)


def origins(variant: str) -> dict[str, Origin]:
    """No library that is read here has it: darknet keeps its weights in files of its own."""
    return {}
