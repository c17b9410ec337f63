"""What every up-scaler is: one call, a task that the data set, a stated halo; and what all networks share."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from flowsr.data.scales import FieldScales, normalized, restored, scales_of
from flowsr.grid import Grid
from flowsr.group.o3 import Irreps
from flowsr.kernels.padding import pad, paddings
from flowsr.nn.upsample import subvoxels_to_space
from flowsr.registry import Registry
from flowsr.windows import Window

if TYPE_CHECKING:
    import xarray as xr

    from flowsr.models.checkpoint import ModelCard

MODELS: Registry[type[Upscaler]] = Registry("model", group="flowsr.models")


@dataclass(frozen=True)
class Task:
    """What the data ask of a model, whichever it is.

    Args:
        factor: refinement along each axis.
        irreps: e3nn irreps of the field's components (velocity ``1o``).
        scale: None: a network takes the field's own units and frame (:mod:`flowsr.data.scales`), as all new ones do. A
            number, as older folders have it: the RMS of the training field, by which every other is divided too.
        window: coarse frames that one fine one is made from, at equal steps in time, and which of them is wanted fine;
            by default the last, so that nothing of the future is needed.

    Raises:
        ValueError: a factor that is no whole number or below 1.
    """

    factor: int
    irreps: str = "1o"
    scale: float | None = None
    window: Window = field(default_factory=Window)

    def __post_init__(self) -> None:
        if not isinstance(self.factor, int) or self.factor < 1:
            raise ValueError(f"factor must be at least 1, got {self.factor}")


class Upscaler(nn.Module):
    """Coarse field in, fine field out: ``fine = model(coarse, grid)``.

    Interpolations and networks share this call, so that whatever upscales, tiles or compares need not know which it
    has. A registered class takes a task and, by name, options of its own.

    Args:
        task: factor, field type, scale and frames.

    Attributes:
        factor, irreps, window: the task's; ``frames`` as many as the window has, ``components`` as the irreps.
        halo: coarse cells beyond a tile on each side that its result depends on; ``None`` where the whole field is
            needed.
        frame_spacing: step in time between the frames it was trained on; ``None`` where not known, or of no account.
        trainable: whether there is anything to fit.
        solved: whether it is fitted by solving for its weights (:mod:`flowsr.models.linear`), not step by step.
        needs_periodic: whether it is for periodic boxes only.
        needs_scales: whether its result depends on the scales of the whole field, which a tile has to be told.
        in_double: whether it can compute in double precision, its weights converted.
        takes_viscosity: whether it makes use of the kinematic viscosity, where that is known.
        viscosity: of the fields that it is called with, where scales do not say it; see :func:`state_viscosity`.
        card: what is saved beside its weights, where it was loaded.
    """

    halo: int | None = 0
    frame_spacing: float | None = None
    trainable: bool = False
    solved: bool = False
    needs_periodic: bool = False
    needs_scales: bool = False
    in_double: bool = True
    takes_viscosity: bool = False
    viscosity: float | None = None
    card: ModelCard | None = None

    def __init__(self, task: Task):
        super().__init__()
        self.task, self.factor, self.irreps = task, task.factor, task.irreps
        self.window, self.frames = task.window, task.window.frames
        self.components = Irreps(task.irreps).dim

    @property
    def irreps_in(self) -> str:
        """Irreps of the input's components: those of the field, once a frame, the oldest frame first."""
        return " + ".join([self.irreps] * self.frames)

    def target(self, coarse: Tensor) -> Tensor:
        """The frame that is wanted fine: (batch, frames component, x, y, z) to (batch, component, x, y, z).

        Raises:
            ValueError: components that are not those of k frames.
        """
        if self.frames == 1:
            return coarse
        if coarse.shape[1] % self.frames:
            raise ValueError(f"{coarse.shape[1]} components are not those of {self.frames} frames")
        return coarse.unflatten(1, (self.frames, -1))[:, self.window.before]

    def check_grid(self, grid: Grid) -> None:
        """Refuse a whole coarse box that the model is not for, before anything is computed.

        Raises:
            ValueError: what it is for, and what this is.
        """
        if self.needs_periodic and not grid.periodic:
            raise ValueError(f"this model is for periodic boxes, got {grid.boundary}")

    def forward(self, coarse: Tensor, grid: Grid, scales: FieldScales | None = None) -> Tensor:
        """Upscale.

        A model without ``needs_scales`` is called without ``scales``, and need not take them.

        Args:
            coarse: (batch, frames component, x, y, z), physical units, the oldest frame first.
            grid: the grid of ``coarse``; its boundary says how each axis is continued.
            scales: of the whole field, where ``coarse`` is a tile of it; None: those of each sample itself.

        Returns:
            (batch, component, factor x, factor y, factor z), same units.
        """
        raise NotImplementedError

    def upscale(self, dataset: xr.Dataset, **how: Any) -> xr.Dataset:
        """The fine field of a coarse dataset, in memory or lazy, whatever its size: ``flowsr.upscale(dataset, self)``.

        How is as :func:`flowsr.upscale.upscale_dataset` takes it.
        """
        import flowsr

        return flowsr.upscale(dataset, self, **how)

    @property
    def parameter_count(self) -> int:
        """Trainable scalars, a complex one counted as two."""
        return sum(p.numel() * (2 if p.is_complex() else 1) for p in self.parameters() if p.requires_grad)


