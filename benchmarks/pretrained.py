"""Make one of the models that come with flowsr again: its turbulence, its pairs, its weights, its errors, its card.

    python benchmarks/pretrained.py hit-x4

The same versions give the same weights, bit for bit. They are written to ``flowsr/models/weights/NAME``; what is on the
way lies in ``runs/pretrained/NAME``, from where a run that was killed is resumed. ``--check`` makes them again beside
those that are there and says whether they are the same.
"""

from __future__ import annotations

import argparse
import shutil
import sys
from dataclasses import replace
from pathlib import Path

import flowsr
from flowsr.compare.result import rounded
from flowsr.config.study import load_experiment
from flowsr.data.pairs import read_statistics
from flowsr.files import file_checksum
from flowsr.models.checkpoint import PRETRAINED, WEIGHTS, load_model, read_card, save_model
from flowsr.models.verify import reference_output
from flowsr.pipeline.stages import stage
from flowsr.progress import shown

ROOT = Path(__file__).parent.parent
METRICS = ("nrmse", "correlation")
INTERPOLATIONS = ("trilinear", "tricubic", "spectral", "deconvolved")
BOX = ["periodic"] * 3
#: Largest size of a model in the package.
BYTES = 2_000_000


def main() -> int:
    """Make it, or make it again."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("name", choices=sorted(path.stem for path in (ROOT / "configs/pretrained").glob("*-x*.yaml")))
    parser.add_argument("--set", action="append", default=[], help="Override a setting, as flowsr run has it.")
    parser.add_argument("--check", action="store_true", help="Compare with the weights that are there; write nothing.")
    asked = parser.parse_args()
    config = ROOT / "configs" / "pretrained" / f"{asked.name}.yaml"
    experiment = load_experiment(config, asked.set)
    with shown() as progress:
        for name in ("simulate", "ingest", "train"):
            stage(name, experiment, progress=progress)
    made = experiment.output / "train" / "main"
    if asked.check:
        same = file_checksum(made / WEIGHTS) == file_checksum(PRETRAINED / asked.name / WEIGHTS)
        print(f"{asked.name}: {'the same bits' if same else 'other weights'}")
        return 0 if same else 1
    folder = ship(asked.name, made, experiment.output / "ingest", config.read_text(encoding="utf-8"))
    print(f"{asked.name}: {sum(path.stat().st_size for path in folder.iterdir())} bytes in {folder.relative_to(ROOT)}")
    return 0


def ship(name: str, made: Path, pairs: Path, config: str) -> Path:
    """Put a trained model into the package, its errors and how it was made in its card.

    Args:
        name: it will have.
        made: its folder.
        pairs: that it is tested on.
        config: how it was made.
    """
    card, model, folder = read_card(made), load_model(made), PRETRAINED / name
    training = {
        **card.training,
        "command": f"python benchmarks/pretrained.py {name}",
        "config": config,
        "licence": "MIT",
        "errors": errors_of(made, pairs),
        "reference": reference_output(model),
    }
    save_model(folder, model, replace(card, training=training))
    size = sum(path.stat().st_size for path in folder.iterdir())
    if size > BYTES:
        shutil.rmtree(folder)
        raise SystemExit(f"{name}: {size} bytes, more than {BYTES}")
    return folder


def errors_of(model: Path, pairs: Path) -> dict[str, dict[str, float | None]]:
    """Model to metric to mean over the held-out snapshots, interpolations beside the network, ``main``."""
    simple = [name for name in INTERPOLATIONS if read_statistics(pairs).coarse["boundary"] == BOX or name != "spectral"]
    comparison = flowsr.compare(pairs, {"main": model, **{name: name for name in simple}}, metrics=METRICS)
    data = comparison.home
    return {
        row.model: {name: rounded(comparison.mean(row, data, name)) for name in comparison.metrics_of(row, data)}
        for row in comparison.rows(data)
    }


if __name__ == "__main__":
    sys.exit(main())
