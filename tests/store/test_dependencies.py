"""Runs that start from other runs: how they are named, ordered, carried out, and what comes of one that failed."""

from __future__ import annotations

import json
import multiprocessing
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.training.test_run import CONFIG, context
from vision_repro.analysis.claims import Claim
from vision_repro.cli import main, plan
from vision_repro.config import Launch, RunConfig, UserError, run_id
from vision_repro.experiment import Experiment, Plan, Preset
from vision_repro.launch.pool import Pool
from vision_repro.store import dependencies
from vision_repro.store.runs import RunFolder
from vision_repro.training import run
from vision_repro.training.context import RunContext

TINY = replace(CONFIG, steps=2, evaluations=1, shots="", lr=1e-2)


def pretraining(preset: str, config: RunConfig) -> RunConfig | None:
    """`twice` is one more step after `once`."""
    if config.pretraining == "twice":
        return replace(TINY, pretraining="once", seed=config.seed, train_size=60)
    return replace(TINY, seed=config.seed, train_size=80) if config.pretraining == "once" else None


def lr_candidates(preset: str, config: RunConfig) -> Sequence[RunConfig]:
    return [replace(config, lr=rate, seed=0) for rate in (1e-5, 1e-2)]


def no_claims(name: str, preset: Preset) -> Sequence[Claim]:
    return ()


CHAIN = Experiment(
    name="chain", question="?", settings=("pretraining",), claims=no_claims, figure=lambda *rest: None,
    pretraining=pretraining,
    presets={"cpu": Preset(base=TINY, axes={"pretraining": ("", "once", "twice")}, seeds=2, cost="")},
)  # fmt: skip
SEARCHED = replace(CHAIN, lr_candidates=lr_candidates)


def planned(experiment: Experiment = CHAIN, *tokens: str) -> Plan:
    return plan(experiment, tokens)


def test_runs_upstream_come_once_and_before_what_needs_them() -> None:
    found = planned()
    assert len(found.runs) == 6
    assert len(found.upstream) == 4  # one pre-training and one in between, for each of two seeds
    seen: set[str] = set()
    for item in found.all:
        assert set(item.needs) <= seen
        seen.add(run_id(item))
    once, twice = (next(item for item in found.runs if item.pretraining == name) for name in ("once", "twice"))
    middle = next(item for item in found.upstream if run_id(item) == twice.weights_run)
    assert middle.weights_run == once.weights_run


def test_a_run_of_the_table_is_not_upstream_as_well() -> None:
    loop = replace(CHAIN, pretraining=lambda preset, config: replace(TINY, seed=config.seed))
    found = planned(loop, "--pretraining=,once")
    assert len(found.runs) == 4
    assert not found.upstream  # the pre-training is the run from scratch


def test_a_chosen_rate_names_its_candidates() -> None:
    found = planned(SEARCHED, "--pretraining=once", "--lr=None")
    assert [len(item.lr_from.split()) for item in found.runs] == [2, 2]
    assert found.runs[0].lr_from == found.runs[1].lr_from  # of seed 0 for both
    ids = {run_id(item): item for item in found.upstream}
    assert [ids[key].lr for key in found.runs[0].lr_from.split()] == [1e-5, 1e-2]
    assert found.runs[1].needs == (found.runs[1].weights_run, *found.runs[0].lr_from.split())


@pytest.mark.parametrize(
    ("tokens", "words"),
    [
        (("--pretraining=thrice",), '--pretraining="thrice" is unknown to chain'),
        (("--pretraining=once", "--weights=timm"), "both say where to start"),
        (("--corrupted=1.0",), "--corrupted=1.0"),
        (("--polyak=1",), "--polyak=1"),
        (("--train_on_val=True",), "--select=last"),
        (("--objective=colour",), '--objective="colour" is unknown'),
    ],
)
def test_what_cannot_be_is_told(tokens: tuple[str, ...], words: str) -> None:
    with pytest.raises(UserError, match=words):
        planned(CHAIN, *tokens)


def test_a_run_starts_from_the_weights_of_another(tmp_path: Path) -> None:
    found = planned(CHAIN, "--pretraining=once", "--seeds=1", "--lr=1e-9", "--weight_decay=0", "--steps=1")
    first, second = found.all
    with pytest.raises(UserError, match=f'run "{run_id(first)}" is not under'):
        run.execute(second, context(tmp_path, second))
    run.execute(first, context(tmp_path, first))
    result = run.execute(second, context(tmp_path, second))
    left, taken = (torch.load(tmp_path / run_id(item) / "weights.ckpt", weights_only=True) for item in found.all)
    assert left.keys() == taken.keys()
    for name in left:
        if name.startswith("head."):
            assert left[name].abs().max() > 1e-3
            assert taken[name].abs().max() < 1e-6  # a head of zeros, after one step at a rate of 1e-9
        else:
            assert torch.allclose(left[name], taken[name], atol=1e-6)
    facts = json.loads((tmp_path / run_id(second) / "provenance.json").read_text())
    assert facts["weights"]["source"] == f"run:{run_id(first)}"
    assert result["status"] == "ok"


