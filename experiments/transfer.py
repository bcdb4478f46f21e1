"""Transfer: what is pre-training worth on other data sets, to which model, and how much of it is enough?

paper     An Image is Worth 16x16 Words (ViT, arXiv 2010.11929v2), sections 3.2, 4.2 and 4.3, Table 2 and Table 5
question  Accuracy of ViTs and BiTs that were pre-trained on a small or a large upstream data set, and then fine-tuned
          on each of several others at a higher resolution; mean and deviation over runs, cost of the pre-training.
command   make exp-transfer [PRESET=cpu|cifar|gpu|paper] [MODEL=timm:vit_base_patch16_224.augreg_in21k] [SEEDS=5]
cost      smoke seconds; cpu about 7 minutes and cifar about 15 minutes on two cores; gpu about an hour on one GPU;
          paper tens of thousands of GPU-hours (`ARGS=--dry-run`)
expected  The paper: from JFT-300M ViT-L/16 beats BiT-L on nearly all data sets; the larger ViT loses to the base ViT
          after pre-training on ImageNet, is as good after ImageNet-21k, and better after JFT-300M.

A start is `<upstream data>@<steps>`: supervised pre-training at the lower resolution, each model and seed its own.
`scratch` is none, and empty in the table. A model `timm:<tag>` brings its own weights, so it has a single start, empty
too; give its --image_size. Position embeddings are interpolated as in the paper when weights are loaded.

Fine-tuning is the paper's (Table 4, B.1.1): SGD with momentum 0.9, cosine decay, no weight decay, gradients clipped at
1, a head of zeros, no warm-up. The learning rate is the one of a grid with the best accuracy on `val`, in a run of seed
0 for each model, start and data set (of equals the smallest); then every seed trains on all of train and is tested with
its last weights. Polyak averaging, 0.9999, is on for ImageNet in `paper` only, as in Table 2.

Deviation: at `cpu`, digits 0 to 4 are upstream and digits 5 to 9 downstream; at `cifar` and `gpu` Imagenette is the
    small upstream data set and CIFAR-10 or -100 the large one, instead of ImageNet and JFT-300M. They differ in more
    than their size. At `cifar` the copies of Pets and Flowers-17 may be parts of 3 and 12 classes.
Deviation: 100 to 200 steps of 32 images and rates 0.03 to 0.3 (`gpu`: 500 to 2,000 of 128, 0.01 to 0.1) instead of 500
    to 20,000 steps of 512 images and 0.001 to 0.06, except in `paper`; so few steps need larger rates.
Deviation: small networks, AdamW in pre-training with a rate a family from the searches of the experiment data_scaling.
Deviation: from scratch AdamW, with three times the steps and rates of its own: by SGD a ViT hardly learns so fast.
Deviation: `paper` has no JFT-300M, which is not public: its starts are ImageNet and ImageNet-21k. ViT-H/14 is
    fine-tuned at 392 pixels instead of 384, no multiple of its patches; it and BiT-R152x4 are pre-trained with the
    hyper-parameters of ViT-L/16, theirs being unknown; none has dropout.
Deviation: BiTs are fine-tuned like the ViTs; the paper takes the better of that and of BiT-HyperRule.
`At least as good` allows 1 point less.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

from vision_repro.analysis.claims import Claim, Evidence, Judgement, Verdict
from vision_repro.analysis.compute import family
from vision_repro.analysis.judges import transfer as judges
from vision_repro.analysis.judges.comparisons import jointly
from vision_repro.analysis.table import Table
from vision_repro.cli import main
from vision_repro.config import RunConfig, UserError
from vision_repro.experiment import Experiment, Preset
from vision_repro.papers.hyper_rules import vit_fine_tuning, vit_pretraining

TABLE_2, TABLE_5 = "ViT, section 4.2, Table 2", "ViT, section 4.3, Table 5"
BIT = "BiT (arXiv 1912.11370), abstract"
SCRATCH, TIMM = "scratch", "timm:"
MARGIN = 0.01
_START = re.compile(r"(?P<dataset>[^@\s]+)@(?P<steps>[1-9]\d*)")
# Peak rates of pre-training by data set and family: see the deviations. Imagenette has those of CIFAR-10.
LEARNING_RATES = {
    "digits-0-4": {"vit": 3e-3, "bit": 3e-3, "hybrid": 1e-3},
    "imagenette": {"vit": 1e-3, "bit": 3e-3, "hybrid": 1e-3},
    "cifar10": {"vit": 1e-3, "bit": 3e-3, "hybrid": 1e-3},
    "cifar100": {"vit": 1e-3, "bit": 3e-3, "hybrid": 1e-3},
}
EPOCHS = {"imagenet": 300, "imagenet21k": 90}  # ViT, Table 3


@dataclass(frozen=True)
class Stages:
    """What runs have of their own, as fields of the config: upstream all and by data set, downstream by data set.

    `rates` are those to choose from, `scratch` and `scratch_rates` are for training without pre-training.
    """

    upstream: Mapping[str, Any]
    upstream_of: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    downstream: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    rates: tuple[float, ...] = (0.03, 0.1, 0.3)
    scratch: Mapping[str, Any] = field(default_factory=dict)
    scratch_rates: tuple[float, ...] = (0.003, 0.01, 0.03)


_ADAMW = {"optimizer": "adamw", "weight_decay": 0.1, "warmup": 0.1}
_SMALL = {**_ADAMW, "image_size": 32, "global_batch": 64, "grad_clip": 1.0}
_IMAGENETTE = {"train_size": 2970, "augmentation": "inception"}
_CIFAR_TRAIN = {"train_size": 49_000, "augmentation": "crop-flip"}
STAGES = {
    "smoke": Stages(
        {**_SMALL, "image_size": 8, "train_size": 40, "augmentation": "none", "global_batch": 8}, rates=(0.01, 0.03),
        scratch={**_ADAMW, "steps": 3}, scratch_rates=(0.003, 0.01),
    ),
    "cpu": Stages(
        {**_SMALL, "image_size": 8, "train_size": 600, "augmentation": "none"}, scratch={**_ADAMW, "steps": 300},
    ),
    "cifar": Stages(
        _SMALL, {"imagenette": _IMAGENETTE, "cifar10": _CIFAR_TRAIN},
        {
            "cifar10": {"train_size": 49_000, "steps": 200, "augmentation": "crop-flip"},
            "pets": {"train_size": 270, "augmentation": "resize-crop"},
            "flowers17": {"train_size": 648, "augmentation": "resize-crop"},
        },
        scratch={**_ADAMW, "steps": 300},
    ),
    "gpu": Stages(
        {**_SMALL, "global_batch": 256}, {"imagenette": _IMAGENETTE, "cifar100": _CIFAR_TRAIN},
        {
            "cifar10": {"train_size": 49_000, "steps": 2000, "augmentation": "crop-flip"},
            "pets": {"train_size": 3312, "augmentation": "resize-crop"},
            "flowers": {"train_size": 1020, "augmentation": "resize-crop"},
        },
        rates=(0.01, 0.03, 0.1), scratch={**_ADAMW, "steps": 1500}, scratch_rates=(0.0003, 0.001, 0.003),
    ),
    "paper": Stages(
        {**_ADAMW, "image_size": 224, "global_batch": 4096, "augmentation": "inception", "grad_clip": 0.0},
        {"imagenet": {"train_size": 1_268_355}, "imagenet21k": {"train_size": 14_000_000}},
        {
            "imagenet": {"train_size": 1_268_355, "augmentation": "resize-crop"},
            "cifar10": {"train_size": 49_000, "augmentation": "crop-flip"},
            "cifar100": {"train_size": 49_000, "augmentation": "crop-flip"},
            "pets": {"train_size": 3312, "augmentation": "resize-crop"},
            "flowers": {"train_size": 1020, "augmentation": "resize-crop"},
        },
        scratch={**_ADAMW, "steps": 93_835}, scratch_rates=(0.0003, 0.001, 0.003),
    ),
}  # fmt: skip


def parse(start: str) -> tuple[str, int] | None:
    """Returns the data set and the steps of the pre-training that a start names; None for `scratch` and the empty one.

    Raises:
        UserError: for any other word.
    """
    if start in ("", SCRATCH):
        return None
    match = _START.fullmatch(start)
    if match is None:
        raise UserError(
            f'--pretraining="{start}" is no pre-training: expected scratch or <data set>@<steps>, such as cifar10@1000.'
        )
    return match["dataset"], int(match["steps"])


def left_out(config: RunConfig, starts: Sequence[str], again: bool = False) -> bool:
    """Returns whether a point of the grid is not run: a data set after itself, unless `again`; timm's weights twice."""
    if config.model.startswith(TIMM):
        return config.pretraining in starts[1:]
    first = parse(config.pretraining)
    return first is not None and first[0] == config.dataset and not again


