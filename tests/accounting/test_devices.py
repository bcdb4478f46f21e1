"""Devices and what a run costs on them."""

from pathlib import Path

import pytest

from vision_repro.accounting.devices import devices, plan_cost, read_prices
from vision_repro.config import RunConfig, UserError
from vision_repro.launch.estimate import estimate
from vision_repro.papers.tables import paper_table


def test_every_number_has_its_source() -> None:
    found = devices()
    assert {"A100", "TPUv3-core"} <= found.keys()
    for device in found.values():
        assert device.source
        assert device.confidence in ("verified", "quoted", "memory")
        assert (device.price is None) == (not device.price_source) == (not device.price_confidence)


def test_hours_money_and_energy() -> None:
    device = devices()["A100"]
    cost = plan_cost(0.5 * device.peak * 3600 * 24, "A100", 0.5)
    assert (cost.hours, cost.days) == pytest.approx((24, 1))
    assert device.price is not None
    assert cost.dollars == pytest.approx(24 * device.price)
    assert cost.energy == pytest.approx(24 * 0.4)


def test_a_price_may_be_unknown() -> None:
    cost = plan_cost(1e18, "H200", 0.4)
    assert cost.dollars is None
    assert cost.energy is not None


def test_the_slides_price() -> None:
    """2500 core-days are 312.5 days of a v3-8 at $8.00 an hour: $60,000, not $480,000."""
    core = devices()["TPUv3-core"]
    cost = plan_cost(2500 * 86400 * core.peak * 0.3, "TPUv3-core", 0.3)
    assert cost.days == pytest.approx(2500)
    assert cost.dollars == pytest.approx(312.5 * 24 * 8.00)


@pytest.mark.parametrize("utilisation", [0.0, -0.1, 1.01, float("nan")])
def test_a_utilisation_is_a_share(utilisation: float) -> None:
    with pytest.raises(UserError, match="above 0 and at most 1"):
        plan_cost(1e18, "A100", utilisation)


def test_an_unknown_device() -> None:
    with pytest.raises(UserError, match=r'Device "A10" is unknown: expected one of .*Did you mean "A100"\?'):
        plan_cost(1e18, "A10", 0.4)


HEAD = ",".join(paper_table("devices")[0])


@pytest.mark.parametrize(
    "line",
    [
        "X,fast,bf16,1,,,,,",
        "X,0,bf16,1,,,,,",
        "X,-1e12,bf16,,,,,,",
        ",1e12,bf16,,,,,,",
        "X,1e12,bf16,0,,,,,",
        "X,1e12,bf16,1,,,nan,,",
        "X,inf,bf16,1,,,,,",
        "X,1e12",
    ],
)
def test_a_bad_line_is_named(tmp_path: Path, line: str) -> None:
    file = tmp_path / "devices.csv"
    file.write_text(f"{HEAD}\nX,1e12,bf16,,a source,memory,,,\n{line}\n")
    with pytest.raises(UserError, match=r'devices.csv", line 3: expected a device'):
        read_prices(file)


def test_a_line_of_ones_own(tmp_path: Path) -> None:
    file = tmp_path / "devices.csv"
    file.write_text(f"{HEAD}\nMine,2e12,fp32,150,my meter,verified,0.10,my bill,verified\n")
    assert read_prices(file)["Mine"].price == 0.10


@pytest.mark.parametrize("content", [None, b"\xff\xfe"])
def test_no_table(tmp_path: Path, content: bytes | None) -> None:
    file = tmp_path / "devices.csv"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(UserError, match="cannot be read"):
        read_prices(file)


def runs() -> list[RunConfig]:
    small = RunConfig(model="vit-32x2/2", image_size=8, steps=100, global_batch=10)
    return [small, RunConfig(model="vit-32x2/4", image_size=32, steps=1, global_batch=1), small]


def test_an_estimate_counts_every_run() -> None:
    lines = estimate(runs(), 5).splitlines()
    assert lines[0] == "3 of 5 runs to do"
    assert lines[1].split() == ["model", "runs", "images", "training", "FLOPs", "hours"]
    # 17 tokens of 32 features in 2 blocks, 16 patches of 12 values, 1000 classes
    forward = 2 * (2 * (17 * 12 * 32**2 + 2 * 17**2 * 32) + 16 * 12 * 32 + 32 * 1000)
    assert lines[2].split() == ["vit-32x2/2", "2", "2,000", f"{3 * forward * 2000:.3g}", "0.00"]
    assert lines[4].split()[:3] == ["all", "3", "2,001"]
    assert "Hours: one A100 at 40% of 312 TFLOP/s" in lines[5]
    assert lines[6].startswith("Cost: 0.00 dollars (AWS p4d.24xlarge")
    assert "0.00 kWh (the device alone at 400 W)" in lines[6]


def test_an_estimate_for_another_device() -> None:
    text = estimate(runs()[:1], 1, device="H200", utilisation=0.25)
    assert "one H200 at 25% of 989 TFLOP/s" in text
    assert "dollars" not in text


def test_one_model_at_two_image_sizes() -> None:
    sizes = [RunConfig(model="bit-r11x0.25/2", image_size=size, steps=1, global_batch=1) for size in (16, 32)]
    together = float(estimate(sizes, 2).splitlines()[2].split()[-2])
    apart = [float(estimate([config], 1).splitlines()[2].split()[-2]) for config in sizes]
    assert together == pytest.approx(sum(apart), rel=0.01)
    assert apart[1] > 2 * apart[0]
