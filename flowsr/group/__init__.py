"""The octahedral groups O and O_h: elements, irreps, Fourier transform, and their action on fields."""

from flowsr.group.irreps import Irrep
from flowsr.group.octahedral import OctahedralGroup, octahedral_group
from flowsr.group.operations import Operation

__all__ = ["Irrep", "OctahedralGroup", "Operation", "octahedral_group"]
