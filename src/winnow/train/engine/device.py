"""Devices, threads and precision."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

import torch

from winnow.errors import UserError
from winnow.train.engine.cards import claim_cards


def pick_device(name: str) -> torch.device:
    """Return the device for `auto`, `cpu`, `cuda` or `cuda:N`; auto takes a GPU when there is one.

    A GPU is claimed first: no two jobs of ours on one machine share one.
    """
    if name == "auto":
        # is_available() would start CUDA, which then sees all cards whatever is claimed
        name = "cuda" if torch.cuda.device_count() else "cpu"
    device, present = torch.device(name), torch.cuda.device_count()
    if device.type == "cpu":
        return device
    if (device.index or 0) >= present:
        raise UserError(f"device: '{name}' is not there ({present} GPUs); accepted: auto, cpu")
    claim_cards(present, wanted=device.index)
    return torch.device("cuda")


def autocast_dtype(precision: str, device: torch.device) -> torch.dtype | None:
    """Return the autocast type for `auto`, `bf16` or `fp32`; None means plain float32.

    auto is bfloat16 where the hardware computes in it: recent GPUs, processors with AVX512-BF16 or AMX.
    """
    if precision == "fp32":
        return None
    return torch.bfloat16 if precision == "bf16" or _has_bf16(device) else None


def _has_bf16(device: torch.device) -> bool:
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported())
    try:
        flags = Path("/proc/cpuinfo").read_text()
    except OSError:
        return False
    return "avx512_bf16" in flags or "amx_bf16" in flags


@contextlib.contextmanager
def algorithms(deterministic: bool) -> Iterator[None]:
    """Use algorithms that give the same bits every time or, where not asked for, the fastest ones."""
    before = torch.are_deterministic_algorithms_enabled(), torch.backends.cudnn.benchmark
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(deterministic)
    torch.backends.cudnn.benchmark = not deterministic
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before[0])
        torch.backends.cudnn.benchmark = before[1]
