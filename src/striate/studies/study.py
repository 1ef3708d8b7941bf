"""What a study is made of: a claim, a rule that turns numbers into a verdict, a way to measure, and what was found."""

import math
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from PIL import Image

from striate.viz.charts import Series

if TYPE_CHECKING:
    from striate.studies.lab import Lab

Effort = Literal["quick", "full"]


class Verdict(StrEnum):
    """What the numbers say of the claim."""

    HOLDS = "holds"
    IN_PART = "holds in part"
    NOT_HERE = "does not hold here"


@dataclass(frozen=True, kw_only=True)
class Study:
    """One claim of the field and how it is measured again."""

    name: str  # as it is typed: "vanishing-gradients"; its module has underscores
    title: str  # the claim in a few words, for the list
    claim: str  # the claim in full
    citation: str  # paper, section, figure
    rule: str  # in words, how the numbers become a verdict; `measure` follows it
    quick: Any  # the study's own frozen dataclass of sizes; its field `seeds`, if it has one, is what --seeds sets
    full: Any  # the same, as large as the docs show it
    measure: "Callable[[Lab, Any], Findings]"  # takes the sizes too
    data: tuple[str, ...] = ()  # known names, the best first: the first whose files are there is taken
    own_data: Callable[[Path], str] | None = None  # where no known data suits: writes some into a folder, says where
    weights: str = ""  # in words, what --weights has to name; empty where the study takes none


@dataclass(frozen=True, kw_only=True)
class Part:
    """One checkable part of a claim."""

    claim: str
    measured: str  # what was found, with its interval
    holds: bool


@dataclass(frozen=True, kw_only=True)
class Table:
    """Numbers for people. The first column names the rows."""

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]  # cells as they are shown
    caption: str = ""


@dataclass(frozen=True, kw_only=True)
class Chart:
    """A drawing of `striate.viz.charts`."""

    title: str  # for the JSON document; the drawing shows its own
    svg: str
    caption: str = ""


@dataclass(frozen=True, kw_only=True)
class Picture:
    """Pixels, as in a contact sheet."""

    title: str
    image: Image.Image
    caption: str = ""


@dataclass(frozen=True, kw_only=True)
class Findings:
    """What came of measuring."""

    verdict: Verdict
    why: str  # in plain words, with the deciding numbers
    parts: Sequence[Part] = ()  # what the verdict was made of, where the claim has several parts
    tables: Sequence[Table] = ()
    charts: Sequence[Chart] = ()
    pictures: Sequence[Picture] = ()
    numbers: dict[str, Any] = field(default_factory=dict[str, Any])  # for programs; goes into study.json


def judge(parts: Sequence[Part]) -> Verdict:
    """The usual rule: a claim holds if all its parts do, and in part if some do."""
    held = [part.holds for part in parts]
    return Verdict.HOLDS if all(held) else Verdict.IN_PART if any(held) else Verdict.NOT_HERE


@dataclass(frozen=True, kw_only=True)
class Interval:
    """A mean over seeds with its 95% interval. In an f-string the format applies to both: ``f"{interval:.1%}"``."""

    mean: float
    low: float | None  # None for one value, which says nothing of chance
    high: float | None
    count: int

    @property
    def margin(self) -> float:
        """Half of the interval; 0 where there is none."""
        return 0.0 if self.high is None else self.high - self.mean

    @property
    def above_zero(self) -> bool:
        """Whether all of it is; of one value, whether that is."""
        return (self.mean if self.low is None else self.low) > 0

    @property
    def points(self) -> str:
        """A share, or a difference of shares, in percentage points."""
        percent = f"{100 * self.mean:.1f}"
        return percent if self.high is None else f"{percent} ± {100 * self.margin:.1f}"

    def __format__(self, spec: str) -> str:
        mean = format(self.mean, spec)
        return mean if self.high is None else f"{mean} ± {format(self.margin, spec)}"

    def to_json(self) -> dict[str, Any]:
        """For `Findings.numbers`."""
        return {"mean": self.mean, "low": self.low, "high": self.high, "count": self.count}


def summary(values: Sequence[float]) -> Interval:
    """The mean of one number per seed, with Student's 95% interval.

    Args:
        values: one or more.
    """
    mean = statistics.fmean(values)
    if len(values) == 1:
        return Interval(mean=mean, low=None, high=None, count=1)
    margin = _t975(len(values) - 1) * statistics.stdev(values) / math.sqrt(len(values))
    return Interval(mean=mean, low=mean - margin, high=mean + margin, count=len(values))


def band(name: str, x: Sequence[float], of: Sequence[Interval], *, times: float = 1.0) -> Series:
    """A line through means with their intervals around it.

    Args:
        name: of the line.
        x: as many as there are intervals.
        of: one or more.
        times: what the values are multiplied by, as in 100 for percent.
    """
    alone = any(each.low is None for each in of)
    return Series(
        name=name,
        x=x,
        y=[times * each.mean for each in of],
        low=None if alone else [times * (each.mean - each.margin) for each in of],
        high=None if alone else [times * (each.mean + each.margin) for each in of],
    )


# 97.5% quantiles of Student's distribution for 1, 2, ... degrees of freedom.
_T975 = (12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228)


def _t975(freedom: int) -> float:
    if freedom <= len(_T975):
        return _T975[freedom - 1]
    z = 1.959964  # and from here on its expansion around the normal one (Abramowitz & Stegun 1964, 26.7.5)
    first = (z**3 + z) / 4
    second = (5 * z**5 + 16 * z**3 + 3 * z) / 96
    third = (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384
    return z + first / freedom + second / freedom**2 + third / freedom**3
