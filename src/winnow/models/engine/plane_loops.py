"""The compiled loops of `planes`, for processors. Arrays of images are (b, h, w, c) in this order in memory.

The innermost loop is over channels, which vector instructions take several at a time. Parallel over images.
"""

from __future__ import annotations

import numpy as np

from winnow.select.engine.compiled import compiled, parts, serial

EPSILON = 1e-5


@compiled
def forward(z, scale, shift, pooled, mean, r):  # type: ignore[no-untyped-def]
    for i in parts(len(z)):
        _forward(z[i], scale, shift, pooled[i], mean[i], r[i])


@compiled
def forward_of_halves(z, scale, shift, pooled, mean, r):  # type: ignore[no-untyped-def]
    """z, pooled: the bits of bfloat16 numbers, as uint16. Each image is widened where the cache holds it."""
    for i in parts(len(z)):
        wide = np.empty(pooled[i].shape, np.float32)
        _forward(_widened(z[i]), scale, shift, wide, mean[i], r[i])
        _narrow(wide, pooled[i])


@serial
def _forward(z, scale, shift, pooled, mean, r):  # type: ignore[no-untyped-def]
    height, width, channels = z.shape
    area = height * width
    total, squares = np.zeros(channels, z.dtype), np.zeros(channels, z.dtype)
    for y in range(height):
        for x in range(width):
            for c in range(channels):
                total[c] += z[y, x, c]
    for c in range(channels):
        mean[c] = total[c] / area
    for y in range(height):
        for x in range(width):
            for c in range(channels):
                squares[c] += (z[y, x, c] - mean[c]) ** 2
    for c in range(channels):
        r[c] = 1 / np.sqrt(squares[c] / area + EPSILON)
        total[c] = r[c] * scale[c]
        squares[c] = shift[c] - mean[c] * total[c]
    for y in range(height // 2):
        for x in range(width // 2):
            for c in range(channels):
                a, b = total[c], squares[c]
                first = max(a * z[2 * y, 2 * x, c] + b, 0) + max(a * z[2 * y, 2 * x + 1, c] + b, 0)
                second = max(a * z[2 * y + 1, 2 * x, c] + b, 0)
                pooled[y, x, c] = (first + second + max(a * z[2 * y + 1, 2 * x + 1, c] + b, 0)) / 4


@compiled
def backward(z, mean, r, scale, shift, g, gscale, gshift):  # type: ignore[no-untyped-def]
    for i in parts(len(z)):
        _backward(z[i], mean[i], r[i], scale, shift, g[i], gscale[i], gshift[i])


@compiled
def backward_of_halves(z, gz, mean, r, scale, shift, g, gscale, gshift):  # type: ignore[no-untyped-def]
    """z, gz, g: bits as above; z stays as it is."""
    for i in parts(len(z)):
        wide = _widened(z[i])
        _backward(wide, mean[i], r[i], scale, shift, _widened(g[i]), gscale[i], gshift[i])
        _narrow(wide, gz[i])


@serial
def _backward(z, mean, r, scale, shift, g, gscale, gshift):  # type: ignore[no-untyped-def]
    height, width, channels = z.shape
    zero, quarter = z.dtype.type(0), z.dtype.type(0.25)
    share = z.dtype.type(1 / (height * width))
    with_n, alone = np.zeros(channels, z.dtype), np.zeros(channels, z.dtype)
    for y in range(height // 2 * 2):
        for x in range(width // 2 * 2):
            for c in range(channels):
                n = (z[y, x, c] - mean[c]) * r[c]
                got = g[y // 2, x // 2, c] * quarter
                gu = got if n * scale[c] + shift[c] > zero else zero
                alone[c] += gu
                with_n[c] += gu * n
    for c in range(channels):
        gscale[c], gshift[c] = with_n[c], alone[c]
        with_n[c], alone[c] = with_n[c] * share, alone[c] * share
    for y in range(height):
        for x in range(width):
            # A last odd row or column is not pooled: nothing comes back to it but through the means.
            factor = quarter if y < height // 2 * 2 and x < width // 2 * 2 else zero
            py, px = min(y // 2, height // 2 - 1), min(x // 2, width // 2 - 1)
            for c in range(channels):
                n = (z[y, x, c] - mean[c]) * r[c]
                got = g[py, px, c] * factor
                gu = got if n * scale[c] + shift[c] > zero else zero
                z[y, x, c] = r[c] * scale[c] * (gu - alone[c] - n * with_n[c])


@serial
def _widened(halves):  # type: ignore[no-untyped-def]
    """Return bfloat16 numbers (h, w, c), given by their bits, as float32: these are its upper half."""
    bits = np.empty(halves.shape, np.uint32)
    for y in range(halves.shape[0]):
        for x in range(halves.shape[1]):
            for c in range(halves.shape[2]):
                bits[y, x, c] = np.uint32(halves[y, x, c]) << np.uint32(16)
    return bits.view(np.float32)


@serial
def _narrow(wide, halves):  # type: ignore[no-untyped-def]
    """Write float32 numbers as the bits of bfloat16 ones, rounded to the nearest, ties to even, as torch."""
    bits = wide.view(np.uint32)
    for y in range(halves.shape[0]):
        for x in range(halves.shape[1]):
            for c in range(halves.shape[2]):
                word = bits[y, x, c]
                odd = (word >> np.uint32(16)) & np.uint32(1)
                halves[y, x, c] = np.uint16((word + np.uint32(0x7FFF) + odd) >> np.uint32(16))


@compiled
def forward_along(  # type: ignore[no-untyped-def]
    z, mean, r, scale, shift, dz, dscale, dshift, pooled, dmean, correlation
):
    count, height, width, channels = z.shape
    zero, quarter = z.dtype.type(0), z.dtype.type(0.25)
    share = z.dtype.type(1 / (height * width))
    for i in parts(count):
        total, product = np.zeros(channels, z.dtype), np.zeros(channels, z.dtype)
        for y in range(height):
            for x in range(width):
                for c in range(channels):
                    total[c] += dz[i, y, x, c]
                    product[c] += dz[i, y, x, c] * (z[i, y, x, c] - mean[i, c])
        for c in range(channels):
            dmean[i, c] = total[c] * share
            correlation[i, c] = product[c] * r[i, c] * share
        for y in range(height // 2):
            for x in range(width // 2):
                for c in range(channels):
                    pooled[i, y, x, c] = zero
                for part in range(4):
                    py, px = 2 * y + part // 2, 2 * x + part % 2
                    for c in range(channels):
                        n = (z[i, py, px, c] - mean[i, c]) * r[i, c]
                        dn = r[i, c] * (dz[i, py, px, c] - dmean[i, c] - n * correlation[i, c])
                        du = (dscale[c] * n + scale[c] * dn + dshift[c]) * quarter
                        pooled[i, y, x, c] += du if n * scale[c] + shift[c] > zero else zero


@compiled
def backward_along(  # type: ignore[no-untyped-def]
    z, mean, r, dz, dmean, correlation, scale, shift, dscale, g, dg, dgscale, dgshift
):
    count, height, width, channels = z.shape
    zero, quarter = z.dtype.type(0), z.dtype.type(0.25)
    share = z.dtype.type(1 / (height * width))
    for i in parts(count):
        alone, with_n = np.zeros(channels, z.dtype), np.zeros(channels, z.dtype)
        dalone, dwith_n = np.zeros(channels, z.dtype), np.zeros(channels, z.dtype)
        for y in range(height // 2 * 2):
            for x in range(width // 2 * 2):
                for c in range(channels):
                    n = (z[i, y, x, c] - mean[i, c]) * r[i, c]
                    dn = r[i, c] * (dz[i, y, x, c] - dmean[i, c] - n * correlation[i, c])
                    factor = quarter if n * scale[c] + shift[c] > zero else zero
                    gu = g[i, y // 2, x // 2, c] * factor
                    dgu = dg[i, y // 2, x // 2, c] * factor
                    alone[c] += gu
                    with_n[c] += gu * n
                    dalone[c] += dgu
                    dwith_n[c] += dgu * n + gu * dn
        for c in range(channels):
            dgscale[i, c], dgshift[i, c] = dwith_n[c], dalone[c]
            # From here on: means over the plane of gn, gn n, and how these move.
            dalone[c] = (dalone[c] * scale[c] + alone[c] * dscale[c]) * share
            dwith_n[c] = (dwith_n[c] * scale[c] + with_n[c] * dscale[c]) * share
            alone[c], with_n[c] = alone[c] * scale[c] * share, with_n[c] * scale[c] * share
        for y in range(height):
            for x in range(width):
                weight = quarter if y < height // 2 * 2 and x < width // 2 * 2 else zero
                py, px = min(y // 2, height // 2 - 1), min(x // 2, width // 2 - 1)
                for c in range(channels):
                    n = (z[i, y, x, c] - mean[i, c]) * r[i, c]
                    dn = r[i, c] * (dz[i, y, x, c] - dmean[i, c] - n * correlation[i, c])
                    factor = weight if n * scale[c] + shift[c] > zero else zero
                    gu, dgu = g[i, py, px, c] * factor, dg[i, py, px, c] * factor
                    got = r[i, c] * (gu * scale[c] - alone[c] - n * with_n[c])
                    moved = dgu * scale[c] + gu * dscale[c] - dalone[c] - dn * with_n[c] - n * dwith_n[c]
                    z[i, y, x, c] = got
                    dz[i, y, x, c] = r[i, c] * moved - r[i, c] * correlation[i, c] * got
