"""Official checkpoints: where the weights of the papers and of other libraries lie, and what they reached.

Nothing here is fetched by itself: `striate.runs.checkpoints` downloads what is asked for, and checks it.

The rows are torchvision's own (`torchvision.models.get_model_weights`), which a test compares. Left out are the
checkpoints under a licence that forbids commercial use (SWAG) and those without a classifier (VGG's features).
"""

from dataclasses import dataclass
from typing import Literal

MINUS_ONE_TO_ONE = ("googlenet_bn", "inception_v3")  # trained by Google on pixels from -1 to 1

# Of ImageNet's training images, as the whole field uses them: pixels scaled to 0..1, red, green, blue.
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """Weights that somebody published."""

    model: str  # name in the catalog
    name: str  # as it is asked for: the origin and the publisher's own name
    url: str
    sha256: str  # the digest, or as many of its first digits as the publisher gives
    megabytes: int
    licence: str
    top1: float  # percent on ImageNet's validation images, as published
    top5: float
    resize: int  # pixels of the shorter side before the crop
    crop: int  # pixels of the square that is classified
    interpolation: str
    mean: tuple[float, float, float] = IMAGENET_MEAN
    std: tuple[float, float, float] = IMAGENET_STD

    @property
    def origin(self) -> str:
        """The library whose names the weights have."""
        return self.name.partition(":")[0]


def _torchvision(
    model: str,
    name: str,
    file: str,
    top1: float,
    top5: float,
    megabytes: int,
    resize: int,
    crop: int,
    interpolation: str,
) -> Checkpoint:
    """A row of torchvision, whose file names end with the first eight digits of the SHA-256.

    The two networks that Google trained see pixels from -1 to 1; torchvision's turn its usual normalisation into that
    in their first lines (`transform_input`), ours are given it.
    """
    half = (0.5, 0.5, 0.5)
    normalised = {"mean": half, "std": half} if model in MINUS_ONE_TO_ONE else {}
    return Checkpoint(
        model=model,
        name=f"torchvision:{name}",
        url=f"https://download.pytorch.org/models/{file}",
        sha256=file.removesuffix(".pth").rpartition("-")[2],
        megabytes=megabytes,
        licence="BSD-3-Clause; trained on ImageNet, whose own terms may bind you",
        top1=top1,
        top5=top5,
        resize=resize,
        crop=crop,
        interpolation=interpolation,
        **normalised,
    )


@dataclass(frozen=True, kw_only=True)
class Input:
    """What a network's weights were trained to see."""

    size: tuple[int, int]  # height, width
    crop_fraction: float
    interpolation: str
    mean: tuple[float, ...]
    std: tuple[float, ...]
    resize: Literal["crop", "stretch", "fit"] = "crop"


def imagenet_input(model: str, size: tuple[int, int]) -> Input:
    """What a network sees whose weights come from ImageNet, where its checkpoint does not say so itself.

    EfficientNet-Lite sees (x - 127) / 128 and bicubic resizing (of the authors' published code), the two of Google's
    that have no published normalisation of their own see -1 to 1, all others what the whole field uses.
    """
    mean, std, interpolation = IMAGENET_MEAN, IMAGENET_STD, "bilinear"
    if model.startswith("efficientnet_lite"):
        mean, std, interpolation = (127 / 255,) * 3, (128 / 255,) * 3, "bicubic"
    elif model in MINUS_ONE_TO_ONE:
        mean, std = (0.5,) * 3, (0.5,) * 3
    return Input(size=size, crop_fraction=0.875, interpolation=interpolation, mean=mean, std=std)


def scene_input(
    size: tuple[int, int],
    *,
    mean: tuple[float, float, float] = IMAGENET_MEAN,
    std: tuple[float, float, float] = IMAGENET_STD,
    resize: Literal["stretch", "fit"] = "fit",
) -> Input:
    """What a published detector sees: whole images, normalised like its backbone's unless it has numbers of its own."""
    return Input(size=size, crop_fraction=1.0, interpolation="bilinear", mean=mean, std=std, resize=resize)


