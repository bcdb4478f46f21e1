"""The papers' rules for hyper-parameters, as functions of a data set's name and size: BiT-HyperRule, ViT's tables.

Values come from the paper (`variant="paper"`) or from its authors' code (`variant="release"`). If a paper contradicts
itself, the value is the printed one and `notes` names the contradiction. Steps are optimizer steps, counted from 0;
sides are in pixels. Imports no torch.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable

from vision_repro.config import UserError, nearest
from vision_repro.papers.recipes import FineTuning, PreTraining, Schedule
from vision_repro.papers.tables import paper_table

VARIANTS = ("paper", "release")
IMAGES = {"ImageNet": 1_281_167, "ImageNet-21k": 14_200_000, "JFT-300M": 303_000_000}
PRETRAINING_SETS = {"imagenet": "ImageNet", "imagenet21k": "ImageNet-21k", "jft300m": "JFT-300M"}
FINE_TUNING_SETS = {
    "imagenet": "ImageNet",
    "cifar10": "CIFAR-10",
    "cifar100": "CIFAR-100",
    "pets": "Oxford-IIIT Pets",
    "flowers": "Oxford Flowers-102",
    "vtab": "VTAB (each of 19 tasks)",
}


# --- BiT ---


def bit_hyper_rule(
    examples: int, height: int, width: int, *, variant: str = "paper", largest: bool = False
) -> FineTuning:
    """Returns BiT-HyperRule (BiT, section 3.3; `bit_hyperrule.py`) for a data set of `examples` images of a size.

    `largest` is for R152x4, for which the paper uses larger images.

    Raises:
        UserError: for fewer than 1 image, or an unknown variant.
    """
    _check_variant(variant)
    if min(examples, height, width) < 1:
        raise UserError(f"BiT-HyperRule needs images, not {examples} of {height} x {width} pixels.")
    steps, warmup = next(rule for limit, rule in _BIT_STEPS if examples < limit)
    release = variant == "release"
    if release:
        # in the code a decay takes effect one step after the listed step
        listed = (200, 300, 400) if steps == 500 else tuple(steps * tenths // 10 for tenths in (3, 6, 9))
        schedule = Schedule("staircase", steps, warmup, tuple(step + 1 for step in listed))
    else:
        schedule = Schedule("staircase", steps, 0, tuple(steps * tenths // 10 for tenths in (3, 6, 9)))
    small = height * width < 96 * 96
    resize, crop = (160, 128) if small else (512, 480) if release or largest else (448, 384)
    return FineTuning(
        schedule=schedule,
        learning_rates=(0.003,),
        batch=512,
        momentum=0.9,
        weight_decay=0.0,
        grad_clip=None,
        resize=resize,
        crop=crop,
        mixup=0.0 if steps == 500 else 0.1,
        dev_fraction=None,
        averaging=None,
        source="bit_hyperrule.py" if release else "BiT, section 3.3",
        notes=_BIT_NOTES,
    )


_BIT_STEPS = ((20_000, (500, 100)), (500_000, (10_000, 500)), (math.inf, (20_000, 500)))
_BIT_NOTES = (
    "The paper's decays at 30, 60 and 90 % are steps 150, 300 and 450 of a small task; the code has 200, 300 and 400.",
    "Warm-up is in the code only.",
    "The paper resizes large images to 448 and crops 384; it uses 512 and 480 for R152x4 only. The code always "
    "uses 512 and 480.",
    "The TensorFlow and JAX pipelines of the release always flip; here the probability is 0.5, as in PyTorch's.",
)


def bit_pretraining(dataset: str, *, batch: int = 4096) -> PreTraining:
    """Returns BiT's upstream training (BiT, section 3.3) on "imagenet" (S), "imagenet21k" (M) or "jft300m" (L).

    Raises:
        UserError: for an unknown data set.
    """
    name = _known(dataset, PRETRAINING_SETS, "data set of BiT's pre-training")
    epochs, decays = (40, (10, 23, 30, 37)) if name == "JFT-300M" else (90, (30, 60, 80))
    boundaries = tuple(total_steps(IMAGES[name], epoch, batch) for epoch in decays)
    return PreTraining(
        schedule=Schedule("staircase", total_steps(IMAGES[name], epochs, batch), 5000, boundaries),
        learning_rate=0.03 * batch / 256,
        batch=batch,
        optimizer="sgd",
        momenta=(0.9,),
        weight_decay=1e-4,
        dropout=0.0,
        grad_clip=None,
        resolution=224,
        epochs=epochs,
        source="BiT, section 3.3",
        notes=("Not the setting of the ResNets in the ViT paper, which use Adam and Table 3.",),
    )


# --- ViT ---


def vit_fine_tuning(dataset: str, *, model: str = "", variant: str = "paper", best: bool = False) -> FineTuning:
    """Returns ViT's fine-tuning on a data set: Table 4 and B.1.1, or the released configurations.

    `best` selects the setting of the ImageNet column of Table 2: larger images for vit-l/16 and vit-h/14, and averaged
    weights. Both `vtab` and `vtab:<task>` name a task of VTAB.

    Raises:
        UserError: if the source has no setting for the data set, variant or model.
    """
    _check_variant(variant)
    name = _known(dataset.partition(":")[0], FINE_TUNING_SETS, "data set of ViT's fine-tuning")
    row = next(row for row in paper_table("vit_finetuning") if row["dataset"] == name)
    rates, warmup, source = _numbers(row["lr_grid"]), 0, "ViT, Table 4 and B.1.1"
    notes = [row["note"], "Warm-up is in the code only, 500 steps; with 500 steps in all nothing would follow it."]
    notes.append("The released code trains on Inception crops and tests the whole image as a square.")
    if variant == "release":
        if not row["release_base_lr"]:
            raise UserError(f'The ViT release has no configuration for "{dataset}": expected variant="paper".')
        lower = name == "CIFAR-10" and _paper_name(model) == "ViT-B/16"
        rates, warmup = ((0.01,) if lower else _numbers(row["release_base_lr"])), int(row["release_warmup_steps"])
        source = "vit_jax/configs/common.py and vit.py"
    crop, averaging = int(row["resolution_px"]), None
    if best:
        crop, averaging = _best_of_table_2(name, model), 0.9999
    percent = row["dev_split_percent_of_train"]
    return FineTuning(
        schedule=Schedule(row["lr_decay"], int(row["steps"]), warmup),
        learning_rates=rates,
        batch=int(row["batch_size"]),
        momentum=float(row["momentum"]),
        weight_decay=float(row["weight_decay"]),
        grad_clip=float(row["grad_clip_global_norm"]),
        resize=448 if crop == 384 else None,
        crop=crop,
        mixup=0.0,
        dev_fraction=float(percent) / 100 if percent else None,
        averaging=averaging,
        source=source,
        notes=tuple(note for note in notes if note),
    )


def _best_of_table_2(name: str, model: str) -> int:
    sides = {"ViT-L/16": 512, "ViT-H/14": 518}
    if name != "ImageNet" or _paper_name(model) not in sides:
        raise UserError("Table 2 has larger images for vit-l/16 and vit-h/14 on imagenet only: leave best out.")
    return sides[_paper_name(model)]


def vit_pretraining(model: str, dataset: str, *, epochs: int | None = None, images: int | None = None) -> PreTraining:
    """Returns ViT's pre-training (Table 3, B.1) of a model such as vit-b/16, bit-r50x1 or r50+vit-b/16.

    Give `epochs` if the table has two schedules, and `images` if the run does not train on all images.

    Raises:
        UserError: if the table does not have the model, the data set or the number of epochs.
    """
    name = _known(dataset, PRETRAINING_SETS, "data set of ViT's pre-training")
    rows = [row for row in paper_table("vit_pretraining") if row["dataset"] == name]
    _known(_paper_name(model), (row["model"] for row in rows), f"model that Table 3 trains on {dataset}")
    fitting = {int(row["epochs"]): row for row in rows if row["model"] == _paper_name(model)}
    if (epochs is None and len(fitting) > 1) or epochs not in (None, *fitting):
        known = " or ".join(map(str, fitting))
        raise UserError(f"Table 3 trains {model} on {dataset} for {known} epochs, not {epochs}: name one of these.")
    count, row = epochs or next(iter(fitting)), fitting[epochs or next(iter(fitting))]
    steps = total_steps(images or IMAGES[name], count, int(row["batch_size"]))
    warmup, clip = int(row["warmup_steps"]), row["grad_clip_global_norm"]
    if steps <= warmup:
        raise UserError(f"{count} epochs of {images} images are {steps} steps: expected more than {warmup} of warm-up.")
    return PreTraining(
        schedule=Schedule(row["lr_decay"], steps, warmup),
        learning_rate=float(row["base_lr"]),
        batch=int(row["batch_size"]),
        optimizer="adam",
        momenta=(float(row["beta1"]), float(row["beta2"])),
        weight_decay=float(row["weight_decay"]),
        dropout=float(row["dropout"]),
        grad_clip=float(clip) if clip else None,
        resolution=int(row["resolution_px"]),
        epochs=count,
        source="ViT, Table 3 and B.1",
        notes=tuple(note for note in (row["note"], *_VIT_NOTES) if note),
    )


_VIT_NOTES = (
    "Section 4.1 has weight decay 0.1 and linear decay for all models; Table 3 has 0.03 for ImageNet-21k, and 0.3 with "
    "cosine decay for ImageNet.",
    "We assume that the learning rate multiplies the weight decay, as in AdamW. The paper does not say which weights "
    "decay.",
)


def total_steps(images: int, epochs: float, batch: int) -> int:
    """Returns the optimizer steps of `epochs` passes over `images` in batches of `batch`, rounded."""
    return round(images * epochs / batch)


def _paper_name(model: str) -> str:
    """Returns the name of our model in the tables of the ViT paper; an unknown name is returned unchanged."""
    match = re.fullmatch(r"(?:r(?P<hybrid>\d+)\+)?vit-(?P<size>[blh])/(?P<patch>\d+)(?:-.*)?", model)
    if match:
        ours = f"ViT-{match['size'].upper()}/{match['patch']}"
        return f"R{match['hybrid']}x1+{ours}" if match["hybrid"] else ours
    return re.sub(r"^bit-r(\d+x\d+)$", r"ResNet\1", model)


def _numbers(text: str) -> tuple[float, ...]:
    return tuple(float(part) for part in text.split(";"))


def _check_variant(variant: str) -> None:
    if variant not in VARIANTS:
        raise UserError(f'The variant "{variant}" is unknown: expected paper or release.{nearest(variant, VARIANTS)}')


def _known(word: str, known: Iterable[str], what: str) -> str:
    """Returns the value of `word` in a dict, or `word` itself if it is in a list; raises UserError otherwise."""
    options = known if isinstance(known, dict) else {item: item for item in known}
    if word not in options:
        raise UserError(f'"{word}" is not a {what}: expected one of {", ".join(options)}.{nearest(word, options)}')
    found: str = options[word]
    return found
