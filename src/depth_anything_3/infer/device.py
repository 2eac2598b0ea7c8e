"""Which device runs the network, and in which precision: what each device does natively, unless the caller says."""

from __future__ import annotations

import warnings

import torch

from depth_anything_3.errors import InputError

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}

DeviceLike = str | torch.device | int | None
DtypeLike = str | torch.dtype | None


def choose_device(device: DeviceLike = None) -> torch.device:
    """The device that was asked for; by default (None or ``"auto"``) CUDA, else MPS, else the CPU.

    A device that this machine or this build of torch lacks gives a warning and the CPU, so that scripts written for a
    GPU run everywhere.

    Raises:
        InputError: not the name of a device.
    """
    if device is None or device == "auto":
        return torch.device(next((name for name in ("cuda", "mps") if _is_available(torch.device(name))), "cpu"))
    try:
        wanted = torch.device(device)
    except (RuntimeError, TypeError) as error:
        raise InputError(
            "device", repr(device), "the name of a device", ("auto", "cpu", "cuda", "cuda:1", "mps")
        ) from (error)
    if wanted.type in ("cuda", "mps") and not _is_available(wanted):
        warnings.warn(f"device: {device} is not available here; using the CPU", stacklevel=3)
        return torch.device("cpu")
    return wanted


def _is_available(device: torch.device) -> bool:
    if device.type == "cuda":
        return torch.cuda.is_available() and (device.index or 0) < torch.cuda.device_count()
    return torch.backends.mps.is_available()


def choose_dtype(device: torch.device, dtype: DtypeLike = None) -> torch.dtype:
    """The precision of the transformer; heads and cameras always run in float32.

    By default float32 on the CPU and on MPS, and on CUDA bfloat16 where the card computes in it, else float16.

    Raises:
        InputError: not one of float32, bfloat16, float16.
    """
    if dtype is not None and dtype != "auto":
        wanted = DTYPES.get(dtype) if isinstance(dtype, str) else dtype
        if wanted is None or wanted not in DTYPES.values():
            raise InputError("dtype", repr(dtype), "a precision", ("auto", *DTYPES))
        return wanted
    if device.type == "cuda":
        native = torch.cuda.get_device_capability(device) >= (8, 0)
        return torch.bfloat16 if native else torch.float16
    return torch.float32
