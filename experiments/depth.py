"""Does depth help? Plain nets get worse with it, residual nets do not.

paper     Deep Residual Learning (ResNet, arXiv 1512.03385), sections 3, 4.1 and 4.2, Tables 2, 3 and 6, Figure 6;
          Very Deep Convolutional Networks (VGG, arXiv 1409.1556), section 4.1, Table 3; lecture slides on CNNs
question  Training and test accuracy over the depth of plain and residual nets that differ in their shortcuts only;
          VGG with 11 to 19 layers; bottleneck against basic blocks; shortcuts A, B and C; gradient norms by layer.
command   make exp-depth [PRESET=cpu|cifar|gpu|paper] [SEEDS=5] [DEVICES=1]
cost      smoke seconds; cpu about 3 minutes and cifar about 13 minutes on two cores; gpu about an hour on one GPU;
          paper about 350 GPU-hours (`ARGS=--dry-run`)
expected  The paper: the deeper plain net has the higher training error, so it is not overfitting; with shortcuts the
          deeper net has the lower. Batch norm keeps gradients from vanishing, in plain nets too.

Depth is the number of weighted layers. The degradation is told by the accuracy on training images of the run, in
evaluation and without augmentation, beside that on `test`; the gradient norms are those of `probes/gradient_norms.py`.

A few hundred steps show how fast a net is optimised, and not what it ends at: the paper's plain nets have a higher
error after 64000 steps, ours after one epoch or less. That deeper residual nets gain accuracy can fail here for the
same reason, and that plain and residual nets are equal at 18 to 20 layers, which the paper finds at the end only.

Deviation: a quarter (VGG: an eighth) of the channels on CPUs, and 160 to 2000 steps instead of 64000 (section 4.2).
Deviation: AdamW with warm-up and cosine decay instead of SGD, whose rate is divided by 10 twice. One rate a family:
    1e-2 for plain and residual nets and 3e-3 for VGG, the better of 3e-3 and 1e-2 in short runs on digits and CIFAR-10,
    most of all for VGG-19. `paper` has SGD at 0.1.
Deviation: VGG with batch norm, which the paper did not have: without it, or its training in stages, VGG-19 does not
    start in a few hundred steps. Nor fc6 and fc7 but in `paper`, whose dropout would take most of a few hundred steps;
    names keep the paper's depth. So what VGG-19 says here is on batch-normalised plain nets with pooling.
Deviation: VGG's layers and rate at `cifar` were chosen after its first runs, with fc6 and fc7, had learned next to
    nothing (20 % in three seeds), by the test accuracy of one seed of VGG-11 and VGG-19 at two rates, not on `val`.
Deviation: bottlenecks are compared in the CIFAR layout (9n + 2 layers, as many blocks as the basic net of 6n + 2), at
    about the same number of parameters. The paper compares ResNet-50 with ResNet-34 at the same FLOPs.
"Not worse" and equality are judged within 1.5 points; gradients have vanished below a tenth.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from itertools import product
from typing import Any

from vision_repro.analysis.claims import Claim, Verdict
from vision_repro.analysis.judges.comparisons import compare, not_worse, of_models, same
from vision_repro.analysis.judges.depth import gap_grows, healthy, not_vanishing
from vision_repro.analysis.summary import SummaryRow
from vision_repro.cli import main
from vision_repro.experiment import Experiment, Preset
from vision_repro.presets import bases, captions, scales
from vision_repro.presets.nets import NETS, By, Nets, printed_errors
from vision_repro.presets.rates import fill

MARGIN = 0.015
RATES = {"vgg": 3e-3, "resnet": 1e-2}
BOTH, TABLE_2, TABLE_3, TABLE_6 = (
    f"ResNet, section {place}" for place in ("4.1 and 4.2", "4.1, Table 2", "4.1, Table 3", "4.2, Table 6")
)
TRAIN, TEST, LOSS = "train_accuracy", "test_accuracy", "final_train_loss"
STATES = {"gradient_norm_start": "at the start", "gradient_norm": "after training"}
_DIGITS = replace(bases.LAST_DIGITS, steps=160, probes="training_accuracy gradient_norms cost")
_CIFAR = replace(bases.LAST_CIFAR, steps=500, global_batch=32, probes=_DIGITS.probes)
AXES = {name: {"model": nets.all} for name, nets in NETS.items()}

PRESETS = {
    "smoke": scales.smoke(_DIGITS, AXES["smoke"]),
    "cpu": scales.cpu(_DIGITS, AXES["cpu"], "about 3 minutes"),
    "cifar": scales.real(_CIFAR, AXES["cifar"], "about 13 minutes"),
    "gpu": scales.gpu(replace(_CIFAR, steps=2000, global_batch=128, evaluations=5), AXES["gpu"]),
    "paper": scales.paper(
        replace(
            _CIFAR, dataset="imagenet", image_size=224, train_size=1_271_167, budget="epochs", epochs=90.0,
            global_batch=256, lr=0.1, optimizer="sgd", weight_decay=1e-4, evaluations=10, augmentation="inception",
        ),
        AXES["paper"], "about 350", "ImageNet", seeds=3,
    ),
}  # fmt: skip


def _degradation(nets: Nets) -> list[Claim]:
    """Returns the claims on plain and residual nets over their depth."""
    depths = sorted(nets.plain.keys() & nets.residual.keys())
    if len(depths) < 2 or nets.shallow not in depths or nets.shallow == depths[-1]:
        return []
    low, high = nets.shallow, depths[-1]
    (plain, deep), (residual, deep_residual) = ((kind[low], kind[high]) for kind in nets.kinds.values())
    layers, worse = f"{high} layers than with {low}", partial(of_models, compare, plain, deep)
    loss = of_models(compare, deep, plain, metric=LOSS, unit="nats")
    kept = of_models(not_worse, deep_residual, residual, metric=TRAIN, margin=MARGIN)
    gains, equal = of_models(compare, deep_residual, residual), of_models(same, residual, plain, margin=MARGIN)
    falls, rises = "+0.60 points (plain-18 to plain-34)", "+1.78 points (ResNet-20 to ResNet-56)"
    tie = "+0.06 points (18 layers)"
    return [
        Claim("plain-degrades", f"A plain net has a higher training error with {layers}", BOTH, worse(metric=TRAIN)),
        Claim("plain-degrades:loss", f"A plain net has a higher training loss with {layers}", BOTH, loss),
        Claim("plain-degrades:test", f"A plain net has a higher test error with {layers}", TABLE_2, worse(), falls),
        Claim("residual-does-not-degrade", f"A residual net has no higher training error with {layers}", BOTH, kept),
        Claim("residual-gains", f"A residual net has a lower test error with {layers}", TABLE_6, gains, rises),
        Claim("equal-when-shallow", f"With {low} layers, plain and residual nets score the same", TABLE_2, equal, tie),
        *_of_shortcuts(nets, deep, deep_residual, high),
        *_of_gradients({"plain": deep, "residual": deep_residual}),
    ]


def _of_shortcuts(nets: Nets, plain: str, residual: str, high: int) -> list[Claim]:
    """Returns the claims that shortcuts help in the deepest nets, and the more, the deeper."""
    words, subject = {TRAIN: "training accuracy", TEST: "test accuracy"}, "residual minus plain, slope over the depth"
    beats = {metric: of_models(compare, residual, plain, metric=metric) for metric in words}
    grows = partial(gap_grows, first=nets.residual, second=nets.plain, subject=subject)
    helps, more = f"With {high} layers, shortcuts help", "Shortcuts help the more, the deeper"
    name, printed = "shortcuts-help-more-when-deeper", {TRAIN: "", TEST: "+3.51 points (34 layers)"}
    return [
        *(
            Claim(f"residual-beats-plain:{key}", f"{helps} ({words[key]})", TABLE_2, beats[key], printed[key])
            for key in words
        ),
        *(Claim(f"{name}:{key}", f"{more} ({words[key]})", BOTH, partial(grows, metric=key)) for key in words),
    ]


def _of_gradients(deepest: Mapping[str, str]) -> list[Claim]:
    """Returns the claims on the gradients of the deepest nets, by kind."""
    found, source = [], "ResNet, section 4.1"
    for (kind, model), (state, when) in product(deepest.items(), STATES.items()):
        judge = partial(not_vanishing, model=model, prefix=state)
        statement = f"Gradients do not vanish in the deepest {kind} net {when}"
        found.append(Claim(f"gradients-do-not-vanish:{kind}:{state}", statement, source, judge))
    for state, when in STATES.items():
        judge = partial(healthy, model=deepest["plain"], prefix=state)
        statement = f"Batch norm keeps gradients of the deepest plain net within a factor of ten {when}"
        found.append(Claim(f"gradients-are-healthy:{state}", statement, source, judge))
    return found


def _of_vgg(vgg: By) -> list[Claim]:
    """Returns the claims on VGG over its depth."""
    found, source = [], "VGG, section 4.1, Table 3"
    if {11, 16} <= vgg.keys():
        gains, statement = of_models(compare, vgg[16], vgg[11]), "VGG has a lower error with 16 layers than with 11"
        found.append(Claim("vgg-gains", statement, source, gains, "+2.6 points (A to D)"))
    if {16, 19} <= vgg.keys():
        equal = of_models(same, vgg[19], vgg[16], margin=MARGIN)
        statement = "VGG has the same error with 16 and 19 layers"
        found.append(Claim("vgg-saturates", statement, source, equal, "-0.3 points (D to E)"))
    return found


_NOT_THE_REASON = "so projections are not what ends the degradation"


def _of_blocks(nets: Nets) -> list[Claim]:
    """Returns the claims on blocks and on kinds of shortcuts."""
    found = []
    if nets.blocks:
        judge, printed = of_models(compare, *nets.blocks[::-1]), "+1.67 points (ResNet-34 B to ResNet-50)"
        statement = "Bottlenecks, which are deeper, beat basic blocks"
        found.append(Claim("bottlenecks-are-better", statement, TABLE_3, judge, printed))
    for first, second, printed in (("B", "A", "+0.51 points"), ("C", "B", "+0.33 points")):
        if {first, second} <= nets.shortcuts.keys():
            pair = nets.shortcuts[first], nets.shortcuts[second]
            better, equal = of_models(compare, *pair), of_models(same, *pair, margin=MARGIN)
            name, statement = f"shortcut-{first}-beats-{second}", f"Shortcuts {first} are slightly better than {second}"
            found.append(Claim(name, statement, TABLE_3, better, f"{printed} (34 layers)"))
            statement = f"Shortcuts {first} and {second} score the same, {_NOT_THE_REASON}"
            found.append(Claim(f"shortcuts-matter-little:{first}{second}", statement, TABLE_3, equal))
    return found


def claims(name: str, preset: Preset) -> list[Claim]:
    """Returns the papers' claims for which the preset has the models."""
    nets = NETS[name].within(captions.models(preset))
    return [*_degradation(nets), *_of_vgg(nets.vgg), *_of_blocks(nets)]


