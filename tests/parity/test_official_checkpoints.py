"""The table of official checkpoints against torchvision's own, row by row and complete."""

import math

from striate.models.catalog import CATALOG
from striate.models.official import CHECKPOINTS


def test_the_rows_are_torchvisions_and_none_is_missing():
    from torchvision.models import get_model_weights

    ours = {(row.model, row.name): row for row in CHECKPOINTS}
    seen = set()
    for name, line in CATALOG.items():
        if "torchvision" not in line.origins:
            continue
        for weights in get_model_weights(line.origins["torchvision"].model):
            metrics = weights.meta["_metrics"]["ImageNet-1K"]
            if math.isnan(metrics["acc@1"]) or "license" in weights.meta:
                continue
            row = ours[name, f"torchvision:{weights.name}"]
            seen.add((name, row.name))
            seen_as = weights.transforms.keywords
            assert row.url == weights.url
            assert weights.url.endswith(f"-{row.sha256}.pth")
            assert (row.top1, row.top5) == (metrics["acc@1"], metrics["acc@5"])
            assert (row.resize, row.crop) == (seen_as.get("resize_size", 256), seen_as["crop_size"])
            interpolation = seen_as.get("interpolation")
            assert row.interpolation == (interpolation.value if interpolation else "bilinear")
    assert seen == set(ours)
