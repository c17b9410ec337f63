"""Peak memory of the commands for fields of growing size: it should follow from tiles and workers, not from the field.

    python benchmarks/memory.py --sides 128 256 512 --folder /tmp/memory

For each side, a snapshot of noise is written to HDF5, and each command is run on it in a process of its own, whose peak
resident memory is what the system says at its end. `upscale` starts from a coarse field of half the side.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import time
from pathlib import Path

import h5py
import numpy as np

from flowsr.data import field_template
from flowsr.data.readers.hdf5 import write_header
from flowsr.grid import Grid
from flowsr.models import ModelCard, Task, build_model, save_model

MODEL = "tricubic"
#: A small process in between: one that is started counts the memory of the one that it was forked from as its own.
MEASURE = """
import resource, subprocess, sys
done = subprocess.run(sys.argv[1:], stdout=subprocess.DEVNULL)
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
sys.exit(done.returncode)
"""
#: Of three snapshots the first is noise; the others lie in a file and take no room there.
INGEST = """
name: memory
output: {folder}
threads: 1
simulate: {{}}
ingest:
  inputs: [{fine}]
  factor: 2
  operator: {operator}
  split: {{decorrelation_turnovers: 0.0}}
"""


def write_noise(path: Path, side: int, times: int = 1) -> None:
    """A velocity in flowsr's layout of HDF5, planes of noise in some order, in its first snapshot."""
    planes = np.random.default_rng(0).normal(size=(3, 16, side, side)).astype("float32")
    with h5py.File(path, "w") as file:
        write_header(
            file, field_template(Grid((side,) * 3, (2 * np.pi / side,) * 3), [float(time) for time in range(times)])
        )
        for start in range(0, side, 16):
            file["velocity"][0, :, start : start + 16] = np.roll(planes, start * 7, axis=-1)


def peak(command: list[str]) -> tuple[float, float]:
    """Megabytes at most, and seconds, of a command.

    Raises:
        SystemExit: it failed.
    """
    start = time.perf_counter()
    done = subprocess.run([sys.executable, "-S", "-c", MEASURE, *command], capture_output=True, text=True)
    if done.returncode != 0:
        raise SystemExit(f"{' '.join(command)}:\n{done.stderr}")
    return int(done.stdout) / 1024, time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sides", type=int, nargs="+", default=[128, 256, 512])
    parser.add_argument("--folder", type=Path, required=True, help="for the fields; removed at the end")
    parser.add_argument("--memory", default="2GB", help="of flowsr upscale")
    parser.add_argument("--only", nargs="+", default=[""], help="commands whose name begins so")
    arguments = parser.parse_args()
    folder = arguments.folder
    folder.mkdir(parents=True)
    save_model(folder / "model", build_model(MODEL, Task(2)), ModelCard(MODEL, Task(2)))
    flowsr = [sys.executable, "-m", "flowsr"]
    rows: dict[str, list[str]] = {}
    for side in arguments.sides:
        fine, coarse = folder / "fine.h5", folder / "coarse.h5"
        write_noise(fine, side)
        write_noise(coarse, side // 2)
        series = folder / "series.h5"
        write_noise(series, side, times=3)
        ingests = {}
        for operator in ("block_mean", "spectral_cutoff"):
            config = folder / f"{operator}.yaml"
            config.write_text(INGEST.format(folder=folder / operator, fine=series, operator=operator))
            ingests[f"ingest to half the side, {operator}"] = [*flowsr, "ingest", config]
        commands = {
            "inspect": [*flowsr, "inspect", fine],
            "convert to Zarr": [*flowsr, "convert", fine, folder / "a.zarr"],
            "convert to HDF5": [*flowsr, "convert", folder / "a.zarr", folder / "a.h5"],
            "verify": [*flowsr, "verify", folder / "a.zarr"],
            f"upscale from half the side, --memory {arguments.memory}": [
                *flowsr,
                *("upscale", "--input", coarse, "--model", folder / "model", "--output", folder / "c.zarr"),
                *("--memory", arguments.memory),
            ],
            "evaluate": [*flowsr, "evaluate", folder / "a.zarr"],
            **ingests,
        }
        for name, command in commands.items():
            if not name.startswith(tuple(arguments.only)):
                continue
            megabytes, seconds = peak([str(word) for word in command])
            rows.setdefault(name, []).append(f"{megabytes:,.0f}")
            print(f"{side}^3 {name}: {megabytes:,.0f} MB, {seconds:.1f} s", flush=True)
        for path in folder.iterdir():
            if path.name != "model":
                shutil.rmtree(path) if path.is_dir() else path.unlink()
    print("\n| command | " + " | ".join(f"{side}^3" for side in arguments.sides) + " |")
    print("|---" * (len(arguments.sides) + 1) + "|")
    sizes = (f"{3 * 4 * side**3 / 1e6:,.0f}" for side in arguments.sides)
    print("| (one snapshot, float32) | " + " | ".join(sizes) + " |")
    for name, found in rows.items():
        print(f"| {name} | " + " | ".join(found) + " |")
    shutil.rmtree(folder)


if __name__ == "__main__":
    main()
