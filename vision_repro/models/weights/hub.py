"""timm's pretrained weights: finds, downloads and reads them.

Only `fetch` downloads. It is called before training, so that no training process waits for a network.
"""

from __future__ import annotations

import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import timm
import torch
from huggingface_hub import constants, hf_hub_download, try_to_load_from_cache
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from vision_repro import models
from vision_repro.config import UserError
from vision_repro.models import timm_model
from vision_repro.models.layers.head import with_head
from vision_repro.models.weights.files import DAMAGE, check_shapes, damaged

FILES = ("model.safetensors", "pytorch_model.bin")
"""Names of weight files on the Hugging Face hub, in timm's order of preference."""


def resolve(name: str, source: str) -> str:
    """Returns timm's full `<model>.<tag>` for a source: `timm`, of a model `timm:...`, or `timm:<model>.<tag>`.

    Raises:
        UserError: if `source` does not decide which weights, or timm has no weights of this name.
    """
    wanted = source if source.startswith("timm:") else name
    if not wanted.startswith("timm:"):
        raise UserError(f'Weights "timm" of {name} could be several: expected "timm:<model>.<tag>".')
    tag = wanted.removeprefix("timm:")
    timm_model.check_tag(tag)
    config = timm.get_pretrained_cfg(tag)
    if not config.has_weights:
        raise UserError(f'timm has no pretrained weights of "{tag}": see timm.list_pretrained().')
    return f"{config.architecture}.{config.tag}" if config.tag else str(config.architecture)


def licence(tag: str) -> str | None:
    """Returns the licence of timm's weights `tag`, as timm states it."""
    stated: str | None = timm.get_pretrained_cfg(tag).license
    return stated


def _places(tag: str) -> tuple[str, str | None, tuple[str, ...]]:
    """Returns the repository, the revision and the possible file names of timm's weights on the Hugging Face hub.

    Raises:
        UserError: if they are not on the hub.
    """
    config = timm.get_pretrained_cfg(tag)
    if not config.hf_hub_id:
        raise UserError(f"Weights timm:{tag} are not on the hub: download {config.url} and give that file.")
    repository, _, revision = config.hf_hub_id.partition("@")
    return repository, revision or None, (config.hf_hub_filename,) if config.hf_hub_filename else FILES


def find(tag: str) -> Path:
    """Returns the file of timm's weights `tag` in the Hugging Face cache of this machine.

    Raises:
        UserError: if it is not there, with the command that downloads it and the folder for it.
    """
    repository, revision, files = _places(tag)
    for file in files:
        found = try_to_load_from_cache(repository, file, cache_dir=constants.HF_HUB_CACHE, revision=revision)
        if isinstance(found, str):
            return Path(found)
    raise UserError(
        f"Weights timm:{tag} are not in {constants.HF_HUB_CACHE}: where there is network, "
        f"run `hf download {repository} {files[0]}`, and copy that folder here if this machine has none."
    )


def fetch(tag: str) -> Path:
    """Returns the file of timm's weights `tag`; downloads it into the Hugging Face cache if it is not there.

    Raises:
        UserError: if the hub cannot be reached or refuses the file.
    """
    repository, revision, files = _places(tag)
    try:
        return find(tag)
    except UserError as error:
        if not _reachable(constants.ENDPOINT):  # asked first, as the hub's client retries for most of a minute
            raise UserError(f"{constants.ENDPOINT} cannot be reached. {error}") from None
    for file in files:
        try:
            return Path(hf_hub_download(repository, file, revision=revision, cache_dir=constants.HF_HUB_CACHE))
        except OSError as error:
            why = " ".join(str(error).split())[:200]
    raise UserError(f"Weights timm:{tag} were not fetched from {constants.ENDPOINT}/{repository}: {why}")


def _reachable(url: str) -> bool:
    try:
        urllib.request.urlopen(urllib.request.Request(url, method="HEAD"), timeout=10).close()
    except urllib.error.HTTPError:
        return True  # an error status is an answer too
    except OSError:
        return False
    return True


def read(tag: str, file: Path, model: nn.Module, name: str, image_size: int) -> dict[str, Tensor]:
    """Returns the state dict of timm's weights `tag` in `file`, with timm's names and their own head.

    For a ViT or a hybrid it has the image size of its training, for `resolution.to_resolution`. For other models of a
    fixed image size timm interpolates it to `image_size`.

    Raises:
        UserError: if the file is damaged, or `name` computes other features with these weights than timm's model.
    """
    native = isinstance(model, VisionTransformer)
    options: dict[str, Any] = {} if native else timm_model.settings(tag, image_size)
    try:
        donor = timm.create_model(tag, pretrained=True, pretrained_cfg_overlay={"file": str(file)}, **options).eval()
    except DAMAGE as error:
        raise damaged(file, error) from error
    if name.removeprefix("timm:").partition(".")[0] != tag.partition(".")[0]:
        _check_features(donor, name, tag)
    state: dict[str, Tensor] = donor.state_dict()
    return state


@torch.no_grad()
def _check_features(donor: Any, name: str, tag: str) -> None:
    """Checks that the architecture `name` with the donor's weights computes the donor's features.

    Weights of equal shapes can belong to another model: shapes do not show the number of heads, the activation or the
    place of a norm.

    Raises:
        UserError: if it does not.
    """
    size = timm.get_pretrained_cfg(tag).input_size[-1]
    twin = models.build(name, image_size=size, classes=1).eval()
    state, _ = with_head(donor.state_dict(), twin, keep=False)
    check_shapes(state, twin.state_dict(), f"timm:{tag} is not a {name}")
    twin.load_state_dict(state)
    if hasattr(twin, "pre_logits"):
        twin.pre_logits = nn.Identity()
    images = torch.randn(1, 3, size, size, generator=torch.Generator().manual_seed(0))
    theirs, ours = models.features(donor, images), models.features(twin, images)
    if not torch.allclose(ours, theirs, rtol=1e-3, atol=1e-3 * float(theirs.std())):
        raise UserError(f"timm:{tag} is not a {name}: with the same weights timm's computes other features.")
