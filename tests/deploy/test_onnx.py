"""ONNX graphs, run by onnxruntime on their own."""

from __future__ import annotations

import json
from pathlib import Path

import jaxtyping
import numpy as np
import pytest
import torch

from depth_anything_3.api import DepthAnything3
from depth_anything_3.deploy.onnx import LARGEST_DIFFERENCE, OnnxExport, export_onnx
from depth_anything_3.errors import CapabilityError, InputError
from depth_anything_3.types.options import OnnxOptions

onnx = pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")
pytest.importorskip("onnxscript")


@pytest.fixture(scope="module")
def model() -> DepthAnything3:
    return DepthAnything3.from_pretrained("bundled", device="cpu", dtype="float32")


@pytest.fixture(scope="module")
def dynamic(model: DepthAnything3, tmp_path_factory: pytest.TempPathFactory) -> OnnxExport:
    options = OnnxOptions(views=3, height=56, width=84, dynamic=True, rays=True, int8=True)
    jaxtyping.config.update("jaxtyping_disable", True)  # the sizes of a dynamic graph are symbols, not whole numbers
    try:
        return export_onnx(model, tmp_path_factory.mktemp("onnx") / "tiny.onnx", options)
    finally:
        jaxtyping.config.update("jaxtyping_disable", False)


def test_a_dynamic_graph_of_three_views_says_what_torch_says_at_any_size(
    model: DepthAnything3, dynamic: OnnxExport
) -> None:
    """Also with another reference view than the first."""
    onnx.checker.check_model(str(dynamic.graph))
    session = onnxruntime.InferenceSession(str(dynamic.graph))
    pictures = torch.randn(1, 3, 3, 70, 112, generator=torch.Generator().manual_seed(4))
    found = dict(
        zip([o.name for o in session.get_outputs()], session.run(None, {"images": pictures.numpy()}), strict=True)
    )
    expected = model.forward(pictures)
    for name in ("depth", "depth_conf", "extrinsics", "intrinsics"):
        ours = getattr(expected, name).numpy()
        assert np.abs(found[name] - ours).max() < LARGEST_DIFFERENCE * np.abs(ours).max(), name
    assert {d.size for d in dynamic.parity["depth"]} == {(56, 84), (56, 70), (518, 518)}
    assert max(d.largest for each in dynamic.parity.values() for d in each) < LARGEST_DIFFERENCE


def test_the_quantised_graph_is_smaller_and_its_error_is_measured(dynamic: OnnxExport) -> None:
    assert dynamic.quantised is not None
    assert dynamic.quantised.stat().st_size < 0.5 * dynamic.graph.stat().st_size
    onnxruntime.InferenceSession(str(dynamic.quantised))
    assert 1e-6 < dynamic.parity_int8["depth"][0].median < 0.1


def test_the_side_car_tells_how_to_use_the_graph(dynamic: OnnxExport) -> None:
    told = json.loads(dynamic.side_car.read_text())
    assert told["model"] == "da3-tiny" and told["input"]["shape"] == [1, 3, 3, "14 h", "14 w"]
    assert list(told["outputs"]) == ["depth", "depth_conf", "extrinsics", "intrinsics", "ray", "ray_conf"]
    assert told["parity"]["depth"][0]["largest"] < LARGEST_DIFFERENCE and told["parity_int8"]["depth"]
    assert sorted(f.name for f in dynamic.graph.parent.iterdir()) == ["tiny.int8.onnx", "tiny.json", "tiny.onnx"]


def test_a_metric_graph_has_a_sky_and_says_how_metres_come_about(tmp_path: Path) -> None:
    model = DepthAnything3.from_pretrained("bundled/da3metric-tiny", device="cpu", dtype="float32")
    found = export_onnx(model, tmp_path / "metric.onnx", OnnxOptions(height=28, width=42))
    told = json.loads(found.side_car.read_text())
    assert list(told["outputs"]) == ["depth", "sky"] and "fx + fy" in told["postprocessing"][1]
    assert max(d.largest for each in found.parity.values() for d in each) < LARGEST_DIFFERENCE


def test_what_cannot_be_exported_is_refused(model: DepthAnything3, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="onnx"):
        export_onnx(model, tmp_path / "graph.pb")
    with pytest.raises(InputError, match="height"):
        OnnxOptions(height=100)
    nested = DepthAnything3.from_pretrained("bundled/da3nested-tiny")
    with pytest.raises(CapabilityError, match="apart"):
        export_onnx(nested, tmp_path / "graph.onnx")
    assert not list(tmp_path.iterdir())
