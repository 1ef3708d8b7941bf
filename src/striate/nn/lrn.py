"""Local response normalisation with the constants of the network that introduced it."""

from torch import nn


def local_response_norm() -> nn.LocalResponseNorm:
    """The layer of Krizhevsky, Sutskever, Hinton 2012, section 3.3: b_i = a_i / (k + alpha sum_j a_j^2)^beta.

    The sum runs over the n = 5 maps around map i at the same position; k = 2, alpha = 1e-4, beta = 0.75. torch and
    Caffe divide alpha by n and the paper's formula does not, hence 5e-4 here.
    """
    return nn.LocalResponseNorm(5, alpha=5 * 1e-4, beta=0.75, k=2.0)
