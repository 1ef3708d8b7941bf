"""Vision transformer: an image as a sequence of patches, the counterpoint to convolution.

Dosovitskiy, Beyer, Kolesnikov, Weissenborn, Zhai, Unterthiner, Dehghani, Minderer, Heigold, Gelly, Uszkoreit, Houlsby:
"An Image is Worth 16x16 Words: Transformers for Image Recognition at Scale", ICLR 2021, arXiv 2010.11929. Table 1:

    model        layers   hidden size D   MLP size   heads   parameters
    ViT-Base         12             768      3,072      12          86M
    ViT-Large        24           1,024      4,096      16         307M
    ViT-Huge         32           1,280      5,120      16         632M

The number at the end of a name is the patch, P; figure 1 and equations 1 to 4, for 224 x 224 images and P = 16:

    patches     convolution P x P, stride P     768 x 14 x 14
    tokens      class token, patches, + positions   197 x 768
    encoder     layers x [norm, attention; norm, MLP]   197 x 768
    norm        layer normalisation                 197 x 768
    head        full, of the class token                K

    name       parameters   mult-adds, ours     top-1, pre-trained and fine-tuned on ImageNet (table 5)
    vit_b_16    86,567,656   17,563,828,224     77.91%
    vit_b_32    88,224,232    4,409,186,304     73.38%
    vit_l_16   304,326,632   61,554,712,576     76.53%
    vit_l_32   306,535,400   15,377,539,072     71.16%
    vit_h_14   632,045,800  167,295,109,120     (88.55% with JFT-300M, table 2)

Table 1 does not say for which patch it counts. 86M is ViT-B/16 without its head, 307M is ViT-L/32 with it (ViT-L/16
has 304M), 632M ViT-H/14 with it.

The backbone gives two stages: the patches' tokens as a map of stride P, and the class token, which has no place and so
stride 0; the head reads the latter. An image of another size than the network was built for takes its positions from
those learned by 2D interpolation (section 3.2), bicubic here, and so do weights of another size when they are loaded.

Dropout 0.1 after every full layer but those of queries, keys and values, and after the positions (appendix B.1, table
3 for ImageNet). Weights start as in the authors' published code: full layers uniform with variance 2 / (fan-in +
fan-out), biases at zero, positions normal with standard deviation 0.02, patches normal with variance 1 / fan-in, the
class token at zero.

Differences from the paper: the head starts small (`nn/initialise.py`) where the code has zero, so that the first step
reaches every layer; pre-training's hidden layer in the head is left out, as in fine-tuning (section 3.2). Any number of
channels and classes; height and width must be multiples of the patch.

Letters: B images, C channels, H height, W width, K classes, P patch, D width of a token.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from striate.errors import ModelFileError
from striate.models.contract import Backbone, Classifier, Stage
from striate.models.weights import Names, Origin
from striate.nn.attention import SelfAttention
from striate.nn.initialise import initialise

EPS = 1e-6  # of the authors' published code
DROPOUT = 0.1  # table 3, ImageNet


@dataclass(frozen=True, kw_only=True)
class Spec:
    """One row of table 1, and the patch."""

    patch: int
    layers: int
    width: int
    mlp: int
    heads: int
    timm: str  # its name there


VARIANTS: dict[str, Spec] = {
    "vit_b_16": Spec(patch=16, layers=12, width=768, mlp=3072, heads=12, timm="vit_base_patch16_224"),
    "vit_b_32": Spec(patch=32, layers=12, width=768, mlp=3072, heads=12, timm="vit_base_patch32_224"),
    "vit_l_16": Spec(patch=16, layers=24, width=1024, mlp=4096, heads=16, timm="vit_large_patch16_224"),
    "vit_l_32": Spec(patch=32, layers=24, width=1024, mlp=4096, heads=16, timm="vit_large_patch32_224"),
    "vit_h_14": Spec(patch=14, layers=32, width=1280, mlp=5120, heads=16, timm="vit_huge_patch14_224"),
}


class Block(nn.Module):
    """Attention and an MLP, each behind a normalisation and beside a shortcut (figure 1, right; equations 2 and 3)."""

    def __init__(self, spec: Spec):
        super().__init__()
        self.norm1 = nn.LayerNorm(spec.width, eps=EPS)
        self.attention = SelfAttention(spec.width, spec.heads)
        self.norm2 = nn.LayerNorm(spec.width, eps=EPS)
        self.mlp = nn.Sequential()
        self.mlp.add_module("expand", nn.Linear(spec.width, spec.mlp))
        self.mlp.add_module("act", nn.GELU())
        self.mlp.add_module("dropout", nn.Dropout(DROPOUT))
        self.mlp.add_module("project", nn.Linear(spec.mlp, spec.width))
        self.dropout = nn.Dropout(DROPOUT)

    def forward(self, x: Tensor) -> Tensor:
        """From (B, tokens, D) to the same."""
        x = x + self.dropout(self.attention(self.norm1(x)))
        return x + self.dropout(self.mlp(self.norm2(x)))


class VisionTransformer(Backbone):
    """Everything up to the head.

    Attributes:
        class_token: (1, 1, D).
        position: (1, 1 + rows x columns of patches, D), that of the class token first.
    """

    def __init__(self, spec: Spec, *, channels: int, size: tuple[int, int]):
        super().__init__()
        self.grid = (size[0] // spec.patch, size[1] // spec.patch)
        self.patches = nn.Conv2d(channels, spec.width, spec.patch, stride=spec.patch)
        self.class_token = nn.Parameter(torch.zeros(1, 1, spec.width))
        self.position = nn.Parameter(torch.empty(1, 1 + self.grid[0] * self.grid[1], spec.width))
        self.dropout = nn.Dropout(DROPOUT)
        self.encoder = nn.Sequential(*(Block(spec) for _ in range(spec.layers)))
        self.norm = nn.LayerNorm(spec.width, eps=EPS)
        self.stages = (
            Stage(name="encoder", channels=spec.width, stride=spec.patch),
            Stage(name="class_token", channels=spec.width, stride=0),
        )

    def forward(self, images: Tensor) -> list[Tensor]:
        """(B, C, H, W) images to the (B, D, H / P, W / P) map of the patches and the (B, D) class token."""
        patches = self.patches(images)
        batch, width, rows, columns = patches.shape
        tokens = torch.cat([self.class_token.expand(batch, -1, -1), patches.flatten(2).transpose(1, 2)], 1)
        position = self.position
        if (rows, columns) != self.grid:
            position = resize_position(position, self.grid, (rows, columns))
        tokens = self.norm(self.encoder(self.dropout(tokens + position)))
        return [tokens[:, 1:].transpose(1, 2).reshape(batch, width, rows, columns), tokens[:, 0]]

    def adapt(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Give positions learned on images of another size or shape the grid of this network.

        A checkpoint does not say its rows and columns: a square number of patches is taken for a square grid, as every
        published one is, any other number for this network's own grid.

        Raises:
            ModelFileError: a number of patches that is neither.
        """
        adapted = dict(tensors)
        position = adapted.get("position")
        if position is None or position.dim() != 3 or position.shape[0] != 1 or position.shape[1] < 2:
            return adapted  # no table of positions, which loading says
        count, (rows, columns) = position.shape[1] - 1, self.grid
        side = math.isqrt(count)
        if side * side == count:
            if (side, side) != self.grid:
                adapted["position"] = resize_position(position, (side, side), self.grid)
        elif count != rows * columns:
            raise ModelFileError(
                f"the weights have positions for {count} patches, which are no square, so their rows and columns are "
                f"not known and cannot be fitted to {rows}x{columns}: load them into a network for images of the size "
                "that they were learned on."
            )
        return adapted


