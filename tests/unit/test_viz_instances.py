import numpy as np
import pytest
import torch
from PIL import Image

from striate.core.instances import Assigned, Instances, Polygons, RunLengths, Skeleton
from striate.viz.instances import (
    FALSE_ALARM,
    FOUND,
    MISSED,
    PASSED_OVER,
    UNDER,
    WRONG_CLASS,
    class_colour,
    draw_assigned,
    draw_beside,
    draw_instances,
    draw_verdicts,
    letters_on,
    luminance,
    passed_over,
)

NAMES = ["cat", "a dog with a name that is very much too long for its place", "猫", "\ud800\n", "bird"]
BOX = [200.0, 150.0, 400.0, 300.0]


def objects(boxes: list[list[float]], labels: list[int], **columns: object) -> Instances:
    return Instances(
        boxes=torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4),
        labels=torch.tensor(labels, dtype=torch.int64),
        **columns,  # pyright: ignore[reportArgumentType]
    )


def ground(height: int = 480, width: int = 640, value: int = 128) -> np.ndarray:
    return np.full((height, width, 3), value, dtype=np.uint8)


def where(picture: Image.Image, colour: tuple[int, int, int]) -> np.ndarray:
    return (np.asarray(picture) == colour).all(2)


def extent(there: np.ndarray) -> tuple[int, int, int, int]:
    rows, columns = np.flatnonzero(there.any(1)), np.flatnonzero(there.any(0))
    return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1


def contrast(one: tuple[int, int, int], other: tuple[int, int, int]) -> float:
    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


def test_luminance_is_that_of_the_standard():
    assert luminance((255, 255, 255)) == pytest.approx(1)
    assert contrast((0, 0, 0), (255, 255, 255)) == pytest.approx(21)
    assert contrast((119, 119, 119), (255, 255, 255)) == pytest.approx(4.48, abs=0.005)  # known: #777 just fails AA


def test_classes_keep_distinct_colours_that_can_be_read_and_seen():
    colours = [class_colour(label) for label in range(21)]
    assert len(set(colours)) == 21
    assert colours == [class_colour(label + 21) for label in range(21)]
    for colour in (*colours, FOUND, WRONG_CLASS, FALSE_ALARM, MISSED, PASSED_OVER):
        assert contrast(colour, letters_on(colour)) >= 4.5  # WCAG AA for text
    for colour in (*colours[:14], FOUND, WRONG_CLASS, FALSE_ALARM, MISSED, PASSED_OVER):
        assert contrast(colour, UNDER) >= 3  # WCAG AA for graphics: the line against the one below it


def test_the_line_lies_around_the_box():
    picture = draw_instances(ground(), objects([BOX], [0]), NAMES, tags=False)
    assert picture.size == (640, 480)
    line = where(picture, class_colour(0))
    assert extent(line) == (198, 148, 402, 302)
    assert not line[150:300, 200:400].any()
    around = np.asarray(picture)[147:303, 197:403].copy()
    np.testing.assert_array_equal(around[4:-4, 4:-4], 128)  # nothing else inside
    outside = np.asarray(picture).copy()
    outside[147:303, 197:403] = 128
    assert (outside == 128).all()


def test_small_images_are_magnified_and_lines_grow_with_large_ones():
    small = draw_instances(ground(128, 128), objects([[10, 10, 100, 100]], [0]), NAMES)
    assert small.size == (512, 512)
    assert extent(where(small, class_colour(0)))[2] == 402
    large = draw_instances(ground(2000, 3000), objects([[1000, 1000, 2000, 1800]], [0]), NAMES, tags=False)
    assert where(large, class_colour(0))[1400].sum() >= 10  # two lines of five pixels or more


def tag_extent(size: tuple[int, int], box: list[float]) -> tuple[int, int, int, int]:
    image = ground(*size)
    one = objects([box], [0], scores=torch.tensor([0.5]))
    bare = np.asarray(draw_instances(image, one, NAMES, tags=False)).astype(int)
    tagged = np.asarray(draw_instances(image, one, NAMES)).astype(int)
    return extent((bare != tagged).any(2))


@pytest.mark.parametrize(
    "box",
    [
        BOX,
        [0, 0, 640, 480],
        [0, 0, 20, 20],
        [620, 0, 640, 20],
        [0, 460, 20, 480],
        [620, 460, 640, 480],
        [-50, -50, 20, 20],
        [700, 500, 800, 600],  # outside
        [300, 200, 300, 200],  # empty
    ],
)
def test_tags_stay_whole_inside_of_the_image(box: list[float]):
    x1, y1, x2, y2 = tag_extent((480, 640), box)
    inner = tag_extent((480, 640), BOX)
    # a tag on the line of its own box is seen to begin after it
    assert inner[2] - inner[0] - 3 <= x2 - x1 <= inner[2] - inner[0]
    assert inner[3] - inner[1] - 3 <= y2 - y1 <= inner[3] - inner[1]


