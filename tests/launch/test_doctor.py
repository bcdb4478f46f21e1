"""`make doctor` tells what is there and what to do about the rest, keeps secrets, and fails only where nothing runs."""

from __future__ import annotations

import fcntl
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from vision_repro.launch import doctor
from vision_repro.launch.doctor import Finding, main

TORCH = {"torch": "2.15.0", "cuda": None, "gpus": [], "bf16": False, "nccl": False, "gloo": True, "cache": "/tmp",
         "data": {"digits": "part of scikit-learn", "pets": ""}}  # fmt: skip
H200 = {"name": "H200", "gib": 139.8}


@pytest.fixture
def torch_says(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Sets what the child process answers, so that no torch is imported."""

    def says(found: dict[str, Any] | None, why: str = "") -> None:
        monkeypatch.setattr(doctor, "_ask_torch", lambda root: lambda: (found, why))

    says(TORCH)
    return says


def by_name(findings: Iterator[Finding]) -> dict[str, Finding]:
    return {item.name: item for item in findings}


def test_a_machine_without_gpu_account_and_cluster_is_ready(
    tmp_path: Path, torch_says: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert main([f"--out={tmp_path}"]) == 0
    text = capsys.readouterr().out
    for part in (
        "GPUs          none",
        "SLURM         not here",
        "not here      pets",
        "make data DATA=<name>",
        "Ready:",
    ):
        assert part in text


def test_where_torch_cannot_be_used_nothing_runs(
    tmp_path: Path, torch_says: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    torch_says(None, "ImportError: libcuda.so")
    assert main([f"--out={tmp_path}"]) == 1
    text = capsys.readouterr().out
    assert "cannot be used: ImportError: libcuda.so" in text
    assert "Nothing can run yet: torch." in text


def test_a_missing_package_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "NEEDED", ("numpy", "no_such_package"))
    found = by_name(doctor.software())["packages"]
    assert (found.state, found.advice) == ("bad", "make setup")
    assert "no_such_package" in found.text


def test_a_version_that_is_not_the_lock_s_is_told(tmp_path: Path) -> None:
    lock = tmp_path / "requirements.lock"
    lock.write_text("# a comment\nnumpy==0.0.1 ; python_version >= '3' \\\n    --hash=sha256:0\nno-such-thing==1.0\n")
    differing, known = doctor._unlocked(lock)
    assert known == 1
    assert len(differing) == 1
    assert differing[0].endswith("instead of 0.0.1")


def test_the_key_of_an_account_is_never_shown(
    tmp_path: Path, torch_says: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("WANDB_MODE")
    monkeypatch.setenv("WANDB_API_KEY", "s3cr3t" * 7)
    monkeypatch.setenv("WANDB_BASE_URL", "https://me:passw0rd@wandb.example/api?key=s3cr3t")
    assert main([f"--out={tmp_path}"]) == 0
    text = capsys.readouterr().out
    assert "online, https://wandb.example" in text
    assert "s3cr3t" not in text
    assert "passw0rd" not in text


def test_a_full_or_closed_folder_for_results_stops_everything(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(doctor.shutil, "disk_usage", lambda place: type("Usage", (), {"free": 1000})())
    assert by_name(doctor.disks(tmp_path / "not" / "made"))["results"].state == "bad"
    assert doctor.room("temporary", tmp_path, 1, "TMPDIR").state == "note"


def test_a_disk_without_locks_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert doctor._locks(tmp_path).state == "ok"
    monkeypatch.setattr(fcntl, "flock", lambda *given: None)  # as a mount that locks on one machine only
    assert doctor._locks(tmp_path).state == "note"


def test_gpus_and_what_ranks_talk_by() -> None:
    found = by_name(doctor.hardware({**TORCH, "gpus": [H200, H200], "bf16": True, "nccl": True}))
    assert found["GPUs"].text == "2: H200 (140 GiB), H200 (140 GiB); bf16"
    assert found["several ranks"].text == "with nccl and gloo"
    wanting = by_name(doctor.hardware({**TORCH, "gpus": [H200]}))["several ranks"]
    assert wanting.state == "note"
    assert "no NCCL" in wanting.advice


def test_partitions_are_named_as_make_wants_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, text in {
        "sinfo": "echo 'gpu*|up|12|2-00:00:00|gpu:a100:4'; echo 'cpu|up|3|1:00:00|(null)'",
        "sbatch": "",
        "squeue": "",
        "scontrol": "",
        "srun": "",
    }.items():
        (tmp_path / name).write_text(f"#!/bin/sh\n{text}\n")
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    assert [item.text for item in doctor.cluster()] == [
        "PARTITION=gpu: 12 nodes, gpu:a100:4, up, at most 2-00:00:00, the default",
        "PARTITION=cpu: 3 nodes, no GPUs, up, at most 1:00:00",
    ]
    (tmp_path / "sinfo").write_text("#!/bin/sh\necho 'sinfo: error: no controller' >&2; exit 1\n")
    (found,) = doctor.cluster()
    assert "no controller" in found.text


def test_bad_input_is_one_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--data_rot=x"]) == 2
    assert "Did you mean" in capsys.readouterr().err


def test_the_parent_imports_no_torch() -> None:
    code = "import sys, vision_repro.launch.doctor; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.slow
def test_what_torch_sees_comes_from_a_child(tmp_path: Path) -> None:
    (tmp_path / "cifar10").mkdir()
    (tmp_path / "cifar10" / "train.parquet").write_bytes(b"")
    found, why = doctor._ask_torch(str(tmp_path))()
    assert why == ""
    assert found is not None
    assert found["gloo"]
    assert found["data"]["cifar10"] == str(tmp_path / "cifar10")
    assert found["data"]["digits"] == "part of scikit-learn"
    assert found["data"]["imagenet"] == ""
