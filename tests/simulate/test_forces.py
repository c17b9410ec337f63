"""Forces: what each does in closed form, the budgets they keep, and that they add up."""

import itertools
import math

import pytest
import torch

from flowsr.errors import FlowsrError
from flowsr.simulate import (
    BandPower,
    BoxSolver,
    Coriolis,
    HelicalPower,
    LinearForcing,
    MeanGradient,
    Scalar,
    ShellEnergy,
    Simulation,
    Stratification,
    UniformFlow,
    abc,
    abc_force,
    diagnose,
    helicity,
    initial_state,
    kolmogorov,
    kolmogorov_fourfold,
    random_solenoidal,
    solver_of,
)
from flowsr.simulate.forces import kolmogorov_amplitude
from tests.simulate.boxes import cube, relative, unequal

BUOYANCY = Scalar("buoyancy", 0.01)
DRIVEN = ("forced_isotropic", "fixed_energy", "linear_forcing", "helical", "kolmogorov", "abc_forced")


def run(solver, until):
    while solver.time < until:
        solver.advance(until)
    return solver


def random_state(box, scalars=0, seed=0):
    fields = [random_solenoidal(box, seed + i, 0.5, 3.0) for i in range(1 + scalars)]
    return torch.cat([fields[0], *(field[:1] for field in fields[1:])])


def added(force, state):
    tendency = torch.zeros_like(state)
    force.add(state, tendency)
    return tendency


def one_wave(box, counts):
    """A random real solenoidal field of one wave vector and its opposite, and that vector."""
    field = random_solenoidal(box, 3, 0.5, 20.0)
    nx, ny, nz = counts
    kept = torch.zeros_like(field)
    kept[:, nx, ny, nz] = field[:, nx, ny, nz]
    k = torch.tensor([2 * math.pi * n / length for n, length in zip(counts, box.grid.lengths)], dtype=torch.float64)
    return kept, k


@pytest.mark.parametrize("hand", [1, -1])
def test_inertial_waves_have_their_frequency(hand):
    """A helical wave turns its phase at the rate +-2 Omega . k / k, to 1e-4, at the usual cfl."""
    box, rotation = unequal(), (0.7, -0.4, 1.1)
    wave, k = one_wave(box, (2, 1, 3))
    curl = torch.empty_like(wave)
    box.curl(wave, out=curl)
    wave = 0.5 * (wave + hand * curl / k.norm())
    expected = hand * 2 * float(k @ torch.tensor(rotation, dtype=torch.float64)) / float(k.norm())
    solver = BoxSolver(box, 1e-3 * wave, 0.0, forces=[Coriolis(rotation)], cfl=0.9)
    for angle in (math.pi / 2, 16 * math.pi):  # a quarter of a turn, eight whole ones
        run(solver, angle / abs(expected))
        turned = float(torch.angle((solver.velocity * wave.conj()).sum()))
        assert abs(math.remainder(turned - math.copysign(angle, expected), 2 * math.pi)) / angle < 1e-4


@pytest.mark.parametrize("up", [(0.0, 0.0, 1.0), (0.6, 0.0, 0.8)])
def test_internal_gravity_waves_have_their_frequency(up):
    """N |k x e| / k to 1e-4: velocity along the projection of e, buoyancy a quarter period behind."""
    box, n = unequal(), 1.7
    _, k = one_wave(box, (1, 2, 2))
    e = torch.tensor(up, dtype=torch.float64)
    along = e - k * (k @ e) / (k @ k)
    sine = float(along.norm())
    state = torch.zeros(4, *box.shape, dtype=torch.complex128)
    state[:3, 1, 2, 2] = 1e-3 * along / sine
    forces = [Stratification(tuple(n * c for c in up))]
    time = 10 * math.pi / (n * sine)
    solver = BoxSolver(box, state, 0.0, forces=forces, scalars=[Scalar("buoyancy", 0.0)], cfl=0.9)
    for until in (time, time * (1 + 1 / 20)):  # five whole periods, then a quarter of one
        run(solver, until)
        speed = float((solver.velocity[:, 1, 2, 2].real * along / sine).sum()) / 1e-3
        phase = math.atan2(-float(solver.state[3, 1, 2, 2].real) / n / 1e-3, speed)
        assert abs(math.remainder(phase - n * sine * until, 2 * math.pi)) / (n * sine * until) < 1e-4


def test_a_step_resolves_the_waves():
    box = cube(8)
    solver = BoxSolver(box, 1e-6 * random_state(box), 0.0, forces=[Coriolis((0, 0, 5.0))], cfl=0.8)
    assert solver.advance(100.0) <= 0.8 / 4 / 10.0
    assert solver.courant <= 0.8 * (1 + 1e-12)


