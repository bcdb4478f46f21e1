"""Position embedding: what is lost without one, and does it matter which one, and where it is added?

paper     An Image is Worth 16x16 Words (ViT, arXiv 2010.11929v2), section D.4, Table 8
question  Accuracy of one ViT with no, 1-D, 2-D and relative position embeddings, added to the first layer's input, to
          every layer's from own tables, or to every layer's from a shared one.
command   make exp-position-embedding [PRESET=cpu|cifar|gpu|paper] [SEEDS=5] [DEVICES=1]
cost      smoke seconds; cpu about 3 minutes and cifar about 15 minutes on two cores; gpu about an hour on one GPU;
          paper about 200 GPU-hours (`ARGS=--dry-run`)
shared    The 1-D embedding at the input is data_scaling's ViT with all training images, at `cpu`, `cifar` and `gpu`
          (there the first three seeds): trained once. The other variants differ from it in the embedding only.
expected  The paper: without one 2.8 points are lost, all others lie within 0.33 points of each other.

Deviation: small ViTs trained on the data set that they are tested on, instead of B/16 pre-trained on a large one.
Deviation: the paper's metric is 5-shot accuracy on ImageNet; here it is 5-shot accuracy on images of the same data set,
    and test accuracy beside it.
Deviation: AdamW, and one learning rate for all variants, the one that was searched for 1-D embeddings in the experiment
    data_scaling; the paper has one for all, too.
Equality is judged within 1.5 points, about half of what the paper loses without a position embedding: the paper gives
no noise, and its own differences of 0.33 points are below what a few seeds can show at this scale.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from vision_repro.analysis.claims import Claim, Evidence, Judgement, Verdict
from vision_repro.analysis.judges.comparisons import compare, jointly, of_models, same
from vision_repro.analysis.summary import SummaryRow
from vision_repro.cli import main
from vision_repro.experiment import Experiment, Preset
from vision_repro.papers.tables import paper_table
from vision_repro.presets import bases, scales
from vision_repro.presets.rates import UNTUNED, learning_rate

SOURCE = "ViT, section D.4, Table 8"
MARGIN = 0.015
# option of the model's name -> position embedding and placement, as Table 8 writes them
VARIANTS = {
    "-pos0": ("none", "stem"),
    "": ("1d", "stem"),
    "-every": ("1d", "every_layer"),
    "-shared": ("1d", "every_layer_shared"),
    "-pos2d": ("2d", "stem"),
    "-pos2d-every": ("2d", "every_layer"),
    "-pos2d-shared": ("2d", "every_layer_shared"),
    "-posrel": ("relative_1d", "stem"),
}
_KINDS = {"none": "none", "1d": "1-D", "2d": "2-D", "relative_1d": "relative"}
_PLACES = {"stem": "", "every_layer": ", every layer", "every_layer_shared": ", every layer, shared"}


def _models(stem: str) -> tuple[str, ...]:
    return tuple(stem + option for option in VARIANTS)


PRESETS = {
    "smoke": scales.smoke(
        replace(bases.DIGITS, model="vit-32x4/2", lr=learning_rate("digits", "vit-32x4/2"), shots="5", draws=1),
        {"model": _models("vit-32x4/2")},
    ),
    "cpu": scales.cpu(
        replace(bases.DIGITS, lr=learning_rate("digits", "vit-64x4/2")), {"model": _models("vit-64x4/2")},
        "about 3 minutes",
    ),
    "cifar": scales.real(
        replace(bases.CIFAR, lr=learning_rate("cifar10", "vit-64x4/4"), shots="5"),
        {"model": _models("vit-64x4/4")}, "about 15 minutes",
    ),
    "gpu": scales.gpu(
        replace(bases.CIFAR_GPU, lr=learning_rate("cifar10", "vit-128x4/4")), {"model": _models("vit-128x4/4")}
    ),
    "paper": scales.paper(
        replace(bases.IMAGENET21K, lr=UNTUNED, shots="5"), {"model": _models("vit-b/16")},
        "about 200", "ImageNet-21k-like class folders",
    ),
}  # fmt: skip


def _stem(preset: Preset) -> str:
    """Returns the model's name without options: the first of the preset's models, or the base's."""
    model = str(preset.axes.get("model", (preset.shared.model,))[0])
    size, _, rest = model.partition("/")
    return f"{size}/{rest.partition('-')[0]}"


def _readings(preset: Preset) -> list[tuple[str, str]]:
    """Returns the metrics and their names; the paper's comes first."""
    few = [("few_shot_5", "5-shot accuracy")] if 5 in preset.shared.shot_counts else []
    return [*few, ("test_accuracy", "test accuracy")]


def _worse(evidence: Evidence, stem: str, metric: str) -> Judgement:
    subject = f"{stem} minus {stem}-pos0"
    return compare(evidence, {"model": stem}, {"model": f"{stem}-pos0"}, subject=subject, metric=metric)


