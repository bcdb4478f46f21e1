"""Profiles a model: runs it on the meta device and records every operation under the module that ran it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from math import prod
from typing import Any

import torch
from torch import nn

from vision_repro.accounting.counter import Counter, meta_copy, meta_images
from vision_repro.accounting.layers import BYTES, Account, Layer
from vision_repro.accounting.operations import Operation

_WITH_WEIGHTS = ("conv", "linear", "attention")


def account(model: nn.Module, image_size: int, batch: int = 1) -> Account:
    """Returns the account of a forward pass in eval mode, made on the meta device; the model does not change."""
    meta_model = meta_copy(model).eval()
    profiler = _Profiler(meta_model)
    with torch.no_grad(), profiler.attached(), Counter(profiler.record, quick=True):
        meta_model(meta_images(batch, image_size))
    return Account(tuple(profiler.layers), image_size, batch)


class _Profiler:
    """Records operations as layers, under the module that is running."""

    def __init__(self, model: nn.Module) -> None:
        self.model = model
        self.layers: list[Layer] = []
        self.names = {module: name for name, module in model.named_modules()}
        self.running: list[tuple[nn.Module, int]] = []  # a module, and the index of its first layer
        self.counted: set[int] = set()  # ids of the parameters that a layer has

    @contextmanager
    def attached(self) -> Iterator[None]:
        """Attaches hooks to the modules of the model inside the block."""
        handles: list[Any] = []
        for module in self.names:
            handles.append(module.register_forward_pre_hook(self._enter))
            handles.append(module.register_forward_hook(self._leave))
        try:
            yield
            self._add_unused()
        finally:
            for handle in handles:
                handle.remove()

    def record(self, operation: Operation) -> None:
        """Records one operation; the two products of an attention layer become one layer."""
        module = self.running[-1][0]
        layer = Layer(self.names[module], heads=_heads(module, operation), **_cost_fields(operation))
        last = self.layers[-1] if self.layers else None
        if last and (last.name, last.kind, layer.kind) == (layer.name, "attention", "attention"):
            self.layers[-1] = replace(
                last,
                output=layer.output,
                memory=last.memory + layer.memory,
                macs=last.macs + layer.macs,
                inside_macs=last.inside_macs + layer.inside_macs,
            )
        else:
            self.layers.append(layer)

    def _enter(self, module: nn.Module, inputs: Any) -> None:
        self.running.append((module, len(self.layers)))

    def _leave(self, module: nn.Module, inputs: Any, outputs: Any) -> None:
        start = self.running.pop()[1]
        own = self.layers[start:]
        if not any(module.children()) and any(layer.kind in _WITH_WEIGHTS for layer in own):
            own = [layer for layer in own if layer.kind in _WITH_WEIGHTS]  # the other operations prepare the weights
        new = self._new_parameters(module)
        name = self.names[module]
        own_layers = [index for index, layer in enumerate(own) if layer.name == name]
        if own_layers:
            first = own_layers[0]
            own[first] = replace(own[first], parameters=own[first].parameters + new)
        elif new:
            own.append(Layer(".".join(filter(None, (name, _parameter_names(module)))), "parameters", parameters=new))
        self.layers[start:] = own

    def _new_parameters(self, module: nn.Module) -> int:
        """Returns the number of the module's own parameters that no earlier layer has, and marks them as counted."""
        found = [item for item in module.parameters(recurse=False) if id(item) not in self.counted]
        self.counted |= {id(item) for item in found}
        return sum(item.numel() for item in found)

    def _add_unused(self) -> None:
        """Adds a layer for each child of the model that did not run, such as an auxiliary classifier."""
        unused = {name: self._is_unused(module) for name, module in self.model.named_children()}
        for name, module in self.model.named_children():
            if unused[name]:
                found = sum(self._new_parameters(item) for item in module.modules())
                self.layers.append(Layer(f"{name} (training only)", "parameters", parameters=found))
        left = sum(self._new_parameters(item) for item in self.model.modules())
        if left:
            self.layers.append(Layer("(not called)", "parameters", parameters=left))

    def _is_unused(self, module: nn.Module) -> bool:
        """Returns whether the module has parameters, and no layer has any of them."""
        found = [id(item) for item in module.parameters()]
        return bool(found) and not any(item in self.counted for item in found)


def _cost_fields(operation: Operation) -> dict[str, Any]:
    return {**operation._asdict(), "memory": BYTES * prod(operation.output)}


def _heads(module: nn.Module, operation: Operation) -> int:
    if operation.kind != "attention":
        return 0
    return int(getattr(module, "num_heads", 0) or getattr(module, "heads", 0))


def _parameter_names(module: nn.Module) -> str:
    return "+".join(name for name, _ in module.named_parameters(recurse=False))
