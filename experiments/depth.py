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
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

from vision_repro.analysis.claims import Claim, Evidence, Judgement, Verdict
from vision_repro.analysis.judges.comparisons import compare, not_worse, of_models, same
from vision_repro.analysis.judges.depth import gap_grows, healthy, not_vanishing
from vision_repro.analysis.summary import SummaryRow
from vision_repro.cli import main
from vision_repro.config import RunConfig
from vision_repro.experiment import Experiment, Preset
from vision_repro.papers.tables import paper_table

MARGIN = 0.015
RATES = {"vgg": 3e-3, "plain": 1e-2, "resnet": 1e-2}
TRAIN, TEST, LOSS = "train_accuracy", "test_accuracy", "final_train_loss"
STATES = {"gradient_norm_start": "at the start", "gradient_norm": "after training"}
By = Mapping[int, str]


@dataclass(frozen=True)
class Nets:
    """The models of a preset: by depth, the shortcuts by letter, and the bottleneck with the basic net beside it.

    `shallow` is the depth at which degradation starts: the paper's own shallowest net, not the shallowest of all.
    """

    plain: By = field(default_factory=dict)
    residual: By = field(default_factory=dict)
    vgg: By = field(default_factory=dict)
    shortcuts: Mapping[str, str] = field(default_factory=dict)
    blocks: tuple[str, ...] = ()
    shallow: int = 20

    @property
    def all(self) -> tuple[str, ...]:
        """Each model once."""
        groups = (self.plain.values(), self.residual.values(), self.vgg.values(), self.shortcuts.values(), self.blocks)
        return tuple(dict.fromkeys(model for group in groups for model in group))

    def within(self, models: Sequence[str]) -> Nets:
        """Returns the nets that are among `models`."""
        plain, residual, vgg = (
            {depth: name for depth, name in kind.items() if name in models}
            for kind in (self.plain, self.residual, self.vgg)
        )
        shortcuts = {letter: name for letter, name in self.shortcuts.items() if name in models}
        blocks = self.blocks if set(self.blocks) <= set(models) else ()
        return Nets(plain, residual, vgg, shortcuts, blocks, self.shallow)


def _cifar_nets(depths: Sequence[int], width: str, vgg: str) -> Nets:
    """Returns the nets for small images; 29 layers of bottlenecks are as many blocks as 20 of basic ones."""
    plain, residual = ({depth: f"{kind}{depth}{width}" for depth in depths} for kind in ("plain", "resnet"))
    base = residual[20]
    return Nets(
        plain,
        residual,
        {depth: f"vgg{depth}{vgg}-bn-fc0" for depth in (11, 13, 16, 19)},
        {"A": base, "B": f"{base}-projection", "C": f"{base}-allproj"},
        (base, f"resnet29{width}-bottleneck"),
    )


NETS = {
    "smoke": Nets(
        {8: "plain8x0.25", 14: "plain14x0.25"}, {8: "resnet8x0.25", 14: "resnet14x0.25"},
        {11: "vgg11x0.06-bn", 13: "vgg13x0.06-bn"},
        {"A": "resnet8x0.25", "B": "resnet8x0.25-projection"}, ("resnet8x0.25", "resnet11x0.25-bottleneck"), 8,
    ),
    "cpu": _cifar_nets((8, 20, 56), "x0.25", "x0.125"),
    "cifar": _cifar_nets((8, 20, 32, 56), "x0.25", "x0.125"),
    "gpu": _cifar_nets((20, 32, 44, 56), "", "x0.5"),
    "paper": Nets(
        {18: "plain18", 34: "plain34"}, {18: "resnet18-identity", 34: "resnet34-identity"},
        {11: "vgg11-bn", 13: "vgg13-bn", 16: "vgg16-bn", 19: "vgg19-bn"},
        {"A": "resnet34-identity", "B": "resnet34", "C": "resnet34-allproj"}, ("resnet34", "resnet50-v1"), 18,
    ),
}  # fmt: skip

