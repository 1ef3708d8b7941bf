"""OverFeat over whole images: every score of `dense` is the classifier's of the window there."""

import pytest
import torch
from torch import nn

from striate.models.backbones import overfeat
from striate.models.catalog import published

# Table 5: images, and the map of scores of the accurate network at the fine stride.
SCALES = {
    (245, 245): (3, 3),
    (281, 317): (6, 9),
    (317, 389): (9, 15),
    (389, 461): (15, 21),
    (425, 497): (18, 24),
    (461, 569): (21, 30),
}
STEP = {"overfeat_fast": 16, "overfeat_accurate": 12}


@pytest.mark.parametrize(("size", "scores"), SCALES.items())
def test_maps_of_scores_have_the_published_sizes(size, scores):
    network = published("overfeat_accurate").eval()
    assert overfeat.dense(network, torch.empty(1, 3, *size, device="meta")).shape == (1, 1000, *scores)


def _network(variant):
    """Two classes, weights that neither fade nor grow, and kernels that see no padding: zero but in the middle."""
    torch.manual_seed(0)
    network = overfeat.build(variant, classes=2, channels=3, size=overfeat.VARIANTS[variant].size).eval()
    with torch.no_grad():
        for layer in network.modules():
            if isinstance(layer, nn.Conv2d):
                if layer.padding != (0, 0):
                    middle = layer.weight[:, :, 1:2, 1:2].clone()
                    layer.weight.zero_()[:, :, 1:2, 1:2] = middle
                    layer.weight *= 3
                layer.weight *= 100 * (2 / layer.weight[0].numel()) ** 0.5  # from 0.01 to He's deviation
                layer.bias.normal_(std=0.1)
    return network


@pytest.mark.parametrize("variant", overfeat.VARIANTS)
@torch.no_grad()
def test_every_score_is_that_of_the_window_cut_out_of_the_image(variant):
    network, step = _network(variant), STEP[variant]
    height, width = overfeat.VARIANTS[variant].size
    images = torch.randn(1, 3, height + step, width + 3 * step)
    scores = overfeat.dense(network, images)
    assert scores.shape == (1, 2, 2, 4)
    for row, column in ((0, 3), (1, 2)):
        window = images[:, :, row * step : row * step + height, column * step : column * step + width]
        torch.testing.assert_close(scores[:, :, row, column], network(window), rtol=1e-4, atol=1e-4)
    assert scores.std((2, 3)).min() > 1e-2  # windows that all score alike would show nothing

    plain = overfeat.VARIANTS[variant].layers[-1].pool
    torch.testing.assert_close(network(images), scores[:, :, ::plain, ::plain].amax((2, 3)), rtol=1e-4, atol=1e-4)
