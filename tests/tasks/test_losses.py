"""Hinge loss and penalties: against a slow loop, torch's own loss, closed-form gradients, and in a whole run."""

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vision_repro import models
from vision_repro.augmentation.batch import Batch
from vision_repro.augmentation.mix import Mixed
from vision_repro.config import Launch, RunConfig, UserError, run_id
from vision_repro.models.layers.outputs import WithAuxiliary
from vision_repro.store.runs import RunFolder
from vision_repro.tasks.classifier import Classifier, objective
from vision_repro.tasks.losses import hinge, mixed_hinge
from vision_repro.tasks.task import decayed_and_kept, penalty
from vision_repro.training import run
from vision_repro.training.context import RunContext


def drawn(classes: int = 5, count: int = 7) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    logits = 2 * torch.randn(count, classes, generator=generator, dtype=torch.float64)
    return logits, torch.randint(0, classes, (count,), generator=generator)


def slow_hinge(scores: list[float], right: int) -> float:
    """The formula of the slides, one image."""
    return sum(max(0.0, score - scores[right] + 1) for j, score in enumerate(scores) if j != right)


def test_hinge_is_the_slides_sum() -> None:
    logits, labels = drawn()
    slow = [slow_hinge(row, label) for row, label in zip(logits.tolist(), labels.tolist(), strict=True)]
    assert hinge(logits, labels).tolist() == pytest.approx(slow)
    assert float(mixed_hinge(logits, Mixed(torch.empty(0), labels))) == pytest.approx(sum(slow) / len(slow))
    # scores 3.2, 5.1, -1.7 for class 0: max(0, 5.1 - 3.2 + 1) + max(0, -1.7 - 3.2 + 1) = 2.9
    assert float(hinge(torch.tensor([[3.2, 5.1, -1.7]]), torch.tensor([0]))) == pytest.approx(2.9)
    assert float(hinge(torch.tensor([[1.3, 4.9, 2.0]]), torch.tensor([1]))) == pytest.approx(0.0, abs=1e-6)


def test_hinge_and_its_gradient_are_torchs_times_the_classes() -> None:
    logits, labels = drawn()
    logits.requires_grad_()
    ours = objective(logits.double(), Mixed(torch.empty(0), labels), "hinge")
    theirs = 5 * F.multi_margin_loss(logits, labels)
    torch.testing.assert_close(ours.double(), theirs, rtol=1e-6, atol=0)
    (found,), (expected,) = torch.autograd.grad(ours, [logits]), torch.autograd.grad(theirs, [logits])
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-12)


def test_the_gradient_counts_the_classes_inside_the_margin() -> None:
    logits, labels = drawn()
    logits.requires_grad_()
    (found,) = torch.autograd.grad(hinge(logits, labels).sum(), [logits])
    for row, scores, right in zip(found.tolist(), logits.tolist(), labels.tolist(), strict=True):
        inside = [float(j != right and score - scores[right] + 1 > 0) for j, score in enumerate(scores)]
        assert row == [-sum(inside) if j == right else value for j, value in enumerate(inside)]


def test_mixed_labels_mix_the_losses_and_auxiliary_ones_are_added() -> None:
    logits, labels = drawn()
    other, weight = labels.roll(1), torch.linspace(0, 1, len(labels), dtype=torch.float64)
    expected = (weight * hinge(logits, labels) + (1 - weight) * hinge(logits, other)).mean()
    torch.testing.assert_close(mixed_hinge(logits, Mixed(torch.empty(0), labels, other, weight)), expected)
    batch = Mixed(torch.empty(0), labels)
    logits = logits.float()
    found = objective(WithAuxiliary(logits, (2 * logits, -logits), 0.3), batch, "hinge")
    parts = [float(mixed_hinge(item, batch)) for item in (logits, 2 * logits, -logits)]
    assert float(found) == pytest.approx(parts[0] + 0.3 * (parts[1] + parts[2]), rel=1e-6)


