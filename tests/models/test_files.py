import io
import os
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
from torch import Tensor

from vision_repro.config import UserError
from vision_repro.models.weights.files import check_shapes, existing, read_arrays, read_tensors

STATE = {"weight": torch.arange(600.0).reshape(20, 30), "bias": torch.ones(20)}


class Pickled:
    """What a file must not make us run."""

    ran = False

    def __reduce__(self) -> Any:
        return (setattr, (Pickled, "ran", True))


def written(folder: Path, name: str) -> Path:
    file = folder / name
    if name.endswith(".npz"):
        np.savez(file, **{key: value.numpy() for key, value in STATE.items()})
    elif name.endswith(".safetensors"):
        safetensors.torch.save_file(STATE, file)
    else:
        torch.save(STATE, file)
    return file


def read(file: Path) -> dict[str, Tensor]:
    if file.suffix == ".npz":
        return {key: torch.from_numpy(value) for key, value in read_arrays(file).items()}
    return read_tensors(file)


NAMES = ["x.npz", "x.safetensors", "x.ckpt", "x.pth", "x.pt", "x.bin"]


def same(found: dict[str, Tensor]) -> bool:
    return found.keys() == STATE.keys() and all(torch.equal(found[key], STATE[key]) for key in STATE)


@pytest.mark.parametrize("name", NAMES)
def test_reads_what_was_written(name: str, tmp_path: Path) -> None:
    file = existing(str(written(tmp_path, name)))
    assert same(read(file))


@pytest.mark.parametrize("share", [0.0, 0.3, 0.6, 0.95])
@pytest.mark.parametrize("name", NAMES[:3])
def test_a_file_that_is_cut_off(name: str, share: float, tmp_path: Path) -> None:
    file = written(tmp_path, name)
    content = file.read_bytes()
    file.write_bytes(content[: int(share * len(content))])
    with pytest.raises(UserError, match=f'x{file.suffix}" cannot be read as .* cut off, altered, or something else'):
        read(file)


@pytest.mark.parametrize("name", ["x.npz", "x.ckpt"])
def test_one_altered_byte_of_a_weight(name: str, tmp_path: Path) -> None:
    file = written(tmp_path, name)
    content = bytearray(file.read_bytes())
    content[content.index(STATE["weight"].numpy().tobytes()) + 1000] ^= 1
    file.write_bytes(content)
    with pytest.raises(UserError, match="cannot be read as"):
        read(file)


@pytest.mark.parametrize("name", NAMES[:3])
@pytest.mark.parametrize("content", [b"<html>404 not found</html>", os.urandom(999), b"PK\x03\x04" + bytes(50)])
def test_something_else_under_the_name_of_a_weight_file(name: str, content: bytes, tmp_path: Path) -> None:
    file = tmp_path / name
    file.write_bytes(content)
    with pytest.raises(UserError, match="cannot be read as"):
        read(file)


@pytest.mark.parametrize("old", [True, False])
def test_pickled_objects_in_torchs_files_are_not_run(old: bool, tmp_path: Path) -> None:
    file = tmp_path / "x.ckpt"
    torch.save({**STATE, "more": Pickled()}, file, _use_new_zipfile_serialization=not old)
    with pytest.raises(UserError, match="holds pickled objects, which could run code"):
        read(file)
    assert not Pickled.ran


def test_pickled_objects_in_npz_are_not_run(tmp_path: Path) -> None:
    file = tmp_path / "x.npz"
    np.savez(file, weight=np.ones(3), more=np.array([Pickled()], dtype=object))
    with pytest.raises(UserError, match="holds pickled objects, which could run code"):
        read(file)
    assert not Pickled.ran


def test_a_whole_module_is_pickled(tmp_path: Path) -> None:
    torch.save(torch.nn.Linear(2, 2), tmp_path / "x.pth")
    with pytest.raises(UserError, match="holds pickled objects"):
        read(tmp_path / "x.pth")


@pytest.mark.parametrize(
    "content",
    [
        {"state_dict": STATE, "epoch": 3},
        {"model": STATE, "optimizer": {"lr": 0.1}},
        {f"module.{key}": value for key, value in STATE.items()},
        {"state_dict": {f"model._orig_mod.{key}": value for key, value in STATE.items()}},
    ],
)
def test_wrappings_are_taken_off(content: dict[str, Any], tmp_path: Path) -> None:
    torch.save(content, tmp_path / "x.ckpt")
    assert same(read(tmp_path / "x.ckpt"))


@pytest.mark.parametrize("content", [{}, [torch.ones(2)], torch.ones(2), {"weight": 3}, {"state_dict": {"a": "b"}}])
def test_no_state_dict(content: Any, tmp_path: Path) -> None:
    torch.save(content, tmp_path / "x.ckpt")
    with pytest.raises(UserError, match="holds no state dict"):
        read(tmp_path / "x.ckpt")


def test_an_archive_of_other_files(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "x.npz", "w") as archive:
        archive.writestr("readme.txt", "no arrays here")
    with pytest.raises(UserError, match="it holds other things than arrays"):
        read(tmp_path / "x.npz")


def test_a_single_array(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    np.save(buffer, np.ones(3))
    (tmp_path / "x.npz").write_bytes(buffer.getvalue())
    with pytest.raises(UserError, match=r"cannot be read as \.npz"):
        read(tmp_path / "x.npz")


def test_sources_that_are_no_files(tmp_path: Path) -> None:
    written(tmp_path, "weights.ckpt")
    (tmp_path / "x.h5").write_bytes(b"")
    for source, message in [
        (tmp_path, "is a folder: expected a weight file .*such as the weights.ckpt of a run"),
        (tmp_path / "weight.ckpt", 'no weight file .*: expected timm or a file. Did you mean "weights.ckpt"'),
        (tmp_path / "no" / "x.npz", "There is no weight file"),
        (tmp_path / "x.h5", 'has the extension ".h5": expected one of .npz, .safetensors, .ckpt'),
    ]:
        with pytest.raises(UserError, match=message):
            existing(str(source))


@pytest.mark.parametrize(
    ("state", "message"),
    [
        ({"a": torch.zeros(2), "b": torch.zeros(3)}, r'x: its "b" has shape \[3\], expected \[4\]'),
        ({"b": torch.zeros(4)}, 'x: it lacks "a"'),
        ({"a": torch.zeros(2), "b": torch.zeros(4), "c": torch.zeros(1)}, 'x: its "c" has no place in it'),
    ],
)
def test_shapes(state: dict[str, Tensor], message: str) -> None:
    with pytest.raises(UserError, match=message):
        check_shapes(state, {"a": torch.zeros(2), "b": torch.zeros(4)}, "x")
