"""The head of two hidden full layers that AlexNet and VGG share."""

from collections import OrderedDict

from torch import nn


def full_head(channels: int, side: int, classes: int, *, units: int = 4096) -> nn.Sequential:
    """From the last map to class scores: fc6, ReLU, dropout, fc7, ReLU, dropout, fc8.

    Dropout of 0.5 is on the outputs of the two hidden layers (Krizhevsky, Sutskever, Hinton 2012, section 4.2;
    Simonyan and Zisserman 2015, section 3.1).

    Args:
        channels: of the last map.
        side: its height and width in the published network, what fc6 reads. A map of another size is averaged to it,
            so that the network takes images of other sizes; at the published size that is the identity.
        classes: K.
        units: of fc6 and fc7.

    Returns:
        From (B, channels, H, W) to (B, classes).
    """
    return nn.Sequential(
        OrderedDict[str, nn.Module](
            pool=nn.AdaptiveAvgPool2d(side),
            flatten=nn.Flatten(),
            fc6=nn.Linear(channels * side * side, units),
            relu6=nn.ReLU(inplace=True),
            drop6=nn.Dropout(0.5),
            fc7=nn.Linear(units, units),
            relu7=nn.ReLU(inplace=True),
            drop7=nn.Dropout(0.5),
            fc8=nn.Linear(units, classes),
        )
    )
