"""One run on the real digits: repeatable, resumable to the last bit, the same on one process and two."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from vision_repro import datasets
from vision_repro.config import Launch, RunConfig, UserError
from vision_repro.files.subset import take
from vision_repro.store import checkpoints
from vision_repro.store.runs import RunFolder
from vision_repro.training import assemble, run
from vision_repro.training.context import RunContext
from vision_repro.training.recorder import Recorder, step_seed

CONFIG = RunConfig(
    model="vit-32x4/2", train_size=40, steps=12, evaluations=4, global_batch=16, lr=1e-3,
    shots="1 5", draws=2, augmentation="crop-flip",
)  # fmt: skip


class KilledError(BaseException):
    """Stands for a kill between two steps."""


def context(root: Path, config: RunConfig = CONFIG, **launch: Any) -> RunContext:
    return RunContext(
        folder=RunFolder(root, config),
        launch=Launch(wandb="off", **launch),
        cache=root / "cache",
        settings=("model", "train_size"),
        accelerator="cpu",
        report=lambda message: None,
    )


def outcome(where: RunContext) -> tuple[str, str, dict[str, torch.Tensor]]:
    weights = torch.load(where.folder.path / "weights.ckpt", weights_only=True)
    return (where.folder.path / "result.json").read_text(), (where.folder.path / "metrics.csv").read_text(), weights


def same(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> bool:
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


def test_a_run_leaves_its_evidence_and_is_done_once(tmp_path: Path) -> None:
    where = context(tmp_path)
    result = run.execute(CONFIG, where)
    names = {item.name for item in where.folder.path.iterdir()}
    assert {"config.yaml", "provenance.json", "metrics.csv", "weights.ckpt", "result.json"} <= names
    assert not [name for name in names if name.startswith("last")]
    assert set(result["metrics"]) == {"test_accuracy", "val_accuracy", "train_loss", "few_shot_1", "few_shot_5"}
    stamp = (where.folder.path / "result.json").stat().st_mtime_ns
    assert run.execute(CONFIG, where) == result
    assert (where.folder.path / "result.json").stat().st_mtime_ns == stamp


@pytest.mark.parametrize("kill_at", [4, 7, 11])
@pytest.mark.parametrize("accumulate", [1, 2])
def test_a_killed_run_ends_bitwise_as_an_uninterrupted_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kill_at: int, accumulate: int
) -> None:
    whole = context(tmp_path / "whole", accumulate=accumulate)
    run.execute(CONFIG, whole)
    parts = context(tmp_path / "parts", accumulate=accumulate, checkpoint_seconds=0.0)
    seeded = Recorder.on_train_batch_start

    def kill(self: Recorder, trainer: Any, module: Any, batch: Any, index: int) -> None:
        seeded(self, trainer, module, batch, index)
        if trainer.global_step == kill_at:
            raise KilledError

    with monkeypatch.context() as patch:
        patch.setattr(Recorder, "on_train_batch_start", kill)
        with pytest.raises(KilledError):
            run.execute(CONFIG, parts)
    assert checkpoints.find(parts.folder.path)
    assert parts.folder.result() is None
    run.execute(CONFIG, parts)
    assert outcome(whole)[:2] == outcome(parts)[:2]
    assert same(outcome(whole)[2], outcome(parts)[2])


def test_a_broken_checkpoint_costs_only_time(tmp_path: Path) -> None:
    whole, broken = context(tmp_path / "whole"), context(tmp_path / "broken")
    run.execute(CONFIG, whole)
    broken.folder.open()
    (broken.folder.path / "last-0123456789abcdef.ckpt").write_bytes(b"PK\x03\x04 truncated")
    run.execute(CONFIG, broken)
    assert outcome(whole)[0] == outcome(broken)[0]


def test_seed_0_is_a_seed_and_seeds_differ(tmp_path: Path) -> None:
    weights = []
    for number, seed in enumerate((0, 0, 1)):
        config = replace(CONFIG, seed=seed)
        where = context(tmp_path / str(number), config)
        run.execute(config, where)
        weights.append(outcome(where)[2])
    assert same(weights[0], weights[1])
    assert not same(weights[0], weights[2])


def test_the_best_weights_on_val_are_tested_not_the_luckiest_on_test(tmp_path: Path) -> None:
    best, last = CONFIG, replace(CONFIG, select="last")
    places = [context(tmp_path, config) for config in (best, last)]
    results = [run.execute(config, where) for config, where in zip((best, last), places, strict=True)]
    curve = [line.split(",") for line in (places[0].folder.path / "metrics.csv").read_text().splitlines()[1:]]
    top = max(float(line[2]) for line in curve)
    assert results[0]["metrics"]["val_accuracy"]["value"] == top
    assert results[0]["selected_step"] == next(int(line[0]) for line in curve if float(line[2]) == top)
    assert results[1]["selected_step"] == CONFIG.steps


def test_a_diverging_run_is_recorded_as_such(tmp_path: Path) -> None:
    config = replace(CONFIG, lr=1e30, grad_clip=0.0)
    where = context(tmp_path, config)
    result = run.execute(config, where)
    assert result["status"] == "diverged"
    assert result["metrics"]["test_accuracy"]["value"] is None


def test_what_does_not_divide_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="equal parts"):
        run.execute(replace(CONFIG, steps=13), context(tmp_path, replace(CONFIG, steps=13)))
    with pytest.raises(UserError, match="does not divide by devices"):
        run.execute(CONFIG, context(tmp_path, accumulate=3))


def test_step_seeds_do_not_collide() -> None:
    seeds = {step_seed(seed, step, rank) for seed in range(5) for step in range(200) for rank in range(4)}
    assert len(seeds) == 5 * 200 * 4


@pytest.mark.slow
def test_bf16_and_fp32_agree_within_seed_noise(tmp_path: Path) -> None:
    accuracy: dict[str, list[float]] = {}
    for precision in ("fp32", "bf16"):
        for seed in range(3):
            config = replace(CONFIG, model="bit-r11x0.15", seed=seed, steps=40, augmentation="none", lr=3e-3)
            config = replace(config, precision=precision)
            result = run.execute(config, context(tmp_path, config))
            accuracy.setdefault(precision, []).append(result["metrics"]["test_accuracy"]["value"])
    noise = max(accuracy["fp32"]) - min(accuracy["fp32"])
    difference = [a - b for a, b in zip(accuracy["fp32"], accuracy["bf16"], strict=True)]
    assert abs(sum(difference) / 3) <= max(noise, 0.02)


def test_the_recorded_curve_is_the_folder_s_only_truth(tmp_path: Path) -> None:
    where = context(tmp_path)
    run.execute(CONFIG, where)
    text = (where.folder.path / "metrics.csv").read_bytes()
    steps = [int(line.split(b",")[0]) for line in text.splitlines()[1:]]
    assert steps == [3, 6, 9, 12]


def test_a_run_starts_from_the_weights_of_another(tmp_path: Path) -> None:
    first = context(tmp_path)
    run.execute(CONFIG, first)
    file = first.folder.path / "weights.ckpt"
    config = replace(CONFIG, weights=str(file), seed=1, lr=1e-12, weight_decay=0.0)
    where = context(tmp_path, config)
    run.execute(config, where)
    facts = json.loads((where.folder.path / "provenance.json").read_text())["weights"]
    assert facts["sha256"] == hashlib.sha256(file.read_bytes()).hexdigest()
    assert facts["head"] is False
    before, after = outcome(first)[2], outcome(where)[2]
    body = [name for name in before if not name.startswith("head.")]
    assert all(torch.allclose(before[name], after[name], atol=1e-6) for name in body)
    assert float(after["head.weight"].abs().max()) < 1e-6  # started at zero, whatever the other run had learned


def test_a_measured_normalisation_is_that_of_the_run_s_own_images(tmp_path: Path, monkeypatch: Any) -> None:
    seen: list[Any] = []
    make = assemble.normalisation.statistics
    monkeypatch.setattr(assemble.normalisation, "statistics", lambda *given: seen.append(make(*given)) or seen[-1])
    for seed in (0, 1):
        config = replace(CONFIG, normalisation="mean-image", seed=seed)
        run.execute(config, context(tmp_path, config))
    splits = datasets.load("digits", None, tmp_path / "cache")
    for seed, found in enumerate(seen):
        chosen = splits.train.images[take(splits.train.labels, 40, seed)]
        assert torch.allclose(found.mean, chosen.double().mean(0) / 255, atol=1e-12)
    assert not torch.equal(seen[0].mean, seen[1].mean)


def test_several_views_are_tested_on_the_whole_split(tmp_path: Path) -> None:
    config = replace(CONFIG, views="ten")
    result = run.execute(config, context(tmp_path, config))
    assert 0 <= result["metrics"]["test_accuracy"]["value"] <= 1  # it asserts that all 397 images were seen


def test_too_few_shots_are_told_before_anything_is_trained(tmp_path: Path) -> None:
    config = replace(CONFIG, shots="1 21")
    where = context(tmp_path, config)
    with pytest.raises(UserError, match="21 shots need 21 images of every class, but class 0 has 20"):
        run.execute(config, where)
    assert not (where.folder.path / "metrics.csv").exists()
