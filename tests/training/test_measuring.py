"""Nothing is trained twice: what is asked for later is measured on the weights that are there, to the same numbers."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.training.test_run import CONFIG, KilledError, context
from vision_repro.config import RunConfig, UserError, run_id
from vision_repro.store.measurements import wanted
from vision_repro.store.runs import WEIGHTS
from vision_repro.training import run
from vision_repro.training.recorder import Recorder

PLAIN = replace(CONFIG, shots="")


def no_training(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Recorder, "on_train_batch_start", lambda *_: pytest.fail("a trained run was trained again"))


@pytest.mark.parametrize(
    "more",
    [
        {"shots": "1 5"},
        {"shots": "1 5", "draws": 4},
        {"probes": "knn linear cost training_accuracy training_seconds"},
        {"views": "ten"},
        {"probes": "gradient_norms", "model": "plain8x0.25"},
        {"probes": "attention_distance", "select": "last", "polyak": 0.5},
    ],
    ids=lambda more: " ".join(f"{key}={value}" for key, value in more.items()),
)
def test_a_later_measurement_is_that_of_the_day(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, more: dict[str, Any]
) -> None:
    deciding = {key: value for key, value in more.items() if key in ("model", "select", "polyak")}
    first, config = replace(PLAIN, **deciding), replace(PLAIN, **more)
    assert run_id(first) == run_id(config)
    at_once = run.execute(config, context(tmp_path / "once", config))
    run.execute(first, context(tmp_path / "later", first))
    trained = (tmp_path / "later" / run_id(first) / "result.json").read_bytes()
    no_training(monkeypatch)
    later = run.execute(config, context(tmp_path / "later", config))
    seconds = {"training_seconds"}  # of the clock, and so never twice the same
    assert {name: cell for name, cell in later["metrics"].items() if name not in seconds} == {
        name: cell for name, cell in at_once["metrics"].items() if name not in seconds
    }
    assert later["metrics"].keys() == at_once["metrics"].keys()
    assert len(later["metrics"]) > 2
    assert (tmp_path / "later" / run_id(first) / "result.json").read_bytes() == trained


def test_a_killed_measurement_is_made_and_no_other_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = replace(PLAIN, shots="1 5")
    where = context(tmp_path, config)
    whole = run.execute(config, where)
    accuracy, one, five = wanted(config)
    files = {item: where.folder.path / "measurements" / item.file for item in (accuracy, one, five)}
    files[five].unlink()
    stamps = [files[item].stat().st_mtime_ns for item in (accuracy, one)]
    no_training(monkeypatch)
    assert where.folder.missing() == (five,)
    assert run.execute(config, where) == whole
    assert [files[item].stat().st_mtime_ns for item in (accuracy, one)] == stamps


def test_nothing_is_measured_that_nobody_asks_for(tmp_path: Path) -> None:
    where = replace(context(tmp_path), measurements=())
    found = run.execute(CONFIG, where)
    assert "test_accuracy" not in found["metrics"]
    assert "val_accuracy" in found["metrics"]
    assert not (where.folder.path / "measurements").exists()


def test_a_diverged_run_is_not_measured(tmp_path: Path) -> None:
    config = replace(CONFIG, lr=1e30, grad_clip=0.0)
    run.execute(config, context(tmp_path, config))
    more = replace(config, probes="knn")
    assert run.execute(more, context(tmp_path, more))["status"] == "diverged"


def test_damaged_weights_are_never_measured(tmp_path: Path) -> None:
    where = context(tmp_path, PLAIN)
    run.execute(PLAIN, where)
    file = where.folder.path / WEIGHTS
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 16
    file.write_bytes(content)
    with pytest.raises(UserError, match="damaged or another file"):
        run.execute(CONFIG, context(tmp_path, CONFIG))
    child = replace(PLAIN, weights=f"run:{run_id(PLAIN)}", seed=1)
    for source in (f"run:{run_id(PLAIN)}", str(file)):
        child = replace(PLAIN, weights=source, seed=1)
        with pytest.raises(UserError, match="damaged or another file"):
            run.execute(child, context(tmp_path, child))


def test_other_data_under_the_same_name_are_never_passed_off(tmp_path: Path) -> None:
    where = context(tmp_path, PLAIN)
    run.execute(PLAIN, where)
    result = where.folder.result()
    assert result is not None
    facts = {key: value for key, value in result.items() if key not in ("run", "status", "metrics")}
    where.folder.finish("ok", {}, {**facts, "data_sha256": "f" * 64})
    with pytest.raises(UserError, match=f"has the fingerprint {result['data_sha256'][:12]} now.*{'f' * 12}"):
        run.execute(CONFIG, context(tmp_path, CONFIG))


def test_a_checkpoint_of_another_run_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    other = replace(PLAIN, seed=7)
    stopped = context(tmp_path, other, checkpoint_seconds=0.0)
    seeded = Recorder.on_train_batch_start

    def stop(self: Recorder, trainer: Any, *rest: Any) -> None:
        seeded(self, trainer, *rest)
        if trainer.global_step == 7:
            raise KilledError

    with monkeypatch.context() as patch:
        patch.setattr(Recorder, "on_train_batch_start", stop)
        with pytest.raises(KilledError):
            run.execute(other, stopped)
    (file,) = stopped.folder.path.glob("last-*.ckpt")
    mine = context(tmp_path, PLAIN)
    mine.folder.open()
    file.rename(mine.folder.path / file.name)
    with pytest.raises(UserError, match=f"checkpoint of run {run_id(other)}, not of {run_id(PLAIN)}"):
        run.execute(PLAIN, mine)


def test_defaults_of_a_config_name_the_run_of_any_experiment(tmp_path: Path) -> None:
    first = run.execute(PLAIN, replace(context(tmp_path, PLAIN), experiment="one"))
    again = run.execute(PLAIN, replace(context(tmp_path, PLAIN), experiment="two"))
    assert first == again
    assert len([item for item in tmp_path.iterdir() if len(item.name) == 12]) == 1
    assert RunConfig().threads == 1


def test_the_class_of_every_test_image_is_kept(tmp_path: Path) -> None:
    where = context(tmp_path, PLAIN)
    found = run.execute(PLAIN, where)["metrics"]["test_accuracy"]["value"]
    (accuracy,) = wanted(PLAIN)
    arrays = where.folder.arrays(accuracy)
    assert arrays["predicted"].shape == arrays["label"].shape == (397,)
    assert (arrays["predicted"] == arrays["label"]).mean() == pytest.approx(found, abs=1e-12)
    file = where.folder.path / "measurements" / accuracy.arrays
    assert file.stat().st_size < 2000
    content = bytearray(file.read_bytes())
    content[-30] ^= 1
    file.write_bytes(content)
    with pytest.raises(UserError, match="damaged or another file"):
        where.folder.arrays(accuracy)
