"""Class token or global average pooling: is one better, or does it only want another learning rate?

paper     An Image is Worth 16x16 Words (ViT, arXiv 2010.11929v2), section D.3, Figure 9
question  Accuracy of one ViT that is read from a class token, and of one read from the mean of its patch tokens, over
          the same peak learning rates.
command   make exp-vit-head [PRESET=cpu|cifar|gpu|paper] [SEEDS=5] [DEVICES=1]
cost      smoke seconds; cpu about 5 minutes and cifar about 12 minutes on two cores; gpu about an hour on one GPU;
          paper about 100 GPU-hours (`ARGS=--dry-run`)
expected  The paper: pooling at the token's learning rate (8e-4) is much worse, at a smaller one (3e-4) as good.

Deviation: rates of ours (1e-2 to 3e-4) instead of 8e-4 and 3e-4, which are for B/16-like models and batches of 4096.
    The token's rate is the one with the best mean `val` accuracy, pooling's is the best on `val` of the smaller ones;
    both are then compared on `test`.
Deviation: accuracy after training over the learning rate, not 5-shot curves over epochs: a run looks at `test` once.
    5-shot accuracy is on images of the same data set, not on ImageNet; test accuracy stands beside it.
Deviation: small ViTs, AdamW; the head is a linear layer of zeros, not the hidden layer with tanh of pre-training.
Equality is judged within 1.5 points. The paper gives no noise and no numbers: its Figure 9 is a picture.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from vision_repro.analysis.claims import UNTESTED, Claim, Evidence, Judgement, Verdict
from vision_repro.analysis.judges.comparisons import compare, same
from vision_repro.analysis.judges.rates import best_rate
from vision_repro.analysis.summary import SummaryRow
from vision_repro.analysis.table import Setting
from vision_repro.cli import main
from vision_repro.config import RunConfig
from vision_repro.experiment import Experiment, Preset

SOURCE = "ViT, section D.3, Figure 9"
MARGIN = 0.015
RATES = (3e-4, 1e-3, 3e-3, 1e-2)


def _heads(stem: str) -> tuple[str, str]:
    """Returns the model with a class token and the one with global average pooling."""
    return stem, f"{stem}-gap"


_DIGITS = RunConfig(dataset="digits", image_size=8, model="vit-64x4/2", steps=400, global_batch=64, evaluations=5)
_CIFAR = RunConfig(
    dataset="cifar10", image_size=32, model="vit-64x4/4", train_size=49000, steps=600, global_batch=64, evaluations=6,
    augmentation="crop-flip", shots="5",
)  # fmt: skip

PRESETS = {
    "smoke": Preset(
        base=replace(_DIGITS, steps=2, evaluations=1, train_size=40, shots="5", draws=1),
        axes={"model": _heads("vit-32x4/2"), "lr": (1e-3, 3e-3)}, seeds=1,
        cost="seconds; shows that everything works, never evidence", evidence=False,
    ),
    "cpu": Preset(
        base=_DIGITS, axes={"model": _heads("vit-64x4/2"), "lr": RATES}, seeds=5,
        cost="about 5 minutes on two cores; scikit-learn's digits, offline",
    ),
    "cifar": Preset(
        base=_CIFAR, axes={"model": _heads("vit-64x4/4"), "lr": RATES}, seeds=3,
        cost="about 12 minutes on two cores; CIFAR-10",
    ),
    "gpu": Preset(
        base=replace(_CIFAR, model="vit-128x4/4", steps=8000, global_batch=256, evaluations=20, shots="1 5 10"),
        axes={"model": _heads("vit-128x4/4"), "lr": RATES}, seeds=5,
        cost="about an hour on one GPU; CIFAR-10, or ARGS=--dataset=cifar100",
    ),
    "paper": Preset(
        base=replace(
            _CIFAR, dataset="imagenet21k", image_size=224, model="vit-b/16", train_size=14_000_000, budget="epochs",
            epochs=7.0, global_batch=4096, evaluations=20, augmentation="inception",
        ),
        axes={"model": _heads("vit-b/16"), "lr": (3e-4, 8e-4)}, seeds=1,
        cost="about 100 GPU-hours; ImageNet-21k-like class folders (see --dry-run)",
    ),
}  # fmt: skip


def _readings(preset: Preset) -> list[tuple[str, str]]:
    """Returns the metrics and their names; the paper's comes first."""
    few = [("few_shot_5", "5-shot accuracy")] if 5 in preset.shared.shot_counts else []
    return [*few, ("test_accuracy", "test accuracy")]