def _grid(models: Sequence[str], starts: Sequence[str], datasets: Sequence[str], again: bool = False) -> dict[str, Any]:
    axes = {"model": tuple(models), "pretraining": tuple(starts), "dataset": tuple(datasets)}
    return {"axes": axes, "skip": partial(left_out, starts=tuple(starts), again=again)}


_TUNED = RunConfig(
    dataset="digits-5-9", image_size=16, model="vit-64x4/2", train_size=100, steps=100, global_batch=32,
    optimizer="sgd", weight_decay=0.0, warmup=0.0, grad_clip=1.0, shots="", select="last", train_on_val=True,
    evaluations=1, views="square",
)  # fmt: skip

PRESETS = {
    "smoke": Preset(
        base=replace(_TUNED, model="vit-32x2/2", train_size=20, steps=2, global_batch=8, image_size=12),
        **_grid(
            ("vit-32x1/2", "vit-32x2/2", "bit-r8x0.15"), (SCRATCH, "digits-0-4@1", "digits-0-4@2"), ("digits-5-9",)
        ),
        seeds=1, cost="seconds; shows that everything works, never evidence", evidence=False,
    ),
    "cpu": Preset(
        base=_TUNED,
        **_grid(
            ("vit-32x4/2", "vit-64x4/2", "bit-r11x0.15"), (SCRATCH, "digits-0-4@50", "digits-0-4@400"), ("digits-5-9",)
        ),
        seeds=5, cost="about 7 minutes on two cores; scikit-learn's digits, offline",
    ),
    "cifar": Preset(
        base=replace(_TUNED, dataset="pets", image_size=48, model="vit-64x4/8"),
        **_grid(
            ("vit-64x4/8", "vit-128x6/8", "bit-r11x0.3125/2"), ("imagenette@300", "cifar10@600"),
            ("cifar10", "pets", "flowers17"),
        ),
        seeds=3, cost="about 15 minutes on two cores; Imagenette, CIFAR-10, Pets and Flowers-17, or parts of them",
    ),
    "gpu": Preset(
        base=replace(_TUNED, dataset="pets", image_size=48, model="vit-128x4/4", steps=500, global_batch=128),
        **_grid(
            ("vit-128x4/4", "vit-192x8/4", "bit-r26x0.5/2"), ("imagenette@2000", "cifar100@10000"),
            ("cifar10", "pets", "flowers"),
        ),
        seeds=3, cost="about an hour on one GPU; Imagenette, CIFAR-10 and -100, Pets and Flowers-102",
    ),
    "paper": Preset(
        base=replace(_TUNED, dataset="imagenet", image_size=384, model="vit-b/16", evaluations=5),
        **_grid(
            ("vit-h/14", "vit-b/32", "vit-b/16", "vit-l/32", "vit-l/16", "bit-r152x4"),
            ("imagenet@93835", "imagenet21k@312012"), ("imagenet", "cifar10", "cifar100", "pets", "flowers"),
            again=True,
        ),
        seeds=3,
        cost="tens of thousands of GPU-hours; ImageNet, ImageNet-21k and the paper's other data sets (see --dry-run)",
    ),
}  # fmt: skip


