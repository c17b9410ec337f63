"""The phases of barium titanate: which symmetry does a transition from the cubic one break?

Positions in fractions of the cubic cell, barium at its corners: Kwei, Lawson, Billinge & Cheong, J. Phys. Chem. 97,
2368 (1993), neutron powder diffraction, the tetragonal (P4mm) and the orthorhombic (Amm2) phase. The orthorhombic axes
are those of the cube along x and along the face diagonals (y - z) and (y + z): the point (a, b, c) of that cell is (a,
c + b, c - b) here. The cells' small strains are left out: on the grid of the cubic cell they change nothing of the
point group.
"""

import numpy as np
import pytest
import torch

from flowsr.symmetry import Method, NetworkShape, Training, discover_samples, pair_samples

SIDE, WIDTH = 8, 0.14  # cells along the cell's edge; width of an atom, in fractions of it


def orthorhombic(a, b, c):
    return (a, c + b, c - b)


PHASES = {
    "cubic": {"Ba": [(0, 0, 0)], "Ti": [(0.5, 0.5, 0.5)], "O": [(0.5, 0.5, 0), (0.5, 0, 0.5), (0, 0.5, 0.5)]},
    "tetragonal": {
        "Ba": [(0, 0, 0)],
        "Ti": [(0.5, 0.5, 0.5224)],
        "O": [(0.5, 0.5, -0.0244), (0.5, 0, 0.4895), (0, 0.5, 0.4895)],
    },
    "orthorhombic": {
        "Ba": [orthorhombic(0, 0, 0)],
        "Ti": [orthorhombic(0.5, 0, 0.5170)],
        "O": [orthorhombic(0, 0, 0.4890), orthorhombic(0.5, 0.2561, 0.2343), orthorhombic(0.5, -0.2561, 0.2343)],
    },
}


def density(phase: str) -> torch.Tensor:
    """(1, species, x, y, z) one periodic normal bump per atom."""
    centres = (np.arange(SIDE) + 0.5) / SIDE
    points = np.stack(np.meshgrid(centres, centres, centres, indexing="ij"), axis=-1)
    species = []
    for atoms in PHASES[phase].values():
        away = points[None] - np.array(atoms)[:, None, None, None]
        away = away - np.round(away)
        images = np.array(np.meshgrid(*[(-1, 0, 1)] * 3)).reshape(3, -1).T
        squared = sum(np.exp(-((away + image) ** 2).sum(-1) / (2 * WIDTH**2)) for image in images)
        species.append(squared.sum(0))
    return torch.from_numpy(np.stack(species))[None]


@pytest.mark.parametrize(
    "phase, name, order, irreps",
    [
        ("cubic", "Oh", 48, set()),
        ("tetragonal", "C4v [001]", 8, {"Eg", "T1u"}),
        ("orthorhombic", "C2v(110;100,110) [011]", 4, {"Eg", "T2g", "T1u", "T2u"}),
    ],
)
def test_surviving_group_and_irreps_of_a_transition(phase, name, order, irreps):
    samples = pair_samples(density("cubic"), density(phase), "3x0e")
    method = Method(network=NetworkShape(channels=2), training=Training(epochs=5, batch=1), exact=True)
    found = discover_samples(samples, seeds=1, method=method)
    assert (found.surviving.name, found.surviving.order) == (name, order)
    assert {irrep for irrep, finding in found.irreps.items() if finding.broken} == irreps
    assert all(finding.power < 1e-16 for irrep, finding in found.irreps.items() if irrep not in {"A1g", *irreps})