class Wrapper(Upscaler):
    """A model inside another one, which answers all else that is asked of it: group, base, weights.

    Args:
        model: any up-scaler.
    """

    def __init__(self, model: Upscaler):
        super().__init__(model.task)
        self.model, self.halo, self.frame_spacing = model, model.halo, model.frame_spacing
        self.trainable, self.solved, self.in_double = model.trainable, model.solved, model.in_double
        self.needs_periodic, self.needs_scales = model.needs_periodic, model.needs_scales
        self.takes_viscosity = model.takes_viscosity

    def __getattr__(self, name: str) -> Any:
        try:
            return super().__getattr__(name)
        except AttributeError:
            return getattr(super().__getattr__("model"), name)

    def check_grid(self, grid: Grid) -> None:
        super().check_grid(grid)
        self.model.check_grid(grid)

    def inside(self, coarse: Tensor, grid: Grid, scales: FieldScales | None = None) -> Tensor:
        """What the model inside makes, told the scales if it needs them."""
        return self.model(coarse, grid, scales) if self.needs_scales else self.model(coarse, grid)


def state_viscosity(model: nn.Module, viscosity: float | None) -> None:
    """Say to a model, and all models in it, the kinematic viscosity of the fields to come; None: not known."""
    for module in model.modules():
        if isinstance(module, Upscaler):
            module.viscosity = viscosity


def cell_reynolds(velocity: Tensor, grid: Grid, number: Tensor) -> Tensor:
    """Delta^2 |S| / nu of every cell, S by central differences, |S|^2 = 2 S_ij S_ij, Delta a cell's shortest side.

    The same for all 48 orientations, in any units and any frame (arXiv 2603.05325 gives it to a network so).

    Args:
        velocity: (batch, 3, x, y, z), non-dimensional.
        grid: its grid.
        number: (batch or 1,), Delta u / nu with the velocity u that makes it so.

    Returns:
        (batch, 1, x, y, z).
    """
    shortest, around = min(grid.spacing), pad(velocity, 1, paddings(grid.boundary))
    slopes = []
    for axis in range(3):
        ends = [[slice(1, -1)] * 3 for _ in range(2)]
        ends[0][axis], ends[1][axis] = slice(2, None), slice(None, -2)
        change = around[(..., *ends[0])] - around[(..., *ends[1])]
        slopes.append(change * (shortest / (2 * grid.spacing[axis])))
    square = velocity.new_zeros(())
    for i in range(3):
        for j in range(3):
            square = square + (slopes[j][:, i] + slopes[i][:, j]).square() / 2
    return number.to(velocity).view(-1, 1, 1, 1, 1) * (square + 1e-24).sqrt()[:, None]


def trilinear(coarse: Tensor, factor: int, boundary: tuple[str, str, str]) -> Tensor:
    """Linear interpolation between cell centres along each axis.

    Args:
        coarse: (batch, component, x, y, z).
        factor: refinement along each axis.
        boundary: per axis; periodic axes wrap, others hold their outermost value.

    Returns:
        (batch, component, factor x, factor y, factor z).
    """
    coarse = pad(coarse, 1, paddings(boundary))
    fine = F.interpolate(coarse, scale_factor=factor, mode="trilinear", align_corners=False)
    inner = slice(factor, -factor)
    return fine[..., inner, inner, inner]


