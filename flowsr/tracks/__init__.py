"""Particles that a flow carries, and the field that carries them.

A particle-tracking experiment sees a flow at scattered places: where the particles are, their velocities, sometimes
their accelerations. A coarse simulation is one kind of sparse measurement, tracks are the other; the task is the same,
the field in between.

    points = open_tracks("tracks.dat")
    tracks_to_field(points, "field.zarr", method="solenoidal")

- :func:`open_tracks` reads files of tracks, :class:`Cloud` is one instant of them;
- :data:`METHODS` are called as ``method(cloud, places)`` and give velocity and, most of them, its gradient;
- ``METHODS["network"]`` is a trained network's correction of ``solenoidal`` (:mod:`flowsr.tracks.network`),
  :func:`flowsr.tracks.training.train_network` trains one;
- :class:`Truth` and :func:`seed_particles` make clouds from a simulated field, whose truth is known.

Everything is told about the mean of the cloud and in no unit of its own: a uniform wind, other units, a rotation of the
axes or another order of the particles change nothing but themselves (``bspline`` alone has a grid, and knows its axes).
"""

from flowsr.tracks.classical import METHODS, Estimate, vorticity
from flowsr.tracks.cloud import Cloud
from flowsr.tracks.files import TracksManifest, clouds, open_tracks
from flowsr.tracks.job import tracks_to_field, write_columns
from flowsr.tracks.learned import load_network, network
from flowsr.tracks.particles import Truth, grid_points, seed_particles

__all__ = [
    "METHODS",
    "Cloud",
    "Estimate",
    "TracksManifest",
    "Truth",
    "clouds",
    "grid_points",
    "load_network",
    "network",
    "open_tracks",
    "seed_particles",
    "tracks_to_field",
    "vorticity",
    "write_columns",
]
