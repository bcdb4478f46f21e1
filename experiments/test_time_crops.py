"""How much do ten crops of a test image gain over one, and fifty over ten, for ten and fifty times the work?

paper     AlexNet (NIPS 2012), section 4.1 and footnote 5; GoogLeNet (arXiv 1409.4842), section 7, Table 3; ResNet
          (arXiv 1512.03385), section 3.4; lecture slides on CNNs: five scales x ten crops
question  Test accuracy of the same weights with one view of an image, with 10 crops (four corners and the centre, and
          their mirror images), and with 10 crops at each of 5 scales; the outputs of the softmax are averaged.
command   make exp-test-time-crops [PRESET=cpu|cifar|imagenette|gpu|paper] [SEEDS=5] [DEVICES=1]
cost      smoke seconds; cpu about 3 minutes, cifar about 6 and imagenette about 40 minutes on two cores; gpu about an
          hour on one GPU; paper several hundred GPU-hours (`ARGS=--dry-run`)
expected  The papers: ten crops take 1.5 points off AlexNet's top-1 error (39.0 to 37.5 %) and 0.9 off GoogLeNet's top-5
          error; 144 crops take off 1.3 more, so the later crops gain less each.

A model is trained once for a seed and measured with each of the views: the start `trained` is that training, which is
no row of the table. Its options are those of the runs, so that --steps and --lr change the training. A test image costs
its FLOPs in the forward pass times the number of views, exactly: every view is a whole pass.

Deviation: at `cpu` and `cifar` the images are so small that a crop has nearly all of their pixels: 14 of 16 (8,
    enlarged) and 28 of 32, as AlexNet's 224 of 256; larger scales enlarge them. `imagenette` and `gpu` have images
    larger than the crop, which is what the method is for. There one view is the central crop, elsewhere all of the
    image.
Deviation: training sees random boxes of 5 to 100 % of the area, mirrored or not (`inception`), where images lie in
    memory: crops at larger scales are unlike anything that was trained on otherwise. `imagenette`, `gpu` and `paper`
    train on random crops at random scales, as in VGG and on the slides. Digits are mirrored too, although that makes
    other signs of them, because half of the ten crops are mirrored.
Deviation: ResNet reads whole images at each scale and averages over the map; here it is ten crops, as on the slides.
Deviation: small networks, AdamW, one learning rate.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from vision_repro.analysis.claims import Claim, Evidence, Judgement, Verdict
from vision_repro.analysis.intervals import differences
from vision_repro.analysis.judges.comparisons import compare
from vision_repro.analysis.judges.estimates import greater
from vision_repro.analysis.summary import SummaryRow
from vision_repro.cli import main
from vision_repro.config import RunConfig
from vision_repro.experiment import Experiment, Preset
from vision_repro.papers.tables import paper_table
from vision_repro.presets import bases, captions, scales
from vision_repro.presets.stages import trained

ALEXNET = "AlexNet, section 4.1"
SLIDES = "lecture slides on CNNs; ResNet, section 3.4"
GOOGLENET = "GoogLeNet, section 7, Table 3"
TRAINED = "trained"
"""The start of all runs: the training of the same model and seed."""
COUNTS = {"crop": 1, "ten": 10, "fifty": 50}
"""Views of a test image, and so the passes that it costs."""

_TRAINED: dict[str, Any] = {"budget": "none", "pretraining": TRAINED, "augmentation": "inception"}
_DIGITS = replace(bases.LAST_DIGITS, **_TRAINED, image_size=14, steps=600, lr=3e-3)
_CIFAR = replace(bases.LAST_CIFAR, **_TRAINED, image_size=28, steps=700, lr=3e-3)
_IMAGENETTE = replace(
    _DIGITS, dataset="imagenette", image_size=64, train_size=2970, steps=1000, lr=1e-3, augmentation="vgg"
)


def _axes(*models: str) -> dict[str, tuple[Any, ...]]:
    return {"model": models, "views": tuple(COUNTS)}


PRESETS = {
    "smoke": scales.smoke(_DIGITS, _axes("resnet8x0.5", "vit-32x2/2"), global_batch=8, image_size=8),
    "cpu": scales.cpu(_DIGITS, _axes("resnet8", "vit-32x4/2"), "about 3 minutes"),
    "cifar": scales.real(_CIFAR, _axes("resnet8x0.5", "vit-64x3/7"), "about 6 minutes"),
    "imagenette": scales.real(
        _IMAGENETTE, _axes("resnet18x0.25", "vit-128x4/8"), "about 40 minutes", data="Imagenette, or a part of it"
    ),
    "gpu": scales.gpu(
        replace(
            _IMAGENETTE, dataset="imagenette-320", image_size=112, train_size=9374, steps=4000, global_batch=128,
            evaluations=5,
        ),
        _axes("resnet18", "vit-192x8/16"), data="Imagenette at 320 pixels",
    ),
    "paper": scales.paper(
        replace(
            _IMAGENETTE, dataset="imagenet", image_size=224, train_size=1_268_355, steps=450_000, global_batch=256,
            evaluations=20,
        ),
        _axes("alexnet", "googlenet", "resnet50", "vit-b/16"), "several hundred", "ImageNet", seeds=3,
    ),
}  # fmt: skip


def pretraining(name: str, config: RunConfig) -> RunConfig | None:
    """Returns the training whose weights are measured: of the model and seed, the same for all views."""
    return trained(config) if config.pretraining == TRAINED else None


def _more(evidence: Evidence, model: str, first: str, second: str) -> Judgement:
    """Judges that the view `first` is more accurate than `second`, with the same weights."""
    subject = f"{model}: {COUNTS[first]} views minus {COUNTS[second]}"
    return compare(evidence, {"model": model, "views": first}, {"model": model, "views": second}, subject=subject)


def _fading(evidence: Evidence, model: str) -> Judgement:
    """Judges that a view among the first ten gains more than one of those from ten to fifty."""
    one, ten, fifty = (evidence.values("test_accuracy", model=model, views=views) for views in COUNTS)
    early, late = differences(ten, one), differences(fifty, ten)
    share = (COUNTS["ten"] - COUNTS["crop"]) / (COUNTS["fifty"] - COUNTS["ten"])
    found = differences(early, {seed: share * gain for seed, gain in late.items()})
    subject = f"{model}: gain of 9 views after the first minus that of 9 of the 40 after the tenth"
    lost = sum(evidence.diverged(model=model, views=views) for views in COUNTS)
    return greater(evidence, found, subject=subject, diverged=lost)


def claims(name: str, preset: Preset) -> list[Claim]:
    """Returns for each model: ten better than one, fifty better than ten, and later views gain less."""
    there = {str(views) for views in preset.axes["views"]}
    found: list[Claim] = []
    for model in map(str, preset.axes["model"]):
        more, fading = partial(_more, model=model), partial(_fading, model=model)
        if {"ten", "crop"} <= there:
            judge, theirs = partial(more, first="ten", second="crop"), "+1.5 points, top-1 of AlexNet"
            statement = f"Ten crops are more accurate than one view ({model})"
            found.append(Claim(f"ten-better-than-one:{model}", statement, ALEXNET, judge, theirs))
        if {"fifty", "ten"} <= there:
            judge = partial(more, first="fifty", second="ten")
            statement = f"Ten crops at five scales are more accurate than at one ({model})"
            found.append(Claim(f"fifty-better-than-ten:{model}", statement, SLIDES, judge))
        if set(COUNTS) <= there:
            theirs = "+0.84 points, top-5 of GoogLeNet: 0.92 of 9 crops, 1.26 of 134"
            statement = f"A view gains less from 10 to 50 than from 1 to 10 ({model})"
            found.append(Claim(f"later-views-gain-less:{model}", statement, GOOGLENET, fading, theirs))
    return found


def printed() -> dict[str, dict[int, float]]:
    """Returns the accuracies that papers print, as fractions, by model and metric, then by number of crops."""
    found: dict[str, dict[int, float]] = {}
    for row in paper_table("test_time_crops"):
        series = found.setdefault(f"{row['model']}, {row['metric']}", {})
        series[int(row["crops"])] = 1 - float(row["error_percent"]) / 100
    return found


def flops_by_views(config: RunConfig, classes: int) -> dict[str, int]:
    """Returns the FLOPs of one test image by views: those of a forward pass, by the accountant, for each view."""
    from vision_repro.tasks.forward_flops import forward_flops

    one = forward_flops(config, classes)
    return {views: count * one for views, count in COUNTS.items()}


def figure(rows: Sequence[SummaryRow], verdicts: Sequence[Verdict], name: str, preset: Preset) -> Any:
    """Returns accuracy over the number of views and over the FLOPs of a test image, beside what papers print."""
    from vision_repro.datasets import describe
    from vision_repro.figures.series import Point, Series, one, paper
    from vision_repro.figures.study import Curves, study_figure

    base, models = preset.shared, captions.models(preset)
    classes = describe(base.dataset).classes or 10
    counted, priced = [], []
    for model in models:
        flops = flops_by_views(replace(base, model=model), classes)
        found = {views: one(rows, "test_accuracy", {"model": model, "views": views}) for views in COUNTS}
        kept = {views: row.interval for views, row in found.items() if row is not None}
        counted.append(Series(model, tuple(Point(COUNTS[views], kept[views]) for views in kept)))
        priced.append(Series(model, tuple(Point(flops[views], kept[views]) for views in kept)))
    theirs = [
        replace(paper(label, {float(count): value for count, value in values.items()}), look=None)
        for label, values in printed().items()
        if not label.startswith(("ResNet-101", "ResNet-152"))  # they lie on ResNet-50's line
    ]
    panels = [
        Curves("Test accuracy [%]", counted, "views of a test image", xlog=True),
        Curves("The same over its cost [%]", priced, "FLOPs of a test image", xlog=True),
        Curves("Papers, ImageNet [%]", theirs, "views of a test image", xlog=True),
    ]
    notes = (
        f"preset {name}: {base.dataset}, {base.train_size} training images, {base.steps} steps of {base.global_batch} "
        f"images with augmentation {base.augmentation}, {base.image_size} pixels; the same weights with all views",
        "papers: single networks; top-1 and top-5 accuracy are 1 minus the printed errors",
    )
    return study_figure(rows, verdicts, panels=panels, preset=name, notes=notes)


EXPERIMENT = Experiment(
    name="test_time_crops",
    question="What do ten crops of a test image gain over one, and fifty over ten? (AlexNet, section 4.1)",
    presets=PRESETS,
    settings=("model", "views"),
    claims=claims,
    figure=figure,
    pretraining=pretraining,
)

if __name__ == "__main__":
    sys.exit(main(EXPERIMENT))
