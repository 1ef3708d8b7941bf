"""Anchors on the maps of a pyramid, by torchvision's generator and by hand."""

import pytest
import torch

from striate.ops.anchors import Anchors, assigned

SIZES = tuple((side, int(side * 2 ** (1 / 3)), int(side * 2 ** (2 / 3))) for side in (32, 64, 128, 256, 512))
RETINANET = Anchors(sizes=SIZES, ratios=(0.5, 1.0, 2.0))


@pytest.mark.parametrize("size", [(64, 64), (96, 160), (320, 224)])
def test_anchors_are_torchvisions(size):
    from torchvision.models.detection.anchor_utils import AnchorGenerator
    from torchvision.models.detection.image_list import ImageList

    maps = [(-(-size[0] // stride), -(-size[1] // stride)) for stride in (8, 16, 32, 64, 128)]
    generator = AnchorGenerator(SIZES, ((0.5, 1.0, 2.0),) * 5)
    images = torch.zeros(1, 3, *size)
    (theirs,) = generator(ImageList(images, [size]), [torch.zeros(1, 1, *each) for each in maps])
    ours = RETINANET.on(size, maps, "cpu")
    assert torch.equal(ours, theirs)
    assert sum(RETINANET.counts(maps)) == len(ours)


def test_anchors_in_the_middle_of_cells_and_unrounded():
    anchors = Anchors(sizes=((4,),), ratios=(1.0, 4.0), whole=False, centre=0.5).on((16, 32), [(2, 4)], "cpu")
    assert anchors.shape == (16, 4)
    # Cells of 8 pixels; of the area 16 the square has sides of 4, that of ratio 4 is 8 high and 2 wide.
    assert anchors[0].tolist() == [2, 2, 6, 6]
    assert anchors[1].tolist() == [3, 0, 5, 8]
    assert anchors[2].tolist() == [10, 2, 14, 6]
    assert anchors[8].tolist() == [2, 10, 6, 14]


def test_anchors_are_made_once_and_can_be_learnt_from_after_inference():
    with torch.inference_mode():
        first = RETINANET.on((32, 32), [(4, 4), (2, 2), (1, 1), (1, 1), (1, 1)], torch.device("cpu"))
    again = RETINANET.on((32, 32), [(4, 4), (2, 2), (1, 1), (1, 1), (1, 1)], "cpu")
    assert again is first
    assert not first.is_inference()


def test_assigned_anchors_come_with_their_objects_and_levels():
    boxes = torch.arange(24.0).view(6, 4)
    found = assigned("anchor", boxes, torch.tensor([-1, 1, -2, 0, -1, 1]), [3, 2, 1])
    assert found.kind == "anchor"
    assert torch.equal(found.boxes, boxes[[1, 3, 5]])
    assert found.objects.tolist() == [1, 0, 1]
    assert found.levels.tolist() == [0, 1, 2]
