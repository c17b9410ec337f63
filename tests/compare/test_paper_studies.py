"""The published protocols at a size that a CPU does: every part of them runs and ends in a table."""

import json
import math

import pytest

from flowsr.cli import main

BOX = (
    "{cells: 16, viscosity: 0.05, seeds: [0, 1], batch: 2, spin_up_time: 2.0, settle_time: 1.0, duration: 12.0, "
    "snapshot_interval: 0.5}"
)
CHANNEL = "{seeds: [0], channel: {cells: [8, 16, 8], spin_up_time: 0.02, duration: 0.6, snapshot_interval: 0.02}}"
SMALL = {
    "wang": [
        "seeds=[0, 1]",
        f"data.isotropic.simulate={BOX}",
        f"data.rotating.simulate={BOX}",
        "data.stratified=null",
        "data.isotropic.ingest.split.decorrelation_turnovers=0.5",
        "data.rotating.ingest.split.decorrelation_turnovers=0.5",
        "models.relaxed_banks.label=L2",
        "budget={amount: 14000, tolerance: 0.6}",
        "train={samples_per_epoch: 4, max_epochs: 2, batch_size: 2}",
    ],
    "balla_channel": [
        "seeds=[0, 1]",
        f"data.channel.simulate={CHANNEL}",
        "data.channel.ingest={factor: 2, split: {decorrelation_turnovers: 0.0}}",
        "compare.decorrelation_turnovers=0.01",
        "models.cnn.options={width: 8, blocks: 0}",
        "models.cnn_turned.options={width: 8, blocks: 0}",
        "models.strict.options={channels: 1, blocks: 0}",
        "models.relaxed.options={channels: 1, blocks: 0}",
        "learning_curve.sizes=[2, 6]",
        "train={samples_per_epoch: 4, max_epochs: 2, batch_size: 2}",
    ],
}


@pytest.mark.slow
@pytest.mark.parametrize("name", SMALL)
def test_a_small_version_of_the_protocol_ends_in_a_table(tmp_path, name):
    overrides = [part for override in SMALL[name] for part in ("--set", override)]
    command = [
        "compare",
        f"configs/paper/{name}.yaml",
        "--set",
        f"output={tmp_path}",
        "--set",
        "workers=1",
        "--set",
        "device=cpu",
    ]
    assert main([*command, *overrides]) == 0
    results = json.loads((tmp_path / "compare/study.json").read_text())
    scores = [s for s in results["scores"] if s["metric"] == "mae" and s["size"] is None]
    assert {s["model"] for s in scores} == set(results["models"])
    assert all(math.isfinite(s["estimate"]) and s["estimate"] > 0 for s in scores)
    networks = [s for s in scores if results["models"][s["model"]]["trained"]]
    assert all(len(s["by_seed"]) == 2 for s in networks)
    if name == "wang":
        assert results["models"]["paper_strict"]["options"]["frames"] == 3
        assert {(s["data"], s["tested_on"]) for s in networks} == {
            (a, b) for a in results["data"] for b in results["data"]
        }
    else:
        slopes = {one["model"]: one["slope"] for one in results["learning"] if one["metric"] == "mae"}
        assert slopes.keys() == {"cnn", "cnn_turned", "strict", "relaxed"}
        assert all(slope["low"] <= slope["estimate"] <= slope["high"] for slope in slopes.values())
