"""Writes the files of a run other than its result: weights, pictures, provenance and cost."""

from __future__ import annotations

import io
import json
from typing import Any

import numpy as np
import torch

from vision_repro.accounting import ledger
from vision_repro.config import RunConfig
from vision_repro.models.layers.head import head_keys
from vision_repro.models.weights import Loaded
from vision_repro.probes.images import first_images
from vision_repro.store.atomic import write_atomic
from vision_repro.store.runs import WEIGHTS, RunFolder
from vision_repro.store.seals import digest
from vision_repro.tasks import forward_flops
from vision_repro.tasks.masked import MaskedPatches
from vision_repro.tasks.task import Task
from vision_repro.training import meter, precision, provenance
from vision_repro.training.context import RunContext
from vision_repro.training.device import processor
from vision_repro.training.recorder import Recorder

PICTURED = 4
"""Number of test images in the pictures of a pre-trained model's reconstructions."""


def write_provenance(
    config: RunConfig,
    context: RunContext,
    seconds: float,
    resumed: bool,
    loaded: Loaded | None,
    decoder: str,
    address: str,
) -> None:
    """Writes `provenance.json`: code, versions, command, device, arithmetic and loaded weights of a run."""
    devices = context.launch.devices * context.launch.num_nodes
    gpu = context.accelerator == "gpu"
    explicit = precision.needs_explicit_attention(config.precision, context.accelerator)
    facts = {
        **provenance.code(),
        "command": provenance.command(),
        "device": torch.cuda.get_device_name() if gpu else processor(),
        "devices": devices,
        "threads_per_process": torch.get_num_threads(),
        "precision": config.precision,
        "attention": "explicit" if explicit else "fused",
        "resumed": resumed,
        "seconds_since_start_or_resume": round(seconds, 3),
        "device_hours": round(seconds * devices / 3600, 6),
        "images_seen": config.total_steps * config.global_batch,
        "weights": loaded and loaded._asdict(),
        **({"decoder": decoder} if decoder else {}),
        **({"wandb_url": address} if address else {}),
    }
    write_atomic(context.folder.path / "provenance.json", json.dumps(facts, indent=1) + "\n")


def write_weights(folder: RunFolder, task: Task) -> str:
    """Writes the tested weights as a plain state dict of the architecture, and returns the SHA-256 of the file.

    An untrained head is left out.
    """
    state = task.model.state_dict()
    unlearnt = head_keys(state, task.model) if folder.config.objective != "supervised" else set()
    buffer = io.BytesIO()
    torch.save({name: value.cpu() for name, value in state.items() if name not in unlearnt}, buffer)
    write_atomic(folder.path / WEIGHTS, buffer.getvalue())
    return digest(buffer.getvalue())


def read_weights(folder: RunFolder, task: Task) -> None:
    """Checks the seal of a trained run's tested weights, and loads them into the task's model.

    Raises:
        UserError: if the file is missing or damaged.
    """
    state = torch.load(folder.weights(), map_location="cpu", weights_only=True)
    absent = task.model.load_state_dict(state, strict=False)
    assert not absent.unexpected_keys, absent
    assert set(absent.missing_keys) <= head_keys(task.model.state_dict(), task.model), absent


def write_cost(
    config: RunConfig, context: RunContext, spent: meter.Meter, recorder: Recorder, classes: int
) -> dict[str, Any]:
    """Writes and returns the cost of the run, up to its last step."""
    steps = int(recorder.curve[-1]["step"]) if recorder.curve else 0
    forward = forward_flops.checked(config, classes, context.folder.path.parent)
    cost = meter.cost(spent, config, context, forward, steps * config.global_batch)
    write_atomic(context.folder.path / ledger.COST_NAME, json.dumps(cost, indent=1) + "\n")
    return cost


def add_evaluation(context: RunContext, seconds: float) -> None:
    """Adds the time of later measurements [s] to `cost.json` of a run, if the file exists."""
    cost = ledger.read_cost(context.folder.path)
    if cost is not None:
        cost["evaluation_seconds"] = round(cost["evaluation_seconds"] + seconds, 3)
        cost["device_hours"] = round(cost["device_hours"] + seconds / 3600, 6)
        write_atomic(
            context.folder.path / ledger.COST_NAME, json.dumps({**cost, **ledger.derived_costs(cost)}, indent=1) + "\n"
        )


def pictures_of(task: Task, module: Any) -> bytes:
    """Returns an `.npz` file of the first test images, masked and predicted; empty if the task masks no patches."""
    if not isinstance(task, MaskedPatches):
        return b""
    images = first_images(module, "test", PICTURED).images  # all ranks must call this
    found = task.reconstruct(images)
    buffer = io.BytesIO()
    np.savez_compressed(buffer, image=found.images, masked=found.masked, prediction=found.predicted)
    return buffer.getvalue()
