"""Runs that other runs need: whose weights they start from, and among whose learning rates the best one is."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import yaml

from vision_repro.config import RunConfig, UserError, construct
from vision_repro.store.runs import RunFolder


def folder_of(run: str, beside: RunFolder) -> RunFolder:
    """Returns the folder of the run with the id `run`, which stands beside another run's folder.

    Raises:
        UserError: if there is no such run.
    """
    file = beside.path.parent / run / "config.yaml"
    try:
        return RunFolder(beside.path.parent, construct(RunConfig, yaml.safe_load(file.read_text())))
    except OSError:
        raise UserError(
            f'run "{run}" is not under "{beside.path.parent}": give the id of a run that is there, or another --out.'
        ) from None


def weights_of(config: RunConfig, folder: RunFolder) -> Path:
    """Returns the file of the weights that a run starts from, after its seal was checked.

    Raises:
        UserError: if the run that should have left them is not there or not done, or the file is damaged.
    """
    assert config.weights_run is not None
    return folder_of(config.weights_run, folder).weights()


def check_data(folder: RunFolder, dataset: str, fingerprint: str) -> None:
    """Checks that a trained run was trained on the data that are here now.

    Raises:
        UserError: if other data have the same name now.
    """
    result = folder.result() or {}
    if result.get("data_sha256") not in (None, fingerprint):
        raise UserError(
            f'The data set "{dataset}" has the fingerprint {fingerprint[:12]} now, but run {folder.id} was trained on '
            f"data with {str(result['data_sha256'])[:12]}: bring the old data back, or set another --out for the new."
        )


def _result(run: str, folder: RunFolder) -> dict[str, Any]:
    found = folder_of(run, folder).result()
    if found is None:
        raise UserError(f'run "{run}" is not done yet: carry it out before the runs that need it.')
    return found


def dependencies_succeeded(config: RunConfig, folder: RunFolder) -> bool:
    """Returns whether all runs that `config` needs ended well, so that it can be carried out.

    Raises:
        UserError: if one of them is missing or not done.
    """
    start = not config.weights_run or _result(config.weights_run, folder)["status"] == "ok"
    return start and not (config.lr_from and config.lr is None)


def resolve_learning_rate(config: RunConfig, folder: RunFolder) -> RunConfig:
    """Returns the config with its learning rate chosen: the first of those with the best `val` accuracy.

    It stays None where all candidates diverged.

    Raises:
        UserError: if a candidate is missing or not done.
    """
    if not config.lr_from:
        return config
    candidates = [
        (folder_of(run, folder).config.lr, _result(run, folder)["metrics"].get("val_accuracy", {}).get("value"))
        for run in config.lr_from.split()
    ]
    ended = [(rate, value) for rate, value in candidates if value is not None]
    best = max(ended, key=lambda item: item[1], default=(None, None))
    return replace(config, lr=best[0])
