"""Which symmetries does a flow break?

A network that is exactly equivariant under the 48 symmetries of the cube is fitted to the data; then its relaxed
weights are let go, and what they become says which symmetry the data do not have (Wang, Walters & Smidt 2023, arXiv
2310.02299).

>>> import numpy as np
>>> from flowsr.symmetry import Method, Training, discover
>>> u = np.random.default_rng(0).standard_normal((24, 3, 6, 6, 6))          # isotropic velocities
>>> transformed = np.stack([-u[:, 1], u[:, 0], 0 * u[:, 2]], axis=1)  # e_z x u: a rotation about z
>>> found = discover("pair", u, transformed, method=Method(training=Training(epochs=2)))
>>> found.surviving.name, [name for name, irrep in found.irreps.items() if irrep.broken]
('C4h [001]', ['T1g'])
"""

from flowsr.symmetry.discover import Method, discover, discover_samples
from flowsr.symmetry.equivariant import FieldNetwork, PointNetwork
from flowsr.symmetry.invariance import DataSymmetry, data_symmetry
from flowsr.symmetry.isotropy import ReturnToIsotropy, return_to_isotropy
from flowsr.symmetry.network import NetworkShape, Training
from flowsr.symmetry.order_parameter import Fitting, OrderParameter, order_parameter
from flowsr.symmetry.randomization import Significance
from flowsr.symmetry.result import Discovery
from flowsr.symmetry.reversal import TimeReversal, time_reversal
from flowsr.symmetry.tasks import (
    Samples,
    SampleSettings,
    dynamics_samples,
    pair_samples,
    read_samples,
    superres_samples,
)
from flowsr.symmetry.translation import AxisHomogeneity, homogeneity

__all__ = [
    "AxisHomogeneity",
    "DataSymmetry",
    "Discovery",
    "FieldNetwork",
    "Fitting",
    "Method",
    "NetworkShape",
    "OrderParameter",
    "PointNetwork",
    "ReturnToIsotropy",
    "SampleSettings",
    "Samples",
    "Significance",
    "TimeReversal",
    "Training",
    "data_symmetry",
    "discover",
    "discover_samples",
    "dynamics_samples",
    "homogeneity",
    "order_parameter",
    "pair_samples",
    "read_samples",
    "return_to_isotropy",
    "superres_samples",
    "time_reversal",
]
