"""Training by several processes under torchrun, with the result of one.

Every process draws the same global batch. Each passes its own share of the rows through the model, and
the outputs of all are gathered: every process computes the loss of the whole batch, whatever that loss is.
The gradient of an output returns to the process that it came from, DistributedDataParallel adds up the
gradients of the weights, and batch norm takes its statistics over the whole batch. So all processes hold the
same weights, losses and records, and these do not depend on the number of processes but for rounding.

Process 0 builds the artefact. Without torchrun everything here is as if it were not there.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, distributed, nn
from torch.distributed.rendezvous import rendezvous
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.dropout import _DropoutNd
from torch.nn.parallel import DistributedDataParallel

from winnow.errors import UserError
from winnow.plan.specs import TrainSpec
from winnow.stage import Job
from winnow.store import Artefact, write_atomic
from winnow.train.engine.device import pick_device

if TYPE_CHECKING:
    from torch._C._distributed_c10d import Store

SILENCE = timedelta(minutes=30)
"""How long a process waits for the others before it gives up: process 0 scores test splits alone."""

GRACE_S = 10.0
"""How long a failed process waits: its failure is mostly another's, and torchrun ends it in the meantime."""


def processes() -> int:
    """Return the number of processes that train together."""
    return distributed.get_world_size() if distributed.is_initialized() else 1


def is_first() -> bool:
    """Whether this process is the one that scores, writes and reports."""
    return not distributed.is_initialized() or distributed.get_rank() == 0


@contextlib.contextmanager
def joined(job: Job[TrainSpec]) -> Iterator[tuple[Artefact, torch.device] | None]:
    """Build the job's artefact on a device, as one of the processes of torchrun or alone.

    Yields None where a concurrent run has just built the same artefact. Processes other than the first
    are given folders that are thrown away. A failure of any process ends all, with one message.
    """
    if not distributed.is_torchelastic_launched():
        with job.building() as artefact:
            yield None if artefact is None else (artefact, pick_device(job.device))
        return
    store, rank, size = next(rendezvous("env://"))
    with _one_message(store, rank):
        device = _own_device(job.device)
        backend = "nccl" if device.type == "cuda" else "gloo"
        distributed.init_process_group(backend, store=store, rank=rank, world_size=size, timeout=SILENCE)
        with _building(job, store) as artefact:
            yield None if artefact is None else (artefact, device)
        distributed.destroy_process_group()


@contextlib.contextmanager
def _building(job: Job[TrainSpec], store: Store) -> Iterator[Artefact | None]:
    key = "winnow/missing"
    if is_first():
        with job.building() as artefact:
            store.set(key, "yes" if artefact else "no")
            yield artefact
        return
    store.wait([key], timedelta(days=365))  # the first may be waiting for a concurrent run
    if store.get(key) == b"no":
        yield None
        return
    with tempfile.TemporaryDirectory() as folder:
        yield Artefact(Path(folder), Path(folder))


@contextlib.contextmanager
def _one_message(store: Store, rank: int) -> Iterator[None]:
    """Let one process alone report a failure: the first if it is the user's mistake, which all make alike."""
    try:
        yield
    except Exception as error:
        if rank or not isinstance(error, UserError):
            time.sleep(GRACE_S)
        if store.add("winnow/failures", 1) > 1:
            time.sleep(10 * GRACE_S)
        raise


def _own_device(name: str) -> torch.device:
    """Return the device of this process: one GPU of those that `launch` has claimed, or the processor."""
    if name == "cpu" or not torch.cuda.device_count():
        return torch.device("cpu")
    torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    return torch.device("cuda")


def total(value: float, device: torch.device) -> float:
    """Return the sum of a number over all processes."""
    if processes() == 1:
        return value
    values = torch.tensor(value, dtype=torch.float64, device=device)
    distributed.all_reduce(values)
    return values.item()


def share_file(path: Path, device: torch.device) -> None:
    """Write the first process's file, if it has one, under this process's own path."""
    if processes() == 1:
        return
    content = path.read_bytes() if is_first() and path.is_file() else b""
    size = torch.tensor(len(content), device=device)
    distributed.broadcast(size, 0)
    values = torch.empty(int(size), dtype=torch.uint8, device=device)
    if content:
        values.copy_(torch.frombuffer(bytearray(content), dtype=torch.uint8))
    distributed.broadcast(values, 0)
    if not is_first() and len(values):
        write_atomic(path, values.cpu().numpy().tobytes())