def test_tags_stay_off_each_other_where_they_can():
    boxes = [[200.0, 150.0, 400.0, 300.0]] * 4 + [[210.0, 160.0, 390.0, 290.0]] * 2
    labels = [0, 4, 0, 4, 0, 4]
    alone = objects(boxes[:1], labels[:1])
    per_tag = (np.asarray(draw_instances(ground(), alone, NAMES)) != 128).any(2).sum()
    per_tag -= (np.asarray(draw_instances(ground(), alone, NAMES, tags=False)) != 128).any(2).sum()
    black = sum(
        where(draw_instances(ground(), objects([box], [label]), NAMES), (0, 0, 0)).sum()
        for box, label in zip(boxes, labels, strict=True)
    )
    crowd = where(draw_instances(ground(), objects(boxes, labels), NAMES), (0, 0, 0)).sum()
    assert crowd == black  # every letter of every tag is seen
    assert per_tag > 0


def test_any_size_any_name_any_box_does_not_crash():
    nan, inf = float("nan"), float("inf")
    boxes = [[0, 0, 5, 5], [nan, 0, 3, 3], [0, 0, inf, 2], [4, 4, 2, 2], [-1e9, -1e9, 1e9, 1e9]]
    some = objects(boxes, [0, 1, 2, 3, 4], scores=torch.rand(5))
    for size in ((1, 1), (1, 900), (900, 1), (7, 5), (300, 20)):
        for channels in (1, 3):
            image = np.zeros((*size, channels), dtype=np.uint8)
            assert draw_instances(image, some, NAMES).mode == "RGB"
            assert draw_instances(image, objects([], []), NAMES).mode == "RGB"


def test_crowds_are_dashed_and_ignored_objects_thin():
    def line(**marks: object) -> int:
        return int(where(draw_instances(ground(), objects([BOX], [0], **marks), NAMES, tags=False), colour).sum())

    colour, yes = class_colour(0), torch.tensor([True])
    plain = line()
    assert line(crowd=~yes, ignore=~yes) == plain
    assert 0.4 * plain < line(crowd=yes) < 0.65 * plain
    assert line(ignore=yes) == pytest.approx(plain / 2, rel=0.02)


def test_masks_shapes_and_run_lengths_look_the_same():
    mask = torch.zeros(1, 480, 640, dtype=torch.bool)
    mask[0, 160:290, 210:390] = True
    edge = [0, *([210 * 480 + 160, 130] + [350, 130] * 179), 480 * 640]
    runs = edge[1:-1]
    runs.append(480 * 640 - sum(runs))
    ring = (210.0, 160.0, 389.0, 160.0, 389.0, 289.0, 210.0, 289.0)
    pictures = [
        np.asarray(draw_instances(ground(), objects([BOX], [0], **column), NAMES))
        for column in (
            {"masks": mask},
            {"shapes": (RunLengths(size=(480, 640), counts=tuple(runs)),)},
            {"shapes": (Polygons(rings=(ring,)),)},
        )
    ]
    np.testing.assert_array_equal(pictures[0], pictures[1])
    np.testing.assert_array_equal(pictures[0], pictures[2])
    inside = pictures[0][220, 300].astype(float)
    expected = 128 + 0.42 * (np.array(class_colour(0)) - 128)  # the image shines through
    np.testing.assert_allclose(inside, expected, atol=1)
    assert (pictures[0][155, 300] == 128).all()


def test_a_small_mask_is_seen_on_a_large_one():
    masks = torch.zeros(2, 480, 640, dtype=torch.bool)
    masks[0, 200:220, 300:320] = True
    masks[1, 100:400, 100:500] = True
    picture = np.asarray(draw_instances(ground(), objects([BOX, BOX], [0, 1], masks=masks), NAMES, tags=False))
    assert picture[210, 310].tolist() != picture[250, 250].tolist()


def test_keypoints_have_places_lines_and_visibility():
    points = torch.tensor([[[220.0, 200, 2], [380, 200, 1], [300, 280, 0]]])
    skeleton = Skeleton(names=("a", "b", "c"), flips=(1, 0, 2), edges=((0, 1), (1, 2)))
    some = objects([BOX], [4], keypoints=points)
    picture = draw_instances(ground(), some, NAMES, skeleton=skeleton, tags=False)
    pixels = np.asarray(picture)
    assert pixels[200, 220].tolist() == list(class_colour(0))
    assert pixels[200, 380].tolist() == list(UNDER)  # hidden: a ring
    assert pixels[280, 300].tolist() == [128] * 3  # without a label: nothing, and no line to it
    assert pixels[200, 300].tolist() == list(class_colour(4))
    assert pixels[240, 340].tolist() == [128] * 3
    bare = np.asarray(draw_instances(ground(), some, NAMES, tags=False))
    assert bare[200, 300].tolist() == [128] * 3