# COCO's classes by the numbers of its files, from 0 to 90, and "" for the eleven numbers that no class has.
# fmt: off
COCO = (
    "", "person", "bicycle", "car", "motorcycle", "airplane", "bus", "train", "truck", "boat", "traffic light",
    "fire hydrant", "", "stop sign", "parking meter", "bench", "bird", "cat", "dog", "horse", "sheep", "cow",
    "elephant", "bear", "zebra", "giraffe", "", "backpack", "umbrella", "", "", "handbag", "tie", "suitcase",
    "frisbee", "skis", "snowboard", "sports ball", "kite", "baseball bat", "baseball glove", "skateboard",
    "surfboard", "tennis racket", "bottle", "", "wine glass", "cup", "fork", "knife", "spoon", "bowl", "banana",
    "apple", "sandwich", "orange", "broccoli", "carrot", "hot dog", "pizza", "donut", "cake", "chair", "couch",
    "potted plant", "bed", "", "dining table", "", "", "toilet", "", "tv", "laptop", "mouse", "remote", "keyboard",
    "cell phone", "microwave", "oven", "toaster", "sink", "refrigerator", "", "book", "clock", "vase", "scissors",
    "teddy bear", "hair drier", "toothbrush",
)
# fmt: on

CHECKPOINTS: tuple[Checkpoint, ...] = (
    # model, name, file, top-1, top-5, megabytes, resize, crop, interpolation
    _torchvision("alexnet", "IMAGENET1K_V1", "alexnet-owt-7be5be79.pth", 56.522, 79.066, 233, 256, 224, "bilinear"),
    _torchvision(
        "convnext_base", "IMAGENET1K_V1", "convnext_base-6075fbad.pth", 84.062, 96.87, 338, 232, 224, "bilinear"
    ),
    _torchvision(
        "convnext_large", "IMAGENET1K_V1", "convnext_large-ea097f82.pth", 84.414, 96.976, 755, 232, 224, "bilinear"
    ),
    _torchvision(
        "convnext_small", "IMAGENET1K_V1", "convnext_small-0c510722.pth", 83.616, 96.65, 192, 230, 224, "bilinear"
    ),
    _torchvision(
        "convnext_tiny", "IMAGENET1K_V1", "convnext_tiny-983f1562.pth", 82.52, 96.146, 109, 236, 224, "bilinear"
    ),
    _torchvision("densenet121", "IMAGENET1K_V1", "densenet121-a639ec97.pth", 74.434, 91.972, 31, 256, 224, "bilinear"),
    _torchvision("densenet161", "IMAGENET1K_V1", "densenet161-8d451a50.pth", 77.138, 93.56, 110, 256, 224, "bilinear"),
    _torchvision("densenet169", "IMAGENET1K_V1", "densenet169-b2777c0a.pth", 75.6, 92.806, 55, 256, 224, "bilinear"),
    _torchvision("densenet201", "IMAGENET1K_V1", "densenet201-c1103571.pth", 76.896, 93.37, 77, 256, 224, "bilinear"),
    _torchvision(
        "efficientnet_b0",
        "IMAGENET1K_V1",
        "efficientnet_b0_rwightman-7f5810bc.pth",
        77.692,
        93.532,
        20,
        256,
        224,
        "bicubic",
    ),
    _torchvision(
        "efficientnet_b1",
        "IMAGENET1K_V1",
        "efficientnet_b1_rwightman-bac287d4.pth",
        78.642,
        94.186,
        30,
        256,
        240,
        "bicubic",
    ),
    _torchvision(
        "efficientnet_b1", "IMAGENET1K_V2", "efficientnet_b1-c27df63c.pth", 79.838, 94.934, 30, 255, 240, "bilinear"
    ),
    _torchvision(
        "efficientnet_b2",
        "IMAGENET1K_V1",
        "efficientnet_b2_rwightman-c35c1473.pth",
        80.608,
        95.31,
        35,
        288,
        288,
        "bicubic",
    ),
    _torchvision(
        "efficientnet_b3",
        "IMAGENET1K_V1",
        "efficientnet_b3_rwightman-b3899882.pth",
        82.008,
        96.054,
        47,
        320,
        300,
        "bicubic",
    ),
    _torchvision(
        "efficientnet_b4",
        "IMAGENET1K_V1",
        "efficientnet_b4_rwightman-23ab8bcd.pth",
        83.384,
        96.594,
        74,
        384,
        380,
        "bicubic",
    ),
    _torchvision(
        "efficientnet_b5",
        "IMAGENET1K_V1",
        "efficientnet_b5_lukemelas-1a07897c.pth",
        83.444,
        96.628,
        117,
        456,
        456,
        "bicubic",
    ),
    _torchvision(
        "efficientnet_b6",
        "IMAGENET1K_V1",
        "efficientnet_b6_lukemelas-24a108a5.pth",
        84.008,
        96.916,
        165,
        528,
        528,
        "bicubic",
    ),
    _torchvision(
        "efficientnet_b7",
        "IMAGENET1K_V1",
        "efficientnet_b7_lukemelas-c5b4e57e.pth",
        84.122,
        96.908,
        255,
        600,
        600,
        "bicubic",
    ),
    _torchvision("googlenet_bn", "IMAGENET1K_V1", "googlenet-1378be20.pth", 69.778, 89.53, 50, 256, 224, "bilinear"),
    _torchvision(
        "inception_v3", "IMAGENET1K_V1", "inception_v3_google-0cc3c7bd.pth", 77.294, 93.45, 104, 342, 299, "bilinear"
    ),
    _torchvision(
        "mobilenet_v2", "IMAGENET1K_V1", "mobilenet_v2-b0353104.pth", 71.878, 90.286, 14, 256, 224, "bilinear"
    ),
    _torchvision(
        "mobilenet_v2", "IMAGENET1K_V2", "mobilenet_v2-7ebf99e0.pth", 72.154, 90.822, 14, 232, 224, "bilinear"
    ),
    _torchvision(
        "mobilenet_v3_large",
        "IMAGENET1K_V1",
        "mobilenet_v3_large-8738ca79.pth",
        74.042,
        91.34,
        21,
        256,
        224,
        "bilinear",
    ),
    _torchvision(
        "mobilenet_v3_large",
        "IMAGENET1K_V2",
        "mobilenet_v3_large-5c1a4163.pth",
        75.274,
        92.566,
        21,
        232,
        224,
        "bilinear",
    ),
    _torchvision(
        "mobilenet_v3_small",
        "IMAGENET1K_V1",
        "mobilenet_v3_small-047dcff4.pth",
        67.668,
        87.402,
        10,
        256,
        224,
        "bilinear",
    ),
    _torchvision("resnet101", "IMAGENET1K_V1", "resnet101-63fe2227.pth", 77.374, 93.546, 171, 256, 224, "bilinear"),
    _torchvision("resnet101", "IMAGENET1K_V2", "resnet101-cd907fc2.pth", 81.886, 95.78, 171, 232, 224, "bilinear"),
    _torchvision("resnet152", "IMAGENET1K_V1", "resnet152-394f9c45.pth", 78.312, 94.046, 230, 256, 224, "bilinear"),
    _torchvision("resnet152", "IMAGENET1K_V2", "resnet152-f82ba261.pth", 82.284, 96.002, 230, 232, 224, "bilinear"),
    _torchvision("resnet18", "IMAGENET1K_V1", "resnet18-f37072fd.pth", 69.758, 89.078, 45, 256, 224, "bilinear"),
    _torchvision("resnet34", "IMAGENET1K_V1", "resnet34-b627a593.pth", 73.314, 91.42, 83, 256, 224, "bilinear"),
    _torchvision("resnet50", "IMAGENET1K_V1", "resnet50-0676ba61.pth", 76.13, 92.862, 98, 256, 224, "bilinear"),
    _torchvision("resnet50", "IMAGENET1K_V2", "resnet50-11ad3fa6.pth", 80.858, 95.434, 98, 232, 224, "bilinear"),
    _torchvision(
        "resnext101_32x8d", "IMAGENET1K_V1", "resnext101_32x8d-8ba56ff5.pth", 79.312, 94.526, 340, 256, 224, "bilinear"
    ),
    _torchvision(
        "resnext101_32x8d", "IMAGENET1K_V2", "resnext101_32x8d-110c445d.pth", 82.834, 96.228, 340, 232, 224, "bilinear"
    ),
    _torchvision(
        "resnext101_64x4d", "IMAGENET1K_V1", "resnext101_64x4d-173b62eb.pth", 83.246, 96.454, 319, 232, 224, "bilinear"
    ),
    _torchvision(
        "resnext50_32x4d", "IMAGENET1K_V1", "resnext50_32x4d-7cdf4587.pth", 77.618, 93.698, 96, 256, 224, "bilinear"
    ),
    _torchvision(
        "resnext50_32x4d", "IMAGENET1K_V2", "resnext50_32x4d-1a0047aa.pth", 81.198, 95.34, 96, 232, 224, "bilinear"
    ),
    _torchvision(
        "squeezenet1_0", "IMAGENET1K_V1", "squeezenet1_0-b66bff10.pth", 58.092, 80.42, 5, 256, 224, "bilinear"
    ),
    _torchvision(
        "squeezenet1_1", "IMAGENET1K_V1", "squeezenet1_1-b8a52dc0.pth", 58.178, 80.624, 5, 256, 224, "bilinear"
    ),
    _torchvision("vgg11", "IMAGENET1K_V1", "vgg11-8a719046.pth", 69.02, 88.628, 507, 256, 224, "bilinear"),
    _torchvision("vgg11_bn", "IMAGENET1K_V1", "vgg11_bn-6002323d.pth", 70.37, 89.81, 507, 256, 224, "bilinear"),
    _torchvision("vgg13", "IMAGENET1K_V1", "vgg13-19584684.pth", 69.928, 89.246, 508, 256, 224, "bilinear"),
    _torchvision("vgg13_bn", "IMAGENET1K_V1", "vgg13_bn-abd245e5.pth", 71.586, 90.374, 508, 256, 224, "bilinear"),
    _torchvision("vgg16", "IMAGENET1K_V1", "vgg16-397923af.pth", 71.592, 90.382, 528, 256, 224, "bilinear"),
    _torchvision("vgg16_bn", "IMAGENET1K_V1", "vgg16_bn-6c64b313.pth", 73.36, 91.516, 528, 256, 224, "bilinear"),
    _torchvision("vgg19", "IMAGENET1K_V1", "vgg19-dcbb9e9d.pth", 72.376, 90.876, 548, 256, 224, "bilinear"),
    _torchvision("vgg19_bn", "IMAGENET1K_V1", "vgg19_bn-c79401a0.pth", 74.218, 91.842, 548, 256, 224, "bilinear"),
    _torchvision("vit_b_16", "IMAGENET1K_V1", "vit_b_16-c867db91.pth", 81.072, 95.318, 330, 256, 224, "bilinear"),
    _torchvision("vit_b_32", "IMAGENET1K_V1", "vit_b_32-d86f8d99.pth", 75.912, 92.466, 337, 256, 224, "bilinear"),
    _torchvision("vit_l_16", "IMAGENET1K_V1", "vit_l_16-852ce7e3.pth", 79.662, 94.638, 1161, 242, 224, "bilinear"),
    _torchvision("vit_l_32", "IMAGENET1K_V1", "vit_l_32-c7638314.pth", 76.972, 93.07, 1169, 256, 224, "bilinear"),
    _torchvision(
        "wide_resnet101_2", "IMAGENET1K_V1", "wide_resnet101_2-32ee1156.pth", 78.848, 94.284, 243, 256, 224, "bilinear"
    ),
    _torchvision(
        "wide_resnet101_2", "IMAGENET1K_V2", "wide_resnet101_2-d733dc28.pth", 82.51, 96.02, 485, 232, 224, "bilinear"
    ),
    _torchvision(
        "wide_resnet50_2", "IMAGENET1K_V1", "wide_resnet50_2-95faca4d.pth", 78.468, 94.086, 132, 256, 224, "bilinear"
    ),
    _torchvision(
        "wide_resnet50_2", "IMAGENET1K_V2", "wide_resnet50_2-9ba9bcbe.pth", 81.602, 95.758, 263, 232, 224, "bilinear"
    ),
)


def checkpoints(model: str) -> list[Checkpoint]:
    """The official checkpoints of a network of the catalog."""
    return [checkpoint for checkpoint in CHECKPOINTS if checkpoint.model == model]