def _equal(evidence: Evidence, pairs: Sequence[tuple[str, str]], metric: str) -> Judgement:
    each = [of_models(same, a, b, margin=MARGIN, metric=metric) for a, b in pairs]
    return jointly(evidence, each, subject="the largest difference")


def _table8() -> dict[tuple[str, str], float]:
    """Returns the paper's 5-shot accuracies (fractions) by position embedding and placement."""
    table = paper_table("vit_table8")
    return {(row["position_embedding"], row["placement"]): float(row["imagenet_5shot_linear"]) for row in table}


def _printed(stem: str, pairs: Sequence[tuple[str, str]], metric: str) -> str:
    """Returns the largest difference of the same pairs in Table 8, which prints 5-shot accuracies only."""
    if metric != "few_shot_5" or not pairs:
        return ""
    theirs = {stem + option: _table8()[variant] for option, variant in VARIANTS.items()}
    largest = max((100 * (theirs[a] - theirs[b]) for a, b in pairs), key=abs)
    if f"{stem}-pos0" in pairs[0]:
        return f"{largest:+.1f} points"
    others = [100 * value for model, value in theirs.items() if model != f"{stem}-pos0"]
    return f"{largest:+.3f} points (any two with positions: at most {max(others) - min(others):.3f})"


def claims(name: str, preset: Preset) -> list[Claim]:
    """Returns the paper's claims on kind and placement, in both readings of accuracy, for the variants there are."""
    stem = _stem(preset)
    there = {str(model) for model in preset.axes.get("model", (preset.shared.model,))}
    kinds = [(stem + option, stem) for option in ("-pos2d", "-posrel")]
    places = [(f"{stem}{kind}{place}", stem + kind) for kind in ("", "-pos2d") for place in ("-every", "-shared")]
    same_kinds, same_places = ([pair for pair in pairs if set(pair) <= there] for pairs in (kinds, places))
    found = []
    for metric, words in _readings(preset):
        found += [
            Claim(
                f"position-matters:{metric}",
                f"Without a position embedding accuracy is lost ({words})",
                SOURCE,
                partial(_worse, stem=stem, metric=metric),
                _printed(stem, [(stem, f"{stem}-pos0")], metric),
            ),
            Claim(
                f"kinds-are-equal:{metric}",
                f"1-D, 2-D and relative position embeddings are equal ({words})",
                SOURCE,
                partial(_equal, pairs=same_kinds, metric=metric),
                _printed(stem, same_kinds, metric),
            ),
            Claim(
                f"places-are-equal:{metric}",
                f"It is equal whether positions are added once, at every layer or shared by all layers ({words})",
                SOURCE,
                partial(_equal, pairs=same_places, metric=metric),
                _printed(stem, same_places, metric),
            ),
        ]
    return found


def figure(rows: Sequence[SummaryRow], verdicts: Sequence[Verdict], name: str, preset: Preset) -> Any:
    """Returns a line for each variant: our accuracies beside the paper's Table 8."""
    from vision_repro.figures.appearance import appearance
    from vision_repro.figures.series import entry, printed
    from vision_repro.figures.study import Dots, study_figure

    stem, base = _stem(preset), preset.shared
    table, roles = _table8(), {"": "reference", "-pos0": "without"}
    lines = {stem + option: (kind, place) for option, (kind, place) in VARIANTS.items()}
    labels = {model: _KINDS[kind] + _PLACES[place] for model, (kind, place) in lines.items()}
    panels = [
        Dots(
            f"{words.capitalize()} [%]",
            [
                entry(rows, metric, {"model": model}, label, role=roles.get(model.removeprefix(stem), ""))
                for model, label in labels.items()
            ],
            margin=MARGIN,
        )
        for metric, words in _readings(preset)
    ]
    theirs = [(labels[model], table[line]) for model, line in lines.items()]
    panels.append(Dots("Paper: 5-shot [%]", [printed(label, value) for label, value in theirs if value is not None]))
    budget = f"{base.steps} steps" if base.budget == "steps" else f"{base.epochs:g} epochs"
    notes = (
        f"{appearance(stem).label} with each position embedding on {base.dataset}, preset {name}: {base.train_size} "
        f"training images, {budget} of {base.global_batch} images, best weights on val, peak lr {base.lr:g} for all "
        "(chosen for 1-D)",
        f"grey band: within {100 * MARGIN:g} points of the reference (square), the margin of the claims of equality",
        "paper: Table 8, B/16 on ImageNet",
    )
    return study_figure(rows, verdicts, panels=panels, preset=name, notes=notes)


EXPERIMENT = Experiment(
    name="position_embedding",
    question="Does a ViT need position embeddings, and which, and where? (ViT, section D.4, Table 8)",
    presets=PRESETS,
    settings=("model",),
    claims=claims,
    figure=figure,
)

if __name__ == "__main__":
    sys.exit(main(EXPERIMENT))
