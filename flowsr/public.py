"""The jobs with plain arguments, as ``flowsr.simulate(...)``, ``flowsr.train(...)`` and so on offer them.

Each does what the command of the same name does, for one run, one network, one field, without a configuration file:
stores appear whole or not at all, and a job that was killed resumes when it is called again with the same arguments.
Everything they take and give is a path, a number, a model or a dataclass of the package named in the docstring.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any, overload

from flowsr.errors import unknown_name
from flowsr.progress import SILENT, Progress

if TYPE_CHECKING:
    import xarray as xr

    from flowsr.compare import ComparisonResult
    from flowsr.data.open import Input
    from flowsr.models import Upscaler
    from flowsr.symmetry import Discovery, Method
    from flowsr.train.fit import Fitted

__all__ = ["compare", "discover_symmetry", "evaluate", "simulate", "train", "upscale"]

AnyPath = str | PathLike[str]


def simulate(
    output: AnyPath | Sequence[AnyPath],
    *,
    seed: int | Sequence[int] = 0,
    device: str = "auto",
    progress: Progress = SILENT,
    **settings: Any,
) -> list[Path]:
    """Make turbulence: direct numerical simulation in a periodic box or between walls.

        flowsr.simulate("run.zarr", flow="kolmogorov", cells=48, viscosity=0.01)

    Args:
        output: Zarr store to write, or several, one a seed, which are stepped together.
        seed: of the random start, or one a store.
        device: ``auto``, ``cpu`` or ``cuda``.
        progress: told the fraction done and a short message.
        settings: fields of :class:`flowsr.simulate.Simulation`: flow, cells, viscosity, duration ...

    Returns:
        The stores: ``velocity`` (time, component, x, y, z), and the scalars that the flow carries.

    Raises:
        FlowsrError: settings that cannot be simulated, a store made with others, or a flow that blew up.
    """
    from flowsr.simulate.job import simulate as run
    from flowsr.simulate.settings import Simulation

    outputs = Path(output) if isinstance(output, (str, PathLike)) else [Path(each) for each in output]
    return run(outputs, Simulation(**settings), seeds=seed, device=device, progress=progress)


def train(
    model: str,
    pairs: AnyPath | Sequence[AnyPath],
    folder: AnyPath,
    *,
    options: Mapping[str, Any] | None = None,
    constraints: Sequence[str] = (),
    augment: str | None = None,
    seed: int = 0,
    device: str = "auto",
    progress: Progress = SILENT,
    **schedule: Any,
) -> Fitted:
    """Fit one network to coarse / fine pairs and save it.

        flowsr.train("relaxed", "runs/demo/ingest", "mine", options={"channels": 2}, max_epochs=20)

    Args:
        model: registered name (``flowsr models`` lists them).
        pairs: folder that ``flowsr ingest`` wrote (:func:`flowsr.data.pairs.ingest`), or several, of other Reynolds
            numbers or operators on equal grids.
        folder: receives weights, card and learning curve; what was killed resumes from here.
        options: of that model.
        constraints: physics that its output obeys exactly: ``data_consistency``, ``solenoidal``.
        augment: transform every training patch by a random element of this group (``Oh``, ``C4v [001]``); None: not.
        seed: of the initial weights and of the patches drawn.
        device: ``auto``, ``cpu`` or ``cuda``.
        progress: told the fraction done and a short message.
        schedule: fields of :class:`flowsr.train.Schedule`: loss, max_epochs, learning_rate ...

    Returns:
        What the fit ended with; the model is in ``folder``, for :func:`flowsr.models.load_model`.

    Raises:
        FlowsrError: a model, options or losses that do not go with each other or the data, or a fit that diverged.
        ValueError: a schedule that cannot be.
    """
    from flowsr.train import Network, Schedule, card_for, train_model

    network = Network(model, dict(options or {}), constraints=list(constraints))  # type: ignore[arg-type]
    folders = [Path(pairs)] if isinstance(pairs, (str, PathLike)) else [Path(each) for each in pairs]
    card = card_for(network, folders[0])
    fitted: Fitted = train_model(
        card, folders, Path(folder), Schedule(**schedule), seed=seed, augment=augment, device=device, progress=progress
    )
    return fitted


@overload
def upscale(
    input: xr.Dataset, model: AnyPath | Upscaler | None = None, output: None = None, **how: Any
) -> xr.Dataset: ...
@overload
def upscale(input: AnyPath, model: AnyPath | None, output: AnyPath, **how: Any) -> Path: ...
def upscale(
    input: AnyPath | xr.Dataset,
    model: AnyPath | Upscaler | None = None,
    output: AnyPath | None = None,
    *,
    metrics: bool | Sequence[str] = True,
    truth: AnyPath | None = None,
    progress: Progress = SILENT,
    **how: Any,
) -> Path | xr.Dataset:
    """Write the fine field from a coarse one, tile by tile, whatever its size.

        flowsr.upscale("coarse.zarr", "runs/demo/train/relaxed", "fine.zarr")
        fine = flowsr.upscale(dataset, "hit-x4")

    Args:
        input: a coarse field that :func:`flowsr.open_field` can open; or a dataset, whose fine field is given back
            (:func:`flowsr.upscale.upscale_dataset`: at once of one in memory, part by part of a lazy one).
        model: folder of a trained model, or the name of one that comes with flowsr, such as ``hit-x4``; None: the one
            of these that fits. Of a dataset also a model itself.
        output: Zarr store to write; none of a dataset.
        metrics: whether to leave metrics beside the field, or which (:data:`flowsr.evaluate.MEASURES`).
        truth: the true fine field, for the errors.
        progress: told the fraction of tiles done.
        how: fields of :class:`flowsr.upscale.UpscaleOptions`: factor, variable, tile, memory, device, overwrite, force,
            strict; and how the input is to be read, as :func:`flowsr.open_field` takes it: group, run, time ... Of a
            dataset: variable, factor, tile, device, force, strict.

    Returns:
        ``output``; of a dataset the fine dataset.

    Raises:
        FlowsrError: an input or model that cannot be used, or an output made from something else.
        TypeError: a dataset with an output or metrics, a file without one, or no such option.
    """
    from flowsr.evaluate import MetricsBeside
    from flowsr.report.metrics_page import write_metrics
    from flowsr.upscale import UpscaleOptions, upscale_dataset, upscale_store

    if not isinstance(input, (str, PathLike)):
        if output is not None or truth is not None or not isinstance(metrics, bool):
            raise TypeError("the fine field of a dataset is given back: there is no output, no truth and no metrics")
        return upscale_dataset(input, model, **how)
    if output is None or not isinstance(model, (str, PathLike, type(None))):
        raise TypeError("the fine field of a file needs an output, and a model's folder or name")
    names = None if isinstance(metrics, bool) else tuple(metrics)
    beside = MetricsBeside(names, None if truth is None else Path(truth), None, write_metrics)
    options = UpscaleOptions(observers=() if metrics is False else (beside,)).having(**how)
    folder = None if model is None else str(model)
    return upscale_store(Path(input), folder, Path(output), options, progress=progress)


def evaluate(
    field: AnyPath,
    output: AnyPath | None = None,
    *,
    truth: AnyPath | None = None,
    coarse: AnyPath | None = None,
    metrics: Sequence[str] | None = None,
    progress: Progress = SILENT,
    **where: Any,
) -> xr.Dataset:
    """Physics metrics of a stored field of any size: spectra, energy, dissipation, gradients and more.

        found = flowsr.evaluate("fine.zarr", truth="dns.h5")
        print(found.dissipation)

    Args:
        field: a field that :func:`flowsr.open_field` can open.
        output: Zarr store for the group ``metrics`` and the page; default: nothing is written.
        truth: the true field on the same grid, for the errors.
        coarse: the field that it was made of, for the consistency.
        metrics: names out of :data:`flowsr.evaluate.MEASURES`; default: all.
        progress: told the fraction of blocks done.
        where: ``variable``, ``group``, ``truth_group``, ``coarse_group`` of :func:`flowsr.evaluate.evaluate_field`.

    Returns:
        A dataset of scalars by field and snapshot, and of spectra and densities, with units and sources.

    Raises:
        FlowsrError: fields that cannot be read or do not go together.
    """
    from flowsr.evaluate import evaluate_field
    from flowsr.report.metrics_page import write_metrics

    paths = {"truth": truth, "coarse": coarse}
    others = {name: None if path is None else Path(path) for name, path in paths.items()}
    target = None if output is None else Path(output)
    how = {**others, **where, "metrics": metrics, "write": write_metrics, "progress": progress}
    return evaluate_field(Path(field), target, **how)


def compare(
    pairs: AnyPath,
    models: Mapping[str, AnyPath | Upscaler] | Sequence[str],
    *,
    variable: str = "velocity",
    metrics: Sequence[str] | None = None,
    device: str = "auto",
    progress: Progress = SILENT,
    **options: Any,
) -> ComparisonResult:
    """Compare models on the held-out snapshots of coarse / fine pairs.

        result = flowsr.compare("runs/demo/ingest", {"mine": "mine", "tricubic": "tricubic"}, metrics=["nrmse"])

    Args:
        pairs: folder that ``flowsr ingest`` wrote.
        models: by the name each has in the result: the folder of a trained model, a model itself, or the registered
            name of one that is not trained, such as ``tricubic``. Of these alone a list of names will do.
        variable: the variable to compare.
        metrics: registered names, or ``all``; default: the standard ones.
        device: ``auto``, ``cpu`` or ``cuda``.
        progress: told the fraction of snapshots done.
        options: others of :func:`flowsr.compare.measure.compare`.

    Returns:
        The measured rows; tables, sentences and intervals are functions of it (:mod:`flowsr.compare`).

    Raises:
        FlowsrError: pairs, models or metrics that do not fit.
    """
    from flowsr.compare.measure import Entry
    from flowsr.compare.measure import compare as measure
    from flowsr.data.pairs import pair_stores
    from flowsr.devices import resolve_device
    from flowsr.models import MODELS, Upscaler, load_model
    from flowsr.train import Network, card_for

    def model_of(given: AnyPath | Upscaler) -> Upscaler:
        if isinstance(given, Upscaler):
            return given
        if Path(given).is_dir():
            return load_model(Path(given))
        untrained = [name for name, model in MODELS.items() if not model.trainable]
        if given not in untrained:
            raise unknown_name("folder of a trained model, or untrained model,", given, untrained, variable="models")
        built: Upscaler = card_for(Network(str(given)), Path(pairs)).build()
        return built

    named = models if isinstance(models, Mapping) else {name: name for name in models}
    entries = [Entry(name, name, model_of(given)) for name, given in named.items()]
    tests = pair_stores(Path(pairs), "test")
    chosen = resolve_device(device)
    return measure(tests, entries, variable=variable, metrics=metrics, device=chosen, progress=progress, **options)


def discover_symmetry(
    inputs: AnyPath | Input | Sequence[AnyPath | Input],
    task: str = "dynamics",
    *,
    seeds: int | Sequence[int] = 4,
    method: Method | None = None,
    progress: Progress = SILENT,
    **settings: Any,
) -> Discovery:
    """Which symmetries of the cube does a flow break? (For arrays: :func:`flowsr.symmetry.discover`.)

        found = flowsr.discover_symmetry(["run1.h5", "run2.h5"])
        print(found.surviving.name, found.sentences)

    Args:
        inputs: fields that :func:`flowsr.open_field` can open, each run by itself, with options as
            ``flowsr.data.Input(path="les.nc", time="10:20")``.
        task: what a small network learns: ``dynamics`` (later from earlier), ``superres`` (fine from coarse), ``pair``.
        seeds: of the networks, or how many.
        method: how it is done; default: :class:`flowsr.symmetry.Method` as it comes.
        progress: told the fraction done and a short message.
        settings: fields of :class:`flowsr.symmetry.SampleSettings`: variable, target, operator, factor, step ...

    Returns:
        The surviving point group, the broken irreps, how sure, in numbers and in words.

    Raises:
        FlowsrError: files that do not fit, or too few independent snapshots.
        ValueError: settings that cannot be.
    """
    from flowsr.data.open import Input
    from flowsr.symmetry import Method, SampleSettings, discover_samples, read_samples

    given = [inputs] if isinstance(inputs, (str, PathLike, Input)) else inputs
    reading = SampleSettings(task=task, **settings)  # type: ignore[arg-type]
    samples = read_samples([Input.of(each) for each in given], reading, progress)
    return discover_samples(samples, seeds=seeds, method=method or Method(), progress=progress)
