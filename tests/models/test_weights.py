import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
from torch import nn

from vision_repro import models
from vision_repro.config import UserError
from vision_repro.models.weights import Loaded, fetch, load
from vision_repro.models.weights.npz import slots
from vision_repro.models.weights.resolution import resize_grid


def built(name: str, image_size: int = 8, classes: int = 5, seed: int = 0) -> nn.Module:
    """A model without a parameter at zero, so that it shows which of them were replaced."""
    torch.manual_seed(seed)
    model = models.build(name, image_size=image_size, classes=classes)
    with torch.no_grad():
        for value in model.parameters():
            value.add_(0.1 * torch.randn_like(value))
    return model.eval()


def saved(model: nn.Module, file: Path) -> str:
    if file.suffix == ".safetensors":
        safetensors.torch.save_file(model.state_dict(), file)
    elif file.suffix == ".npz":
        np.savez(file, **as_npz(model))
    else:
        torch.save(model.state_dict(), file)
    return str(file)


def as_npz(model: nn.Module) -> dict[str, np.ndarray[Any, Any]]:
    """The weights of a ViT of ours as the authors write theirs; `test_npz.py` tests the layout itself."""
    needed, optional = slots(model)
    state, arrays = model.state_dict(), {}
    for slot in (*needed, *(item for item in optional if item.here in state)):
        value, parts = state[slot.here], [item for item in needed if item.here == slot.here]
        if len(parts) > 1:
            value = value.chunk(len(parts))[parts.index(slot)]
        order = {4: (2, 3, 1, 0), 2: (1, 0)}.get(value.ndim)
        shape = [size for size in slot.shape]
        array = value.permute(order) if order else value
        arrays[slot.there] = (array if -1 in shape else array.reshape(shape)).contiguous().numpy()
    return arrays


def unchanged(model: nn.Module, before: dict[str, torch.Tensor]) -> bool:
    return all(torch.equal(value, before[key]) for key, value in model.state_dict().items())


@pytest.mark.parametrize("suffix", [".ckpt", ".pth", ".safetensors", ".npz"])
@pytest.mark.parametrize("name", ["vit-32x2/2", "vit-32x2/2-gap-tanh", "r8x0.25+vit-32x1/2", "bit-r8x0.125"])
def test_all_of_a_model_comes_back(name: str, suffix: str, tmp_path: Path) -> None:
    source, target = built(name), built(name, seed=1)
    file = tmp_path / f"x{suffix}"
    found = load(target, name, saved(source, file), image_size=8, keep_head=True)
    images = torch.randn(2, 3, 8, 8)
    assert torch.equal(target(images), source(images))
    assert found == Loaded(str(file), hashlib.sha256(file.read_bytes()).hexdigest(), None, head=True, resized=False)


@pytest.mark.parametrize(
    "name", ["vit-32x2/2-pos2d-every", "vit-32x2/2-shared-drop0.1", "vit-32x2/2-posrel", "timm:test_resnet"]
)
def test_weights_of_another_run(name: str, tmp_path: Path) -> None:
    source, target = built(name, 32), built(name, 32, seed=1)
    load(target, name, saved(source, tmp_path / "weights.ckpt"), image_size=32, keep_head=True)
    images = torch.randn(2, 3, 32, 32)
    assert torch.equal(target(images), source(images))


@pytest.mark.parametrize("suffix", [".ckpt", ".npz"])
@pytest.mark.parametrize("name", ["vit-32x2/2", "bit-r8x0.125"])
@pytest.mark.parametrize(("classes", "keep"), [(5, False), (7, False), (7, True)])
def test_a_transfer_drops_the_head(name: str, suffix: str, classes: int, keep: bool, tmp_path: Path) -> None:
    source, target = built(name), built(name, classes=classes, seed=1)
    found = load(target, name, saved(source, tmp_path / f"x{suffix}"), image_size=8, keep_head=keep)
    images = torch.randn(2, 3, 8, 8)
    assert not found.head
    assert not target(images).any()
    assert torch.equal(models.features(target, images), models.features(source, images))


@pytest.mark.parametrize("suffix", [".ckpt", ".npz"])
@pytest.mark.parametrize(("old", "new"), [("-tanh", ""), ("", "-tanh"), ("-tanh", "-tanh")])
def test_a_transfer_drops_the_hidden_layer(old: str, new: str, suffix: str, tmp_path: Path) -> None:
    source, target = built(f"vit-32x2/2{old}"), built(f"vit-32x2/2{new}", seed=1)
    before = {key: value.clone() for key, value in target.state_dict().items()}
    keep = old != new  # a final layer does not come without the hidden layer it was trained behind
    found = load(target, f"vit-32x2/2{new}", saved(source, tmp_path / f"x{suffix}"), image_size=8, keep_head=keep)
    assert not found.head
    state = target.state_dict()
    assert not state["head.weight"].any()
    assert all(torch.equal(state[key], before[key]) for key in state if key.startswith("pre_logits"))
    assert torch.equal(state["norm.weight"], source.state_dict()["norm.weight"])


