"""Fair fights: the width at which one architecture has as many parameters as another."""

from __future__ import annotations

from collections.abc import Callable

from flowsr.models.base import Upscaler


def matching_width(build: Callable[[int], Upscaler], parameters: int, widest: int = 4096) -> int:
    """The width whose model comes nearest to a parameter count.

    Args:
        build: makes the model of a given width; its parameter count grows with the width.
        parameters: the count to match.
        widest: upper end of the search.
    """

    def count(width: int) -> int:
        return build(width).parameter_count

    low, high = 1, 2
    while high < widest and count(high) < parameters:
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if count(middle) < parameters else (low, middle)
    return min((low, high), key=lambda width: abs(count(width) - parameters))
