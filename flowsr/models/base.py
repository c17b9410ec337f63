"""What every up-scaler is: one call, a stated factor, a stated halo."""

from __future__ import annotations

from torch import Tensor, nn

from flowsr.grid import Grid
from flowsr.registry import Registry

MODELS: Registry[type[Upscaler]] = Registry("model")


class Upscaler(nn.Module):
    """Coarse field in, fine field out: ``fine = model(coarse, grid)``.

    Interpolations and networks share this call, so that whatever upscales, tiles or compares need not know which it has.

    Args:
        factor: refinement along each axis.
        irreps: e3nn irreps of the field's components (velocity ``1o``).

    Attributes:
        halo: coarse cells beyond a tile on each side that its result depends on; ``None`` where the whole field is needed.
        trainable: whether there is anything to fit.
        needs_periodic: whether it is for periodic boxes only.

    Raises:
        ValueError: a factor below 1.
    """

    halo: int | None = 0
    trainable: bool = False
    needs_periodic: bool = False

    def __init__(self, factor: int, irreps: str = "1o"):
        super().__init__()
        self.factor = int(factor)
        if self.factor < 1:
            raise ValueError(f"factor must be at least 1, got {factor}")
        self.irreps = str(irreps)

    def forward(self, coarse: Tensor, grid: Grid) -> Tensor:
        """Upscale.

        Args:
            coarse: (batch, component, x, y, z), physical units.
            grid: the grid of ``coarse``; its boundary says how each axis is continued.

        Returns:
            (batch, component, factor x, factor y, factor z), same units.
        """
        raise NotImplementedError

    @property
    def parameter_count(self) -> int:
        """Trainable scalars."""
        return sum(p.numel() for p in self.parameters() if p.requires_grad)


def build_model(name: str, **options) -> Upscaler:
    """The model registered under ``name``, built with ``options``.

    Raises:
        FlowsrError: an unknown name.
    """
    return MODELS[name](**options)

