"""Attention distance: how far do the heads of a ViT look, layer by layer, and does a ResNet before it change that?

paper     An Image is Worth 16x16 Words (ViT, arXiv 2010.11929v2), sections 4.5 and D.7, Figures 7 (right) and 11
question  Mean distance [pixels] between a query patch and the patches it attends to, by head and layer, for trained
          ViTs and hybrids; 128 images.
command   make exp-attention-distance [PRESET=cpu|cifar|imagenette|gpu|paper] [SEEDS=5] [DEVICES=1]
          Weights that exist already are measured without training, on Imagenette at 224 pixels unless told otherwise:
          make exp-attention-distance MODEL=timm:vit_base_patch16_224.augreg_in21k
          make exp-attention-distance MODEL=vit-b/16 ARGS="--weights=B_16.npz"
          make exp-attention-distance ARGS="--weights=outputs/runs/0123456789ab"
cost      smoke seconds; cpu about 2 minutes, cifar minutes after data_scaling, else about 20, and imagenette about 10
          minutes on two cores; gpu about half an hour on one GPU; paper minutes: the released weights are measured
shared    The ViTs at `cpu`, `cifar` and `gpu`, with all training images, are runs of data_scaling: trained once.
expected  The paper: already in the lowest layer some heads look at most of the image, while others stay local; the
          distance grows with depth; local heads are less pronounced in hybrids.

Deviation: at the small presets, small ViTs and hybrids on small images, over several seeds; the paper shows one L/16
    and hybrids at 224 pixels. Distances are also told as a fraction of what uniform attention gives, 116.49 pixels in
    the paper's case.
Deviation: `cifar` has no hybrid, as data_scaling has none there; the hybrid of `cpu` and `gpu` is the larger ViT behind
    two blocks of a ResNet, which data_scaling does not train.
Deviation: the paper says no numbers; here `most of the image` is 0.8 of the distance of uniform attention, and `local`
    at most 0.5 of it.
Deviation: the first 128 images of `test`; the paper does not say which it took.
Learning rates are those that data_scaling searched, or their family's: no accuracy is compared.
Before training, attention is nearly uniform: that a head looks at most of the image says something only where another
one has become local.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from vision_repro.analysis.claims import UNTESTED, Claim, Evidence, Judgement, Verdict
from vision_repro.analysis.judges.attention import deeper, heads_by_seed, less_local, reaches, stays
from vision_repro.analysis.table import Table
from vision_repro.cli import main
from vision_repro.config import UserError
from vision_repro.experiment import Experiment, Preset
from vision_repro.presets import bases, captions, scales
from vision_repro.presets.given import given_weights
from vision_repro.presets.patches import counterpart, is_hybrid, uniform
from vision_repro.presets.rates import fill_searched, learning_rate

SOURCE = "ViT, section 4.5, Figure 7"
GLOBAL, LOCAL = 0.8, 0.5
"""Fractions of the distance of uniform attention: a head beyond the first looks at most of the image, one within the
second is local."""
_PROBES: dict[str, Any] = {"shots": "", "probes": "attention_distance"}
_IMAGENETTE = replace(
    bases.CIFAR, dataset="imagenette", image_size=64, train_size=2000, evaluations=4, augmentation="inception"
)
_GIVEN = replace(
    bases.DIGITS, **_PROBES, dataset="imagenette", image_size=224, train_size=100, budget="none", weights="timm"
)
_RELEASED = (
    "timm:vit_large_patch16_224.augreg_in21k",
    "timm:vit_base_patch16_224.augreg_in21k",
    "timm:vit_base_r50_s16_224.orig_in21k",
)

PRESETS = {
    "smoke": scales.smoke(
        replace(bases.DIGITS, **_PROBES), {"model": ("vit-32x4/2", "r8x0.25+vit-32x4/2")}
    ),
    "cpu": scales.cpu(
        replace(bases.DIGITS, **_PROBES), {"model": ("vit-32x4/2", "vit-64x4/2", "r8x0.25+vit-64x4/2")},
        "about 2 minutes",
    ),
    "cifar": scales.real(
        replace(bases.CIFAR, **_PROBES), {"model": ("vit-64x4/4", "vit-128x4/4")},
        "minutes after data_scaling, which trains its runs, else about 20 minutes",
    ),
    "imagenette": scales.real(
        replace(_IMAGENETTE, **_PROBES), {"model": ("vit-64x6/8", "r8x0.25/4+vit-64x6/8")}, "about 10 minutes",
        data="Imagenette at 64 pixels",
    ),
    "gpu": scales.gpu(
        replace(bases.CIFAR_GPU, **_PROBES), {"model": ("vit-64x4/4", "vit-128x4/4", "r8x0.25/2+vit-128x4/4")},
        "about half an hour", seeds=3, data="CIFAR-10",
    ),
    "given": Preset(
        _GIVEN, {"model": _RELEASED[1:2]}, 1,
        "about a minute on two cores; weights that exist, such as timm's, and Imagenette",
    ),
    "paper": Preset(
        replace(_GIVEN, dataset="imagenet", train_size=1000), {"model": _RELEASED}, 1,
        "minutes; timm's copies of the released weights, and ImageNet",
    ),
}  # fmt: skip


def _low(evidence: Evidence, model: str, far: float | None, wide: bool) -> Judgement:
    head = "widest" if wide else "narrowest"
    subject = f"{head} head of layer 0 of {model}"
    if far is None:
        return Judgement(UNTESTED, subject, None, "the name of the model tells no grid of patches")
    setting = {"model": model}
    if wide:
        return reaches(evidence, setting, uniform=far, least=GLOBAL, subject=subject)
    return stays(evidence, setting, uniform=far, most=LOCAL, subject=subject)


def _fewer(evidence: Evidence, hybrid: str, vit: str, far: tuple[float, float]) -> Judgement:
    subject = f"narrowest head of layer 0, {hybrid} minus {vit}"
    return less_local(evidence, {"model": hybrid}, {"model": vit}, uniform=far, subject=subject)


def claims(name: str, preset: Preset) -> list[Claim]:
    """Returns the paper's claims for each ViT of the preset, and for each hybrid beside its ViT."""
    models, size = [str(model) for model in preset.axes["model"]], preset.shared.image_size
    found = []
    for model in (item for item in models if not is_hybrid(item)):
        found += [
            Claim(
                f"global-at-the-bottom:{model}",
                f"In the lowest layer of {model} a head looks at most of the image",
                SOURCE,
                partial(_low, model=model, far=uniform(model, size), wide=True),
            ),
            Claim(
                f"local-at-the-bottom:{model}",
                f"In the lowest layer of {model} another head stays local",
                SOURCE,
                partial(_low, model=model, far=uniform(model, size), wide=False),
            ),
            Claim(
                f"grows-with-depth:{model}",
                f"The attention distance of {model} grows with depth",
                SOURCE,
                partial(deeper, setting={"model": model}, subject=f"slope of {model} over layers"),
            ),
        ]
    for hybrid in filter(is_hybrid, models):
        for vit in (item for item in models if item.partition(".")[0] == counterpart(hybrid)):
            both = uniform(hybrid, size), uniform(vit, size)
            if both[0] is not None and both[1] is not None:
                found.append(
                    Claim(
                        f"less-local-in-hybrids:{hybrid}",
                        f"In the lowest layer, the most local head of {hybrid} is less local than that of {vit}",
                        SOURCE,
                        partial(_fewer, hybrid=hybrid, vit=vit, far=(both[0], both[1])),
                    )
                )
    return found


