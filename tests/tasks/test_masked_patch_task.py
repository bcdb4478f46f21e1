"""Masked patch prediction: what it sees, what its loss counts, and that it learns from real images."""

import io
import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from vision_repro import models
from vision_repro.augmentation.augment import training_batch
from vision_repro.augmentation.batch import Batch
from vision_repro.augmentation.normalisation import statistics
from vision_repro.config import UserError
from vision_repro.tasks.masked_autoencoder import MaskedAutoencoder
from vision_repro.tasks.masked_patch import MaskedPatchPrediction
from vision_repro.tasks.masking import MASKED, TRAIN
from vision_repro.tasks.patch_targets import KINDS, colour_classes, entropy
from vision_repro.tasks.task import decay_groups

SETTINGS: dict[str, Any] = {"lr": 1e-3, "weight_decay": 0.1, "steps": 10}


def task(model: str = "vit-32x2/2", size: int = 8, **settings: Any) -> MaskedPatchPrediction:
    torch.manual_seed(0)
    found = MaskedPatchPrediction(models.build(model, image_size=size, classes=10), **SETTINGS | settings)
    torch.nn.init.normal_(found.predictor.weight, std=0.1)  # it starts at zero, where nothing makes a difference
    return found


def autoencoder(model: str, size: int = 8) -> MaskedAutoencoder:
    torch.manual_seed(0)
    return MaskedAutoencoder(models.build(model, image_size=size, classes=10), **SETTINGS)


def some_images(count: int = 4, size: int = 8) -> Tensor:
    return torch.randint(0, 256, (count, 3, size, size), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))


def test_corrupted_embeddings_are_those_of_a_slow_version() -> None:
    found = task()
    embeddings = torch.randn(6, 16, 32)
    drawn = found.draw(0, TRAIN, torch.arange(6))
    corrupted = found.corrupt(embeddings, drawn)
    for image in range(6):
        for patch in range(16):
            source = int(drawn.source[image, patch])
            expected = found.mask_embedding if drawn.masked[image, patch] else embeddings[image, source]
            assert torch.equal(corrupted[image, patch], expected)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("model", ["vit-32x2/2", "vit-32x2/2-gap-posrel-tanh", "vit-32x2/2-pos2d-every"])
def test_the_loss_counts_corrupted_patches_only(kind: str, model: str) -> None:
    found, images = task(model, target=kind), some_images()
    drawn = found.draw(0, TRAIN, torch.arange(4))
    corrupted = torch.zeros(4, 16, dtype=torch.bool).scatter(1, drawn.where, True)
    shift = torch.zeros(4, 16 + found.model.num_prefix_tokens, 1)

    def disturb(module: Any, inputs: Any, tokens: Tensor) -> Tensor:
        return tokens + shift * torch.randn(tokens.shape[-1], generator=torch.Generator().manual_seed(0))

    found.model.norm.register_forward_hook(disturb)
    clean, _ = found.losses(images, drawn)
    shift[:, found.model.num_prefix_tokens :, 0] = ~corrupted
    assert torch.equal(found.losses(images, drawn)[0], clean)
    for image in range(4):
        shift[image, found.model.num_prefix_tokens + drawn.where[image, 0]] = 1
    assert not torch.isclose(found.losses(images, drawn)[0], clean).any()


