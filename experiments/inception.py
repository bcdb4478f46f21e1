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

import re
import sys
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from math import log10
from statistics import fmean
from typing import Any

from vision_repro.analysis.claims import UNTESTED, Claim, Evidence, Judgement, Verdict
from vision_repro.analysis.intervals import differences
from vision_repro.analysis.judges.comparisons import compare, of_models, same
from vision_repro.analysis.judges.estimates import greater
from vision_repro.analysis.judges.exponents import counted_less
from vision_repro.analysis.summary import SummaryRow
from vision_repro.cli import main
from vision_repro.config import RunConfig
from vision_repro.experiment import Experiment, Preset
from vision_repro.papers.tables import paper_table

MARGIN = 0.015
EQUAL_COST = 0.1
"""By which fraction the FLOPs of nets of "equal cost" may differ."""
EARLY, LATE = 3, 18
"""Layers of the stem, and convolutions behind 4d (4e, 5a and 5b have six each)."""
FLOPS = "forward_flops"
STATES = {"gradient_norm_start": "at the start", "gradient_norm": "after training"}
WEIGHTS = {"-noaux": "none", "-aux0": "0", "": "0.3", "-aux1.0": "1.0"}
_NAME = re.compile(
    r"googlenet(?:x(?P<width>[\d.]+))?(?P<norm>-bn)?(?P<direct>-nobottleneck)?(?P<aux>-noaux|-aux[\d.]+)?"
)


def _nets(wide: str, narrow: str, *auxiliary: str, direct: bool = True) -> tuple[str, ...]:
    """Returns nets with and without bottlenecks at both widths, and the wide ones with other auxiliary weights.

    Without bottlenecks the narrow net costs about what the wide one costs with them.
    """
    pairs = (wide, f"{wide}-nobottleneck", narrow, f"{narrow}-nobottleneck") if direct else (wide,)
    return (*pairs, *(f"{wide}{option}" for option in auxiliary))


_DIGITS = RunConfig(
    dataset="digits", image_size=8, model="googlenetx0.125", steps=140, global_batch=32, evaluations=2, shots="",
    select="last", probes="cost gradient_norms",
)  # fmt: skip
_CIFAR = replace(
    _DIGITS, dataset="cifar10", image_size=16, train_size=49_000, steps=340, global_batch=64,
    augmentation="flip"
)  # fmt: skip

PRESETS = {
    "smoke": Preset(
        base=replace(_DIGITS, steps=2, evaluations=1, train_size=40),
        axes={"model": _nets("googlenetx0.125", "googlenetx0.07", "-noaux", "-aux1.0")}, seeds=1,
        cost="seconds; shows that everything works, never evidence", evidence=False,
    ),
    "cpu": Preset(
        base=_DIGITS,
        axes={
            "model": (
                *_nets("googlenetx0.125", "googlenetx0.07", "-noaux", "-aux0", "-aux1.0"),
                *_nets("googlenetx0.125-bn", "", "-noaux", direct=False),
            )
        },
        seeds=5, cost="about 3 minutes on two cores; scikit-learn's digits, offline",
    ),
    "cifar": Preset(
        base=_CIFAR,
        axes={
            "model": (
                *_nets("googlenetx0.125-bn", "googlenetx0.072-bn", "-noaux", "-aux1.0"),
                *_nets("googlenetx0.125", "", "-noaux", "-aux1.0", direct=False),
            )
        },
        seeds=3, cost="about 6 minutes on two cores; CIFAR-10 at 16 pixels",
    ),
    "gpu": Preset(
        base=replace(
            _CIFAR, image_size=32, model="googlenetx0.25", steps=2000, global_batch=256, evaluations=5,
            augmentation="crop-flip",
        ),
        axes={
            "model": (
                *_nets("googlenetx0.25-bn", "googlenetx0.145-bn", "-noaux", "-aux1.0"),
                *_nets("googlenetx0.25", "googlenetx0.145", "-noaux", "-aux0", "-aux1.0"),
            )
        },
        seeds=5, cost="about an hour on one GPU; CIFAR-10, or ARGS=--dataset=cifar100",
    ),
    "paper": Preset(
        base=replace(
            _CIFAR, dataset="imagenet", image_size=224, model="googlenet", train_size=1_271_167, budget="epochs",
            epochs=60.0, global_batch=256, lr=0.08, optimizer="sgd", weight_decay=2e-4, polyak=0.9999, grad_clip=0.0,
            evaluations=10, augmentation="inception",
        ),
        axes={"model": _nets("googlenet", "googlenetx0.59", "-noaux", "-aux0", "-aux1.0")}, seeds=3,
        cost="about 40 GPU-hours; ImageNet (see --dry-run)",
    ),
}  # fmt: skip


def fill_defaults(name: str, config: RunConfig) -> RunConfig:
    """Returns the run with the learning rate of its kind of net, where none is given."""
    return config if config.lr is not None else replace(config, lr=1e-2 if "-bn" in config.model else 3e-3)