def test_rotation_and_stratification_without_viscosity_keep_energy_and_helicity():
    box = cube(16, dealiasing="cube")
    start = random_solenoidal(box, 2, 0.5, 3.0) + 0.3 * abc(box)
    rotating = BoxSolver(box, start, 0.0, forces=[Coriolis((0.5, 0, 2.0))], cfl=0.15)
    before = float(box.inner(start, start)), helicity(rotating)
    run(rotating, 1.0)
    assert float(box.inner(rotating.velocity, rotating.velocity)) == pytest.approx(before[0], rel=1e-6)
    assert helicity(rotating) == pytest.approx(before[1], rel=1e-5)

    n, both = 2.0, torch.cat([start, random_solenoidal(box, 7, 0.5, 3.0)[:1]])
    forces = [Stratification((0, 0, n)), Coriolis((0, 0, 1.0))]
    solver = BoxSolver(box, both, 0.0, forces=forces, scalars=[Scalar("buoyancy", 0.0)], cfl=0.15)

    def energies():
        buoyancy = solver.state[3:]
        return float(box.inner(solver.velocity, solver.velocity)) / 2, float(box.inner(buoyancy, buoyancy)) / 2 / n**2

    kinetic, potential = energies()
    run(solver, 1.0)
    assert sum(energies()) == pytest.approx(kinetic + potential, rel=1e-6)
    assert abs(energies()[1] - potential) > 0.01  # energy was exchanged


def test_a_uniform_stream_carries_the_flow_along():
    """Galilei: after the time that the stream takes for 3 and 2 cells the flow is the one at rest, moved so far."""
    box = cube(12, dealiasing="cube")
    state, scalars = random_state(box, 1), [Scalar("dye", 0.02)]
    cell, time = 2 * math.pi / 12, 0.4
    stream = (3 * cell / time, 0.0, -2 * cell / time)
    rest = run(BoxSolver(box, state, 0.03, scalars=scalars, cfl=0.1), time)
    moving = BoxSolver(box, state, 0.03, scalars=scalars, forces=[UniformFlow(box, stream)], cfl=0.1)
    first = moving.advance(time)
    assert first * (abs(stream[0]) + abs(stream[2])) / cell <= 0.1  # the stream counts in the Courant number
    run(moving, time)
    assert relative(moving.scalar_field(), rest.scalar_field().roll((3, -2), (0, 2))) < 3e-6
    expected = rest.field().roll((3, -2), (1, 3)) + torch.tensor(stream, dtype=torch.float64)[:, None, None, None]
    assert relative(moving.field(), expected) < 3e-6


def test_a_scalar_diffuses_at_its_own_rate():
    box = unequal()
    scalars = [Scalar("a", 0.02), Scalar("b", 0.3)]
    state = torch.cat([torch.zeros_like(box.empty()), random_state(box, 1)[2:4]])
    solver = run(BoxSolver(box, state, 0.1, scalars=scalars), 0.3)
    for component, scalar in zip((3, 4), scalars):
        expected = state[component] * torch.exp(-scalar.diffusivity * box.k_squared * 0.3)
        assert relative(solver.state[component], expected) < 1e-12


def test_a_mean_gradient_feeds_a_scalar_as_the_closed_form_says():
    """In a decaying shear wave u(y) e_x: ds/dt = -G u - kappa k^2 s, and convection is nothing."""
    box, nu, kappa, slope = cube(12), 0.05, 0.2, 1.5
    y = box.coordinates()[1]
    zero = torch.zeros(box.grid.shape, dtype=torch.float64)
    shear = box.forward(torch.stack([torch.sin(2 * y) + zero, zero, zero, zero]))
    forces = [MeanGradient((slope, 0, 0))]
    solver = run(BoxSolver(box, shear, nu, forces=forces, scalars=[Scalar("s", kappa)], cfl=0.1), 0.5)
    growth = (math.exp(-4 * nu * 0.5) - math.exp(-4 * kappa * 0.5)) / (4 * (kappa - nu))
    assert relative(solver.state[3], -slope * growth * shear[0]) < 1e-6


def test_a_scalar_is_advected_in_closed_form():
    """s(x, y) in a steady shear: after a time t it is s(x - u(y) t, y)."""
    box, time = cube(24), 0.5
    x, y, _ = box.coordinates()
    zero = torch.zeros(box.grid.shape, dtype=torch.float64)
    state = box.forward(torch.stack([torch.sin(y) + zero, zero, zero, torch.cos(x) + zero]))
    solver = run(BoxSolver(box, state, 0.0, scalars=[Scalar("s", 0.0)], cfl=0.1), time)
    assert relative(solver.scalar_field(), torch.cos(x - time * torch.sin(y)) + zero) < 1e-6