def fill_defaults(name: str, config: RunConfig) -> RunConfig:
    """Fills in what the data set downstream, training from scratch, and a model of timm have of their own.

    What the command line changed stays as it was asked for.
    """
    own: dict[str, Any] = dict(STAGES[name].downstream.get(config.dataset, {}))
    if config.dataset == "flowers":  # its val is not a part of the 1,020 images that the authors train on
        own["train_on_val"] = False
    if name == "paper":
        own |= _table_4(config)
    timm = config.model.startswith(TIMM) and not config.weights
    if parse(config.pretraining) is None and not timm and not config.weights:
        own |= STAGES[name].scratch
    base = PRESETS[name].base
    own = {key: value for key, value in own.items() if getattr(config, key) == getattr(base, key)}
    if timm or parse(config.pretraining) is None:
        own["pretraining"] = ""
    if timm:
        own["weights"] = "timm"
    return replace(config, **own)


def _table_4(config: RunConfig) -> dict[str, Any]:
    """Returns the paper's fine-tuning on a data set; on ImageNet with the images and averaged weights of Table 2."""
    if config.dataset not in STAGES["paper"].downstream:
        return {}
    best = config.dataset == "imagenet" and config.model in ("vit-l/16", "vit-h/14")
    rule = vit_fine_tuning(config.dataset, model=config.model, best=best)
    side = 392 if rule.crop == 384 and config.model == "vit-h/14" else rule.crop
    return {
        "steps": rule.schedule.steps,
        "global_batch": rule.batch,
        "image_size": side,
        "grad_clip": rule.grad_clip or 0.0,
        "weight_decay": rule.weight_decay,
        "polyak": rule.averaging or 0.0,
    }


