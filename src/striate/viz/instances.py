"""Objects drawn onto their images: boxes, masks, keypoints; truth beside prediction; what answers for which object.

Colours follow Okabe and Ito ("Color Universal Design", 2008) in the order of the labels, so that a class has the same
colour on every picture. Every coloured line lies on a dark one and is therefore seen on any ground; every tag has the
letters, black or white, that contrast more with its colour.

Letters: N objects, H height, W width of the image, P keypoints. Boxes are x1, y1, x2, y2 in pixels of the image.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter
from torch import Tensor

from striate.core.instances import Assigned, Instances, Polygons, Skeleton
from striate.viz.canvas import INK, MUTED, PAPER, Font, Pixels, fit_image, fit_text, font, one_line

Colour = tuple[int, int, int]
Corners = tuple[float, float, float, float]

# Okabe and Ito without black, in an order in which neighbours differ most; then the same lighter, then darker.
_OKABE_ITO: tuple[Colour, ...] = (
    (86, 180, 233),
    (230, 159, 0),
    (0, 158, 115),
    (240, 228, 66),
    (204, 121, 167),
    (213, 94, 0),
    (0, 114, 178),
)
_SHADES = (0.0, 0.5, -0.4)  # towards white, towards black
UNDER: Colour = (12, 14, 18)  # what lies under every coloured line
FOUND, WRONG_CLASS, FALSE_ALARM, MISSED, PASSED_OVER = (
    (0, 190, 130),
    (240, 228, 66),
    (245, 110, 30),
    (225, 140, 200),
    (170, 176, 184),
)
SMALL = 512  # images whose longer side is at most half of this are magnified up to it
VEIL = 0.42  # opacity of masks
GAP = 12
PANEL = 640  # greatest side of one panel of several


def class_colour(label: int) -> Colour:
    """The colour of a class, by its label; after 21 classes they begin anew."""
    shade = _SHADES[label // len(_OKABE_ITO) % len(_SHADES)]
    towards = 255 if shade > 0 else 0
    red, green, blue = (round(part + abs(shade) * (towards - part)) for part in _OKABE_ITO[label % len(_OKABE_ITO)])
    return red, green, blue


def letters_on(colour: Colour) -> Colour:
    """Black or white, whichever contrasts more with ``colour`` (WCAG 2.1, contrast ratio)."""
    light = luminance(colour)
    return (0, 0, 0) if (light + 0.05) / 0.05 >= 1.05 / (light + 0.05) else (255, 255, 255)


def luminance(colour: Colour) -> float:
    """Relative luminance, 0 to 1 (WCAG 2.1)."""
    linear = [part / 255 / 12.92 if part / 255 <= 0.04045 else ((part / 255 + 0.055) / 1.055) ** 2.4 for part in colour]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def passed_over(true: Instances) -> Tensor:
    """(N,) bool, on the CPU: objects that are crowds or to be ignored."""
    none = torch.zeros(len(true), dtype=torch.bool)
    crowd, ignore = (none if column is None else column.cpu() for column in (true.crowd, true.ignore))
    return crowd | ignore


def draw_instances(
    image: Pixels,
    objects: Instances,
    names: Sequence[str],
    *,
    skeleton: Skeleton | None = None,
    ids: Sequence[int] | None = None,
    tags: bool = True,
    side: int | None = None,
) -> Image.Image:
    """The objects of an image: boxes with the class and the score, masks, keypoints with their lines.

    A crowd's box is dashed, that of an ignored object thin. Hidden keypoints are rings, those without a label are left
    out, and so are boxes that are not finite.

    Args:
        image: (H, W, 1) or (H, W, 3) uint8.
        objects: of this image, truth or prediction. Where there are no ``masks``, ``shapes`` are drawn.
        names: K class names.
        skeleton: the keypoints' lines; without it they are dots.
        ids: N numbers of objects that are followed through a video. They stand in the tags instead of the scores, and
            the colour is that of the number.
        tags: whether class and score stand at the boxes.
        side: greatest side of the picture; None: as the image needs.

    Returns:
        An RGB picture of the image's own size (at most ``side``), or magnified by a whole factor where it is small.
        Lines and letters are as large as the picture needs, not the image.
    """
    board = _Board(image, side)
    marks = [_plain(objects, row, names) for row in range(len(objects))]
    if ids is not None:
        marks = [
            replace(mark, colour=class_colour(number - 1), ending=f"#{number}")
            for mark, number in zip(marks, ids, strict=True)
        ]
    colours = [mark.colour for mark in marks]
    board.add_masks(objects, colours)
    board.add_marks(marks if tags else [replace(mark, tag="", ending="") for mark in marks])
    board.add_keypoints(objects, colours, skeleton)
    return board.finished()


def draw_beside(
    image: Pixels,
    true: Instances,
    predicted: Instances,
    names: Sequence[str],
    *,
    skeleton: Skeleton | None = None,
) -> Image.Image:
    """The truth on the left, the prediction on the right, each as `draw_instances` draws it, under a heading.

    Args:
        image: (H, W, 1) or (H, W, 3) uint8.
        true: the objects that are there.
        predicted: those that were found; the weakest are best left out.
        names: K class names.
        skeleton: the keypoints' lines.

    Returns:
        An RGB picture, twice as wide as the image and somewhat higher.
    """
    halves = [draw_instances(image, objects, names, skeleton=skeleton) for objects in (true, predicted)]
    return _halves(halves, true, predicted)


def _halves(halves: Sequence[Image.Image], true: Instances, predicted: Instances) -> Image.Image:
    """Two pictures side by side, of the truth and of the prediction, each under its heading."""
    return _side_by_side(halves, [f"truth: {_count(true)}", f"prediction: {_count(predicted)}"], columns=2)


def draw_verdicts(
    image: Pixels, true: Instances, predicted: Instances, pairs: Tensor, names: Sequence[str]
) -> Image.Image:
    """The truth on the left, and on the right what became of every object.

    Found (green), in the right place with the wrong class (yellow), false alarm (orange), missed (pink, dashed).
    What stands for a crowd or an ignored object is grey and thin: it counts as neither. The counts stand above.

    Args:
        image: (H, W, 1) or (H, W, 3) uint8.
        true: N objects that are there.
        predicted: M objects that were found.
        pairs: (M,) int64, the true object that each prediction stands for, or -1, as `striate.ops.pairing.pair` says.
        names: K class names.

    Returns:
        An RGB picture, twice as wide as the image and somewhat higher.
    """
    board = _Board(image)
    marks: list[_Mark] = []
    counts = dict.fromkeys(("found", "wrong class", "false alarm", "missed"), 0)
    passed: list[bool] = passed_over(true).tolist()
    labels: list[int] = true.labels.tolist()
    taken: set[int] = set(pairs.tolist())
    for row, (box, label) in enumerate(zip(true.boxes.tolist(), labels, strict=True)):
        if passed[row]:
            marks.append(_Mark(box=box, colour=PASSED_OVER, tag="", ending="", style="thin"))
        elif row not in taken:
            counts["missed"] += 1
            marks.append(_Mark(box=box, colour=MISSED, tag=f"missed {names[label]}", ending="", style="dashed"))
    for row, (partner, label) in enumerate(zip(pairs.tolist(), predicted.labels.tolist(), strict=True)):
        mark = _plain(predicted, row, names)
        if partner < 0:
            counts["false alarm"] += 1
            marks.append(replace(mark, colour=FALSE_ALARM, tag=f"false {mark.tag}"))
        elif passed[partner]:
            marks.append(replace(mark, colour=PASSED_OVER, style="thin"))
        elif labels[partner] == label:
            counts["found"] += 1
            marks.append(replace(mark, colour=FOUND))
        else:
            counts["wrong class"] += 1
            marks.append(replace(mark, colour=WRONG_CLASS, tag=f"{mark.tag} (is {names[labels[partner]]})"))
    board.add_marks(marks)
    colours = (FOUND, WRONG_CLASS, FALSE_ALARM, MISSED)
    words = [
        (f"{count} {_plural(what, count) if what == 'false alarm' else what}", colour)
        for (what, count), colour in zip(counts.items(), colours, strict=True)
    ]
    halves = [draw_instances(image, replace(true, masks=None), names), board.finished()]
    return _under_legend(_halves(halves, true, predicted), words)


def draw_assigned(image: Pixels, true: Instances, assigned: Assigned, names: Sequence[str]) -> Image.Image:
    """What a detector holds responsible for which object when it learns from an image.

    Each object has a colour of its own, and what answers for it has the same: cells and points are filled, anchors,
    queries and proposals are thin boxes with their centres. With several levels of a pyramid there is one panel for
    each that has a part in it; an object that nothing answers for on that level is dashed. Captions name the level,
    say how many answer there, which objects nothing answers for at all, and which are crowds or ignored.

    Args:
        image: (H, W, 1) or (H, W, 3) uint8, the network's input.
        true: N objects in its pixels.
        assigned: of this image.
        names: K class names.

    Returns:
        An RGB picture.
    """
    owners: list[int] = assigned.objects.tolist()
    levels: list[int] = sorted(set(assigned.levels.tolist()))
    pictures: list[Image.Image] = []
    captions: list[str] = []
    for level in levels or [0]:
        there = (assigned.levels == level).nonzero()[:, 0].tolist()
        answered = {owners[row] for row in there}
        board = _Board(image, PANEL if len(levels) > 1 else None)
        board.add_answers(
            [assigned.boxes[row].tolist() for row in there],
            [class_colour(owners[row]) for row in there],
            filled=assigned.kind in ("cell", "point"),
        )
        board.add_marks(
            [
                replace(
                    _plain(true, row, names, numbered=True),
                    colour=class_colour(row),
                    style="solid" if row in answered else "dashed",
                )
                for row in range(len(true))
            ]
        )
        pictures.append(board.finished())
        place = f"level {level}: " if len(levels) > 1 else ""
        captions.append(f"{place}{_number(assigned.kind, len(there))} for {_number('object', len(answered))}")
    labels: list[int] = true.labels.tolist()
    passed: list[bool] = passed_over(true).tolist()
    lost = [
        [
            f"{one_line(names[label])} #{row + 1}"
            for row, label in enumerate(labels)
            if row not in set(owners) and passed[row] == aside
        ]
        for aside in (False, True)
    ]
    words = (f"no {assigned.kind} answers for ", "crowd or ignored: ")
    note = "; ".join(start + ", ".join(alone) for start, alone in zip(words, lost, strict=True) if alone)
    return _side_by_side(pictures, captions, columns=min(len(pictures), 3), note=note)


@dataclass(frozen=True, kw_only=True)
class _Mark:
    """A box as it is drawn."""

    box: Sequence[float]  # in pixels of the image
    colour: Colour
    tag: str  # cut where there is no room
    ending: str  # stands after it, never cut
    style: str  # "solid", "dashed", "thin"


def _plain(objects: Instances, row: int, names: Sequence[str], *, numbered: bool = False) -> _Mark:
    """The mark of one object, in its class's colour."""
    label = int(objects.labels[row])
    dashed = objects.crowd is not None and bool(objects.crowd[row])
    thin = objects.ignore is not None and bool(objects.ignore[row])
    ending = "" if objects.scores is None else f"{float(objects.scores[row]):.2f}"
    return _Mark(
        box=objects.boxes[row].tolist(),
        colour=class_colour(label),
        tag=one_line(names[label]),
        ending=f"#{row + 1}" if numbered else ending,
        style="dashed" if dashed else "thin" if thin else "solid",
    )


