import pytest
import torch
from torch import Tensor, nn

from striate.analysis.inspection import inspect_network
from striate.analysis.outline import LIMIT, outline
from striate.models import catalog
from striate.viz.diagram import TIMES, Block


def outlined(name: str) -> list[Block]:
    images, _ = catalog.published_for(name)
    return outline(inspect_network(catalog.published(name), images, name=name))


def of(network: nn.Module, images: tuple[int, int, int], limit: int = LIMIT) -> list[Block]:
    return outline(inspect_network(network, images, name="net"), limit=limit)


def plain(text: str) -> str:
    return text.replace(TIMES, "x")


def test_lenet_is_the_papers_figure():
    """LeCun et al. 1998, figure 2, layer by layer."""
    assert [(block.label, block.shape) for block in outlined("lenet5")] == [
        ("input", (1, 32, 32)),
        ("c1", (6, 28, 28)),
        ("s2", (6, 14, 14)),
        ("c3", (16, 10, 10)),
        ("s4", (16, 5, 5)),
        ("c5", (120, 1, 1)),
        ("f6", (84,)),
        ("output", (10,)),
    ]


def test_alexnet_shows_every_layer():
    blocks = outlined("alexnet_one_tower")
    assert [block.shape for block in blocks] == [
        (3, 227, 227),
        (96, 55, 55),
        (96, 27, 27),
        (256, 27, 27),
        (256, 13, 13),
        (384, 13, 13),
        (384, 13, 13),
        (256, 13, 13),
        (256, 6, 6),
        (4096,),
        (4096,),
        (1000,),
    ]
    notes = [plain(block.note) for block in blocks]
    assert notes[:4] == ["", "conv 11x11 /4", "max pool 3x3 /2", "conv 5x5"]
    kinds = ["input", "conv", "pool", "conv", "pool", "conv", "conv", "conv", "pool", "full", "full", "full"]
    assert [block.kind for block in blocks] == kinds
    assert all(block.repeats == 1 for block in blocks)


def test_groups_are_named():
    assert "conv 5x5 2 groups" in [plain(block.note) for block in outlined("alexnet_two_tower")]


def test_vgg_folds_its_convolutions():
    """Simonyan and Zisserman, table 1, column D."""
    blocks = outlined("vgg16")
    assert [block.repeats for block in blocks if block.kind == "conv"] == [2, 2, 3, 3, 3]
    assert [block.shape for block in blocks if block.kind == "conv"] == [
        (64, 224, 224),
        (128, 112, 112),
        (256, 56, 56),
        (512, 28, 28),
        (512, 14, 14),
    ]
    assert [block.shape for block in blocks if block.kind == "full"] == [(4096,), (4096,), (1000,)]


@pytest.mark.parametrize(
    ("name", "counts"), [("resnet18", [2, 2, 2, 2]), ("resnet50", [3, 4, 6, 3]), ("seresnet50", [3, 4, 6, 3])]
)
def test_residual_blocks_are_one_block_per_stage(name: str, counts: list[int]):
    """He et al., table 1."""
    stages = [block for block in outlined(name) if block.kind == "block"]
    assert [block.repeats for block in stages] == counts
    assert [block.label for block in stages] == ["stage1", "stage2", "stage3", "stage4"]
    assert [block.shape[1] for block in stages] == [56, 28, 14, 7]
    word = "basic block" if name == "resnet18" else "bottleneck"
    assert [block.note for block in stages] == [word, *[f"{word} /2"] * 3]


def test_inception_modules_stay_whole():
    """Szegedy et al., table 1: the output sizes of 3a to 5b; the three equal ones are one block."""
    modules = [block for block in outlined("googlenet") if block.kind == "block"]
    assert [(block.label, block.shape, block.repeats) for block in modules] == [
        ("inception3a", (256, 28, 28), 1),
        ("inception3b", (480, 28, 28), 1),
        ("inception4a-4c", (512, 14, 14), 3),
        ("inception4d", (528, 14, 14), 1),
        ("inception4e", (832, 14, 14), 1),
        ("inception5a", (832, 7, 7), 1),
        ("inception5b", (1024, 7, 7), 1),
    ]
    assert {block.note for block in modules} == {"inception"}


def test_modules_with_branches_inside_branches_stay_whole():
    """Inception v3's 8x8 modules fork twice."""
    shapes = [(block.shape, block.repeats) for block in outlined("inception_v3") if block.kind == "block"]
    assert shapes == [
        ((256, 35, 35), 1),
        ((288, 35, 35), 2),
        ((768, 17, 17), 1),
        ((768, 17, 17), 4),
        ((1280, 8, 8), 1),
        ((2048, 8, 8), 2),
    ]