def _printed(item: str) -> dict[str, str]:
    """Returns the row of a number that the paper or the slides give."""
    return next(row for row in paper_table("googlenet_devices") if row["item"] == item)


def _bases(models: Sequence[str]) -> list[str]:
    """Returns the nets with bottlenecks and the paper's auxiliary weight."""
    return [model for model in models if not any(_name(model)[part] for part in ("direct", "aux"))]


def _name(model: str) -> dict[str, str | None]:
    match = _NAME.fullmatch(model)
    assert match is not None, model
    return match.groupdict()


def _width(model: str) -> float:
    return float(_name(model)["width"] or 1)


def _kind(model: str) -> str:
    return "with batch norm" if _name(model)["norm"] else "without batch norm"


def _higher_at_equal_cost(evidence: Evidence, first: str, second: str) -> Judgement:
    """Judges that `first` is more accurate than `second`; untested unless their FLOPs are about the same."""
    costs = [evidence.values(FLOPS, model=model).values() for model in (first, second)]
    if not all(costs):
        return Judgement(UNTESTED, f"{first} minus {second}", None, "FLOPs were not counted")
    ratio = fmean(costs[1]) / fmean(costs[0])
    found = of_models(compare, first, second, note=f"the second takes {ratio:.2f} times the FLOPs")(evidence)
    return found if abs(ratio - 1) <= EQUAL_COST else replace(found, verdict=UNTESTED)


def _cheaper(evidence: Evidence, first: str, second: str, metric: str) -> Judgement:
    subject = f"log2 of {second} over {first}"
    return counted_less(evidence, {"model": second}, {"model": first}, metric=metric, subject=subject)


def reach(evidence: Evidence, model: str, prefix: str) -> dict[int, float]:
    """Returns by seed log10 of the mean gradient norm of the first layers over that of the last ones.

    `prefix` begins the names of the metrics, which end in the layer's number. Seeds of which a mean is 0 are left out.
    """
    layers: dict[str, dict[int, float]] = {}
    for row in evidence.table.select(preset=evidence.preset, model=model).rows:
        if row.ok and row.metric.rpartition("_")[0] == prefix:
            layers.setdefault(row.metric, {})[row.seed] = row.value
    ordered = [layers[name] for name in sorted(layers)]
    if len(ordered) <= EARLY + LATE + 1:
        return {}
    means = {
        seed: tuple(fmean(layer[seed] for layer in part) for part in (ordered[:EARLY], ordered[-LATE - 1 : -1]))
        for seed in sorted(set.intersection(*map(set, ordered)))
    }
    return {seed: log10(first / last) for seed, (first, last) in means.items() if first > 0 and last > 0}


def _reaches_further(evidence: Evidence, first: str, second: str, prefix: str) -> Judgement:
    """Judges that more gradient reaches the first layers in `first` than in `second`, relative to the last layers."""
    found = [reach(evidence, model, prefix) for model in (first, second)]
    note = f"{_times(found[0])} with {first}, {_times(found[1])} with {second}: first over last layers"
    return greater(
        evidence,
        differences(*found),
        subject=f"log10 of first over last layers' gradients, {first} minus {second}",
        diverged=sum(evidence.diverged(model=model) for model in (first, second)),
        metric=prefix,
        unit="log10 ratio",
        note=note,
    )


def _times(logs: dict[int, float]) -> str:
    return f"{10 ** fmean(logs.values()):.3g}" if logs else "not measured"


def _of_bottlenecks(base: str, narrower: str | None) -> list[Claim]:
    """Returns the claims on a net, the same without bottlenecks, and a narrower one without them."""
    without, kind = f"{base}-nobottleneck", f"{_kind(base)}, width x{_width(base):g}"
    branch = f"{_printed('bottleneck_factor')['value']} times (multiply-adds of the 5x5 branch of 3a)"
    found = [
        Claim(
            f"bottlenecks-cut-flops:{base}",
            f"1x1 bottlenecks cut the FLOPs of the whole net ({kind})",
            "GoogLeNet, section 4; CNN slides",
            partial(_cheaper, first=base, second=without, metric=FLOPS),
            branch,
        ),
        Claim(
            f"bottlenecks-cut-parameters:{base}",
            f"1x1 bottlenecks cut the parameters of the whole net ({kind})",
            "GoogLeNet, section 4; CNN slides",
            partial(_cheaper, first=base, second=without, metric="parameters"),
        ),
        Claim(
            f"bottlenecks-cost-no-accuracy:{base}",
            f"1x1 bottlenecks lose no accuracy ({kind})",
            "GoogLeNet, sections 3 and 4",
            of_models(same, base, without, margin=MARGIN),
        ),
    ]
    if narrower:
        found.append(
            Claim(
                f"bottlenecks-win-at-equal-cost:{base}",
                f"At equal FLOPs, the wider net with 1x1 bottlenecks is more accurate ({_kind(base)})",
                "GoogLeNet, section 4",
                partial(_higher_at_equal_cost, first=base, second=narrower),
            )
        )
    return found


