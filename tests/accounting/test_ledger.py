"""The cost ledger of a plan that is made up: stages, sums, what is not known, prices, chains of runs."""

from __future__ import annotations

import csv
import io
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from vision_repro.accounting import ledger, ledger_lines, ledger_text
from vision_repro.accounting.devices import devices, find_device
from vision_repro.accounting.ledger import Entry, derived_costs, entries, stages, upstream_flops
from vision_repro.accounting.ledger_lines import lines
from vision_repro.config import RUN, Launch, RunConfig, UserError, run_id
from vision_repro.experiment import Experiment, Plan, Preset
from vision_repro.launch.estimate import estimate, run_flops
from vision_repro.papers.tables import paper_table
from vision_repro.store.runs import RunFolder
from vision_repro.tasks.forward_flops import forward_flops

BASE = RunConfig(model="vit-32x2/4", image_size=32, steps=10, global_batch=10, lr=1e-3)
FIRST = replace(BASE, objective="mae", corrupted=0.75)
CANDIDATES = tuple(replace(BASE, weights=RUN + run_id(FIRST), lr=lr) for lr in (0.01, 0.1))
TUNED = replace(
    BASE, weights=RUN + run_id(FIRST), lr=None, lr_from=" ".join(map(run_id, CANDIDATES)), pretraining="mae"
)  # fmt: skip
SCRATCH = replace(BASE, model="bit-r11x0.25")
MEASURED = replace(BASE, budget="none", weights="random")
RUNS = (FIRST, *CANDIDATES, TUNED, SCRATCH, MEASURED)


def cost(**changes: Any) -> dict[str, Any]:
    """What an hour on one H100 may have been, a quarter of it evaluation."""
    found = {
        "training_flops": int(989e12 * 2700 * 0.4),
        "device": "NVIDIA H100 80GB HBM3",
        "devices": 1,
        "precision": "bf16",
        "device_hours": 1.0,
        "training_seconds": 2700.0,
        "evaluation_seconds": 900.0,
        "images": 270_000,
        "peak_memory_bytes": 3 * 2**30,
        "peak_memory_of": "CUDA tensors",
        "energy_joules": 1.8e6,
        "energy_from": "NVML",
        "counted_over_measured": 1.0,
    }
    return {**found, **changes}


def planned(root: Path) -> Plan:
    preset = Preset(BASE, {}, 1, "nothing")
    asked = Experiment("x", "?", {"cpu": preset}, ("model",), lambda *_: (), lambda *_: None)
    return Plan(asked, "cpu", preset, "", RUNS[3:], Launch(out=str(root)), RUNS[:3])


def carry_out(plan: Plan, run: RunConfig, found: dict[str, Any] | None, flops: int = 7) -> None:
    """Leaves what a finished run leaves."""
    folder = plan.folder(run)
    folder.open()
    if found is not None:
        (folder.path / "cost.json").write_text(json.dumps(found))
    folder.finish("ok", {}, {"cost": {"training_flops": flops}} if found is not None else {})


# --- stages ---


def test_the_stage_of_every_run() -> None:
    found = stages(RUNS)
    assert [found[run_id(run)] for run in RUNS] == [
        "pre-training",
        "search",
        "search",
        "fine-tuning",
        "training",
        "measuring",
    ]
    assert stages([replace(BASE, weights="timm")]).popitem()[1] == "fine-tuning"
    middle = replace(BASE, weights=RUN + run_id(FIRST))
    last = replace(BASE, weights=RUN + run_id(middle))
    assert list(stages([FIRST, middle, last]).values()) == ["pre-training", "pre-training", "fine-tuning"]


# --- sums ---


def test_a_ledger_of_one_run_has_one_line() -> None:
    (line,) = lines([Entry("a", "training", "vit", cost())])
    assert (line.training_hours, line.evaluation_hours, line.device_hours, line.energy) == (0.75, 0.25, 1.0, 0.5)
    assert (line.images_per_second, line.utilisation, line.peak_memory) == (100.0, pytest.approx(0.4), 3 * 2**30)
    assert line.dollars == devices()["H100"].price


