"""Reading and writing fields: patches against the same bytes read straight, and a store far larger than memory.

    python benchmarks/io.py patches --side 256
    python benchmarks/io.py large --folder /tmp/large --gigabytes 20
    python benchmarks/io.py checked

`patches` writes coarse / fine pairs, then times four things in turn, several rounds: random patches through
`flowsr.data.patches.PatchPairs`, the same with 64 neighbours from every region (`train.neighbours`) and memory for half
a snapshot, the boxes of the first straight through zarr, and through h5py from a contiguous copy. `large` writes a
store of the given size, then inspects it, degrades it into a coarse store and draws patches, each in a process of its
own whose peak memory is reported. `checked` says what it costs that a stranger's file is met in a disposable process,
and its chunks unpacked within bounds.
"""

from __future__ import annotations

import argparse
import json
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from itertools import count, product
from pathlib import Path

import numpy as np

FACTOR = 4
PATCH = 8
HALO = 4
NEIGHBOURS = 64


def write_fine(path: Path, shape: tuple[int, int, int], chunk: int = 64, shard: int = 256) -> None:
    """A group ``fine`` of random numbers in flowsr's layout, written with zarr alone."""
    import zarr
    from zarr.codecs import BloscCodec, Crc32cCodec

    generator = np.random.default_rng(0)
    root = zarr.create_group(str(path), overwrite=True)
    group = root.create_group("fine", attributes={"boundary": ["periodic"] * 3, "viscosity": 0.001})
    for name, n in zip("xyz", shape):
        group.create_array(name, data=(np.arange(n) + 0.5) * 2 * np.pi / n, chunks=(n,), dimension_names=(name,))
    group.create_array("time", data=np.zeros(1), chunks=(1,), dimension_names=("time",))
    shard = min(shard, -(-min(shape) // chunk) * chunk)
    array = group.create_array(
        "velocity",
        shape=(1, 3, *shape),
        chunks=(1, 3, *(chunk,) * 3),
        shards=(1, 3, *(shard,) * 3),
        dtype="float32",
        dimension_names=("time", "component", "x", "y", "z"),
        attributes={"irreps": "1o"},
        fill_value=float("nan"),
        compressors=[BloscCodec(cname="lz4", clevel=5, shuffle="shuffle"), Crc32cCodec()],
    )
    noise = generator.normal(size=(1, 3, shard, shard, shard)).astype("float32")
    for corner in product(*(range(0, n, shard) for n in shape)):
        box = [slice(o, min(o + shard, n)) for o, n in zip(corner, shape)]
        noise = np.roll(noise, int(generator.integers(1, 1000)), axis=-1)
        array[(slice(None), slice(None), *box)] = noise[(..., *(slice(0, b.stop - b.start) for b in box))]


def write_coarse(path: Path) -> None:
    """The group ``coarse``: the block mean of ``fine``, written shard by shard."""
    import zarr

    from flowsr.data import create_store, degrade, open_field

    coarse = degrade(open_field(path, group="fine"), "block_mean", FACTOR)
    target = path.with_name("coarse.zarr")
    with create_store(target, coarse, chunk=32, shard=128, fresh=True) as store:
        for box in store.boxes("velocity"):
            store.write("velocity", coarse["velocity"][(0, slice(None), *box)].values, time=0, box=box)
        store.publish()
    zarr.open_group(str(path), mode="a")  # the store must be whole before a group is moved into it
    shutil.rmtree(path / "coarse", ignore_errors=True)
    shutil.move(target, path / "coarse")


def patches(side: int, draws: int, rounds: int, folder: Path) -> dict:
    """Megabytes a second of fine and coarse values by each way of reading; ratios are taken within a round."""
    import h5py
    import zarr

    from flowsr.data.patches import REGIONS, PatchPairs

    path = folder / "pairs.zarr"
    write_fine(path, (side,) * 3)
    write_coarse(path)
    arrays = [zarr.open_array(str(path / group / "velocity"), mode="r") for group in ("coarse", "fine")]
    with h5py.File(folder / "pairs.h5", "w") as file:
        for group, array in zip(("coarse", "fine"), arrays):
            file[group] = array[...]
    pairs = PatchPairs([path], patch=PATCH, halo=HALO, samples=draws, seed=0, cache_bytes=0)
    generators = [
        np.random.default_rng([0, 0, index]) for index in range(draws)
    ]  # those of PatchPairs: the same places
    starts = [[int(generator.integers(0, side // FACTOR)) for _ in range(3)] for generator in generators]

    def through_flowsr() -> int:
        return sum(part.numpy().nbytes for index in range(draws) for part in pairs[index])

    def straight(read) -> int:
        count, boxes = 0, ((HALO, PATCH + 2 * HALO, 1), (0, PATCH, FACTOR))
        for start in starts:
            for array, (offset, length, s) in zip(read, boxes):
                lows = [(o - offset) * s % (side // FACTOR * s) for o in start]
                count += _wrapped(array, lows, length * s, side // FACTOR * s).nbytes
        return count

    group = NEIGHBOURS * REGIONS
    memory = _bytes_of(arrays[1])  # half of it is for whole snapshots
    near = PatchPairs([path], patch=PATCH, halo=HALO, samples=group, seed=0, cache_bytes=memory, neighbours=NEIGHBOURS)
    epochs = count()

    def near_each_other() -> int:
        near.set_epoch(next(epochs))  # other regions: nothing is in memory
        return sum(part.numpy().nbytes for index in range(group) for part in near[index])

    ways = {"PatchPairs": through_flowsr, "neighbours": near_each_other, "zarr": lambda: straight(arrays)}
    with h5py.File(folder / "pairs.h5") as file:
        contiguous = [file["coarse"], file["fine"]]
        ways["h5py, contiguous copy"] = lambda: straight(contiguous)
        rates = {name: [] for name in ways}
        for _ in range(rounds + 1):
            for name, way in ways.items():
                begin = time.perf_counter()
                size = way()
                rates[name].append(size / (time.perf_counter() - begin) / 1e6)
    rates = {name: values[1:] for name, values in rates.items()}  # the first round warms up
    ratio = statistics.median(a / b for a, b in zip(rates["PatchPairs"], rates["zarr"]))
    faster = statistics.median(a / b for a, b in zip(rates["neighbours"], rates["PatchPairs"]))
    typical = {name: round(statistics.median(values), 1) for name, values in rates.items()}
    return {"megabytes_per_second": typical, "of_zarr": round(ratio, 3), "neighbours_faster": round(faster, 1)}


def _bytes_of(array) -> int:
    """Bytes of the numbers of an array."""
    return int(np.prod(array.shape)) * array.dtype.itemsize


def _wrapped(array, lows: list[int], length: int, side: int) -> np.ndarray:
    """A box of a periodic array in as few contiguous reads as there are."""
    out = np.empty((3, length, length, length), dtype="float32")
    spans = []
    for low in lows:
        first = min(length, side - low)  # cells before the seam
        over = [(slice(0, length - first), slice(first, length))] if first < length else []
        spans.append([(slice(low, low + first), slice(0, first)), *over])
    for pieces in product(*spans):
        read, into = zip(*pieces)
        out[(slice(None), *into)] = array[(0, slice(None), *read)]
    return out


def large(gigabytes: float, folder: Path, draws: int) -> dict:
    """Write, inspect, degrade and sample a store of a given size; seconds and peak memory of each."""
    side = int((gigabytes * 1e9 / 12) ** (1 / 3) / 64)
    shape = ((side - 1) * 64, side * 64, (side + 2) * 64)
    path = folder / "large.zarr"
    found = {"shape": shape, "gigabytes": round(12 * float(np.prod(shape)) / 1e9, 1)}
    for step in ("write", "inspect", "degrade", "sample"):
        command = [sys.executable, __file__, "step", step, str(path), *map(str, shape), "--draws", str(draws)]
        answer = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        found[step] = json.loads(answer.splitlines()[-1])
    return found


def step(name: str, path: Path, shape: tuple[int, int, int], draws: int) -> dict:
    """One step of :func:`large` in this process."""
    begin = time.perf_counter()
    said: dict = {}
    if name == "write":
        write_fine(path, shape, shard=128)
    elif name == "inspect":
        from flowsr.data import inspect

        said["lines"] = len(inspect(path, group="fine").lines())
    elif name == "degrade":
        write_coarse(path)
    else:
        from flowsr.data.patches import PatchPairs

        pairs = PatchPairs([path], patch=PATCH, halo=HALO, samples=draws, seed=0, cache_bytes=0)
        for index in range(draws):
            pairs[index]
        said["draws"] = draws
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return {**said, "seconds": round(time.perf_counter() - begin, 1), "peak_megabytes": round(peak / 1e6)}


def checked(side: int, rounds: int, folder: Path) -> dict:
    """What it costs to bound what a chunk unpacks to, and to meet a file in a disposable process first.

    Returns:
        ``of_library``: rate of reading a snapshot through flowsr over that of the library straight, in seconds of
        the processor, median over rounds, by the way the file is packed; ``first_look``: seconds of the first look at
        one more file, the least of several, and ``first_of_all`` at the first, for which the process starts.
    """
    import h5py
    import zarr

    from flowsr.data.readers.hdf5 import hdf5_array
    from flowsr.data.readers.meeting import meet
    from flowsr.data.readers.zarr import ZarrArray

    values = np.round(np.random.default_rng(0).normal(size=(1, 3, side, side, side)), 3).astype("float32")
    chunks = (1, 3, *(min(64, side),) * 3)
    own, straight = {}, {}
    shards = {"shards": (1, 3, side, side, side)}
    for name, codec in (
        ("zarr, Blosc in a shard", zarr.codecs.BloscCodec()),
        ("zarr, gzip", zarr.codecs.GzipCodec(level=1)),
    ):
        path = folder / f"{name}.zarr"
        array = zarr.create_group(path).create_array(
            "v", data=values, chunks=chunks, compressors=codec, **(shards if "shard" in name else {})
        )
        own[name], straight[name] = ZarrArray(array.shape, array.dtype, path, "v"), array
    for name, options in (("HDF5, deflate and shuffle", {"shuffle": True}), ("HDF5, deflate", {})):
        file = h5py.File(folder / f"{name}.h5", "w")
        file.create_dataset("v", data=values, chunks=chunks, compression="gzip", compression_opts=1, **options)
        file.close()
        file = h5py.File(folder / f"{name}.h5")
        own[name], straight[name] = hdf5_array(folder / f"{name}.h5", "v"), file["v"]
    ratios: dict[str, list[float]] = {name: [] for name in own}
    everything = (0, *(slice(None),) * 4)
    for _ in range(rounds + 1):
        for name in own:
            seconds = []
            for read in (own[name].read, straight[name].__getitem__):
                begin = time.process_time()
                read(everything)
                seconds.append(time.process_time() - begin)
            ratios[name].append(seconds[1] / seconds[0])
    looks = []
    for number in range(rounds + 1):
        path = folder / f"{number}.h5"
        with h5py.File(path, "w") as file:
            file.create_dataset("v", data=values, chunks=chunks, compression="gzip", compression_opts=1)
        begin = time.perf_counter()
        meet(path)
        looks.append(time.perf_counter() - begin)
    of_library = {name: round(statistics.median(found[1:]), 3) for name, found in ratios.items()}
    return {"of_library": of_library, "first_of_all": round(looks[0], 3), "first_look": round(min(looks[1:]), 3)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    one, two, three, four = (commands.add_parser(name) for name in ("patches", "large", "step", "checked"))
    four.add_argument("--side", type=int, default=128)
    four.add_argument("--rounds", type=int, default=7)
    one.add_argument("--side", type=int, default=256)
    one.add_argument("--rounds", type=int, default=5)
    two.add_argument("--gigabytes", type=float, default=20)
    two.add_argument("--folder", type=Path, required=True)
    three.add_argument("name")
    three.add_argument("path", type=Path)
    three.add_argument("shape", type=int, nargs=3)
    for command, draws in ((one, 100), (two, 200), (three, 200)):
        command.add_argument("--draws", type=int, default=draws)
    asked = parser.parse_args()
    if asked.command == "patches":
        with tempfile.TemporaryDirectory() as folder:
            print(json.dumps(patches(asked.side, asked.draws, asked.rounds, Path(folder)), indent=2))
    elif asked.command == "checked":
        with tempfile.TemporaryDirectory() as folder:
            print(json.dumps(checked(asked.side, asked.rounds, Path(folder)), indent=2))
    elif asked.command == "large":
        asked.folder.mkdir(parents=True, exist_ok=True)
        print(json.dumps(large(asked.gigabytes, asked.folder, asked.draws), indent=2))
    else:
        print(json.dumps(step(asked.name, asked.path, tuple(asked.shape), asked.draws)))


if __name__ == "__main__":
    main()