def test_what_is_masked_cannot_be_seen_and_what_is_kept_can() -> None:
    found, images = task().eval(), some_images(64)
    drawn = found.draw(0, TRAIN, torch.arange(64))
    swapped = drawn.source != torch.arange(16)
    shown = torch.zeros_like(swapped)  # those that stand in the place of another
    shown[swapped.nonzero()[:, 0], drawn.source[swapped]] = True
    hidden = drawn.masked & ~shown
    noise = torch.randint(0, 256, images.shape, dtype=torch.uint8)

    def replaced(places: Tensor) -> Tensor:
        pixels = places.view(64, 1, 4, 4).repeat_interleave(2, 2).repeat_interleave(2, 3)
        return torch.where(pixels, noise, images)

    before = found.predict(images, drawn)
    assert hidden.sum() > 200
    assert torch.equal(found.predict(replaced(hidden), drawn), before)
    kept = torch.zeros_like(hidden).scatter(1, drawn.where, True) & ~drawn.masked & ~swapped
    seen = kept.any(1)
    assert not torch.isclose(found.predict(replaced(kept), drawn)[seen], before[seen]).all((1, 2)).any()
    target = found.losses(replaced(hidden), drawn)[1].targets
    assert not torch.equal(target, found.losses(images, drawn)[1].targets)  # but it is what must be predicted


def test_targets_are_of_augmented_pixels_before_normalisation(monkeypatch: pytest.MonkeyPatch) -> None:
    images = some_images(32)
    batch = Batch(images, torch.zeros(32, dtype=torch.long))
    found = task(augmentation="crop-flip")
    seen: list[Tensor] = []
    losses = found.losses
    monkeypatch.setattr(found, "losses", lambda images, drawn: seen.append(images) or losses(images, drawn))
    torch.manual_seed(5)
    found.training_step(batch, 0)
    torch.manual_seed(5)
    assert torch.equal(seen[0], training_batch(batch, "crop-flip").images)
    assert not torch.equal(seen[0], images)
    drawn = found.draw(0, TRAIN, torch.arange(32))
    other = task(normalise=statistics("imagenet"))
    details = [item.losses(seen[0], drawn)[1] for item in (found, other)]
    assert not torch.equal(details[0].outputs, details[1].outputs)
    assert torch.equal(details[0].targets, details[1].targets)
    assert torch.equal(details[0].targets, colour_classes(seen[0], 2).gather(1, drawn.where[..., None]))


@pytest.mark.parametrize(
    ("model", "kind"),
    [
        *itertools.product(("vit-32x2/2", "vit-32x2/2-gap-tanh", "vit-32x1/2-pos2d"), (*KINDS, "mae")),
        ("vit-32x2/2-posrel", "mean-colour"),
    ],
)
def test_every_parameter_that_is_trained_has_a_gradient(model: str, kind: str) -> None:
    found = autoencoder(model) if kind == "mae" else task(model, target=kind)
    found.training_step(Batch(some_images(), torch.zeros(4, dtype=torch.long)), 0).backward()
    missing = {name for name, item in found.named_parameters() if item.requires_grad and item.grad is None}
    assert missing == set()
    frozen = {name.split(".")[1] for name, item in found.named_parameters() if not item.requires_grad}
    assert frozen == ({"head", "pre_logits"} if "tanh" in model else {"head"})
    decayed = {id(item) for item in decay_groups(found, 0.1)[0]["params"]}
    names = {name for name, item in found.named_parameters() if id(item) in decayed}
    assert not [name for name in names if any(word in name for word in ("mask_", "pos", "cls", "offsets", "bias"))]


def test_a_fresh_prediction_is_uniform_over_the_colours() -> None:
    built = models.build("vit-32x2/2", image_size=8, classes=10)
    fresh = MaskedPatchPrediction(built, corrupted=0.15, **SETTINGS)
    losses, details = fresh.losses(some_images(), fresh.draw(0, TRAIN, torch.arange(4)))
    assert losses.tolist() == pytest.approx([np.log(512)] * 4, rel=1e-5)
    assert details.outputs.shape == (4, 2, 512)


