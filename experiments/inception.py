"""What do GoogLeNet's two devices buy: 1x1 bottlenecks before large kernels, and auxiliary classifiers?

paper     Going Deeper with Convolutions (GoogLeNet, arXiv 1409.4842), sections 3 to 5; lecture slides on CNNs
question  Cost and accuracy with and without the 1x1 convolutions before the 3x3 and 5x5 ones, at equal widths and at
          equal FLOPs; accuracy, and gradients by layer, with auxiliary losses of weight 0.3, 1.0, 0, and without.
command   make exp-inception [PRESET=cpu|cifar|gpu|paper] [SEEDS=5] [DEVICES=1]
cost      smoke seconds; cpu about 3 minutes and cifar about 6 minutes on two cores; gpu about an hour on one GPU;
          paper about 40 GPU-hours (`ARGS=--dry-run`)
expected  Bottlenecks cut the FLOPs of the nets here to about a third and their parameters to a quarter (the slides' 5x5
          branch: to a tenth), and what they save buys width. Auxiliary classifiers bring gradient to the first layers;
          what that does for accuracy is small once a net learns, about 0.5 points by the paper's own controls.

The first layers are the stem's three convolutions; the last those of 4e to 5b, which no auxiliary loss reaches (the
classifier is left out, as its scale is its own). With weight 0 the auxiliary classifiers run and change nothing: such a
net trains as one without them, up to the rounding of the norm that gradients are clipped by.
All these nets start from the same weights, so at the start their gradients differ by the auxiliary losses alone.

Deviation: narrow nets, small images and 140 to 2000 steps of AdamW with warm-up and cosine decay instead of ImageNet
    and SGD; CIFAR-10 at 16 pixels on two cores, as at 32 pixels the same time is a quarter of the steps.
Deviation: beside the paper's net also one with batch norm (as BN-Inception has it), as without it a few hundred steps
    on CIFAR-10 teach little. Rates of 3e-3 without and 1e-2 with batch norm: of these two the better in short runs.
Deviation: "without bottlenecks" keeps the 1x1 behind the pooling; without it blocks would grow from one to the next.
Deviation: `paper` has the rate of a step, the batch and the decay of BVLC's replication or ours, as the paper names
    none of them; one crop of the Inception kind instead of photometric distortions and 144 crops of 7 models.
Equality is judged within 1.5 points.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from vision_repro.analysis.claims import Claim, Verdict
from vision_repro.analysis.judges import devices
from vision_repro.analysis.judges.comparisons import compare, of_models, same
from vision_repro.analysis.judges.devices import FLOPS
from vision_repro.analysis.summary import SummaryRow
from vision_repro.cli import main
from vision_repro.experiment import Experiment, Preset
from vision_repro.papers.tables import paper_table
from vision_repro.presets import bases, captions, googlenets, scales
from vision_repro.presets.googlenets import WEIGHTS, nets
from vision_repro.presets.rates import fill

MARGIN = 0.015
_BRANCH = "(multiply-adds of the 5x5 branch of 3a)"
EARLY, LATE = 3, 18
"""Layers of the stem, and convolutions behind 4d (4e, 5a and 5b have six each)."""
STATES = {"gradient_norm_start": "at the start", "gradient_norm": "after training"}
_DIGITS = replace(bases.LAST_DIGITS, steps=140, global_batch=32, probes="cost gradient_norms")
_CIFAR = replace(bases.LAST_CIFAR, image_size=16, steps=340, augmentation="flip", probes=_DIGITS.probes)

PRESETS = {
    "smoke": scales.smoke(_DIGITS, {"model": nets("googlenetx0.125", "googlenetx0.07", "-noaux", "-aux1.0")}),
    "cpu": scales.cpu(
        _DIGITS,
        {
            "model": (
                *nets("googlenetx0.125", "googlenetx0.07", "-noaux", "-aux0", "-aux1.0"),
                *nets("googlenetx0.125-bn", "", "-noaux", direct=False),
            )
        },
        "about 3 minutes",
    ),
    "cifar": scales.real(
        _CIFAR,
        {
            "model": (
                *nets("googlenetx0.125-bn", "googlenetx0.072-bn", "-noaux", "-aux1.0"),
                *nets("googlenetx0.125", "", "-noaux", "-aux1.0", direct=False),
            )
        },
        "about 6 minutes", data="CIFAR-10 at 16 pixels",
    ),
    "gpu": scales.gpu(
        replace(
            _CIFAR, image_size=32, steps=2000, global_batch=256, evaluations=5, augmentation="crop-flip"
        ),
        {
            "model": (
                *nets("googlenetx0.25-bn", "googlenetx0.145-bn", "-noaux", "-aux1.0"),
                *nets("googlenetx0.25", "googlenetx0.145", "-noaux", "-aux0", "-aux1.0"),
            )
        },
    ),
    "paper": scales.paper(
        replace(
            _CIFAR, dataset="imagenet", image_size=224, train_size=1_271_167, budget="epochs", epochs=60.0,
            global_batch=256, lr=0.08, optimizer="sgd", weight_decay=2e-4, polyak=0.9999, grad_clip=0.0,
            evaluations=10, augmentation="inception",
        ),
        {"model": nets("googlenet", "googlenetx0.59", "-noaux", "-aux0", "-aux1.0")}, "about 40", "ImageNet", seeds=3,
    ),
}  # fmt: skip


def _printed(item: str) -> dict[str, str]:
    """Returns the row of a number that the paper or the slides give."""
    return next(row for row in paper_table("googlenet_devices") if row["item"] == item)


def _of_bottlenecks(base: str, narrower: str | None) -> list[Claim]:
    """Returns the claims on a net, the same without bottlenecks, and a narrower one without them."""
    source, kind = "GoogLeNet, section 4", googlenets.kind(base)
    words = f"({kind}, width x{googlenets.width(base):g})"
    less = partial(devices.cheaper, first=base, second=f"{base}-nobottleneck")
    equal = of_models(same, base, f"{base}-nobottleneck", margin=MARGIN)
    found = [
        Claim(
            f"bottlenecks-cut-{key}:{base}",
            f"1x1 bottlenecks cut the {name} of the whole net {words}",
            f"{source}; CNN slides",
            partial(less, metric=metric),
            printed,
        )
        for key, name, metric, printed in (
            ("flops", "FLOPs", FLOPS, f"{_printed('bottleneck_factor')['value']} times {_BRANCH}"),
            ("parameters", "parameters", "parameters", ""),
        )
    ]
    statement = f"1x1 bottlenecks lose no accuracy {words}"
    found.append(Claim(f"bottlenecks-cost-no-accuracy:{base}", statement, "GoogLeNet, sections 3 and 4", equal))
    if narrower:
        statement = f"At equal FLOPs, the wider net with 1x1 bottlenecks is more accurate ({kind})"
        judge = partial(devices.higher_at_equal_cost, first=base, second=narrower)
        found.append(Claim(f"bottlenecks-win-at-equal-cost:{base}", statement, source, judge))
    return found


def _of_auxiliary(base: str, models: Sequence[str]) -> list[Claim]:
    """Returns the claims on the auxiliary classifiers of a net, against the nets that the preset has."""
    none, full, zero, kind = f"{base}-noaux", f"{base}-aux1.0", f"{base}-aux0", f"({googlenets.kind(base)})"
    source, printed = "GoogLeNet, section 5", _printed("auxiliary_gain")
    paper, found = f"about {printed['value']} {printed['unit']}", []
    equal = partial(of_models, same, margin=MARGIN)
    if none in models:
        further = partial(devices.reaches_further, first=base, second=none, early=EARLY, late=LATE)
        for prefix, when in STATES.items():
            statement = f"Auxiliary classifiers bring more gradient to the first layers {when} {kind}"
            found.append(
                Claim(f"auxiliary-gradient:{prefix}:{base}", statement, source, partial(further, prefix=prefix))
            )
        helps, minor = (
            f"Auxiliary classifiers raise accuracy {kind}",
            f"The effect of auxiliary classifiers is minor {kind}",
        )
        found.append(Claim(f"auxiliary-helps:{base}", helps, source, of_models(compare, base, none), paper))
        found.append(Claim(f"auxiliary-effect-is-minor:{base}", minor, source, equal(base, none), paper))
    if full in models:
        statement = f"Weights of 0.3 and 1.0 score the same {kind}"
        found.append(Claim(f"auxiliary-weights-are-equal:{base}", statement, source, equal(base, full)))
    if {zero, none} <= set(models):
        statement = f"Auxiliary losses of weight 0 score as none {kind}"
        found.append(Claim(f"weight-0-is-none:{base}", statement, "control of ours", equal(zero, none)))
    return found


def claims(name: str, preset: Preset) -> list[Claim]:
    """Returns the claims for which the preset has the nets."""
    models = captions.models(preset)
    found: list[Claim] = []
    for base in googlenets.bases(models):
        if f"{base}-nobottleneck" in models:
            found += _of_bottlenecks(base, googlenets.narrower(base, models))
        found += _of_auxiliary(base, models)
    return found


def _paths(rows: Sequence[SummaryRow], models: Sequence[str]) -> list[Any]:
    """Returns accuracy against FLOPs with and without bottlenecks, for both kinds of net."""
    from vision_repro.figures.series import against

    found = []
    for norm in (None, "-bn"):
        ours = [
            model for model in models if googlenets.parts(model)["norm"] == norm and not googlenets.parts(model)["aux"]
        ]
        kinds = [
            [model for model in ours if bool(googlenets.parts(model)["direct"]) is direct] for direct in (False, True)
        ]
        for word, kind in zip(("with", "without"), kinds if kinds[1] else [], strict=False):
            settings = [{"model": model} for model in kind]
            label = f"{word} 1x1 bottlenecks{', batch norm' if norm else ''}"
            found.append(against(rows, "test_accuracy", FLOPS, settings, label))
    return found


def figure(rows: Sequence[SummaryRow], verdicts: Sequence[Verdict], name: str, preset: Preset) -> Any:
    """Returns accuracy against FLOPs, accuracy by auxiliary weight, and gradient norms by layer."""
    from vision_repro.figures.series import by_layer, entry
    from vision_repro.figures.study import Curves, Dots, study_figure

    base, models = preset.shared, captions.models(preset)
    compared = [model for model in googlenets.bases(models) if f"{model}-noaux" in models]
    found = [(model, option) for model in compared for option in WEIGHTS if f"{model}{option}" in models]
    dots = [
        entry(
            rows,
            "test_accuracy",
            {"model": f"{model}{option}"},
            f"{WEIGHTS[option]}{', batch norm' if googlenets.parts(model)['norm'] else ''}",
            role={"-noaux": "without", "": "reference"}.get(option, ""),
        )
        for model, option in found
    ]
    plain = [pair for pair in found if pair[0] == next(iter(sorted(compared, key=len)), "") and pair[1] != "-aux0"]
    gradients = {
        prefix: [
            by_layer(rows, prefix, {"model": model + option}, f"weight {WEIGHTS[option]}") for model, option in plain
        ]
        for prefix in STATES
    }
    panels: list[Any] = [
        Curves("Test accuracy [%]", _paths(rows, models), "FLOPs of an image", xlog=True),
        Dots("Accuracy by auxiliary weight [%]", dots),
        *(
            Curves(f"Gradient over weight norm {STATES[prefix]}", series, "layer", ylog=True)
            for prefix, series in gradients.items()
        ),
    ]
    notes = (
        f"GoogLeNet on {base.dataset} at {base.image_size} pixels, preset {name}: {captions.training(base)}",
        "two widths of each: the narrow net without bottlenecks takes about the FLOPs of the wide one with them; "
        f"gradients of {plain[0][0] if plain else 'no net'}, branch by branch in each block",
        f"the slides' example, the 5x5 branch of 3a at 28x28x192: {int(_printed('branch_direct')['value']):,} "
        f"multiply-adds, {int(_printed('branch_reduced')['value']):,} with a 1x1 of 16 channels before it",
    )
    return study_figure(rows, verdicts, panels=panels, preset=name, notes=notes, across=2)


EXPERIMENT = Experiment(
    name="inception",
    question="What do 1x1 bottlenecks and auxiliary classifiers buy? (GoogLeNet, sections 3 to 5)",
    presets=PRESETS,
    settings=("model",),
    claims=claims,
    figure=figure,
    fill_defaults=lambda name, config: fill(config, 1e-2 if "-bn" in config.model else 3e-3),
    tables=("test_accuracy", FLOPS, "parameters"),
)

if __name__ == "__main__":
    sys.exit(main(EXPERIMENT))
