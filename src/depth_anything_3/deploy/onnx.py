"""ONNX graphs of the networks, each with a description for whoever runs it and a comparison with torch.

A graph holds what :meth:`~depth_anything_3.model.da3.DepthAnything3Net.encode` computes, and the cameras that follow
from it. What depends on values afterwards (sky filled, metres from a focal length) is described in the side-car.

Letters: N views, H W pixels.
"""

from __future__ import annotations

import json
import logging
import tempfile
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from depth_anything_3._files import atomic_path
from depth_anything_3._optional import require
from depth_anything_3.api import DepthAnything3
from depth_anything_3.errors import CapabilityError, InputError
from depth_anything_3.geometry.encoding import decode_cameras
from depth_anything_3.infer.preprocess import IMAGE_MEAN, IMAGE_STD
from depth_anything_3.model.da3 import DepthAnything3Net
from depth_anything_3.model.readout import CANONICAL_FOCAL, SKY_THRESHOLD
from depth_anything_3.types.options import PATCH_SIZE, OnnxOptions

OPSET = 18
LARGEST_DIFFERENCE = 1e-4
"""Between torch and the graph in single precision, relative to the largest value of an output."""

_LARGE = 1_800_000_000  # bytes of weights beyond which they go to a file of their own: ONNX ends at 2 GB
_MEANING = {
    "depth": "z-depth, (1, N, H, W); in the unit of the translations where there are cameras",
    "depth_conf": "confidence of the depth, from 1 on, (1, N, H, W)",
    "extrinsics": "world-to-camera, OpenCV axes, (1, N, 3, 4)",
    "intrinsics": "camera matrices in pixels of the network image, (1, N, 3, 3)",
    "ray": "direction and origin in the world, (1, N, 8H/14, 8W/14, 6)",
    "ray_conf": "confidence of the rays, from 1 on, (1, N, 8H/14, 8W/14)",
    "sky": f"score of the sky, (1, N, H, W); {SKY_THRESHOLD} and more is sky",
}


@dataclass(frozen=True, kw_only=True)
class Difference:
    """How far an output of a graph is from torch's.

    Attributes:
        size: height and width of the pictures.
        largest: absolute difference, relative to the largest value of the output.
        median: relative difference of the single values.
    """

    size: tuple[int, int]
    largest: float
    median: float


@dataclass(frozen=True, kw_only=True)
class OnnxExport:
    """What was written.

    Attributes:
        graph, side_car: files.
        quantised: graph with 8-bit weights in its matrix products, if that was asked for.
        parity: per output, for every size that was tried.
        parity_int8: the same of the quantised graph.
    """

    graph: Path
    side_car: Path
    quantised: Path | None
    parity: Mapping[str, tuple[Difference, ...]]
    parity_int8: Mapping[str, tuple[Difference, ...]]


class _Graph(nn.Module):
    """Pictures to a tuple of tensors, in the order of ``names``."""

    def __init__(self, net: DepthAnything3Net, rays: bool) -> None:
        super().__init__()
        self.net, self.rays = net, rays
        can = net.abilities
        outputs = {
            "depth": True,
            "depth_conf": "conf" in can,
            "extrinsics": "cameras" in can,
            "intrinsics": "cameras" in can,
            "ray": rays,
            "ray_conf": rays,
            "sky": "sky" in can,
        }
        self.names = tuple(name for name, there in outputs.items() if there)

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        encoded = self.net.encode(images, rays=self.rays)
        found: dict[str, Any] = encoded._asdict()
        if encoded.pose_encoding is not None:
            size = (images.shape[-2], images.shape[-1])
            found["extrinsics"], found["intrinsics"] = decode_cameras(encoded.pose_encoding, size)
        return tuple(found[name] for name in self.names)


