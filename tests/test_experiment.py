"""The whole way, as a person goes it: commands, kills, bad input, real images."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

from experiments import data_scaling
from vision_repro.analysis.table import Table
from vision_repro.cli import plan
from vision_repro.config import UserError
from vision_repro.experiment import grid
from vision_repro.launch import preflight
from vision_repro.presets.rates import SEARCH_GRID, SEARCHED
from vision_repro.search import sweep

ROOT = Path(__file__).parent.parent
TINY = (
    "--preset=smoke",
    "--model=vit-32x4/2",
    "--train_size=20,40",
    "--seeds=2",
    "--steps=4",
    "--evaluations=2",
    "--precision=fp32",
)


def start(out: Path, *tokens: str, module: str = "experiments.data_scaling", **env: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", module, *tokens, f"--out={out}"]
    cache = {"VISION_REPRO_CACHE": str(out.parent / "cache")}
    return subprocess.Popen(
        command,
        cwd=ROOT,
        env={**os.environ, "WANDB_MODE": "disabled", **cache, **env},
        text=True,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


def finish(process: subprocess.Popen[str]) -> tuple[int, str, str]:
    out, err = process.communicate(timeout=400)
    return process.returncode, out, err


def table(out: Path) -> bytes:
    return next(out.glob("data_scaling/smoke*/table.csv")).read_bytes()


def results(out: Path) -> dict[str, bytes]:
    return {str(file.relative_to(out)): file.read_bytes() for file in out.glob("runs/*/result.json")}


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The outcome of the tiny experiment when nothing goes wrong."""
    out = tmp_path_factory.mktemp("undisturbed") / "out"
    code, text, err = finish(start(out, *TINY))
    assert code == 0, err
    assert "Verdicts" in text
    return out


def test_help_needs_no_torch() -> None:
    code = "import sys, experiments.data_scaling as e; e.main(e.EXPERIMENT, ['--help']); print('torch' in sys.modules)"
    begin = time.monotonic()
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.endswith("False\n")
    assert "presets:" in done.stdout
    assert time.monotonic() - begin < 20  # far above the second it should take: this is no benchmark


def test_everything_is_written_and_a_second_call_changes_nothing(undisturbed: Path) -> None:
    folder = next(undisturbed.glob("data_scaling/smoke*"))
    names = {item.name for item in folder.iterdir()} - {".lock"}
    assert names == {
        "table.csv",
        "summary.csv",
        "summary.md",
        "verdicts.json",
        "config.yaml",
        "provenance.json",
        "figure.pdf",
        "figure.svg",
        "figure.png",
        "ledger.csv",
    }
    before = {item: item.read_bytes() for item in undisturbed.rglob("*") if item.is_file()}
    code, _, err = finish(start(undisturbed, *TINY))
    assert code == 0, err
    assert before == {item: item.read_bytes() for item in undisturbed.rglob("*") if item.is_file()}


def test_smoke_rows_are_never_evidence(undisturbed: Path) -> None:
    text = next(undisturbed.glob("data_scaling/smoke*/verdicts.json")).read_text()
    assert '"holds"' not in text
    assert '"fails"' not in text


def test_the_subset_is_on_disk_with_its_checksum(undisturbed: Path) -> None:
    import json

    from vision_repro.files.subset import checksum

    file = next(undisturbed.glob("subsets/*seed*0*"))
    import torch

    indices = torch.tensor([int(line) for line in file.read_text().splitlines() if line.strip().isdigit()])
    found = {json.loads(text)["subset_sha256"] for text in results(undisturbed).values()}
    assert {checksum(indices[:20]), checksum(indices[:40])} <= found