def rates(name: str, config: RunConfig) -> tuple[float, ...]:
    """Returns the learning rates to choose from, ascending; 0.06 is for ResNets and hybrids only (ViT, B.1.1)."""
    if not config.pretraining and not config.weights:
        return STAGES[name].scratch_rates
    if name != "paper" or config.dataset not in STAGES[name].downstream:
        return STAGES[name].rates
    grid = vit_fine_tuning(config.dataset).learning_rates
    return tuple(sorted(rate for rate in grid if rate <= 0.03 or family(config.model) != "vit"))


def lr_candidates(name: str, config: RunConfig) -> list[RunConfig]:
    """Returns a run of seed 0 for each rate, trained without `val`, on which the best is chosen."""
    return [replace(config, lr=rate, seed=0, train_on_val=False) for rate in rates(name, config)]


def pretraining(name: str, config: RunConfig) -> RunConfig | None:
    """Returns the supervised pre-training that a run starts from: of its model and seed, for all data sets alike."""
    found = parse(config.pretraining)
    if found is None:
        return None
    (dataset, steps), stages = found, STAGES[name]
    own = {"train_size": config.train_size, **stages.upstream, **stages.upstream_of.get(dataset, {})}
    own["lr"] = LEARNING_RATES.get(dataset, {}).get(family(config.model), 1e-3)
    if name == "paper" and dataset in EPOCHS:
        own |= _table_3(config.model, dataset, steps)
    most = 20 if name == "paper" else 1
    own["evaluations"] = max(count for count in range(1, most + 1) if steps % count == 0)
    return replace(
        config,
        dataset=dataset,
        budget="steps",
        steps=steps,
        pretraining="",
        weights="",
        lr_from="",
        shots="",
        probes="",
        select="last",
        train_on_val=False,
        polyak=0.0,
        views=RunConfig.views,
        **own,
    )


def _table_3(model: str, dataset: str, steps: int) -> dict[str, Any]:
    """Returns the paper's pre-training of a model; models that it does not tell of have that of ViT-L/16."""
    try:
        rule = vit_pretraining(model, dataset, epochs=EPOCHS[dataset])
    except UserError:
        rule = vit_pretraining("vit-l/16", dataset, epochs=EPOCHS[dataset])
    return {
        "lr": rule.learning_rate,
        "global_batch": rule.batch,
        "weight_decay": rule.weight_decay,
        "warmup": min(0.5, rule.schedule.warmup / steps),
        "grad_clip": rule.grad_clip or 0.0,
    }


# --- claims ---


def upstream(preset: Preset) -> list[str]:
    """Returns the starts of a preset that are pre-trainings, in its order: by how much they see."""
    return [str(start) for start in preset.axes["pretraining"] if parse(str(start)) is not None]


def judged_on(preset: Preset) -> list[str]:
    """Returns the data sets that are run after every pre-training, so that means over them compare."""
    model = next((str(model) for model in preset.axes["model"] if not str(model).startswith(TIMM)), "")
    points = {
        name: [replace(preset.base, model=model, pretraining=start, dataset=name) for start in upstream(preset)]
        for name in map(str, preset.axes["dataset"])
    }
    return [name for name, configs in points.items() if not any(map(preset.skip, configs))]


def pairs(preset: Preset) -> list[tuple[str, str]]:
    """Returns the first and the last ViT of each patch size, as the preset orders them: the base and the larger one."""
    groups: dict[str, list[str]] = {}
    for model in map(str, preset.axes["model"]):
        if family(model) == "vit":
            groups.setdefault(model.rpartition("/")[2], []).append(model)
    return [(found[0], found[-1]) for found in groups.values() if len(found) > 1]


def _pays(evidence: Evidence, models: Sequence[str], start: str, datasets: Sequence[str]) -> Judgement:
    each = [partial(judges.better_start, model=model, first=start, second="", datasets=datasets) for model in models]
    return jointly(evidence, each, subject=f"from {start} minus from scratch")


