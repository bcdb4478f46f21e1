"""Transfer: what is pre-training worth on other data sets, to which model, and how much of it is enough?

paper     An Image is Worth 16x16 Words (ViT, arXiv 2010.11929v2), sections 3.2, 4.2 and 4.3, Table 2 and Table 5
question  Accuracy of ViTs and BiTs that were pre-trained on a small or a large upstream data set, and then fine-tuned
          on each of several others at a higher resolution; mean and deviation over runs, cost of the pre-training.
command   make exp-transfer [PRESET=cpu|cifar|gpu|paper] [MODEL=timm:vit_base_patch16_224.augreg_in21k] [SEEDS=5]
cost      smoke seconds; cpu about 7 minutes and cifar about half an hour on two cores after data_scaling, else an hour;
          gpu about an hour on one GPU; paper tens of thousands of GPU-hours (`ARGS=--dry-run`)
shared    Pre-training on CIFAR-10 at `cifar` and `gpu` is that of data_scaling with all training images, for all three
          models: trained once. At `cpu` nothing is shared, as data_scaling sees all ten digits.
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
    small upstream data set and CIFAR-10 the large one, instead of ImageNet and JFT-300M. They differ in more than their
    size. Fine-tuning starts from the weights that were best on `val` there, as data_scaling tests them.
    At `cifar` the copies of Pets and Flowers-17 may be parts of 3 and 12 classes.
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

import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from vision_repro.analysis.claims import Claim, Evidence, Judgement, Verdict
from vision_repro.analysis.judges import transfer as judges
from vision_repro.analysis.judges.comparisons import jointly
from vision_repro.analysis.table import Table
from vision_repro.cli import main
from vision_repro.config import RunConfig
from vision_repro.experiment import Experiment, Preset
from vision_repro.models.families import family
from vision_repro.presets import bases, captions, scales, transfers
from vision_repro.presets.fine_tuning import Stages
from vision_repro.presets.stages import starts, with_rates
from vision_repro.presets.transfers import SCRATCH, judged_on, pairs, parse, upstream

TABLE_2, TABLE_5 = "ViT, section 4.2, Table 2", "ViT, section 4.3, Table 5"
BIT = "BiT (arXiv 1912.11370), abstract"
MARGIN = 0.01
_ADAMW = {"optimizer": "adamw", "weight_decay": 0.1, "warmup": 0.1}
_LAST = replace(bases.DIGITS, evaluations=1, select="last")
_IMAGENET = replace(bases.IMAGENET21K, grad_clip=0.0, select="last")
_PETS = {"augmentation": "resize-crop", "train_size": 3312}
_FLOWERS = {**_PETS, "train_size": 1020}
_CIFAR = {"augmentation": "crop-flip", "train_size": 49_000}
STAGES = {
    "smoke": Stages(
        {"digits-0-4": replace(_LAST, train_size=40, global_batch=8)}, rates=(0.01, 0.03),
        scratch={**_ADAMW, "steps": 3}, scratch_rates=(0.003, 0.01),
    ),
    "cpu": Stages(
        {"digits-0-4": replace(_LAST, train_size=600, global_batch=64)}, scratch={**_ADAMW, "steps": 300},
    ),
    "cifar": Stages(
        {"cifar10": bases.CIFAR, "imagenette": replace(bases.CIFAR, train_size=2970, augmentation="inception")},
        {"cifar10": {**_CIFAR, "steps": 200}, "pets": {**_PETS, "train_size": 270},
         "flowers17": {**_FLOWERS, "train_size": 648}},
        scratch={**_ADAMW, "steps": 300},
    ),
    "gpu": Stages(
        {"cifar10": bases.CIFAR_GPU, "imagenette": replace(bases.CIFAR_GPU, train_size=2970, augmentation="inception")},
        {"cifar100": {**_CIFAR, "steps": 2000}, "pets": _PETS, "flowers": _FLOWERS},
        rates=(0.01, 0.03, 0.1), scratch={**_ADAMW, "steps": 1500}, scratch_rates=(0.0003, 0.001, 0.003),
    ),
    "paper": Stages(
        {"imagenet": replace(_IMAGENET, train_size=1_268_355), "imagenet21k": _IMAGENET},
        {"imagenet": {"augmentation": "resize-crop", "train_size": 1_268_355}, "cifar10": _CIFAR, "cifar100": _CIFAR,
         "pets": _PETS, "flowers": _FLOWERS},
        scratch={**_ADAMW, "steps": 93_835}, scratch_rates=(0.0003, 0.001, 0.003), printed=True,
    ),
}  # fmt: skip
_TUNED = RunConfig(
    dataset="digits-5-9",
    image_size=16,
    model="vit-64x4/2",
    train_size=100,
    steps=100,
    global_batch=32,
    optimizer="sgd",
    weight_decay=0.0,
    warmup=0.0,
    grad_clip=1.0,
    shots="",
    select="last",
    train_on_val=True,
    evaluations=1,
    views="square",
)

PRESETS = {
    "smoke": scales.smoke(
        replace(_TUNED, model="vit-32x2/2", global_batch=8, image_size=12), train_size=20,
        **transfers.grid(
            ("vit-32x1/2", "vit-32x2/2", "bit-r8x0.15"), (SCRATCH, *starts("digits-0-4", 1, 2)), ("digits-5-9",)
        ),
    ),
    "cpu": scales.cpu(
        _TUNED, time="about 7 minutes",
        **transfers.grid(
            ("vit-32x4/2", "vit-64x4/2", "bit-r11x0.15"), (SCRATCH, *starts("digits-0-4", 50, 400)), ("digits-5-9",)
        ),
    ),
    "cifar": scales.real(
        replace(_TUNED, dataset="pets", image_size=48, model="vit-64x4/4"),
        time="about half an hour after data_scaling, else an hour,",
        data="Imagenette, CIFAR-10, Pets and Flowers-17, or parts of them",
        **transfers.grid(
            ("vit-64x4/4", "vit-128x4/4", "bit-r14x0.3125/2"), ("imagenette@300", "cifar10@800"),
            ("cifar10", "pets", "flowers17"),
        ),
    ),
    "gpu": scales.gpu(
        replace(_TUNED, dataset="pets", image_size=48, model="vit-128x4/4", steps=500, global_batch=128),
        seeds=3, data="Imagenette, CIFAR-10 and -100, Pets and Flowers-102",
        **transfers.grid(
            ("vit-64x4/4", "vit-128x4/4", "bit-r14x0.3125/2"), ("imagenette@2000", "cifar10@8000"),
            ("cifar100", "pets", "flowers"),
        ),
    ),
    "paper": scales.paper(
        replace(_TUNED, dataset="imagenet", image_size=384, model="vit-b/16", evaluations=5),
        hours="tens of thousands of", data="ImageNet, ImageNet-21k and the paper's other data sets", seeds=3,
        **transfers.grid(
            ("vit-h/14", "vit-b/32", "vit-b/16", "vit-l/32", "vit-l/16", "bit-r152x4"),
            ("imagenet@93835", "imagenet21k@312012"), ("imagenet", "cifar10", "cifar100", "pets", "flowers"),
            again=True,
        ),
    ),
}  # fmt: skip


def _pays(evidence: Evidence, models: Sequence[str], start: str, datasets: Sequence[str]) -> Judgement:
    each = [partial(judges.better_start, model=model, first=start, second="", datasets=datasets) for model in models]
    return jointly(evidence, each, subject=f"from {start} minus from scratch")


def claims(name: str, preset: Preset) -> list[Claim]:
    """Returns the claims of Tables 2 and 5 for the models and starts there are, and that pre-training pays."""
    asked, datasets, models = upstream(preset), judged_on(preset), transfers.own_models(preset)
    if not asked or not datasets or not models:
        return []
    found, large = [], asked[-1]
    vits, bits = ([model for model in models if family(model) == kind] for kind in ("vit", "bit"))
    if vits and bits:
        pair: dict[str, Any] = {"first": vits[-1], "second": bits[-1], "start": large}
        judge = partial(judges.no_worse, datasets=datasets, margin=MARGIN, **pair)
        printed = judges.paper_gap(judges.paper_table_2, "ViT-L/16", "BiT-L ResNet152x4", "JFT-300M")
        statement = "ViT is at least as good as BiT after the same large pre-training"
        found.append(Claim("vit-at-least-as-good-as-bit", statement, TABLE_2, judge, _points(printed)))
    if len(asked) > 1:
        found += [claim for base, larger in pairs(preset) for claim in _of_size(base, larger, asked, datasets)]
    if SCRATCH in preset.axes["pretraining"]:
        statement = "Fine-tuning after pre-training beats training from scratch"
        pays = partial(_pays, models=models, start=large, datasets=datasets)
        found.append(Claim("pre-training-pays", statement, BIT, pays))
    return found


def _of_size(base: str, larger: str, asked: Sequence[str], datasets: Sequence[str]) -> list[Claim]:
    """Returns the claims on the base ViT and the larger one of a patch size; the paper's are of 16 or 32 pixels."""
    (small, large), patch = (asked[0], asked[-1]), "32" if larger.endswith("/32") else "16"
    little, much = (
        judges.paper_gap(judges.paper_table_5, f"ViT-L/{patch}", f"ViT-B/{patch}", start)
        for start in ("ImageNet", "JFT-300M")
    )
    pair: dict[str, Any] = {"first": larger, "second": base, "datasets": datasets}
    loses = partial(judges.more_accurate, first=base, second=larger, start=small, datasets=datasets)
    wins = partial(judges.more_accurate, start=large, **pair)
    gains = partial(judges.gains_rise, small=small, large=large, **pair)
    rows: list[tuple[str, str, Callable[[Evidence], Judgement], float]] = [
        ("loses-after-small", "After small pre-training the larger ViT loses to the base ViT", loses, -little),
        ("wins-after-large", "After large pre-training the larger ViT beats the base ViT", wins, much),
        ("gains-more", "The larger ViT gains on the base ViT with more pre-training", gains, much - little),
    ]
    return [
        Claim(f"larger-{key}:{larger}", statement, TABLE_5, judge, _points(gap)) for key, statement, judge, gap in rows
    ]