@pytest.mark.slow
def test_killed_three_times_the_table_is_the_same_byte_for_byte(undisturbed: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    wait = random.Random(0)
    for _ in range(3):
        process = start(out, *TINY, "--checkpoint_seconds=0")
        time.sleep(wait.uniform(6, 14))
        process.kill()
        finish(process)
    code, _, err = finish(start(out, *TINY))
    assert code == 0, err
    assert table(out) == table(undisturbed)
    assert results(out) == results(undisturbed)


@pytest.mark.slow
def test_two_processes_give_the_table_of_one_also_when_killed(undisturbed: Path, tmp_path: Path) -> None:
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    code, _, err = finish(start(whole, *TINY, "--devices=2"))
    assert code == 0, err
    process = start(parts, *TINY, "--devices=2", "--checkpoint_seconds=0")
    deadline = time.monotonic() + 120
    while not results(parts) and time.monotonic() < deadline:
        time.sleep(0.1)
    process.kill()
    finish(process)
    code, _, err = finish(start(parts, *TINY, "--devices=2"))
    assert code == 0, err
    assert table(parts) == table(whole)
    one, two = (Table.read(next(out.glob("data_scaling/smoke*/table.csv"))) for out in (undisturbed, whole))
    first = one.values("test_accuracy", model="vit-32x4/2", train_size=20)
    second = two.values("test_accuracy", model="vit-32x4/2", train_size=20)
    # Sums are taken in another order: of 397 images a few may fall to the other side.
    assert first.keys() == second.keys()
    assert all(abs(first[seed] - second[seed]) < 0.02 for seed in first)


@pytest.mark.slow
def test_jobs_change_no_number(undisturbed: Path, tmp_path: Path) -> None:
    for jobs in (1, 3):
        code, _, err = finish(start(tmp_path / str(jobs), *TINY, f"--jobs={jobs}"))
        assert code == 0, err
        assert table(tmp_path / str(jobs)) == table(undisturbed)
        assert results(tmp_path / str(jobs)) == results(undisturbed)


@pytest.mark.slow
def test_a_further_measurement_trains_nothing(undisturbed: Path, tmp_path: Path) -> None:
    out = shutil.copytree(undisturbed, tmp_path / "out")
    code, _, err = finish(start(out, *TINY, "--shots=1 2 5", "--probes=knn"))
    assert code == 0, err
    assert "data_scaling, smoke: 0 of 4 runs to train, 8 measurements" in err
    assert results(out) == results(undisturbed)
    rows = Table.read(next(out.glob("data_scaling/smoke*shots*/table.csv")))
    assert {"few_shot_2", "knn_accuracy", "few_shot_5"} <= {row.metric for row in rows.rows}


def test_other_data_under_the_same_name_are_refused_with_both_fingerprints(undisturbed: Path, tmp_path: Path) -> None:
    out = shutil.copytree(undisturbed, tmp_path / "out")
    planned = plan(data_scaling.EXPERIMENT, [*TINY, f"--out={out}"])
    preflight.check_data(planned)
    folder = planned.folder(planned.runs[0])
    result = folder.result()
    assert result is not None
    now = result["data_sha256"]
    facts = {key: value for key, value in result.items() if key not in ("run", "status", "metrics")}
    folder.finish("ok", {}, {**facts, "data_sha256": "0" * 64})
    with pytest.raises(UserError, match=f'"digits" has the fingerprint {now[:12]} now.*{"0" * 12}: bring the old data'):
        preflight.check_data(planned)


def test_long_options_make_a_name_that_file_systems_take(tmp_path: Path) -> None:
    models = ",".join(f"vit-{width}x4/2" for width in range(8, 800, 8))
    planned = plan(data_scaling.EXPERIMENT, ["--preset=smoke", f"--model={models}", f"--out={tmp_path}"])
    other = plan(data_scaling.EXPERIMENT, ["--preset=smoke", f"--model={models},vit-16x4/4", f"--out={tmp_path}"])
    planned.summary.mkdir(parents=True)
    assert planned.summary.name.startswith("smoke,model=vit-8x4_2+vit-16x4_2")
    assert planned.summary != other.summary


@pytest.mark.slow
def test_two_commands_at_once_share_the_work(undisturbed: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    both = [start(out, *TINY), start(out, *TINY)]
    for process in both:
        code, _, err = finish(process)
        assert code == 0, err
    assert table(out) == table(undisturbed)
    assert results(out) == results(undisturbed)


@pytest.mark.slow
def test_ctrl_c_keeps_what_is_done_and_says_how_to_go_on(tmp_path: Path) -> None:
    process = start(tmp_path / "out", *TINY, "--steps=2000", "--jobs=1")
    deadline = time.monotonic() + 120
    while not list(tmp_path.glob("out/runs/*/log.txt")) and time.monotonic() < deadline:
        time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    code, _, err = finish(process)
    assert code == 130
    assert "the same command continues" in err
    assert "Traceback" not in err


@pytest.mark.slow
def test_a_diverging_run_does_not_stop_the_others(tmp_path: Path) -> None:
    file = tmp_path / "wild.yaml"
    values = {token[2:].split("=")[0]: {"values": token.split("=")[1].split(",")} for token in TINY}
    values |= {"lr": {"values": [0.001, 1e30]}, "grad_clip": {"value": 0}, "seeds": {"value": 1}}
    command = ["python", "-m", "experiments.data_scaling", "${args}"]
    file.write_text(yaml.safe_dump({"method": "grid", "command": command, "parameters": values}))
    code, _, err = finish(start(tmp_path / "out", str(file), module="vision_repro.search.sweep"))
    assert code == 0, err
    rows = (tmp_path / "out/data_scaling/wild/table.csv").read_text()
    assert rows.count(",diverged,val_accuracy,nan,") == 2
    assert rows.count(",ok,val_accuracy,0.") == 2
    assert "diverged" in err


@pytest.mark.slow
def test_two_processes_train_what_has_auxiliary_heads_relative_positions_or_mixed_labels(tmp_path: Path) -> None:
    """Plain DDP stops at a parameter without gradient; evaluation asserts that every image was seen once."""
    models = "googlenetx0.125,vit-32x2/2-posrel,swin-32x2.2/1,resnet8"
    tokens = (*TINY, f"--model={models}", "--seeds=1", "--train_size=20", "--devices=2", "--augmentation=flip+mixup0.2")
    code, _, err = finish(start(tmp_path / "out", *tokens))
    assert code == 0, err
    assert table(tmp_path / "out").decode().count(",ok,test_accuracy,") == 4


@pytest.mark.slow
def test_wandb_offline_leaves_one_run_each_and_a_broken_one_harms_none(undisturbed: Path, tmp_path: Path) -> None:
    tokens = (*TINY, "--seeds=1", "--train_size=20", "--devices=2")
    code, _, err = finish(start(tmp_path / "out", *tokens, WANDB_MODE="offline"))
    assert code == 0, err
    assert len(list(tmp_path.glob("out/runs/*/wandb/offline-run-*"))) == 1
    broken = {"WANDB_MODE": "online", "WANDB_API_KEY": "x" * 40, "WANDB_BASE_URL": "http://127.0.0.1:9"}
    code, _, err = finish(start(tmp_path / "broken", *tokens, **broken, WANDB_INIT_TIMEOUT="2"))
    assert code == 0, err
    assert table(tmp_path / "broken") == table(tmp_path / "out")


@pytest.mark.parametrize(
    ("tokens", "words"),
    [
        (("--preset=cpuu",), 'Did you mean "cpu"'),
        (("--modle=x",), 'Did you mean "model"'),
        (("--seeds=0",), "too small"),
        (("--devices=1,2",), "one value"),
        (("--lr=0.1,0.2",), "the figure compares"),
    ],
)
def test_bad_options_are_refused_at_once(tokens: tuple[str, ...], words: str) -> None:
    with pytest.raises(UserError, match=words):
        plan(data_scaling.EXPERIMENT, tokens)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("tokens", "words"),
    [
        (("--model=vit-64x4/22",), "22"),
        (("--model=vti-64x4/2",), "unknown"),
        (("--train_size=5000",), "5000"),
        (("--train_size=5",), "5"),
        (("--global_batch=33", "--devices=2"), "does not divide"),
        (("--dataset=cifra10",), 'Did you mean "cifar10"'),
        (("--data_root=/nowhere", "--dataset=cifar10", "--image_size=32", "--model=vit-64x4/4"), "/nowhere"),
    ],
)
def test_bad_input_ends_with_code_2_and_writes_nothing(tmp_path: Path, tokens: tuple[str, ...], words: str) -> None:
    out = tmp_path / "out"
    code, _, err = finish(start(out, *TINY, *tokens))
    assert code == 2
    assert words in err
    assert "Traceback" not in err
    assert not list(out.glob("runs/*"))
    assert not list(out.glob("data_scaling/smoke*"))


@pytest.mark.slow
def test_real_cifar_10_from_parquet(real_data: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    tokens = (
        "--preset=cifar",
        "--model=vit-64x4/4",
        "--train_size=500",
        "--seeds=1",
        "--steps=60",
        "--lr=0.003",
        "--evaluations=2",
    )
    code, _, err = finish(start(out, *tokens, f"--data_root={real_data}"))
    assert code == 0, err
    rows = Table.read(next(out.glob("data_scaling/cifar*/table.csv")))
    assert rows.values("test_accuracy", model="vit-64x4/4", train_size=500)[0] > 0.15  # chance is 0.10


def test_a_grid_is_seed_by_seed_and_ids_do_not_repeat() -> None:
    for name, preset in data_scaling.PRESETS.items():
        runs = grid(data_scaling.EXPERIMENT, name, preset)
        assert len(set(runs)) == len(runs)
        assert [run.seed for run in runs] == sorted(run.seed for run in runs)
        assert all(run.total_steps % run.evaluations == 0 for run in runs)


def test_the_learning_rates_are_the_outcome_of_the_committed_searches() -> None:
    for preset, dataset in (("cpu", "digits"), ("cifar", "cifar10")):
        found = Table.read(ROOT / f"results/data_scaling/data_scaling_lr_{preset}/table.csv")
        assert sweep.best(found, "val_accuracy", "model", "lr") == SEARCHED[dataset]
        models = set(data_scaling.PRESETS[preset].axes["model"])
        assert set(found.levels("model")) == models
        assert found.levels("lr") == list(SEARCH_GRID)
