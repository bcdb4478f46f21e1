"""The FLOPs that the ledger takes, against torch's own counter and against closed forms."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from vision_repro.config import RunConfig
from vision_repro.tasks import forward_flops as module
from vision_repro.tasks.forward_flops import Forward, checked, forward_flops, measured_flops

VIT = RunConfig(model="vit-64x3/4", image_size=32)


@pytest.mark.parametrize(
    ("model", "image_size"),
    [("vit-64x3/4", 32), ("vit-32x2/2-gap-posrel-tanh", 8), ("bit-r11x0.25", 32), ("r11x0.25+vit-32x2/4", 32)],
)
def test_the_accountant_agrees_with_torch_s_counter(model: str, image_size: int) -> None:
    config = RunConfig(model=model, image_size=image_size)
    assert forward_flops(config, 10) == pytest.approx(measured_flops(config, 10), rel=0.01)


@pytest.mark.parametrize("objective", ["mean-colour", "downsized", "pixels", "mae"])
@pytest.mark.parametrize("corrupted", [0.5, 0.75])
def test_so_it_does_for_what_masked_patches_learn(objective: str, corrupted: float) -> None:
    config = replace(VIT, objective=objective, corrupted=corrupted)
    assert forward_flops(config) == pytest.approx(measured_flops(config), rel=0.01)


def encoder(tokens: int, width: int = 64, depth: int = 3) -> int:
    """Multiply-adds of the blocks of a ViT: 12 D^2 a token in linear layers, and 2 N^2 D in attention."""
    return depth * (12 * tokens * width**2 + 2 * tokens**2 * width)


EMBEDDING = 64 * (3 * 4 * 4) * 64
"""Multiply-adds of the 64 patches of an image."""


def test_masked_patches_cost_the_encoder_and_the_predictor() -> None:
    colour = forward_flops(replace(VIT, objective="mean-colour", corrupted=0.5))
    assert colour == 2 * (EMBEDDING + encoder(65) + 32 * 64 * 512)
    pixels = forward_flops(replace(VIT, objective="pixels", corrupted=0.5))
    assert pixels == 2 * (EMBEDDING + encoder(65) + 32 * 64 * 48)


def test_the_encoder_of_a_masked_autoencoder_sees_the_visible_patches_alone() -> None:
    """From one masking ratio to another the decoder sees the same tokens, but for the visible ones that enter it."""
    half, more = (forward_flops(replace(VIT, objective="mae", corrupted=share)) // 2 for share in (0.5, 0.75))
    blocks = encoder(33) - encoder(17)
    assert blocks < half - more < 1.1 * blocks
    assert half > EMBEDDING + encoder(33)


def test_a_model_is_counted_once_in_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = checked(VIT, 10, tmp_path)
    assert found.counted == forward_flops(VIT, 10)
    other = checked(VIT, 100, tmp_path)
    assert other.counted - found.counted == 2 * 64 * 90
    monkeypatch.setattr(module, "measured_flops", lambda *_: pytest.fail("counted again"))
    assert (checked(VIT, 10, tmp_path), checked(VIT, 100, tmp_path)) == (found, other)
    assert len(json.loads((tmp_path / "flops.json").read_text())) == 2


@pytest.mark.parametrize("content", ["", "[]", '{"vit-64x3/4 | 32 px | 10 classes | supervised": {"counted": null}}'])
def test_a_broken_book_is_written_anew(tmp_path: Path, content: str) -> None:
    (tmp_path / "flops.json").write_text(content)
    assert isinstance(checked(VIT, 10, tmp_path), Forward)
    assert "measured" in (tmp_path / "flops.json").read_text()
