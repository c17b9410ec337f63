"""The programs that run on the GPU; see :mod:`flowsr.kernels.triton_kernel.signs` for what they compute.

``analyze`` reads a field, ``multiply`` makes the matrix products, ``synthesize`` writes the result; ``correlate``
collects the gradient of the filters and ``collect`` that of bias and relaxed weights. Between them stand slabs of the
field in the layout (sample, x, y, z, character, column), the columns being (bank, coset, channel), padded with zeros to
whole blocks.

This module alone imports Triton. Whether it interprets or compiles is decided at this import, by TRITON_INTERPRET.
"""

import triton
import triton.language as tl

INV_SQRT_2 = tl.constexpr(0.7071067811865476)
INV_SQRT_2PI = tl.constexpr(0.3989422804014327)


@triton.jit
def _activate(value, ACTIVATION: tl.constexpr):
    if ACTIVATION == "relu":
        value = tl.where(value < 0, 0.0, value)
    if ACTIVATION == "silu":
        value = value / (1 + tl.exp(-value))
    if ACTIVATION == "gelu":
        value = 0.5 * value * (1 + tl.erf(value * INV_SQRT_2))
    return value


@triton.jit
def _times_slope(gradient, saved, ACTIVATION: tl.constexpr):
    """The gradient before the activation. ``saved`` is what came out of relu, or went into the others."""
    if ACTIVATION == "relu":
        gradient = tl.where(saved <= 0, 0.0, gradient)
    if ACTIVATION == "silu":
        gate = 1 / (1 + tl.exp(-saved))
        gradient = gradient * gate * (1 + saved * (1 - gate))
    if ACTIVATION == "gelu":
        normal = 0.5 * (1 + tl.erf(saved * INV_SQRT_2))
        gradient = gradient * (normal + saved * INV_SQRT_2PI * tl.exp(-0.5 * saved * saved))
    return gradient


@triton.jit
def _source_cell(cell, side, EDGE: tl.constexpr):
    """Where the value of ``cell``, which may lie beyond the edge, is held; and whether it is, or is zero."""
    holds = cell > -2147483647
    if EDGE == "periodic":
        cell = (cell + side) % side
    if EDGE == "reflect":
        cell = side - 1 - tl.abs(side - 1 - tl.abs(cell))
    if EDGE == "zero":
        holds = (cell >= 0) & (cell < side)
    return tl.minimum(tl.maximum(cell, 0), side - 1), holds