def _over_depth(rows: Sequence[SummaryRow], metric: str, kinds: Mapping[str, By]) -> list[Any]:
    """Returns the error of plain and of residual nets over their depth."""
    from vision_repro.figures.series import Point, Series, entry

    found = []
    for label, models in kinds.items():
        nets = ((float(depth), {"model": model}) for depth, model in sorted(models.items()))
        entries = ((depth, entry(rows, metric, model, "", complement=True)) for depth, model in nets)
        found.append(Series(label, tuple(Point(x, item.interval) for x, item in entries if item.interval is not None)))
    return found


def _list(rows: Sequence[SummaryRow], nets: Nets) -> tuple[list[Any], list[Any]]:
    """Returns the test errors of VGG, and those of blocks and shortcuts, beside what the papers print."""
    from vision_repro.figures.series import entry

    printed, letters = printed_errors("vgg_table3", "resnet_table3"), {11: "A", 13: "B", 16: "D", 19: "E"}
    of = partial(entry, rows, TEST, complement=True)
    vgg = [of({"model": model}, f"VGG-{depth}", printed[f"VGG {letters[depth]}"]) for depth, model in nets.vgg.items()]
    ways = [
        of({"model": model}, f"shortcuts {key}", printed[f"ResNet-34 {key}"], role="reference" if key == "A" else "")
        for key, model in nets.shortcuts.items()
    ]
    if nets.blocks:
        ways.append(of({"model": nets.blocks[1]}, "bottlenecks"))
    if nets.shallow in nets.plain and nets.shortcuts.get("A") == nets.residual.get(nets.shallow):
        ways.append(of({"model": nets.plain[nets.shallow]}, "no shortcuts", role="without"))
    return vgg, ways


