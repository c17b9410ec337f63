"""How much a solver step slows down when others take the cores: `python benchmarks/busy.py`, table in simulate.md.

Other programs are processes that count in a loop, stopped and continued from round to round, so that quiet and busy
rounds alternate. With as many of them as cores, a fair scheduler leaves a run half of the machine: a factor of 2 is
the floor. Threads that spin while they wait (OMP_WAIT_POLICY=ACTIVE, what OpenMP may do by itself) are what takes more.
"""

from __future__ import annotations

import argparse
import math
import os
import signal
import statistics
import subprocess
import sys
import time

POLICIES = ("PASSIVE", "ACTIVE")


def slowdown(cells: int, threads: int, others: int, rounds: int, steps: int) -> tuple[float, float, float]:
    """Median step with the machine free (seconds), and median and worst of busy over free, round by round."""
    import torch

    from flowsr.grid import Grid
    from flowsr.simulate import PeriodicBox, Simulation, solver_of

    torch.set_num_threads(threads)
    box = PeriodicBox(Grid((cells,) * 3, (2 * math.pi / cells,) * 3))
    solver = solver_of(Simulation(viscosity=0.48 / cells), box)
    company = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(others)]

    def timed() -> float:
        start = time.perf_counter()
        for _ in range(steps):
            solver.advance(1e6)
        return (time.perf_counter() - start) / steps

    def tell(what: signal.Signals) -> None:
        for process in company:
            process.send_signal(what)

    try:
        free, ratios = [], []
        timed()
        for _ in range(rounds):
            tell(signal.SIGSTOP)
            free.append(timed())
            tell(signal.SIGCONT)
            ratios.append(timed() / free[-1])
        return statistics.median(free), statistics.median(ratios), max(ratios)
    finally:
        for process in company:
            process.kill()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cells", type=int, nargs="+", default=[48, 64])
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--others", type=int, nargs="+", default=[1, 2], help="other programs that take a core each")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--steps", type=int, default=8, help="steps in a round")
    parser.add_argument("--one", nargs=3, type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        print(*slowdown(*options.one, options.rounds, options.steps))
        return
    print("| cells | threads | other programs | OMP_WAIT_POLICY | free, ms a step | busy / free | worst round |")
    print("|---|---|---|---|---|---|---|")
    for cells in options.cells:
        for threads in options.threads:
            for others in options.others:
                for policy in POLICIES[: 1 if threads == 1 else 2]:
                    command = [sys.executable, __file__, "--rounds", str(options.rounds), "--steps", str(options.steps)]
                    command += ["--one", str(cells), str(threads), str(others)]
                    environment = {**os.environ, "OMP_WAIT_POLICY": policy}
                    found = subprocess.run(
                        command, env=environment, stdout=subprocess.PIPE, text=True, check=True
                    ).stdout
                    free, typical, worst = map(float, found.split())
                    row = (
                        f"{cells}^3 | {threads} | {others} | {policy} | {1e3 * free:.1f} | {typical:.2f} | {worst:.2f}"
                    )
                    print(f"| {row} |", flush=True)


if __name__ == "__main__":
    main()
