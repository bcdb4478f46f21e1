"""Preprocessing, batch norm, penalties, dropout, augmentation, hinge loss: what does each do for one small CNN?

paper     lecture slides on CNNs (preprocessing, loss, regularisation); Batch Normalization (arXiv 1502.03167), sections
          3.3 and 4.2; AlexNet, sections 4.1 (augmentation) and 4.2 (dropout)
question  Test accuracy of one VGG with one thing changed at a time: what is subtracted from the pixels, batch norm over
          learning rates, what is done against overfitting on few images, and the loss.
command   make exp-normalisation-and-regularisation [PRESET=cpu|cifar|gpu] [SEEDS=5]
          ARGS=--variant=none,dropout does a part
cost      smoke a minute; cpu about 3 minutes and cifar about 6 minutes on two cores; gpu about an hour on one GPU
expected  A mean that is subtracted helps, the deviation a little more. With batch norm the net learns at higher rates,
          depends less on the rate, and is better at its best one. Each regulariser narrows the gap between training and
          test; not each raises test accuracy. Hinge and softmax are alike.

Deviation: one VGG of 1/8 of the width and a few hundred steps; the sources' nets are larger and train for days.
Deviation: for batch norm fc6 and fc7 are left out (`-fc0`), so that it stands before every nonlinearity, as in the
    paper (section 3.2); the net without it is the same. Gradients are not clipped, which would hide divergence.
Deviation: SGD with momentum 0.9 as the sources have it, not AdamW, which rescales each gradient; no weight decay.
Deviation: regularisers see few images (`FEW`) for twice the steps. Penalties are of one size, at which training
    accuracy on CIFAR-10 falls visibly, and not searched for. Dropout is AlexNet's, 0.5, but of 64 units a layer and for
    as many steps as all others, where AlexNet has 4096 and says it needs twice as many: it may learn too little here.
Deviation: the hinge loss has a learning rate of its own, 0.3 times that of softmax: it adds up the gradients of all
    classes inside the margin, where softmax's sum to at most 1.
Deviation: penalties are on weights only, not on biases and norms.
A rate at which a run diverged counts as chance. Equality is judged within 2 points.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from vision_repro.analysis.claims import Claim, Judge, Judgement, Verdict
from vision_repro.analysis.intervals import t_interval
from vision_repro.analysis.judges import rates
from vision_repro.analysis.judges.comparisons import compare, generalisation_gap, narrower_gap, same
from vision_repro.analysis.summary import summarise
from vision_repro.analysis.table import Setting, Table
from vision_repro.cli import main
from vision_repro.config import RunConfig, UserError, nearest
from vision_repro.experiment import Experiment, Preset

SLIDES, BATCH_NORM, ALEXNET = "CNN slides", "Batch Normalization, section", "AlexNet, section"
MARGIN = 0.02
CHANCE = 0.1  # ten classes
CLOSE = 0.05  # to the best accuracy of a net's own
HINGE_RATE = 0.3
RATES = (0.01, 0.03, 0.1, 0.3, 1.0)
FEW = {"smoke": 2, "cpu": 12, "cifar": 49, "gpu": 12}
"""By preset: of how many training images one is left for the regularisers."""
AUGMENTATION = {"digits": "translate0.06+rotate10", "cifar10": "crop-flip"}  # a mirrored digit is none
PREPROCESSING = ("none", "mean-image", "channel-mean", "channel-mean-std")
SOFTMAX = "minus-channel-mean-std"
"""The variant that hinge is compared with."""

REGULARISERS: dict[str, tuple[str, str, dict[str, Any]]] = {
    "none": ("none", "", {}),
    "l2": ("L2", SLIDES, {"l2": 0.003}),
    "l1": ("L1", SLIDES, {"l1": 3e-4}),
    "elastic-net": ("elastic net", SLIDES, {"l1": 3e-4, "l2": 0.003}),
    "dropout": ("dropout", f"{ALEXNET} 4.2", {"model": ""}),
    "augmentation": ("augmentation", f"{ALEXNET} 4.1", {}),
}
"""By variant: the name, the source, and what it changes; augmentation is chosen by the data set."""
NETS = {"plain": "-fc0", "batch-norm": "-bn-fc0"}
VARIANTS: dict[str, dict[str, Any]] = {
    **{f"minus-{kind}": {"normalisation": kind} for kind in PREPROCESSING},
    **{f"{net}-lr{rate:g}": {"model": end, "lr": rate} for net, end in NETS.items() for rate in RATES},
    **{name: changes for name, (_, _, changes) in REGULARISERS.items()},
    "hinge": {"loss": "hinge"},
}
"""By variant: what it changes."""


def fill_defaults(name: str, config: RunConfig) -> RunConfig:
    """Returns the run of a variant of preset `name`, in options that any run has.

    Raises:
        UserError: for an unknown variant.
    """
    if config.variant not in VARIANTS:
        hint = nearest(config.variant, VARIANTS)
        raise UserError(f'--variant="{config.variant}" is unknown: expected one of {", ".join(VARIANTS)}.{hint}')
    changes = {"model": "-drop0", **VARIANTS[config.variant]}
    changes["model"] = config.model + changes["model"]
    if config.variant in REGULARISERS:
        changes |= {"train_size": max(1, config.train_size // FEW[name]), "steps": 2 * config.steps}
    if config.variant == "augmentation":
        changes["augmentation"] = AUGMENTATION.get(config.dataset, "crop-flip")
    if config.variant == "hinge" and config.lr is not None:
        changes["lr"] = HINGE_RATE * config.lr
    return replace(config, **changes, variant="")


_DIGITS = RunConfig(
    dataset="digits", image_size=8, model="vgg11x0.125", train_size=1200, steps=100, global_batch=64, evaluations=1,
    lr=0.01, optimizer="sgd", weight_decay=0.0, grad_clip=0.0, normalisation="channel-mean-std", shots="",
    select="last", probes="training_accuracy",
)  # fmt: skip
_CIFAR = replace(_DIGITS, dataset="cifar10", image_size=32, train_size=49000, steps=200, lr=0.02)
_AXES: dict[str, Any] = {"variant": tuple(VARIANTS)}

PRESETS = {
    "smoke": Preset(
        base=replace(_DIGITS, steps=2, train_size=80),
        axes=_AXES, seeds=1, cost="a minute; shows that everything works, never evidence", evidence=False,
    ),
    "cpu": Preset(base=_DIGITS, axes=_AXES, seeds=5, cost="about 3 minutes on two cores; digits, offline"),
    "cifar": Preset(base=_CIFAR, axes=_AXES, seeds=3, cost="about 6 minutes on two cores; CIFAR-10"),
    "gpu": Preset(
        base=replace(_CIFAR, model="vgg11x0.5", steps=4000, global_batch=128),
        axes=_AXES, seeds=5, cost="about an hour on one GPU; CIFAR-10",
    ),
}  # fmt: skip


def setting(name: str, preset: Preset, variant: str) -> Setting:
    """Returns the entries that a variant has in the table."""
    run = fill_defaults(name, replace(preset.shared, variant=variant))
    return {column: getattr(run, column) for column in EXPERIMENT.settings}


def over_rates(name: str, preset: Preset, net: str) -> Setting:
    """Returns the entries, all but the learning rate, of "plain" or "batch-norm"."""
    return {key: entry for key, entry in setting(name, preset, f"{net}-lr{RATES[0]:g}").items() if key != "lr"}


_PREPROCESSING_CLAIMS = (
    ("mean-image", "none", "Subtracting the mean image is better than nothing"),
    ("channel-mean", "none", "Subtracting the means of the channels is better than nothing"),
    ("channel-mean-std", "none", "Subtracting means and dividing by deviations is better than nothing"),
    ("channel-mean-std", "channel-mean", "Dividing by the deviations as well is better than subtracting the means"),
)


def _preprocessing_claims(name: str, preset: Preset) -> list[Claim]:
    found = {kind: setting(name, preset, f"minus-{kind}") for kind in PREPROCESSING}

    def higher(first: str, second: str) -> Judge:
        return partial(compare, first=found[first], second=found[second], subject=f"{first} minus {second}")

    return [
        Claim(f"preprocessing:{first}-{second}", statement, SLIDES, higher(first, second))
        for first, second, statement in _PREPROCESSING_CLAIMS
    ]


def _batch_norm_claims(name: str, preset: Preset) -> list[Claim]:
    nets = {"first": over_rates(name, preset, "batch-norm"), "second": over_rates(name, preset, "plain")}

    def claim(key: str, words: str, source: str, judge: Callable[..., Judgement], subject: str) -> Claim:
        return Claim(f"batch-norm:{key}", f"With batch norm {words}", source, partial(judge, **nets, subject=subject))

    higher = partial(rates.higher_rates, chance=CHANCE)
    wider = partial(rates.wider_range, chance=CHANCE, close=CLOSE)
    steadier = partial(rates.less_sensitive, chance=CHANCE)
    ratio = "highest rate with batch norm over that without"
    width = f"range within {100 * CLOSE:g} points of the best, with minus without batch norm"
    deviation = "deviation over the rates, without minus with batch norm"
    best = "with minus without batch norm, each at its best rate"
    return [
        claim("higher-rates", "the net learns at higher learning rates", f"{BATCH_NORM} 3.3", higher, ratio),
        claim("wider-range", "the range of good learning rates is wider", SLIDES, wider, width),
        claim("less-sensitive", "accuracy depends less on the learning rate", SLIDES, steadier, deviation),
        claim("better", "the best accuracy is higher", f"{BATCH_NORM} 4.2", rates.better_at_best, best),
    ]


def _regulariser_claims(name: str, preset: Preset) -> list[Claim]:
    none, found = setting(name, preset, "none"), []
    for key, (label, source, _) in list(REGULARISERS.items())[1:]:
        this = setting(name, preset, key)
        narrow = partial(narrower_gap, first=this, second=none, subject=f"gap of none minus gap of {label}")
        higher = partial(compare, first=this, second=none, subject=f"{label} minus none")
        smaller = f"With {label} the gap between training and test accuracy is smaller"
        found.append(Claim(f"gap:{key}", smaller, source, narrow))
        found.append(Claim(f"better:{key}", f"With {label} test accuracy on few images is higher", source, higher))
    return found


def claims(name: str, preset: Preset) -> list[Claim]:
    """Returns the sources' statements on preprocessing, batch norm, regularisers and losses."""
    hinge, softmax = setting(name, preset, "hinge"), setting(name, preset, SOFTMAX)
    equal = partial(same, first=hinge, second=softmax, margin=MARGIN, subject="hinge minus softmax")
    return [
        *_preprocessing_claims(name, preset),
        *_batch_norm_claims(name, preset),
        *_regulariser_claims(name, preset),
        Claim("losses-are-equal", "Hinge loss and softmax reach the same accuracy", SLIDES, equal),
    ]


