"""One call for the group convolution, whichever way it is computed; and why that way was chosen.

``group_convolution`` is what layers call. It describes the case at hand (:class:`Case`), asks every registered kernel
what it would cost, and runs the cheapest that can do it. The choice can be forced, strongest first: by the argument
``kernel``, by the context manager :func:`use_kernel`, by the environment variable ``FLOWSR_KERNEL``. :func:`explain`
says what was chosen and why.

A further kernel is a :class:`Kernel` in ``KERNELS``: registered there by a module that ``flowsr/kernels/__init__.py``
imports, or offered by another package under the entry-point group ``flowsr.kernels``.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor

from flowsr.errors import FlowsrError
from flowsr.grid import triple
from flowsr.kernels.conv3d import constant_when_traced, conv3d_fault
from flowsr.kernels.dense import FilterCache, convolution_dtype
from flowsr.kernels.tables import ConvolutionTables
from flowsr.registry import Registry

ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "relu": torch.relu,
    "gelu": torch.nn.functional.gelu,
    "silu": torch.nn.functional.silu,
}


@dataclass(frozen=True)
class Case:
    """What a kernel needs to know to tell its cost.

    Args:
        order: number of group elements n.
        irrep_dimensions: dimensions d of the group's irreps.
        batch, channels_in, channels_out, filter_banks, taps: sizes of the convolution.
        cells: voxels along x, y, z.
        padding: how each axis is continued.
        dtype: what it is computed in.
        device: ``cpu``, ``cuda``, ...
        gradient: whether a backward pass will follow.
        threads: of torch on a CPU.
        irrep_copies: how often each irrep is among the functions on the group; none given: as often as d.
        cosets: of the elements that only change signs, 6 for O and O_h.
    """

    order: int
    irrep_dimensions: tuple[int, ...]
    batch: int
    channels_in: int
    channels_out: int
    filter_banks: int
    taps: int
    cells: tuple[int, int, int]
    padding: tuple[str, str, str]
    dtype: torch.dtype
    device: str
    gradient: bool
    threads: int = 1
    irrep_copies: tuple[int, ...] = ()
    cosets: int = 6

    @property
    def voxels(self) -> int:
        """Voxels of the whole batch."""
        return self.batch * self.cells[0] * self.cells[1] * self.cells[2]

    @property
    def irrep_products(self) -> int:
        """Multiply-adds per channel pair and tap of the product of every irrep: sum d^3, half of it of complex type."""
        copies = self.irrep_copies or self.irrep_dimensions
        return sum([d * d * count for d, count in zip(self.irrep_dimensions, copies)])

    @classmethod
    def of(cls, features: Tensor, filters: Tensor, tables: ConvolutionTables, padding: tuple[str, str, str]) -> Case:
        """The case of these operands."""
        banks, channels_out, channels_in, order, taps = filters.shape
        return cls(
            order=order,
            irrep_dimensions=tables.irrep_dimensions,
            batch=features.shape[0],
            channels_in=channels_in,
            channels_out=channels_out,
            filter_banks=banks,
            taps=taps,
            cells=triple(features.shape[-3:]),
            padding=padding,
            dtype=convolution_dtype(features),
            device=features.device.type,
            gradient=torch.is_grad_enabled() and (features.requires_grad or filters.requires_grad),
            threads=_torch_threads(),
            irrep_copies=tables.irrep_copies,
            cosets=tables.cosets,
        )


@dataclass(frozen=True)
class Kernel:
    """One way to compute the group convolution.

    Args:
        convolve: called as ``convolve(features, filters, relaxed_weights, tables, padding, cache)``; see
            :func:`flowsr.kernels.dense.dense_convolution`. Differentiable.
        refusal: says why it cannot do a case, or None.
        cost: predicted seconds; only the order of the predictions matters.
        fused: the same call with ``bias`` and ``activation`` added, for a kernel that does these in the same pass.
    """

    convolve: Callable[..., Tensor]
    refusal: Callable[[Case], str | None]
    cost: Callable[[Case], float]
    fused: Callable[..., Tensor] | None = None


@dataclass(frozen=True)
class Choice:
    """The kernel chosen for a case.

    Args:
        kernel: its registered name.
        reason: one sentence.
        costs: predicted seconds of every kernel that could do it.
        refusals: why the others could not.
        fault: what is wrong with conv3d on this device, which the dense kernel then does without; or None.
    """

    kernel: str
    reason: str
    costs: dict[str, float]
    refusals: dict[str, str]
    fault: str | None = None

    def __str__(self) -> str:
        costs = ", ".join(f"{name} {1e3 * seconds:.3g} ms" for name, seconds in self.costs.items())
        refusals = "".join(f"; {name} cannot: {why}" for name, why in self.refusals.items())
        fault = f"; dense goes without conv3d: {self.fault}" if self.fault else ""
        return f"{self.kernel}: {self.reason} (predicted: {costs or 'nothing'}{refusals}{fault})"


KERNELS: Registry[Kernel] = Registry("convolution kernel", group="flowsr.kernels")
ENVIRONMENT_VARIABLE = "FLOWSR_KERNEL"
_forced: list[str] = []


@contextmanager
def use_kernel(name: str) -> Iterator[None]:
    """Force a kernel for every group convolution of this process inside the ``with`` block.

    Raises:
        FlowsrError: an unknown kernel.
    """
    KERNELS[name]
    _forced.append(name)
    try:
        yield
    finally:
        _forced.pop()


def explain(case: Case, kernel: str | None = None) -> Choice:
    """Which kernel a case gets, and why.

    Args:
        kernel: forced choice; None for whatever :func:`use_kernel`, the environment or the cost model say.

    Raises:
        FlowsrError: an unknown kernel, or a forced one that cannot do the case.
    """
    _load_outside_kernels()
    refusals = {name: why for name, entry in KERNELS.items() if (why := entry.refusal(case)) is not None}
    costs = {name: entry.cost(case) for name, entry in KERNELS.items() if name not in refusals}
    fault = conv3d_fault(case.device, case.dtype) if case.device == "cuda" and case.taps > 1 else None
    for forced, by in ((kernel, "argument"), (_forced[-1] if _forced else None, "use_kernel"), _from_environment()):
        if forced is None:
            continue
        KERNELS[forced]
        if forced in refusals:
            raise FlowsrError(f"kernel '{forced}', forced by {by}, cannot do this convolution", found=refusals[forced])
        return Choice(forced, f"forced by {by}", costs, refusals, fault)
    best = next(iter(costs))
    for name, seconds in costs.items():  # a plain loop, so that torch.compile can follow it
        best = name if seconds < costs[best] else best
    reason = "lowest predicted time" if len(costs) > 1 else "the only one that can"
    return Choice(best, reason, costs, refusals, fault)


@constant_when_traced  # imports, which a traced graph could not follow
def _load_outside_kernels() -> None:
    KERNELS.load()


@constant_when_traced  # nothing that a traced graph could ask for itself
def _torch_threads() -> int:
    return torch.get_num_threads()


def _from_environment() -> tuple[str | None, str]:
    return os.environ.get(ENVIRONMENT_VARIABLE) or None, ENVIRONMENT_VARIABLE


def group_convolution(
    features: Tensor,
    filters: Tensor,
    relaxed_weights: Tensor,
    tables: ConvolutionTables,
    padding: tuple[str, str, str],
    *,
    bias: Tensor | None = None,
    activation: str | None = None,
    cache: FilterCache | None = None,
    kernel: str | None = None,
) -> Tensor:
    """act(bias + sum_l w_l(g) sum_y sum_h psi_l(g^-1 y, g^-1 h) f(x+y, h)).

    Args:
        features: f, (batch, channels_in, n, x, y, z).
        filters: psi, (filter_banks, channels_out, channels_in, n, k^3), taps in C order.
        relaxed_weights: w, (filter_banks, n).
        padding: ``periodic``, ``zero``, ``replicate`` or ``reflect`` along x, y, z.
        bias: (channels_out,), the same for every group element.
        activation: ``relu``, ``gelu``, ``silu`` or None.
        cache: where to keep an expanded filter while no gradient is wanted.
        kernel: force this registered kernel.

    Returns:
        f', (batch, channels_out, n, x, y, z).

    Raises:
        FlowsrError: an unknown kernel, or a forced one that cannot do the case.
    """
    if torch.compiler.is_exporting():  # to run on any size: the case at hand says nothing
        kernel_name = "dense"
    else:
        kernel_name = explain(Case.of(features, filters, tables, padding), kernel).kernel
    chosen = KERNELS[kernel_name]
    operands = (features, filters, relaxed_weights, tables, padding, cache)
    if chosen.fused is not None:
        return chosen.fused(*operands, bias=bias, activation=activation)
    result = chosen.convolve(*operands)
    if bias is not None:
        result = result + bias.to(result.dtype).view(-1, 1, 1, 1, 1)
    return result if activation is None else ACTIVATIONS[activation](result)
