"""Counts operations while a model runs on the meta device, which computes shapes and no values."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from vision_repro.accounting.conv_padding import Border
from vision_repro.accounting.operations import FORMULAS, NORMS, Operation, convolution, convolution_backward
from vision_repro.models import use_explicit_attention

aten = torch.ops.aten
_SOFTMAX = {aten._softmax, aten._safe_softmax}


class Counter(TorchDispatchMode):  # type: ignore[no-untyped-call]  # torch's own
    """Passes every operation that has a cost to `record`, inside the `with` block.

    `border` keeps the tensors that an explicit padding has surrounded with zeros, so that "same" padding by `F.pad`
    counts as padding. `softmax` keeps the softmax matrices of attention, by the key of their storage. `quick` is for
    forward passes on the meta device: it does not run the norms.
    """

    # `quick` saves a third of the time: on the meta device torch splits each norm into some twenty operations.

    def __init__(self, record: Callable[[Operation], None], *, quick: bool = False) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.record, self.quick = record, quick
        self.border: dict[int, tuple[Tensor, Border]] = {}
        self.softmax: dict[int, Tensor] = {}

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        """Runs the operation and records it."""
        operator = func.overloadpacket
        out: Any = _blank_norm(args[0]) if self.quick and operator in NORMS else func(*args, **(kwargs or {}))
        if operator is aten.convolution:
            self.record(convolution(args, out, self._border_of(args[0])))
        elif operator is aten.convolution_backward:
            self.record(convolution_backward(args, self._border_of(args[1])))
        elif operator is aten.constant_pad_nd:
            self._remember(args, out)
        elif operator in _SOFTMAX:
            self.softmax[storage_key(out)] = out
        elif operator in FORMULAS:
            found = FORMULAS[operator](args, out)
            if found is not None:
                self.record(found)
        return out

    def _remember(self, args: tuple[Any, ...], out: Tensor) -> None:
        """Keeps the number of zeros around a padded map."""
        source, pads = args[0], args[1]
        if source.ndim < 3 or (len(args) > 2 and args[2] != 0):
            return
        axes = source.ndim - 2
        pairs = [(pads[2 * index], pads[2 * index + 1]) for index in range(len(pads) // 2)][:axes]
        found = [*pairs, *((0, 0),) * (axes - len(pairs))][::-1]
        before = self._border_of(source) or ((0, 0),) * axes
        total = tuple((low + a, high + b) for (low, high), (a, b) in zip(found, before, strict=True))
        if min(min(pair) for pair in total) >= 0:  # a negative padding crops
            # The tensor is kept alive too, so that no other one gets its address.
            self.border[storage_key(out)] = (out, total)

    def _border_of(self, tensor: Tensor) -> Border:
        kept = self.border.get(storage_key(tensor))
        return kept[1] if kept is not None and kept[0].shape == tensor.shape else ()


def _blank_norm(source: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Returns outputs of a norm without computing it: a tensor like `source`, and two empty tensors of statistics."""
    return torch.empty_like(source), source.new_empty(0), source.new_empty(0)


def storage_key(tensor: Tensor) -> int:
    """Returns a key of the tensor's memory: two living tensors share it exactly if they share their storage."""
    return int(tensor.untyped_storage()._cdata)


def meta_copy(model: nn.Module) -> nn.Module:
    """Returns a copy of the model on the meta device, with explicit attention; no weight is copied."""
    memo: dict[int, object] = {}
    for item in model.parameters():
        memo[id(item)] = nn.Parameter(item.detach().to("meta"), requires_grad=item.requires_grad)
    for buffer in model.buffers():
        memo[id(buffer)] = buffer.to("meta")
    meta_model = copy.deepcopy(model, memo)
    # A counter may miss fused attention kernels; which ones depends on torch's version and the device.
    use_explicit_attention(meta_model, True)
    return meta_model


def meta_images(images: int, image_size: int) -> Tensor:
    """Returns images `[images, 3, image_size, image_size]` on the meta device, without values."""
    return torch.empty(images, 3, image_size, image_size, device="meta")
