"""Multiply-accumulates of single operations, in closed form.

One multiply-accumulate (MAC) is one multiplication whose product is added to a sum: the work of convolutions, matrix
products and attention. A dense, naive evaluation is counted: zeros of padding, masks and tables are multiplied like
any other number, and biases add nothing. **FLOPs are 2 x MACs**, one for the multiplication and one for the addition;
papers often print MACs and call them FLOPs.

By definition everything in `FREE` counts zero: element by element arithmetic and activation functions (whatever torch
tags as pointwise), pooling, normalisation, softmax, sums, interpolation, copying and indexing. An operation that is in
neither table is reported as uncounted, never dropped.
"""

import functools
from collections.abc import Callable
from math import prod
from typing import Any

import torch
from torch import Tensor

from striate.analysis.trace import Operation


def _convolution(operation: Operation) -> int:
    inputs: Tensor = operation.argument("input")
    weight: Tensor = operation.argument("weight")
    # (Co, Ci / groups, k, k) and every output element; transposed (Ci, Co / groups, k, k) and every input element.
    steps = inputs if operation.argument("transposed", False) else operation.outputs[0]
    return steps.numel() * prod(weight.shape[1:])


def _deformable(operation: Operation) -> int:
    weight: Tensor = operation.argument("weight")
    return operation.outputs[0].numel() * prod(weight.shape[1:])  # taking the samples is interpolation, and free


def _product(first: str, second: str) -> Callable[[Operation], int]:
    """(..., n, m) times (..., m, p) or (..., m)."""

    def macs(operation: Operation) -> int:
        a: Tensor = operation.argument(first)
        b: Tensor = operation.argument(second)
        return a.numel() * (b.shape[-1] if b.dim() > 1 else 1)

    return macs


def _matmul(operation: Operation) -> int:
    a: Tensor = operation.argument("self")
    return operation.outputs[0].numel() * a.shape[-1]


def _linear(operation: Operation) -> int:
    weight: Tensor = operation.argument("weight")
    return operation.outputs[0].numel() * weight.shape[-1]


def _attention(operation: Operation) -> int:
    """Queries (B, h, Q, d), keys (B, h, N, d) and values (B, h, N, e): Q N (d + e) per head; a mask saves nothing."""
    query: Tensor = operation.argument("query")
    key: Tensor = operation.argument("key")
    value: Tensor = operation.argument("value")
    return prod(query.shape[:-1]) * key.shape[-2] * (query.shape[-1] + value.shape[-1])


COUNTED: dict[str, Callable[[Operation], int]] = {
    "aten::convolution": _convolution,
    "aten::_convolution": _convolution,
    "aten::convolution_overrideable": _convolution,
    "torchvision::deform_conv2d": _deformable,
    "aten::mm": _product("self", "mat2"),
    "aten::addmm": _product("mat1", "mat2"),
    "aten::_addmm_activation": _product("mat1", "mat2"),
    "aten::bmm": _product("self", "mat2"),
    "aten::baddbmm": _product("batch1", "batch2"),
    "aten::addbmm": _product("batch1", "batch2"),
    "aten::mv": _product("self", "vec"),
    "aten::addmv": _product("mat", "vec"),
    "aten::dot": _product("self", "tensor"),
    "aten::vdot": _product("self", "other"),
    "aten::matmul": _matmul,
    "aten::linear": _linear,
    "aten::scaled_dot_product_attention": _attention,
    "aten::_scaled_dot_product_attention_math": _attention,
    "aten::_scaled_dot_product_attention_math_for_mps": _attention,
    "aten::_scaled_dot_product_flash_attention": _attention,
    "aten::_scaled_dot_product_flash_attention_for_cpu": _attention,
    "aten::_scaled_dot_product_efficient_attention": _attention,
    "aten::_scaled_dot_product_cudnn_attention": _attention,
    "aten::_scaled_dot_product_fused_attention_overrideable": _attention,
}


def _aten(*words: str) -> frozenset[str]:
    return frozenset(f"aten::{name}" for line in words for name in line.split())


# Views: another look at the same memory, no work at all.
VIEWS = _aten(
    "_neg_view _reshape_alias _unsafe_view alias as_strided as_strided_ chunk detach detach_ diagonal expand",
    "lift_fresh movedim narrow permute real reshape resolve_conj resolve_neg select slice split split_with_sizes",
    "squeeze squeeze_ swapaxes t t_ transpose transpose_ unbind unflatten unfold unsqueeze unsqueeze_ view view_as",
    "view_as_complex view_as_real",
)

