"""The public names and signatures are written down, so that changing them is deliberate.

After a change on purpose: ``python tests/architecture/test_public_api.py`` writes the new snapshot.
"""

from __future__ import annotations

import importlib
import inspect
from pathlib import Path

import depth_anything_3

SNAPSHOT = Path(__file__).with_name("public_api.txt")

STABLE_PATHS = (
    "depth_anything_3:DepthAnything3",
    "depth_anything_3.api:DepthAnything3",
    "depth_anything_3.specs:Prediction",
    "depth_anything_3.specs:Gaussians",
    "depth_anything_3.registry:MODEL_REGISTRY",
    "depth_anything_3.registry:get_all_models",
    "depth_anything_3.cfg:load_config",
    "depth_anything_3.cfg:create_object",
    "depth_anything_3.model.da3:DepthAnything3Net",
    "depth_anything_3.model.da3:NestedDepthAnything3Net",
    "depth_anything_3.model.dinov2.dinov2:DinoV2",
    "depth_anything_3.model.dualdpt:DualDPT",
    "depth_anything_3.model.dpt:DPT",
    "depth_anything_3.model.gsdpt:GSDPT",
    "depth_anything_3.model.gs_adapter:GaussianAdapter",
    "depth_anything_3.model.cam_enc:CameraEnc",
    "depth_anything_3.model.cam_dec:CameraDec",
)
"""Import paths that scripts and YAML files outside this package rely on."""

METHODS = ("__init__", "from_pretrained", "save_pretrained", "inference", "depth", "forward", "to")


def describe() -> str:
    """Every public name, the methods of the facade one parameter a line, and the fields of the result."""
    from depth_anything_3 import DepthAnything3, Prediction

    lines = ["depth_anything_3"]
    lines += [f"  {name}" for name in sorted(depth_anything_3.__all__)]
    for method in METHODS:
        lines.append(f"DepthAnything3.{method}")
        signature = inspect.signature(getattr(DepthAnything3, method))
        for parameter in signature.parameters.values():
            lines.append(f"  {'keyword-only ' if parameter.kind is parameter.KEYWORD_ONLY else ''}{parameter}")
        lines.append(f"  -> {signature.return_annotation}")
    lines.append("Prediction")
    lines += [f"  {parameter}" for parameter in inspect.signature(Prediction).parameters.values()]
    return "\n".join(lines) + "\n"


def test_the_snapshot_is_current() -> None:
    assert describe() == SNAPSHOT.read_text(), "if this change is meant, see the docstring of this file"


def test_the_published_parameters_of_inference_come_first_and_keep_their_defaults() -> None:
    from depth_anything_3 import DepthAnything3

    published = {
        "image": inspect.Parameter.empty,
        "extrinsics": None,
        "intrinsics": None,
        "align_to_input_ext_scale": True,
        "infer_gs": False,
        "use_ray_pose": False,
        "ref_view_strategy": "saddle_balanced",
        "render_exts": None,
        "render_ixts": None,
        "render_hw": None,
        "process_res": None,  # 504 for every published model
        "process_res_method": "upper_bound_resize",
        "export_dir": None,
        "export_format": "mini_npz",
        "export_feat_layers": None,
        "conf_thresh_percentile": 40.0,
        "num_max_points": 1_000_000,
        "show_cameras": True,
        "feat_vis_fps": 15,
        "export_kwargs": None,
    }
    parameters = dict(inspect.signature(DepthAnything3.inference).parameters)
    del parameters["self"]
    positional = {n: p.default for n, p in parameters.items() if p.kind is p.POSITIONAL_OR_KEYWORD}
    assert positional == published
    assert list(positional) == list(published)
    assert {"progress", "cancel"} <= {n for n, p in parameters.items() if p.kind is p.KEYWORD_ONLY}


def test_every_public_name_is_there() -> None:
    for name in depth_anything_3.__all__:
        assert getattr(depth_anything_3, name) is not None
    for path in STABLE_PATHS:
        module, _, name = path.partition(":")
        assert hasattr(importlib.import_module(module), name), path


if __name__ == "__main__":
    SNAPSHOT.write_text(describe())
