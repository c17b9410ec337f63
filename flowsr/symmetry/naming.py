"""Irreps of O(3) with up to two indices, in words: ``1e along z``, ``2e like x^2 - y^2``."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

_WHAT = {
    "0e": "a number (0e), which breaks no rotation or reflection",
    "0o": "a handedness (0o)",
    "1o": "a polar vector (1o), such as a mean wind or gravity",
    "1e": "an axial vector (1e), such as a rotation rate",
    "2e": "a traceless symmetric tensor (2e), such as a strain or a stratification",
    "2o": "a traceless symmetric pseudotensor (2o)",
}
_CLOSE = 0.05  # radians, or share of the length, within which a direction or a shape is called by its plain name


def describe(irrep: str, vector: np.ndarray, close: float = _CLOSE) -> str:
    """What a vector in an irrep points at: ``1e along z``, ``2e like x^2 - y^2``, ``2e about (0.6, 0.8, 0)``.

    Args:
        irrep: ``0e`` to ``2o``.
        vector: (2 l + 1,) in e3nn's component order; its sign is not told, l = 1 and 2 name axes.
        close: how far a direction or shape may be from the plain one it is called by.
    """
    vector = np.asarray(vector, dtype=np.float64)
    if irrep[0] == "0" or not vector.any():
        return irrep
    if irrep[0] == "1":
        return f"{irrep} along {direction(vector, close)}"
    return f"{irrep} {_quadric(vector, close)}"


def meaning(irrep: str) -> str:
    """What kind of quantity an irrep is, with an example from flows."""
    return _WHAT[irrep]


def direction(vector: np.ndarray, close: float = _CLOSE) -> str:
    """An axis: ``z``, ``[110]`` or three numbers; the first that is not zero positive."""
    unit = np.asarray(vector, dtype=np.float64) / np.linalg.norm(vector)
    unit = unit * np.sign(unit[np.flatnonzero(np.abs(unit) > close)[0]])
    for axis in _lattice_axes():
        if np.linalg.norm(unit - axis / np.linalg.norm(axis)) < close:
            name = "".join(str(n) for n in axis)
            return {"100": "x", "010": "y", "001": "z"}.get(name, f"[{name}]")
    return "(" + ", ".join(f"{x:.2f}" for x in unit) + ")"


def tensor_of(vector: np.ndarray) -> np.ndarray:
    """(5,) in e3nn's order for l = 2 -> (3, 3) the traceless symmetric Q with x.Q.x = sum_m vector_m Y_m(x).

    Y are e3nn's solid harmonics in component normalization, whose polar axis is y.
    """
    return np.einsum("m,mij->ij", np.asarray(vector, dtype=np.float64), _harmonic_tensors())


@lru_cache(maxsize=1)
def _harmonic_tensors() -> np.ndarray:
    """(5, 3, 3): the quadratic forms of e3nn's five harmonics, by polarization."""
    import torch
    from e3nn.o3 import spherical_harmonics

    def values(points: np.ndarray) -> np.ndarray:
        given = torch.from_numpy(points.reshape(-1, 3))
        found = spherical_harmonics(2, given, normalize=False, normalization="component").numpy()
        return found.reshape(*points.shape[:-1], 5)

    e = np.eye(3)
    pairs = e[:, None, :] + e[None, :, :]
    alone = values(e)
    return np.moveaxis((values(pairs) - alone[:, None] - alone[None, :]) / 2, -1, 0)


def _quadric(vector: np.ndarray, close: float) -> str:
    """The shape of a traceless quadratic form: about an axis, or a difference of two squares."""
    values, axes = np.linalg.eigh(tensor_of(vector))
    order = np.argsort(-np.abs(values))
    largest, second = np.abs(values[order[:2]])
    odd_one = direction(axes[:, order[0]], close)
    if abs(second / largest - 0.5) < close:
        return f"about {odd_one}"
    if abs(second / largest - 1) < close:
        return _difference(axes[:, order[0]], axes[:, order[1]], close)
    return f"with the axes {', '.join(direction(axes[:, i], close) for i in order)}"


def _difference(first: np.ndarray, second: np.ndarray, close: float) -> str:
    """a^2 - b^2 of two orthogonal axes; (x + y)^2 - (x - y)^2 is 4 x y."""
    names = sorted((direction(first, close), direction(second, close)))
    if all(name in "xyz" for name in names):
        return f"like {names[0]}² - {names[1]}²"
    sums = [direction(first + second, close), direction(first - second, close)]
    if all(name in "xyz" for name in sums):
        return f"like {''.join(sorted(sums))}"
    return f"like the difference of squares along {names[0]} and {names[1]}"


@lru_cache(maxsize=1)
def _lattice_axes() -> tuple[np.ndarray, ...]:
    every = np.indices((3, 3, 3)).reshape(3, -1).T - 1
    positive = [v for v in every if v.any() and v[np.flatnonzero(v)[0]] > 0]
    return tuple(sorted(positive, key=lambda v: np.abs(v).sum()))
