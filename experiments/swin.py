"""Attention in shifted windows, in fixed ones or over the whole map: what is lost, what is saved, and positions?

paper     Swin Transformer: Hierarchical Vision Transformer using Shifted Windows (Swin, arXiv 2103.14030), section 3.2,
          Eq. 1 and 2, and section 4.4, Table 4; the lecture slides on CNNs ask why its compute drops
question  Accuracy of one pyramid with shifted windows, with windows that are not shifted and with global attention, and
          with and without relative position bias and absolute embedding; and how the cost of windows and of global
          attention grows with the image: attention's products and all FLOPs, counted, and seconds, measured.
command   make exp-swin [PRESET=cpu|cifar|gpu|paper] [SEEDS=5] [DEVICES=1]
cost      smoke seconds; cpu about 3 minutes and cifar about 13 minutes on two cores; gpu about an hour on one GPU;
          paper about 160 GPU-hours (`ARGS=--dry-run`)
expected  The paper: shifting is worth 1.1 points, relative bias 1.2, and 0.8 over an absolute embedding. Attention's
          products cost 2 M^2 hw C in windows of M x M and 2 (hw)^2 C over a map of hw tokens and C channels: counted
          exponents of 1 and 2. The linear layers of a network grow with hw in both, so its global exponent of all FLOPs
          lies between 1 and 2 and rises with the image. Seconds of small images grow less than in proportion, as each
          operation has a cost of its own. In small networks few windows are shifted: the 1.1 points need not show.

Runs at the preset's own image size are trained. Those at other sizes, of shifted windows and of global attention only,
train nothing: they count and time networks with fresh weights and have no accuracy.

Deviation: small Swins with windows of 4 tokens at 8 and 32 pixels, whose last map is one window as in the paper; few
    steps of AdamW without stochastic depth (`paper` has the paper's 0.2).
Deviation: global attention has relative bias over the whole map, by `-global`; the paper trains no such network (it
    compares sliding windows), so its equality within 1.5 points is the slides' question, not the paper's number.
Deviation: its "no pos." has windows, and merging of patches, which orders tokens too; as in the paper.
Deviation: seconds are of float32, four images at once, with torch's fused attention; the relative bias is read from its
    table in each pass, as in the released code, which grows with (hw)^2 in global attention.
Deviation: `paper` has no label smoothing and no colour jitter.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from vision_repro.analysis.claims import Claim, Verdict
from vision_repro.analysis.judges import exponents
from vision_repro.analysis.judges.comparisons import compare, same
from vision_repro.analysis.summary import SummaryRow
from vision_repro.analysis.table import Setting
from vision_repro.cli import main
from vision_repro.config import FRESH, RunConfig
from vision_repro.experiment import Experiment, Preset
from vision_repro.papers.tables import paper_table

COST, TABLE, SLIDES = "Swin, section 3.2, Eq. 1 and 2", "Swin, section 4.4, Table 4", "CNN slides; Swin, section 3.2"
MARGIN = 0.015
"""Largest difference of accuracies that count as equal."""
NEAR = 0.05
"""Largest distance of a counted exponent from the equation's."""
LINEAR = 1.15
"""Largest exponent of seconds that counts as linear; the cost of each operation and the memory are in it."""
SHIFTED, FIXED, GLOBAL = "shifted windows", "windows not shifted", "global attention"
BARE, ABSOLUTE, BOTH = "no positions", "absolute embedding", "absolute and relative"
OPTIONS = {FIXED: "-noshift", BARE: "-nobias", ABSOLUTE: "-nobias-abspos", BOTH: "-abspos"}
"""What is behind the name of the network with shifted windows and relative bias."""
PRINTED = {
    SHIFTED: ("shifted", "relative"), FIXED: ("fixed", "relative"), BARE: ("shifted", "none"),
    ABSOLUTE: ("shifted", "absolute"), BOTH: ("shifted", "absolute+relative"),
}  # fmt: skip
"""Rows of the paper's Table 4: windows and position."""


