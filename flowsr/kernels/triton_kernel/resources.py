"""What the compiled programs need of a GPU, found without one: ``python -m flowsr.kernels.triton_kernel.resources``.

Every program is compiled exactly as a convolution would launch it, by the ptxas that comes with Triton, and not run.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from flowsr.group.octahedral import point_group
from flowsr.kernels.tables import ConvolutionTables
from flowsr.kernels.triton_kernel import launch
from flowsr.kernels.triton_kernel.operator import triton_convolution


@dataclass(frozen=True)
class Resources:
    """What one program needs.

    Args:
        program: its name.
        warps: per program.
        registers: per thread.
        stack_bytes: of local memory per thread, where spilled registers go.
        shared_bytes: per program.
        instructions: how often the machine code has ``HGMMA`` (matrix units, asynchronous), ``HMMA`` (the same, older),
            ``FFMA``, ``LDG`` (loads) and ``LDG.E.128`` (loads of 16 bytes).
    """

    program: str
    warps: int
    registers: int
    stack_bytes: int
    shared_bytes: int
    instructions: dict[str, int]

    def __str__(self) -> str:
        counts = ", ".join(f"{name} {count}" for name, count in self.instructions.items() if count)
        return (
            f"{self.program:<11} {self.warps} warps  {self.registers:>3} registers  {self.stack_bytes:>4} B stack  "
            f"{self.shared_bytes / 1024:>5.1f} KiB shared  {counts}"
        )


class _NoDevice:
    """Stands in for Triton's driver: names the target, and has no device."""

    def __init__(self, target: object):
        self._target = target

    def get_current_target(self) -> object:
        return self._target

    def get_current_device(self) -> int:
        return 0

    def get_current_stream(self, device: object = None) -> int:
        return 0

    def get_active_torch_device(self) -> torch.device:
        return torch.device("cpu")


@contextmanager
def _compiling(capability: int) -> Iterator[list[tuple[Any, dict[str, Any]]]]:
    """Programs that are started in the ``with`` block are compiled, collected, and not run."""
    from triton.backends.compiler import GPUTarget
    from triton.runtime import driver

    compiled: list[tuple[Any, dict[str, Any]]] = []
    before = launch.start, launch.capability

    def compile_only(program: Any, grid: tuple[int, ...], *operands: Any, **constants: Any) -> None:
        compiled.append((program.warmup(*operands, grid=grid, **constants), constants))

    driver.set_active(_NoDevice(GPUTarget("cuda", capability, 32)))
    launch.start, launch.capability = compile_only, lambda device: capability
    try:
        yield compiled
    finally:
        launch.start, launch.capability = before
        if torch.cuda.is_available():
            driver.reset_active()


def resources(
    group: str = "Oh",
    channels: int = 16,
    cells: int = 64,
    dtype: torch.dtype = torch.bfloat16,
    capability: int = 90,
    kernel_size: int = 3,
    filter_banks: int = 1,
) -> list[Resources]:
    """Compile the programs of one layer, forward and backward.

    Args:
        channels: in and out.
        cells: along each side of a periodic box.
        capability: 10 times the GPU's compute capability: 80 for A100, 90 for H100 and H200.

    Returns:
        One entry for every program that differs from the others.
    """
    order = point_group(group).order
    tables = ConvolutionTables(point_group(group), kernel_size)
    features = torch.empty(1, channels, order, *(cells,) * 3, dtype=dtype)  # never touched
    filters = torch.zeros(filter_banks, channels, channels, order, kernel_size**3, requires_grad=True)
    weights = torch.ones(filter_banks, order, requires_grad=True)
    bias = torch.zeros(channels, requires_grad=True)
    with _compiling(capability) as compiled:
        result = triton_convolution(
            features.requires_grad_(), filters, weights, tables, ("periodic",) * 3, bias=bias, activation="relu"
        )
        torch.autograd.grad(result, (features, filters, weights, bias), result)
    different = {kernel.hash: (kernel, constants) for kernel, constants in compiled}
    return [_read(kernel, constants) for kernel, constants in different.values()]


def _read(kernel: Any, constants: dict[str, Any]) -> Resources:
    from triton import knobs

    tools = Path(knobs.nvidia.cuobjdump.path), Path(knobs.nvidia.nvdisasm.path)
    with tempfile.TemporaryDirectory() as folder:
        cubin = Path(folder) / "program.cubin"
        cubin.write_bytes(kernel.asm["cubin"])
        usage, code = [
            subprocess.run([*command, cubin], capture_output=True, text=True, check=True).stdout
            for command in ((tools[0], "--dump-resource-usage"), (tools[1], "-c"))
        ]
    names = ("HGMMA", "HMMA", "FFMA", "LDG", "LDG.E.128", "LDL", "STL")
    return Resources(
        program=kernel.metadata.name,
        warps=constants["num_warps"],
        registers=_number(r"REG:(\d+)", usage),
        stack_bytes=_number(r"STACK:(\d+)", usage),
        shared_bytes=kernel.metadata.shared,
        instructions={name: len(re.findall(rf"\b{re.escape(name)}\b", code)) for name in names},
    )


def _number(pattern: str, text: str) -> int:
    found = re.search(pattern, text)
    assert found is not None, f"no {pattern} in what the tools say"
    return int(found[1])


def main(arguments: list[str] | None = None) -> None:
    """Print the resources of the programs of one layer."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--group", default="Oh", help="any point group within Oh")
    parser.add_argument("--channels", type=int, default=16)
    parser.add_argument("--cells", type=int, default=64)
    parser.add_argument("--dtype", default="bfloat16", choices=("float32", "bfloat16", "float16"))
    parser.add_argument("--capability", type=int, default=90)
    parser.add_argument("--kernel-size", type=int, default=3)
    chosen = parser.parse_args(arguments)
    found = resources(
        chosen.group, chosen.channels, chosen.cells, getattr(torch, chosen.dtype), chosen.capability, chosen.kernel_size
    )
    sys.stdout.write("\n".join(map(str, found)) + "\n")


if __name__ == "__main__":
    main()