@pytest.mark.parametrize(("l1", "l2"), [(0.1, 0.0), (0.0, 0.1), (0.3, 0.2), (0.0, 0.0)])
def test_the_penalty_and_its_closed_form_gradient(l1: float, l2: float) -> None:
    generator = torch.Generator().manual_seed(0)
    weights = [torch.randn(size, generator=generator).requires_grad_() for size in ((3, 2), (4, 1, 2, 2))]
    found = penalty(weights, l1, l2)
    values = [value for weight in weights for value in weight.flatten().tolist()]
    assert float(found.detach()) == pytest.approx(sum(l1 * abs(value) + l2 * value**2 for value in values), rel=1e-6)
    if found.requires_grad:
        for weight, gradient in zip(weights, torch.autograd.grad(found, weights), strict=True):
            torch.testing.assert_close(gradient, l1 * weight.sign() + 2 * l2 * weight)
    else:
        assert not l1
        assert not l2


def task(l1: float = 0.0, l2: float = 0.0, **settings: Any) -> Classifier:
    torch.manual_seed(0)
    model = models.build("vgg11x0.125-bn-drop0", image_size=8, classes=10)
    return Classifier(model, lr=0.01, weight_decay=0.0, steps=1, l1=l1, l2=l2, **settings)


def batch() -> Batch:
    generator = torch.Generator().manual_seed(1)
    images = torch.randint(0, 256, (4, 3, 8, 8), generator=generator, dtype=torch.uint8)
    return Batch(images, torch.tensor([0, 3, 3, 9]))


def gradients(found: Classifier) -> list[Tensor]:
    found.training_step(batch(), 0).backward()  # type: ignore[no-untyped-call]
    return [parameter.grad for parameter in found.parameters() if parameter.grad is not None]


def test_a_step_penalises_what_weight_decay_touches_and_nothing_else() -> None:
    plain, both = task(), task(0.003, 0.02)
    free, bound = gradients(plain), gradients(both)
    weights = {id(item) for item in decayed_and_kept(both)[0]}
    assert 0 < len(weights) < len(free)
    for parameter, without, with_both in zip(both.parameters(), free, bound, strict=True):
        expected = without
        if id(parameter) in weights:
            expected = without + 0.003 * parameter.detach().sign() + 2 * 0.02 * parameter.detach()
        torch.testing.assert_close(with_both, expected, rtol=1e-5, atol=1e-6)


def test_elastic_net_is_the_sum_of_both() -> None:
    none, first, second, both = (gradients(task(*pair)) for pair in ((0, 0), (0.01, 0), (0, 0.1), (0.01, 0.1)))
    for parts in zip(none, first, second, both, strict=True):
        torch.testing.assert_close(parts[3], parts[1] + parts[2] - parts[0], rtol=1e-5, atol=1e-6)


def test_the_curve_shows_the_loss_of_the_data_alone() -> None:
    plain, both = task(), task(0.003, 0.02)
    data, all_of_it = plain.training_step(batch(), 0), both.training_step(batch(), 0)
    extra = penalty(decayed_and_kept(both)[0], 0.003, 0.02)
    data, all_of_it, extra = data.detach(), all_of_it.detach(), extra.detach()
    assert float(all_of_it - data) == pytest.approx(float(extra), rel=1e-5)
    assert float(extra) > 0.1
    assert float(both.take_train_loss()) == float(plain.take_train_loss()) == float(data)


def test_l2_is_twice_its_factor_of_weight_decay_under_sgd() -> None:
    """Not under AdamW, whose decay does not pass through its moments."""
    ends = []
    for decay, l2 in ((0.02, 0.0), (0.0, 0.01)):
        found = task(l2=l2)
        found.optimizer, found.weight_decay = "sgd", decay
        optimizer = found.configure_optimizers()["optimizer"]
        for _ in range(3):
            optimizer.zero_grad()
            found.training_step(batch(), 0).backward()  # type: ignore[no-untyped-call]
            optimizer.step()
        ends.append(torch.cat([parameter.detach().flatten() for parameter in found.parameters()]))
    torch.testing.assert_close(*ends, rtol=1e-4, atol=1e-6)
    assert not torch.equal(ends[0], torch.cat([item.detach().flatten() for item in task().parameters()]))