def variants(plain: str) -> dict[str, str]:
    """Returns the model of each variant of `plain`, which has shifted windows of a stated size, as `swin-t-w7`."""
    return {
        SHIFTED: plain,
        FIXED: plain + OPTIONS[FIXED],
        GLOBAL: re.sub(r"-w\d+", "-global", plain),
        **{role: plain + OPTIONS[role] for role in (BARE, ABSOLUTE, BOTH)},
    }


def _axes(plain: str, *sizes: int) -> dict[str, tuple[str | int, ...]]:
    return {"model": tuple(variants(plain).values()), "image_size": sizes}


def _timed(model: str) -> bool:
    """Returns whether the cost of a model over the image size is asked for: not of what costs the same as another."""
    return not any(option in model for option in ("-noshift", "-nobias", "-abspos"))


def _skip(size: int, config: RunConfig) -> bool:
    return config.image_size != size and not _timed(config.model)


def fill_defaults(name: str, config: RunConfig) -> RunConfig:
    """Returns the run with its probes; at another image size than the preset's own it trains nothing."""
    if _timed(config.model):
        config = replace(config, probes=f"{config.probes} forward_seconds".strip())
    if config.image_size == PRESETS[name].base.image_size:
        return config
    return replace(config, budget="none", weights=FRESH)


_DIGITS = RunConfig(
    dataset="digits", image_size=8, model="swin-32x2.2/1-w4", steps=160, global_batch=64, lr=3e-3, select="last",
    evaluations=2, shots="", probes="cost", precision="fp32",
)  # fmt: skip
_CIFAR = replace(
    _DIGITS, dataset="cifar10", image_size=32, model="swin-16x2.2.2/2-w4", train_size=49000, steps=700, lr=2e-3,
    augmentation="crop-flip",
)  # fmt: skip

PRESETS = {
    "smoke": Preset(
        base=replace(_DIGITS, model="swin-16x2.1/1-w4", steps=2, evaluations=1, train_size=40),
        axes=_axes("swin-16x2.1/1-w4", 8, 16), seeds=1,
        cost="seconds; shows that everything works, never evidence", evidence=False, skip=partial(_skip, 8),
    ),
    "cpu": Preset(
        base=_DIGITS, axes=_axes("swin-32x2.2/1-w4", 8, 16, 32, 48), seeds=5,
        cost="about 3 minutes on two cores; scikit-learn's digits, offline", skip=partial(_skip, 8),
    ),
    "cifar": Preset(
        base=_CIFAR, axes=_axes("swin-16x2.2.2/2-w4", 32, 64, 96), seeds=3,
        cost="about 13 minutes on two cores; CIFAR-10", skip=partial(_skip, 32),
    ),
    "gpu": Preset(
        base=replace(
            _CIFAR, model="swin-64x2.2.2/2-w4", steps=8000, global_batch=256, evaluations=4, lr=1e-3, precision="auto"
        ),
        axes=_axes("swin-64x2.2.2/2-w4", 32, 64, 128, 192), seeds=5,
        cost="about an hour on one GPU; CIFAR-10, or ARGS=--dataset=cifar100", skip=partial(_skip, 32),
    ),
    "paper": Preset(
        base=replace(
            _CIFAR, dataset="imagenet", image_size=224, model="swin-t-w7-droppath", train_size=1_268_355,
            budget="epochs", epochs=300.0, global_batch=1024, evaluations=20, lr=1e-3, weight_decay=0.05,
            warmup=0.0667, grad_clip=5.0, precision="auto",
            augmentation="inception+randaugment2x9std0.5+erase0.25+mixup0.8+cutmix1",
        ),
        axes=_axes("swin-t-w7-droppath", 224), seeds=1,
        cost="about 160 GPU-hours; ImageNet (see --dry-run)", skip=partial(_skip, 224),
    ),
}  # fmt: skip


def present(preset: Preset) -> dict[str, str]:
    """Returns the model of each variant that the preset has; none without the one that all are compared with."""
    models = [str(model) for model in preset.axes["model"]]
    plain = next((model for model in models if _timed(model) and "-global" not in model), None)
    return {role: model for role, model in variants(plain).items() if model in models} if plain else {}


