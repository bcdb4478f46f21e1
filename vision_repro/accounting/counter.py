"""Counts operations while a model runs on the meta device, where shapes exist and numbers do not."""

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
    """Hands every operation that costs something to `record`, inside the `with` block.

    `border` remembers which tensors end in zeros of an explicit padding, so that "same" padding by `F.pad` counts as
    padding; `softmax` holds the storages of attention's softmax matrices, by address. `quick` is for forward passes on
    the meta device: it takes the outputs of norms for granted, where torch goes through some twenty operations each,
    and saves a third of the time.
    """

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
        """Keeps the zeros around a padded map; the tensor is kept too, so that no other one takes its address."""
        source, pads = args[0], args[1]
        if source.ndim < 3 or (len(args) > 2 and args[2] != 0):
            return
        axes = source.ndim - 2
        pairs = [(pads[2 * index], pads[2 * index + 1]) for index in range(len(pads) // 2)][:axes]
        found = [*pairs, *((0, 0),) * (axes - len(pairs))][::-1]
        before = self._border_of(source) or ((0, 0),) * axes
        total = tuple((low + a, high + b) for (low, high), (a, b) in zip(found, before, strict=True))
        if min(min(pair) for pair in total) >= 0:  # a negative padding crops
            self.border[storage_key(out)] = (out, total)

    def _border_of(self, tensor: Tensor) -> Border:
        kept = self.border.get(storage_key(tensor))
        return kept[1] if kept is not None and kept[0].shape == tensor.shape else ()


def _blank_norm(source: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Returns what every norm returns: a tensor like its input, and statistics that only a backward pass would see."""
    return torch.empty_like(source), source.new_empty(0), source.new_empty(0)


def storage_key(tensor: Tensor) -> int:
    """Returns what two tensors share if and only if they are views of the same memory, as long as both are alive."""
    return int(tensor.untyped_storage()._cdata)


def hollow_copy(model: nn.Module) -> nn.Module:
    """Returns a copy of the model on the meta device with explicit attention; it never holds the weights twice.

    Explicit, since a counter may miss fused kernels, which ones depending on torch's version and the device.
    """
    memo: dict[int, object] = {}
    for item in model.parameters():
        memo[id(item)] = nn.Parameter(item.detach().to("meta"), requires_grad=item.requires_grad)
    for buffer in model.buffers():
        memo[id(buffer)] = buffer.to("meta")
    hollow = copy.deepcopy(model, memo)
    use_explicit_attention(hollow, True)
    return hollow


def blank_images(images: int, image_size: int) -> Tensor:
    """Returns images `[images, 3, image_size, image_size]` without content."""
    return torch.empty(images, 3, image_size, image_size, device="meta")
