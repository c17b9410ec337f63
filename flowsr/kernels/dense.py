"""Group convolution as one ordinary convolution, with the filters expanded over the group."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from flowsr.kernels.conv3d import conv3d
from flowsr.kernels.expansion import expand_group
from flowsr.kernels.padding import Padding, pad
from flowsr.kernels.tables import ConvolutionTables


class FilterCache:
    """Keeps one expanded filter while the parameters it was made from stay as they are.

    Only used when no gradient is wanted. A change of a parameter in place, its replacement, or another dtype or device
    makes it stale; writing through ``parameter.data`` in place cannot be seen by torch, so layers also drop the cache
    whenever they are moved or switched between training and evaluation.

    Attributes:
        filters: what is kept, if anything.
    """

    def __init__(self) -> None:
        self.clear()

    def clear(self) -> None:
        """Forget the filter."""
        self._key: object = None
        self._sources: tuple[Tensor, ...] = ()  # held, so that no other tensor can have their place or number
        self.filters: Tensor | None = None

    def get(self, sources: tuple[Tensor, ...], dtype: torch.dtype, build: Callable[[], Tensor]) -> Tensor:
        """``build()`` cast to ``dtype``, or the same tensor as last time when ``sources`` have not changed."""
        if torch.compiler.is_compiling() or any(source.is_inference() for source in sources):
            return build()
        if torch.is_grad_enabled() and any(source.requires_grad for source in sources):
            return build()
        made_from = tuple((id(s), s.data_ptr(), s._version, s.dtype, s.device) for s in sources)
        key = (made_from, dtype, torch.is_inference_mode_enabled())  # what inference mode makes is of no use outside it
        if self.filters is None or key != self._key:
            self._key, self._sources, self.filters = key, sources, build().to(dtype)
        return self.filters

    def __deepcopy__(self, memo: object) -> FilterCache:
        return FilterCache()

    def __reduce__(self) -> tuple[type[FilterCache], tuple[()]]:
        return FilterCache, ()


def convolution_dtype(features: Tensor) -> torch.dtype:
    """The dtype that autocast makes a convolution of ``features`` run in."""
    device = features.device.type
    return torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else features.dtype


def expanded(
    expand: Callable[..., Tensor],
    features: Tensor,
    parameters: tuple[Tensor, Tensor],
    tables: ConvolutionTables,
    cache: FilterCache | None,
) -> Tensor:
    """Filters and relaxed weights expanded by ``expand`` in their own precision, whatever autocast says."""

    def build() -> Tensor:
        with torch.autocast(features.device.type, enabled=False):
            return expand(*parameters, tables)

    return build() if cache is None else cache.get(parameters, convolution_dtype(features), build)


def convolve(features: Tensor, weight: Tensor, padding: Padding) -> Tensor:
    """An ordinary convolution of (batch, channels, x, y, z) that keeps the number of cells.

    Args:
        weight: (channels_out, channels_in, k, k, k).
    """
    halo = weight.shape[-1] // 2
    if set(padding) == {"zero"}:
        return conv3d(features, weight, padding=halo)
    return conv3d(pad(features, halo, padding), weight)


def dense_convolution(
    features: Tensor,
    filters: Tensor,
    relaxed_weights: Tensor,
    tables: ConvolutionTables,
    padding: Padding,
    cache: FilterCache | None = None,
) -> Tensor:
    """f'(x,g) = sum_l w_l(g) sum_y sum_h psi_l(g^-1 y, g^-1 h) f(x+y, h), as one convolution of n channels_in channels.

    Args:
        features: f, (batch, channels_in, n, x, y, z).
        filters: psi, (filter_banks, channels_out, channels_in, n, k^3).
        relaxed_weights: w, (filter_banks, n).
        padding: how each axis is continued; see :func:`flowsr.kernels.padding.pad`.
        cache: where to keep the expanded filter when no gradient is wanted.

    Returns:
        f', (batch, channels_out, n, x, y, z).
    """
    weight = expanded(expand_group, features, (filters, relaxed_weights), tables, cache)
    result: Tensor = convolve(features.flatten(1, 2), weight, padding).unflatten(1, (-1, tables.group.order))
    return result
