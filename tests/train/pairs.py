"""Statistics of pairs that no ingest wrote."""

from pathlib import Path

from flowsr.data.pairs import RunPairs, Statistics, write_statistics


def state(folder: Path, snapshots: dict[str, int], coarse_scale: float, data_sets: list[dict] | None = None) -> Path:
    """Finish a folder with pairs of one run, block means of velocities at a factor of two; the folder."""
    run = RunPairs("run.zarr", "", gap=None, snapshots=snapshots, times={}, scales=None)
    statistics = Statistics(
        variable="velocity",
        irreps="1o",
        units="1",
        components=3,
        viscosity=None,
        operator="block_mean",
        factor=2,
        weight=None,
        width=None,
        commutes=True,
        transfer_function={},
        coarse={},
        fine={},
        scale={"coarse": coarse_scale, "fine": 1.0},
        missing={"coarse": 0.0, "fine": 0.0},
        flow=None,
        snapshots=snapshots,
        split={},
        runs={"run": run},
        data_sets=data_sets or [],
        flowsr="",
    )
    write_statistics(folder, statistics)
    return folder