def export_onnx(model: DepthAnything3, path: str | Path, options: OnnxOptions | None = None) -> OnnxExport:
    """Write a network as an ONNX graph, with a JSON file of the same name that says how to use it.

    The graph is run by onnxruntime and compared with torch; what came out is in the side-car.

    Args:
        model: of any kind but the nested one, which is two networks.
        path: ends in ``.onnx``. Weights of very large networks go to a file beside it.
        options: None for the defaults.

    Raises:
        InputError: another suffix.
        CapabilityError: a nested model, or rays of a model that has none.
        MissingExtraError: onnx, onnxscript or onnxruntime is not installed.
    """
    options, target = options or OnnxOptions(), Path(path)
    if target.suffix != ".onnx":
        raise InputError("path", str(path), "a file that ends in .onnx")
    net = model.model
    if not isinstance(net, DepthAnything3Net):
        raise CapabilityError("model", model.model_name, "one network: export the two of a nested model apart")
    if options.rays and "rays" not in net.abilities:
        raise CapabilityError("rays", "True", f"False: {model.model_name} predicts no rays")
    runtime = require("onnxruntime", extra="onnx")
    for module in ("onnx", "onnxscript"):
        require(module, extra="onnx")
    target.parent.mkdir(parents=True, exist_ok=True)
    graph = _Graph(net.float().eval(), options.rays)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=f".{target.stem}.") as folder, torch.no_grad():
        written = [_written(graph, options, Path(folder) / target.name)]
        if options.int8:
            written.append(_quantised(written[0], Path(folder) / f"{target.stem}.int8.onnx", runtime))
        parity = [_compared(graph, file, options, runtime) for file in written]
        for file in sorted(Path(folder).iterdir()):
            file.replace(target.parent / file.name)
    report = OnnxExport(
        graph=target,
        side_car=target.with_suffix(".json"),
        quantised=target.with_name(f"{target.stem}.int8.onnx") if options.int8 else None,
        parity=parity[0],
        parity_int8=parity[1] if options.int8 else {},
    )
    _warn(report)
    with atomic_path(report.side_car) as temporary:
        temporary.write_text(json.dumps(_side_car(model, graph.names, options, report), indent=2) + "\n")
    return report


def _written(graph: _Graph, options: OnnxOptions, file: Path) -> Path:
    """Trace the network and save it."""
    pictures = _pictures(options.views, (options.height, options.width))
    dynamic: Any = None
    if options.dynamic:
        patches = [torch.export.Dim(name, min=2, max=512) for name in ("height_patches", "width_patches")]
        dynamic = ({3: PATCH_SIZE * patches[0], 4: PATCH_SIZE * patches[1]},)
    with _quiet():
        program = torch.onnx.export(
            graph, (pictures,), dynamo=True, optimize=not options.dynamic, opset_version=OPSET, verbose=False,
            input_names=["images"], output_names=list(graph.names), dynamic_shapes=dynamic,
        )  # fmt: skip
    assert program is not None
    weights = sum(p.numel() * p.element_size() for p in graph.parameters())
    program.save(file, external_data=weights > _LARGE)
    return file


