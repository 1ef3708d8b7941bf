"""YOLO's figures, its loss against a calculation by hand, its decoding and what its cells answer for."""

import math

import pytest
import torch

from striate.core.batch import Batch
from striate.core.instances import Instances, InstanceSets
from striate.errors import UsageError
from striate.models.contract import Backbone, Stage
from striate.models.detectors.catalog import create_detector
from striate.models.detectors.yolo import VARIANTS, YOLO


class _Map(Backbone):
    """A stand-in that is never asked: the tests below say what the network gives."""

    stages = (Stage(name="map", channels=4, stride=32),)


class _Says(YOLO):
    """YOLO on 64x64 pixels, 2x2 cells of 32x32, whose raw outputs are set."""

    def __init__(self, classes=3):
        super().__init__(_Map(), VARIANTS["yolo"], classes=classes, channels=3, size=(64, 64), who="yolo")
        self.says = {
            "boxes": torch.zeros(1, 4, 2, 4),
            "confidence": torch.zeros(1, 4, 2),
            "classes": torch.zeros(1, 4, classes),
        }

    def forward(self, images):
        return {name: tensor.expand(len(images), *tensor.shape[1:]) for name, tensor in self.says.items()}


def _batch(*images, side=64):
    return Batch(
        images=torch.zeros(len(images), 3, side, side),
        sizes=torch.tensor([(side, side)] * len(images)),
        truths=InstanceSets.of(images),
        indices=torch.arange(len(images)),
    )


NOTHING = Instances(boxes=torch.empty(0, 4), labels=torch.empty(0, dtype=torch.int64))


def test_the_published_network_is_figure_3():
    with torch.device("meta"):
        detector = create_detector("yolov1", classes=20, channels=3, size=(448, 448))
    outputs = detector(torch.empty(2, 3, 448, 448, device="meta"))
    assert outputs["boxes"].shape == (2, 49, 2, 4)
    assert outputs["confidence"].shape == (2, 49, 2)
    assert outputs["classes"].shape == (2, 49, 20)
    assert detector.head.output.out_features == 7 * 7 * 30
    convolutions = [layer for layer in detector.modules() if isinstance(layer, torch.nn.Conv2d)]
    assert len(convolutions) == 24
    assert sum(parameter.numel() for parameter in detector.parameters()) == 271_716_734


def test_the_five_parts_of_the_loss_by_hand():
    detector = _Says()
    # One object, 16 to 48 across and 4 to 20 down: its centre (32, 12) falls into cell 1, of the first row and second
    # column, at x = 0 and y = 12 / 32 = 0.375; w = 32 / 64 = 0.5, h = 16 / 64 = 0.25.
    objects = Instances(boxes=torch.tensor([[16.0, 4, 48, 20]]), labels=torch.tensor([2]))
    # In cell 1 the first box is 32 wide and 8 high around (32, 12): it covers half of the object, and IoU is
    # 32 x 8 / (32 x 16) = 0.5. The second is 16 x 16 around (48, 12), so from 40 to 56: 8 x 16 in common,
    # 128 / (512 + 256 - 128) = 0.2. The first is responsible.
    detector.says["boxes"][0, 1, 0] = torch.tensor([0.0, 0.375, math.sqrt(32 / 64), math.sqrt(8 / 64)])
    detector.says["boxes"][0, 1, 1] = torch.tensor([0.5, 0.375, math.sqrt(16 / 64), math.sqrt(16 / 64)])
    detector.says["confidence"][0] = torch.tensor([[0.1, 0.2], [0.9, 0.3], [0.0, 0.4], [0.0, 0.0]])
    detector.says["classes"][0] = torch.tensor([[9.0, 9, 9], [0.2, 0.1, 0.6], [9, 9, 9], [9, 9, 9]])
    losses = detector.losses(_batch(objects))
    expected = {
        "coordinates": 0.0,  # x and y are right
        "sizes": 5 * (math.sqrt(16 / 64) - math.sqrt(8 / 64)) ** 2,  # w is right, h is 8 and should be 16
        "object": (0.9 - 0.5) ** 2,  # the confidence should be the IoU
        "no_object": 0.5 * (0.1**2 + 0.2**2 + 0.3**2 + 0.4**2),  # all other boxes, the second of cell 1 too
        "class": 0.2**2 + 0.1**2 + (1 - 0.6) ** 2,  # of cell 1 alone
    }
    assert list(losses) == list(expected)
    for name, value in expected.items():
        torch.testing.assert_close(losses[name], torch.tensor(value), rtol=1e-5, atol=1e-6, msg=name)


def test_coordinates_by_hand_and_the_mean_over_images():
    detector = _Says()
    objects = Instances(boxes=torch.tensor([[16.0, 4, 48, 20]]), labels=torch.tensor([2]))
    detector.says["boxes"][0, 1, 1] = torch.tensor([0.2, 0.075, math.sqrt(0.5), math.sqrt(0.25)])
    losses = detector.losses(_batch(objects, NOTHING))
    torch.testing.assert_close(losses["coordinates"], torch.tensor(5 * (0.2**2 + 0.3**2) / 2))
    torch.testing.assert_close(losses["sizes"], torch.tensor(0.0))