class _Board:
    """A picture that is drawn on, in coordinates of the image that it shows."""

    def __init__(self, image: Pixels, side: int | None = None):
        self.size = image.shape[:2]
        self.picture = fit_image(image, side or max(SMALL, *self.size))
        self.scale = self.picture.width / self.size[1], self.picture.height / self.size[0]
        extent = math.sqrt(self.picture.width * self.picture.height)
        self.line = max(2, round(extent / 320))
        self.under = max(1, self.line // 3)  # how far the dark line reaches over the coloured one on either side
        self.letters = max(11, round(extent / 46))
        self.draw = ImageDraw.Draw(self.picture)

    def finished(self) -> Image.Image:
        return self.picture

    def add_masks(self, objects: Instances, colours: Sequence[Colour]) -> None:
        """Translucent, with an outline; small ones over large ones."""
        masks = [self._mask(objects, row) for row in range(len(objects))]
        sizes = [-1 if mask is None else int(np.asarray(mask).sum()) for mask in masks]
        for row in sorted(range(len(masks)), key=lambda row: -sizes[row]):
            mask = masks[row]
            box = None if mask is None else mask.getbbox()
            if mask is None or box is None:
                continue
            margin = 2 * self.line
            box = (
                max(0, box[0] - margin),
                max(0, box[1] - margin),
                min(mask.width, box[2] + margin),
                min(mask.height, box[3] + margin),
            )
            inside = mask.crop(box)
            whole = Image.new("RGB", inside.size, colours[row])
            self.picture.paste(whole, box[:2], inside.point([round(value * VEIL) for value in range(256)]))
            shrunk = inside.filter(ImageFilter.MinFilter(2 * max(1, self.line // 2) + 1))
            edge = Image.fromarray(np.asarray(inside) & ~np.asarray(shrunk))
            self.picture.paste(whole, box[:2], edge)

    def _mask(self, objects: Instances, row: int) -> Image.Image | None:
        """One mask at the size of the picture, 0 or 255."""
        if objects.masks is not None:
            return self._scaled(objects.masks[row].cpu().numpy())
        if objects.shapes is None:
            return None
        shape = objects.shapes[row]
        if not isinstance(shape, Polygons):
            inside = np.arange(len(shape.counts)) % 2 == 1
            return self._scaled(np.repeat(inside, shape.counts).reshape(shape.size, order="F"))
        mask = Image.new("L", self.picture.size)
        for ring in shape.rings:
            points = np.array(ring, dtype=np.float64).reshape(-1, 2) * self.scale
            ImageDraw.Draw(mask).polygon([(x, y) for x, y in points.tolist()], fill=255)
        return mask

    def _scaled(self, mask: NDArray[np.bool_]) -> Image.Image:
        return Image.fromarray(mask.astype(np.uint8) * 255).resize(self.picture.size, Image.Resampling.NEAREST)

    def add_marks(self, marks: Sequence[_Mark]) -> None:
        """Boxes, large ones first, then tags, of which the first ones get the better places and lie above."""
        marks = [mark for mark in marks if _finite(mark.box)]
        places = [self._corners(mark.box) for mark in marks]
        extent = [(x2 - x1) * (y2 - y1) for x1, y1, x2, y2 in places]
        for row in sorted(range(len(marks)), key=lambda row: -extent[row]):
            self._box(places[row], marks[row])
        tagged = [row for row in range(len(marks)) if marks[row].tag or marks[row].ending]
        reach = np.array([-1, -1, 1, 1]) * (self.line + self.under)
        tags = _Tags(self.picture.size, self.letters, np.array(places).reshape(-1, 4) + reach)
        placed = [(tags.place(row, marks[row]), marks[row].colour) for row in tagged]
        for (place, words), colour in reversed(placed):
            x1, y1, x2, y2 = place
            self.draw.rectangle((x1, y1, x2 - 1, y2 - 1), fill=colour)
            self.draw.text(
                (x1 + tags.pad, (y1 + y2) / 2), words, fill=letters_on(colour), font=tags.font(words), anchor="lm"
            )

    def _corners(self, box: Sequence[float]) -> Corners:
        """A box in the picture, cut off at its border."""
        across, down = self.scale
        width, height = self.picture.size
        x1, x2 = (min(max(x * across, 0.0), float(width)) for x in (box[0], box[2]))
        y1, y2 = (min(max(y * down, 0.0), float(height)) for y in (box[1], box[3]))
        return x1, y1, max(x1, x2), max(y1, y2)

    def _box(self, place: Corners, mark: _Mark) -> None:
        width = max(1, self.line // 2) if mark.style == "thin" else self.line
        x1, y1, x2, y2 = (round(side) for side in place)
        # The line lies around the object, on the border where the object ends there.
        outer = (
            max(x1 - width, 0),
            max(y1 - width, 0),
            max(min(x2 + width, self.picture.width) - 1, 0),
            max(min(y2 + width, self.picture.height) - 1, 0),
        )
        margin = self.under
        under = (outer[0] - margin, outer[1] - margin, outer[2] + margin, outer[3] + margin)
        self.draw.rectangle(under, outline=UNDER, width=width + 2 * margin)
        if mark.style == "dashed":
            self._dashes(outer, width, mark.colour)
        else:
            self.draw.rectangle(outer, outline=mark.colour, width=width)

    def _dashes(self, box: tuple[int, int, int, int], width: int, colour: Colour) -> None:
        x1, y1, x2, y2 = box
        dash = 4 * width
        for start in range(x1, x2 + 1, 2 * dash):
            end = min(start + dash - 1, x2)
            self.draw.rectangle((start, y1, end, min(y1 + width - 1, y2)), fill=colour)
            self.draw.rectangle((start, max(y2 - width + 1, y1), end, y2), fill=colour)
        for start in range(y1, y2 + 1, 2 * dash):
            end = min(start + dash - 1, y2)
            self.draw.rectangle((x1, start, min(x1 + width - 1, x2), end), fill=colour)
            self.draw.rectangle((max(x2 - width + 1, x1), start, x2, end), fill=colour)

    def add_keypoints(self, objects: Instances, colours: Sequence[Colour], skeleton: Skeleton | None) -> None:
        """Lines in the object's colour; each point in a colour of its own, the same for all objects."""
        if objects.keypoints is None:
            return
        radius = 1.5 * self.line
        for points, colour in zip(objects.keypoints.cpu(), colours, strict=True):
            places = [
                (x * self.scale[0], y * self.scale[1], seen) if _finite((x, y, seen)) else (0.0, 0.0, 0.0)
                for x, y, seen in points.tolist()
            ]
            edges = [
                (places[one][:2], places[other][:2])
                for one, other in (skeleton.edges if skeleton else ())
                if places[one][2] > 0 and places[other][2] > 0
            ]
            for width, stroke in ((self.line + 2 * self.under, UNDER), (self.line, colour)):
                for edge in edges:
                    self.draw.line(edge, fill=stroke, width=width)
            for number, (x, y, seen) in enumerate(places):
                if seen <= 0:
                    continue
                own = class_colour(number)
                self._disc(x, y, radius + self.under, UNDER)
                self._disc(x, y, radius, own)
                if seen < 1.5:  # hidden
                    self._disc(x, y, radius / 2, UNDER)

    def _disc(self, x: float, y: float, radius: float, colour: Colour) -> None:
        self.draw.ellipse((x - radius, y - radius, x + radius, y + radius), fill=colour)

    def add_answers(self, boxes: Sequence[Sequence[float]], colours: Sequence[Colour], *, filled: bool) -> None:
        """Anchors and their like: filled cells, or thin boxes; a dot in the middle of each."""
        kept = [(self._corners(box), box, colour) for box, colour in zip(boxes, colours, strict=True) if _finite(box)]
        if not kept:
            return
        if filled:
            for (x1, y1, x2, y2), _, colour in kept:
                size = max(1, round(x2) - round(x1)), max(1, round(y2) - round(y1))
                self.picture.paste(
                    Image.new("RGB", size, colour), (round(x1), round(y1)), Image.new("L", size, round(255 * VEIL))
                )
        outlined = self.picture.copy()
        lines = ImageDraw.Draw(outlined)
        for (x1, y1, x2, y2), _, colour in kept:
            lines.rectangle((x1, y1, max(x1, x2 - 1), max(y1, y2 - 1)), outline=colour, width=1)
        # Many boxes are paler than few, so that what they are of can still be seen.
        self.picture.paste(
            outlined, mask=Image.new("L", outlined.size, round(255 * min(1.0, max(0.5, 20 / len(kept)))))
        )
        for _, (x1, y1, x2, y2), colour in kept:
            x, y = (x1 + x2) / 2 * self.scale[0], (y1 + y2) / 2 * self.scale[1]
            self._disc(x, y, self.line + self.under, UNDER)
            self._disc(x, y, self.line, colour)


class _Tags:
    """Finds each tag a place inside of the picture: at its box, off the other tags, off other objects where it can."""

    def __init__(self, size: tuple[int, int], letters: int, boxes: NDArray[np.float64]):
        self.width, self.height = size
        self.letters = letters
        self.pad = max(2, letters // 4)
        self.boxes = boxes  # (N, 4) with their lines, in pixels of the picture
        self.taken: list[Corners] = []

    def font(self, words: str) -> Font:
        return font(self.letters, words)

    def place(self, row: int, mark: _Mark) -> tuple[Corners, str]:
        """Where the tag of the box ``row`` goes, and its words, cut to what there is room for."""
        most = max(10.0, min(self.width - 2.0, max(0.4 * self.width, 12 * self.letters)) - 2 * self.pad)
        ending = f" {mark.ending}" if mark.tag and mark.ending else mark.ending
        words = fit_text(mark.tag, most - self.font(ending).getlength(ending), self.letters) + ending
        wide = math.ceil(self.font(words).getlength(words)) + 2 * self.pad
        high = math.ceil(self.letters * 1.25) + self.pad // 2
        x1, y1, x2, y2 = self.boxes[row].tolist()
        lines = [(x1, y1 + step * high) for step in range(1, 6)]
        corners = [
            (x1, y1 - high), (x1, y2), (x2 - wide, y1 - high), (x2 - wide, y2), (x2, y1), (x1 - wide, y1),
            (x1, y1), (x2 - wide, y1), (x1, y2 - high), (x2 - wide, y2 - high), *lines,
        ]  # fmt: skip
        places = np.array([[round(x), round(y)] for x, y in corners], dtype=np.float64)
        places[:, 0] = places[:, 0].clip(0, max(0, self.width - wide))
        places[:, 1] = places[:, 1].clip(0, max(0, self.height - high))
        places = np.concatenate((places, places + np.array([wide, high])), axis=1)
        others = np.delete(self.boxes, row, axis=0)
        area = wide * high
        costs = (
            100 * _common(places, np.array(self.taken).reshape(-1, 4)).sum(1) / area
            + _common(places, others).sum(1) / area
            + 2 * _common(places, self.boxes[row : row + 1]).sum(1) / area
            + 0.01 * np.arange(len(places))
        )
        left, top, right, bottom = places[int(costs.argmin())].tolist()
        self.taken.append((left, top, right, bottom))
        return (left, top, right, bottom), words


def _common(places: NDArray[np.float64], others: NDArray[np.float64]) -> NDArray[np.float64]:
    """Areas in common of (A, 4) and (B, 4): (A, B)."""
    first = np.maximum(places[:, None, :2], others[None, :, :2])
    last = np.minimum(places[:, None, 2:], others[None, :, 2:])
    return (last - first).clip(min=0).prod(axis=2)


def _finite(numbers: Sequence[float]) -> bool:
    return all(math.isfinite(number) for number in numbers)


def _plural(word: str, count: int) -> str:
    if count == 1:
        return word
    return f"{word[:-1]}ies" if word.endswith("y") else f"{word}es" if word.endswith("x") else f"{word}s"


def _number(word: str, count: int) -> str:
    return f"{count} {_plural(word, count)}"


def _count(objects: Instances) -> str:
    return _number("object", len(objects)) if len(objects) else "no objects"


def _side_by_side(
    pictures: Sequence[Image.Image], captions: Sequence[str], *, columns: int, note: str = ""
) -> Image.Image:
    """Pictures of one size in rows, each under its caption, and a note below."""
    width, height = pictures[0].size
    size = max(13, round(math.sqrt(width * height) / 40))
    head = round(size * 1.9)
    rows = math.ceil(len(pictures) / columns)
    foot = head if note else 0
    sheet = Image.new("RGB", (columns * (width + GAP) - GAP, rows * (height + head) + foot), PAPER)
    draw = ImageDraw.Draw(sheet)
    for index, (picture, caption) in enumerate(zip(pictures, captions, strict=True)):
        x, y = index % columns * (width + GAP), index // columns * (height + head)
        words = fit_text(caption, width, size)
        draw.text((x + 2, y + head / 2), words, fill=INK, font=font(size, words), anchor="lm")
        sheet.paste(picture, (x, y + head))
    if note:
        words = fit_text(note, sheet.width, size)
        draw.text((2, sheet.height - head / 2), words, fill=MUTED, font=font(size, words), anchor="lm")
    return sheet


def _under_legend(picture: Image.Image, words: Sequence[tuple[str, Colour]]) -> Image.Image:
    """The picture under a line of words, each after a square of its colour; in two columns where it is narrow."""
    size = max(13, round(math.sqrt(picture.width * picture.height) / 40))
    row = round(size * 1.7)
    widths = [size * 2.6 + font(size).getlength(text) for text, _ in words]
    columns = len(words) if sum(widths) <= picture.width else 2 if 2 * max(widths) <= picture.width else 1
    lines = math.ceil(len(words) / columns)
    sheet = Image.new("RGB", (picture.width, picture.height + lines * row + size // 2), PAPER)
    draw = ImageDraw.Draw(sheet)
    pitch = max(widths) if columns < len(words) else 0
    x = 0.0
    for index, ((text, colour), wide) in enumerate(zip(words, widths, strict=True)):
        if columns < len(words):
            x = index % columns * pitch
        y = size // 4 + index // columns * row
        middle = y + row / 2
        draw.rectangle((x + 2, middle - size / 2, x + 2 + size, middle + size / 2), fill=colour, outline=UNDER)
        draw.text((x + size * 1.5, middle), text, fill=INK, font=font(size), anchor="lm")
        x += wide
    sheet.paste(picture, (0, sheet.height - picture.height))
    return sheet