def _worse(evidence: Evidence, token: str, pooled: str, metric: str) -> Judgement:
    rate = best_rate(evidence, {"model": token})
    if rate is None:
        return Judgement(UNTESTED, f"{token} minus {pooled}", None, "no run of the class token ended", metric)
    subject = f"{token} minus {pooled} at lr {rate:g}"
    first: Setting = {"model": token, "lr": rate}
    second: Setting = {"model": pooled, "lr": rate}
    return compare(
        evidence, first, second, subject=subject, metric=metric, note=f"lr {rate:g}, the token's best on val"
    )


def _equal(evidence: Evidence, token: str, pooled: str, metric: str) -> Judgement:
    rate = best_rate(evidence, {"model": token})
    smaller = None if rate is None else best_rate(evidence, {"model": pooled}, below=rate)
    if rate is None or smaller is None:
        return Judgement(UNTESTED, f"{pooled} minus {token}", None, "no rate below the token's best was tried", metric)
    rates = f"lr {smaller:g} against lr {rate:g}, chosen on val"
    first: Setting = {"model": pooled, "lr": smaller}
    second: Setting = {"model": token, "lr": rate}
    subject = f"{pooled} at lr {smaller:g} minus {token} at lr {rate:g}"
    return same(evidence, first, second, margin=MARGIN, subject=subject, metric=metric, note=rates)


def claims(name: str, preset: Preset) -> list[Claim]:
    """Returns the paper's two claims in both readings of accuracy."""
    models = [str(model) for model in preset.axes["model"]]
    pairs = [(model, f"{model}-gap") for model in models if f"{model}-gap" in models]
    return [
        claim
        for metric, words in _readings(preset)
        for token, pooled in pairs
        for claim in (
            Claim(
                f"pooling-worse-at-the-token's-rate:{metric}",
                f"At the class token's learning rate, global average pooling is worse ({words})",
                SOURCE,
                partial(_worse, token=token, pooled=pooled, metric=metric),
            ),
            Claim(
                f"pooling-equal-at-a-smaller-rate:{metric}",
                f"At a smaller learning rate, global average pooling is as good as the class token ({words})",
                SOURCE,
                partial(_equal, token=token, pooled=pooled, metric=metric),
            ),
        )
    ]


def figure(rows: Sequence[SummaryRow], verdicts: Sequence[Verdict], name: str, preset: Preset) -> Any:
    """Returns accuracy against the peak learning rate for both heads, in both readings."""
    from vision_repro.figures.appearance import appearance
    from vision_repro.figures.rates import rates_figure

    base = preset.shared
    models = [str(model) for model in preset.axes["model"]]
    labels = {model: "global average pooling" if model.endswith("-gap") else "class token" for model in models}
    budget = f"{base.steps} steps" if base.budget == "steps" else f"{base.epochs:g} epochs"
    notes = (
        f"{appearance(models[0]).label} on {base.dataset}, preset {name}: {base.train_size} training images, {budget} "
        f"of {base.global_batch} images, best weights on val",
        "the paper (Figure 9, without printed numbers): the class token at lr 8e-4 and pooling at 3e-4 reach the same "
        "5-shot accuracy on ImageNet, pooling at 8e-4 far less",
    )
    readings = [
        (metric, f"({'ab'[i]}) {words.capitalize()} [%]") for i, (metric, words) in enumerate(_readings(preset))
    ]
    return rates_figure(rows, verdicts, labels=labels, readings=readings, preset=name, notes=notes)


EXPERIMENT = Experiment(
    name="vit_head",
    question="Class token or global average pooling, at which learning rate? (ViT, section D.3, Figure 9)",
    presets=PRESETS,
    settings=("model", "lr"),
    claims=claims,
    figure=figure,
)

if __name__ == "__main__":
    sys.exit(main(EXPERIMENT))
