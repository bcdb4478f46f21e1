import math

import numpy as np
import pytest
import scipy.ndimage
import torch
from timm.layers import resample_abs_pos_embed
from torch import Tensor

from vision_repro import models
from vision_repro.config import UserError
from vision_repro.models.weights.resolution import grid_side, resize_grid, resize_line, to_resolution

GRIDS = [(14, 24), (14, 32), (7, 12), (16, 37), (8, 16), (24, 14), (12, 7), (4, 4), (2, 3), (1, 4)]


def zoomed(table: Tensor, side: int) -> Tensor:
    """The released code's rule."""
    old = math.isqrt(table.shape[1])
    grid = table.numpy().reshape(old, old, -1)
    return torch.from_numpy(scipy.ndimage.zoom(grid, (side / old, side / old, 1), order=1)).reshape(1, side**2, -1)


def looped(table: Tensor, side: int) -> Tensor:
    """Each new patch as the mean of the four old ones around it, corners on corners, in double precision."""
    old = math.isqrt(table.shape[1])
    grid = table[0].double().numpy().reshape(old, old, -1)
    found = np.zeros((side, side, grid.shape[2]))
    step = (old - 1) / (side - 1) if side > 1 else 0.0
    for y in range(side):
        for x in range(side):
            top, left = min(int(y * step), max(old - 2, 0)), min(int(x * step), max(old - 2, 0))
            down, right = min(top + 1, old - 1), min(left + 1, old - 1)
            dy, dx = y * step - top, x * step - left
            above = (1 - dx) * grid[top, left] + dx * grid[top, right]
            below = (1 - dx) * grid[down, left] + dx * grid[down, right]
            found[y, x] = (1 - dy) * above + dy * below
    return torch.from_numpy(found).float().reshape(1, side**2, -1)


@pytest.mark.parametrize(("old", "new"), GRIDS)
def test_grid_is_resized_as_by_the_released_code(old: int, new: int) -> None:
    table = torch.randn(1, old**2, 16, generator=torch.Generator().manual_seed(old))
    found = resize_grid(table, new)
    for expected in (zoomed(table, new), looped(table, new)):
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-6)


def test_timms_rule_is_another() -> None:
    table = torch.randn(1, 14**2, 64, generator=torch.Generator().manual_seed(0))
    for options in ({}, {"interpolation": "bilinear", "antialias": False}):
        theirs = resample_abs_pos_embed(table, [24, 24], num_prefix_tokens=0, **options)
        assert (resize_grid(table, 24) - theirs).square().mean().sqrt() > 0.15


@pytest.mark.parametrize(("old", "new"), [(14, 24), (4, 7), (7, 4), (1, 3)])
def test_two_resized_lines_are_the_resized_grid(old: int, new: int) -> None:
    torch.manual_seed(0)
    columns, rows = torch.randn(old, 8), torch.randn(old, 8)
    grid = torch.cat((columns.expand(old, -1, -1), rows[:, None].expand(-1, old, -1)), 2).reshape(1, old**2, 16)
    across, down = resize_line(columns, new), resize_line(rows, new)
    expected = torch.cat((across.expand(new, -1, -1), down[:, None].expand(-1, new, -1)), 2).reshape(1, new**2, 16)
    torch.testing.assert_close(resize_grid(grid, new), expected)


def test_half_precision_stays_half_precision() -> None:
    assert resize_grid(torch.randn(1, 16, 4).bfloat16(), 6).dtype == torch.bfloat16
    assert resize_line(torch.randn(4, 4).half(), 6).dtype == torch.float16


@pytest.mark.parametrize("options", ["", "-gap", "-every", "-gap-shared", "-pos0"])
@pytest.mark.parametrize("kind", ["vit-32x3/2", "r8x0.125+vit-32x3/2"])
def test_model_of_another_size_has_the_interpolated_tables(kind: str, options: str) -> None:
    torch.manual_seed(0)
    small = models.build(f"{kind}{options}", image_size=8, classes=10).state_dict()
    large = models.build(f"{kind}{options}", image_size=12, classes=10)
    state = to_resolution(small, large)
    large.load_state_dict(state)
    before = 0 if "gap" in options else 1
    changed = {key for key in state if state[key].shape != small[key].shape}
    tables = [key for key in small if key == "pos_embed" or key.endswith(".table")]
    assert changed == set(tables)
    assert len(changed) == (0 if "pos0" in options else 3 if "every" in options else 1)
    for key in changed:
        assert torch.equal(state[key][:, :before], small[key][:, :before])
        torch.testing.assert_close(state[key][:, before:], zoomed(small[key][:, before:], 6), rtol=0, atol=1e-7)
    for key in state.keys() - changed:
        assert state[key] is small[key]


@pytest.mark.parametrize("options", ["-pos2d", "-gap-pos2d", "-pos2d-every"])
def test_two_dimensional_tables_too(options: str) -> None:
    torch.manual_seed(0)
    small = models.build(f"vit-32x2/2{options}", image_size=8, classes=10)
    large = models.build(f"vit-32x2/2{options}", image_size=14, classes=10)
    large.load_state_dict(to_resolution(small.state_dict(), large))
    before = 0 if "gap" in options else 1
    for layer in range(2 if "every" in options else 1):
        old, new = (model.get_submodule("positions")(layer).detach() for model in (small, large))
        assert torch.equal(new[:, :before], old[:, :before])
        torch.testing.assert_close(new[:, before:], zoomed(old[:, before:], 7), rtol=0, atol=1e-7)


def test_relative_embeddings_have_no_place_to_be_interpolated_to() -> None:
    small = models.build("vit-32x2/2-posrel", image_size=8, classes=10)
    with pytest.raises(UserError, match="The file is of another image size, and 1-D relative embeddings cannot"):
        to_resolution(small.state_dict(), models.build("vit-32x2/2-posrel", image_size=12, classes=10), "The file")
    same = to_resolution(small.state_dict(), small)
    assert all(same[key] is value or torch.equal(same[key], value) for key, value in small.state_dict().items())


def test_the_same_size_changes_nothing() -> None:
    model = models.build("vit-32x1/2", image_size=8, classes=10)
    state = model.state_dict()
    assert all(value is state[key] for key, value in to_resolution(state, model).items())


@pytest.mark.parametrize(
    ("tokens", "name"),
    [(18, "vit-32x1/2"), (16, "vit-32x1/2"), (1, "vit-32x1/2"), (17, "vit-32x1/2-gap")],
)
def test_a_table_of_no_square_grid(tokens: int, name: str) -> None:
    model = models.build(name, image_size=12, classes=10)
    needed = "a square number, for" if "gap" in name else "a square number and 1 more, for"
    with pytest.raises(UserError, match=f'"x.npz" has {tokens} rows in "pos_embed": expected {needed}'):
        to_resolution({"pos_embed": torch.zeros(1, tokens, 32)}, model, '"x.npz"')


def test_a_model_without_patches_is_left_alone() -> None:
    bit = models.build("bit-r8x0.125", image_size=8, classes=10)
    assert grid_side(bit) is None
    assert grid_side(models.build("vit-32x1/2", image_size=12, classes=10)) == 6
    odd = {"pos_embed": torch.zeros(1, 5, 4)}
    assert to_resolution(odd, bit) == odd
