import math

import pytest
import torch
from torch import nn

from vision_repro.augmentation.batch import Batch
from vision_repro.augmentation.mix import Mixed
from vision_repro.models.layers.outputs import WithAuxiliary
from vision_repro.tasks.classifier import Classifier, objective
from vision_repro.tasks.task import decay_groups, learning_rate


def test_schedule_by_hand() -> None:
    rates = [learning_rate(step, 10, 2) for step in range(11)]
    assert rates[:3] == pytest.approx([1 / 3, 2 / 3, 1.0])
    assert rates[6] == pytest.approx(0.5)
    assert rates[10] == pytest.approx(0.0)
    assert learning_rate(0, 1, 0) == 1.0


def test_only_matrices_and_kernels_decay() -> None:
    from vision_repro.models import build

    model = build("vit-32x4/2", image_size=8, classes=10)
    decayed = {id(item) for item in decay_groups(model, 0.1)[0]["params"]}
    names = {name for name, item in model.named_parameters() if id(item) in decayed}
    assert {name for name in names if "pos_embed" in name or "cls_token" in name or name.endswith("bias")} == set()
    assert "patch_embed.proj.weight" in names
    count = sum(len(group["params"]) for group in decay_groups(model, 0.1))
    assert count == len(list(model.parameters()))


def test_clipping_bounds_the_global_norm() -> None:
    task = Classifier(nn.Linear(2, 2), lr=1.0, weight_decay=0.0, steps=1, grad_clip=1.0)
    for parameter in task.parameters():
        parameter.grad = torch.full_like(parameter, 3.0)
    task.configure_gradient_clipping(torch.optim.SGD(task.parameters(), 1.0))
    grads = [parameter.grad for parameter in task.parameters() if parameter.grad is not None]
    norm = math.sqrt(sum(float(grad.square().sum()) for grad in grads))
    assert norm == pytest.approx(1.0, rel=1e-4)


def test_auxiliary_losses_are_weighted_and_added() -> None:
    torch.manual_seed(0)
    logits, first, second = torch.randn(3, 4, 5).unbind()
    batch = Mixed(torch.empty(4), torch.tensor([0, 1, 2, 4]))
    found = objective(WithAuxiliary(logits, (first, second), 0.3), batch)
    alone = [torch.nn.functional.cross_entropy(item, batch.labels) for item in (logits, first, second)]
    assert float(found) == pytest.approx(float(alone[0] + 0.3 * (alone[1] + alone[2])), rel=1e-6)
    assert torch.equal(objective(logits, batch), alone[0])


class Brightness(nn.Module):
    """Class 1 if an image is bright: logits (0, mean), or with auxiliary ones in training."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        mean = images.mean((1, 2, 3))
        return torch.stack((torch.zeros_like(mean), mean), 1)


def test_predictions_of_several_views_are_averaged() -> None:
    task = Classifier(Brightness(), lr=1.0, weight_decay=0.0, steps=1).eval()
    dark, bright = torch.zeros(3, 2, 2, dtype=torch.uint8), torch.full((3, 2, 2), 255, dtype=torch.uint8)
    # softmax outputs for class 1 are 0.27 and 0.73: two dark views outvote a bright one, and the other way round
    views = torch.stack((torch.stack((dark, dark, bright)), torch.stack((bright, dark, bright))))
    assert task.predict(views).tolist() == [0, 1]
    assert task.predict(torch.stack((dark, bright))).tolist() == [0, 1]


def test_the_model_sees_what_the_normalisation_makes() -> None:
    task = Classifier(nn.Identity(), lr=1.0, weight_decay=0.0, steps=1, normalise=lambda images: images.float() + 0.5)
    assert torch.equal(task(torch.ones(1, 3, 1, 1, dtype=torch.uint8)), torch.full((1, 3, 1, 1), 1.5))


def test_a_mixing_policy_mixes_the_loss_too() -> None:
    torch.manual_seed(0)
    images = torch.randint(0, 256, (8, 3, 4, 4), dtype=torch.uint8)
    task = Classifier(
        nn.Sequential(nn.Flatten(), nn.Linear(48, 8)), lr=1.0, weight_decay=0.0, steps=1, augmentation="mixup1"
    )
    losses = {task.training_step(Batch(images, torch.arange(8)), 0).item() for _ in range(3)}
    assert len(losses) == 3
    assert all(math.isfinite(loss) for loss in losses)
