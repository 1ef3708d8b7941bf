"""The fully connected networks of LeCun's table, as published."""

from striate.models.published import Published, PublishedError

LECUN_1998 = 'LeCun, Bottou, Bengio, Haffner 1998, "Gradient-Based Learning Applied to Document Recognition"'

ROWS = (
    Published(
        model="linear",
        figure="parameters",
        value=7_850,
        source="784 x 10 weights and 10 biases; 28x28 inputs of " + LECUN_1998,
    ),
    Published(
        model="lenet300",
        figure="parameters",
        value=238_510,
        source="784-300-10 of " + LECUN_1998 + ", section III-C.5; arithmetic",
    ),
    Published(
        model="lenet300-100",
        figure="parameters",
        value=266_610,
        source="784-300-100-10 of " + LECUN_1998 + ", section III-C.6; arithmetic",
    ),
)

ERRORS = (
    PublishedError(model="linear", data="MNIST", error=12.0, source=LECUN_1998 + ", figure 9"),
    PublishedError(model="lenet300", data="MNIST", error=4.7, source=LECUN_1998 + ", figure 9"),
    PublishedError(
        model="lenet300", data="MNIST, distorted training images", error=3.6, source=LECUN_1998 + ", figure 9"
    ),
    PublishedError(model="lenet300-100", data="MNIST", error=3.05, source=LECUN_1998 + ", figure 9"),
    PublishedError(
        model="lenet300-100", data="MNIST, distorted training images", error=2.45, source=LECUN_1998 + ", figure 9"
    ),
)
