"""Deterministic weights that need no download: every tensor is a function of its name and shape alone.

Used by the parity tests, the benchmarks and the demonstration. The geometry that such a network predicts means
nothing, but every number can be compared with other implementations.

The rule, for a tensor called ``name`` with ``shape``:

* a leading ``model.`` is dropped, and the aliases of the shared auxiliary LayerNorm take their level-0 name;
* noise: the raw 64-bit stream of numpy's PCG64 seeded with the CRC-32 of the name, split into little-endian 32-bit
  words, of which the upper 24 bits give x uniform in [-1, 1);
* value = mean + sqrt(3) * std * x, with mean and std from the table below (std of matrices scales with fan-in).
"""

from __future__ import annotations

import math
import re
import zlib
from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

_SHARED_NORM = re.compile(r"output_conv2_aux\.[123]\.2\.")

# (pattern, mean, std, fan): fan says what std is divided by: nothing, the square root of the inputs, or of shape[0].
_TABLE: tuple[tuple[str, float, float, str], ...] = (
    (r"(^|\.)(cls_token|camera_token)$", 0.0, 0.5, "none"),
    (r"(^|\.)pos_embed$", 0.0, 0.3, "none"),
    (r"\.gamma$", 0.5, 0.3 / math.sqrt(3.0), "none"),
    (r"cam_dec\.fc_t\.weight$", 0.0, 0.3, "in"),
    (r"cam_dec\.fc_qvec\.weight$", 0.0, 0.3, "in"),
    (r"cam_dec\.fc_qvec\.bias$", 0.0, 0.5, "none"),
    (r"cam_dec\.fc_fov\.0\.weight$", 0.0, 0.1, "in"),
    (r"cam_dec\.fc_fov\.0\.bias$", 1.0, 0.05, "none"),
    (r"resConfUnit\d\.conv2\.weight$", 0.0, 0.5, "in"),
    (r"resize_layers\.[01]\.weight$", 0.0, 1.0, "first"),
    (r"gs_head\.scratch\.output_conv2\.2\.weight$", 0.0, 0.25, "in"),
    (r"scratch\.output_conv2\.2\.weight$", 0.0, 0.8, "in"),
    (r"scratch\.sky_output_conv2\.2\.weight$", 0.0, 1.0, "in"),
    (r"scratch\.sky_output_conv2\.2\.bias$", -1.2, 0.05, "none"),
    (r"output_conv2_aux\.\d\.5\.weight$", 0.0, 0.7, "in"),
)
_RULES = [(re.compile(pattern), mean, std, fan) for pattern, mean, std, fan in _TABLE]


def seeded_tensor(name: str, shape: Sequence[int]) -> npt.NDArray[np.float32]:
    """The float32 array of ``shape`` that belongs to ``name``."""
    name = _SHARED_NORM.sub("output_conv2_aux.0.2.", name.removeprefix("model."))
    mean, std = _mean_and_std(name, tuple(shape))
    count = math.prod(shape)
    words = np.random.PCG64(zlib.crc32(name.encode())).random_raw((count + 1) // 2).astype("<u8").view("<u4")[:count]
    noise = (words >> np.uint32(8)).astype(np.float32) * np.float32(2.0**-23) - np.float32(1.0)
    values: npt.NDArray[np.float32] = noise * np.float32(math.sqrt(3.0) * std)
    if mean:
        values += np.float32(mean)
    return values.reshape(tuple(shape))


def seeded_state_dict(shapes: Mapping[str, Sequence[int]]) -> dict[str, npt.NDArray[np.float32]]:
    """One array per name; see the module's docstring for the rule."""
    return {name: seeded_tensor(name, shape) for name, shape in shapes.items()}


def _mean_and_std(name: str, shape: tuple[int, ...]) -> tuple[float, float]:
    fan_in = math.prod(shape[1:])
    for pattern, mean, std, fan in _RULES:
        if pattern.search(name):
            divisor = {"none": 1, "in": fan_in, "first": shape[0]}[fan]
            return mean, std / math.sqrt(divisor)
    if len(shape) >= 2:
        return 0.0, 1.0 / math.sqrt(fan_in)
    return (1.0, 0.1) if name.endswith("weight") else (0.0, 0.05)
