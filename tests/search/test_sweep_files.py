"""The sweep files: each is what its experiment runs, or a search that every trial of can be run."""

from __future__ import annotations

import importlib
from importlib.metadata import version
from pathlib import Path

import pytest
import yaml

from experiments import transfer
from vision_repro.cli import plan
from vision_repro.config import UserError, run_id
from vision_repro.experiment import grid
from vision_repro.papers.hyper_rules import vit_fine_tuning
from vision_repro.presets.rates import SEARCH_GRID
from vision_repro.search import suggest
from vision_repro.search.loop import one_run
from vision_repro.search.sweep_file import Sweep, file_stem, grid_text, read

ROOT = Path(__file__).parents[2]
FILES = sorted((ROOT / "sweeps").glob("*.yaml"))
NAMES = sorted(file.stem for file in (ROOT / "experiments").glob("*.py") if not file.stem.startswith("_"))


def preset_of(sweep: Sweep) -> str:
    return str(sweep.spec["parameters"]["preset"]["value"])


def is_grid(sweep: Sweep) -> bool:
    names = (file_stem(sweep.experiment, name) for name in sweep.experiment.presets)
    return sweep.name in (*names, f"{sweep.experiment.name}_{sweep.experiment.default}")


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_a_sweep_file_is_what_its_experiment_runs(file: Path) -> None:
    sweep = read(file)
    assert sweep.spec["name"] == file.stem
    assert suggest.engine().schema_violations_from_proposed_config(dict(sweep.spec)) == []
    if sweep.searched:
        return
    planned = plan(sweep.experiment, sweep.tokens, sweep=True)
    assert len({run_id(run) for run in planned.runs}) == len(planned.runs)
    if is_grid(sweep):
        preset = sweep.experiment.presets[preset_of(sweep)]
        assert set(planned.runs) == set(grid(sweep.experiment, preset_of(sweep), preset))
    else:
        assert sweep.metric == "val_accuracy"


@pytest.mark.parametrize("name", NAMES)
def test_every_preset_has_its_file(name: str) -> None:
    experiment = importlib.import_module(f"experiments.{name}").EXPERIMENT
    for preset in experiment.presets:
        file = ROOT / "sweeps" / f"{file_stem(experiment, preset)}.yaml"
        assert file.read_text() == grid_text(experiment, preset), f"python -m vision_repro.search.sweep_file {name}"


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_every_sweep_file_starts_the_project_s_own_interpreter(file: Path) -> None:
    command = yaml.safe_load(file.read_text())["command"]
    assert command == ["${env}", "python", "-m", f"experiments.{read(file).experiment.name}", "${args}"]


@pytest.mark.parametrize("name", ["data_scaling", "data_scaling_lr_cpu", "data_scaling_smoke"])
def test_the_engine_lays_out_the_same_grid_as_the_command(name: str) -> None:
    """Trial by trial, as `wandb agent` gets them: the ids of the runs are those of the grid, each once."""
    sweep = read(ROOT / "sweeps" / f"{name}.yaml")
    found = suggest.engine().next_runs(dict(sweep.spec), [], n=1000)
    trials = [{key: entry["value"] for key, entry in run.config.items()} for run in found if run]
    ids = []
    for trial in trials:
        tokens = [f"--{key}={value}" for key, value in trial.items()]
        ids.append(
            run_id(one_run(plan(sweep.experiment, tokens)))
            if "lr" not in trial
            else run_id(one_run(plan(sweep.experiment, tokens, sweep=True)))
        )
    assert sorted(ids) == sorted(map(run_id, plan(sweep.experiment, sweep.tokens, sweep=True).runs))


def test_the_learning_rate_searches_cover_the_grid_and_both_ends() -> None:
    for name in ("cpu", "cifar"):
        sweep = read(ROOT / "sweeps" / f"data_scaling_lr_{name}.yaml")
        runs = plan(sweep.experiment, sweep.tokens, sweep=True).runs
        assert {run.lr for run in runs} == set(SEARCH_GRID)
        sizes = sweep.experiment.presets[name].axes["train_size"]
        assert {run.train_size for run in runs} == {sizes[0], sizes[-1]}


@pytest.mark.parametrize("dataset", ["imagenet", "cifar10", "cifar100", "pets", "flowers"])
def test_the_fine_tuning_rates_are_those_of_table_4(dataset: str) -> None:
    """And the trials are the very runs among which the experiment chooses its rates."""
    sweep = read(ROOT / "sweeps" / f"transfer_lr_{dataset}.yaml")
    rule = vit_fine_tuning(dataset)
    planned = plan(sweep.experiment, sweep.tokens, sweep=True)
    assert sorted({run.lr for run in planned.runs}) == [rate for rate in sorted(rule.learning_rates) if rate <= 0.03]
    for run in planned.runs:
        found = (
            run.steps,
            run.global_batch,
            run.weight_decay,
            run.grad_clip,
            run.image_size,
            run.optimizer,
            run.warmup,
        )
        assert found == (rule.schedule.steps, rule.batch, 0.0, rule.grad_clip, rule.crop, "sgd", 0.0)
        assert not run.train_on_val
    tokens = [
        "--preset=paper",
        "--seeds=1",
        f"--dataset={dataset}",
        "--pretraining=",
        f"--model={planned.runs[0].model}",
    ]
    upstream = plan(transfer.EXPERIMENT, tokens).upstream
    chosen = {run_id(run) for run in planned.runs if run.model == planned.runs[0].model}
    assert len(chosen) == len({run.lr for run in planned.runs})
    assert chosen <= {run_id(run) for run in upstream}


def test_every_trial_of_a_search_can_be_run() -> None:
    for sweep in map(read, FILES):
        if not sweep.searched:
            continue
        assert sweep.metric == "val_accuracy"
        assert sweep.spec["run_cap"] >= 10
        for number in range(5):
            found = suggest.suggest(sweep.spec, (), sweep.name, number)
            assert found is not None
            words = [f"--{key}={value}" for key, value in found.items()]
            run = one_run(plan(sweep.experiment, [*sweep.tokens, *words], sweep=True))
            assert run.total_steps % run.evaluations == 0


@pytest.mark.parametrize(
    "text",
    [
        "- 1",
        "method: grid",
        "{",
        "method: bayes\ncommand: [-m, experiments.data_scaling]\nparameters: {}",
        "method: grid\ncommand: [-m, other.data_scaling]\nparameters: {lr: {value: 1}}",
        "method: grid\ncommand: [-m, experiments.data_scalign]\nparameters: {lr: {value: 1}}",
    ],
)
def test_a_bad_sweep_file_is_refused(tmp_path: Path, text: str) -> None:
    file = tmp_path / "x.yaml"
    file.write_text(text)
    with pytest.raises(UserError):
        read(file)
    with pytest.raises(UserError, match="cannot be read"):
        read(tmp_path / "missing.yaml")


def test_the_engine_is_the_one_that_was_measured() -> None:
    """0.2.0 has no working hyperband, and numpy 1 is what 0.3.0 would take: the lock overrides that."""
    assert tuple(map(int, version("sweeps").split(".")[:2])) >= (0, 3)
    assert int(version("numpy").split(".")[0]) >= 2
