import csv
import io
import json

import numpy as np
import pytest
import torch

from flowsr.compare import Entry
from flowsr.compare.measure import HeldOut, SymmetryTest, measure_model
from flowsr.compare.runs import open_runs
from flowsr.data import open_field
from flowsr.errors import FlowsrError
from flowsr.grid import Grid
from flowsr.group import point_group
from flowsr.group.fields import transform_field, transform_grid
from flowsr.metrics import energy_spectrum, nrmse
from flowsr.models import Task, build_model
from flowsr.models.averaged import GroupAverage
from flowsr.progress import Progress
from tests.compare.stores import FACTOR, FINE, Learned, Repeated, velocity, write
from tests.compare.stores import compared as compare
from tests.compare.stores import test_store as make_store


@pytest.fixture(scope="module")
def tests(tmp_path_factory):
    folder = tmp_path_factory.mktemp("ingest")
    return [make_store(folder, seed) for seed in (0, 1)]


def upscaled(folder, error=0.1):
    """What a network with a known relative error would have stored for both runs."""
    return [write(folder / f"seed_{s:03d}.zarr", {"": ((1 + error) * velocity(s), FINE)}) for s in (0, 1)]


def entries(folder=None):
    found = [
        Entry("nearest", "Nearest", Repeated()),
        Entry("spectral", "Fourier", build_model("spectral", Task(FACTOR, irreps="1o"))),
    ]
    if folder is not None:
        found.append(Entry("network", "Network", Learned((1.0, 1.1, 1.0)), upscaled(folder)))
    return found


def one(name="a", model=None, stores=None):
    return [Entry(name, name, model or Repeated(), stores)]


def without_seconds(comparison):
    kept = json.loads(json.dumps(comparison))
    for model in kept["models"].values():
        model.pop("seconds")
    return kept


@pytest.fixture(scope="module")
def done(tests, tmp_path_factory):
    folder = tmp_path_factory.mktemp("done")
    told = []
    comparison = compare(
        tests,
        entries(folder / "upscale"),
        folder / "compare",
        name="trial",
        equivariance_precision="float64",
        progress=Progress(lambda title, fraction, message: told.append((fraction, message))),
    )
    return comparison, folder, told


def test_the_dictionary_says_what_was_compared(done):
    comparison, folder, _ = done
    assert json.loads((folder / "compare/metrics.json").read_text()) == comparison
    expected = {
        "experiment": "trial",
        "variable": "velocity",
        "factor": 2,
        "operator": "block_mean",
        "snapshots": 6,
        "coarse_shape": [8, 6, 4],
        "fine_shape": [16, 12, 8],
        "runs": ["seed_000", "seed_001"],
    }
    assert expected.items() <= comparison.items()
    assert comparison["cutoff_wavenumber"] == pytest.approx(np.pi / 1.0)  # coarse spacing 1 along y and z
    assert list(comparison["models"]) == ["nearest", "spectral", "network"]
    assert comparison["flow"]["viscosity"] == 0.01 and comparison["flow"]["reynolds_lambda"] > 0
    network = comparison["models"]["network"]
    assert network["trained"] and network["parameters"] == 3
    assert network["seconds"] > 0 and network["label"] == "Network"
    assert not comparison["models"]["nearest"]["trained"]


def test_values_are_those_of_the_metrics(done, tests):
    comparison, _, _ = done
    scores = comparison["models"]["nearest"]["scalars"]["nrmse"]
    expected = []
    for store in tests:
        coarse, fine = (open_field(store, group=group)["velocity"].values for group in ("coarse", "fine"))
        for c, f in zip(coarse, fine):
            p = Repeated()(torch.tensor(c)[None], FINE.coarsened(FACTOR))
            expected.append(nrmse(p, torch.tensor(f)[None], FINE).item())
    assert scores["values"] == pytest.approx(expected, rel=1e-6)
    assert scores["mean"] == pytest.approx(np.mean(expected), rel=1e-6)
    assert scores["std"] == pytest.approx(np.std(expected, ddof=1), rel=1e-5)


