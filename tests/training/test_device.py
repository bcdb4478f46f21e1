"""Arithmetic follows from a rule; the engines put runs where there is room."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from vision_repro.config import Launch, RunConfig, UserError
from vision_repro.launch import pool
from vision_repro.training import device, precision, tracking

ROOT = Path(__file__).parents[2]


def test_auto_is_a_rule_and_no_race() -> None:
    assert precision.automatic("cpu") == "fp32"
    assert precision.resolved(RunConfig(), "cpu").precision == "fp32"
    assert precision.resolved(RunConfig(precision="bf16"), "cpu").precision == "bf16"


def test_a_gpu_elsewhere_is_taken_to_have_bf16(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    for here, able, word in ((False, False, "bf16"), (True, True, "bf16"), (True, False, "fp32")):
        monkeypatch.setattr(torch.cuda, "is_available", lambda here=here: here)
        monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda able=able: able)
        assert precision.automatic("gpu") == word


def test_room_for_runs() -> None:
    assert pool.workers(Launch(jobs=3), "cpu") == 3
    assert pool.workers(Launch(), "cpu") == device.cores()
    assert pool.workers(Launch(devices=10_000), "cpu") == 1
    assert pool.workers(Launch(), "cpu", threads=10_000) == 1


def test_a_gpu_that_is_not_there_is_refused() -> None:
    import torch

    if torch.cuda.is_available():
        pytest.skip("there is a GPU here")
    with pytest.raises(UserError, match="no GPU"):
        device.resolve_accelerator("gpu")


@pytest.mark.parametrize("bad", [{"devices": 0}, {"jobs": -1}, {"accelerator": "tpu"}, {"accumulate": 0}])
def test_impossible_places_are_refused(bad: dict[str, object]) -> None:
    with pytest.raises(UserError):
        Launch(**bad)  # type: ignore[arg-type]


def test_wandb_mode_goes_first_then_the_key(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    monkeypatch.delenv("WANDB_MODE", raising=False)
    assert tracking.mode() == "offline"
    monkeypatch.setenv("WANDB_API_KEY", "x" * 40)
    assert tracking.mode() == "online"
    monkeypatch.setenv("WANDB_MODE", "disabled")
    assert tracking.mode() == "disabled"


@pytest.mark.slow
def test_torchrun_gives_the_table_of_the_pool(tmp_path: Path) -> None:
    tokens = ["-m", "experiments.data_scaling", "--preset=smoke", "--model=vit-32x4/2", "--train_size=20"]
    tokens += ["--devices=2", "--precision=fp32", "--wandb=off"]
    torchrun = ["-m", "torch.distributed.run", "--nproc_per_node=2", "--master-addr=127.0.0.1"]
    env = {**os.environ, "VISION_REPRO_CACHE": str(tmp_path / "cache"), "OMP_NUM_THREADS": "1"}
    tables = []
    for name, launcher in (("pool", []), ("torchrun", torchrun)):
        command = [sys.executable, *launcher, *tokens, f"--out={tmp_path / name}"]
        done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, done.stderr
        tables.append(next((tmp_path / name).glob("data_scaling/smoke*/table.csv")).read_bytes())
    assert tables[0] == tables[1]