def test_auxiliary_classifiers_belong_to_the_head(tmp_path: Path) -> None:
    source, target = built("googlenetx0.125-bn", 32), built("googlenetx0.125-bn", 32, classes=3, seed=1)
    found = load(target, "googlenetx0.125-bn", saved(source, tmp_path / "x.ckpt"), image_size=32)
    images = torch.randn(2, 3, 32, 32)
    assert not found.head
    assert torch.equal(models.features(target, images), models.features(source, images))


@pytest.mark.parametrize("suffix", [".ckpt", ".safetensors", ".npz"])
@pytest.mark.parametrize("name", ["vit-32x2/2", "r8x0.25+vit-32x1/2-gap"])
def test_position_embeddings_are_interpolated(name: str, suffix: str, tmp_path: Path) -> None:
    source, target = built(name, 8), built(name, 12, seed=1)
    found = load(target, name, saved(source, tmp_path / f"x{suffix}"), image_size=12, keep_head=True)
    assert (found.head, found.resized) == (True, True)
    old, new = (model.get_parameter("pos_embed").detach() for model in (source, target))
    before = 0 if "gap" in name else 1
    assert torch.equal(new[:, :before], old[:, :before])
    assert torch.equal(new[:, before:], resize_grid(old[:, before:], 6))
    assert target(torch.randn(2, 3, 12, 12)).any()


@pytest.mark.parametrize(
    ("source", "target", "image_size", "message"),
    [
        ("vit-32x2/2", "vit-32x3/2", 8, r'x.ckpt is not a vit-32x3/2: it lacks "blocks.2.norm1.weight"'),
        ("vit-32x2/2", "vit-32x1/2", 8, r'is not a vit-32x1/2: its "blocks.1.norm1.weight" has no place in it'),
        ("vit-32x2/2", "vit-64x2/2", 8, r'its "cls_token" has shape \[1, 1, 32\], expected \[1, 1, 64\]'),
        ("vit-32x2/2", "vit-32x2/4", 8, r'its "patch_embed.proj.weight" has shape \[32, 3, 2, 2\], expected .* 4, 4\]'),
        ("vit-32x2/2-gap", "vit-32x2/2", 12, 'has 16 rows in "pos_embed": expected a square number and 1 more'),
        ("vit-32x2/2-posrel", "vit-32x2/2-posrel", 12, "1-D relative embeddings cannot be interpolated"),
        ("bit-r8x0.125", "vit-32x2/2", 8, 'is not a vit-32x2/2: its "norm.weight" has shape'),
        ("bit-r8x0.125", "bit-r8x0.25", 8, r'its "stem.conv.weight" has shape \[8, 3, 3, 3\], expected \[16, 3, '),
    ],
)
def test_weights_of_another_variant(source: str, target: str, image_size: int, message: str, tmp_path: Path) -> None:
    file, model = saved(built(source), tmp_path / "x.ckpt"), built(target, image_size, seed=1)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    with pytest.raises(UserError, match=message):
        load(model, target, file, image_size=image_size)
    assert unchanged(model, before)


def damage(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-200])


@pytest.mark.parametrize("suffix", [".ckpt", ".safetensors", ".npz"])
@pytest.mark.parametrize(
    ("spoil", "message"), [(damage, "cannot be read as"), (Path.unlink, "There is no weight file")]
)
def test_a_bad_file_leaves_the_model_as_it_is(
    suffix: str, spoil: Callable[[Path], None], message: str, tmp_path: Path
) -> None:
    file, model = Path(saved(built("vit-32x1/2"), tmp_path / f"x{suffix}")), built("vit-32x1/2", seed=1)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    spoil(file)
    with pytest.raises(UserError, match=message):
        load(model, "vit-32x1/2", str(file), image_size=8)
    assert unchanged(model, before)


def test_npz_of_another_variant_names_the_array(tmp_path: Path) -> None:
    file = saved(built("vit-32x2/2"), tmp_path / "x.npz")
    with pytest.raises(UserError, match=r'x.npz is not a vit-32x2/4: its "embedding/kernel" has shape \[2, 2, 3, 32\]'):
        load(built("vit-32x2/4"), "vit-32x2/4", file, image_size=8)


def test_files_are_there_before_a_run(tmp_path: Path) -> None:
    fetch("vit-32x1/2", saved(built("vit-32x1/2"), tmp_path / "x.ckpt"))
    with pytest.raises(UserError, match="There is no weight file"):
        fetch("vit-32x1/2", str(tmp_path / "y.ckpt"))