def test_stored_fields_are_what_is_scored(done):
    scalars = done[0]["models"]["network"]["scalars"]
    assert scalars["nrmse"]["values"] == pytest.approx([0.1] * 6, rel=1e-5)
    assert scalars["spectral_error"]["mean"] == pytest.approx(0.21, rel=1e-4)
    assert scalars["dissipation_captured"]["mean"] == pytest.approx(1.21, rel=1e-5)
    truth = done[0]["truth"]["scalars"]
    assert scalars["derivative_skewness"]["mean"] == pytest.approx(truth["derivative_skewness"]["mean"], abs=1e-5)


def test_equivariance_is_the_models_own(done):
    models = done[0]["models"]
    for name in ("nearest", "spectral"):
        assert models[name]["scalars"]["equivariance_error_max"]["mean"] < 1e-12
    error = models["network"]["scalars"]["equivariance_error"]
    assert 0.01 < error["mean"] < 0.2 and len(error["values"]) == 1
    assert len(models["network"]["curves"]["equivariance_error_per_element"]["y"]) == 48


def test_equivariance_snapshots_are_spread_over_the_runs(tests, tmp_path):
    comparison = compare(
        tests, one(model=Learned((1.0, 1.1, 1.0))), tmp_path, metrics=["equivariance"], equivariance_snapshots=3
    )
    values = comparison["models"]["a"]["scalars"]["equivariance_error"]["values"]
    assert len(set(values)) == 3
    exact = compare(tests, one(), tmp_path / "exact", metrics=["equivariance"])["models"]["a"]["scalars"]
    assert exact["equivariance_error_max"]["mean"] < 1e-6


def test_truth_is_the_reference_row(done):
    scalars = done[0]["truth"]["scalars"]
    assert scalars["nrmse"]["values"] == [0.0] * 6
    assert scalars["dissipation_captured"]["mean"] == 1
    assert "equivariance_error" not in scalars


def test_curves_are_averages_over_snapshots_with_units(done, tests):
    comparison = done[0]
    curve = comparison["truth"]["curves"]["energy_spectrum"]
    spectra = [
        energy_spectrum(torch.tensor(f)[None], FINE).y[0]
        for store in tests
        for f in open_field(store, group="fine")["velocity"].values
    ]
    shown = len(curve["x"])
    assert curve["y"] == pytest.approx(torch.stack(spectra).mean(0)[1 : shown + 1].tolist(), rel=1e-6)
    assert comparison["curves"]["energy_spectrum"]["y_label"] == "E(k) [(m/s)^2 m]"
    assert comparison["curves"]["energy_spectrum"]["x_label"] == "wavenumber k [m^-1]"
    for model in comparison["models"].values():
        assert model["curves"].keys() <= comparison["curves"].keys()
        assert model["scalars"].keys() <= comparison["metrics"].keys()


def test_progress_ends_at_one(done):
    fractions = [fraction for fraction, _ in done[2]]
    assert fractions == sorted(fractions) and fractions[-1] == 1 and len(fractions) == 24


def test_csv_has_a_row_per_model_and_full_precision(done):
    comparison, folder, _ = done
    rows = list(csv.DictReader(io.StringIO((folder / "compare/table.csv").read_text())))
    assert [row["model"] for row in rows] == ["truth", "network", "spectral", "nearest"]
    for row in rows[1:]:
        model = comparison["models"][row["model"]]
        assert float(row["nrmse"]) == model["scalars"]["nrmse"]["mean"]
        assert float(row["nrmse_std"]) == model["scalars"]["nrmse"]["std"]
        assert int(row["parameters"]) == model["parameters"]