def claims(name: str, preset: Preset) -> list[Claim]:
    """Returns the claims of Tables 2 and 5 for the models and starts there are, and that pre-training pays."""
    starts, datasets = upstream(preset), judged_on(preset)
    models = [str(model) for model in preset.axes["model"] if not str(model).startswith(TIMM)]
    if not starts or not datasets or not models:
        return []
    found, large = [], starts[-1]
    vits, bits = ([model for model in models if family(model) == kind] for kind in ("vit", "bit"))
    if vits and bits:
        found.append(
            Claim(
                "vit-at-least-as-good-as-bit",
                "ViT is at least as good as BiT after the same large pre-training",
                TABLE_2,
                partial(
                    judges.no_worse, first=vits[-1], second=bits[-1], start=large, datasets=datasets, margin=MARGIN
                ),
                _points(judges.paper_gap(judges.paper_table_2, "ViT-L/16", "BiT-L ResNet152x4", "JFT-300M")),
            )
        )
    if len(starts) > 1:
        found += [claim for base, larger in pairs(preset) for claim in _of_size(base, larger, starts, datasets)]
    if SCRATCH in preset.axes["pretraining"]:
        found.append(
            Claim(
                "pre-training-pays",
                "Fine-tuning after pre-training beats training from scratch",
                BIT,
                partial(_pays, models=models, start=large, datasets=datasets),
            )
        )
    return found


def _of_size(base: str, larger: str, starts: Sequence[str], datasets: Sequence[str]) -> list[Claim]:
    small, large, patch = starts[0], starts[-1], larger.rpartition("/")[2]
    printed = {start: _gap(patch, start) for start in ("ImageNet", "JFT-300M")}
    return [
        Claim(
            f"larger-loses-after-small:{larger}",
            "After small pre-training the larger ViT loses to the base ViT",
            TABLE_5,
            partial(judges.more_accurate, first=base, second=larger, start=small, datasets=datasets),
            _points(-printed["ImageNet"]),
        ),
        Claim(
            f"larger-wins-after-large:{larger}",
            "After large pre-training the larger ViT beats the base ViT",
            TABLE_5,
            partial(judges.more_accurate, first=larger, second=base, start=large, datasets=datasets),
            _points(printed["JFT-300M"]),
        ),
        Claim(
            f"larger-gains-more:{larger}",
            "The larger ViT gains on the base ViT with more pre-training",
            TABLE_5,
            partial(judges.gains_rise, first=larger, second=base, small=small, large=large, datasets=datasets),
            _points(printed["JFT-300M"] - printed["ImageNet"]),
        ),
    ]


def _gap(patch: str, start: str) -> float:
    """Returns the paper's ViT-L minus ViT-B, of patches of 32 pixels for a model of those, else of 16."""
    size = "32" if patch == "32" else "16"
    return judges.paper_gap(judges.paper_table_5, f"ViT-L/{size}", f"ViT-B/{size}", start)


def _points(value: float) -> str:
    return f"{100 * value:+.2f} points (mean of 5 data sets)"


def figure(table: Table, verdicts: Sequence[Verdict], name: str, preset: Preset) -> Any:
    """Returns the table of accuracies by data set, model and start, with the paper's Table 2."""
    from vision_repro.figures.transfer import TITLES, transfer_figure

    base, stages = preset.shared, STAGES[name]
    starts = [("", "no pre-training")]
    for start in upstream(preset):
        dataset, steps = parse(start) or ("", 0)
        starts.append((start, f"{TITLES.get(dataset, dataset)}, {steps:,} steps"))
    length = f"{base.steps:,} steps" + (" or as many as its data set has" if stages.downstream else "")
    notes = (
        f"preset {name}: pre-trained at {stages.upstream['image_size']} pixels, {stages.upstream['global_batch']} "
        f"images a step, fine-tuned at {base.image_size} pixels, {base.global_batch} images a step, {length}; learning "
        "rate chosen on val, then trained on all of train",
        f"claims are of the mean over {', '.join(TITLES.get(item, item) for item in judged_on(preset))}",
    )
    return transfer_figure(
        table,
        verdicts,
        starts=starts,
        models=[str(model) for model in preset.axes["model"]],
        datasets=[str(item) for item in preset.axes["dataset"]],
        preset=name,
        notes=notes,
    )


EXPERIMENT = Experiment(
    name="transfer",
    question="What is pre-training worth on other data sets, and to which model? (ViT, Tables 2 and 5)",
    presets=PRESETS,
    settings=("model", "pretraining", "dataset"),
    claims=claims,
    figure=figure,
    fill_defaults=fill_defaults,
    pretraining=pretraining,
    lr_candidates=lr_candidates,
    shows_seeds=True,
)

if __name__ == "__main__":
    sys.exit(main(EXPERIMENT))