@contextmanager
def _quiet() -> Iterator[None]:
    """Without remarks on packages that this one does without, and on preparations that change nothing."""
    loggers = [logging.root, logging.getLogger("torch.onnx._internal.exporter._registration")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def _quantised(graph: Path, file: Path, runtime: ModuleType) -> Path:
    """Matrix products with 8-bit weights, per channel, and inputs quantised as they come."""
    quantization = require("onnxruntime.quantization", extra="onnx")
    with tempfile.TemporaryDirectory() as folder, _quiet():
        settings = runtime.SessionOptions()  # weights are transposed once and for all, so that they are constants
        settings.graph_optimization_level = runtime.GraphOptimizationLevel.ORT_ENABLE_BASIC
        settings.optimized_model_filepath = str(Path(folder) / "folded.onnx")
        runtime.InferenceSession(str(graph), settings, providers=["CPUExecutionProvider"])
        quantization.quantize_dynamic(
            settings.optimized_model_filepath, file, per_channel=True, weight_type=quantization.QuantType.QInt8,
            nodes_to_quantize=_linear_layers(settings.optimized_model_filepath),
        )  # fmt: skip
    return file


def _linear_layers(file: str) -> list[str]:
    """Names of the products with a constant matrix on the right."""
    graph = require("onnx", extra="onnx").load(file).graph
    matrices = {weights.name for weights in graph.initializer if len(weights.dims) == 2}
    return [n.name for n in graph.node if n.op_type in ("MatMul", "Gemm") and n.input[1] in matrices]


def _pictures(views: int, size: tuple[int, int]) -> Tensor:
    """Something like photographs, normalised: smooth noise, different in each view."""
    generator = torch.Generator().manual_seed(0)
    coarse = torch.randn(views, 3, 8, 8, generator=generator)
    smooth: Tensor = nn.functional.interpolate(coarse, size, mode="bicubic")
    return (smooth + 0.2 * torch.randn(views, 3, *size, generator=generator))[None]


def _sizes(options: OnnxOptions) -> list[tuple[int, int]]:
    """The size itself; of a dynamic graph also one of another shape, and the one its positions were trained for."""
    own = (options.height, options.width)
    if not options.dynamic:
        return [own]
    return [own, (own[1] // 28 * PATCH_SIZE + PATCH_SIZE, own[0] + PATCH_SIZE), (518, 518)]


def _compared(
    graph: _Graph, file: Path, options: OnnxOptions, runtime: ModuleType
) -> dict[str, tuple[Difference, ...]]:
    session = runtime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
    found: dict[str, list[Difference]] = {name: [] for name in graph.names}
    for size in _sizes(options):
        pictures = _pictures(options.views, size)
        outputs = session.run(list(graph.names), {"images": pictures.numpy()})
        for name, ours, expected in zip(graph.names, outputs, graph(pictures), strict=True):
            found[name].append(_difference(size, ours, expected.numpy()))
    return {name: tuple(each) for name, each in found.items()}


def _difference(size: tuple[int, int], found: npt.NDArray[Any], expected: npt.NDArray[Any]) -> Difference:
    away = np.abs(found.astype(np.float64) - expected)
    own = away / np.maximum(np.abs(expected), 1e-12)
    return Difference(size=size, largest=float(away.max() / np.abs(expected).max()), median=float(np.median(own)))


def _warn(report: OnnxExport) -> None:
    worst = max(d.largest for each in report.parity.values() for d in each)
    if worst > LARGEST_DIFFERENCE:
        warnings.warn(
            f"{report.graph.name} differs from torch by up to {worst:.1e} of an output's largest value; see parity in "
            f"{report.side_car.name}",
            stacklevel=3,
        )


def _side_car(
    model: DepthAnything3, names: tuple[str, ...], options: OnnxOptions, report: OnnxExport
) -> dict[str, Any]:
    size = ["14 h", "14 w"] if options.dynamic else [options.height, options.width]
    metric = "sky" in names and model.model_name.startswith("da3metric")
    after = [f"where sky >= {SKY_THRESHOLD}, depth is meaningless"] if "sky" in names else []
    if metric:
        after.append(
            f"metres = depth * (fx + fy) / 2 / {CANONICAL_FOCAL:g}, focal lengths in pixels of the network image"
        )
    return {
        "format": "depth-anything-3 onnx 1",
        "model": model.model_name,
        "weights": model.origin,
        "options": asdict(options),
        "opset": OPSET,
        "input": {
            "name": "images",
            "shape": [1, options.views, 3, *size],
            "type": "float32",
            "preprocessing": [
                "upright RGB",
                f"resized (bicubic up, area down) so that the longer side is {model.process_res}, then both sides to "
                f"the nearest multiple of {PATCH_SIZE}",
                "divided by 255",
                f"minus {IMAGE_MEAN.tolist()}, divided by {IMAGE_STD.tolist()}, per channel",
            ],
        },
        "outputs": {name: _MEANING[name] for name in names},
        "postprocessing": after,
        "parity": {name: [asdict(d) for d in each] for name, each in report.parity.items()},
        "parity_int8": {name: [asdict(d) for d in each] for name, each in report.parity_int8.items()},
    }
