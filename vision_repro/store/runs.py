"""The store: one folder a run, named by the run's id, which experiments share.

A run folder holds `config.yaml`, `provenance.json`, `metrics.csv` (the learning curve), `weights.ckpt` (the tested
weights), `result.json` (a run whose result is there is trained) and `measurements/` (what was read from the weights).
"""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from vision_repro.config import RunConfig, UserError, plain, run_id, weights_config
from vision_repro.store.arrays import Array, pack, unpack
from vision_repro.store.atomic import write_atomic
from vision_repro.store.measurements import Measurement, Metrics, cells, diverged_metrics, wanted
from vision_repro.store.seals import check_file, digest, read_sealed, sealed

WEIGHTS = "weights.ckpt"
PICTURES = "pictures.npz"
RUNS = "runs"
"""Folder of all runs below `--out`."""


class RunFolder:
    """The folder of one run under `root`. Several configs share it if they differ only in what they measure."""

    def __init__(self, root: Path, config: RunConfig) -> None:
        self.config = config
        self.id = run_id(config)
        self.path = root / self.id

    def open(self) -> None:
        """Makes the folder and its `config.yaml`, or checks the one that is there.

        Raises:
            UserError: if the folder belongs to another config, or cannot be written.
        """
        file, mine = self.path / "config.yaml", plain(weights_config(self.config))
        if not file.exists():
            write_atomic(file, yaml.safe_dump(mine, sort_keys=False))
            return
        try:
            found = yaml.safe_load(file.read_text())
        except (yaml.YAMLError, UnicodeDecodeError):
            found = None
        # A field that came later is at its default in a config that has it not.
        if not isinstance(found, dict) or {**plain(RunConfig()), **found} != mine:
            raise UserError(f'"{file}" is not the config of run {self.id}: move that folder away or set another --out.')

    def result(self) -> dict[str, Any] | None:
        """Returns the result of a trained run, `None` for any other.

        Raises:
            UserError: if the file is not this run's result, or was changed after it was written.
        """
        file = self.path / "result.json"
        try:
            found = read_sealed(file, f"the result of run {self.id}")
        except FileNotFoundError:
            return None
        if found.get("run") != self.id or not isinstance(found.get("metrics"), dict):
            raise UserError(f'"{file}" is not the result of run {self.id}: remove that folder and start again.')
        return found

    def finish(self, status: str, metrics: Metrics, facts: Mapping[str, Any]) -> None:
        """Writes `result.json`: status (`ok`, `diverged`), metric -> (value, unit), facts that trace the numbers."""
        result = {"run": self.id, "status": status, **facts, "metrics": cells(metrics)}
        write_atomic(self.path / "result.json", sealed(result))

    def weights(self) -> Path:
        """Returns the file of the tested weights, checked against its seal.

        Raises:
            UserError: if the run is not trained, or the file is not the one that it left.
        """
        result, file = self.result(), self.path / WEIGHTS
        if result is None:
            raise UserError(f'run "{self.id}" is not done yet: carry it out before the runs that need it.')
        check_file(file, result.get("weights_sha256"))
        return file

    def measurement(self, which: Measurement) -> dict[str, Any] | None:
        """Returns the metrics of a measurement, metric -> {"value": ..., "unit": ...}; `None` if it is not there.

        Raises:
            UserError: if the file is not that measurement of this run, or was changed after it was written.
        """
        content = self._read(which)
        return None if content is None else dict(content["metrics"])

    def _read(self, which: Measurement) -> dict[str, Any] | None:
        file = self.path / "measurements" / which.file
        try:
            found = read_sealed(file, f"the measurement {which.name} of run {self.id}")
        except FileNotFoundError:
            return None
        if found.get("run") != self.id or found.get("options") != dict(which.options):
            raise UserError(f'"{file}" is not the measurement {which.name} of run {self.id}: remove it, start again.')
        return found

    def add(
        self, which: Measurement, metrics: Metrics, facts: Mapping[str, Any], arrays: Mapping[str, Array] | None = None
    ) -> None:
        """Writes a measurement of this run's weights, its arrays first: with the metrics it is there in full."""
        content = {"run": self.id, "measurement": which.name, "options": dict(which.options), **facts}
        if arrays:
            packed = pack(arrays)
            write_atomic(self.path / "measurements" / which.arrays, packed)
            content["arrays_sha256"] = digest(packed)
        write_atomic(self.path / "measurements" / which.file, sealed({**content, "metrics": cells(metrics)}))

    def arrays(self, which: Measurement) -> dict[str, Array]:
        """Returns the arrays of a measurement, such as the predicted class of each test image; none if it has none.

        Raises:
            UserError: if the measurement is not there, or its arrays were changed after they were written.
        """
        content = self._read(which)
        if content is None:
            raise UserError(f"run {self.id} has no measurement {which.name}: measure it first.")
        if "arrays_sha256" not in content:
            return {}
        file = self.path / "measurements" / which.arrays
        check_file(file, content["arrays_sha256"])
        return unpack(file)

    def missing(self, which: Sequence[Measurement] | None = None) -> tuple[Measurement, ...]:
        """Returns which of the measurements are not there yet; None is what the config asks for.

        Nothing is asked of a diverged run.
        """
        result = self.result()
        if result is not None and result["status"] != "ok":
            return ()
        return tuple(item for item in self._asked(which) if self.measurement(item) is None)

    def outcome(self, which: Sequence[Measurement] | None = None) -> dict[str, Any] | None:
        """Returns the result with all metrics of the measurements; `None` unless trained and measured."""
        result = self.result()
        if result is None:
            return None
        if result["status"] != "ok":
            return {**result, "metrics": {**cells(diverged_metrics(self.config)), **result["metrics"]}}
        found = [self.measurement(item) for item in self._asked(which)]
        if None in found:
            return None
        metrics = {name: cell for part in found if part for name, cell in part.items()}
        return {**result, "metrics": {**metrics, **result["metrics"]}}

    def _asked(self, which: Sequence[Measurement] | None) -> Sequence[Measurement]:
        return wanted(self.config) if which is None else which


def check_weights(file: Path) -> None:
    """Checks weights that a run left against that run's result; other files have no seal, and nothing is checked.

    Raises:
        UserError: if the file is damaged, or is another one.
    """
    result = file.parent / "result.json"
    if file.name == WEIGHTS and result.is_file():
        check_file(file, read_sealed(result, "the result of a run").get("weights_sha256"))


def curve_csv(rows: Sequence[Mapping[str, float | int]]) -> str:
    """Returns a learning curve as CSV, one validation a row."""
    text = io.StringIO()
    if rows:
        writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    return text.getvalue()