def test_inverted_residuals_say_their_depthwise_kernel():
    """Tan and Le, table 1: stages 2 to 8 of EfficientNet-B0."""
    blocks = [block for block in outlined("efficientnet_b0") if block.kind == "block"]
    assert [(block.shape[0], block.shape[1], block.repeats) for block in blocks] == [
        (16, 112, 1),
        (24, 56, 2),
        (40, 28, 2),
        (80, 14, 3),
        (112, 14, 3),
        (192, 7, 4),
        (320, 7, 1),
    ]
    kernels = [plain(block.note).split()[2] for block in blocks]
    assert kernels == ["3x3", "3x3", "5x5", "3x3", "5x5", "5x5", "3x3"]


def test_networks_of_others():
    """torchvision's, with other names, operations in the network's own forward, tokens and dense blocks."""
    import torchvision.models as others

    with torch.device("meta"):
        dense, transformer = others.densenet121(weights=None), others.vit_b_16(weights=None)
    blocks = of(dense, (3, 224, 224))
    assert [(b.shape, b.repeats, b.note) for b in blocks if b.kind == "block"] == [
        ((256, 56, 56), 6, "dense layer"),
        ((512, 28, 28), 12, "dense layer"),
        ((1024, 14, 14), 24, "dense layer"),
        ((1024, 7, 7), 16, "dense layer"),
    ]
    blocks = of(transformer, (3, 224, 224))
    assert [(b.label, b.shape, b.repeats) for b in blocks] == [
        ("input", (3, 224, 224), 1),
        ("conv_proj", (768, 14, 14), 1),
        ("cat", (197, 768), 1),
        ("encoder", (197, 768), 12),
        ("heads", (1000,), 1),
    ]


@pytest.mark.parametrize(
    "name",
    [
        "linear",
        "lenet300",
        "resnet20",
        "preact_resnet110",
        "mobilenet_v1",
        "mobilenet_v3_small",
        "vgg19",
        "googlenet_bn",
    ],
)
def test_every_picture_is_short_and_goes_from_images_to_classes(name: str):
    images, classes = catalog.published_for(name)
    blocks = outlined(name)
    assert 2 <= len(blocks) <= LIMIT
    assert blocks[0].shape == images
    assert blocks[-1].shape == (classes,)
    labels = [block.label for block in blocks]
    assert all(labels)
    assert len(set(labels)) == len(labels)


class Uneven(nn.Module):
    """Twenty-four convolutions of different channels at three resolutions."""

    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(
            *(nn.Conv2d(3 + i, 4 + i, 3, padding=1, stride=2 if i in (8, 16) else 1) for i in range(24))
        )

    def forward(self, images: Tensor) -> Tensor:
        return self.layers(images).mean((2, 3))


def test_folding_goes_as_far_as_it_must():
    blocks = of(Uneven(), (3, 32, 32))
    assert [(block.shape, block.repeats) for block in blocks] == [
        ((3, 32, 32), 1),
        ((11, 32, 32), 8),
        ((19, 16, 16), 8),
        ((27, 8, 8), 8),
        ((27,), 1),
    ]
    assert len(of(Uneven(), (3, 32, 32), limit=30)) == 26
    assert plain(blocks[2].note) == "conv 3x3 /2"


class Parallel(nn.Module):
    """Branches of two resolutions that run beside each other, as in HRNet."""

    def __init__(self):
        super().__init__()
        self.fine = nn.ModuleList(nn.Conv2d(4, 4, 3, padding=1) for _ in range(6))
        self.coarse = nn.ModuleList(nn.Conv2d(4, 4, 3, padding=1) for _ in range(6))

    def forward(self, images: Tensor) -> Tensor:
        small = nn.functional.avg_pool2d(images, 2)
        for fine, coarse in zip(self.fine, self.coarse, strict=True):
            images, small = fine(images), coarse(small)
        return images


def test_branches_without_a_meeting_are_one_block_per_container():
    parts = {"stem": nn.Conv2d(3, 4, 1), "first": Parallel(), "pool": nn.MaxPool2d(2), "second": Parallel()}
    network = nn.Sequential()
    for name, part in parts.items():
        network.add_module(name, part)
    blocks = of(network, (3, 32, 32))
    assert [block.label for block in blocks] == ["input", "stem", "first", "pool", "second"]


def test_what_changes_nothing_is_not_shown():
    network = nn.Sequential(
        nn.Conv2d(3, 8, 3),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.Dropout(),
        nn.MaxPool2d(3, 1, 1),
        nn.AdaptiveAvgPool2d(30),
        nn.Flatten(),
        nn.Linear(7200, 5),
    )
    assert [block.kind for block in of(network, (3, 32, 32))] == ["input", "conv", "pool", "full"]
