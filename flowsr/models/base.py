"""What every up-scaler is: one call, a stated factor, a stated halo."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from flowsr.grid import Grid
from flowsr.registry import Registry
from flowsr.windows import Window

MODELS: Registry[type[Upscaler]] = Registry("model", group="flowsr.models")


class Upscaler(nn.Module):
    """Coarse field in, fine field out: ``fine = model(coarse, grid)``.

    Interpolations and networks share this call, so that whatever upscales, tiles or compares need not know which it has.

    Args:
        factor: refinement along each axis.
        irreps: e3nn irreps of the field's components (velocity ``1o``).
        frames: k, coarse snapshots that one fine one is made from, at equal steps in time.
        target_frame: which of them is wanted fine; by default the last, so that nothing of the future is needed.

    Attributes:
        halo: coarse cells beyond a tile on each side that its result depends on; ``None`` where the whole field is needed.
        frame_spacing: step in time between the frames it was trained on; ``None`` where not known, or of no account.
        trainable: whether there is anything to fit.
        needs_periodic: whether it is for periodic boxes only.

    Raises:
        ValueError: a factor or a number of frames below 1, or a target that is none of the frames.
    """

    halo: int | None = 0
    frame_spacing: float | None = None
    trainable: bool = False
    needs_periodic: bool = False

    def __init__(self, factor: int, irreps: str = "1o", frames: int = 1, target_frame: int = -1):
        super().__init__()
        self.factor = int(factor)
        if self.factor < 1:
            raise ValueError(f"factor must be at least 1, got {factor}")
        self.irreps = str(irreps)
        self.window = Window(int(frames), int(target_frame))

    @property
    def frames(self) -> int:
        """Coarse snapshots that one fine one is made from."""
        return self.window.frames

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

    def forward(self, coarse: Tensor, grid: Grid) -> Tensor:
        """Upscale.

        Args:
            coarse: (batch, frames component, x, y, z), physical units, the oldest frame first.
            grid: the grid of ``coarse``; its boundary says how each axis is continued.

        Returns:
            (batch, component, factor x, factor y, factor z), same units.
        """
        raise NotImplementedError

    @property
    def parameter_count(self) -> int:
        """Trainable scalars, a complex one counted as two."""
        return sum(p.numel() * (2 if p.is_complex() else 1) for p in self.parameters() if p.requires_grad)


def build_model(name: str, constraints: Mapping[str, Mapping[str, Any]] | None = None, **options) -> Upscaler:
    """The model registered under ``name``, built with ``options``, its output under ``constraints``.

    Args:
        constraints: see :func:`flowsr.models.constraints.constrained`, such as
            ``{"solenoidal": {}, "data_consistency": {"operator": "block_mean"}}``.

    Raises:
        FlowsrError: an unknown name.
        ValueError: options or constraints that cannot be.
    """
    model = MODELS[name](**options)
    if not constraints:
        return model
    from flowsr.models.constraints import constrained

    return constrained(model, constraints)