def _of_auxiliary(base: str, models: Sequence[str]) -> list[Claim]:
    """Returns the claims on the auxiliary classifiers of a net, against the nets that the preset has."""
    none, full, zero, kind = f"{base}-noaux", f"{base}-aux1.0", f"{base}-aux0", _kind(base)
    source, printed = "GoogLeNet, section 5", _printed("auxiliary_gain")
    paper = f"about {printed['value']} {printed['unit']}"
    gradient = [
        Claim(
            f"auxiliary-gradient:{prefix}:{base}",
            f"Auxiliary classifiers bring more gradient to the first layers {when} ({kind})",
            source,
            partial(_reaches_further, first=base, second=none, prefix=prefix),
        )
        for prefix, when in STATES.items()
    ]
    return [
        *(gradient if none in models else []),
        *(
            [
                Claim(
                    f"auxiliary-helps:{base}",
                    f"Auxiliary classifiers raise accuracy ({kind})",
                    source,
                    of_models(compare, base, none),
                    paper,
                ),
                Claim(
                    f"auxiliary-effect-is-minor:{base}",
                    f"The effect of auxiliary classifiers is minor ({kind})",
                    source,
                    of_models(same, base, none, margin=MARGIN),
                    paper,
                ),
            ]
            if none in models
            else []
        ),
        *(
            [
                Claim(
                    f"auxiliary-weights-are-equal:{base}",
                    f"Weights of 0.3 and 1.0 score the same ({kind})",
                    source,
                    of_models(same, base, full, margin=MARGIN),
                )
            ]
            if full in models
            else []
        ),
        *(
            [
                Claim(
                    f"weight-0-is-none:{base}",
                    f"Auxiliary losses of weight 0 score as none ({kind})",
                    "control of ours",
                    of_models(same, zero, none, margin=MARGIN),
                )
            ]
            if {zero, none} <= set(models)
            else []
        ),
    ]


def claims(name: str, preset: Preset) -> list[Claim]:
    """Returns the claims for which the preset has the nets."""
    models = [str(model) for model in preset.axes["model"]]
    found: list[Claim] = []
    for base in _bases(models):
        kin = [other for other in _bases(models) if _name(other)["norm"] == _name(base)["norm"]]
        narrower = [f"{other}-nobottleneck" for other in kin if _width(other) < _width(base)]
        if f"{base}-nobottleneck" in models:
            found += _of_bottlenecks(base, next((model for model in narrower if model in models), None))
        found += _of_auxiliary(base, models)
    return found


def _paths(rows: Sequence[SummaryRow], models: Sequence[str]) -> list[Any]:
    """Returns accuracy against FLOPs with and without bottlenecks, for both kinds of net."""
    from vision_repro.figures.series import against

    found = []
    for norm in (None, "-bn"):
        ours = [model for model in models if _name(model)["norm"] == norm and not _name(model)["aux"]]
        kinds = [[model for model in ours if bool(_name(model)["direct"]) is direct] for direct in (False, True)]
        for word, kind in zip(("with", "without"), kinds if kinds[1] else [], strict=False):
            settings = [{"model": model} for model in kind]
            label = f"{word} 1x1 bottlenecks{', batch norm' if norm else ''}"
            found.append(against(rows, "test_accuracy", FLOPS, settings, label))
    return found


def figure(rows: Sequence[SummaryRow], verdicts: Sequence[Verdict], name: str, preset: Preset) -> Any:
    """Returns accuracy against FLOPs, accuracy by auxiliary weight, and gradient norms by layer."""
    from vision_repro.figures.series import by_layer, entry
    from vision_repro.figures.study import Curves, Dots, study_figure

    base, models = preset.shared, [str(model) for model in preset.axes["model"]]
    compared = [model for model in _bases(models) if f"{model}-noaux" in models]
    found = [(model, option) for model in compared for option in WEIGHTS if f"{model}{option}" in models]
    dots = [
        entry(
            rows,
            "test_accuracy",
            {"model": f"{model}{option}"},
            f"{WEIGHTS[option]}{', batch norm' if _name(model)['norm'] else ''}",
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
    budget = f"{base.steps} steps" if base.budget == "steps" else f"{base.epochs:g} epochs"
    panels: list[Any] = [
        Curves("Test accuracy [%]", _paths(rows, models), "FLOPs of an image", xlog=True),
        Dots("Test accuracy by auxiliary weight [%]", dots),
        *(
            Curves(f"Gradient over weight norm {STATES[prefix]}", series, "layer", ylog=True)
            for prefix, series in gradients.items()
        ),
    ]
    notes = (
        f"GoogLeNet on {base.dataset} at {base.image_size} pixels, preset {name}: {base.train_size} training images, "
        f"{budget} of {base.global_batch} images",
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
    fill_defaults=fill_defaults,
    tables=("test_accuracy", FLOPS, "parameters"),
)

if __name__ == "__main__":
    sys.exit(main(EXPERIMENT))