_DIGITS = RunConfig(
    dataset="digits", image_size=8, model="", steps=160, global_batch=64, evaluations=2, shots="", select="last",
    probes="training_accuracy gradient_norms cost",
)  # fmt: skip
_CIFAR = replace(
    _DIGITS, dataset="cifar10", image_size=32, train_size=49000, steps=500, global_batch=32, augmentation="crop-flip"
)  # fmt: skip


def _preset(name: str, base: RunConfig, seeds: int, cost: str, evidence: bool = True) -> Preset:
    models = NETS[name].all
    return Preset(replace(base, model=models[0]), {"model": models}, seeds, cost, evidence)


PRESETS = {
    "smoke": _preset(
        "smoke", replace(_DIGITS, steps=2, evaluations=1, train_size=40), 1,
        "seconds; shows that everything works, never evidence", evidence=False,
    ),
    "cpu": _preset("cpu", _DIGITS, 5, "about 3 minutes on two cores; scikit-learn's digits, offline"),
    "cifar": _preset("cifar", _CIFAR, 3, "about 13 minutes on two cores; CIFAR-10"),
    "gpu": _preset(
        "gpu", replace(_CIFAR, steps=2000, global_batch=128, evaluations=5), 5,
        "about an hour on one GPU; CIFAR-10, or ARGS=--dataset=cifar100",
    ),
    "paper": _preset(
        "paper",
        replace(
            _CIFAR, dataset="imagenet", image_size=224, train_size=1_271_167, budget="epochs", epochs=90.0,
            global_batch=256, lr=0.1, optimizer="sgd", weight_decay=1e-4, evaluations=10, augmentation="inception",
        ),
        3, "about 350 GPU-hours; ImageNet (see --dry-run)",
    ),
}  # fmt: skip


def _fill_defaults(preset: str, config: RunConfig) -> RunConfig:
    """Returns the run with the learning rate of its family, where none is given."""
    family = next((family for family in RATES if config.model.startswith(family)), "resnet")
    return config if config.lr is not None else replace(config, lr=RATES[family])


def _printed(table: str, metric: str = "error") -> dict[str, float]:
    """Returns the error (fraction) of each model that the papers print in a table."""
    rows = [row for row in paper_table("resnet_depth") if row["table"] == table and row["metric"].endswith(metric)]
    return {row["model"]: float(row["value"]) / 100 for row in rows}


