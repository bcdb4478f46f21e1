"""Data-size scaling, ViT against BiT: which family is ahead with how many training images?

paper     An Image is Worth 16x16 Words (ViT, arXiv 2010.11929v2), section 4.3, Figures 3 and 4, Table 5
question  Accuracy of ViTs and BiTs (ResNet v2, GroupNorm, weight standardisation) trained on nested subsets of growing
          size, read in two ways: direct test accuracy, and linear few-shot accuracy on frozen features.
command   make exp-data-scaling [PRESET=cpu|cifar|gpu|paper] [SEEDS=5] [DEVICES=1]
cost      smoke seconds; cpu about 5 minutes on two cores; cifar within an hour on two cores; gpu about an hour on one
          GPU; paper thousands of GPU-hours (`ARGS=--dry-run`)
expected  The paper: BiT ahead at the smallest size, ViT at the largest. At `cpu` and `cifar` a crossing is not to be
          expected: the largest subsets hold a thousandth of the paper's images. The verdicts say what came out.

Deviation: AdamW with one learning rate a model, chosen on `val` from one grid with one budget (`sweeps/`), instead of
    Adam with the rates of Table 3; those are for batches of 4096 and millions of images.
Deviation: at the small presets, parameter-matched small ViTs and BiTs instead of L/16, L/32, B/32, b/32, R50x1 and
    R152x2.
Deviation: few-shot accuracy is measured on the same data set's `val` and `test`, not on ImageNet.
Its runs at the largest size of a preset are named again by attention_distance, position_embedding, vit_head,
compute_accuracy and transfer (`presets/bases.py`): trained once, measured in six ways.
Early stopping as in Figure 4: the weights with the best validation accuracy are tested, once, on `test`.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from vision_repro.analysis.claims import Claim, Evidence, Judgement, Verdict
from vision_repro.analysis.judges.comparisons import compare, trend
from vision_repro.analysis.summary import SummaryRow
from vision_repro.cli import main
from vision_repro.config import Scalar
from vision_repro.experiment import Experiment, Preset
from vision_repro.presets import bases, captions, scales
from vision_repro.presets.pairs import HYBRIDS, PAIRS
from vision_repro.presets.rates import fill_searched

PAPER_MODELS = ("vit-l/16", "vit-l/32", "vit-b/32", "vit-b-half/32", "bit-r50x1", "bit-r152x2")
SOURCE = "ViT, section 4.3, Figure 4"


def family(image_size: int) -> tuple[Scalar, ...]:
    """Returns the models of an image size: two parameter-matched pairs and a hybrid."""
    return (*(model for pair in PAIRS[image_size] for model in pair), HYBRIDS[image_size])


_SIZES = (9_000_000, 30_000_000, 90_000_000, 300_000_000)

PRESETS = {
    "smoke": scales.smoke(
        replace(bases.DIGITS, shots="1 5", draws=1),
        {"model": ("vit-32x4/2", "bit-r11x0.15"), "train_size": (20, 40)},
    ),
    "cpu": scales.cpu(
        bases.DIGITS, {"model": family(8), "train_size": (20, 60, 180, 500, 1200)}, "about 5 minutes"
    ),
    "cifar": scales.real(
        bases.CIFAR, {"model": family(32)[:-1], "train_size": (500, 5000, 49000)}, "within an hour"
    ),
    "gpu": scales.gpu(
        bases.CIFAR_GPU, {"model": family(32), "train_size": (500, 2500, 12000, 49000)}, seeds=3
    ),
    "paper": scales.paper(
        replace(bases.IMAGENET21K, shots="5"), {"model": PAPER_MODELS, "train_size": _SIZES},
        "thousands of", "JFT-like sizes in class folders",
    ),
}  # fmt: skip


def _ends(evidence: Evidence) -> tuple[Scalar, Scalar]:
    sizes = evidence.sizes()
    return (sizes[0], sizes[-1]) if sizes else (0, 0)


def _at(evidence: Evidence, end: int, first: str, second: str, words: str, metric: str) -> Judgement:
    size = _ends(evidence)[end]
    subject = f"{first} minus {second} at {size} images ({words})"
    a, b = {"model": first, "train_size": size}, {"model": second, "train_size": size}
    return compare(evidence, a, b, subject=subject, metric=metric)  # type: ignore[arg-type]


def _gap(evidence: Evidence, vit: str, bit: str, words: str, metric: str) -> Judgement:
    subject = f"slope of {vit} minus {bit} over log10(images) ({words})"
    return trend(evidence, {"model": vit}, {"model": bit}, subject=subject, metric=metric)


def _larger(evidence: Evidence, small: str, large: str, metric: str) -> Judgement:
    subject = f"slope of {large} minus {small} over log10(images)"
    return trend(evidence, {"model": large}, {"model": small}, subject=subject, metric=metric)


def claims(name: str, preset: Preset) -> list[Claim]:
    """Returns the paper's claims for each matched pair of the preset, in both readings of accuracy."""
    models = [str(model) for model in preset.axes["model"]]
    pairs = (
        [("vit-b/32", "bit-r50x1"), ("vit-l/16", "bit-r152x2")] if name == "paper" else PAIRS[preset.base.image_size]
    )
    found: list[Claim] = []
    readings = [("direct test accuracy", "test_accuracy")]
    if 5 in preset.base.shot_counts:
        readings.append(("5-shot accuracy", "few_shot_5"))
    for words, metric in readings:
        for vit, bit in (pair for pair in pairs if set(pair) <= set(models)):
            found += _pair_claims(vit, bit, words, metric)
        small, large = (pairs[0][0], pairs[-1][0])
        if {small, large} <= set(models) and small != large:
            found.append(_larger_claim(str(small), str(large), words, metric))
    return found