def test_stages_and_models_are_added_up() -> None:
    found = [
        Entry("a", "pre-training", "vit", cost()),
        Entry("b", "fine-tuning", "bit", cost(images=30_000, peak_memory_bytes=5 * 2**30)),
        Entry("c", "fine-tuning", "vit", cost(training_flops=int(989e12 * 900 * 0.8), training_seconds=900.0)),
        Entry("d", "fine-tuning", "vit", cost(device_hours=0.5)),
    ]
    listed = lines(found)
    assert [(line.stage, line.model, line.runs) for line in listed] == [
        ("pre-training", "vit", 1),
        ("fine-tuning", "bit", 1),
        ("fine-tuning", "vit", 2),
        ("fine-tuning", "all", 3),
        ("all", "all", 4),
    ]
    both = listed[2]
    assert (both.images, both.images_per_second) == (540_000, pytest.approx(150.0))
    assert both.utilisation == pytest.approx((0.4 * 2700 + 0.8 * 900) / 3600)
    assert listed[-1].training_flops == pytest.approx(sum(line.training_flops or 0 for line in listed[:3]))
    assert (listed[-1].device_hours, listed[-1].peak_memory) == (3.5, 5 * 2**30)


@pytest.mark.parametrize(
    ("name", "field"), [("energy_joules", "energy"), ("images", "images"), ("peak_memory_bytes", "peak_memory")]
)
def test_what_one_run_does_not_tell_no_sum_tells(name: str, field: str) -> None:
    (line,) = lines([Entry("a", "training", "vit", cost()), Entry("b", "training", "vit", cost(**{name: None}))])
    assert getattr(line, field) is None
    row = next(csv.DictReader(io.StringIO(ledger_lines.to_csv([line]))))
    assert row[field] == ""


def test_runs_that_only_measure_neither_have_nor_hide_a_utilisation() -> None:
    idle = cost(training_flops=0, images=0, training_seconds=0.0)
    listed = lines([Entry("a", "training", "vit", cost()), Entry("b", "measuring", "vit", idle)])
    assert listed[-1].utilisation == pytest.approx(0.4)
    assert (listed[1].utilisation, listed[1].images_per_second, listed[1].images) == (None, None, 0)


# --- the table of devices ---


@pytest.mark.parametrize(
    ("name", "line"),
    [
        ("NVIDIA A100-SXM4-80GB", "A100"),
        ("NVIDIA H200", "H200"),
        ("Tesla V100-SXM2-16GB", "V100"),
        ("NVIDIA GeForce RTX 4090", "RTX-4090"),
        ("NVIDIA L4", "L4"),
        ("NVIDIA L40S", None),
        ("NVIDIA A1000", None),
        ("NVIDIA GH200 480GB", None),
        ("Intel(R) Xeon(R) Platinum 8481C CPU @ 2.70GHz", None),
    ],
)
def test_a_device_is_found_by_the_words_of_its_name(name: str, line: str | None) -> None:
    found = find_device(name, devices())
    assert (found and found.name) == line


def test_prices_of_one_s_own_go_over_the_table_and_beside_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "mine.csv"
    shipped, head = devices(), ",".join(paper_table("devices")[0])
    file.write_text(f"{head}\nH100,1e15,bf16,,,,2.00,my bill,verified\nXeon-8481C,1e12,fp32,,,,0.04,my bill,verified\n")
    before = derived_costs(cost())
    monkeypatch.setenv("VISION_REPRO_PRICES", str(file))
    assert derived_costs(cost())["dollars"] == 2.0 != before["dollars"]
    assert derived_costs(cost())["utilisation"] == pytest.approx(0.4 * 0.989)
    slow = cost(device="Intel Xeon 8481C", precision="fp32", training_flops=270 * 10**12)
    assert derived_costs(slow) == {"utilisation": pytest.approx(0.1), "dollars": 0.04}
    assert devices()["A100"] == shipped["A100"]
    monkeypatch.setenv("VISION_REPRO_PRICES", str(tmp_path / "none.csv"))
    with pytest.raises(UserError, match=r'none.csv" cannot be read'):
        derived_costs(cost())


def test_a_peak_of_another_arithmetic_and_an_unknown_device_tell_no_utilisation() -> None:
    assert derived_costs(cost(precision="fp32"))["utilisation"] is None
    assert derived_costs(cost(precision="fp32"))["dollars"] is not None
    assert derived_costs(cost(device="abacus")) == {"utilisation": None, "dollars": None}
    assert derived_costs(cost(device="NVIDIA H200"))["dollars"] is None  # the table has no price for it


