"""Base configs at the project's usual settings: what the runs of a preset share before an experiment adds its own.

Two families. The runs of the scaling recipe are tested with the weights that are best on `val`; data_scaling trains
them, and attention_distance, position_embedding, vit_head, compute_accuracy and transfer name the same ones, so that
they are trained once. The runs of a study, whose names begin with `LAST`, are tested with their last weights: nothing
is chosen on `val` while they train.
"""

from __future__ import annotations

from dataclasses import replace

from vision_repro.config import RunConfig

# --- the scaling recipe ---

DIGITS = RunConfig(
    dataset="digits", image_size=8, model="vit-64x4/2", train_size=1200, steps=200, global_batch=32, evaluations=5
)
"""All 1,200 training digits, offline, on two cores."""

CIFAR = RunConfig(
    dataset="cifar10",
    image_size=32,
    model="vit-64x4/4",
    train_size=49_000,
    steps=800,
    global_batch=64,
    evaluations=8,
    augmentation="crop-flip",
)
"""All 49,000 training images of CIFAR-10, about one epoch, on two cores."""

CIFAR_GPU = replace(CIFAR, model="vit-128x4/4", steps=8000, global_batch=256, evaluations=20)
"""The same data, 42 epochs, on one GPU."""

IMAGENET21K = replace(
    CIFAR,
    dataset="imagenet21k",
    image_size=224,
    model="vit-b/16",
    train_size=14_000_000,
    budget="epochs",
    epochs=7.0,
    global_batch=4096,
    evaluations=20,
    augmentation="inception",
)
"""The paper's scale: 7 epochs in batches of 4096 (ViT, section 4.1 and Table 3), on class folders."""

# --- studies ---

LAST_DIGITS = RunConfig(dataset="digits", image_size=8, global_batch=64, evaluations=2, select="last", shots="")
"""All 1,200 training digits; steps and learning rate are the study's own."""

LAST_CIFAR = replace(LAST_DIGITS, dataset="cifar10", image_size=32, train_size=49_000, augmentation="crop-flip")
"""All 49,000 training images of CIFAR-10; steps and learning rate are the study's own."""
