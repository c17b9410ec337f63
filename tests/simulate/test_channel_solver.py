import math

import numpy as np
import pytest
import torch

from flowsr.errors import FlowsrError
from flowsr.group import octahedral_group, transform_field
from flowsr.simulate.channel import ChannelSolver, ChannelSpace, ChannelStatistics, MeanDrive, disturbed
from tests.simulate.boxes import relative
from tests.simulate.channels import on_faces, orr_sommerfeld, random_state, shear_flow

PERIODS = (math.pi, 0.4 * math.pi)


def parabola(y):
    return 1 - y**2


def undriven(space, state, viscosity, **options):
    return ChannelSolver(space, state, viscosity, MeanDrive(pressure_gradient=0.0), **options)


def run(solver, until):
    while solver.time < until:
        solver.advance(until)
    return solver.state


def gradient(space, field, axis):
    """Derivative of a field on the faces, by means of its own: Fourier along x and z, a polynomial fit along y."""
    if axis == 1:
        y = space.points
        fit = np.polynomial.chebyshev.chebvander(y, len(y) - 1)
        slopes = np.stack(
            [np.polynomial.chebyshev.chebval(y, np.polynomial.chebyshev.chebder(e)) for e in np.eye(len(y))], axis=1
        )
        return torch.einsum("ij,xjz->xiz", torch.from_numpy(slopes @ np.linalg.inv(fit)), field)
    n, length = field.shape[axis], space.lengths[0 if axis == 0 else 1]
    k = 2 * math.pi / length * torch.fft.fftfreq(n, 1 / n, dtype=torch.float64)
    k[n // 2] = 0
    shape = [1, 1, 1]
    shape[axis] = n
    return torch.fft.ifft(1j * k.view(shape) * torch.fft.fft(field, dim=axis), dim=axis).real


def test_a_state_survives_the_way_through_the_velocity():
    space = ChannelSpace((8, 16, 6), PERIODS)
    state = random_state(space)
    state[1, :, 0, 0] = space.tensor(space.basis.inverse @ (1 - space.points**2)) * (3 + 2j)
    field = on_faces(space, state)
    assert relative(space.state(field), state) < 1e-13
    assert field[0].mean(dim=(0, 2))[8] == pytest.approx(3)
    assert field[2].mean(dim=(0, 2))[8] == pytest.approx(2)


def test_snapshots_are_the_velocity_at_the_true_cell_centres():
    space = ChannelSpace((8, 16, 6), PERIODS)
    kx, kz = 2 * math.pi / PERIODS[0], 2 * math.pi / PERIODS[1]

    def flow(x, y, z):
        slope = -4 * y * (1 - y**2)
        return (
            -slope / kx * torch.sin(kx * x) * torch.cos(kz * z),
            (1 - y**2) ** 2 * torch.cos(kx * x) * torch.cos(kz * z),
            torch.zeros_like(x * y * z),
        )

    state = shear_flow(space, parabola, flow)
    x, y, z = (torch.from_numpy(c) for c in space.coordinates())
    u, v, w = flow(x[:, None, None], y[None, :, None], z[None, None, :])
    expected = torch.stack([u + parabola(y)[None, :, None], v, w])
    assert relative(space.field(state), expected) < 1e-13


@pytest.mark.parametrize("wall_dealiasing", [False, True])
def test_points_of_products_carry_velocity_and_its_curl(wall_dealiasing):
    space = ChannelSpace((8, 16, 6), PERIODS, wall_dealiasing=wall_dealiasing)
    state = random_state(space)
    state[1, :, 0, 0] = space.tensor(space.basis.inverse @ (1 - space.points**2)) * (3 + 2j)
    _, vorticity = space.physical(state)
    mean_square = [float((part**2).mean(dim=(1, 2))[part.shape[0] // 2]) for part in vorticity]
    velocity = on_faces(space, state)
    for axis in range(3):
        b, c = (axis + 1) % 3, (axis + 2) % 3
        curl = gradient(space, velocity[c], b) - gradient(space, velocity[b], c)
        assert mean_square[axis] == pytest.approx(float((curl[:, 8] ** 2).mean()), rel=1e-11)


def test_divergence_and_slip_stay_at_round_off():
    space = ChannelSpace((16, 32, 12), PERIODS)
    state = random_state(space) + shear_flow(space, lambda y: 10 * parabola(y))
    solver = ChannelSolver(space, state, 0.01, MeanDrive(pressure_gradient=1.0), cfl=0.4)
    for _ in range(20):
        solver.advance(10.0)
    velocity = on_faces(space, solver.state)
    parts = [gradient(space, velocity[axis], axis) for axis in range(3)]
    assert float(sum(parts).abs().max()) < 1e-12 * float(max(part.abs().max() for part in parts))
    assert float(velocity[:, :, [0, -1]].abs().max()) < 1e-13 * float(velocity.abs().max())


def test_laminar_poiseuille_flow_is_steady():
    space = ChannelSpace((8, 32, 8), PERIODS)
    for drive in (MeanDrive(pressure_gradient=0.02), MeanDrive(bulk_velocity=2 / 3)):
        solver = ChannelSolver(space, shear_flow(space, parabola), 0.01, drive, time_step=0.1)
        before = solver.state.clone()
        run(solver, 5.0)
        assert float((solver.state - before).abs().max()) < 1e-12


def test_a_bulk_velocity_is_held_from_the_first_step():
    space = ChannelSpace((8, 16, 8), PERIODS)
    state = random_state(space) + shear_flow(space, parabola)
    solver = ChannelSolver(space, state, 0.01, MeanDrive(bulk_velocity=1.0), time_step=0.005)
    for _ in range(3):
        solver.advance(1.0)
        row = ChannelStatistics(space).diagnose(solver)
        assert row["bulk_velocity"] == pytest.approx(1.0, abs=1e-13)


@pytest.mark.parametrize("m", [1, 2, 5])
def test_a_mean_flow_decays_like_its_sine(m):
    space, nu, steps = ChannelSpace((4, 32, 4), PERIODS), 0.02, 50
    rate = nu * (m * math.pi / 2) ** 2

    def wave(y):
        return torch.sin(m * math.pi / 2 * (y + 1))

    state = shear_flow(space, wave)
    solver = undriven(space, state, nu, time_step=0.2 / steps)
    run(solver, 0.2)
    per_step = 0.2 * rate / steps
    assert relative(solver.state, state * math.exp(-0.2 * rate)) < 0.1 * steps * per_step**3 + 1e-13


@pytest.mark.parametrize("waves", [(1, 0), (0, 1), (1, 1)])
def test_a_stokes_mode_between_walls_decays_at_its_rate(waves):
    """v = cosh(k y) / cosh k - cos(p y) / cos p with p tan p = - k tanh k decays as exp(-nu (k^2 + p^2) t)."""
    from scipy.optimize import brentq

    space, nu = ChannelSpace((4, 32, 4), PERIODS), 0.1
    alpha, beta = 2 * math.pi * waves[0] / PERIODS[0], 2 * math.pi * waves[1] / PERIODS[1]
    k = math.hypot(alpha, beta)
    p = brentq(lambda p: p * math.tan(p) + k * math.tanh(k), math.pi / 2 + 1e-9, math.pi)

    def mode(x, y, z):
        phase = alpha * x + beta * z
        v = torch.cosh(k * y) / math.cosh(k) - torch.cos(p * y) / math.cos(p)
        slope = k * torch.sinh(k * y) / math.cosh(k) + p * torch.sin(p * y) / math.cos(p)
        spread = -1e-8 * slope * torch.sin(phase) / k**2
        return alpha * spread, 1e-8 * v * torch.cos(phase), beta * spread

    state = shear_flow(space, torch.zeros_like, mode)
    solver = undriven(space, state, nu, time_step=5e-4)
    run(solver, 0.1)
    assert relative(solver.state, state * math.exp(-0.1 * nu * (k**2 + p**2))) < 2e-8


def test_orr_sommerfeld_growth_at_reynolds_8000():
    reynolds = 8000.0
    c, v, slope = orr_sommerfeld(1.0, reynolds)
    assert c == pytest.approx(0.24707506 + 0.00266441j, abs=1e-7)  # published
    space = ChannelSpace((4, 96, 4), (2 * math.pi, 1.0))

    def mode(x, y, z):
        points = y.flatten().numpy()
        normal, derivative = (torch.from_numpy(f(points)).view(y.shape) for f in (v, slope))
        wave = torch.exp(1j * x)
        return (
            1e-6 * (1j * derivative * wave).real.expand(x.shape[0], -1, z.shape[2]),
            1e-6 * (normal * wave).real.expand(x.shape[0], -1, z.shape[2]),
            torch.zeros(1, dtype=torch.float64),
        )

    state = shear_flow(space, parabola, mode)
    drive = MeanDrive(pressure_gradient=2 / reynolds)
    solver = ChannelSolver(space, state, 1 / reynolds, drive, time_step=0.04)
    disturbance = solver.state[0, :, 1, 0].clone()
    run(solver, 10.0)
    later = solver.state[0, :, 1, 0]
    exponent = torch.log(torch.vdot(disturbance, later) / torch.vdot(disturbance, disturbance)).item()
    assert exponent.real / 10 == pytest.approx(c.imag, rel=1e-5)
    assert -((exponent.imag / 10 + math.pi / 10) % (2 * math.pi / 10) - math.pi / 10) == pytest.approx(c.real, rel=1e-5)
    assert relative(later, disturbance * torch.exp(torch.tensor(exponent))) < 1e-4


def test_an_oblique_orr_sommerfeld_wave_grows_as_squires_theorem_says():
    """v of a wave (alpha, beta) at Re grows like the plane wave k = (alpha^2 + beta^2)^(1/2) at Re alpha / k."""
    alpha, beta = 0.8, 0.6
    reynolds = 8000.0 / alpha
    c, v, slope = orr_sommerfeld(1.0, 8000.0)
    space = ChannelSpace((4, 96, 4), (2 * math.pi / alpha, 2 * math.pi / beta))

    def mode(x, y, z):
        points = y.flatten().numpy()
        normal, derivative = (torch.from_numpy(f(points)).view(y.shape) for f in (v, slope))
        wave = torch.exp(1j * (alpha * x + beta * z))
        spread = 1e-6 * 1j * derivative * wave
        return (alpha * spread).real, 1e-6 * (normal * wave).real, (beta * spread).real

    state = shear_flow(space, parabola, mode)
    drive = MeanDrive(pressure_gradient=2 / reynolds)
    solver = ChannelSolver(space, state, 1 / reynolds, drive, time_step=0.04)
    disturbance = solver.state[0, :, 1, 1].clone()
    run(solver, 5.0)
    later = solver.state[0, :, 1, 1]
    exponent = torch.log(torch.vdot(disturbance, later) / torch.vdot(disturbance, disturbance)).item()
    assert exponent.real / 5 == pytest.approx(alpha * c.imag, rel=1e-3)
    assert float(solver.state[1, :, 1, 1].abs().max()) > 1e-7  # and it lifts up streaks


def difference_of_halved_steps(viscosity, steps):
    """Changes of the end state as the step is halved, and halved again."""
    space = ChannelSpace((8, 24, 8), (2 * math.pi, math.pi))
    start = random_state(space, amplitude=0.5) + shear_flow(space, parabola)
    ends = []
    for count in (steps, 2 * steps, 4 * steps):
        solver = undriven(space, start, viscosity, time_step=0.4 / count)
        ends.append(run(solver, 0.4).clone())
    return float((ends[0] - ends[1]).norm()), float((ends[1] - ends[2]).norm())


def test_the_step_is_of_second_order_and_of_third_where_convection_rules():
    coarse, fine = difference_of_halved_steps(0.02, 32)
    assert 1.9 < math.log2(coarse / fine) < 3.1
    coarse, fine = difference_of_halved_steps(2e-5, 16)
    assert 2.8 < math.log2(coarse / fine) < 3.3


@pytest.mark.parametrize("bulk", [None, 2.0])
def test_energy_changes_by_what_the_drive_puts_in_and_viscosity_takes(bulk):
    space = ChannelSpace((12, 32, 12), (2 * math.pi, math.pi), wall_dealiasing=True)
    start = random_state(space) + shear_flow(space, lambda y: 3 * parabola(y))
    drive = MeanDrive(pressure_gradient=0.5) if bulk is None else MeanDrive(bulk_velocity=bulk)
    solver, statistics = ChannelSolver(space, start, 0.02, drive, time_step=0.0025), ChannelStatistics(space)
    rows = []
    for _ in range(81):
        solver.advance(1.0)
        rows.append(statistics.diagnose(solver))
    power, loss = (np.array([row[name] for row in rows]) for name in ("injected_power", "dissipation"))
    times = [row["time"] for row in rows]
    gain = rows[-1]["energy"] - rows[0]["energy"]
    spent = np.trapezoid(loss, times)
    assert abs(gain) > 0.05 * spent  # there is a change to explain
    assert gain == pytest.approx(np.trapezoid(power, times) - spent, abs=1e-4 * spent)


def test_the_symmetry_group_is_c2v():
    """Of the elements that leave the walls in place, E, the mirrors of y and z and C2 about x commute with a step."""
    space = ChannelSpace((6, 12, 6), (2.0, 2.0))
    group = octahedral_group("Oh")
    state = random_state(space) + shear_flow(space, parabola)

    def step(field):
        solver = ChannelSolver(space, space.state(field), 0.02, MeanDrive(pressure_gradient=0.3), time_step=0.01)
        solver.advance(0.01)
        return on_faces(space, solver.state)

    field = on_faces(space, state)
    after = step(field)
    kept, broken = [], []
    for g, matrix in enumerate(group.matrices):
        if abs(matrix[1, 1]) == 1:
            error = relative(step(transform_field(field, g, "1o", group)), transform_field(after, g, "1o", group))
            (kept if error < 1e-12 else broken).append((g, error))
    assert len(kept) + len(broken) == 16
    assert min(error for _, error in broken) > 1e-4
    subgroup = group.subgroup([g for g, _ in kept])
    assert (subgroup.schoenflies, subgroup.order) == ("C2v", 4)
    assert all(group.matrices[g][0, 0] == 1 for g, _ in kept)


def test_a_step_depends_on_the_state_and_the_end_time_alone():
    space = ChannelSpace((8, 16, 8), PERIODS)
    start = random_state(space) + shear_flow(space, parabola)
    drive = MeanDrive(pressure_gradient=1.0)
    whole = ChannelSolver(space, start, 0.01, drive, cfl=0.4)
    for _ in range(6):
        whole.advance(1.0)
    first = ChannelSolver(space, start, 0.01, drive, cfl=0.4)
    for _ in range(3):
        first.advance(1.0)
    rest = ChannelSolver(space, first.state, 0.01, drive, cfl=0.4, time=first.time, step=first.step)
    for _ in range(3):
        rest.advance(1.0)
    assert torch.equal(whole.state, rest.state)
    assert (whole.time, whole.step) == (rest.time, rest.step)


def test_a_moving_frame_is_not_seen_in_the_field():
    space = ChannelSpace((12, 16, 8), (2.0, 1.5), wall_dealiasing=True)
    start = random_state(space) + shear_flow(space, parabola)
    drive = MeanDrive(pressure_gradient=0.5)
    fields = []
    for speed in (0.0, 0.7):
        solver = ChannelSolver(space, start, 0.02, drive, frame_velocity=speed, time_step=0.002)
        run(solver, 0.2)
        fields.append(solver.field())
    assert relative(fields[1], fields[0]) < 1e-5
    assert relative(space.field(solver.state), fields[0]) > 0.1


def test_whole_steps_end_on_the_output_time():
    space = ChannelSpace((4, 8, 4), PERIODS)
    solver = ChannelSolver(space, shear_flow(space, parabola), 0.1, MeanDrive(pressure_gradient=0.2), time_step=0.03)
    run(solver, 0.1)
    assert (solver.time, solver.step) == (0.1, 4)


@pytest.mark.gpu
def test_cuda_agrees_with_the_cpu():
    fields = []
    for device in ("cpu", "cuda"):
        space = ChannelSpace((16, 32, 16), PERIODS, device=device)
        state = disturbed(space, "turbulent", 180.0, seed=0)
        drive = MeanDrive(bulk_velocity=15.0)
        solver = ChannelSolver(space, state, 1 / 180, drive, frame_velocity=10.0, time_step=1e-3)
        run(solver, 0.05)
        fields.append(solver.field().cpu())
    assert relative(fields[1], fields[0]) < 1e-10


def test_a_blow_up_says_when_and_why():
    space = ChannelSpace((8, 16, 8), PERIODS)
    start = random_state(space, amplitude=20.0)
    with pytest.raises(FlowsrError, match=r"blew up at step \d+, time .*likely cause: .*lower time_step"):
        run(ChannelSolver(space, start, 1e-4, MeanDrive(pressure_gradient=1.0), time_step=0.1), 20.0)
    with pytest.raises(FlowsrError, match=r"blew up at step \d+.*lower cfl"):
        run(ChannelSolver(space, start, 1e-4, MeanDrive(pressure_gradient=1.0), cfl=5.0), 20.0)


@pytest.mark.parametrize("cells", [(7, 16, 8), (8, 15, 8), (8, 16, 2)])
def test_unsuitable_cells_are_refused(cells):
    with pytest.raises(ValueError, match="even and at least 4"):
        ChannelSpace(cells, PERIODS)


def test_a_channel_has_one_drive():
    with pytest.raises(ValueError, match="one of the two"):
        MeanDrive()
    with pytest.raises(ValueError, match="one of the two"):
        MeanDrive(1.0, 1.0)