def test_an_object_that_is_followed_has_the_colour_of_its_number():
    picture = draw_instances(ground(), objects([BOX], [4]), NAMES, ids=[3])
    assert where(picture, class_colour(2)).any()
    assert not where(picture, class_colour(4)).any()


def test_truth_stands_left_of_the_prediction():
    picture = draw_beside(ground(), objects([BOX], [0]), objects([], []), NAMES)
    line = where(picture, class_colour(0))
    assert line[:, :640].any()
    assert not line[:, 640:].any()
    assert picture.width == 2 * 640 + 12


def test_every_verdict_has_its_colour_and_the_image_is_under_the_legend():
    true = objects([BOX, [10, 10, 60, 60], [500, 10, 600, 90]], [0, 1, 4], ignore=torch.tensor([False, False, True]))
    boxes = [[205.0, 150, 400, 300], [500, 400, 600, 460], [500, 10, 600, 90]]
    found = objects(boxes, [0, 4, 4], scores=torch.tensor([0.9, 0.8, 0.7]))

    def colours(pairs: list[int]) -> list[bool]:
        picture = draw_verdicts(ground(), true, found, torch.tensor(pairs), NAMES)
        image = picture.crop((picture.width - 640, picture.height - 480, picture.width, picture.height))
        assert picture.width > 2 * 640  # the truth stands beside it
        return [bool(where(image, c).any()) for c in (FOUND, WRONG_CLASS, FALSE_ALARM, MISSED, PASSED_OVER)]

    assert colours([0, -1, 2]) == [True, False, True, True, True]
    assert colours([0, 1, 2]) == [True, True, False, False, True]
    assert colours([-1, -1, 2]) == [False, False, True, True, True]


def test_what_answers_has_the_colour_of_its_object_level_by_level():
    true = objects([BOX, [10, 10, 60, 60]], [0, 0])
    boxes = torch.tensor([[190.0, 140, 390, 290], [12, 12, 30, 30]])
    anchors = Assigned(kind="anchor", boxes=boxes, objects=torch.tensor([0, 1]), levels=torch.tensor([2, 0]))
    two = draw_assigned(ground(), true, anchors, NAMES)
    assert two.width == 2 * 640 + 12
    one = draw_assigned(
        ground(),
        true,
        Assigned(kind="cell", boxes=boxes[:1], objects=torch.tensor([0]), levels=torch.tensor([0])),
        NAMES,
    )
    assert one.width == 640
    assert one.height > two.height  # a note says what nothing answers for
    first = np.asarray(one)[one.height - two.height :]
    assert (first != 128).any()
    nothing = Assigned(
        kind="query", boxes=torch.empty(0, 4), objects=torch.empty(0).long(), levels=torch.empty(0).long()
    )
    assert draw_assigned(ground(), objects([], []), nothing, NAMES).width == 640


def test_lines_and_letters_are_as_large_as_the_picture_needs():
    """A large image in a small picture: the tag keeps its letters, where scaling all of it down would lose them."""
    true = objects([[400, 400, 1200, 1200]], [0])
    whole = draw_instances(ground(1600, 1600), true, ["cat"])
    small = draw_instances(ground(1600, 1600), true, ["cat"], side=256)
    assert (whole.size, small.size) == ((1600, 1600), (256, 256))
    place = np.asarray(small.crop((60, 30, 120, 63)))  # above the box
    x1, y1, x2, y2 = extent((place == class_colour(0)).all(2))
    assert y2 - y1 >= 12
    assert x2 - x1 >= 15
    tiny = draw_instances(ground(32, 32), objects([[8, 8, 24, 24]], [0]), ["cat"], side=256)
    assert tiny.size == (256, 256)


def test_crowds_and_ignored_objects_are_named_apart_from_what_is_not_answered():
    true = objects([BOX, [10, 10, 60, 60]], [0, 4], ignore=torch.tensor([False, True]))
    nothing = Assigned(
        kind="query", boxes=torch.empty(0, 4), objects=torch.empty(0).long(), levels=torch.empty(0).long()
    )
    marked = draw_assigned(ground(), true, nothing, NAMES)
    plain = draw_assigned(ground(), objects([BOX, [10, 10, 60, 60]], [0, 4]), nothing, NAMES)
    assert passed_over(true).tolist() == [False, True]
    assert np.asarray(marked).tobytes() != np.asarray(plain).tobytes()
