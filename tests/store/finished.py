"""Run folders as a run leaves them, without a run: for tests of what comes after."""

from __future__ import annotations

from vision_repro.store.measurements import ACCURACY, FEW_SHOT, wanted
from vision_repro.store.runs import WEIGHTS, RunFolder
from vision_repro.store.seals import digest


def finish(folder: RunFolder, value: float, **facts: object) -> None:
    """Leaves a trained run with this accuracy on val, and all that its config asks for measured as this value."""
    folder.open()
    (folder.path / WEIGHTS).write_bytes(b"weights")
    facts = {"weights_sha256": digest(b"weights"), **facts}
    folder.finish("ok", {"val_accuracy": (value, "fraction")}, facts)
    for item in wanted(folder.config):
        names = {ACCURACY: "test_accuracy", FEW_SHOT: f"few_shot_{dict(item.options).get('shots')}"}
        folder.add(item, {names.get(item.name, item.name): (value, "fraction")}, {})
