"""Whether dropout helps, and with how many images.

In each training step dropout leaves out half of the units at random, so that none can rely on the others. What the
network learns by heart it then has to learn with every half of itself; when it predicts, all units take part.
"""

from collections.abc import Sequence

from striate.studies.lab import Lab
from striate.studies.shrinking import (
    RULE,
    Sizes,
    Way,
    charts,
    helps,
    network,
    numbers,
    room,
    saved,
    saves,
    table,
    train_all,
)
from striate.studies.study import Findings, Part, Study, judge


def measure(lab: Lab, sizes: Sizes) -> Findings:
    """Train with and without dropout, on fewer and fewer images."""
    plain, dropout = train_all(lab, sizes, {"without": {}, "dropout": {"model": network(dropout="DROPOUT 0.5 -> ")}})
    parts = judged(plain, dropout)
    gains = ", ".join(
        f"{saves(share)} with {images:,} images"
        for share, images in zip(saved(plain, dropout), plain.images, strict=True)
    )
    return Findings(
        verdict=judge(parts),
        why=f"Of the test errors dropout {gains}. {room(plain)}",
        parts=parts,
        tables=[table(plain, [dropout], sizes.steps)],
        charts=charts(plain, [dropout]),
        numbers=numbers(plain, [dropout]),
    )


def judged(plain: Way, dropout: Way) -> Sequence[Part]:
    """The three things that the paper's figure 10 shows."""
    shares = saved(plain, dropout)
    images = [f"{count:,} images" for count in plain.images]
    best = max(range(len(shares)), key=lambda at: shares[at].mean)
    fall = shares[best].mean - shares[-1].mean
    return [
        Part(
            claim="With the fewest images dropout does not help",
            measured=f"with {images[0]} it {saves(shares[0])} of the errors",
            holds=not helps(shares[0]),
        ),
        Part(
            claim="Its gain grows with the number of images, up to a point",
            measured=f"at best, with {images[best]}, it {saves(shares[best])}",
            holds=best > 0 and helps(shares[best]),
        ),
        Part(
            claim="With the most images its gain is smaller again",
            measured=f"with {images[-1]} it {saves(shares[-1])}, at best it {saves(shares[best])}",
            holds=helps(shares[best]) and fall > 0 and (shares[-1].high or 0) < shares[best].mean,
        ),
    ]


STUDY = Study(
    name="dropout",
    title="Dropout helps neither with very few images nor with very many",
    claim="Dropout keeps a network from overfitting. As there are more training images its gain grows up to a point, "
    "and then declines: with very few it does not help, and with very many there is no overfitting to prevent.",
    citation="Srivastava, Hinton, Krizhevsky, Sutskever, Salakhutdinov: Dropout: A Simple Way to Prevent Neural "
    "Networks from Overfitting, JMLR 15, 2014, section 7.4 and figure 10 (on MNIST). Dropout of 0.5 before both full "
    "layers as in Krizhevsky, Sutskever, Hinton, NIPS 2012, section 4.2.",
    rule=f"{RULE} The claim holds if dropout does not help with the fewest images, helps with more of them, on "
    "average more than with the fewest, and with the most saves less than at best, by more than its interval.",
    data=("mnist", "fashion-mnist", "digits"),
    quick=Sizes(per_class=(10, 60, 600, 6000), steps=600, seeds=3),
    full=Sizes(per_class=(10, 60, 200, 600, 2000, 6000), steps=2400, seeds=3),
    measure=measure,
)