# Making tensors of known content.
MAKING = _aten(
    "_efficientzerotensor arange empty empty_like empty_strided eye full full_like linspace new_empty",
    "new_empty_strided new_full new_ones new_zeros ones ones_like scalar_tensor zeros zeros_like",
)

# Activation functions that torch does not tag as pointwise.
UNTAGGED = frozenset(("hardswish", "log_sigmoid_forward", "_prelu_kernel", "prelu", "rrelu_with_noise"))

# Operations known to have no multiply-accumulates, beside whatever is pointwise.
FREE = (
    VIEWS
    | MAKING
    # normalisation
    | _aten(
        "_batch_norm_no_update _native_batch_norm_legit _native_batch_norm_legit_no_training batch_norm",
        "cudnn_batch_norm _fused_rms_norm group_norm instance_norm layer_norm native_batch_norm native_group_norm",
        "native_layer_norm rms_norm _weight_norm _weight_norm_interface norm_except_dim renorm",
    )
    # pooling and interpolation
    | _aten(
        "_adaptive_avg_pool2d _adaptive_avg_pool3d adaptive_avg_pool1d adaptive_avg_pool2d adaptive_avg_pool3d",
        "adaptive_max_pool1d adaptive_max_pool2d adaptive_max_pool3d avg_pool1d avg_pool2d avg_pool3d max_pool1d",
        "max_pool1d_with_indices max_pool2d max_pool2d_with_indices max_pool3d max_pool3d_with_indices max_unpool2d",
        "fractional_max_pool2d _upsample_bicubic2d_aa _upsample_bilinear2d_aa _upsample_nearest_exact1d",
        "_upsample_nearest_exact2d upsample_bicubic2d upsample_bilinear2d upsample_linear1d upsample_nearest1d",
        "upsample_nearest2d upsample_nearest3d upsample_trilinear3d affine_grid_generator grid_sampler_2d",
    )
    # softmax, gated units, random numbers
    | _aten(
        "_log_softmax _safe_softmax _softmax glu log_softmax softmax bernoulli bernoulli_ native_dropout normal_ rand",
        "rand_like randn randn_like uniform_",
    )
    # sums and other reductions
    | _aten(
        "all amax amin aminmax any argmax argmin argsort count_nonzero cumsum linalg_vector_norm logsumexp max mean",
        "median min norm prod sort std std_mean sum topk var var_mean",
    )
    # padding, copying, placing, indexing
    | _aten(
        "_index_put_impl_ _local_scalar_dense _to_copy _unsafe_index _unsafe_index_put cat channel_shuffle clone",
        "col2im constant_pad_nd contiguous copy copy_ diag_embed embedding fill fill_ flip gather im2col index",
        "index_add index_copy index_fill index_fill_ index_put index_put_ index_select item",
        "masked_fill masked_fill_ meshgrid",
        "native_channel_shuffle nonzero one_hot pad pixel_shuffle pixel_unshuffle reflection_pad1d reflection_pad2d",
        "repeat repeat_interleave replication_pad1d replication_pad2d roll scatter scatter_ scatter_add",
        "select_scatter slice_scatter stack take_along_dim tril triu unique where zero zero_",
    )
    | {f"torchvision::{name}" for name in ("roi_align", "roi_pool", "ps_roi_align", "ps_roi_pool", "nms")}
    | {"torchvision::_cuda_version"}  # asked when torchvision is imported, which a forward pass may be the first to do
)


def macs(operation: Operation) -> int | None:
    """Multiply-accumulates of ``operation``; None where it cannot be counted."""
    count = COUNTED.get(operation.name)
    if count is not None:
        return count(operation)
    return 0 if operation.name in FREE or is_pointwise(operation.function) else None


@functools.cache
def is_pointwise(function: Any) -> bool:
    """Whether an operation works element by element: torch tags it, or for one in place the one that it stands for."""
    namespace, _, name = function._schema.name.partition("::")
    if torch.Tag.pointwise in function.tags or (namespace == "aten" and name.removesuffix("_") in UNTAGGED):
        return True
    if not name.endswith("_") or name.startswith("_"):
        return False
    packet = getattr(getattr(torch.ops, namespace), name[:-1], None)
    return packet is not None and any(
        torch.Tag.pointwise in getattr(packet, overload).tags for overload in packet.overloads()
    )
