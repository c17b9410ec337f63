"""Small stores of velocities."""

from pathlib import Path

import numpy as np

from flowsr.data import create_store, field_template
from flowsr.grid import Grid


def velocity_store(path: Path, fields: np.ndarray, interval: float = 1.0, boundary=("periodic",) * 3) -> Path:
    """(time, 3, x, y, z) as a store with unit cells."""
    grid = Grid(fields.shape[-3:], boundary=boundary)
    template = field_template(grid, interval * np.arange(len(fields)))
    with create_store(path, template) as store:
        for time, values in enumerate(fields):
            store.write("velocity", values.astype("float32"), time=time)
        return store.publish()
