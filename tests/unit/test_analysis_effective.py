import numpy as np
import pytest
import torch
from torch import Tensor, nn

from striate.analysis.effective import (
    THRESHOLD,
    EffectiveField,
    effective_field,
    field_against_sizes,
    noise,
)
from striate.analysis.inspection import inspect_network
from striate.analysis.receptive_field import ReceptiveField
from striate.errors import UsageError
from striate.models import catalog
from striate.models.contract import Backbone, Classifier, Stage
from striate.viz.canvas import STRONG
from striate.viz.receptive import SeenField, caption, draw_fields


class Stack(Backbone):
    """Convolutions one after another, of which every one is a stage."""

    def __init__(self, *convolutions: nn.Conv2d):
        super().__init__()
        self.layers = nn.ModuleList(convolutions)
        strides = np.cumprod([layer.stride[0] for layer in convolutions]).tolist()
        self.stages = tuple(
            Stage(name=f"conv{i + 1}", channels=layer.out_channels, stride=stride)
            for i, (layer, stride) in enumerate(zip(convolutions, strides, strict=True))
        )

    def forward(self, images: Tensor) -> list[Tensor]:
        maps: list[Tensor] = []
        for layer in self.layers:
            images = layer(images)
            maps.append(images)
        return maps


def classifier(backbone: Backbone, size: int) -> Classifier:
    head = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(backbone.stages[-1].channels, 2))
    return Classifier(backbone, head, classes=2, channels=1, size=(size, size))


def ones(count: int, *, width: int = 1, size: int = 31) -> Classifier:
    """3x3 convolutions with all weights 1, as in section 4.1 of the paper ("uniform")."""
    layers = [nn.Conv2d(1 if i == 0 else width, width, 3, padding=1, bias=False) for i in range(count)]
    for layer in layers:
        nn.init.ones_(layer.weight)
    return classifier(Stack(*layers), size)


def box_filtered(count: int, size: int) -> np.ndarray:
    """A box of three convolved with itself, as an outer product, around the centre of a square."""
    line = np.ones(1)
    for _ in range(count):
        line = np.convolve(line, np.ones(3))
    padded = np.zeros(size)
    start = size // 2 - count
    padded[start : start + len(line)] = line
    field = np.outer(padded, padded)
    return field / field.max()


def measure(network: Classifier, stage: str, images: Tensor, **settings: int) -> EffectiveField:
    _, height, width = images.shape[-3:]
    inspection = inspect_network(network, (images.shape[-3], height, width), name="net")
    return effective_field(network, inspection, stage, images, **settings)


@pytest.mark.parametrize("count", [1, 2, 5, 12])
@pytest.mark.parametrize("width", [1, 3])
def test_convolutions_of_ones_see_repeated_box_filters(count: int, width: int):
    field = measure(ones(count, width=width), f"conv{count}", noise((1, 31, 31), count=2), draws=3)
    expected = box_filtered(count, 31)
    np.testing.assert_allclose(field.influence, expected, atol=1e-6)
    assert field.influence.dtype == np.float32
    assert field.size == pytest.approx(np.sqrt((expected > 1 - 0.9545).sum()))
    side = 2 * count + 1
    assert field.box == (15 - count, 15 - count, 15 - count + side, 15 - count + side)
    assert field.theoretical is not None
    assert field.theoretical.size == (side, side)
    assert field.share == pytest.approx(field.size / side)


def test_the_effective_field_grows_more_slowly_than_the_theoretical():
    """Section 2: its share of the theoretical field shrinks with the square root of the depth."""
    shares = [measure(ones(count, size=63), f"conv{count}", noise((1, 63, 63)), draws=1).share for count in (5, 10, 20)]
    assert shares[0] is not None
    assert shares[1] is not None
    assert shares[2] is not None
    assert shares[0] > shares[1] > shares[2]
    assert shares[2] / shares[0] == pytest.approx((5 / 20) ** 0.5, rel=0.15)


