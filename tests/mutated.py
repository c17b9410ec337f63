"""Files of every reader with a few bytes or words changed: opened and read, or refused in one line; nothing else.

``python -m tests.mutated --count 10000`` runs as many and prints what happened. Each batch is read in a process of its
own, which is the one that must never crash, hang, or take much memory.
"""

from __future__ import annotations

import argparse
import random
import re
import shutil
import subprocess
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np

BATCH = 500
#: Seconds that one file may take of the processor, and on the clock, which goes on while others have the processor.
PATIENCE, HANGS = 20, 300
#: Whole numbers that readers get wrong.
EDGES = (0, 1, 2, 255, 256, 32767, 65535, 65536, 2**31 - 1, 2**31, 2**32 - 1, 2**32, 2**63 - 1, 2**63, 2**64 - 1)
TEXTS = (
    "-1",
    "0",
    "1e999",
    "nan",
    "9" * 40,
    "1e-320",
    "null",
    "true",
    '"x"',
    "[]",
    "{}",
    "[[[[1]]]]",
    "\\u001b[2J",
    "é",
)
WORD = re.compile(rb"[\w.+-]+")


def read_field(path: Path) -> None:
    """Open a field and read all of it, unless it has become large."""
    from flowsr.data import open_field
    from flowsr.data.inspect import inspect

    for array in open_field(path).data_vars.values():
        (array if array.size < 10**6 else array[(0,) * array.ndim]).values.sum()
    inspect(path).lines()


def read_model(path: Path) -> None:
    """Load a model."""
    from flowsr.models.checkpoint import load_model

    load_model(path)


def read_experiment(path: Path) -> None:
    """Read the settings of an experiment."""
    from flowsr.config.study import load_experiment

    load_experiment(path)


def sound_files(root: Path) -> dict[str, tuple[Path, Callable[[Path], None]]]:
    """A folder each of a sound file: by name of the format, what to open in it, and how."""
    from flowsr.data.convert import convert
    from flowsr.models.base import Task
    from flowsr.models.build import build_model
    from flowsr.models.checkpoint import ModelCard, save_model
    from tests.data.readers import test_codecs, test_fuzz, test_openfoam
    from tests.data.test_strangers import box, save

    def made(name: str) -> Path:
        (root / name).mkdir()
        return root / name

    found: dict[str, Path] = {}
    for layout, write in test_fuzz.WRITERS.items():
        written = write(made(layout), test_fuzz.Content(layout, "none", lambda _: "x"))
        found[layout] = written[1] if isinstance(written, tuple) else written
    small = box(side=8, times=(0.0, 1.0))
    for kind in ("netcdf4", "zarr2", "zarr3"):
        found[kind] = save(small, made(f"{kind}-"), kind)
    packed = made("gzip") / "a.h5"
    convert(found["netcdf4"], packed)
    with h5py.File(packed, "a") as file:
        values, attrs = file["velocity"][...], dict(file["velocity"].attrs)
        labels = [dim.label for dim in file["velocity"].dims]
        del file["velocity"]
        stored = file.create_dataset("velocity", data=values, chunks=(1, 3, 4, 4, 8), compression="gzip", shuffle=True)
        for axis, label in enumerate(labels):
            stored.dims[axis].label = label
        stored.attrs.update({name: value for name, value in attrs.items() if "DIMENSION" not in name})
    found["gzip"] = packed
    found["sharded"] = convert(found["netcdf4"], made("sharded") / "a.zarr", chunk=4, shard=8)
    found["vti"] = convert(found["netcdf4"], made("vti") / "a.vti", time=0)
    found["blosc"], _ = test_codecs.old_store(made("blosc") / "a.zarr")
    found["openfoam"] = test_openfoam.case(made("openfoam") / "a")
    found["manifest"] = shutil.copy(found["npz"], made("manifest") / "a.yaml")
    shutil.copy(root / "npz" / "a.npz", root / "manifest" / "a.npz")
    model = made("model") / "m"
    options = {"width": 2, "blocks": 1}
    save_model(
        model, build_model("edsr", Task(2, "1o", 1.0), **options), ModelCard("edsr", Task(2, "1o", 1.0), options)
    )
    experiment = shutil.copy(Path(__file__).parents[1] / "configs" / "demo.yaml", made("experiment") / "a.yaml")
    ways = {name: (path, read_field) for name, path in found.items()}
    return ways | {"model": (model, read_model), "experiment": (Path(experiment), read_experiment)}


def mutate(folder: Path, chance: random.Random) -> None:
    """Change one file in a folder in one to three ways."""
    files = sorted(p for p in folder.rglob("*") if p.is_file())
    file = chance.choice(files)
    content = bytearray(file.read_bytes())
    for _ in range(chance.choice([1, 1, 1, 2, 3])):
        content = bytearray(chance.choice(WAYS)(content, chance))
    file.write_bytes(content)


def _place(content: bytes, chance: random.Random) -> int:
    """A place in a file, as often near its beginning or end as anywhere."""
    near = chance.choice([64, 600, len(content), len(content)])
    place = chance.randrange(max(1, min(near, len(content))))
    return len(content) - 1 - place if content and chance.random() < 0.25 else place


def _flip(content, chance):
    if content:
        content[_place(content, chance)] ^= 1 << chance.randrange(8)
    return content


def _byte(content, chance):
    if content:
        content[_place(content, chance)] = chance.choice([0, 1, 127, 128, 255, chance.randrange(256)])
    return content


def _number(content, chance):
    width, place = chance.choice([1, 2, 4, 8]), _place(content, chance)
    number = chance.choice(EDGES) % (1 << 8 * width)
    content[place : place + width] = number.to_bytes(width, chance.choice(["little", "big"]))
    return content


