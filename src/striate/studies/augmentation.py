"""Whether augmentation helps, and the more, the fewer images there are.

A digit that is turned, moved, slanted or stretched a little is the same digit. Doing that to each training image anew
in every epoch makes images that nobody had to collect, and leaves the network nothing that it could learn by heart.
"""

from collections.abc import Sequence

from striate.studies.lab import Lab
from striate.studies.shrinking import RULE, Sizes, Way, charts, helps, numbers, room, saved, saves, table, train_all
from striate.studies.study import Findings, Part, Study, judge

POLICY = "geometric(rotation=10, shift=0.08, shear=8, zoom=0.9..1.1)"


def measure(lab: Lab, sizes: Sizes) -> Findings:
    """Train with and without augmentation, on fewer and fewer images."""
    plain, augmented = train_all(lab, sizes, {"without": {}, "augmentation": {"augment": POLICY}})
    parts = judged(plain, augmented)
    gains = ", ".join(
        f"{saves(share)} with {images:,} images"
        for share, images in zip(saved(plain, augmented), plain.images, strict=True)
    )
    return Findings(
        verdict=judge(parts),
        why=f"Of the test errors augmentation {gains}. {room(plain)}",
        parts=parts,
        tables=[table(plain, [augmented], sizes.steps)],
        charts=charts(plain, [augmented]),
        numbers=numbers(plain, [augmented]),
    )


def judged(plain: Way, augmented: Way) -> Sequence[Part]:
    """It helps, more with few images, by making it harder to know the training images."""
    shares = saved(plain, augmented)
    few, most = f"{plain.images[0]:,} images", f"{plain.images[-1]:,} images"
    return [
        Part(
            claim="Augmentation lowers the test error with the fewest images",
            measured=f"with {few} it {saves(shares[0])} of the errors",
            holds=helps(shares[0]),
        ),
        Part(
            claim="and with the most",
            measured=f"with {most} it {saves(shares[-1])} of the errors",
            holds=helps(shares[-1]),
        ),
        Part(
            claim="It helps the more, the fewer images there are",
            measured=f"it {saves(shares[0])} with {few} and {saves(shares[-1])} with {most}",
            holds=helps(shares[0]) and (shares[-1].high or shares[-1].mean) < shares[0].mean,
        ),
        Part(
            claim="It narrows the gap between test and training error for any number of images",
            measured="; ".join(
                f"{images:,} images: {without:.2%} without, {with_it:.2%} with"
                for images, without, with_it in zip(plain.images, plain.gap, augmented.gap, strict=True)
            ),
            holds=all(a.mean > b.mean for a, b in zip(plain.gap, augmented.gap, strict=True)),
        ),
    ]


STUDY = Study(
    name="augmentation",
    title="Augmentation saves errors, the more the fewer images there are",
    claim="The best way to a small error is a larger training set, and distorting the images makes one: without it "
    "networks overfit substantially. The fewer images there are, the more it helps.",
    citation="Simard, Steinkraus, Platt: Best Practices for Convolutional Neural Networks Applied to Visual Document "
    "Analysis, ICDAR 2003, section 2 (MNIST). Krizhevsky, Sutskever, Hinton, NIPS 2012, section 4.1, where without "
    "shifts and mirror images the network overfits, and its error is over 1% higher without altered colours.",
    rule=f"{RULE} The claim holds if augmentation helps with the fewest and with the most images, with the most by "
    "less than with the fewest, by more than the interval, and if the gap narrows on average everywhere.",
    data=("mnist", "fashion-mnist", "digits"),
    quick=Sizes(per_class=(60, 600, 6000), steps=600, seeds=3),
    full=Sizes(per_class=(60, 200, 600, 2000, 6000), steps=2400, seeds=3),
    measure=measure,
)
