"""Instance norm, ReLU and 2 x 2 mean pooling as one operation, with its first and second derivatives.

An image's channel is a plane of h x w numbers z. With its mean m and r = 1 / sqrt(variance + 1e-5):

    n = r (z - m),   u = scale n + shift,   p = mean over 2 x 2 of max(u, 0)

Written out because the automatic second derivative of such a block walks over its planes dozens of times,
which takes most of a distillation's time on processors. All functions take and give images that are
channels last in memory: large ones on processors through compiled loops, which read each plane while it is
in the cache, else through torch. A dot, as in `dz`, marks the derivative along a direction in which inputs
and parameters move.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor
from torch.nn import functional

EPSILON = 1e-5
WORTH_COMPILING = 2**17
"""Numbers below which torch is as fast as loops that have to be compiled, or read from the disk, first."""


@dataclass(frozen=True)
class Planes:
    """What the forward direction keeps: z (b, c, h, w), and mean and r (b, c)."""

    z: Tensor
    mean: Tensor
    r: Tensor


@dataclass(frozen=True)
class Moving:
    """How planes move along a direction: dz (b, c, h, w), and the means of dz and of n dz (b, c)."""

    dz: Tensor
    mean: Tensor
    correlation: Tensor


def by_loops(z: Tensor) -> bool:
    """Whether planes are computed by compiled loops."""
    return z.device.type == "cpu" and z.numel() >= WORTH_COMPILING


def suits(z: Tensor) -> bool:
    """Whether `pooled_by_loops` takes z: not in double precision, channels first, or without values."""
    single = z.dtype in (torch.float32, torch.bfloat16) and type(z) is Tensor
    return single and by_loops(z) and z.is_contiguous(memory_format=torch.channels_last)


def pooled_by_loops(z: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
    """Return the pooled images of z (b, c, h, w), in its type; differentiable to any order."""
    return cast(Tensor, _Pooled.apply(z, scale, shift))


class _Pooled(torch.autograd.Function):
    """Computes in float32. A derivative that is to be derived again is left to torch."""

    @staticmethod
    def forward(ctx: Any, z: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
        pooled, planes = (forward_of_halves if z.dtype == torch.bfloat16 else forward)(z, scale, shift)
        ctx.save_for_backward(z, scale, shift, planes.mean, planes.r)
        return pooled

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor | None, ...]:
        z, scale, shift, mean, r = ctx.saved_tensors
        if not torch.is_grad_enabled():
            g = g.to(z.dtype).contiguous(memory_format=torch.channels_last)
            if z.dtype == torch.bfloat16:
                return _backward_of_halves(Planes(z, mean, r), scale, shift, g)
            return backward(Planes(z.clone(), mean, r), scale, shift, g)
        given, needed = (z, scale, shift), ctx.needs_input_grad
        wanted = [tensor for tensor, need in zip(given, needed, strict=True) if need]
        normal = functional.group_norm(z, z.shape[1], scale, shift, EPSILON)
        pooled = functional.avg_pool2d(normal.relu(), 2)
        found = iter(torch.autograd.grad(pooled, wanted, g, create_graph=True))
        return tuple(next(found) if need else None for need in needed)


def forward(z: Tensor, scale: Tensor, shift: Tensor) -> tuple[Tensor, Planes]:
    """Return the pooled images (b, c, h // 2, w // 2), and what the other directions need."""
    if by_loops(z):
        pooled, mean, r = _pooled(z), *_two(z)
        _loops().forward(*_arrays(z, scale, shift, pooled, mean, r))
        return pooled, Planes(z, mean, r)
    variance, mean = torch.var_mean(z, (2, 3), correction=0)
    planes = Planes(z, mean, (variance + EPSILON).rsqrt())
    return _pool(_normal(planes) * _wide(scale) + _wide(shift), None), planes


def forward_of_halves(z: Tensor, scale: Tensor, shift: Tensor) -> tuple[Tensor, Planes]:
    """The same of images in bfloat16, by loops: computed in float32, and the pooled images rounded again."""
    pooled, mean, r = _pooled(z), *_two(z, torch.float32)
    _loops().forward_of_halves(*_arrays(z, scale, shift, pooled, mean, r))
    return pooled, Planes(z, mean, r)


def _backward_of_halves(
    planes: Planes, scale: Tensor, shift: Tensor, g: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """The same as `backward`, of images in bfloat16, by loops; z stays as it is."""
    gz, gs, gb = torch.empty_like(planes.z), *_two(planes.z, torch.float32)
    arrays = _arrays(planes.z, gz, planes.mean, planes.r, scale, shift, g, gs, gb)
    _loops().backward_of_halves(*arrays)
    return gz, gs.sum(0), gb.sum(0)


def backward(planes: Planes, scale: Tensor, shift: Tensor, g: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return the derivatives by z, scale and shift, given `g`, the one by the pooled images.

    The first is written over z, whose memory would otherwise be asked for anew.
    """
    if by_loops(planes.z):
        gs, gb = _two(planes.z)
        _loops().backward(*_arrays(planes.z, planes.mean, planes.r, scale, shift, g, gs, gb))
        return planes.z, gs.sum(0), gb.sum(0)
    n, gu = _normal(planes), _unpool(planes, scale, shift, g)
    return _through_norm(planes, n, gu * _wide(scale)), (gu * n).sum((0, 2, 3)), gu.sum((0, 2, 3))


def forward_along(
    planes: Planes, scale: Tensor, shift: Tensor, dz: Tensor, dscale: Tensor, dshift: Tensor
) -> tuple[Tensor, Moving]:
    """Return how the pooled images move, and what `backward_along` needs."""
    if by_loops(dz):
        pooled, mean, correlation = _pooled(dz), *_two(dz)
        kept = (planes.z, planes.mean, planes.r)
        _loops().forward_along(*_arrays(*kept, scale, shift, dz, dscale, dshift, pooled, mean, correlation))
        return pooled, Moving(dz, mean, correlation)
    n = _normal(planes)
    moving = Moving(dz, dz.mean((2, 3)), (n * dz).mean((2, 3)))
    du = _wide(dscale) * n + _wide(scale) * _normal_along(planes, n, moving) + _wide(dshift)
    return _pool(du, n * _wide(scale) + _wide(shift) > 0), moving


def backward_along(
    planes: Planes, moving: Moving, scale: Tensor, shift: Tensor, dscale: Tensor, g: Tensor, dg: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return the derivative by z, and how those by z, scale and shift move; dg is how g moves.

    The first two are written over z and dz.
    """
    if by_loops(planes.z):
        ds, db = _two(planes.z)
        kept = (planes.z, planes.mean, planes.r, moving.dz, moving.mean, moving.correlation)
        _loops().backward_along(*_arrays(*kept, scale, shift, dscale, g, dg, ds, db))
        return planes.z, moving.dz, ds.sum(0), db.sum(0)
    n, gu, dgu = _normal(planes), *(_unpool(planes, scale, shift, part) for part in (g, dg))
    dn = _normal_along(planes, n, moving)
    gn, dgn = gu * _wide(scale), dgu * _wide(scale) + gu * _wide(dscale)
    out, r = _through_norm(planes, n, gn), planes.r[:, :, None, None]
    means = [part.mean((2, 3), keepdim=True) for part in (gn * n, dgn, dgn * n + gn * dn)]
    dout = r * (dgn - means[1] - dn * means[0] - n * means[2])
    dout -= r * moving.correlation[:, :, None, None] * out
    return out, dout, (dgu * n + gu * dn).sum((0, 2, 3)), dgu.sum((0, 2, 3))


def _wide(values: Tensor) -> Tensor:
    return values[:, None, None]


def _normal(planes: Planes) -> Tensor:
    return (planes.z - planes.mean[:, :, None, None]) * planes.r[:, :, None, None]


def _normal_along(planes: Planes, n: Tensor, moving: Moving) -> Tensor:
    mean, correlation, r = (part[:, :, None, None] for part in (moving.mean, moving.correlation, planes.r))
    return r * (moving.dz - mean - n * correlation)


def _through_norm(planes: Planes, n: Tensor, gn: Tensor) -> Tensor:
    means = [part.mean((2, 3), keepdim=True) for part in (gn, gn * n)]
    return planes.r[:, :, None, None] * (gn - means[0] - n * means[1])


def _pool(u: Tensor, positive: Tensor | None) -> Tensor:
    return functional.avg_pool2d(u.relu() if positive is None else u * positive, 2)


def _unpool(planes: Planes, scale: Tensor, shift: Tensor, g: Tensor) -> Tensor:
    """Return the derivative by u: nothing where u is not positive, or in a last odd row or column."""
    height, width = planes.z.shape[2:]
    spread = functional.interpolate(g, scale_factor=2.0) / 4
    spread = functional.pad(spread, (0, width % 2, 0, height % 2))
    return spread * (_normal(planes) * _wide(scale) + _wide(shift) > 0)


def _pooled(z: Tensor) -> Tensor:
    b, c, h, w = z.shape
    return torch.empty(b, c, h // 2, w // 2, dtype=z.dtype, memory_format=torch.channels_last)


def _two(z: Tensor, dtype: torch.dtype | None = None) -> tuple[Tensor, Tensor]:
    return z.new_empty(z.shape[:2], dtype=dtype), z.new_empty(z.shape[:2], dtype=dtype)


def _arrays(*tensors: Tensor) -> list[Any]:
    """Return arrays that share the tensors' memory, images as (b, h, w, c), bfloat16 as its bits."""
    shown = [(t.permute(0, 2, 3, 1) if t.ndim == 4 else t).detach() for t in tensors]
    return [(t.view(torch.uint16) if t.dtype == torch.bfloat16 else t).numpy() for t in shown]


@dataclass(frozen=True)
class _Loops:
    forward: Callable[..., None]
    forward_of_halves: Callable[..., None]
    backward: Callable[..., None]
    backward_of_halves: Callable[..., None]
    forward_along: Callable[..., None]
    backward_along: Callable[..., None]


def _loops() -> _Loops:
    from winnow.models.engine import plane_loops as loops
    from winnow.select.engine.compiled import use

    use(torch.get_num_threads())
    return _Loops(
        loops.forward,
        loops.forward_of_halves,
        loops.backward,
        loops.backward_of_halves,
        loops.forward_along,
        loops.backward_along,
    )