def _degradation(nets: Nets) -> list[Claim]:
    """Returns the claims on plain and residual nets over their depth."""
    depths = sorted(nets.plain.keys() & nets.residual.keys())
    if len(depths) < 2 or nets.shallow not in depths or nets.shallow == depths[-1]:
        return []
    low, high = nets.shallow, depths[-1]
    plain, residual = [nets.plain[low], nets.plain[high]], [nets.residual[low], nets.residual[high]]
    layers = f"{high} layers than with {low}"

    def claim(name: str, text: str, section: str, judge: Callable[[Evidence], Judgement], paper: str = "") -> Claim:
        return Claim(name, text, f"ResNet, section {section}", judge, paper)

    words = {TRAIN: "training accuracy", TEST: "test accuracy"}
    return [
        claim(
            "plain-degrades",
            f"A plain net has a higher training error with {layers}",
            "4.1 and 4.2",
            of_models(compare, plain[0], plain[1], metric=TRAIN),
        ),
        claim(
            "plain-degrades:loss",
            f"A plain net has a higher training loss with {layers}",
            "4.1 and 4.2",
            of_models(compare, plain[1], plain[0], metric=LOSS, unit="nats"),
        ),
        claim(
            "plain-degrades:test",
            f"A plain net has a higher test error with {layers}",
            "4.1, Table 2",
            of_models(compare, plain[0], plain[1], metric=TEST),
            "+0.60 points (plain-18 to plain-34)",
        ),
        claim(
            "residual-does-not-degrade",
            f"A residual net has no higher training error with {layers}",
            "4.1 and 4.2",
            of_models(not_worse, residual[1], residual[0], metric=TRAIN, margin=MARGIN),
        ),
        claim(
            "residual-gains",
            f"A residual net has a lower test error with {layers}",
            "4.2, Table 6",
            of_models(compare, residual[1], residual[0]),
            "+1.78 points (ResNet-20 to ResNet-56)",
        ),
        claim(
            "equal-when-shallow",
            f"With {low} layers, plain and residual nets score the same",
            "4.1, Table 2",
            of_models(same, residual[0], plain[0], margin=MARGIN),
            "+0.06 points (18 layers)",
        ),
        *(
            claim(
                f"residual-beats-plain:{metric}",
                f"With {high} layers, shortcuts help ({words[metric]})",
                "4.1, Table 2",
                of_models(compare, residual[1], plain[1], metric=metric),
                "+3.51 points (34 layers)" if metric == TEST else "",
            )
            for metric in words
        ),
        *(
            claim(
                f"shortcuts-help-more-when-deeper:{metric}",
                f"Shortcuts help the more, the deeper ({words[metric]})",
                "4.1 and 4.2",
                partial(
                    gap_grows,
                    first=nets.residual,
                    second=nets.plain,
                    metric=metric,
                    subject="residual minus plain, slope over the depth",
                ),
            )
            for metric in words
        ),
        *(
            claim(
                f"gradients-do-not-vanish:{kind}:{prefix}",
                f"Gradients do not vanish in the deepest {kind} net {when}",
                "4.1",
                partial(not_vanishing, model=model, prefix=prefix),
            )
            for kind, model in (("plain", plain[1]), ("residual", residual[1]))
            for prefix, when in STATES.items()
        ),
        *(
            claim(
                f"gradients-are-healthy:{prefix}",
                f"Batch norm keeps gradients of the deepest plain net within a factor of ten {when}",
                "4.1",
                partial(healthy, model=plain[1], prefix=prefix),
            )
            for prefix, when in STATES.items()
        ),
    ]


def _others(nets: Nets) -> list[Claim]:
    """Returns the claims on VGG, on blocks and on shortcuts."""
    found, vgg, ways = [], nets.vgg, nets.shortcuts
    source = "VGG, section 4.1, Table 3"
    if {11, 16} <= vgg.keys():
        found.append(
            Claim(
                "vgg-gains",
                "VGG has a lower error with 16 layers than with 11",
                source,
                of_models(compare, vgg[16], vgg[11]),
                "+2.6 points (A to D)",
            )
        )
    if {16, 19} <= vgg.keys():
        found.append(
            Claim(
                "vgg-saturates",
                "VGG has the same error with 16 and 19 layers",
                source,
                of_models(same, vgg[19], vgg[16], margin=MARGIN),
                "-0.3 points (D to E)",
            )
        )
    source = "ResNet, section 4.1, Table 3"
    if nets.blocks:
        basic, bottleneck = nets.blocks
        found.append(
            Claim(
                "bottlenecks-are-better",
                "Bottlenecks, which are deeper, beat basic blocks",
                source,
                of_models(compare, bottleneck, basic),
                "+1.67 points (ResNet-34 B to ResNet-50)",
            )
        )
    for first, second, printed in (("B", "A", "+0.51 points"), ("C", "B", "+0.33 points")):
        if {first, second} <= ways.keys():
            pair = (ways[first], ways[second])
            found += [
                Claim(
                    f"shortcut-{first}-beats-{second}",
                    f"Shortcuts {first} are slightly better than {second}",
                    source,
                    of_models(compare, *pair),
                    f"{printed} (34 layers)",
                ),
                Claim(
                    f"shortcuts-matter-little:{first}{second}",
                    f"Shortcuts {first} and {second} score the same, so projections are not what ends the degradation",
                    source,
                    of_models(same, *pair, margin=MARGIN),
                ),
            ]
    return found


def claims(name: str, preset: Preset) -> list[Claim]:
    """Returns the papers' claims for which the preset has the models."""
    nets = NETS[name].within([str(model) for model in preset.axes["model"]])
    return [*_degradation(nets), *_others(nets)]


