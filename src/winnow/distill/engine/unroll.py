"""Trajectory matching: train a student on synthetic images, and differentiate where it arrives.

    w_0 = expert's weights after some epoch,  w_{n+1} = w_n - a * gradient(w_n; x_n, y_n),  n = 0 ... N - 1
    L = |w_N - w_target|^2 / |w_0 - w_target|^2

Source: Cazenavette et al. 2022, arXiv 2203.11932 (MTT). The derivatives by images x_n, targets y_n and step
size a are exact. Plain automatic differentiation keeps the graph of all N steps. `recursion` keeps the N
weights and goes back through them: with v_N = dL / dw_N and s_n = v_{n+1} . gradient(w_n; x_n, y_n),

    dL/dx_n = -a ds_n/dx_n,   dL/dy_n = -a ds_n/dy_n,   dL/da = -sum_n s_n,   v_n = v_{n+1} - a ds_n/dw_n

`frozen` leaves out the last of these (v_n = v_N): what TESLA (Cui et al. 2023, arXiv 2211.10586) computes.
It is the derivative with each gradient's weights held still, and exact for N = 1 only.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import torch
from torch import Tensor
from torch.autograd.function import FunctionCtx

from winnow.distill.engine.students import AutogradStudent, Student

Mode = Literal["recursion", "graph", "frozen"]


def matching_loss(
    student: Student,
    start: Tensor,
    target: Tensor,
    images: Sequence[Tensor],
    targets: Sequence[Tensor],
    step_size: Tensor,
    mode: Mode = "recursion",
) -> Tensor:
    """Return L, differentiable by images, targets and step size.

    start, target: (p,) weights. images, targets: N batches (b, c, h, w) and (b, d). step_size: one number.
    mode: `graph` is plain automatic differentiation, which takes an `AutogradStudent`.
    """
    if mode == "graph":
        return _through_graph(student, start, target, images, targets, step_size)
    found: Tensor = _Recursion.apply(student, mode == "frozen", start, target, step_size, *images, *targets)
    return found


class _Recursion(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        student: Student,
        frozen: bool,
        start: Tensor,
        target: Tensor,
        step_size: Tensor,
        *data: Tensor,
    ) -> Tensor:
        steps = len(data) // 2
        passed = [start]
        for images, targets in zip(data[:steps], data[steps:], strict=True):
            passed.append(passed[-1] - step_size * student.gradient(passed[-1], images, targets))
        ctx.student, ctx.frozen = student, frozen
        ctx.save_for_backward(target, step_size, *data, *passed)
        return (passed[-1] - target).square().sum() / (start - target).square().sum()

    @staticmethod
    def backward(ctx: FunctionCtx, *grads: Tensor) -> Any:
        target, step_size, *rest = ctx.saved_tensors  # type: ignore[attr-defined]
        steps = (len(rest) - 1) // 3
        images, targets, passed = rest[:steps], rest[steps : 2 * steps], rest[2 * steps :]
        v = 2 * grads[0] * (passed[-1] - target) / (passed[0] - target).square().sum()
        by_images: list[Tensor | None] = [None] * steps
        by_targets: list[Tensor | None] = [None] * steps
        by_step = torch.zeros_like(step_size)
        for n in reversed(range(steps)):
            mixed = ctx.student.mixed(passed[n], images[n], targets[n], v)  # type: ignore[attr-defined]
            by_images[n], by_targets[n] = -step_size * mixed.images, -step_size * mixed.targets
            by_step -= mixed.along
            if not ctx.frozen:  # type: ignore[attr-defined]
                v = v - step_size * mixed.weights
        return None, None, None, None, by_step, *by_images, *by_targets


def _through_graph(
    student: Student,
    start: Tensor,
    target: Tensor,
    images: Sequence[Tensor],
    targets: Sequence[Tensor],
    step_size: Tensor,
) -> Tensor:
    if not isinstance(student, AutogradStudent):
        raise TypeError(f"{type(student).__name__} keeps no graph; use an AutogradStudent")
    weights = start.detach().requires_grad_()
    for shown, wanted in zip(images, targets, strict=True):
        loss = student.loss(weights, shown, wanted)
        (gradient,) = torch.autograd.grad(loss, weights, create_graph=True)
        weights = weights - step_size * gradient
    return (weights - target).square().sum() / (start - target).square().sum()
