"""The cost of one tensor operation, from its shapes alone.

Legend: B images, C channels, H and W pixels, N tokens, D features. `macs` are multiply-adds over all taps,
`inside_macs` those over the taps inside the map; the two differ only for convolutions. `pool_ops` are the elements that
pooling reads, one operation each, as on the lecture slides: C x H' x W' x K x K. Multiply-adds never include pooling.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from math import prod
from typing import Any, NamedTuple

import torch
from torch import Tensor

from vision_repro.accounting.conv_padding import Axis, Border, Shape

aten = torch.ops.aten


class Operation(NamedTuple):
    """One operation: its kind, the shapes of its first input and of its output, and its cost."""

    kind: str
    input: Shape
    output: Shape
    macs: int = 0
    inside_macs: int = 0
    pool_ops: int = 0
    kernel: Shape = ()
    stride: Shape = ()
    padding: Border = ()
    groups: int = 1


def convolution(args: Sequence[Any], out: Tensor, border: Border) -> Operation:
    """Returns the cost of a convolution; `border` are the zeros that an explicit padding has put around its input."""
    source, weight, _, strides, pads, dilations, transposed, _, groups = args[:9]
    axes = axes_of(source.shape[2:], weight.shape[2:], strides, pads, dilations, border)
    pairs = source.shape[0] * weight.shape[0] * weight.shape[1]  # weight is [C_out, C_in / groups, ...]
    if transposed:  # each input pixel meets every tap once, and no input is a padded zero
        macs = pairs * prod(source.shape[2:]) * prod(weight.shape[2:])
        return Operation("conv", tuple(source.shape), tuple(out.shape), macs, macs, 0, tuple(weight.shape[2:]))
    return Operation(
        "conv",
        (*source.shape[:2], *(axis.size for axis in axes)),
        tuple(out.shape),
        pairs * prod(axis.all_taps for axis in axes),
        pairs * prod(axis.inside_taps for axis in axes),
        kernel=tuple(axis.kernel for axis in axes),
        stride=tuple(axis.stride for axis in axes),
        padding=tuple((axis.low, axis.high) for axis in axes),
        groups=groups,
    )


def axes_of(
    sizes: Sequence[int],
    kernels: Sequence[int],
    strides: Sequence[int],
    pads: Sequence[int],
    dilations: Sequence[int],
    border: Border,
) -> list[Axis]:
    """Returns the axes of a convolution over a map of `sizes` pixels, which include `border`."""
    zeros = border or ((0, 0),) * len(sizes)
    return [
        Axis(
            sizes[index] - sum(zeros[index]),
            kernels[index],
            strides[index % len(strides)],
            dilations[index % len(dilations)],
            pads[index % len(pads)] + zeros[index][0],
            pads[index % len(pads)] + zeros[index][1],
        )
        for index in range(len(sizes))
    ]


def convolution_backward(args: Sequence[Any], border: Border) -> Operation:
    """Returns the cost of a convolution's backward pass: the gradients of input and weight that `args` request.

    Each gradient uses the same (pixel, tap) pairs as the forward pass.
    """
    grad, source, weight, _, strides, pads, dilations, transposed, padding, groups, mask = args
    forward = convolution([source, weight, None, strides, pads, dilations, transposed, padding, groups], grad, border)
    times = sum(map(bool, mask[:2]))
    return forward._replace(macs=times * forward.macs, inside_macs=times * forward.inside_macs)


def matrix_product(kind: str, left: Tensor, right: Tensor, out: Tensor) -> Operation:
    """Returns the cost of a product `[..., n, k] x [..., k, m]`."""
    macs = left.numel() * right.shape[-1]
    return Operation(kind, tuple(left.shape), tuple(out.shape), macs, macs)


def fused_attention(args: Sequence[Any], out: Any) -> Operation:
    """Returns the cost of both products of a fused attention kernel: Q K' and its softmax times V."""
    query, key, value = args[:3]
    result = out[0] if isinstance(out, (tuple, list)) else out
    macs = prod(query.shape[:-1]) * key.shape[-2] * (query.shape[-1] + value.shape[-1])
    return Operation("attention", tuple(query.shape), tuple(result.shape), macs, macs)


def pooling(args: Sequence[Any], out: Any) -> Operation:
    """Returns the cost of a max or average pooling with a window."""
    source, kernel, *rest = args
    result = out[0] if isinstance(out, (tuple, list)) else out
    sides = _pair(kernel)
    strides = _pair(rest[0]) if rest and rest[0] else sides
    pads = _pair(rest[1]) if len(rest) > 1 else (0, 0)
    return Operation(
        "pool",
        tuple(source.shape),
        tuple(result.shape),
        pool_ops=result.numel() * prod(sides),
        kernel=sides,
        stride=strides,
        padding=tuple((pad, pad) for pad in pads),
    )