def printed(role: str) -> float | None:
    """Returns the top-1 accuracy of Swin-T on ImageNet (fraction) in the paper's Table 4, if it has the variant."""
    tops = {(row["windows"], row["position"]): row["imagenet_top1"] for row in paper_table("swin_table4")}
    return round(float(tops[PRINTED[role]]) / 100, 4) if role in PRINTED else None


def _points(first: str, second: str) -> str:
    a, b = printed(first), printed(second)
    return "" if a is None or b is None else f"{100 * (a - b):+.1f} points"


# (name, statement, source, first, second); equal if the name says so, else the first is more accurate
ACCURACY = (
    ("shifting-helps", "Shifted windows are more accurate than windows that are not shifted", TABLE, SHIFTED, FIXED),
    ("equal-to-global", "Shifted windows are as accurate as global attention", SLIDES, SHIFTED, GLOBAL),
    ("relative-bias-helps", "Relative position bias is more accurate than no positions", TABLE, SHIFTED, BARE),
    (
        "relative-beats-absolute", "Relative position bias is more accurate than an absolute embedding", TABLE, SHIFTED,
        ABSOLUTE,
    ),
    ("equal-with-absolute", "An absolute embedding adds nothing to relative bias", TABLE, BOTH, SHIFTED),
)  # fmt: skip


def _accuracy(found: dict[str, str], size: int) -> list[Claim]:
    """Returns the claims about accuracy, at the size that is trained at."""
    claims = []
    for name, statement, source, first, second in ACCURACY:
        if first in found and second in found:
            a: Setting = {"model": found[first], "image_size": size}
            b: Setting = {"model": found[second], "image_size": size}
            judge: Callable[..., Any] = partial(same, margin=MARGIN) if name.startswith("equal") else compare
            subject = f"{first} minus {second}"
            claims.append(
                Claim(
                    name, statement, source, partial(judge, first=a, second=b, subject=subject), _points(first, second)
                )
            )
    return claims


def _growth(windows: str, whole: str) -> list[Claim]:
    """Returns the claims about cost over the image size."""
    a, b = {"model": windows}, {"model": whole}
    counted = partial(exponents.counted_exponent, margin=NEAR)
    products, everything, seconds = "attention_flops", "forward_flops", "forward_seconds"
    return [
        Claim(
            "products-linear-in-windows",
            "Attention's products in windows grow in proportion to the image",
            COST,
            partial(counted, setting=a, metric=products, expected=1.0, subject="exponent of windows' products"),
            "1",
        ),
        Claim(
            "products-quadratic-globally",
            "The products of global attention grow with the square of the image",
            COST,
            partial(counted, setting=b, metric=products, expected=2.0, subject="exponent of global products"),
            "2",
        ),
        Claim(
            "network-linear-in-windows",
            "All FLOPs of the network with windows grow in proportion to the image",
            COST,
            partial(counted, setting=a, metric=everything, expected=1.0, subject="exponent of all FLOPs"),
            "1",
        ),
        Claim(
            "seconds-linear-in-windows",
            f"Seconds of the network with windows grow no faster than pixels^{LINEAR:g}",
            COST,
            partial(
                exponents.grows_slower_than,
                setting=a,
                metric=seconds,
                bound=LINEAR,
                subject="exponent of seconds in windows",
            ),
        ),
        Claim(
            "seconds-steeper-globally",
            "Seconds of global attention grow faster than those of windows",
            COST,
            partial(
                exponents.grows_faster,
                first=b,
                second=a,
                metric=seconds,
                subject="exponent of seconds, global minus windows",
            ),
        ),
    ]


def _savings(windows: str, whole: str, sizes: Sequence[int]) -> list[Claim]:
    """Returns the claims that windows cost less, FLOPs at the smallest size, and seconds at the largest."""
    judges = (
        (min(sizes), "forward_flops", exponents.counted_less, "FLOPs"),
        (max(sizes), "forward_seconds", exponents.measured_less, "seconds"),
    )
    return [
        Claim(
            f"windows-cost-less:{metric}",
            f"At {size} pixels, windows cost fewer {unit} than global attention",
            COST,
            partial(
                judge,
                first={"model": whole, "image_size": size},
                second={"model": windows, "image_size": size},
                metric=metric,
                subject=f"log2 of {unit}, global over windows, at {size} pixels",
            ),
        )
        for size, metric, judge, unit in judges
    ]