@pytest.mark.parametrize("name", ["lenet5", "resnet20", "plain20"])
def test_nothing_lies_outside_the_theoretical_field(name: str):
    torch.manual_seed(0)
    architecture = catalog.find(name)
    channels, height, width = architecture.images
    network = catalog.create(name, classes=10, channels=channels, size=(height, width))
    images = noise(architecture.images, count=2)
    inspection = inspect_network(network, architecture.images, name=name)
    for stage in inspection.stages:
        field = effective_field(network, inspection, stage.name, images, draws=2)
        assert field.box is not None
        left, top, right, bottom = field.box
        inside = np.zeros(field.influence.shape, dtype=bool)
        inside[max(top, 0) : bottom, max(left, 0) : right] = True
        assert not field.influence[~inside].any(), stage.name
        assert field.influence.max() == 1
        assert 0 < field.size <= inside.sum() ** 0.5


def test_strides_and_dilation_place_the_field():
    torch.manual_seed(0)
    layers = nn.Conv2d(1, 4, 5, stride=2, padding=2), nn.Conv2d(4, 4, 3, dilation=3, padding=1)
    field = measure(classifier(Stack(*layers), 40), "conv2", noise((1, 40, 40)), draws=4)
    rows, columns = np.nonzero(field.influence)
    assert field.box == (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)


def test_the_network_stays_as_it_is_and_the_seed_decides():
    network = catalog.create("resnet20", classes=10, channels=3, size=(32, 32)).train()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    image = noise((3, 32, 32), count=1)[0]
    one, same, other = (measure(network, "stage3", image, draws=1, seed=seed) for seed in (0, 0, 1))
    np.testing.assert_array_equal(one.influence, same.influence)
    assert not np.array_equal(one.influence, other.influence)
    assert network.training
    assert all(module.training for module in network.modules())
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    assert all(parameter.grad is None for parameter in network.parameters())
    assert not image.requires_grad


def test_a_stage_without_position_sees_what_its_vector_sees():
    network = catalog.create("lenet300", classes=10, channels=1, size=(28, 28))
    stage = network.backbone.stages[-1].name
    field = measure(network, stage, noise((1, 28, 28)), draws=2)
    assert field.unit == (0, 0) or field.unit[0] == 0
    assert field.size > 27


def test_wrong_requests_are_answered_in_words():
    network = ones(2)
    inspection = inspect_network(network, (1, 31, 31), name="net")
    with pytest.raises(UsageError, match=r"no stage 'conv3'. Did you mean 'conv[12]'.*Its stages: conv1, conv2"):
        effective_field(network, inspection, "conv3", noise((1, 31, 31)))
    with pytest.raises(UsageError, match=r"images are \(1, 8, 8\).*inspected for \(1, 31, 31\)"):
        effective_field(network, inspection, "conv1", noise((1, 8, 8)))
    with pytest.raises(UsageError, match="draws is 0"):
        effective_field(network, inspection, "conv1", noise((1, 31, 31)), draws=0)
    with pytest.raises(UsageError, match="meta"):
        effective_field(network.to("meta"), inspection, "conv1", noise((1, 31, 31)))


# ---- against sizes ---------------------------------------------------------------------------------------------------


def field_of(size: float, theoretical: tuple[int, int] | None) -> EffectiveField:
    known = None
    if theoretical is not None:
        known = ReceptiveField(size=theoretical, jump=(8.0, 8.0), offset=(0.0, 0.0))
    return EffectiveField(
        stage="stage2",
        unit=(3, 3),
        influence=np.zeros((64, 64), dtype=np.float32),
        size=size,
        theoretical=known,
        box=None if theoretical is None else (0, 0, theoretical[1], theoretical[0]),
    )