def figure(table: Table, verdicts: Sequence[Verdict], name: str, preset: Preset) -> Any:
    """Returns preprocessing, batch norm over learning rates, losses, and regularisers (test accuracy and gap)."""
    from vision_repro.figures.series import Entry, over
    from vision_repro.figures.study import Curves, Dots, Panel, study_figure

    words, role = {"plain": "without batch norm", "batch-norm": "with batch norm"}, {"none": "without"}
    rows, table = summarise(table, EXPERIMENT.settings), table.select(preset=name)

    def dot(variant: str, label: str, role: str = "", gap: bool = False) -> Entry:
        chosen = setting(name, preset, variant)
        values = generalisation_gap(table, chosen) if gap else table.values("test_accuracy", **chosen)
        return Entry(label, t_interval(values.values()) if values else None, role=role)

    def regularisers(gap: bool) -> list[Entry]:
        return [dot(key, label, role.get(key, ""), gap) for key, (label, *_) in REGULARISERS.items()]

    panels: list[Panel] = [
        Dots("Preprocessing: test [%]", [dot(f"minus-{kind}", kind, role.get(kind, "")) for kind in PREPROCESSING]),
        Curves(
            "Batch norm: test [%]",
            [over(rows, "test_accuracy", over_rates(name, preset, net), "lr", words[net]) for net in NETS],
            "learning rate",
            xlog=True,
        ),
        Dots("Loss: test [%]", [dot(SOFTMAX, "softmax", "reference"), dot("hinge", "hinge")]),
        Dots("Few images: test [%]", regularisers(gap=False)),
        Dots("Few images: training minus test [points]", regularisers(gap=True)),
    ]
    base = preset.shared
    notes = (
        f"networks such as {base.model} on {base.dataset}, preset {name}: {base.train_size} images and {base.steps} "
        f"steps, on few {base.train_size // FEW[name]} and {2 * base.steps}; SGD at lr {base.lr:g}, last weights",
        "a cross at the foot: a rate at which all seeds diverged",
    )
    return study_figure(rows, verdicts, panels=panels, preset=name, notes=notes)


EXPERIMENT = Experiment(
    name="normalisation_and_regularisation",
    question="What do preprocessing, batch norm, penalties, dropout, augmentation and the loss do for one small CNN? "
    "(CNN slides; Batch Normalization; AlexNet, section 4)",
    presets=PRESETS,
    settings=("train_size", "model", "normalisation", "augmentation", "loss", "l1", "l2", "lr"),
    claims=claims,
    figure=figure,
    fill_defaults=fill_defaults,
    shows_seeds=True,
    tables=("test_accuracy", "train_accuracy"),
)

if __name__ == "__main__":
    sys.exit(main(EXPERIMENT))
