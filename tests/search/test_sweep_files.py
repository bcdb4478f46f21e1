"""Sweep files, kept and printed: each is what its experiment runs, or a search of which every trial can be run."""

from __future__ import annotations

from importlib.metadata import version
from pathlib import Path

import pytest
import yaml

from experiments import transfer
from vision_repro.catalogue import experiment, experiments
from vision_repro.cli import plan
from vision_repro.config import UserError, run_id
from vision_repro.experiment import grid
from vision_repro.papers.hyper_rules import vit_fine_tuning
from vision_repro.presets.rates import SEARCH_GRID
from vision_repro.search import suggest
from vision_repro.search.loop import one_run
from vision_repro.search.sweep_file import Sweep, grid_text, main, named_grid, read

ROOT = Path(__file__).parents[2]
FILES = sorted((ROOT / "sweeps").glob("*.yaml"))
NAMES = experiments()
PRESETS = [(name, preset) for name in NAMES for preset in experiment(name).EXPERIMENT.presets]


def preset_of(sweep: Sweep) -> str:
    return str(sweep.spec["parameters"]["preset"]["value"])


def printed(folder: Path, name: str, preset: str) -> Sweep:
    """The sweep that the command prints, written to a file as its user would do."""
    found = experiment(name).EXPERIMENT
    text = grid_text(found, preset)
    file = folder / f"{yaml.safe_load(text)['name']}.yaml"
    file.write_text(text)
    return read(file)


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_a_sweep_file_is_what_its_experiment_runs(file: Path) -> None:
    sweep = read(file)
    assert sweep.spec["name"] == file.stem
    assert suggest.engine().schema_violations_from_proposed_config(dict(sweep.spec)) == []
    if sweep.searched:
        return
    planned = plan(sweep.experiment, sweep.tokens, sweep=True)
    assert len(set(planned.runs)) == len(planned.runs)
    if sweep.name in NAMES:
        assert (sweep.name, preset_of(sweep)) == (sweep.experiment.name, sweep.experiment.default)
        preset = sweep.experiment.presets[preset_of(sweep)]
        assert set(planned.runs) == set(grid(sweep.experiment, preset_of(sweep), preset))
    else:
        assert sweep.metric == "val_accuracy"


def test_the_folder_keeps_searches_and_one_grid_an_experiment() -> None:
    stems = {file.stem for file in FILES}
    searches = {stem for stem in stems if "_lr_" in stem or stem.endswith("_search")}
    assert stems - searches == set(NAMES)
    assert len(list((ROOT / "sweeps").iterdir())) <= 25


@pytest.mark.parametrize("name", NAMES)
def test_the_kept_grid_is_what_the_command_prints(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([name.replace("_", "-")]) == 0
    told = f"make sweep-file EXP={name} > sweeps/{name}.yaml"
    assert (ROOT / "sweeps" / f"{name}.yaml").read_text() == capsys.readouterr().out, told


@pytest.mark.parametrize(("name", "preset"), PRESETS)
def test_a_printed_grid_gives_exactly_the_preset_s_runs(name: str, preset: str, tmp_path: Path) -> None:
    sweep = printed(tmp_path, name, preset)
    assert suggest.engine().schema_violations_from_proposed_config(dict(sweep.spec)) == []
    assert not sweep.searched
    planned = plan(sweep.experiment, sweep.tokens, sweep=True)
    wanted = grid(sweep.experiment, preset, sweep.experiment.presets[preset])
    assert sorted(map(run_id, planned.runs)) == sorted(map(run_id, wanted))
    assert set(planned.runs) == set(wanted)
    assert sweep.spec["command"] == ["${env}", "python", "-m", f"experiments.{name}", "${args}"]


def test_the_command_prints_the_preset_that_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["depth", "--preset=gpu"]) == 0
    text = capsys.readouterr().out
    assert text == named_grid("depth", "gpu") == grid_text(experiment("depth").EXPERIMENT, "gpu")
    assert yaml.safe_load(text)["name"] == "depth_gpu"
    assert text != named_grid("depth")


@pytest.mark.parametrize(
    ("tokens", "words"),
    [
        (["dept"], 'There is no experiment "dept": expected one of '),
        (["depth", "--preset=gp"], 'depth has no preset "gp": expected one of smoke, '),
        (["depth", "--prest=gpu"], "--prest is unknown."),
        (["depth", "--preset=gpu,cpu"], "--preset takes one value, not 2."),
        ([], "Expected one experiment, such as data_scaling, but got 0"),
        (["depth", "swin"], "Expected one experiment, such as data_scaling, but got 2"),
    ],
)
def test_an_unknown_name_is_one_sentence(tokens: list[str], words: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(tokens) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith(f"sweep-file: {words}")
    assert err.count("\n") == 1
    if tokens[:1] == ["dept"]:
        assert 'Did you mean "depth"?' in err


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_every_sweep_file_starts_the_project_s_own_interpreter(file: Path) -> None:
    command = yaml.safe_load(file.read_text())["command"]
    assert command == ["${env}", "python", "-m", f"experiments.{read(file).experiment.name}", "${args}"]


@pytest.mark.parametrize("name", ["data_scaling", "data_scaling_lr_cpu", "smoke"])
def test_the_engine_lays_out_the_same_grid_as_the_command(name: str, tmp_path: Path) -> None:
    """Trial by trial, as `wandb agent` gets them: the ids of the runs are those of the grid, each once."""
    kept = ROOT / "sweeps" / f"{name}.yaml"
    sweep = read(kept) if kept.exists() else printed(tmp_path, "data_scaling", name)
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


def test_a_sweep_file_of_an_unknown_experiment_names_the_nearest(tmp_path: Path) -> None:
    file = tmp_path / "x.yaml"
    file.write_text("method: grid\ncommand: [-m, experiments.data_scalign]\nparameters: {lr: {value: 1}}")
    with pytest.raises(UserError, match="cannot be started") as caught:
        read(file)
    assert 'There is no experiment "data_scalign": expected one of ' in str(caught.value)
    assert str(caught.value).endswith('Did you mean "data_scaling"?')


def test_the_engine_is_the_one_that_was_measured() -> None:
    """0.2.0 has no working hyperband, and numpy 1 is what 0.3.0 would take: the lock overrides that."""
    assert tuple(map(int, version("sweeps").split(".")[:2])) >= (0, 3)
    assert int(version("numpy").split(".")[0]) >= 2