def spread(model: nn.Module) -> Callable[..., Tensor]:
    """Return the model as a function of global batches (b, ...) that computes this process's share alone.

    It returns the outputs of all b rows. A gradient with respect to them must be the same in every process.
    The model's batch norms are replaced in place: make the optimiser afterwards.
    """
    if processes() == 1:
        return model
    _refuse_dropout(model)
    _share_statistics(model)
    shared = DistributedDataParallel(model)

    def forward(*inputs: Tensor) -> Tensor:
        rank, size, rows = distributed.get_rank(), distributed.get_world_size(), len(inputs[0])
        own = slice(rows * rank // size, rows * (rank + 1) // size)
        outputs: Tensor = _Gather.apply(shared(*(values[own] for values in inputs)).float(), own, rows)
        return outputs

    return forward


def _refuse_dropout(model: nn.Module) -> None:
    if any(isinstance(module, _DropoutNd) and module.p for module in model.modules()):
        raise UserError(
            "--processes: the model has dropout, whose draws would depend on the number of processes; use one"
        )


def _share_statistics(module: nn.Module) -> None:
    for name, child in module.named_children():
        if isinstance(child, _BatchNorm):
            device = next(child.buffers()).device
            kind = GPUBatchNorm if device.type == "cuda" else GlobalBatchNorm
            norm = kind(child.num_features, child.eps, child.momentum, child.affine, device=device)
            norm.load_state_dict(child.state_dict())
            setattr(module, name, norm)
        else:
            _share_statistics(child)


class GPUBatchNorm(nn.SyncBatchNorm):
    """Batch norm over the rows of all processes, some of which may have none."""

    def forward(self, inputs: Tensor) -> Tensor:
        # torch sends the statistics of no rows in the type of the inputs, and all others in float32
        return super().forward(inputs if len(inputs) else inputs.float())


class GlobalBatchNorm(_BatchNorm):
    """The same on processors, where torch has none."""

    def _check_input_dim(self, inputs: Tensor) -> None:
        """Accept all that the replaced module accepted."""

    def forward(self, inputs: Tensor) -> Tensor:
        """Normalise (b, c, ...) over all but the second dimension."""
        if not self.training:
            return super().forward(inputs)
        over = [0, *range(2, inputs.dim())]
        shape = [1, -1] + [1] * (inputs.dim() - 2)
        values = inputs.float()
        count = values.new_tensor([values[:, 0].numel()])
        sums = _sum(torch.cat([values.sum(over), count]))
        mean, count = sums[:-1] / sums[-1], sums[-1]
        centred = values - mean.view(shape)
        variance = _sum(centred.square().sum(over)) / count
        if self.track_running_stats:
            self._track(mean.detach(), (variance * count / (count - 1)).detach())
        scale = (variance + self.eps).rsqrt()
        if not self.affine:
            return (centred * scale.view(shape)).to(inputs.dtype)
        outputs = centred * (scale * self.weight).view(shape) + self.bias.view(shape)
        return outputs.to(inputs.dtype)

    def _track(self, mean: Tensor, variance: Tensor) -> None:
        running = dict(self.named_buffers())
        running["num_batches_tracked"].add_(1)
        running["running_mean"].lerp_(mean, self.momentum)  # type: ignore[arg-type]
        running["running_var"].lerp_(variance, self.momentum)  # type: ignore[arg-type]


class _Gather(torch.autograd.Function):
    """Rows of all processes from the rows of each."""

    @staticmethod
    def forward(context: Any, rows: Tensor, own: slice, count: int) -> Tensor:
        context.own = own
        gathered = rows.new_zeros(count, *rows.shape[1:])
        gathered[own] = rows
        distributed.all_reduce(gathered)
        return gathered

    @staticmethod
    def backward(context: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        # DistributedDataParallel takes the mean over processes of what is to be summed.
        return gradient[context.own] * processes(), None, None


class _Sum(torch.autograd.Function):
    """The sum over all processes, known to all of them."""

    @staticmethod
    def forward(context: Any, values: Tensor) -> Tensor:
        return _summed(values)

    @staticmethod
    def backward(context: Any, gradient: Tensor) -> Tensor:
        return _summed(gradient)


def _sum(values: Tensor) -> Tensor:
    summed: Tensor = _Sum.apply(values)
    return summed


def _summed(values: Tensor) -> Tensor:
    values = values.clone(memory_format=torch.contiguous_format)
    distributed.all_reduce(values)
    return values