def _points(value: float) -> str:
    return f"{100 * value:+.2f} points (mean of 5 data sets)"


def figure(table: Table, verdicts: Sequence[Verdict], name: str, preset: Preset) -> Any:
    """Returns the table of accuracies by data set, model and start, with the paper's Table 2."""
    from vision_repro.figures.transfer import TITLES, transfer_figure

    base, first = preset.shared, STAGES[name].first
    named = {start: stage for start in upstream(preset) if (stage := parse(start)) is not None}
    titles = {start: f"{TITLES.get(item.dataset, item.dataset)}, {item.steps:,} steps" for start, item in named.items()}
    length = f"{base.steps:,} steps" + (" or as many as its data set has" if STAGES[name].downstream else "")
    notes = (
        f"preset {name}: pre-trained at {first.image_size} pixels, {first.global_batch} images a "
        f"step, fine-tuned at {base.image_size} pixels, {base.global_batch} images a step, {length}; learning "
        "rate chosen on val, then trained on all of train",
        f"claims are of the mean over {', '.join(TITLES.get(item, item) for item in judged_on(preset))}",
    )
    return transfer_figure(
        table,
        verdicts,
        starts=[("", "no pre-training"), *titles.items()],
        models=captions.models(preset),
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
    fill_defaults=lambda name, config: STAGES[name].filled(config, PRESETS[name].base),
    pretraining=lambda name, config: STAGES[name].pretraining(config),
    lr_candidates=lambda name, config: with_rates(config, STAGES[name].rates_of(config)),
    shows_seeds=True,
)

if __name__ == "__main__":
    sys.exit(main(EXPERIMENT))