def test_where_no_box_overlaps_the_nearest_is_responsible():
    detector = _Says()
    objects = Instances(boxes=torch.tensor([[0.0, 0, 8, 8]]), labels=torch.tensor([0]))
    # Both lie away from the object, of x = y = 0.125, w = h = 1/8. The first is nearer in x, y, w and h together.
    detector.says["boxes"][0, 0, 0] = torch.tensor([0.8, 0.8, 0.3, 0.3])
    detector.says["boxes"][0, 0, 1] = torch.tensor([0.9, 0.9, 0.3, 0.3])
    detector.says["confidence"][0, 0] = torch.tensor([0.5, 0.7])
    losses = detector.losses(_batch(objects))
    torch.testing.assert_close(losses["coordinates"], torch.tensor(5 * 2 * (0.8 - 0.125) ** 2))
    torch.testing.assert_close(losses["object"], torch.tensor(0.5**2))  # the IoU is 0
    torch.testing.assert_close(losses["no_object"], torch.tensor(0.5 * 0.7**2))


def test_the_confidence_is_pulled_and_the_box_is_not():
    """The IoU that the confidence should be is a number, not a way for gradients to the box."""
    detector = _Says()
    detector.says["boxes"][0, 1, 0] = torch.tensor([0.1, 0.3, 0.7, 0.5])
    for tensor in detector.says.values():
        tensor.requires_grad_()
    objects = Instances(boxes=torch.tensor([[16.0, 4, 48, 20]]), labels=torch.tensor([2]))
    detector.losses(_batch(objects))["object"].backward()
    assert detector.says["confidence"].grad[0, 1, 0] != 0
    assert detector.says["boxes"].grad is None


def test_detections_are_class_probability_times_confidence():
    detector = _Says()
    # Cell 2 is the second row's first: its corner is (0, 32). x = 0.5, y = 0.25: the centre is (16, 40). 0.5 squared
    # of 64 is 16 wide; 0.75 squared of 64 is 36 high: 22 to 58 down.
    detector.says["boxes"][0, 2, 1] = torch.tensor([0.5, 0.25, 0.5, 0.75])
    detector.says["confidence"][0, 2, 1] = 0.8
    detector.says["classes"][0, 2] = torch.tensor([0.0, 0.5, 0.25])
    (found,) = detector.detect(torch.zeros(1, 3, 64, 64), torch.tensor([[50, 64]]))
    torch.testing.assert_close(found.boxes, torch.tensor([[8.0, 22, 24, 50]] * 2))  # cut off where the image ends
    torch.testing.assert_close(found.scores, torch.tensor([0.4, 0.2]))
    assert found.labels.tolist() == [1, 2]


def test_a_cell_answers_for_its_first_object_and_assigned_says_so():
    objects = Instances(
        boxes=torch.tensor([[40.0, 0, 60, 20], [0, 0, 10, 10], [34, 4, 64, 24], [0, 40, 64, 64]]),
        labels=torch.tensor([1, 0, 2, 1]),
    )
    both = _Says().assigned(_batch(NOTHING, objects))
    assert not len(both[0].objects)
    # The centres (50, 10), (5, 5), (49, 14) and (32, 52): cells 1, 0, 1 again, and 3, the border being the right one's.
    assert both[1].objects.tolist() == [1, 0, 3]
    torch.testing.assert_close(both[1].boxes, torch.tensor([[0.0, 0, 32, 32], [32, 0, 64, 32], [32, 32, 64, 64]]))
    assert both[1].kind == "cell"


def test_a_centre_on_the_far_border_belongs_to_the_last_cell():
    objects = Instances(boxes=torch.tensor([[64.0, 64, 64, 64]]), labels=torch.tensor([0]))
    assert _Says().assigned(_batch(objects))[0].boxes.tolist() == [[32, 32, 64, 64]]


def test_crowds_and_ignored_objects_teach_nothing():
    detector = _Says()
    detector.says["confidence"] += 0.5
    crowd = Instances(
        boxes=torch.tensor([[0.0, 0, 64, 20], [40, 40, 50, 50]]),
        labels=torch.tensor([0, 1]),
        crowd=torch.tensor([True, False]),
        ignore=torch.tensor([False, True]),
    )
    losses = detector.losses(_batch(crowd))
    # The upper two cells lie in the crowd by more than half; the ignored object's centre is in cell 3. Cell 2 is left.
    torch.testing.assert_close(losses["no_object"], torch.tensor(0.5 * 2 * 0.25))
    assert all(losses[name] == 0 for name in ("coordinates", "sizes", "object", "class"))
    assert not len(detector.assigned(_batch(crowd))[0].objects)


def test_images_without_objects_are_background():
    detector = _Says()
    detector.says["confidence"] += 0.5
    losses = detector.losses(_batch(NOTHING, NOTHING))
    assert sum(losses.values()) == losses["no_object"] == 0.5 * 8 * 0.25


def test_oblong_images_have_an_oblong_grid():
    with torch.device("meta"):
        detector = create_detector("yolo", classes=3, channels=3, size=(64, 96))
    assert detector.grid == (2, 3)
    with pytest.raises(UsageError, match="built for images of 64x96 pixels"):
        detector(torch.empty(1, 3, 64, 64, device="meta"))


def test_what_cannot_be_divided_into_cells_is_said():
    with pytest.raises(UsageError, match="multiples of 64, not 96x96"), torch.device("meta"):
        create_detector("yolov1", backbone="resnet18", classes=3, channels=3, size=(96, 96))
    with pytest.raises(UsageError, match="strides 32"), torch.device("meta"):
        create_detector("yolo", backbone="resnet20", classes=3, channels=3, size=(64, 64))