def test_walls_leave_out_spectra_and_scalars_leave_out_gradients(tmp_path):
    channel = Grid(FINE.shape, FINE.spacing, ("periodic", "wall", "periodic"))
    comparison = compare([make_store(tmp_path, 5, channel)], [Entry("a", "A", Repeated())], tmp_path / "a")
    assert "divergence" in comparison["metrics"] and "spectral_error" not in comparison["metrics"]
    scalar = make_store(tmp_path / "scalar", 6, components=1)
    comparison = compare([scalar], [Entry("a", "A", Repeated(irreps="0e"))], tmp_path / "b")
    assert "spectral_error" in comparison["metrics"] and "divergence" not in comparison["metrics"]
    assert comparison["models"]["a"]["scalars"]["equivariance_error"]["mean"] < 1e-12
    assert comparison["flow"] == {"viscosity": 0.01}


@pytest.mark.parametrize(
    ("arrange", "says"),
    [
        (lambda t, p: (t, one(), {"metrics": ["nrmsee"]}), "did you mean 'nrmse'"),
        (lambda t, p: (t, one(), {"variable": "pressure"}), "pressure"),
        (lambda t, p: (t, one(), {"equivariance_precision": "half"}), "float32 or float64"),
        (lambda t, p: (t, one("truth"), {}), "one row"),
        (lambda t, p: (t, one() + one(), {}), "one row"),
        (lambda t, p: (t, one(stores=[t[0]]), {}), "one upscaled store per test run"),
        (lambda t, p: ([], one(), {}), "nothing to compare on"),
        (lambda t, p: ([t[0], make_store(p, 9, Grid((8, 12, 8), FINE.spacing))], one(), {}), "one grid"),
        (
            lambda t, p: (t[:1], one(stores=[write(p / "x.zarr", {"": (velocity(0)[:2], FINE)})]), {}),
            "not the shape of the truth",
        ),
        (
            lambda t, p: (t[:1], one(stores=[write(p / "x.zarr", {"": (velocity(0), FINE)}, times=[0, 1, 5])]), {}),
            "not the times of the truth",
        ),
        (
            lambda t, p: (t[:1], one(stores=[write(p / "x.zarr", {"": (velocity(0) * np.nan, FINE)})]), {}),
            "values that are no numbers",
        ),
        (
            lambda t, p: (
                [make_store(p, 7, Grid(FINE.shape, FINE.spacing, ("wall",) * 3))],
                one(model=build_model("spectral", Task(FACTOR, irreps="1o"))),
                {},
            ),
            "cannot upscale this field",
        ),
    ],
    ids=[
        "metric",
        "variable",
        "precision",
        "reserved",
        "twice",
        "stores",
        "none",
        "grids",
        "shape",
        "times",
        "nan",
        "boundary",
    ],
)
def test_what_does_not_fit_is_said_in_one_line(arrange, says, tests, tmp_path):
    stores, models, options = arrange(tests, tmp_path)
    with pytest.raises(FlowsrError, match=says) as error:
        compare(stores, models, tmp_path / "out", **options)
    assert "\n" not in str(error.value)
    assert not (tmp_path / "out/metrics.json").exists()


def test_the_share_of_the_error_that_averaging_over_the_group_takes_off(tests):
    """By its definition, and the same of an averaged model as of the one inside it under the group of the flow."""
    run, inside, group = open_runs(tests[:1], "velocity")[0], Learned((1.0, 1.5, 0.6)).double(), point_group("C3 [111]")
    truth, coarse, grid = run.read_fine(0).double(), run.read_coarse(0).double(), run.coarse_grid
    errors = []
    for g in range(group.order):
        made = inside(transform_field(coarse, g, "1o", group), transform_grid(grid, g, group))
        back = transform_field(made, int(group.inverse[g]), "1o", group)
        errors.append((back - truth).square().sum().item())
    averaged = GroupAverage(inside, group.name)
    expected = 1 - (averaged(coarse, grid) - truth).square().sum().item() / np.mean(errors)
    assert 0.05 < expected < 0.95
    for model, of_flow, found in (
        (averaged, "Oh", [expected]),
        (inside, group.name, [expected]),
        (inside, None, [np.nan]),
    ):
        test = SymmetryTest(precision="float64", group=of_flow)
        measured = measure_model(Entry("m", "m", model), HeldOut([run], ["symmetry_share"], test))
        assert measured.values.value.tolist() == pytest.approx(found, rel=1e-9, nan_ok=True)