def claims(name: str, preset: Preset) -> list[Claim]:
    """Returns the claims about accuracy, about what windows save, and about growth where there are several sizes."""
    found, sizes = present(preset), [int(str(size)) for size in preset.axes["image_size"]]
    pair = (found.get(SHIFTED, ""), found.get(GLOBAL, ""))
    costs = _savings(*pair, sizes) if all(pair) else []
    growth = _growth(*pair) if all(pair) and len(sizes) > 1 else []
    return [*_accuracy(found, preset.base.image_size), *costs, *growth]


def figure(rows: Sequence[SummaryRow], verdicts: Sequence[Verdict], name: str, preset: Preset) -> Any:
    """Returns accuracy beside Table 4, accuracy over FLOPs, and products and seconds over the size of the image."""
    from vision_repro.figures.series import against, entry
    from vision_repro.figures.study import Curves, Dots, study_figure

    found, base = present(preset), preset.base
    settings: dict[str, Setting] = {
        role: {"model": model, "image_size": base.image_size} for role, model in found.items()
    }
    roles = {SHIFTED: "reference", FIXED: "without", BARE: "without"}
    dots = [entry(rows, "test_accuracy", settings[role], role, printed(role), roles.get(role, "")) for role in settings]
    points = [
        against(rows, "test_accuracy", "forward_flops", [settings[role]], role, joined=False, look=index)
        for index, role in enumerate(settings)
    ]
    panels: list[Any] = [
        Dots("Test accuracy [%]", dots),
        Curves("Accuracy [%] over cost", points, "FLOPs of an image"),
    ]
    grown = {role: found[role] for role in (SHIFTED, GLOBAL) if role in found}
    for metric, title in (("attention_flops", "Attention's products [FLOPs]"), ("forward_seconds", "Forward pass [s]")):
        lines = [_line(rows, metric, model, role, list(settings).index(role)) for role, model in grown.items()]
        panels.append(Curves(title, lines, "pixels of an image", xlog=True, ylog=True))
    budget = f"{base.steps} steps" if base.budget == "steps" else f"{base.epochs:g} epochs"
    notes = (
        f"the variants of {next(iter(found.values()), base.model)} on {base.dataset}, preset {name}: "
        f"{base.train_size:,} training images, {budget} of {base.global_batch} images at {base.image_size} pixels, "
        "last weights; other sizes are not trained",
        "the paper's numbers are of Swin-T on ImageNet (Table 4); it has none of global attention",
        "cost ~ pixels^p with p fitted over all sizes; seconds are of one image in float32, four at once",
    )
    return study_figure(rows, verdicts, panels=panels, preset=name, notes=notes, across=2)


def _line(rows: Sequence[SummaryRow], metric: str, model: str, role: str, look: int) -> Any:
    """Returns a cost over the pixels of an image, with the exponent of its means in the label."""
    from vision_repro.figures.series import over

    line = over(rows, metric, {"model": model}, "image_size", role, look=look)
    squared = tuple(replace(point, x=point.x**2) for point in line.points)
    fitted = exponents.exponents({point.x: {0: point.interval.mean} for point in squared})
    kind = "products" if metric == "attention_flops" else "seconds"
    label = f"{role}, {kind}: p = {fitted[0]:.2f}" if fitted else f"{role}, {kind}"
    return replace(line, label=label, points=squared)


EXPERIMENT = Experiment(
    name="swin",
    question="Shifted windows, fixed windows or global attention, with which positions? (Swin, section 3.2, Table 4)",
    presets=PRESETS,
    settings=("model", "image_size"),
    claims=claims,
    figure=figure,
    fill_defaults=fill_defaults,
    tables=("test_accuracy", "forward_flops", "attention_flops", "forward_seconds"),
)

if __name__ == "__main__":
    sys.exit(main(EXPERIMENT))
