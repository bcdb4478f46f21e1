"""Makes the account of a model: runs it on the meta device and writes down every operation under its module."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from math import prod
from typing import Any

import torch
from torch import nn

from vision_repro.accounting.counter import Counter, blank_images, hollow_copy
from vision_repro.accounting.layers import BYTES, Account, Layer
from vision_repro.accounting.operations import Operation

_WEIGHTY = ("conv", "linear", "attention")


def account(model: nn.Module, image_size: int, batch: int = 1) -> Account:
    """Returns the account of a forward pass in eval mode; nothing is computed, and the model is left as it is."""
    hollow = hollow_copy(model).eval()
    book = _Book(hollow)
    with torch.no_grad(), book.open(), Counter(book.add, quick=True):
        hollow(blank_images(batch, image_size))
    return Account(tuple(book.layers), image_size, batch)


class _Book:
    """Writes operations down under the module that is running."""

    def __init__(self, model: nn.Module) -> None:
        self.model = model
        self.layers: list[Layer] = []
        self.names = {module: name for name, module in model.named_modules()}
        self.running: list[tuple[nn.Module, int]] = []  # module, and where its layers begin
        self.booked: set[int] = set()

    @contextmanager
    def open(self) -> Iterator[None]:
        """Listens to the model inside the block."""
        handles: list[Any] = []
        for module in self.names:
            handles.append(module.register_forward_pre_hook(self._enter))
            handles.append(module.register_forward_hook(self._leave))
        try:
            yield
            self._rest()
        finally:
            for handle in handles:
                handle.remove()

    def add(self, operation: Operation) -> None:
        """Writes down one operation; the two products of one attention layer become one layer."""
        module = self.running[-1][0]
        layer = Layer(self.names[module], heads=_heads(module, operation), **_described(operation))
        last = self.layers[-1] if self.layers else None
        if last and (last.name, last.kind, layer.kind) == (layer.name, "attention", "attention"):
            self.layers[-1] = replace(
                last,
                output=layer.output,
                memory=last.memory + layer.memory,
                macs=last.macs + layer.macs,
                inside=last.inside + layer.inside,
            )
        else:
            self.layers.append(layer)

    def _enter(self, module: nn.Module, inputs: Any) -> None:
        self.running.append((module, len(self.layers)))

    def _leave(self, module: nn.Module, inputs: Any, outputs: Any) -> None:
        start = self.running.pop()[1]
        own = self.layers[start:]
        if not any(module.children()) and any(layer.kind in _WEIGHTY for layer in own):
            own = [layer for layer in own if layer.kind in _WEIGHTY]  # what is left out prepares the weights
        new = self._book_parameters(module)
        name = self.names[module]
        mine = [index for index, layer in enumerate(own) if layer.name == name]
        if mine:
            own[mine[0]] = replace(own[mine[0]], parameters=own[mine[0]].parameters + new)
        elif new:
            own.append(Layer(".".join(filter(None, (name, _parameter_names(module)))), "parameters", parameters=new))
        self.layers[start:] = own

    def _book_parameters(self, module: nn.Module) -> int:
        """Returns the number of the module's own parameters that no earlier layer has."""
        found = [item for item in module.parameters(recurse=False) if id(item) not in self.booked]
        self.booked |= {id(item) for item in found}
        return sum(item.numel() for item in found)

    def _rest(self) -> None:
        """Adds a line for each topmost module that has not run, such as an auxiliary classifier."""
        idle = {name: self._idle(module) for name, module in self.model.named_children()}
        for name, module in self.model.named_children():
            if idle[name]:
                found = sum(self._book_parameters(item) for item in module.modules())
                self.layers.append(Layer(f"{name} (training only)", "parameters", parameters=found))
        left = sum(self._book_parameters(item) for item in self.model.modules())
        if left:
            self.layers.append(Layer("(not called)", "parameters", parameters=left))

    def _idle(self, module: nn.Module) -> bool:
        """Returns whether the module has parameters of which none is in a layer."""
        found = [id(item) for item in module.parameters()]
        return bool(found) and not any(item in self.booked for item in found)


def _described(operation: Operation) -> dict[str, Any]:
    return {**operation._asdict(), "memory": BYTES * prod(operation.output)}


def _heads(module: nn.Module, operation: Operation) -> int:
    if operation.kind != "attention":
        return 0
    return int(getattr(module, "num_heads", 0) or getattr(module, "heads", 0))


def _parameter_names(module: nn.Module) -> str:
    return "+".join(name for name, _ in module.named_parameters(recurse=False))