def test_views_vote_with_scores_after_hinge_and_with_probabilities_after_softmax() -> None:
    class Scores(nn.Module):
        """Logits (0, mean of the pixels)."""

        def forward(self, images: Tensor) -> Tensor:
            mean = images.mean((1, 2, 3))
            return torch.stack((torch.zeros_like(mean), mean), 1)

    views = torch.stack([torch.full((3, 2, 2), value, dtype=torch.uint8) for value in (9, 0, 0)])[None]
    for loss, expected in (("softmax", 0), ("hinge", 1)):  # scores 7, -2, -2: one view outvotes two with its size
        settings: dict[str, Any] = {"lr": 1.0, "weight_decay": 0.0, "steps": 1, "normalise": lambda x: x.float() - 2}
        assert Classifier(Scores(), loss=loss, **settings).eval().predict(views).tolist() == [expected]


BASE = RunConfig(
    model="vgg11x0.125-drop0", train_size=40, steps=2, global_batch=8, evaluations=1, lr=0.01, shots="",
    select="last", optimizer="sgd",
)  # fmt: skip


def test_what_was_run_before_these_fields_keeps_its_id() -> None:
    """Of a config as it was hashed before there were `loss`, `l1`, `l2` and `variant`."""
    assert run_id(RunConfig(lr=0.001)) == run_id(RunConfig(lr=0.001, loss="softmax", l1=0.0, l2=0.0, variant=""))
    changed: list[dict[str, Any]] = [{"loss": "hinge"}, {"l1": 1e-4}, {"l2": 1e-4}]
    assert len({run_id(BASE), *(run_id(replace(BASE, **change)) for change in changed)}) == 4


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"l1": -0.1}, "--l1=-0.1 is no factor of a penalty"),
        ({"l2": math.inf}, "--l2=inf is no factor of a penalty"),
        ({"l2": math.nan}, "--l2=nan is no factor of a penalty"),
        ({"loss": "hings"}, 'expected one of softmax, hinge. Did you mean "hinge"'),
        ({"loss": "hinge", "objective": "mae"}, "--objective=mae learns none"),
    ],
)
def test_what_cannot_be_learned_is_refused(values: dict[str, Any], words: str) -> None:
    with pytest.raises(UserError, match=words.replace(".", r"\.").replace("?", r"\?")):
        RunConfig(**values)


def executed(root: Path, config: RunConfig, **launch: Any) -> dict[str, Any]:
    where = RunContext(
        folder=RunFolder(root, config),
        launch=Launch(wandb="off", **launch),
        cache=root / "cache",
        settings=(),
        accelerator="cpu",
        report=lambda event: None,
    )
    result = run.execute(config, where)
    return {**result, "weights": torch.load(where.folder.path / "weights.ckpt", weights_only=True)}


@pytest.mark.slow
def test_runs_from_config_to_result(tmp_path: Path) -> None:
    configs = [BASE, replace(BASE, loss="hinge"), replace(BASE, l1=0.01), replace(BASE, l2=0.1)]
    results = [executed(tmp_path, config) for config in configs]
    assert [item["metrics"]["train_loss"]["unit"] for item in results] == ["nats", "hinge", "nats", "nats"]
    assert all(item["status"] == "ok" for item in results)
    norms = [sum(float(value.abs().sum()) for value in item["weights"].values() if value.ndim > 1) for item in results]
    assert norms[2] < norms[0]
    assert norms[3] < norms[0]
    assert json.dumps(results[1]["metrics"]) != json.dumps(results[0]["metrics"])


@pytest.mark.slow
def test_accumulated_parts_of_a_batch_have_the_penalty_once(tmp_path: Path) -> None:
    config = replace(BASE, l1=0.01, l2=0.1, grad_clip=0.0)
    whole, parts = executed(tmp_path / "a", config), executed(tmp_path / "b", config, accumulate=4)
    for name, value in whole["weights"].items():
        torch.testing.assert_close(parts["weights"][name], value, rtol=1e-4, atol=1e-6)
