"""Reads weight files of others. A damaged file is refused, and pickled objects are never loaded.

`.npz` files are the authors', `.safetensors` are from timm and others, and `.ckpt`, `.pth`, `.pt` and `.bin` are
torch's, with a state dict alone or under the key `state_dict` or `model`.
"""

from __future__ import annotations

import pickle
import warnings
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import safetensors
import safetensors.torch
import torch
from torch import Tensor

from vision_repro.config import UserError, nearest

TORCH = (".ckpt", ".pth", ".pt", ".bin")
EXTENSIONS = (".npz", ".safetensors", *TORCH)
DAMAGE = (OSError, EOFError, ValueError, KeyError, RuntimeError, pickle.UnpicklingError, zipfile.BadZipFile,
           zlib.error, safetensors.SafetensorError)  # fmt: skip
"""Errors that the readers of numpy, safetensors and torch raise for a file that is cut off or altered."""


def existing(source: str) -> Path:
    """Returns the path of a weight file.

    Raises:
        UserError: if it is missing, is a folder, or has an extension that is not read here.
    """
    file, known = Path(source).expanduser(), ", ".join(EXTENSIONS)
    if file.is_dir():
        raise UserError(f'"{file}" is a folder: expected a weight file ({known}), such as the weights.ckpt of a run.')
    if not file.exists():
        beside = [item.name for item in file.parent.iterdir()] if file.parent.is_dir() else []
        raise UserError(f'There is no weight file "{file}": expected timm or a file.{nearest(file.name, beside)}')
    if file.suffix not in EXTENSIONS:
        raise UserError(f'"{file}" has the extension "{file.suffix}": expected one of {known}.')
    return file


def damaged(file: Path, error: Exception) -> UserError:
    """Returns the error to raise for a file that a reader refused with `error`."""
    why = " ".join(str(error).split())[:120]
    return UserError(
        f'"{file}" cannot be read as {file.suffix} ({type(error).__name__}: {why}): '
        "it is cut off, altered, or something else; fetch or copy it again."
    )


def _unsafe(file: Path) -> UserError:
    return UserError(f'"{file}" holds pickled objects, which could run code, and is not read: expected arrays alone.')


def read_arrays(file: Path) -> dict[str, np.ndarray[Any, Any]]:
    """Returns the arrays of a `.npz` file.

    Raises:
        UserError: if it is damaged or holds pickled objects.
    """
    try:
        with zipfile.ZipFile(file) as archive:
            members = archive.namelist()
        with np.load(file, allow_pickle=False) as arrays:
            found = {name.removesuffix(".npy"): arrays[name] for name in members}
        if not all(isinstance(item, np.ndarray) for item in found.values()):
            raise ValueError("it holds other things than arrays")
        return found
    except DAMAGE as error:
        raise _unsafe(file) if "allow_pickle" in str(error) else damaged(file, error) from error


def read_tensors(file: Path) -> dict[str, Tensor]:
    """Returns the state dict of a `.safetensors` file or of a file of torch, without the prefixes of wrappers.

    Raises:
        UserError: if it is damaged, holds pickled objects, or holds no state dict.
    """
    try:
        content = safetensors.torch.load_file(file) if file.suffix == ".safetensors" else _torch(file)
    except pickle.UnpicklingError as error:
        raise _unsafe(file) if "global" in str(error).lower() else damaged(file, error) from error
    except Exception as error:  # for an altered file torch's unpickler raises errors of any type
        raise damaged(file, error) from error
    for key in ("state_dict", "model"):
        if isinstance(content, Mapping) and isinstance(content.get(key), Mapping):
            content = content[key]
    if not isinstance(content, Mapping) or not content or not all(isinstance(i, Tensor) for i in content.values()):
        raise UserError(f'"{file}" holds no state dict: expected tensors by name, also under "state_dict" or "model".')
    return _unwrapped(dict(content))


def _torch(file: Path) -> Any:
    if zipfile.is_zipfile(file):
        with zipfile.ZipFile(file) as archive:
            altered = archive.testzip()  # torch does not check the checksums
        if altered is not None:
            raise zipfile.BadZipFile(f"{altered} does not match its checksum")
    with warnings.catch_warnings(action="ignore"):  # of pickles that torch then refuses
        return torch.load(file, map_location="cpu", weights_only=True)


def _unwrapped(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Returns the state dict without the prefixes that torch.compile, DDP and a task add to every name."""
    for prefix in ("_orig_mod.", "module.", "model."):
        if all(key.startswith(prefix) for key in state):
            return _unwrapped({key.removeprefix(prefix): value for key, value in state.items()})
    return state


def check_shapes(state: Mapping[str, Tensor], wanted: Mapping[str, Tensor], source: str) -> None:
    """Compares the shapes of a state dict with the wanted ones.

    Raises:
        UserError: naming the first tensor of another shape, the first missing, or the first that is not wanted.
    """
    for key in wanted:
        if key in state and state[key].shape != wanted[key].shape:
            shapes = f"{list(state[key].shape)}, expected {list(wanted[key].shape)}"
            raise UserError(f'{source}: its "{key}" has shape {shapes}.')
    for key in wanted:
        if key not in state:
            raise UserError(f'{source}: it lacks "{key}".')
    for key in state:
        if key not in wanted:
            raise UserError(f'{source}: its "{key}" has no place in it.')
