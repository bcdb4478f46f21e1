import errno
import os
from pathlib import Path

import pytest

from vision_repro.config import RunConfig, UserError
from vision_repro.store.atomic import DiskFullError, write_atomic
from vision_repro.store.lock import Lock
from vision_repro.store.measurements import wanted
from vision_repro.store.runs import RunFolder
from vision_repro.store.table import TableSpec, table_csv


def test_a_full_disk_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_atomic(tmp_path / "a", "old")

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(DiskFullError, match="is full"):
        write_atomic(tmp_path / "a", "new")
    assert [item.name for item in tmp_path.iterdir()] == ["a"]
    assert (tmp_path / "a").read_text() == "old"


def test_a_file_in_the_way_is_named(tmp_path: Path) -> None:
    (tmp_path / "out").write_text("")
    with pytest.raises(UserError, match="cannot be written"):
        write_atomic(tmp_path / "out" / "a", "x")


def test_a_run_folder_of_another_config_is_refused(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path, RunConfig())
    folder.open()
    folder.open()
    (folder.path / "config.yaml").write_text("seed: 1\n")
    with pytest.raises(UserError, match="is not the config of run"):
        folder.open()


@pytest.mark.parametrize("text", ["", "{", "[]", '{"run": "other", "metrics": {}}'])
def test_a_broken_result_is_never_taken_for_one(tmp_path: Path, text: str) -> None:
    folder = RunFolder(tmp_path, RunConfig())
    assert folder.result() is None
    folder.open()
    (folder.path / "result.json").write_text(text)
    with pytest.raises(UserError, match="is not the result"):
        folder.result()


def test_the_table_holds_finished_runs_one_number_a_row(tmp_path: Path) -> None:
    folders = [RunFolder(tmp_path, RunConfig(seed=seed, shots="")) for seed in (0, 1, 2)]
    folders[0].finish("ok", {"val_accuracy": (0.5, "fraction")}, {})
    assert table_csv(TableSpec("e", "cpu", ("model",)), folders).count("\n") == 1  # trained, but not measured yet
    (accuracy,) = wanted(folders[0].config)
    folders[0].add(accuracy, {"test_accuracy": (0.1, "fraction")}, {})
    folders[2].finish("diverged", {"test_accuracy": (None, "fraction")}, {})
    lines = table_csv(TableSpec("e", "cpu", ("model",)), folders).splitlines()
    assert lines == [
        "experiment,preset,run,model,seed,status,metric,value,unit",
        f"e,cpu,{folders[0].id},vit-64x4/2,0,ok,test_accuracy,0.1,fraction",
        f"e,cpu,{folders[0].id},vit-64x4/2,0,ok,val_accuracy,0.5,fraction",
        f"e,cpu,{folders[2].id},vit-64x4/2,2,diverged,test_accuracy,nan,fraction",
        f"e,cpu,{folders[2].id},vit-64x4/2,2,diverged,val_accuracy,nan,fraction",
    ]


def test_a_lock_is_held_by_one_and_freed_by_death(tmp_path: Path) -> None:
    first, second = Lock(tmp_path), Lock(tmp_path)
    assert first.acquire()
    assert not second.acquire()
    first.release()
    child = os.fork()
    if child == 0:
        second.acquire()
        os._exit(9)  # without giving it back
    os.waitpid(child, 0)
    assert first.acquire()
    first.release()
