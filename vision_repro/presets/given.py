"""Weights that exist: what a command line asks for when it names weights, a run's folder or a model of timm."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from vision_repro.config import UserError


def given_weights(tokens: Sequence[str]) -> list[str]:
    """Returns the command line with the preset `given` where it names weights, or a model of timm, and no preset.

    The weights may be the folder of a run: model, data set and image size are then those of its config.

    Raises:
        UserError: if the folder is not that of a finished run, or a file of weights comes without its model.
    """
    values = {key: value for key, _, value in (token.removeprefix("--").partition("=") for token in tokens)}
    model, weights = values.get("model", ""), values.get("weights", "")
    if "preset" in values or not (weights or model.startswith("timm:")):
        return list(tokens)
    more = ["--preset=given"]
    folder = Path(weights).expanduser() if weights else Path()
    if weights and folder.is_dir():
        more += [f"--{key}={value}" for key, value in _of_run(folder).items() if key not in values]
        others = [token for token in tokens if not token.startswith("--weights=")]
        tokens = [*others, f"--weights={folder / 'weights.ckpt'}"]
    elif weights and not model:
        raise UserError(f"--weights={weights} needs --model: the architecture that the weights are of.")
    return [*more, *tokens]


def _of_run(folder: Path) -> dict[str, Any]:
    try:
        found = yaml.safe_load((folder / "config.yaml").read_text())
        return {key: found[key] for key in ("model", "dataset", "image_size", "train_size", "normalisation")}
    except (OSError, yaml.YAMLError, KeyError, TypeError, UnicodeDecodeError):
        raise UserError(
            f'"{folder}" is no folder of a run: expected one with config.yaml and weights.ckpt, such as '
            "outputs/runs/<id>."
        ) from None
