import subprocess
import sys

HEAVY = ("zarr", "pydantic", "prefect", "dask", "cyclopts")


def test_a_gpu_node_needs_no_pipeline_packages(tmp_path):
    """Reading, degrading and cutting patches import, and HDF5 opens, where only the training packages are installed."""
    script = f"""
import sys
for name in {HEAVY!r}:
    sys.modules[name] = None  # importing it fails
import numpy as np
from flowsr.data import degrade, field_template, open_field, write_hdf5
from flowsr.data.pairs import ingest
from flowsr.data.patches import PatchPairs
from flowsr.grid import Grid
field = field_template(Grid((4, 4, 4)), [0.0])
field["velocity"] = field["velocity"].copy(data=np.ones((1, 3, 4, 4, 4), "float32"))
coarse = degrade(open_field(write_hdf5(field, "a.h5")), "block_mean", 2)
assert coarse["velocity"].values.sum() == 24
import flowsr.models.build, flowsr.upscale.store
waiting = ("torch._dynamo", "lightning", "torchmetrics")
assert not any(name in sys.modules for name in waiting), "a second each, of every command that builds a model"
"""
    subprocess.run([sys.executable, "-c", script], check=True, cwd=tmp_path, timeout=1500)