def test_the_best_rate_on_val_is_taken(tmp_path: Path) -> None:
    found = planned(SEARCHED, "--pretraining=", "--seeds=1", "--lr=None", "--steps=12")
    for item in found.all:
        result = run.execute(item, context(tmp_path, item))
    values = [RunFolder(tmp_path, item).outcome() for item in found.upstream]
    accuracy = [item["metrics"]["val_accuracy"]["value"] for item in values if item]
    assert accuracy[1] > accuracy[0]
    assert result["metrics"]["lr"]["value"] == 1e-2
    assert result["metrics"]["test_accuracy"] == values[1]["metrics"]["test_accuracy"]  # type: ignore[index]


def test_ties_go_to_the_first_and_diverged_candidates_do_not_count(tmp_path: Path) -> None:
    rates, values = (1e-4, 1e-3, 1e-2), (None, 0.5, 0.5)
    runs = [replace(TINY, lr=rate) for rate in rates]
    for item, value in zip(runs, values, strict=True):
        folder = RunFolder(tmp_path, item)
        folder.open()
        folder.finish("ok" if value else "diverged", {"val_accuracy": (value, "fraction")}, {})
    config = replace(TINY, lr=None, lr_from=" ".join(map(run_id, runs)))
    folder = RunFolder(tmp_path, config)
    assert dependencies.resolve_learning_rate(config, folder).lr == 1e-3
    lost = replace(config, lr_from=run_id(runs[0]))
    assert dependencies.resolve_learning_rate(lost, folder).lr is None
    assert not dependencies.dependencies_succeeded(dependencies.resolve_learning_rate(lost, folder), folder)


def test_after_a_diverged_run_its_dependents_are_diverged(tmp_path: Path) -> None:
    first, second = planned(CHAIN, "--pretraining=once", "--seeds=1").all
    RunFolder(tmp_path, first).open()
    RunFolder(tmp_path, first).finish("diverged", {"test_accuracy": (None, "fraction")}, {})
    result = run.execute(second, context(tmp_path, second))
    assert result["status"] == "diverged"
    assert result["metrics"]["test_accuracy"]["value"] is None


def an_order(tmp_path: Path, runs: Sequence[RunConfig], jobs: int = 2) -> tuple[Pool, list[str]]:
    """Carries out `runs` by a pool; returns it and the order in which they ended."""
    ended: list[str] = []

    def event(config: RunConfig, message: dict[str, Any]) -> None:
        if message["kind"] in ("done", "failed"):
            ended.append(f"{message['kind']} {run_id(config)}")

    def its_context(config: RunConfig, report: Callable[..., None]) -> RunContext:
        return replace(context(tmp_path, config), measurements=())

    pool = Pool(Launch(jobs=jobs, wandb="off"), "cpu", its_context, event)
    pool.run(runs)
    return pool, ended


def test_the_pool_keeps_the_order_and_gives_up_what_cannot_be(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = planned()
    failing = run_id(found.upstream[0])
    lock = multiprocessing.get_context("fork").Lock()

    def execute(config: RunConfig, where: object) -> dict[str, Any]:
        folder = RunFolder(tmp_path, config)
        if folder.id == failing:
            raise ValueError("this one fails")
        missing = [name for name in config.needs if not (tmp_path / name / "result.json").exists()]
        with lock, (tmp_path / "order").open("a") as file:
            file.write(f"{folder.id} {missing}\n")
        folder.finish("ok", {}, {})
        return folder.result() or {}

    monkeypatch.setattr(run, "execute", execute)
    pool, ended = an_order(tmp_path, tuple(reversed(found.all)))
    lines = (tmp_path / "order").read_text().splitlines()
    lost = [item for item in found.all if failing in (run_id(item), *item.needs)]
    lost += [item for item in found.all if set(item.needs) & {run_id(one) for one in lost} and item not in lost]
    assert all(line.endswith(" []") for line in lines)
    assert len(lines) == len(found.all) - len(lost)
    assert {failure.config for failure in pool.failures} == set(lost)
    assert len(ended) == len(found.all)


def test_a_point_that_is_left_out_of_the_grid_is_done_without_a_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    preset = replace(CHAIN.presets["cpu"], skip=lambda config: config.pretraining == "twice")
    some = replace(CHAIN, presets={"cpu": preset})
    assert {item.pretraining for item in planned(some).runs} == {"", "once"}
    assert len(planned(some).upstream) == 2  # what only the point that is left out would need is left out too
    assert main(some, ["--pretraining=twice", f"--out={tmp_path}"]) == 0
    assert "nothing to do" in capsys.readouterr().out
    assert not list(tmp_path.iterdir())