def _larger_claim(small: str, large: str, words: str, metric: str) -> Claim:
    return Claim(
        f"larger-needs-more:{metric}",
        f"Larger ViTs need more data than smaller ones: {large} gains on {small} as the data grows ({words})",
        "ViT, section 4.3, Figure 3",
        lambda e: _larger(e, small, large, metric),
    )


def _pair_claims(vit: str, bit: str, words: str, metric: str) -> list[Claim]:
    return [
        Claim(
            f"bit-ahead-small:{vit}:{metric}",
            f"{bit} is ahead of {vit} at the smallest size ({words})",
            SOURCE,
            lambda e: _at(e, 0, bit, vit, words, metric),
        ),
        Claim(
            f"gap-shrinks:{vit}:{metric}",
            f"The gap between {bit} and {vit} shrinks as the data grows ({words})",
            SOURCE,
            lambda e: _gap(e, vit, bit, words, metric),
        ),
        Claim(
            f"vit-ahead-large:{vit}:{metric}",
            f"{vit} overtakes {bit} at the largest size ({words})",
            SOURCE,
            lambda e: _at(e, 1, vit, bit, words, metric),
        ),
    ]


def figure(rows: Sequence[SummaryRow], verdicts: Sequence[Verdict], name: str, preset: Preset) -> Any:
    """Returns accuracy against the number of training images, in both readings, beside the paper's Figure 3."""
    from vision_repro.figures.scaling import data_scaling_figure

    base = preset.base
    dataset = str(preset.axes.get("dataset", (base.dataset,))[0])
    caption = (
        f"equal {captions.budget(base)} of {base.global_batch} images; best weights on val; "
        f"{captions.rates(dataset, captions.models(preset))}"
    )
    return data_scaling_figure(rows, verdicts, dataset=dataset, preset=name, caption=caption)


EXPERIMENT = Experiment(
    name="data_scaling",
    question="Which family is ahead with how many training images, ViT or BiT? (ViT, section 4.3, Figures 3 and 4)",
    presets=PRESETS,
    settings=("model", "train_size"),
    claims=claims,
    figure=figure,
    fill_defaults=fill_searched,
)

if __name__ == "__main__":
    sys.exit(main(EXPERIMENT))