def resize_position(position: Tensor, before: tuple[int, int], after: tuple[int, int]) -> Tensor:
    """Position embeddings of another grid of patches, by bicubic interpolation (section 3.2).

    Args:
        position: (1, 1 + rows x columns, D), that of the class token, which stays, first.
        before: its rows and columns.
        after: those wanted.
    """
    grid = position[:, 1:].reshape(1, *before, -1).permute(0, 3, 1, 2)
    grid = F.interpolate(grid, after, mode="bicubic", align_corners=False)
    return torch.cat([position[:, :1], grid.flatten(2).transpose(1, 2)], 1)


def build(variant: str, *, classes: int, channels: int, size: tuple[int, int]) -> Classifier:
    """A network of `VARIANTS` with positions for images of ``size``, a multiple of the patch."""
    spec = VARIANTS[variant]
    backbone = VisionTransformer(spec, channels=channels, size=size)
    head = nn.Sequential()
    full = nn.Linear(spec.width, classes)
    head.add_module("fc", full)
    model = Classifier(backbone, head, classes=classes, channels=channels, size=size)
    if backbone.position.is_meta:
        return model
    nn.init.normal_(backbone.position, std=0.02)
    initialise(backbone.patches, "nothing")
    for block in backbone.encoder:
        assert isinstance(block, Block)
        for layer in block.modules():
            if isinstance(layer, nn.Linear):
                for weight in layer.weight.chunk(3) if layer is block.attention.qkv else (layer.weight,):
                    nn.init.xavier_uniform_(weight)
                nn.init.zeros_(layer.bias)
    initialise(full, "softmax")
    return model