def figure(table: Table, verdicts: Sequence[Verdict], name: str, preset: Preset) -> Any:
    """Returns the distances of all heads by layer, a panel a model, as the paper's Figures 7 and 11 show them."""
    from vision_repro.figures.attention import Panel, attention_figure

    base, evidence = preset.shared, Evidence(table, name, preset.evidence)
    models = captions.models(preset)
    searched = ", ".join(f"{learning_rate(base.dataset, model):g}" for model in models) + " (those of data_scaling)"
    rate = searched if base.lr is None else f"{base.lr:g} (untuned)"
    panels = [
        Panel(model, heads_by_seed(evidence, {"model": model}), uniform(model, base.image_size)) for model in models
    ]
    trained = (
        "weights as given, nothing trained"
        if base.budget == "none"
        else f"{base.steps} steps of {base.global_batch} images, best weights on val, peak lr {rate}"
    )
    notes = (
        f"first 128 test images of {base.dataset} at {base.image_size} pixels, preset {name}; {trained}",
        "the paper (Figure 7, right: L/16 at 224 pixels, 24 layers of 16 heads, 128 images): some heads of the lowest "
        "layers look at most of the image, others stay local, fewer of them in hybrids (Figure 11), and all look far "
        "in the upper layers; uniform attention there is 116.5 pixels",
    )
    return attention_figure(panels, verdicts, notes=notes)


EXPERIMENT = Experiment(
    name="attention_distance",
    question="How far do the heads of a ViT look, layer by layer? (ViT, section 4.5, Figures 7 and 11)",
    presets=PRESETS,
    settings=("model",),
    claims=claims,
    figure=figure,
    fill_defaults=fill_searched,
    shows_seeds=True,
)

if __name__ == "__main__":
    try:
        arguments = given_weights(sys.argv[1:])
    except UserError as error:
        print(f"attention_distance: {error}", file=sys.stderr)
        sys.exit(2)
    sys.exit(main(EXPERIMENT, arguments))
