import math

import pytest
import torch
from torch import nn

from vision_repro.tasks.classifier import Classifier, decay_groups, learning_rate


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