def figure(rows: Sequence[SummaryRow], verdicts: Sequence[Verdict], name: str, preset: Preset) -> Any:
    """Returns training and test error over the depth, gradient norms by layer, and VGG, blocks and shortcuts."""
    from vision_repro.figures.series import by_layer, paper
    from vision_repro.figures.study import Curves, Dots, Panel, study_figure

    base, nets = preset.shared, NETS[name].within(captions.models(preset))
    printed = {float(model.rpartition("-")[2]): value for model, value in printed_errors("resnet_table6").items()}
    train, test = (_over_depth(rows, metric, nets.kinds) for metric in (TRAIN, TEST))
    (vgg, ways), deepest = _list(rows, nets), " and ".join(kind[max(kind)] for kind in nets.kinds.values() if kind)
    gradients = [
        by_layer(rows, prefix, {"model": kind[max(kind)]}, f"{word}, {when}")
        for (word, kind), (prefix, when) in product(nets.kinds.items(), STATES.items())
        if kind
    ]
    panels: list[Panel] = [
        Curves("Training error [%]", train, "weighted layers"),
        Curves("Test error [%]", [*test, paper("ResNet, CIFAR-10 (Table 6)", printed)], "weighted layers"),
        Curves("Gradient over weight norm", gradients, "layer", ylog=True),
        Dots("Test error of VGG [%]", vgg),
        Dots("Test error by block and shortcut [%]", ways),
    ]
    notes = (
        f"data set {base.dataset}, preset {name}: {captions.training(base)}",
        f"training error on the first 5000 training images, not augmented; gradients of the deepest nets, {deepest}, "
        "on 256 training images",
        "the papers, for VGG and shortcuts: top-1 error on ImageNet, trained in full (VGG, Table 3; ResNet, Table 3, "
        "34 layers)",
    )
    return study_figure(rows, verdicts, panels=panels, preset=name, notes=notes)


EXPERIMENT = Experiment(
    name="depth",
    question="Do plain nets get worse with depth, and residual nets not? (ResNet, sections 3 and 4; VGG, section 4)",
    presets=PRESETS,
    settings=("model",),
    claims=claims,
    figure=figure,
    fill_defaults=lambda preset, config: fill(config, RATES["vgg" if config.model.startswith("vgg") else "resnet"]),
    tables=(TEST, TRAIN, LOSS, "parameters", "forward_flops"),
)

if __name__ == "__main__":
    sys.exit(main(EXPERIMENT))
