"""The arithmetic of the benchmark tables, and the names on their command line."""

import importlib.util

import pytest

from benchmarks import __main__ as command
from benchmarks.timing import Row, best, differences, in_turns, ratios, show, value


def test_ways_take_turns_and_the_warm_up_is_dropped() -> None:
    calls: list[str] = []

    def way(name: str) -> float:
        calls.append(name)
        return float(len(calls))

    found = in_turns([lambda: way("a"), lambda: way("b")], rounds=2)
    assert calls == ["a", "b"] * 3
    assert found == [(3.0, 5.0), (4.0, 6.0)]


def test_numbers_of_the_rounds() -> None:
    assert ratios((4, 9), (2, 3)) == (2, 3)
    assert differences((4, 9), (2, 3)) == (2, 6)
    assert best([(1, 2, 9), (4, 4, 4)]) == (4, 4, 4)


@pytest.mark.parametrize(("goal", "met"), [(">= 3", True), (">= 3.1", False), ("<= 3", True), ("<= 2.9", False)])
def test_a_goal_is_judged_by_the_median(goal: str, met: bool) -> None:
    assert Row("x", (1.0, 3.0, 100.0), goal=goal).met is met


def test_the_table(capsys: pytest.CaptureFixture[str]) -> None:
    show("Title", [Row("one", (2.0,), "s"), Row("several", (1.0, 2.0, 3.0), goal=">= 3")])
    lines = capsys.readouterr().out.strip().splitlines()
    assert lines[-2:] == ["| one | 2 s | 2 to 2 |  |", "| several | 2 x | 1.5 to 2.5 | >= 3 (not met) |"]


def test_options() -> None:
    assert value(["--timm=a", "--timm=b=c"], "timm") == "b=c"
    assert value([], "timm") == ""


def test_an_unknown_name_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main(["steps"]) == 2
    assert command.main(["--fast"]) == 2
    assert "expected step, precision" in capsys.readouterr().out


def test_every_name_is_a_benchmark() -> None:
    for name in command.NAMES:
        assert importlib.util.find_spec(f"benchmarks.{name}")
