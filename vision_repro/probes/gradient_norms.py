"""Gradient norms by layer: do gradients vanish in the backward pass of a deep network (ResNet, section 4.1)?

The metric of a layer is the L2 norm of the gradient of the training loss with respect to its weights, divided by the L2
norm of these weights, so that one axis can show layers of different sizes. Layers are convolutions and linear layers in
the order of the forward pass. Shortcut projections and auxiliary classifiers are left out, so that plain and residual
networks of equal depth have the same layer numbers. A layer of zeros has no ratio and no row.

The loss includes auxiliary classifiers but no weight penalties. It is computed in float32 on the first 256 training
images without augmentation. As in training, batch norm uses the statistics of a batch, here of at most 64 images;
unlike in training, its running statistics do not change, and dropout and drop-path are off.

Deviation: the gradients of the weights instead of the back-propagated signals; the paper mentions the norms of these
signals and shows none.
Legend: N images, S their side [pixels].
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from vision_repro.augmentation.mix import Mixed
from vision_repro.config import UserError
from vision_repro.probes.images import first_images
from vision_repro.tasks.classifier import Classifier, objective

IMAGES = 256
PART = 64
"""Maximum number of images in a batch-norm batch."""


def measure_start(task: Any, module: Any) -> dict[str, tuple[float, str]]:
    """Returns `gradient_norm_start_<nn>` of each layer from 01 on, with the initial weights.

    Raises:
        UserError: if the run does not learn classes.
    """
    if not isinstance(task, Classifier):
        raise UserError("--probes=gradient_norms needs a classification loss: expected --objective=supervised.")
    return _rows("gradient_norm_start", task, module)


def measure_task(task: Any, module: Any) -> dict[str, tuple[float, str]]:
    """Returns `gradient_norm_<nn>` of each layer from 01 on, with the tested weights."""
    return _rows("gradient_norm", task, module)


def _rows(prefix: str, task: Any, module: Any) -> dict[str, tuple[float, str]]:
    images, labels = (part.to(task.device) for part in first_images(module, "train", IMAGES))
    norms = relative_norms(task.model, task.normalise(images), labels, task.loss)
    numbered = enumerate(norms.values(), start=1)
    return {f"{prefix}_{number:02}": (norm, "norm") for number, norm in numbered if norm is not None}


def relative_norms(model: nn.Module, inputs: Tensor, labels: Tensor, loss: str = "softmax") -> dict[str, float | None]:
    """Returns the ratio of each layer by its name, for inputs float32 `[N, 3, S, S]` and labels int64 `[N]`.

    `loss` is "softmax" or "hinge"; the ratio of a layer of zeros is None. The model is not changed: weights, gradients,
    statistics and modes stay.
    """
    layers = weighted_layers(model, inputs[:1])
    weights = [layer.weight for layer in layers.values()]
    with _in_training_without_noise(model):
        gradients = _gradients(model, weights, inputs, labels, loss)
    pairs = zip(gradients, weights, strict=True)
    ratios = [(float(gradient.norm()), float(weight.detach().norm())) for gradient, weight in pairs]
    return {name: above / below if below else None for name, (above, below) in zip(layers, ratios, strict=True)}


def weighted_layers(model: nn.Module, inputs: Tensor) -> dict[str, Any]:
    """Returns convolutions and linear layers by name, in the order of a forward pass of `inputs` `[N, 3, S, S]`.

    Leaves out shortcut projections, and auxiliary classifiers, which do not run in evaluation.
    """
    names: dict[nn.Module, str] = {
        module: name
        for name, module in model.named_modules()
        if isinstance(module, nn.modules.conv._ConvNd | nn.Linear) and not _on_a_shortcut(model, name)
    }
    met: dict[str, Any] = {}

    def note(module: nn.Module, arguments: Any) -> None:
        met.setdefault(names[module], module)

    handles = [module.register_forward_pre_hook(note) for module in names]
    modes = {module: module.training for module in model.modules()}
    try:
        with torch.no_grad():
            # `forward`, not a call: a call would compile a compiled model again, with the hooks.
            model.eval().forward(inputs)
    finally:
        for handle in handles:
            handle.remove()
        _set_modes(modes)
    return met


def _on_a_shortcut(model: nn.Module, name: str) -> bool:
    """Returns whether a layer is in the `downsample` of a residual block; Swin's patch merging also has that name."""
    before, found, _ = f".{name}.".partition(".downsample.")
    return bool(found) and hasattr(model.get_submodule(before[1:]), "conv1")


def _gradients(model: nn.Module, weights: Sequence[Tensor], inputs: Tensor, labels: Tensor, loss: str) -> list[Tensor]:
    """Returns the gradients of the mean loss over all images, summed over batches of nearly equal size."""
    total = [torch.zeros_like(weight) for weight in weights]
    count = -(-len(inputs) // PART)
    for images, classes in zip(inputs.tensor_split(count), labels.tensor_split(count), strict=True):
        with torch.enable_grad():
            value = objective(model.forward(images), Mixed(images, classes), loss)
        found = torch.autograd.grad(value, list(weights))
        for gradient, part in zip(total, found, strict=True):
            gradient += part * (len(images) / len(inputs))
    return total


@contextmanager
def _in_training_without_noise(model: nn.Module) -> Iterator[None]:
    """Puts the model and its batch norms into training mode and all other parts into evaluation mode.

    The batch norms keep their running statistics. Random numbers that the model draws are the same each time, and the
    generators keep their state.
    """
    modes = {module: module.training for module in model.modules()}
    norms = {module: module.track_running_stats for module in modes if isinstance(module, _BatchNorm)}
    device = next(model.parameters()).device
    try:
        model.eval()
        _set_modes(dict.fromkeys((model, *norms), True))
        for norm in norms:
            norm.track_running_stats = False
        with torch.random.fork_rng([device] if device.type == "cuda" else []):
            torch.manual_seed(0)
            yield
    finally:
        for norm, tracked in norms.items():
            norm.track_running_stats = tracked
        _set_modes(modes)


def _set_modes(modes: dict[nn.Module, bool]) -> None:
    """Sets the training or evaluation mode of each module, but not of its submodules."""
    for module, training in modes.items():
        module.training = training
