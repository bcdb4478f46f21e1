"""Class token or global average pooling: is one better, or does it only want another learning rate?

paper     An Image is Worth 16x16 Words (ViT, arXiv 2010.11929v2), section D.3, Figure 9
question  Accuracy of one ViT that is read from a class token, and of one read from the mean of its patch tokens, over
          the same peak learning rates.
command   make exp-vit-head [PRESET=cpu|cifar|gpu|paper] [SEEDS=5] [DEVICES=1]
cost      smoke seconds; cpu about 3 minutes and cifar about 15 minutes on two cores; gpu about an hour on one GPU;
          paper about 100 GPU-hours (`ARGS=--dry-run`)
shared    The class token at the rate that data_scaling found is its ViT with all training images, at `cpu`, `cifar` and
          `gpu` (there the first three seeds): trained once.
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
from vision_repro.experiment import Experiment, Preset
from vision_repro.presets import bases, scales
from vision_repro.presets.rates import SEARCH_GRID as RATES

SOURCE = "ViT, section D.3, Figure 9"
MARGIN = 0.015


def _heads(stem: str) -> tuple[str, str]:
    """Returns the model with a class token and the one with global average pooling."""
    return stem, f"{stem}-gap"


PRESETS = {
    "smoke": scales.smoke(
        replace(bases.DIGITS, model="vit-32x4/2", shots="5", draws=1),
        {"model": _heads("vit-32x4/2"), "lr": (3e-3, 1e-2)},
    ),
    "cpu": scales.cpu(bases.DIGITS, {"model": _heads("vit-64x4/2"), "lr": RATES}, "about 3 minutes"),
    "cifar": scales.real(
        replace(bases.CIFAR, shots="5"), {"model": _heads("vit-64x4/4"), "lr": RATES}, "about 15 minutes"
    ),
    "gpu": scales.gpu(bases.CIFAR_GPU, {"model": _heads("vit-128x4/4"), "lr": RATES}),
    "paper": scales.paper(
        replace(bases.IMAGENET21K, shots="5"), {"model": _heads("vit-b/16"), "lr": (3e-4, 8e-4)},
        "about 100", "ImageNet-21k-like class folders",
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
    from vision_repro.figures.series import over
    from vision_repro.figures.study import Curves, study_figure

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
    panels = [
        Curves(
            f"{words.capitalize()} [%]",
            [over(rows, metric, {"model": model}, "lr", label) for model, label in labels.items()],
            xlabel="peak learning rate",
            xlog=True,
        )
        for metric, words in _readings(preset)
    ]
    return study_figure(rows, verdicts, panels=panels, preset=name, notes=notes)


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
