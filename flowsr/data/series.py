"""A series of snapshots for ParaView: one VTK file each, with vorticity and Q, and a .pvd that lists them.

out.pvd                 names the files with their times; ParaView opens this one
out/out_0000.vti        .vtr where an axis is stretched
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from xml.sax.saxutils import quoteattr

import numpy as np
import torch
import xarray as xr

from flowsr.data.content import Content
from flowsr.data.field import grid_of
from flowsr.data.readers.lazy import Index, LazyArray
from flowsr.errors import FlowsrError
from flowsr.files import read_json, write_json_atomic, write_text_atomic
from flowsr.grid import Grid
from flowsr.progress import SILENT, Progress

#: In the folder of the files: what they are made of.
RECORD = "series.json"


def write_series(
    dataset: xr.Dataset,
    target: Path,
    decides: str,
    content: Content,
    write: Callable[..., Path],
    *,
    fresh: bool,
    progress: Progress = SILENT,
) -> Path:
    """Write every snapshot of a dataset as a VTK file, then the list of them; what was killed resumes.

    Args:
        dataset: in the one layout; of a ``velocity`` (``1o``) vorticity and Q are added.
        target: the ``.pvd`` to write; the files go into the folder of that name without the suffix.
        decides: text of what decides the content, beside what the dataset says of itself.
        content: of its source, which must not change meanwhile.
        write: one dataset to one file (:func:`flowsr.data.convert.write_file`).

    Raises:
        FlowsrError: a target that is there, a folder of something else, or what :func:`flowsr.data.convert.write_file`
            raises.
    """
    folder = target.with_suffix("")
    record = {"made_of": hashlib.sha256(f"{decides}{dataset.sizes}{dataset.attrs}".encode()).hexdigest()}
    there = folder / RECORD
    same = there.is_file() and read_json(there) == record
    if not fresh and (target.exists() or (folder.exists() and any(folder.iterdir()) and not same)):
        where = target if target.exists() else folder
        raise FlowsrError("there is something already", file=where, hint="use --fresh to replace it")
    folder.mkdir(parents=True, exist_ok=True)
    write_json_atomic(there, record)
    grid = grid_of(dataset)
    suffix = ".vtr" if any(grid.stretched) else ".vti"
    times, lines = dataset["time"].values, []
    for number, time in enumerate(times):
        file = folder / f"{folder.name}_{number:04d}{suffix}"
        snapshot = with_vorticity(dataset.isel(time=[number]))
        if fresh or not file.exists():
            part = progress.share(number / len(times), (number + 1) / len(times))
            write(snapshot, file, decides=f"{decides} {number}", fresh=fresh, progress=part)
        name = quoteattr(f"{folder.name}/{file.name}")
        lines.append(f'  <DataSet timestep="{float(time)!r}" group="" part="0" file={name}/>')
    content.refuse_changed()
    head = '<?xml version="1.0"?>\n<VTKFile type="Collection" version="0.1" byte_order="LittleEndian">\n<Collection>\n'
    write_text_atomic(target, head + "\n".join(lines) + "\n</Collection>\n</VTKFile>\n")
    progress(1.0, target.name)
    return target


def with_vorticity(dataset: xr.Dataset) -> xr.Dataset:
    """The dataset with ``vorticity`` and ``Q`` of its velocity, computed when used; itself where it has none."""
    from flowsr.metrics.base import physical_unit

    velocity = dataset.get("velocity")
    if velocity is None or velocity.attrs.get("irreps") not in ("1o", "1x1o"):
        return dataset
    grid, units = grid_of(dataset), velocity.attrs.get("units", "1")
    added = {}
    for name, irreps, unit in (("vorticity", "1e", "velocity length^-1"), ("Q", "0e", "velocity^2 length^-2")):
        if name not in dataset:
            dims = velocity.dims if name == "vorticity" else tuple(dim for dim in velocity.dims if dim != "component")
            said = {"irreps": irreps, "units": physical_unit(unit, units, dataset.attrs.get("length_units", "1"))}
            said["source"] = "finite differences of eighth order along periodic axes, of fourth order along others"
            added[name] = _Derived(name, velocity, grid).as_variable(dims, said)
    return dataset.assign(added)


class _Derived(LazyArray):
    """Vorticity or Q of a velocity, slab by slab along z, each read with the cells about it that derivatives need."""

    def __init__(self, name: str, velocity: xr.DataArray, grid: Grid):
        shape = velocity.shape if name == "vorticity" else (velocity.shape[0], *velocity.shape[2:])
        super().__init__(shape, velocity.dtype, "velocity", name)
        self.velocity, self.grid = velocity, grid

    def load(self, index: Index) -> np.ndarray:
        """The values at an index."""
        from flowsr.metrics.derivatives import DERIVATIVE_HALO, finite_differences
        from flowsr.metrics.gradients import vorticity
        from flowsr.metrics.invariants import gradient_invariants
        from flowsr.metrics.tiles import piece_of

        time, *others, along = index
        wanted = range(self.shape[-1])[along if isinstance(along, slice) else slice(along, along + 1)]
        first, stop, n = min(wanted), max(wanted) + 1, self.grid.shape[2]
        cells = np.arange(first - DERIVATIVE_HALO, stop + DERIVATIVE_HALO)
        if self.grid.boundary[2] != "periodic":
            cells = cells[(cells >= 0) & (cells < n)]
        shape = (*self.grid.shape[:2], len(cells))
        piece = piece_of(self.grid, (0, 0, int(cells[0])), shape)
        found = []
        for number in range(self.shape[0])[time if isinstance(time, slice) else slice(time, time + 1)]:
            planes, places = np.unique(cells % n, return_inverse=True)
            values = self.velocity.isel(time=number).isel(z=planes).values[..., places]
            values = torch.from_numpy(np.ascontiguousarray(values))[None].double()
            with finite_differences((0, 1, 2)):
                derived = (
                    vorticity(values, piece) if self.variable == "vorticity" else gradient_invariants(values, piece)[0]
                )
            inside = derived[0][..., first - int(cells[0]) : stop - int(cells[0])].numpy()
            found.append(inside[..., np.array(wanted) - first])
        whole = np.stack(found).astype(self.dtype)
        at = tuple(0 if isinstance(part, int) else slice(None) for part in (time, *others, along))
        kept = (
            slice(None),
            *(part if isinstance(part, slice) else slice(part, part + 1) for part in others),
            slice(None),
        )
        return whole[kept][at]


__all__ = ["with_vorticity", "write_series"]