# --- of a plan ---


def test_a_plan_s_ledger(tmp_path: Path) -> None:
    plan = planned(tmp_path)
    out = plan.summary
    for run in (FIRST, *CANDIDATES):
        carry_out(plan, run, None)
    assert ledger_text.write(plan, out) == ""
    assert not out.exists()
    carry_out(plan, TUNED, cost(energy_joules=None, energy_from=None, counted_over_measured=1.02))
    carry_out(plan, SCRATCH, cost(device="Some CPU", energy_joules=None))
    text = ledger_text.write(plan, out)
    assert [(entry.stage, entry.model) for entry in entries(plan)] == [
        ("pre-training", "vit-32x2/4"),
        ("search", "vit-32x2/4"),
        ("search", "vit-32x2/4"),
        ("fine-tuning", "vit-32x2/4"),
        ("training", "bit-r11x0.25"),
    ]
    rows = {tuple(cell.strip() for cell in line.split("|")[1:4]): line for line in text.splitlines() if "|" in line}
    assert rows["fine-tuning", "vit-32x2/4", "1"].count("|") == rows["all", "all", "5"].count("|")
    assert "40.0" in rows["fine-tuning", "vit-32x2/4", "1"]
    assert set(rows["pre-training", "vit-32x2/4", "1"].split("|")[4]) == {" "}
    assert "energy" not in text.splitlines()[2]
    assert "3 of 5 runs are older than this ledger" in text
    assert "For vit-32x2/4 our count is 1.020 times that of torch's counter." in text
    assert 'No price for "Some CPU"' in text
    assert f"{devices()['H100'].price:g} an hour of H100" in text
    assert ledger_lines.read(out / "ledger.csv") == lines(entries(plan))


@pytest.mark.parametrize("content", ["stage,model\na\n", "x\n1\n", b"\xff"])
def test_a_broken_ledger_or_cost_is_named(tmp_path: Path, content: str | bytes) -> None:
    file = tmp_path / "ledger.csv"
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(UserError, match="is not a ledger"):
        ledger_lines.read(file)
    (tmp_path / "cost.json").write_bytes(file.read_bytes())
    with pytest.raises(UserError, match="is not a record of a cost"):
        ledger.read_cost(tmp_path)


def test_what_was_spent_upstream_is_added_along_the_chain_of_weights(tmp_path: Path) -> None:
    plan = planned(tmp_path)
    second = replace(FIRST, objective="supervised", weights=RUN + run_id(FIRST))
    last = replace(BASE, weights=RUN + run_id(second), lr_from=run_id(SCRATCH))
    folders = {run_id(run): plan.folder(run) for run in (FIRST, second, SCRATCH)}

    def folder_of(run: str) -> RunFolder:
        return folders[run]

    carry_out(plan, FIRST, cost(), 1000)
    carry_out(plan, second, cost(), 200)
    carry_out(plan, SCRATCH, cost(), 30)
    assert upstream_flops(last, folder_of) == 1200
    assert upstream_flops(second, folder_of) == 1000
    assert upstream_flops(BASE, folder_of) == 0
    carry_out(plan, FIRST, None)
    assert upstream_flops(last, folder_of) is None


def test_an_estimate_tells_the_stages_apart() -> None:
    text = estimate(RUNS, 7).splitlines()
    assert text[0] == "6 of 7 runs to do"
    assert text[1].split() == ["stage", "model", "runs", "images", "training", "FLOPs", "hours"]
    assert [line.split()[:3] for line in text[2:8]] == [
        ["pre-training", "vit-32x2/4", "1"],
        ["search", "vit-32x2/4", "2"],
        ["fine-tuning", "vit-32x2/4", "1"],
        ["training", "bit-r11x0.25", "1"],
        ["measuring", "vit-32x2/4", "1"],
        ["all", "6", "500"],
    ]
    assert text[2].split()[4] == f"{run_flops(FIRST, forward_flops(FIRST)):.3g}"
    assert run_flops(FIRST, forward_flops(FIRST)) < run_flops(BASE, forward_flops(BASE))
    assert float(text[6].split()[4]) == 0.0
