"""The compiled loops of `planes`, for processors. Arrays of images are (b, h, w, c) in this order in memory.

The innermost loop is over channels, which vector instructions take several at a time. Parallel over images.
"""

from __future__ import annotations

import numpy as np

from winnow.select.engine.compiled import CORES as CORES
from winnow.select.engine.compiled import compiled, parts

EPSILON = 1e-5


@compiled
def forward(z, scale, shift, pooled, mean, r):  # type: ignore[no-untyped-def]
    count, height, width, channels = z.shape
    area = height * width
    for i in parts(count):
        total, squares = np.zeros(channels, z.dtype), np.zeros(channels, z.dtype)
        for y in range(height):
            for x in range(width):
                for c in range(channels):
                    total[c] += z[i, y, x, c]
        for c in range(channels):
            mean[i, c] = total[c] / area
        for y in range(height):
            for x in range(width):
                for c in range(channels):
                    squares[c] += (z[i, y, x, c] - mean[i, c]) ** 2
        for c in range(channels):
            r[i, c] = 1 / np.sqrt(squares[c] / area + EPSILON)
            total[c] = r[i, c] * scale[c]
            squares[c] = shift[c] - mean[i, c] * total[c]
        for y in range(height // 2):
            for x in range(width // 2):
                for c in range(channels):
                    a, b = total[c], squares[c]
                    first = max(a * z[i, 2 * y, 2 * x, c] + b, 0) + max(a * z[i, 2 * y, 2 * x + 1, c] + b, 0)
                    second = max(a * z[i, 2 * y + 1, 2 * x, c] + b, 0)
                    pooled[i, y, x, c] = (first + second + max(a * z[i, 2 * y + 1, 2 * x + 1, c] + b, 0)) / 4


@compiled
def backward(z, mean, r, scale, shift, g, out, gscale, gshift):  # type: ignore[no-untyped-def]
    count, height, width, channels = z.shape
    area = height * width
    for i in parts(count):
        with_n, alone = np.zeros(channels, z.dtype), np.zeros(channels, z.dtype)
        for y in range(height // 2 * 2):
            for x in range(width // 2 * 2):
                for c in range(channels):
                    n = (z[i, y, x, c] - mean[i, c]) * r[i, c]
                    gu = g[i, y // 2, x // 2, c] / 4 if n * scale[c] + shift[c] > 0 else 0
                    alone[c] += gu
                    with_n[c] += gu * n
        for c in range(channels):
            gscale[i, c], gshift[i, c] = with_n[c], alone[c]
        for y in range(height):
            for x in range(width):
                inside = y < height // 2 * 2 and x < width // 2 * 2
                py, px = min(y // 2, height // 2 - 1), min(x // 2, width // 2 - 1)
                for c in range(channels):
                    n = (z[i, y, x, c] - mean[i, c]) * r[i, c]
                    gu = g[i, py, px, c] / 4 if inside and n * scale[c] + shift[c] > 0 else 0
                    out[i, y, x, c] = r[i, c] * scale[c] * (gu - (alone[c] + n * with_n[c]) / area)


@compiled
def forward_along(  # type: ignore[no-untyped-def]
    z, mean, r, scale, shift, dz, dscale, dshift, pooled, dmean, correlation
):
    count, height, width, channels = z.shape
    area = height * width
    for i in parts(count):
        total, product = np.zeros(channels, z.dtype), np.zeros(channels, z.dtype)
        for y in range(height):
            for x in range(width):
                for c in range(channels):
                    total[c] += dz[i, y, x, c]
                    product[c] += dz[i, y, x, c] * (z[i, y, x, c] - mean[i, c])
        for c in range(channels):
            dmean[i, c] = total[c] / area
            correlation[i, c] = product[c] * r[i, c] / area
        for y in range(height // 2):
            for x in range(width // 2):
                for c in range(channels):
                    pooled[i, y, x, c] = 0
                for part in range(4):
                    py, px = 2 * y + part // 2, 2 * x + part % 2
                    for c in range(channels):
                        n = (z[i, py, px, c] - mean[i, c]) * r[i, c]
                        dn = r[i, c] * (dz[i, py, px, c] - dmean[i, c] - n * correlation[i, c])
                        du = dscale[c] * n + scale[c] * dn + dshift[c]
                        pooled[i, y, x, c] += du / 4 if n * scale[c] + shift[c] > 0 else 0


@compiled
def backward_along(  # type: ignore[no-untyped-def]
    z, mean, r, dz, dmean, correlation, scale, shift, dscale, g, dg, out, dout, dgscale, dgshift
):
    count, height, width, channels = z.shape
    area = height * width
    for i in parts(count):
        sums = np.zeros((5, channels), z.dtype)
        for y in range(height // 2 * 2):
            for x in range(width // 2 * 2):
                for c in range(channels):
                    n = (z[i, y, x, c] - mean[i, c]) * r[i, c]
                    dn = r[i, c] * (dz[i, y, x, c] - dmean[i, c] - n * correlation[i, c])
                    positive = n * scale[c] + shift[c] > 0
                    gu = g[i, y // 2, x // 2, c] / 4 if positive else 0
                    dgu = dg[i, y // 2, x // 2, c] / 4 if positive else 0
                    sums[0, c] += gu
                    sums[1, c] += gu * n
                    sums[2, c] += dgu
                    sums[3, c] += dgu * n + gu * dn
        for c in range(channels):
            dgscale[i, c], dgshift[i, c] = sums[3, c], sums[2, c]
            # From here on: means over the plane of gn, gn n, and how these move.
            first, second = sums[0, c] * scale[c], sums[1, c] * scale[c]
            third = sums[2, c] * scale[c] + sums[0, c] * dscale[c]
            fourth = sums[3, c] * scale[c] + sums[1, c] * dscale[c]
            sums[0, c], sums[1, c], sums[2, c], sums[3, c] = (
                first / area,
                second / area,
                third / area,
                fourth / area,
            )
        for y in range(height):
            for x in range(width):
                inside = y < height // 2 * 2 and x < width // 2 * 2
                py, px = min(y // 2, height // 2 - 1), min(x // 2, width // 2 - 1)
                for c in range(channels):
                    n = (z[i, y, x, c] - mean[i, c]) * r[i, c]
                    dn = r[i, c] * (dz[i, y, x, c] - dmean[i, c] - n * correlation[i, c])
                    positive = inside and n * scale[c] + shift[c] > 0
                    gu = g[i, py, px, c] / 4 if positive else 0
                    dgu = dg[i, py, px, c] / 4 if positive else 0
                    gn, dgn = gu * scale[c], dgu * scale[c] + gu * dscale[c]
                    got = r[i, c] * (gn - sums[0, c] - n * sums[1, c])
                    out[i, y, x, c] = got
                    dout[i, y, x, c] = (
                        r[i, c] * (dgn - sums[2, c] - dn * sums[1, c] - n * sums[3, c])
                        - r[i, c] * correlation[i, c] * got
                    )
