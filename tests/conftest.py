"""Shared fixtures: real data when it is at hand, one thread, no W&B."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

os.environ.setdefault("WANDB_MODE", "disabled")
os.environ.setdefault("OMP_NUM_THREADS", "1")


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of real images named by VISION_REPRO_DATA; the test is skipped where there is none."""
    value = os.environ.get("VISION_REPRO_DATA")
    if not value:
        pytest.skip("VISION_REPRO_DATA names no folder of real images")
    return Path(value)


@pytest.fixture
def smoke(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Callable[..., Path]:
    """Carries out the smoke preset of an experiment with more options; returns the folder of its summary.

    It has figure, table and verdicts, and none of these is evidence.
    """

    def carry_out(experiment: Any, *options: str) -> Path:
        from vision_repro.cli import main

        monkeypatch.setenv("VISION_REPRO_CACHE", str(tmp_path / "cache"))
        monkeypatch.setenv("WANDB_MODE", "disabled")
        assert main(experiment, ["--preset=smoke", *options, f"--out={tmp_path}"]) == 0
        folder = next(tmp_path.glob(f"{experiment.name}/smoke*"))
        assert {"figure.pdf", "table.csv", "verdicts.json", "summary.md"} <= {item.name for item in folder.iterdir()}
        assert '"holds"' not in (folder / "verdicts.json").read_text()
        assert "untested" in capsys.readouterr().out
        return folder

    return carry_out
