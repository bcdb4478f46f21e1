"""Loads weights into a model: timm's, the authors' files, and those of another run.

A source is `timm` (the pretrained weights of a model `timm:...`), `timm:<model>.<tag>` (the same weights in one of our
architectures whose parts have timm's names, such as `vit-b/16` and `bit-r50x1`), or a file (`files.py`).

In a transfer the whole head is dropped, including the hidden layer of pre-training, and replaced by a linear layer of
zeros (ViT, sections 3.2 and B.1.1; BiT, section 3.3). Position embeddings are interpolated (`resolution.py`).
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn

from vision_repro.models.layers.head import with_head, zero_head
from vision_repro.models.weights import files, hub, npz
from vision_repro.models.weights.files import check_shapes
from vision_repro.models.weights.resolution import to_resolution


class Loaded(NamedTuple):
    """The weights that were put into a model, for the provenance of a run."""

    source: str
    """The path of the file, or `timm:` and timm's name for the weights."""
    sha256: str
    """Hash of the file's content."""
    licence: str | None
    """As timm states it, or None."""
    head: bool
    """Whether the final layer was loaded too; if not, it is zero."""
    resized: bool
    """Whether position embeddings were interpolated."""


class _Found(NamedTuple):
    state: dict[str, Tensor]
    file: Path
    source: str
    licence: str | None


def load(model: nn.Module, name: str, source: str, *, image_size: int, keep_head: bool = False) -> Loaded:
    """Puts the weights of `source` into `model`, which was built as `name` for images of `image_size` [pixels].

    With `keep_head` the final layer, a hidden layer before it and auxiliary classifiers are loaded too if they have the
    model's shapes. Otherwise they are dropped: the final layer becomes zero, and the others keep the weights that were
    drawn. After an error the model is unchanged. Nothing is downloaded: see `fetch`.

    Raises:
        UserError: if the source is unknown, missing, damaged or unsafe, or belongs to another architecture.
    """
    found = _find(model, name, source, image_size)
    state, kept = with_head(found.state, model, keep_head)
    fitted = to_resolution(state, model, found.source)
    check_shapes(fitted, model.state_dict(), f"{found.source} is not a {name}")
    model.load_state_dict(fitted)
    if not kept:
        zero_head(model)
    with found.file.open("rb") as stream:
        digest = hashlib.file_digest(stream, "sha256").hexdigest()
    resized = any(fitted[key].shape != state[key].shape for key in fitted)
    return Loaded(found.source, digest, found.licence, kept, resized)


def fetch(name: str, source: str) -> None:
    """Makes sure that `load` will find the weights of a model `name`: downloads timm's, checks that a file exists.

    Call it once, before any process trains.

    Raises:
        UserError: if they are missing and cannot be downloaded, with the place to get them.
    """
    if _is_timm(source):
        hub.fetch(hub.resolve(name, source))
    else:
        files.existing(source)


def _is_timm(source: str) -> bool:
    return source == "timm" or source.startswith("timm:")


def _find(model: nn.Module, name: str, source: str, image_size: int) -> _Found:
    """Returns a state dict with the names of the model, and with the head and the image size of its own training."""
    if _is_timm(source):
        tag = hub.resolve(name, source)
        file = hub.find(tag)
        with torch.random.fork_rng(devices=[]):  # timm draws weights before it reads the file
            state = hub.read(tag, file, model, name, image_size)
        return _Found(state, file, f"timm:{tag}", hub.licence(tag))
    file = files.existing(source).resolve()
    if file.suffix == ".npz":
        state = npz.convert(files.read_arrays(file), model, f"{file} is not a {name}")
    else:
        state = files.read_tensors(file)
    return _Found(state, file, str(file), None)
