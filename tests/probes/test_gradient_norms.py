"""Gradient norms: closed form, the slow way by `backward`, the order of the layers, and nothing left behind."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from vision_repro import datasets, models
from vision_repro.config import Launch, RunConfig, UserError, run_id
from vision_repro.files.subset import take
from vision_repro.models.layers.outputs import WithAuxiliary
from vision_repro.probes import gradient_norms
from vision_repro.probes.gradient_norms import PART, relative_norms, weighted_layers
from vision_repro.store.runs import RunFolder
from vision_repro.tasks.classifier import Classifier
from vision_repro.tasks.task import Task
from vision_repro.training import run
from vision_repro.training.context import RunContext

NETS = [
    ("plain8x0.25", 8),
    ("resnet8x0.25", 8),
    ("resnet11x0.25-bottleneck-allproj", 8),
    ("vgg11x0.03-bn", 8),
    ("googlenetx0.06-bn", 8),
    ("googlenetx0.06", 16),
    ("bit-r11x0.15", 16),
    ("vit-32x2/2", 8),
]


def some(count: int, size: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(7)
    return torch.randn(count, 3, size, size, generator=generator), torch.randint(0, 10, (count,), generator=generator)


def net(name: str, size: int) -> nn.Module:
    """A network whose head is not of zeros, as then nothing would reach the layers in front of it."""
    torch.manual_seed(3)
    model = models.build(name, image_size=size, classes=10)
    head: Any = model
    nn.init.normal_(head.get_classifier().weight, std=0.1)
    return model


def test_a_linear_net_has_its_closed_form() -> None:
    """Softmax regression: the gradient is the mean of (p - y) x^T; here in parts of at most 64, of unequal size."""
    layer = nn.Linear(12, 10)
    model = nn.Sequential(nn.Flatten(), layer)
    images, labels = some(150, 2)
    x = images.flatten(1).double()
    weight, bias = layer.weight.detach().double(), layer.bias.detach().double()
    p = (x @ weight.T + bias).softmax(1)
    gradient = (p - torch.eye(10)[labels].double()).T @ x / 150
    found = relative_norms(model, images, labels)
    assert found == {"1": pytest.approx(float(gradient.norm() / weight.norm()), rel=1e-5)}


def test_two_linear_layers_divide_by_their_own_norms() -> None:
    """With logits B A x, the gradients are r (A x)^T and B^T r x^T for the residual r of the softmax."""
    first, second = nn.Linear(12, 5, bias=False), nn.Linear(5, 10, bias=False)
    images, labels = some(20, 2)
    x, a, b = (part.detach().double() for part in (images.flatten(1), first.weight, second.weight))
    rest = ((x @ a.T @ b.T).softmax(1) - torch.eye(10)[labels].double()) / 20
    expected = [(b.T @ rest.T @ x).norm() / a.norm(), (rest.T @ (x @ a.T)).norm() / b.norm()]
    found = relative_norms(nn.Sequential(nn.Flatten(), first, second), images, labels)
    assert list(found.values()) == pytest.approx([float(value) for value in expected], rel=1e-5)


def slowly(model: nn.Module, images: Tensor, labels: Tensor) -> dict[str, float]:
    """One `backward` in training mode without dropout, of a model that may be spoilt."""
    model.train()
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    output = model(images)
    if isinstance(output, WithAuxiliary):
        loss = cross_entropy(output.logits, labels)
        for logits in output.auxiliary:
            loss = loss + output.weight * cross_entropy(logits, labels)
    else:
        loss = cross_entropy(output, labels)
    loss.backward()  # type: ignore[no-untyped-call]
    found = {}
    for name, value in model.named_parameters():
        if value.grad is not None:
            found[name.removesuffix(".weight")] = float(value.grad.norm() / value.detach().norm())
    return found


@pytest.mark.parametrize(("name", "size"), NETS)
def test_networks_agree_with_one_backward_pass(name: str, size: int) -> None:
    model = net(name, size)
    images, labels = some(24, size)
    found = relative_norms(model, images, labels)
    expected = slowly(model, images, labels)
    assert len(found) > 3
    assert found == pytest.approx({layer: expected[layer] for layer in found}, rel=1e-3)


def test_parts_are_the_mean_of_their_gradients() -> None:
    model = net("plain8x0.25", 8)
    images, labels = some(2 * PART, 8)
    found = relative_norms(model, images, labels)
    total: dict[str, Tensor] = {}
    for half in (slice(0, PART), slice(PART, None)):
        model.zero_grad()
        slowly(model, images[half], labels[half])
        for name, value in model.named_parameters():
            assert value.grad is not None
            total[name] = total.get(name, torch.zeros_like(value)) + value.grad / 2
    weights = dict(model.named_parameters())
    expected = {
        name: float(total[f"{name}.weight"].norm() / weights[f"{name}.weight"].detach().norm()) for name in found
    }
    assert found == pytest.approx(expected, rel=1e-3)


@pytest.mark.parametrize(("name", "size"), NETS)
@pytest.mark.parametrize("training", [True, False])
def test_nothing_is_left_behind(name: str, size: int, training: bool) -> None:
    model = net(name, size).train(training)
    model.get_submodule(next(iter(dict(model.named_children())))).train(not training)
    first = next(model.parameters())
    first.grad = torch.ones_like(first)
    state = {key: value.clone() for key, value in model.state_dict().items()}
    modes = [module.training for module in model.modules()]
    random = torch.get_rng_state()
    images, labels = some(24, size)
    found = relative_norms(model, images, labels)
    assert torch.equal(torch.get_rng_state(), random)
    assert all(torch.equal(value, state[key]) for key, value in model.state_dict().items())
    assert [module.training for module in model.modules()] == modes
    assert torch.equal(first.grad, torch.ones_like(first))
    assert all(value.grad is None for value in model.parameters() if value is not first)
    assert not any(module._forward_pre_hooks or module._forward_hooks for module in model.modules())
    assert all(getattr(module, "track_running_stats", True) for module in model.modules())
    assert relative_norms(model, images, labels) == found


@pytest.mark.parametrize("depth", [8, 20, 32])
def test_plain_and_residual_nets_of_a_depth_have_the_same_layers(depth: int) -> None:
    blocks = (depth - 2) // 6
    inside = [f"layer{stage}.{block}.conv{index}" for stage in (1, 2, 3) for block in range(blocks) for index in (1, 2)]
    for name in (f"plain{depth}x0.25", f"resnet{depth}x0.25", f"resnet{depth}x0.25-allproj"):
        assert list(weighted_layers(net(name, 8), some(1, 8)[0])) == ["conv1", *inside, "fc"]


@pytest.mark.parametrize("depth", [11, 13, 16, 19])
def test_vgg_has_as_many_layers_as_its_name_says(depth: int) -> None:
    found = list(weighted_layers(net(f"vgg{depth}x0.03", 8), some(1, 8)[0]))
    assert len(found) == depth
    assert found[0] == "features.conv1_1"
    assert found[-3:] == ["neck.fc6", "neck.fc7", "head"]


@pytest.mark.parametrize("ending", ["-noaux", "-aux0.3"])
def test_auxiliary_classifiers_are_left_out(ending: str) -> None:
    found = list(weighted_layers(net(f"googlenetx0.06-bn{ending}", 8), some(1, 8)[0]))
    assert len(found) == 3 + 9 * 6 + 1
    assert found[:4] == ["stem.conv1.conv", "stem.conv2.conv", "stem.conv3.conv", "body.3a.one.conv"]
    assert found[-1] == "head"


def test_the_merging_of_swin_is_no_shortcut() -> None:
    name, size = next(item for item in models.small() if item[0].startswith("swin"))
    found = list(weighted_layers(net(name, size), some(1, size)[0]))
    assert any("downsample" in layer for layer in found)
    assert not any("downsample" in layer for layer in weighted_layers(net("bit-r11x0.15", 16), some(1, 16)[0]))


def test_a_layer_of_zeros_has_no_ratio() -> None:
    model = net("plain8x0.25", 8)
    nn.init.zeros_(model.get_parameter("fc.weight"))
    found = relative_norms(model, *some(8, 8))
    assert found["fc"] is None
    assert found["conv1"] == 0.0  # nothing comes through the head


def place(root: Path, config: RunConfig) -> RunContext:
    return RunContext(
        folder=RunFolder(root, config),
        launch=Launch(wandb="off"),
        cache=root / "cache",
        settings=("model",),
        accelerator="cpu",
        report=lambda message: None,
    )


CONFIG = RunConfig(
    dataset="digits", image_size=8, model="plain8x0.25", train_size=40, steps=2, global_batch=8,
    evaluations=1, lr=3e-3, normalisation="half", shots="", select="last", probes="gradient_norms",
)  # fmt: skip


@pytest.mark.slow
def test_a_run_records_the_norms_before_and_after_training(tmp_path: Path) -> None:
    def result(config: RunConfig) -> dict[str, Any]:
        return run.execute(config, place(tmp_path, config))

    found = result(CONFIG)["metrics"]
    names = [f"{prefix}_{layer:02}" for prefix in ("gradient_norm", "gradient_norm_start") for layer in range(1, 9)]
    assert sorted(name for name in found if name.startswith("gradient")) == sorted(names)
    assert {found[name]["unit"] for name in names} == {"norm"}
    splits = datasets.load("digits", None, tmp_path / "cache")
    chosen = take(splits.train.labels, 40, CONFIG.seed)
    inputs = splits.train.images[chosen].float() / 127.5 - 1
    torch.manual_seed(CONFIG.seed)
    drawn = models.build(CONFIG.model, image_size=8, classes=10)
    trained = models.build(CONFIG.model, image_size=8, classes=10)
    weights = tmp_path / run_id(CONFIG) / "weights.ckpt"
    trained.load_state_dict(torch.load(weights, weights_only=True))
    for model, prefix in ((drawn, "gradient_norm_start"), (trained, "gradient_norm")):
        expected = relative_norms(model, inputs, splits.train.labels[chosen])
        values = [found[f"{prefix}_{layer:02}"]["value"] for layer in range(1, 9)]
        assert values == pytest.approx(list(expected.values()), rel=1e-4)
    # The probe takes no part in the training.
    without = result(replace(CONFIG, probes=""))["metrics"]
    assert {name: found[name] for name in without} == without


def test_at_most_256_images_are_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []

    task = Classifier(net("plain8x0.25", 8), lr=0.1, weight_decay=0.0, steps=1)

    def first(*arguments: Any) -> Any:
        asked.append(arguments)
        return (torch.zeros(5, 3, 8, 8, dtype=torch.uint8), torch.arange(5))

    monkeypatch.setattr(gradient_norms, "first_images", first)
    found = gradient_norms.measure_start(task, "module")
    assert asked == [("module", "train", 256)]
    assert list(found) == [f"gradient_norm_start_{layer:02}" for layer in range(1, 9)]


def test_the_hinge_loss_has_other_gradients(monkeypatch: pytest.MonkeyPatch) -> None:
    """Far outside the margin all is right: nothing is left to learn with the hinge, and a little with softmax."""
    labels = torch.arange(5)
    images = torch.zeros(5, 3, 2, 2, dtype=torch.uint8)
    images.view(5, 12)[labels, labels] = 5
    model = nn.Sequential(nn.Flatten(), nn.Linear(12, 5, bias=False))
    with torch.no_grad():
        model[1].weight.copy_(torch.eye(5, 12))
    monkeypatch.setattr(gradient_norms, "first_images", lambda *arguments: (images, labels))
    found = {}
    for loss in ("softmax", "hinge"):
        task = Classifier(model, lr=0.1, weight_decay=0.0, steps=1, loss=loss, normalise=lambda images: images.float())
        found[loss] = gradient_norms.measure_task(task, None)["gradient_norm_01"]
    assert found["hinge"] == (0.0, "norm")
    share = 1 / (4 + math.exp(5))  # of each of the four other classes; column i of the gradient is p - y of image i
    assert found["softmax"] == (pytest.approx(math.sqrt(5 * (4 + 16)) * share / math.sqrt(5), rel=1e-4), "norm")


def test_what_learns_no_classes_is_refused() -> None:
    task = Task(net("plain8x0.25", 8), lr=0.1, weight_decay=0.0, steps=1)
    with pytest.raises(UserError, match="supervised"):
        gradient_norms.measure_start(task, None)
