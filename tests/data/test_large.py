"""A store twenty times larger than the memory it may take; ten minutes and 25 GB of disk."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

BENCHMARK = Path(__file__).parents[2] / "benchmarks" / "io.py"


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_twenty_gigabytes_are_inspected_degraded_and_sampled_in_one(tmp_path):
    command = [sys.executable, str(BENCHMARK), "large", "--folder", str(tmp_path), "--gigabytes", "20"]
    found = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    assert found["gigabytes"] > 19
    for step in ("inspect", "degrade", "sample"):
        assert found[step]["peak_megabytes"] < 1000, found