TORCHVISION: Names = (
    ("class_token", "backbone.class_token"),
    ("encoder.pos_embedding", "backbone.position"),
    ("conv_proj.{p}", "backbone.patches.{p}"),
    ("encoder.layers.encoder_layer_{i}.ln_1.{p}", "backbone.encoder.{i}.norm1.{p}"),
    ("encoder.layers.encoder_layer_{i}.self_attention.in_proj_{p}", "backbone.encoder.{i}.attention.qkv.{p}"),
    ("encoder.layers.encoder_layer_{i}.self_attention.out_proj.{p}", "backbone.encoder.{i}.attention.project.{p}"),
    ("encoder.layers.encoder_layer_{i}.ln_2.{p}", "backbone.encoder.{i}.norm2.{p}"),
    ("encoder.layers.encoder_layer_{i}.mlp.0.{p}", "backbone.encoder.{i}.mlp.expand.{p}"),
    ("encoder.layers.encoder_layer_{i}.mlp.3.{p}", "backbone.encoder.{i}.mlp.project.{p}"),
    # in torchvision's own files, which are older than its module names
    ("encoder.layers.encoder_layer_{i}.mlp.linear_1.{p}", "backbone.encoder.{i}.mlp.expand.{p}"),
    ("encoder.layers.encoder_layer_{i}.mlp.linear_2.{p}", "backbone.encoder.{i}.mlp.project.{p}"),
    ("encoder.ln.{p}", "backbone.norm.{p}"),
    ("heads.head.{p}", "head.fc.{p}"),
)

TIMM: Names = (
    ("cls_token", "backbone.class_token"),
    ("pos_embed", "backbone.position"),
    ("patch_embed.proj.{p}", "backbone.patches.{p}"),
    ("blocks.{i}.norm1.{p}", "backbone.encoder.{i}.norm1.{p}"),
    ("blocks.{i}.attn.qkv.{p}", "backbone.encoder.{i}.attention.qkv.{p}"),
    ("blocks.{i}.attn.proj.{p}", "backbone.encoder.{i}.attention.project.{p}"),
    ("blocks.{i}.norm2.{p}", "backbone.encoder.{i}.norm2.{p}"),
    ("blocks.{i}.mlp.fc1.{p}", "backbone.encoder.{i}.mlp.expand.{p}"),
    ("blocks.{i}.mlp.fc2.{p}", "backbone.encoder.{i}.mlp.project.{p}"),
    ("norm.{p}", "backbone.norm.{p}"),
    ("head.{p}", "head.fc.{p}"),
)


def origins(variant: str) -> Mapping[str, Origin]:
    """The other libraries that have a network of `VARIANTS`, by name."""
    return {
        "torchvision": Origin(model=variant, names=TORCHVISION),
        "timm": Origin(model=VARIANTS[variant].timm, names=TIMM),
    }
