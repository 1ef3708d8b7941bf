"""The vision transformer as published."""

from striate.models.published import Published, PublishedError

DOSOVITSKIY_2021 = 'Dosovitskiy et al. 2021, "An Image is Worth 16x16 Words"'
TABLE_1 = DOSOVITSKIY_2021 + ", table 1"
TORCHVISION = "torchvision documentation, VisionTransformer weights: GFLOPS"

ROWS = (
    Published(
        model="vit_b_16",
        figure="parameters",
        layer="backbone",
        value=86_000_000,
        within=500_000,
        source=TABLE_1 + ": ViT-Base, 86M",
    ),
    Published(
        model="vit_b_16",
        figure="parameters",
        value=86_000_000,
        within=500_000,
        source=TABLE_1 + ": ViT-Base, 86M",
        disputed="86,567,656 with a head for 1,000 classes: 87M",
    ),
    Published(
        model="vit_l_16",
        figure="parameters",
        value=307_000_000,
        within=500_000,
        source=TABLE_1 + ": ViT-Large, 307M",
        disputed="304M with patches of 16 pixels; 307M with patches of 32",
    ),
    Published(
        model="vit_l_32",
        figure="parameters",
        value=307_000_000,
        within=500_000,
        source=TABLE_1 + ": ViT-Large, 307M",
    ),
    Published(
        model="vit_h_14",
        figure="parameters",
        value=632_000_000,
        within=500_000,
        source=TABLE_1 + ": ViT-Huge, 632M",
    ),
    *(
        Published(
            model=model, figure="macs", value=macs * 10**6, within=500_000, source=f"{TORCHVISION} {macs / 1000:.3f}"
        )
        for model, macs in (
            ("vit_b_16", 17_564),
            ("vit_b_32", 4_409),
            ("vit_l_16", 61_555),
            ("vit_l_32", 15_378),
            ("vit_h_14", 167_295),
        )
    ),
)

ERRORS = (
    *(
        PublishedError(
            model=model,
            data="ImageNet, fine-tuned at 384 x 384",
            error=round(100 - top1, 2),
            source=f"{DOSOVITSKIY_2021}, table 5, pre-trained on ImageNet (accuracy {top1}%)",
        )
        for model, top1 in (("vit_b_16", 77.91), ("vit_b_32", 73.38), ("vit_l_16", 76.53), ("vit_l_32", 71.16))
    ),
    PublishedError(
        model="vit_h_14",
        data="ImageNet, fine-tuned at 518 x 518",
        error=11.45,
        source=f"{DOSOVITSKIY_2021}, table 2, pre-trained on JFT-300M (accuracy 88.55%)",
    ),
)
