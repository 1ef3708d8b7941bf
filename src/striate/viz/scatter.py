"""Points by group as inline SVG: thousands of dots in a few elements, in colours for light and dark pages.

Each group is one path of zero-length strokes with round or square caps, so that dots keep their size on the screen
however far a page zooms in. Colours are CSS variables, the first six those of `striate.viz.charts`.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from striate.viz.text import escape

SIDE = 1000  # of the drawing in user units; points have coordinates from 0 to SIDE
COLOURS = 12  # told apart; after them the same with square dots
MARKS = 2 * COLOURS
OTHERS = -1  # the mark of what has none of its own

STYLE = """\
.scatter { --c0: #0072b2; --c1: #d55e00; --c2: #009e73; --c3: #b0568a; --c4: #b07a00; --c5: #3a9bd6;
  --c6: #6a3fb5; --c7: #8a4b2a; --c8: #6b7a00; --c9: #00808c; --c10: #c62839; --c11: #2f4858; --others: #9aa3ad; }
@media (prefers-color-scheme: dark) { .scatter { --c0: #56b4e9; --c1: #f0894a; --c2: #35c79b; --c3: #e39bc6;
  --c4: #f0b93a; --c5: #a5c8e8; --c6: #b79cf0; --c7: #c99a7c; --c8: #c3cf4a; --c9: #4fd1d9; --c10: #ff6b78;
  --c11: #d5dde6; --others: #727c88; } }
svg.scatter { display: block; width: 100%; height: auto; aspect-ratio: 1; }
.scatter path { fill: none; vector-effect: non-scaling-stroke; stroke-opacity: .8; }
.scatter path.dim { stroke-opacity: .1; }
"""


@dataclass(frozen=True, kw_only=True)
class Group:
    """Points that belong together."""

    name: str
    points: NDArray[np.float64]  # (M, 2), x and y from 0 to SIDE, y downwards
    mark: int  # 0 to MARKS - 1, or OTHERS


def colour(mark: int) -> str:
    """The CSS colour of a mark."""
    return "var(--others)" if mark == OTHERS else f"var(--c{mark % COLOURS})"


def cap(mark: int) -> str:
    """The shape of its dots, as SVG's ``stroke-linecap``."""
    return "square" if mark >= COLOURS else "round"


def fit(points: NDArray[np.float64], margin: float = 24) -> NDArray[np.float64]:
    """Points of any scale, moved and scaled alike in both directions, so that they fill the drawing.

    Args:
        points: (N, 2), y upwards.
        margin: left free on all sides.

    Returns:
        (N, 2) from ``margin`` to SIDE - ``margin``, y downwards.
    """
    low, high = points.min(0), points.max(0)
    scale = (SIDE - 2 * margin) / max(float((high - low).max()), 1e-12)
    centred = (points - (low + high) / 2) * scale
    return centred * (1, -1) + SIDE / 2


def dot_size(count: int) -> int:
    """Diameter of a dot in pixels of the screen, the smaller the more there are."""
    return 9 if count <= 500 else 7 if count <= 2000 else 5 if count <= 6000 else 4


def scatter(title: str, groups: Sequence[Group]) -> str:
    """Points in the plane.

    Args:
        title: what is shown, for screen readers.
        groups: drawn in this order.

    Returns:
        An ``<svg>`` element; its paths have the class ``dots``, in the order of the groups. `STYLE` has to stand on the
        page.
    """
    size = dot_size(sum(len(group.points) for group in groups))
    paths = "".join(
        f'<path class="dots" stroke="{colour(group.mark)}" stroke-linecap="{cap(group.mark)}" '
        # A square cap has a greater area than a round one of the same width.
        f'stroke-width="{size if cap(group.mark) == "round" else round(0.89 * size, 1)}" '
        f'd="{"".join(f"M{x:.1f} {y:.1f}h0" for x, y in group.points.tolist())}"/>'
        for group in groups
    )
    summary = "; ".join(f"{group.name}: {len(group.points):,}" for group in groups)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" class="scatter" viewBox="0 0 {SIDE} {SIDE}" width="{SIDE}" '
        f'height="{SIDE}" role="img" aria-label="{escape(title)}"><title>{escape(title)}</title>'
        f"<desc>{escape(summary)}</desc>{paths}</svg>"
    )


def swatch(mark: int) -> str:
    """One dot for a legend, as an ``<svg>`` element."""
    return (
        '<svg viewBox="0 0 12 12" width="12" height="12" aria-hidden="true"><path fill="none" '
        f'stroke="{colour(mark)}" stroke-width="{9 if cap(mark) == "round" else 8}" '
        f'stroke-linecap="{cap(mark)}" d="M6 6h0"/></svg>'
    )