def _over_depth(rows: Sequence[SummaryRow], metric: str, models: By, label: str) -> Any:
    """Returns the error of models over their depth."""
    from vision_repro.figures.series import Point, Series, entry

    found = {depth: entry(rows, metric, {"model": model}, "", complement=True) for depth, model in models.items()}
    points = [Point(float(depth), item.interval) for depth, item in sorted(found.items()) if item.interval is not None]
    return Series(label, tuple(points))


def _gradients(rows: Sequence[SummaryRow], nets: Nets) -> list[Any]:
    """Returns the gradient norms by layer of the deepest plain and residual net."""
    from vision_repro.figures.series import by_layer

    kinds = [(word, kind[max(kind)]) for word, kind in (("plain", nets.plain), ("residual", nets.residual)) if kind]
    return [
        by_layer(rows, prefix, {"model": model}, f"{word}, {when}")
        for word, model in kinds
        for prefix, when in STATES.items()
    ]


def _list(rows: Sequence[SummaryRow], nets: Nets) -> tuple[list[Any], list[Any]]:
    """Returns the test errors of VGG, and those of blocks and shortcuts, beside what the papers print."""
    from vision_repro.figures.series import entry

    printed = _printed("vgg_table3") | _printed("resnet_table3")
    letters = {11: "A", 13: "B", 16: "D", 19: "E"}
    vgg = [
        entry(rows, TEST, {"model": model}, f"VGG-{depth}", printed[f"VGG {letters[depth]}"], complement=True)
        for depth, model in nets.vgg.items()
    ]
    ways = [
        entry(
            rows,
            TEST,
            {"model": model},
            f"shortcuts {letter}",
            printed[f"ResNet-34 {letter}"],
            complement=True,
            role="reference" if letter == "A" else "",
        )
        for letter, model in nets.shortcuts.items()
    ]
    if nets.blocks:
        ways.append(entry(rows, TEST, {"model": nets.blocks[1]}, "bottlenecks", complement=True))
    if nets.shallow in nets.plain and nets.shortcuts.get("A") == nets.residual.get(nets.shallow):
        ways.append(
            entry(rows, TEST, {"model": nets.plain[nets.shallow]}, "no shortcuts", complement=True, role="without")
        )
    return vgg, ways


def figure(rows: Sequence[SummaryRow], verdicts: Sequence[Verdict], name: str, preset: Preset) -> Any:
    """Returns training and test error over the depth, gradient norms by layer, and VGG, blocks and shortcuts."""
    from vision_repro.figures.series import paper
    from vision_repro.figures.study import Curves, Dots, Panel, study_figure

    base, nets = preset.shared, NETS[name].within([str(model) for model in preset.axes["model"]])
    both = (("plain", nets.plain), ("residual", nets.residual))
    train, test = ([_over_depth(rows, metric, models, label) for label, models in both] for metric in (TRAIN, TEST))
    printed = {float(model.rpartition("-")[2]): value for model, value in _printed("resnet_table6").items()}
    vgg, ways = _list(rows, nets)
    budget = f"{base.steps} steps" if base.budget == "steps" else f"{base.epochs:g} epochs"
    panels: list[Panel] = [
        Curves("Training error [%]", train, "weighted layers"),
        Curves("Test error [%]", [*test, paper("ResNet, CIFAR-10 (Table 6)", printed)], "weighted layers"),
        Curves("Gradient over weight norm", _gradients(rows, nets), "layer", ylog=True),
        Dots("Test error of VGG [%]", vgg),
        Dots("Test error by block and shortcut [%]", ways),
    ]
    notes = (
        f"data set {base.dataset}, preset {name}: {base.train_size} training images, {budget} of {base.global_batch} "
        "images",
        f"training error on the first 5000 training images, not augmented; gradients of the deepest nets, "
        f"{' and '.join(models[max(models)] for _, models in both if models)}, on 256 training images",
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
    fill_defaults=_fill_defaults,
    tables=(TEST, TRAIN, LOSS, "parameters", "forward_flops"),
)

if __name__ == "__main__":
    sys.exit(main(EXPERIMENT))
