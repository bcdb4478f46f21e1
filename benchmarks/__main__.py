"""Runs the named benchmarks, or all: `python -m benchmarks [name ...] [--quick] [--timm=PATH] [--data=PATH]`.

Each runs in a process of its own, so that none inherits the threads or imports of another.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

NAMES = (
    "step", "precision", "pipeline", "figure", "contention", "jpeg", "listing_memory", "attention", "ridge_path",
    "timm_train",
)  # fmt: skip
ROOT = Path(__file__).resolve().parents[1]


def main(tokens: Sequence[str]) -> int:
    """Runs the benchmarks that `tokens` name, in order; returns 0, 1 if one failed, or 2 for a wrong name."""
    options = [token for token in tokens if token.startswith("--")]
    names = [token for token in tokens if not token.startswith("--")]
    known = ("--quick", "--timm=", "--data=")
    wrong = [name for name in names if name not in NAMES] + [item for item in options if not item.startswith(known)]
    if wrong:
        print(f'benchmarks: "{wrong[0]}" is unknown: expected {", ".join(NAMES)}, --quick, --timm=, --data=.')
        return 2
    codes = [
        subprocess.run([sys.executable, "-m", f"benchmarks.{name}", *options], cwd=ROOT).returncode
        for name in names or NAMES
    ]
    return int(any(codes))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
