"""Operations, bytes and saved activations of a training step, without computing it."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.autograd.graph import saved_tensors_hooks
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry

from winnow.rehearse.measures import Counts


class Tally(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts operations, those of products in floating point, and the bytes that all others read and write.

    Views are free. Unlike the library's own counter it sees gradients of gradients too.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.operations, self.traffic, self.flops = 0, 0, 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        if not any(r.alias_info and not r.alias_info.is_write for r in func._schema.returns):
            self.operations += 1
            if func._overloadpacket in flop_registry:
                self.flops += flop_registry[func._overloadpacket](*args, **(kwargs or {}), out_val=out)
            else:
                tensors = (value for value in tree_leaves((args, kwargs, out)) if isinstance(value, Tensor))
                self.traffic += sum(value.numel() * value.element_size() for value in tensors)
        return out


def _fake(model: nn.Module, mode: FakeTensorMode) -> nn.Module:
    """Return a twin of the model whose parameters and buffers are fake."""
    twin = copy.deepcopy(model)
    for module in twin.modules():
        for name, value in module._parameters.items():
            if value is not None:
                module._parameters[name] = nn.Parameter(mode.from_tensor(value.detach()))
        for name, buffer in module._buffers.items():
            if buffer is not None:
                module._buffers[name] = mode.from_tensor(buffer)
    return twin


Shapes = Sequence[tuple[tuple[int, ...], torch.dtype]]
"""Shape and type of each of a model's inputs."""


def empty(shapes: Shapes, device: torch.device) -> list[Tensor]:
    """Return inputs without values; images are channels last."""
    made = [torch.empty(shape, dtype=dtype, device=device) for shape, dtype in shapes]
    return [
        value.contiguous(memory_format=torch.channels_last) if value.ndim == 4 else value for value in made
    ]


def count_forward(model: nn.Module, shape: tuple[int, ...], device: torch.device) -> Counts:
    """Return the work of one forward pass of float32 inputs of the given shape, in evaluation mode."""
    mode = FakeTensorMode()
    fake = _fake(model, mode).eval()
    with mode, torch.no_grad():
        inputs = torch.empty(shape, device=device)
        with Tally() as tally:
            fake(inputs)
    return Counts(tally.flops, tally.traffic, tally.operations)


def count_pass(
    model: nn.Module, shapes: Shapes, device: torch.device, dtype: torch.dtype | None
) -> tuple[Counts, float]:
    """Return the work of a forward and backward pass, and the bytes that it saves for the backward one.

    Fake tensors have shapes and types but no values: nothing is computed and nothing of the size is held.
    shapes: of the inputs. dtype: of the autocast, or None.
    """
    saved: dict[int, int] = {}
    mode = FakeTensorMode()
    fake = _fake(model, mode).train()
    with mode:
        own = {parameter.untyped_storage()._cdata for parameter in fake.parameters()}
        inputs = empty(shapes, device)

        def keep(value: Tensor) -> Tensor:
            storage = value.untyped_storage()
            if storage._cdata not in own:
                saved[storage._cdata] = storage.nbytes()
            return value

        with (
            Tally() as tally,
            saved_tensors_hooks(keep, lambda value: value),
        ):
            with torch.autocast(device.type, dtype, enabled=dtype is not None):
                outputs = fake(*inputs)
            outputs.float().square().mean().backward()
    activations = sum(saved.values()) + 2 * max(saved.values(), default=0)
    return Counts(tally.flops, tally.traffic, tally.operations), float(activations)


def bytes_of(tensors: Any) -> float:
    """Return the bytes of all tensors in a nested structure."""
    return float(sum(v.numel() * v.element_size() for v in tree_leaves(tensors) if isinstance(v, Tensor)))