@pytest.mark.parametrize("kind", [*KINDS, "mae"])
def test_pictures_show_what_was_given_and_what_was_predicted(kind: str) -> None:
    found = autoencoder("vit-32x2/4", 16) if kind == "mae" else task("vit-32x2/4", 16, target=kind)
    images = some_images(3, 16)
    found.train()
    shown = found.reconstruct(images, seed=4)
    assert found.training
    assert torch.equal(shown.images, images)
    for part in shown:
        assert (part.dtype, part.shape) == (torch.uint8, images.shape)

    def cut(part: Tensor) -> Tensor:
        return part.view(3, 3, 4, 4, 4, 4).permute(0, 2, 4, 1, 3, 5).reshape(3, 16, 48)

    changed = (cut(shown.predicted) != cut(images)).any(2).sum(1)
    assert changed.tolist() == ([12] * 3 if kind == "mae" else [8] * 3)
    grey = (cut(shown.masked) == 128).all(2)
    assert grey.sum(1).tolist() == (
        [12] * 3 if kind == "mae" else found.draw(4, 2, torch.arange(3)).masked.sum(1).tolist()
    )
    again, other = found.reconstruct(images, seed=4), found.reconstruct(images, seed=5)
    assert torch.equal(again.predicted, shown.predicted)
    assert not torch.equal(other.masked, shown.masked)


@pytest.mark.parametrize(
    ("model", "words"),
    [
        ("resnet8", "the model is a"),
        ("r8x0.25+vit-64x3/2", "does not hide a patch from a hybrid"),
        ("swin-32x2.2/1", "the model is a"),
    ],
)
def test_other_architectures_are_refused(model: str, words: str) -> None:
    built = models.build(model, image_size=8, classes=10)
    with pytest.raises(UserError, match=words):
        MaskedPatchPrediction(built, **SETTINGS)
    with pytest.raises(UserError, match=words):
        MaskedAutoencoder(built, **SETTINGS)


@pytest.fixture(scope="module")
def cifar(real_data: Path) -> Tensor:
    """The first 3000 training images of CIFAR-10."""
    import pyarrow.parquet as pq
    from PIL import Image

    def decoded() -> Iterator[np.ndarray[Any, Any]]:
        file = pq.ParquetFile(next((real_data / "cifar10").glob("train*")))
        for row in next(file.iter_batches(3000, columns=["img"])).to_pylist():
            yield np.asarray(Image.open(io.BytesIO(row["img"]["bytes"])))

    return torch.from_numpy(np.stack(list(decoded()))).permute(0, 3, 1, 2).contiguous()


def test_labels_of_real_images_are_not_constant(cifar: Tensor) -> None:
    """Over 3 bits; binning normalised inputs makes them constant (lucidrains/vit-pytorch#97)."""
    assert entropy(colour_classes(cifar, 4).flatten().bincount(minlength=512)) / np.log(2) > 3
    assert entropy(colour_classes(cifar, 8, 4).flatten().bincount(minlength=512)) / np.log(2) > 3


@pytest.mark.slow
def test_it_learns_more_than_how_frequent_colours_are(cifar: Tensor) -> None:
    """On images it was not trained on, and on the patches it cannot see alone: a tenth is kept, and could be copied."""
    found = task("vit-64x2/4", 32, lr=3e-3, steps=80)
    torch.nn.init.zeros_(found.predictor.weight)
    optimizer = torch.optim.AdamW(decay_groups(found, 0.1), lr=3e-3)
    for step in range(80):
        start = step * 64 % 2560
        batch = Batch(cifar[start : start + 64], torch.zeros(64, dtype=torch.long))
        optimizer.zero_grad()
        found.training_step(batch, step).backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(found.parameters(), 1.0)
        optimizer.step()
    found.eval()
    unseen = cifar[2560:]
    with torch.no_grad():
        drawn = found.draw(0, 1, torch.arange(len(unseen)))
        losses, details = found.losses(unseen, drawn)
        hidden = drawn.masked.gather(1, drawn.where)
        blind = float(found.target.losses(*details)[hidden].mean())
    bound = entropy(details.targets[hidden].flatten().bincount(minlength=512))
    assert abs(float(hidden.double().mean()) - MASKED) < 0.02
    assert blind < bound - 0.3
    assert float(losses.mean()) < bound - 0.3