def repeat_cells(coarse: Tensor, factor: int) -> Tensor:
    """(..., x, y, z) to (..., factor x, factor y, factor z): every part of a cell takes its value."""
    for axis in (-3, -2, -1):
        coarse = coarse.repeat_interleave(factor, dim=axis)
    return coarse


class LearnedUpscaler(Upscaler):
    """fine = mean + size (T(v) + correction(v)), v = (coarse - mean) / size, T trilinear, of the target frame alone.

    On a base (:meth:`put_on`) T(v) is that model's own guess instead.

    Mean and size are the field's own: size is the RMS of its fluctuation, one for the whole vector, never one per
    component, which would break the symmetry that is to be measured; the mean is that of the components to which the
    equations allow a constant to be added. So M(a u) = a M(u) for every a > 0, M(0) = 0 and, along an axis without
    walls, M(u + c) = M(u) + c, whatever the weights. (Where the task has a scale, as in older folders, size is that
    number and there is no mean: the model then knows one unit and one frame.)
    """

    trainable = True

    def __init__(self, task: Task):
        super().__init__(task)
        self.needs_scales = task.scale is None
        self.base: LearnedUpscaler | None = None
        if task.scale is not None:
            self.register_buffer("scale", torch.tensor(float(task.scale)))

    def put_on(self, base: LearnedUpscaler) -> None:
        """Correct another model's guess, whose weights the training of this one leaves as they are."""
        self.base = base.requires_grad_(False)
        self.halo = None if self.halo is None or base.halo is None else max(self.halo, base.halo)

    def check_grid(self, grid: Grid) -> None:
        super().check_grid(grid)
        if self.base is not None:
            self.base.check_grid(grid)

    @staticmethod
    def check_size(blocks: int, **widths: int) -> None:
        """
        Raises:
            ValueError: a width below 1, or a negative number of blocks.
        """
        for name, width in widths.items():
            if width < 1:
                raise ValueError(f"{name} must be at least 1, got {width}")
        if blocks < 0:
            raise ValueError(f"blocks must not be negative, got {blocks}")

    def parts_to_space(self, parts: Tensor) -> Tensor:
        """What was computed for the parts of every cell, (batch, component s^3, x, y, z), on the fine grid."""
        return subvoxels_to_space(parts.unflatten(1, (self.components, -1)), self.factor)

    def correction(self, coarse: Tensor, grid: Grid) -> Tensor:
        """Non-dimensional correction: (batch, frames component, x, y, z) to (batch, component, s x, s y, s z)."""
        raise NotImplementedError

    def forward(self, coarse: Tensor, grid: Grid, scales: FieldScales | None = None) -> Tensor:
        """:meth:`Upscaler.forward`, computed in the weights' precision; a field of another one gets its own back."""
        given = coarse.to(self.precision)
        mean, size = self._scales(given, grid, scales)
        values = normalized(given, mean, size).to(self.precision)
        correction = self.correction(values, grid, **self._numbers(size, grid, scales))
        if self.base is not None:
            correction = correction + self.base.correction(values, grid).to(correction.dtype)
        base = trilinear(self.target(values), self.factor, grid.boundary)
        fine = restored(base.to(correction.dtype) + correction, mean, size)
        return fine if coarse.dtype == values.dtype else fine.to(coarse.dtype)

    def _numbers(self, size: Tensor, grid: Grid, scales: FieldScales | None) -> dict[str, Tensor]:
        """``reynolds``, Delta u / nu (batch or 1,) with the field's own u, for a model that takes it; 0: not known."""
        if not self.takes_viscosity:
            return {}
        known = self.viscosity if scales is None else scales.viscosity
        viscosity = torch.as_tensor(0.0 if known is None else known, dtype=size.dtype, device=size.device)
        number = min(grid.spacing) * size / torch.where(viscosity > 0, viscosity, 1.0)
        return {"reynolds": torch.where(viscosity > 0, number, 0.0)}

    @property
    def precision(self) -> torch.dtype:
        """Of the weights, a complex one as its parts."""
        dtype = next(self.parameters()).dtype
        return dtype.to_real() if dtype.is_complex else dtype

    def _scales(self, coarse: Tensor, grid: Grid, scales: FieldScales | None) -> tuple[Tensor, Tensor]:
        """Mean (batch or 1, component) and size (batch or 1,)."""
        if not self.needs_scales:
            size = self.scale.reshape(1)
            return size.new_zeros(1, self.components), size
        return scales_of(coarse, grid, self.irreps) if scales is None else scales.tensors(coarse)
