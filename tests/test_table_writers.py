"""The table survives many writers: eight processes end runs at once on one folder, and one of them is killed."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


@pytest.mark.slow
@pytest.mark.parametrize(("locks", "rounds"), [("with", 200), ("without", 50)])
def test_no_row_is_lost_or_doubled_whoever_is_killed(tmp_path: Path, locks: str, rounds: int) -> None:
    """`without` is a network file system that has no locks."""
    command = [sys.executable, "-m", "tests.table_writers", str(tmp_path), str(rounds), locks]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=500)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
