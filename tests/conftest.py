"""Shared fixtures: real data when it is at hand, one thread, no W&B."""

import os
from pathlib import Path

import pytest

os.environ.setdefault("WANDB_MODE", "disabled")
os.environ.setdefault("OMP_NUM_THREADS", "1")


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of real images named by VISION_REPRO_DATA; the test is skipped where there is none."""
    value = os.environ.get("VISION_REPRO_DATA")
    if not value:
        pytest.skip("VISION_REPRO_DATA names no folder of real images")
    return Path(value)