def test_fixed_forces_are_what_their_names_say_at_the_cell_centres():
    box = unequal()
    x, y, _ = box.coordinates()
    kx, ky = (2 * 2 * math.pi / length for length in box.grid.lengths[:2])
    zero = torch.zeros(box.grid.shape, dtype=torch.float64)
    u, v = 0.3 * torch.sin(ky * y) + zero, 0.3 * torch.sin(kx * x) + zero
    for make, expected in ((kolmogorov, (u, zero, zero)), (kolmogorov_fourfold, (u, v, zero))):
        force = make(box, 0.3, 2)
        found = box.backward(added(force, torch.zeros_like(box.empty())))
        torch.testing.assert_close(found, torch.stack(expected), rtol=0, atol=1e-14)


def test_laminar_kolmogorov_flow_settles_where_force_and_viscosity_balance():
    box, nu = cube(12), 0.5
    solver = BoxSolver(box, torch.zeros_like(box.empty()), nu, forces=[kolmogorov(box, 0.3)], cfl=0.5)
    for i in range(1, 61):
        run(solver, i * 0.5)
    row = diagnose(solver)
    assert row["pattern_velocity"] == pytest.approx(0.3 / nu, rel=1e-5)
    assert row["injected_power"] == pytest.approx(0.3**2 / nu / 2, rel=1e-5)
    assert row["dissipation"] == pytest.approx(row["injected_power"], rel=1e-5)


@pytest.mark.parametrize("kind", [lambda box: HelicalPower(box, 0.1, 2.5), lambda box: LinearForcing(box, 0.1)])
def test_powers_are_what_was_asked_for(kind):
    box = cube(12)
    solver = BoxSolver(box, random_state(box), 0.02, forces=[kind(box)], cfl=0.3)
    for _ in range(3):
        assert float(solver.injected_power()) == pytest.approx(0.1, rel=1e-12)
        solver.advance(10.0)


def test_helical_forcing_feeds_right_handed_waves_only():
    box = cube(12)
    state = random_state(box)
    force = added(HelicalPower(box, 0.1, 2.5), state)
    curl = torch.empty_like(force)
    box.curl(force, out=curl)
    assert relative(curl, force * box.k_squared.sqrt()) < 1e-13
    solver = run(BoxSolver(box, state, 0.02, forces=[HelicalPower(box, 0.1, 2.5)]), 6.0)
    assert diagnose(solver)["helicity"] > 0.3


def test_held_shells_go_to_their_energy_and_stay_there():
    box, nu, energy = cube(16), 0.03, 0.6
    force = ShellEnergy(box, energy, 2.5, nu)
    solver = run(BoxSolver(box, random_state(box), nu, forces=[BandPower(box, 0.05, 2.5), force], cfl=0.5), 12.0)
    shells = force.shell_energies(solver.velocity)
    assert float(shells.sum()) == pytest.approx(energy, rel=1e-4)
    assert float(shells[0] / shells[1]) == pytest.approx(2 ** (5 / 3), rel=1e-4)
    row, more = diagnose(solver), diagnose(run(solver, 13.0))
    assert more["held_energy"] == pytest.approx(row["held_energy"], rel=1e-5)
    assert row["injected_power"] > 0.05 and row["held_energy"] < row["energy"]


def test_forces_add_up():
    box = cube(10)
    state = random_state(box, 1)
    forces = [
        BandPower(box, 0.1, 2.5),
        Coriolis((0, 1, 2)),
        UniformFlow(box, (1, 0, 0)),
        Stratification((0, 0, 2)),
        kolmogorov(box, 0.3),
        abc_force(box, 0.2),
        HelicalPower(box, 0.1, 2.5),
        LinearForcing(box, 0.2),
    ]

    def tendency(chosen):
        return BoxSolver(box, state, 0.02, forces=chosen, scalars=[BUOYANCY]).tendency(state).clone()

    alone = tendency([])
    parts = sum(tendency([force]) - alone for force in forces)
    assert relative(tendency(forces), alone + parts) < 1e-13


def test_a_solver_with_everything_is_of_fourth_order():
    box = cube(12)
    state = random_state(box, 1, seed=1)
    forces = [Coriolis((0, 0, 1.5)), Stratification((0, 0, 1.5)), kolmogorov(box, 0.3), UniformFlow(box, (0.5, 0, 0))]

    def in_equal_steps(steps):
        solver = BoxSolver(box, state, 0.02, forces=forces, scalars=[Scalar("buoyancy", 0.05)], cfl=1e6)
        for i in range(1, steps + 1):
            solver.advance(0.5 * i / steps)
        assert solver.step == steps
        return solver.state

    exact = in_equal_steps(128)
    errors = [relative(in_equal_steps(n), exact) for n in (8, 16, 32)]
    orders = [math.log2(a / b) for a, b in itertools.pairwise(errors)]
    assert all(3.8 < order < 4.2 for order in orders), orders