def _cut(content, chance):
    return content[: _place(content, chance)]


def _remove(content, chance):
    place = _place(content, chance)
    del content[place : place + chance.choice([1, 2, 4, 8, 64, 512])]
    return content


def _repeat(content, chance):
    place, size = _place(content, chance), chance.choice([1, 4, 8, 64, 512])
    return (
        content[: place + size] + content[place : place + size] * chance.choice([1, 2, 100]) + content[place + size :]
    )


def _swap(content, chance):
    one, other, size = _place(content, chance), _place(content, chance), chance.choice([4, 8, 64])
    content[one : one + size], content[other : other + size] = content[other : other + size], content[one : one + size]
    return content


def _noise(content, chance):
    place = _place(content, chance)
    return content[:place] + chance.randbytes(chance.choice([1, 8, 100])) + content[place:]


def _word(content, chance):
    """A word or number of text in another's place, or a value that nobody expects."""
    words = list(WORD.finditer(bytes(content[:200_000])))
    if not words:
        return content
    chosen = chance.choice(words)
    other = chance.choice([chance.choice(TEXTS).encode(), chance.choice(words)[0], str(chance.choice(EDGES)).encode()])
    return content[: chosen.start()] + other + content[chosen.end() :]


def _line(content, chance):
    """A line taken out, doubled or moved."""
    lines = bytes(content).split(b"\n")
    line = lines.pop(chance.randrange(len(lines)))
    for _ in range(chance.choice([0, 1, 2])):
        lines.insert(chance.randrange(len(lines) + 1), line)
    return b"\n".join(lines)


WAYS = (_flip, _flip, _byte, _number, _number, _cut, _remove, _repeat, _swap, _noise, _word, _word, _word, _line)


def read_batch(root: Path, first: int, count: int) -> None:
    """Read some mutated files; a line on stdout for each before it is read, and one of how it ended."""
    from flowsr.errors import FlowsrError

    sound = sound_files(root)
    names = sorted(sound)
    for path, read in sound.values():
        read(path)
    for seed in range(first, first + count):
        chance = random.Random(seed)
        name = names[seed % len(names)]
        path, read = sound[name]
        folder = root / path.relative_to(root).parts[0]
        copy = root / "mutated" / folder.name
        shutil.copytree(folder, copy)
        mutate(copy, chance)
        print(f"{seed} {name}", flush=True)
        start, used = time.monotonic(), time.process_time()
        try:
            read(copy / path.relative_to(folder))
            ending = "read"
        except FlowsrError as error:
            ending = "refused" if "\n" not in str(error) and len(str(error)) < 6000 else f"lines {error!r}"
        except BaseException:
            ending = "traceback " + " | ".join(traceback.format_exc().strip().splitlines()[-5:])
        shutil.rmtree(copy)
        seconds, memory = time.process_time() - used, _most_memory()
        ending = ending if time.monotonic() - start < HANGS else f"{HANGS} s and then {ending}"
        print(f"= {seconds:.2f} {memory} {ending}", flush=True)


def _most_memory() -> int:
    """Kilobytes; of this program alone, where ``ru_maxrss`` counts the memory of the process that started it too."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM"))


def run(first: int, count: int) -> dict:
    """Mutate and read files of all formats, in batches; what ended how.

    Returns:
        ``read``, ``refused``: numbers of files; ``bad``: (seed, format, what) of those that crashed the process that
        read them, hung, or raised something else than one line; ``slowest``: seconds of the processor; ``memory``:
        megabytes, the most that a process took; ``largest``: the file at which it had taken them.
    """
    endings, bad, slowest, memory, largest = Counter(), [], 0.0, 0, ""
    next_one, end = first, first + count
    while next_one < end:
        root = Path(tempfile.mkdtemp(prefix="flowsr-mutated-"))
        size = min(BATCH, end - next_one)
        command = [
            sys.executable,
            "-W",
            "ignore",
            "-m",
            "tests.mutated",
            "--batch",
            str(root),
            str(next_one),
            str(size),
        ]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        try:
            output, errors = process.communicate(timeout=HANGS + 2 * size)
        except subprocess.TimeoutExpired:
            process.kill()
            output, errors = process.communicate()
            errors = f"no end; {errors}"
        finally:
            shutil.rmtree(root, ignore_errors=True)
        lines = output.splitlines()
        for began, ended in zip(lines[::2], lines[1::2]):
            seconds, used, what = ended.split(" ", 3)[1:]
            if int(used) // 1024 > memory:
                memory, largest = int(used) // 1024, began
            slowest = max(slowest, float(seconds))
            endings[what if what in ("read", "refused") else "other"] += 1
            if what not in ("read", "refused") or float(seconds) > PATIENCE:
                bad.append((*began.split(), what))
            next_one = int(began.split()[0]) + 1
        if len(lines) % 2:
            bad.append((*lines[-1].split(), f"ended the process: {process.returncode} {errors[-300:]}"))
            next_one = int(lines[-1].split()[0]) + 1
        elif process.returncode:
            raise RuntimeError(errors)
    return {**endings, "bad": bad, "slowest": slowest, "memory": memory, "largest": largest}


def main() -> None:
    """From the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=10_000)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--batch", nargs=3)
    given = parser.parse_args()
    if given.batch:
        root, first, count = given.batch
        read_batch(Path(root), int(first), int(count))
        return
    found = run(given.first, given.count)
    for each in found.pop("bad"):
        print(*each)
    print(found)


if __name__ == "__main__":
    np.seterr(all="ignore")
    main()