def test_sizes_fit_where_both_sides_do():
    sizes = np.array([[10, 10], [20, 20], [10, 30], [40, 40], [60, 20]])
    compared = field_against_sizes(field_of(20, (50, 40)), sizes)
    assert compared.count == 5
    assert compared.effective_fits == pytest.approx(2 / 5)  # 10x30 is too wide
    assert compared.theoretical_fits == pytest.approx(4 / 5)  # 60x20 is too high
    assert compared.effective_ratio == pytest.approx(20 / 20)  # sides 10, 20, 17.3, 40, 34.6: the median is 20
    assert compared.theoretical_ratio == pytest.approx(20 / (50 * 40) ** 0.5)
    assert "40% of 5 sizes fit into the effective field of 20x20 pixels" in compared.sentence
    assert "50x40 fit 80%" in compared.sentence


def test_sizes_against_an_unknown_theoretical_field():
    compared = field_against_sizes(field_of(20, None), np.array([[10.5, 10.5]]))
    assert (compared.theoretical, compared.theoretical_fits, compared.theoretical_ratio) == (None, None, None)
    assert "theoretical" not in compared.sentence


@pytest.mark.parametrize("sizes", [np.zeros((0, 2)), np.ones(4), np.ones((3, 4)), np.array([[1.0, 0.0]])])
def test_sizes_that_are_none_are_refused(sizes: np.ndarray):
    with pytest.raises(UsageError):
        field_against_sizes(field_of(20, (50, 40)), sizes)


# ---- drawing ---------------------------------------------------------------------------------------------------------


def seen(size: int = 160, box: tuple[int, int, int, int] = (40, 60, 81, 101)) -> SeenField:
    influence = np.zeros((size, size), dtype=np.float32)
    influence[70:91, 50:71] = 0.25
    influence[78:83, 58:63] = 1
    weights = "fresh weights, seed 0"
    return SeenField(stage="stage3", influence=influence, effective=21, theoretical=(41, 41), box=box, weights=weights)


def test_heat_lies_where_the_influence_is_and_the_rectangle_around_the_field():
    image = np.full((160, 160, 3), (30, 90, 200), dtype=np.uint8)
    picture = np.asarray(draw_fields(image, [seen()])).astype(int)[20:, 20:][: 2 * 160, : 2 * 160]
    panel = picture[::2, ::2]  # magnified twice
    grey = 320 // 3
    np.testing.assert_allclose(panel[:60], grey, atol=1)  # no influence: the image in grey
    np.testing.assert_allclose(panel[66, 46], grey, atol=1)  # in the rectangle, without influence
    strong, weak = panel[80, 60], panel[72, 52]
    assert strong[0] > 200
    assert strong[1] > 200
    assert strong[2] < 120
    assert weak[0] > grey + 30 > weak[2] + 30  # orange over grey
    blue = (picture == STRONG).all(2)
    rows, columns = np.nonzero(blue)
    assert (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1) == (80, 120, 162, 202)


def test_stages_stand_side_by_side_and_break_into_rows():
    image = np.zeros((160, 160, 1), dtype=np.uint8)
    one, three, many = (draw_fields(image, [seen()] * count) for count in (1, 3, 9))
    assert three.width == 20 + 3 * (320 + 20)
    assert one.height == three.height
    assert many.width <= 1600
    assert many.height > 2 * three.height
    panels = np.asarray(three)[20:340, 20:]
    np.testing.assert_array_equal(panels[:, :320], panels[:, 340:660])


def test_captions_state_both_sizes_and_the_weights():
    assert caption(seen()) == ("stage3", "theoretical 41x41", "effective 21x21", "fresh weights, seed 0")
    assert caption(seen(box=(-5, 60, 81, 101)))[1] == "theoretical 41x41, clipped"
    words = np.asarray(draw_fields(np.zeros((160, 160, 3), dtype=np.uint8), [seen()]))[345:]
    assert (words < 128).any()


def test_a_field_of_another_size_is_refused():
    with pytest.raises(ValueError, match=r"\(160, 160\).*\(100, 160\)"):
        draw_fields(np.zeros((100, 160, 3), dtype=np.uint8), [seen()])


def test_the_threshold_is_the_papers():
    assert pytest.approx(0.0455) == THRESHOLD