def _pair(value: Any) -> Shape:
    sides = tuple(value) if isinstance(value, (tuple, list)) else (value,)
    return sides if len(sides) > 1 else sides * 2


def mean(args: Sequence[Any], out: Any) -> Operation | None:
    """Returns the cost of a mean over a whole map `[B, C, H, W]` or `[B, H, W, C]`, or over all tokens `[B, N, D]`.

    Returns None for any other mean, which is part of a norm.
    """
    source = args[0]
    axes = {axis % source.ndim for axis in (args[1] if len(args) > 1 and args[1] else ())}
    if (source.ndim, axes) not in ((4, {2, 3}), (4, {1, 2}), (3, {1})):
        return None
    kernel = tuple(source.shape[axis] for axis in sorted(axes))
    images, last = source.shape[0], source.shape[-1]
    shape = (images, last, *source.shape[1:3]) if axes == {1, 2} else tuple(source.shape)
    return Operation("pool", shape, tuple(out.shape), pool_ops=source.numel(), kernel=kernel)


def adaptive_pooling(args: Sequence[Any], out: Any) -> Operation | None:
    """Returns the cost of an adaptive pooling without overlapping windows; None if it changes nothing."""
    source, result = args[0], out[0] if isinstance(out, (tuple, list)) else out
    if source.shape == result.shape:
        return None
    kernel = tuple(-(-before // after) for before, after in zip(source.shape[-2:], result.shape[-2:], strict=True))
    return Operation("pool", tuple(source.shape), tuple(result.shape), pool_ops=source.numel(), kernel=kernel)


def norm(args: Sequence[Any], out: Any) -> Operation:
    """Returns the operation of a norm, without multiply-adds."""
    result = out[0] if isinstance(out, (tuple, list)) else out
    return Operation("norm", tuple(args[0].shape), tuple(result.shape))


def layer_norm(args: Sequence[Any], out: Any) -> Operation:
    """Returns the operation of a norm over the last axis; a map `[B, H, W, C]` gets the shape `[B, N, D]`."""
    source = args[0]
    shape = (source.shape[0], prod(source.shape[1:-1]), source.shape[-1]) if source.ndim > 2 else tuple(source.shape)
    return Operation("norm", shape, shape)


def flatten(args: Sequence[Any], out: Tensor) -> Operation | None:
    """Returns the flattening of a map `[B, C, H, W]` of several pixels to features `[B, D]`, else None."""
    source = args[0]
    is_map = source.ndim == 4 and source.shape[2] * source.shape[3] > 1
    if not (is_map and out.ndim == 2 and out.shape[0] == source.shape[0]):
        return None
    return Operation("flatten", tuple(source.shape), tuple(out.shape))


def _product(kind: str, first: int) -> Callable[[Sequence[Any], Any], Operation]:
    return lambda args, out: matrix_product(kind, args[first], args[first + 1], out)


_NAMES: dict[str, Callable[[Sequence[Any], Any], Operation | None]] = {
    "mm": _product("linear", 0),
    "addmm": _product("linear", 1),
    "bmm": _product("attention", 0),
    "baddbmm": _product("attention", 1),
    "_scaled_dot_product_flash_attention": fused_attention,
    "_scaled_dot_product_flash_attention_for_cpu": fused_attention,
    "_scaled_dot_product_efficient_attention": fused_attention,
    "_scaled_dot_product_cudnn_attention": fused_attention,
    "_scaled_dot_product_fused_attention_overrideable": fused_attention,
    "max_pool2d_with_indices": pooling,
    "avg_pool2d": pooling,
    "_adaptive_avg_pool2d": adaptive_pooling,
    "adaptive_max_pool2d": adaptive_pooling,
    "mean": mean,
    "native_layer_norm": layer_norm,
    "native_group_norm": norm,
    "native_batch_norm": norm,
    "_native_batch_norm_legit": norm,
    "_native_batch_norm_legit_no_training": norm,
    "view": flatten,
    "_unsafe_view": flatten,
}
FORMULAS: Mapping[Any, Callable[[Sequence[Any], Any], Operation | None]] = {
    getattr(aten, name): formula for name, formula in _NAMES.items() if hasattr(aten, name)
}
"""Operator -> its cost, for the operators that this version of torch has; all others have no cost."""
NORMS = frozenset(operator for operator, formula in FORMULAS.items() if formula in (norm, layer_norm))
"""Operators that return a tensor like their input and two statistics."""
