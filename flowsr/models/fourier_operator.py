"""The Fourier neural operator, from the library of its authors, behind the call of all models here."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from flowsr.errors import FlowsrError
from flowsr.grid import Grid
from flowsr.models.base import MODELS, LearnedUpscaler, Task


def fourier_operator(**options) -> nn.Module:
    """``neuralop.models.FNO``, imported now: it takes seconds, and only those who ask for it need have it.

    Raises:
        FlowsrError: neuraloperator is not installed.
    """
    try:
        from neuralop.models import FNO
    except ImportError as error:
        raise FlowsrError(
            "the model 'fno' needs neuraloperator", found=error, hint="pip install 'flowsr[baselines]'"
        ) from None
    return FNO(**options)


@MODELS.register("fno")
class FourierOperator(LearnedUpscaler):
    """Fourier neural operator of the neuraloperator library; periodic boxes (Li et al. 2021).

    arXiv 2010.08895, figure 2 and equation 4; Kossaifi et al. 2024, arXiv 2412.10354, the library. It works on the
    coarse grid, where all the modes that it is given exist, and its last layer writes the parts of every cell at once,
    like the other networks with late up-sampling: s^3 times cheaper than on the interpolated fine field, whose further
    modes are zero, and no worse off, since truncated spectral layers make no small scales there either. Its weights are
    indexed by wavenumber vectors, so it commutes with translations by coarse cells and with no rotation. It computes in
    single precision, whatever that of the field. Needs the whole field: the halo is None.

    Args:
        width: channels.
        layers: Fourier layers.
        modes: wavenumbers kept along each axis, negative ones included; those the coarse field has not are left out.
        coordinates: give the network the position in the box as well: no translation is commuted with any more.

    Raises:
        FlowsrError: neuraloperator is not installed.
        ValueError: a width, number of layers or modes below 1; later, a box that is not periodic.
    """

    halo = None
    needs_periodic = True
    in_double = False  # the library's spectral layers have one complex type

    def __init__(self, task: Task, width: int = 16, layers: int = 4, modes: int = 8, coordinates: bool = False):
        super().__init__(task)
        self.check_size(0, width=width, layers=layers, modes=modes)
        self.operator = fourier_operator(
            n_modes=(modes,) * 3,
            in_channels=self.components * self.frames,
            out_channels=self.components * self.factor**3,
            hidden_channels=width,
            n_layers=layers,
            positional_embedding="grid" if coordinates else None,
        )
        self.register_state_dict_post_hook(_only_tensors)
        for last in list(self.operator.projection.parameters())[-2:]:
            nn.init.zeros_(last)  # training starts from the interpolation

    def _apply(self, fn, recurse=True):
        super()._apply(fn, recurse)
        self.operator.float()  # the library multiplies spectra in single precision only
        return self

    def correction(self, coarse: Tensor, grid: Grid) -> Tensor:
        if not grid.periodic:
            raise ValueError(f"the Fourier neural operator needs a periodic box, got boundaries {grid.boundary}")
        with torch.autocast(coarse.device.type, enabled=False):  # there is no Fourier transform in bfloat16
            fine = self.operator(coarse.float()).to(coarse.dtype)
        return self.parts_to_space(fine)


def _only_tensors(module: nn.Module, state: dict, prefix: str, local_metadata: dict) -> None:
    """The library puts its options among the weights; here they are in the model's card."""
    state.pop("_metadata", None)