def closing(rows, gain, store):
    """|change of ``store`` less the integral of ``gain``| over what was spent; the trapezoidal rule over every step."""
    pairs = list(itertools.pairwise(rows))
    integral = sum((b["time"] - a["time"]) * (gain(a) + gain(b)) / 2 for a, b in pairs)
    spent = sum((b["time"] - a["time"]) * (a["dissipation"] + b["dissipation"]) / 2 for a, b in pairs)
    assert spent > 0.05
    return abs(rows[-1][store] - rows[0][store] - integral) / spent


@pytest.mark.parametrize("flow", DRIVEN)
def test_the_budgets_close(flow):
    medium = {"rotation": (0, 0, 1.0), "stratification": (0, 0, 1.0), "prandtl": 0.7}
    solver = solver_of(Simulation(flow, viscosity=0.05, cfl=0.8, **medium), cube(16, torch.float32))
    rows = [diagnose(solver)]
    while solver.time < 2.0:
        solver.advance(2.0)
        rows.append(diagnose(solver))
    kinetic = closing(rows, lambda r: r["injected_power"] + r["buoyancy_flux"] - r["dissipation"], "energy")
    potential = closing(rows, lambda r: -r["buoyancy_flux"] - r["potential_dissipation"], "potential_energy")
    assert kinetic < 0.01 and potential < 0.01
    assert any(abs(row["buoyancy_flux"]) > 1e-3 for row in rows)


def test_the_scalar_variance_budget_closes():
    medium = {"passive_scalar": True, "scalar_gradient": (0, 1.0, 0), "schmidt": 0.7}
    solver = solver_of(Simulation(viscosity=0.05, cfl=0.8, **medium), cube(16))
    rows = [diagnose(solver)]
    while solver.time < 3.0:
        solver.advance(3.0)
        rows.append(diagnose(solver))
    assert closing(rows, lambda r: r["scalar_production"] - r["scalar_dissipation"], "scalar_energy") < 0.01
    assert rows[-1]["scalar_energy"] > 0.1


def test_the_kolmogorov_amplitude_follows_from_the_power():
    """P = F U / 2 and F = 0.124 k U^2."""
    force = kolmogorov_amplitude(0.1, 2.0)
    speed = math.sqrt(force / (0.124 * 2.0))
    assert force * speed / 2 == pytest.approx(0.1)


def test_a_state_must_fit_its_scalars():
    box = cube(8)
    with pytest.raises(ValueError, match="1 scalars have 4 components, got 3"):
        BoxSolver(box, random_state(box), 0.1, scalars=[BUOYANCY])
    with pytest.raises(FlowsrError, match="did you mean 'kolmogorov'"):
        Simulation("kolmogorow")


@pytest.mark.parametrize("flow", DRIVEN)
def test_members_of_a_batch_are_what_they_are_alone(flow):
    box = cube(12)
    frame = {"rotation": (0, 0, 1.0), "mean_flow": (0.3, 0, 0), "stratification": (0, 0, 1.0), "prandtl": 0.7}
    dye = {"passive_scalar": True, "scalar_gradient": (0, 1, 0)}
    settings = Simulation(flow, viscosity=0.05, cfl=1e6, **frame, **dye)
    starts = [initial_state(settings, box, seed) for seed in range(3)]

    def stepped(state):
        solver = solver_of(settings, box, state=state)
        for i in range(1, 11):
            solver.advance(i * 0.05)
        return solver

    together = stepped(torch.stack(starts, dim=1))
    assert together.field().shape == (3, 3, 12, 12, 12) and together.injected_power().shape == (3,)
    for index, start in enumerate(starts):
        alone, member = stepped(start), together.member(index)
        assert relative(member.state, alone.state) < 1e-13
        assert diagnose(member) == pytest.approx(diagnose(alone), rel=1e-9, nan_ok=True)


def test_a_blow_up_points_at_a_scalar_that_diffuses_too_little():
    box = cube(8)
    solver = BoxSolver(box, random_state(box, 1), 0.1, scalars=[Scalar("dye", 0.001)])
    solver.state[3, 1, 1, 1] = math.nan
    assert "diffusivity of dye, 0.001, smaller than the viscosity" in str(solver.blow_up("a field is not finite"))
    assert "diffusivity" not in str(
        BoxSolver(box, random_state(box, 1), 0.1, scalars=[Scalar("dye", 0.2)]).blow_up("x")
    )


def test_a_batch_takes_the_step_of_its_fastest_member():
    box = cube(12)
    starts = [random_solenoidal(box, seed, energy, 3.0) for seed, energy in ((0, 0.1), (1, 2.0))]
    steps = [BoxSolver(box, start, 0.05).advance(10.0) for start in starts]
    together = BoxSolver(box, torch.stack(starts, dim=1), 0.05)
    assert together.advance(10.0) == min(steps)
    assert together.courant <= together.cfl * (1 + 1e-12)