@triton.jit
def _unravel(position, side_x, side_y, side_z):
    """(sample, x, y, z) of a position in C order."""
    z = position % side_z
    y = (position // side_z) % side_y
    x = (position // (side_z * side_y)) % side_x
    return position // (side_z * side_y * side_x), x, y, z


@triton.jit
def _tile(number, side_x, side_y, side_z, TX: tl.constexpr, TY: tl.constexpr, TZ: tl.constexpr):
    """Cells of a tile of TX x TY x TZ: (sample, x, y, z, whether inside), cells beyond the box moved onto its edge."""
    tiles_x, tiles_y, tiles_z = tl.cdiv(side_x, TX), tl.cdiv(side_y, TY), tl.cdiv(side_z, TZ)
    sample, tile_x, tile_y, tile_z = _unravel(number, tiles_x, tiles_y, tiles_z)
    within = tl.arange(0, TX * TY * TZ)
    x = tile_x * TX + within // (TY * TZ)
    y = tile_y * TY + (within // TZ) % TY
    z = tile_z * TZ + within % TZ
    inside = (x < side_x) & (y < side_y) & (z < side_z)
    return sample, tl.minimum(x, side_x - 1), tl.minimum(y, side_y - 1), tl.minimum(z, side_z - 1), inside


@triton.jit
def _combination(pointers, mask, x, y, z, sign_x, sign_y, sign_z, PATTERN: tl.constexpr, WIDE: tl.constexpr):
    """Values at +-x +-y +-z from ``pointers``, added with signs; bits of PATTERN say which axes have two terms.

    They are added in their own precision, two at a time where they are of 16 bits; in float32 if WIDE, for the
    interpreter, which can neither add nor multiply bfloat16.
    """
    value = tl.load(pointers + (x + y + z), mask=mask)
    if WIDE:
        value = value.to(tl.float32)
    for term in tl.static_range(1, 8):
        if (term & PATTERN) == term:
            at, sign = x + y + z, tl.full((), 1, tl.float32)
            if term & 1:
                at, sign = at - 2 * x, sign * sign_x
            if term & 2:
                at, sign = at - 2 * y, sign * sign_y
            if term & 4:
                at, sign = at - 2 * z, sign * sign_z
            value += sign.to(value.dtype) * tl.load(pointers + at, mask=mask).to(value.dtype)
    return value


@triton.jit
def _column(number, channels, COSETS: tl.constexpr):
    """(bank, coset, channel)."""
    return number // (COSETS * channels), (number // channels) % COSETS, number % channels


@triton.jit(do_not_specialize=["first_sample", "first_x", "first_y", "first_z"])
def analyze(
    source,
    saved,
    weights,
    elements,
    slab,
    first_sample,
    first_x,
    first_y,
    first_z,
    positions,
    width_x,
    width_y,
    width_z,
    side_x,
    side_y,
    side_z,
    channels,
    columns,
    s_sample,
    s_channel,
    s_element,
    s_x,
    s_y,
    s_z,
    v_sample,
    v_channel,
    v_element,
    v_x,
    v_y,
    v_z,
    CHARACTERS: tl.constexpr,
    K: tl.constexpr,
    COSETS: tl.constexpr,
    WIDTH: tl.constexpr,
    EDGE_X: tl.constexpr,
    EDGE_Y: tl.constexpr,
    EDGE_Z: tl.constexpr,
    WEIGHTED: tl.constexpr,
    ACTIVATION: tl.constexpr,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
):
    """slab[position, chi, (l, p, c)] = sum_k chi(k) w_l(k p) slope(saved) source(position, c, k p).

    Positions are the last dimension of all blocks here, so that neighbouring threads read neighbouring cells.
    """
    position = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    number = tl.program_id(1) * COLUMNS + tl.arange(0, COLUMNS)
    sample, x, y, z = _unravel(position, width_x, width_y, width_z)
    x, holds_x = _source_cell(first_x + x, side_x, EDGE_X)
    y, holds_y = _source_cell(first_y + y, side_y, EDGE_Y)
    z, holds_z = _source_cell(first_z + z, side_z, EDGE_Z)
    bank, coset, channel = _column(number, channels, COSETS)
    mask = (number < columns)[:, None] & ((position < positions) & holds_x & holds_y & holds_z)[None, :]
    sample = (first_sample + sample).to(tl.int64)
    s_at = sample * s_sample + x.to(tl.int64) * s_x + y.to(tl.int64) * s_y + z.to(tl.int64) * s_z
    v_at = sample * v_sample + x.to(tl.int64) * v_x + y.to(tl.int64) * v_y + z.to(tl.int64) * v_z
    values = ()
    for k in tl.static_range(K):
        element = tl.load(elements + k * COSETS + coset).to(tl.int64)
        s_on = channel.to(tl.int64) * s_channel + element * s_element
        value = tl.load(source + s_on[:, None] + s_at[None, :], mask=mask, other=0.0).to(tl.float32)
        if ACTIVATION != "none":
            v_on = channel.to(tl.int64) * v_channel + element * v_element
            kept = tl.load(saved + v_on[:, None] + v_at[None, :], mask=mask, other=0.0).to(tl.float32)
            value = _times_slope(value, kept, ACTIVATION)
        if WEIGHTED:
            value *= tl.load(weights + bank * (K * COSETS) + element, mask=number < columns, other=0.0)[:, None]
        values = values + (value,)  # type: ignore[assignment]  # noqa: RUF005
    target = slab + number[:, None] + position[None, :] * (K * WIDTH)
    filled = (number < WIDTH)[:, None] & (position < positions)[None, :]
    for chi in tl.static_range(K):
        total = values[0]  # type: ignore[misc]
        for k in tl.static_range(1, K):
            if CHARACTERS[chi][k] > 0:
                total += values[k]
            else:
                total -= values[k]
        tl.store(target + chi * WIDTH, total.to(slab.dtype.element_ty), mask=filled)


@triton.jit
def _dot(total, values, pointers, PRECISION: tl.constexpr, WIDE: tl.constexpr):
    """``total`` plus ``values`` times the matrix at ``pointers``."""
    weights = tl.load(pointers)
    values = values.to(weights.dtype)
    if WIDE:
        values, weights = values.to(tl.float32), weights.to(tl.float32)
    return tl.dot(values, weights, total, input_precision=PRECISION)


@triton.jit
def _products_of_parity(
    total,
    total_t,
    pointers,
    counted,
    weight_pointers,
    weight_pointers_t,
    stride_x,
    stride_y,
    stride_z,
    STEPS: tl.constexpr,
    BEGIN: tl.constexpr,
    END: tl.constexpr,
    WIDTH_IN: tl.constexpr,
    WIDTH_OUT: tl.constexpr,
    INNER: tl.constexpr,
    TAIL: tl.constexpr,
    PRECISION: tl.constexpr,
    WIDE: tl.constexpr,
):
    """``total`` plus the products of the combinations BEGIN to END, which read the same character of the slab; and
    ``total_t``, of further columns, where there is a TAIL.

    ``counted`` is 1 for voxels in the box, and 0 for those of a tile that are beyond, which nobody stores. It is here
    because the compiler would send every term of a sum of loads alone through shared memory, instead of the sum.
    """
    for start in range(0, WIDTH_IN, INNER):
        inner = start + tl.arange(0, INNER)
        for b in tl.static_range(BEGIN, END):
            values = _combination(
                pointers + inner[None, :],
                None,
                STEPS[b][1] * stride_x,
                STEPS[b][2] * stride_y,
                STEPS[b][3] * stride_z,
                STEPS[b][4],
                STEPS[b][5],
                STEPS[b][6],
                STEPS[b][0],
                WIDE,
            )
            values = values * counted[:, None]
            rows = (b * WIDTH_IN + inner)[:, None] * WIDTH_OUT
            total = _dot(total, values, weight_pointers + rows, PRECISION, WIDE)
            if TAIL > 0:
                total_t = _dot(total_t, values, weight_pointers_t + rows, PRECISION, WIDE)
    return total, total_t


@triton.jit
def multiply(
    slab,
    spectra,
    sources,
    product,
    side_x,
    columns,
    side_y: tl.constexpr,
    side_z: tl.constexpr,
    STEPS: tl.constexpr,
    FIRST: tl.constexpr,
    K: tl.constexpr,
    HALF: tl.constexpr,
    TAPS: tl.constexpr,
    WIDTH_IN: tl.constexpr,
    WIDTH_OUT: tl.constexpr,
    PRODUCT_WIDTH: tl.constexpr,
    PRECISION: tl.constexpr,
    TX: tl.constexpr,
    TY: tl.constexpr,
    TZ: tl.constexpr,
    INNER: tl.constexpr,
    HEAD: tl.constexpr,
    TAIL: tl.constexpr,
    WIDE: tl.constexpr,
):
    """product[x, chi, j] = sum_b sum_i W_chi,b[i, j] (b slab_(chi chi_b))(x, i): a tile of voxels, a chi, a block of j.

    Columns j come in a HEAD and a TAIL, see :func:`correlate`. Parity by parity, so that one character's neighbourhood
    stays in the first-level cache for all combinations that read it.
    """
    chi = tl.program_id(0)
    columns_out = tl.program_id(2) * (HEAD + TAIL) + tl.arange(0, HEAD)
    columns_t = tl.program_id(2) * (HEAD + TAIL) + HEAD + tl.arange(0, TAIL if TAIL > 0 else 1)
    sample, x, y, z, inside = _tile(tl.program_id(1), side_x, side_y, side_z, TX, TY, TZ)
    stride_z: tl.constexpr = K * WIDTH_IN
    stride_y = (side_z + 2 * HALF) * stride_z
    stride_x = (side_y + 2 * HALF) * stride_y
    centre = (sample * (side_x + 2 * HALF) + x + HALF) * stride_x + (y + HALF) * stride_y + (z + HALF) * stride_z
    counted = inside.to(tl.float32 if WIDE else slab.dtype.element_ty)  # see _products_of_parity
    total = tl.zeros((TX * TY * TZ, HEAD), dtype=tl.float32)
    total_t = tl.zeros((TX * TY * TZ, TAIL if TAIL > 0 else 1), dtype=tl.float32)
    weights = spectra + chi * (TAPS * WIDTH_IN * WIDTH_OUT)
    for parity in tl.static_range(8):
        if FIRST[parity + 1] > FIRST[parity]:
            first_column = tl.load(sources + chi * 8 + parity) * WIDTH_IN
            total, total_t = _products_of_parity(
                total,
                total_t,
                slab + centre[:, None] + first_column,
                counted,
                weights + columns_out[None, :],
                weights + columns_t[None, :],
                stride_x,
                stride_y,
                stride_z,
                STEPS,
                FIRST[parity],
                FIRST[parity + 1],
                WIDTH_IN,
                WIDTH_OUT,
                INNER,
                TAIL,
                PRECISION,
                WIDE,
            )
    voxel = ((sample * side_x + x) * side_y + y) * side_z + z
    target = product + (voxel * K + chi)[:, None] * PRODUCT_WIDTH
    mask = inside[:, None] & (columns_out < columns)[None, :]
    tl.store(target + columns_out[None, :], total.to(product.dtype.element_ty), mask=mask)
    if TAIL > 0:
        mask = inside[:, None] & (columns_t < columns)[None, :]
        tl.store(target + columns_t[None, :], total_t.to(product.dtype.element_ty), mask=mask)


@triton.jit(do_not_specialize=["first_sample", "first_x"])
def synthesize(
    product,
    weights,
    bias,
    elements,
    result,
    before,
    first_sample,
    first_x,
    positions,
    side_x,
    side_y,
    side_z,
    channels,
    r_sample,
    r_channel,
    r_element,
    r_x,
    r_y,
    r_z,
    CHARACTERS: tl.constexpr,
    K: tl.constexpr,
    COSETS: tl.constexpr,
    BANKS: tl.constexpr,
    WIDTH: tl.constexpr,
    WEIGHTED: tl.constexpr,
    BIASED: tl.constexpr,
    ACTIVATION: tl.constexpr,
    KEEP: tl.constexpr,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
):
    """result(position, o, k p) = activation(bias_o + sum_l w_l(k p) sum_chi chi(k) product[position, chi, (l, p, o)]).

    With KEEP, what goes into the activation is written to ``before``, laid out like ``result``.
    """
    position = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    number = tl.program_id(1) * COLUMNS + tl.arange(0, COLUMNS)
    sample, x, y, z = _unravel(position, side_x, side_y, side_z)
    coset, channel = number // channels, number % channels
    mask = (number < COSETS * channels)[:, None] & (position < positions)[None, :]
    parts = ()
    for bank in tl.static_range(BANKS):
        for chi in tl.static_range(K):
            pointers = product + (bank * COSETS * channels + number)[:, None] + (position * K + chi)[None, :] * WIDTH
            parts = parts + (tl.load(pointers, mask=mask, other=0.0).to(tl.float32),)  # type: ignore[assignment]  # noqa: RUF005
    at = (first_sample + sample).to(tl.int64) * r_sample + (first_x + x).to(tl.int64) * r_x
    at += y.to(tl.int64) * r_y + z.to(tl.int64) * r_z
    for k in tl.static_range(K):
        element = tl.load(elements + k * COSETS + coset, mask=coset < COSETS, other=0).to(tl.int64)
        value = tl.zeros((COLUMNS, ROWS), dtype=tl.float32)
        for bank in tl.static_range(BANKS):
            strict = parts[bank * K]  # type: ignore[var-annotated]
            for chi in tl.static_range(1, K):
                if CHARACTERS[chi][k] > 0:
                    strict += parts[bank * K + chi]
                else:
                    strict -= parts[bank * K + chi]
            if WEIGHTED:
                strict *= tl.load(weights + bank * (K * COSETS) + element)[:, None]
            value += strict
        if BIASED:
            value += tl.load(bias + channel, mask=coset < COSETS, other=0.0)[:, None]
        target = (channel.to(tl.int64) * r_channel + element * r_element)[:, None] + at[None, :]
        if KEEP:
            tl.store(before + target, value.to(before.dtype.element_ty), mask=mask)
        tl.store(result + target, _activate(value, ACTIVATION).to(result.dtype.element_ty), mask=mask)


@triton.jit
def _added(total, values, others, PRECISION: tl.constexpr, WIDE: tl.constexpr):
    """``total`` plus values^T others, summed over voxels."""
    values = values.to(others.dtype)
    if WIDE:
        values, others = values.to(tl.float32), others.to(tl.float32)
    return tl.dot(tl.trans(values), others, total, input_precision=PRECISION)


@triton.jit
def correlate(
    shifted,
    plain,
    sources,
    lines,
    totals,
    tiles,
    side_x,
    side_y: tl.constexpr,
    side_z: tl.constexpr,
    K: tl.constexpr,
    HALF: tl.constexpr,
    TAPS: tl.constexpr,
    LINES: tl.constexpr,
    REACH: tl.constexpr,
    WIDTH_SHIFTED: tl.constexpr,
    WIDTH_PLAIN: tl.constexpr,
    PRECISION: tl.constexpr,
    SPLITS: tl.constexpr,
    TURNS: tl.constexpr,
    TX: tl.constexpr,
    TY: tl.constexpr,
    TZ: tl.constexpr,
    BLOCK_SHIFTED: tl.constexpr,
    HEAD: tl.constexpr,
    TAIL: tl.constexpr,
    WIDE: tl.constexpr,
):
    """totals[split, chi, b, i, j] += sum_x (b shifted_(chi chi_b))(x, i) plain_chi(x, j), over every SPLITS-th tile.

    A program takes one character of ``shifted`` and all combinations b that agree along x and y and have REACH along
    z, together with those in place along z where REACH is 1 or 0: their shifted fields are sums and differences of the
    same three. Even ones meet one character of ``plain``, odd ones another. Columns j come in a HEAD and a TAIL, powers
    of two (96 = 64 + 32); without a TAIL (0) in a HEAD alone.
    """
    source, line = tl.program_id(0) // LINES, lines + 9 * (tl.program_id(0) % LINES)
    blocks: tl.constexpr = (WIDTH_PLAIN + HEAD + TAIL - 1) // (HEAD + TAIL)
    columns_i = (tl.program_id(1) // blocks) * BLOCK_SHIFTED + tl.arange(0, BLOCK_SHIFTED)
    columns_j = (tl.program_id(1) % blocks) * (HEAD + TAIL) + tl.arange(0, HEAD)
    split = tl.program_id(2)
    stride_z: tl.constexpr = K * WIDTH_SHIFTED
    stride_y = (side_z + 2 * HALF) * stride_z
    stride_x = (side_y + 2 * HALF) * stride_y
    pattern, parity = tl.load(line), tl.load(line + 5)
    step_x, step_y = tl.load(line + 1) * stride_x, tl.load(line + 2) * stride_y
    sign_x, sign_y = tl.load(line + 3), tl.load(line + 4)
    even, odd = tl.load(sources + source * 8 + parity), tl.load(sources + source * 8 + (parity | 4))
    # where the totals of the combination in place along z, of the sum and of the difference stand
    at = (split * K + even) * TAPS
    in_place, of_sum = at + tl.load(line + 6), at + tl.load(line + 7)
    of_difference = (split * K + odd) * TAPS + tl.load(line + 8)
    target = totals + columns_i[:, None] * WIDTH_PLAIN + columns_j[None, :]
    size: tl.constexpr = WIDTH_SHIFTED * WIDTH_PLAIN
    some_i, some_j = (columns_i < WIDTH_SHIFTED)[None, :], (columns_j < WIDTH_PLAIN)[None, :]
    mask = (columns_i < WIDTH_SHIFTED)[:, None] & some_j
    if REACH < 2:
        place = tl.load(target + in_place * size, mask=mask, other=0.0)
    if REACH > 0:
        total = tl.load(target + of_sum * size, mask=mask, other=0.0)
        difference = tl.load(target + of_difference * size, mask=mask, other=0.0)
    if TAIL > 0:
        columns_t = (tl.program_id(1) % blocks) * (HEAD + TAIL) + HEAD + tl.arange(0, TAIL)
        target_t = totals + columns_i[:, None] * WIDTH_PLAIN + columns_t[None, :]
        some_t = (columns_t < WIDTH_PLAIN)[None, :]
        mask_t = (columns_i < WIDTH_SHIFTED)[:, None] & some_t
        if REACH < 2:
            place_t = tl.load(target_t + in_place * size, mask=mask_t, other=0.0)
        if REACH > 0:
            total_t = tl.load(target_t + of_sum * size, mask=mask_t, other=0.0)
            difference_t = tl.load(target_t + of_difference * size, mask=mask_t, other=0.0)
    for PATTERN in tl.static_range(4):
        if pattern == PATTERN:
            for turn in range(0, TURNS):
                number = split + turn * SPLITS
                sample, x, y, z, inside = _tile(tl.minimum(number, tiles - 1), side_x, side_y, side_z, TX, TY, TZ)
                inside = inside & (number < tiles)
                centre = (sample * (side_x + 2 * HALF) + x + HALF) * stride_x
                centre += (y + HALF) * stride_y + (z + HALF) * stride_z
                pointers = shifted + centre[:, None] + (source * WIDTH_SHIFTED + columns_i)[None, :]
                voxel = ((sample * side_x + x) * side_y + y) * side_z + z
                others = plain + voxel[:, None] * (K * WIDTH_PLAIN)
                mask_x = inside[:, None] & some_j
                evens = tl.load(others + even * WIDTH_PLAIN + columns_j[None, :], mask=mask_x, other=0.0)
                if TAIL > 0:
                    mask_t_x = inside[:, None] & some_t
                    evens_t = tl.load(others + even * WIDTH_PLAIN + columns_t[None, :], mask=mask_t_x, other=0.0)
                if REACH < 2:
                    values = _combination(pointers, some_i, step_x, step_y, 0, sign_x, sign_y, 1, PATTERN, WIDE)
                    place = _added(place, values, evens, PRECISION, WIDE)
                    if TAIL > 0:
                        place_t = _added(place_t, values, evens_t, PRECISION, WIDE)
                if REACH > 0:
                    up, down = pointers + REACH * stride_z, pointers - REACH * stride_z
                    up = _combination(up, some_i, step_x, step_y, 0, sign_x, sign_y, 1, PATTERN, WIDE)
                    down = _combination(down, some_i, step_x, step_y, 0, sign_x, sign_y, 1, PATTERN, WIDE)
                    odds = tl.load(others + odd * WIDTH_PLAIN + columns_j[None, :], mask=mask_x, other=0.0)
                    total = _added(total, up + down, evens, PRECISION, WIDE)
                    difference = _added(difference, up - down, odds, PRECISION, WIDE)
                    if TAIL > 0:
                        odds_t = tl.load(others + odd * WIDTH_PLAIN + columns_t[None, :], mask=mask_t_x, other=0.0)
                        total_t = _added(total_t, up + down, evens_t, PRECISION, WIDE)
                        difference_t = _added(difference_t, up - down, odds_t, PRECISION, WIDE)
    if REACH < 2:
        tl.store(target + in_place * size, place, mask=mask)
        if TAIL > 0:
            tl.store(target_t + in_place * size, place_t, mask=mask_t)
    if REACH > 0:
        tl.store(target + of_sum * size, total, mask=mask)
        tl.store(target + of_difference * size, difference, mask=mask)
        if TAIL > 0:
            tl.store(target_t + of_sum * size, total_t, mask=mask_t)
            tl.store(target_t + of_difference * size, difference_t, mask=mask_t)


@triton.jit
def collect(
    gradient,
    saved,
    factor,
    sums,
    channels,
    order,
    side_y,
    side_z,
    g_sample,
    g_channel,
    g_element,
    g_x,
    g_y,
    g_z,
    v_sample,
    v_channel,
    v_element,
    v_x,
    v_y,
    v_z,
    f_sample,
    f_channel,
    f_element,
    f_x,
    f_y,
    f_z,
    ACTIVATION: tl.constexpr,
    POSITIONS: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """sums[0, row]: the gradient before the activation, summed; sums[1, row]: times ``factor``. Rows (sample, o, g)."""
    row = tl.program_id(0)
    element, channel, sample = row % order, (row // order) % channels, (row // (order * channels)).to(tl.int64)
    gradient += sample * g_sample + channel.to(tl.int64) * g_channel + element.to(tl.int64) * g_element
    saved += sample * v_sample + channel.to(tl.int64) * v_channel + element.to(tl.int64) * v_element
    factor += sample * f_sample + channel.to(tl.int64) * f_channel + element.to(tl.int64) * f_element
    plain = tl.zeros((BLOCK,), dtype=tl.float32)
    weighted = tl.zeros((BLOCK,), dtype=tl.float32)
    for start in range(0, POSITIONS, BLOCK):
        position = start + tl.arange(0, BLOCK)
        mask = position < POSITIONS
        x, y, z = position // (side_y * side_z), (position // side_z) % side_y, position % side_z
        x, y, z = x.to(tl.int64), y.to(tl.int64), z.to(tl.int64)
        value = tl.load(gradient + x * g_x + y * g_y + z * g_z, mask=mask, other=0.0).to(tl.float32)
        if ACTIVATION != "none":
            kept = tl.load(saved + x * v_x + y * v_y + z * v_z, mask=mask, other=0.0).to(tl.float32)
            value = _times_slope(value, kept, ACTIVATION)
        plain += value
        weighted += value * tl.load(factor + x * f_x + y * f_y + z * f_z, mask=mask, other=0.0).to(tl.float32)
    tl.store(sums + row, tl.sum(plain))
    tl.store(sums + tl.num_programs(0) + row, tl.sum(weighted))
