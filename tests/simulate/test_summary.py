import math

import numpy as np
import pytest
import torch

from flowsr.simulate.diagnostics import closing, read_table
from flowsr.simulate.summary import draw, shell_spectrum, time_averages
from tests.simulate.boxes import unequal
from tests.simulate.runs import run


def test_a_single_wave_stands_in_its_shell():
    box = unequal()
    y = box.coordinates()[1]
    wave = 3.0 * torch.sin(4 * math.pi / box.grid.lengths[1] * y) + torch.zeros(box.grid.shape, dtype=torch.float64)
    k, energy = shell_spectrum(box, wave[None])
    lowest = 2 * math.pi / max(box.grid.lengths)
    assert energy.sum() * lowest == pytest.approx(9 / 4)
    assert k[energy.argmax()] == pytest.approx(4 * math.pi / box.grid.lengths[1], abs=lowest / 2)


def test_the_closing_of_a_budget_is_zero_where_it_closes_and_says_by_how_much_it_does_not():
    time = np.linspace(0, 2, 201)
    table = {
        "time": time,
        "energy": 1 + 0.3 * time + 0.05 * time**2,
        "injected_power": np.full(201, 0.5),
        "dissipation": 0.3 - 0.1 * time,
        "buoyancy_flux": np.full(201, 0.1),
    }
    assert closing(table) < 1e-12
    table["injected_power"] = table["injected_power"] + 0.02
    assert closing(table) == pytest.approx(0.04 / 0.4)
    assert closing(table, start=1.0) == pytest.approx(0.02 / 0.15)


def test_averages_weight_rows_by_their_time(tmp_path):
    names = ("reynolds_lambda", "kmax_eta", "energy", "dissipation", "injected_power", "turnover_time", "skewness")
    time = np.array([0.0, 1.0, 2.0, 2.1, 2.2, 2.3])
    table = {"time": time, **{name: time for name in names}}
    mean, spread = time_averages(table, 0.0)["energy"]
    assert mean < time.mean() and spread > 0


def test_a_run_is_drawn(tmp_path):
    decaying = {"flow": "decaying", "cells": 8, "viscosity": 0.1, "duration": 0.5, "snapshot_interval": 0.25}
    store = run(tmp_path / "run.zarr", {**decaying, "stratification": (0, 0, 1)})
    draw(store, tmp_path / "out" / "run.png")
    assert (tmp_path / "out" / "run.png").read_bytes().startswith(b"\x89PNG")
    table = read_table(store.with_suffix(".csv"))
    assert table["time"][0] == 0.0 and table["time"][-1] == 0.5 and "potential_energy" in table
