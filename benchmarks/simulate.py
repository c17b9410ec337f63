"""A step of the box solver against the bare transforms it needs: `python benchmarks/simulate.py`, table in simulate.md.

A Runge-Kutta step has four right-hand sides of nine transforms each, 13 with a scalar. The transforms are timed alone
on buffers like the solver's, in the same rounds as the step, so that a busy machine slows both.
"""

from __future__ import annotations

import argparse
import math
import os

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import torch
from timing import compare

from flowsr.grid import Grid
from flowsr.simulate import BoxSolver, PeriodicBox, Simulation, solver_of

STAGES = 4
CASES = {"forced": {}, "rotating, stratified": {"rotation": (0, 0, 2.0), "stratification": (0, 0, 1.5)}}


def solver_for(cells: int, medium: dict, device: str) -> BoxSolver:
    """Forced turbulence in a cube of side 2 pi, float32."""
    box = PeriodicBox(Grid((cells,) * 3, (2 * math.pi / cells,) * 3), device=device)
    return solver_of(Simulation(viscosity=0.48 / cells, **medium), box)


def bare_transforms(solver: BoxSolver):
    """What one step must transform, and nothing else."""
    box, state = solver.box, solver.state.clone()
    velocity, field = state[:3], torch.randn(3, *box.grid.shape, dtype=box.dtype, device=box.device)
    physical, spectral = torch.empty_like(field), torch.empty_like(velocity)

    def forth():
        for source, target in box._batches(field, spectral):
            torch.fft.rfftn(source, dim=(-3, -2, -1), out=target)

    def step():
        for _ in range(STAGES):
            box.backward(velocity, out=physical)
            box.backward(velocity, out=physical)
            forth()
            for component in range(3, len(state)):
                box.backward(state[component], out=physical[0])
                forth()

    return step


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cells", type=int, nargs="+", default=[64, 128])
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--device", default="cpu")
    options = parser.parse_args()
    print("| flow | cells | threads | step, ms | bare FFTs, ms | step / FFTs | quartiles |")
    print("|---|---|---|---|---|---|---|")
    for threads in options.threads:
        torch.set_num_threads(threads)
        clock = "cpu" if threads == 1 and options.device == "cpu" else "wall"
        for cells in options.cells:
            for name, medium in CASES.items():
                solver = solver_for(cells, medium, options.device)
                candidates = {"ffts": bare_transforms(solver), "step": lambda solver=solver: solver.advance(1e6)}
                found = compare(candidates, "ffts", options.rounds, options.device, clock)
                step, ffts = found["step"], found["ffts"]
                low, high = step.quartiles
                print(
                    f"| {name} | {cells}^3 | {threads} | {1e3 * step.seconds:.1f} | {1e3 * ffts.seconds:.1f} "
                    f"| {step.ratio:.2f} | {low:.2f} to {high:.2f} |",
                    flush=True,
                )


if __name__ == "__main__":
    main()
