"""Checks of our numbers against the published ones that the project carries, or that lie in ``../shared``.

Each check is a function of the source of the numbers, so that the same code serves the tests of a plain clone, the
tests against the full reference data, and the mutation test. As a script it runs the checks named on its command
line; the exit code is 3 where a number differs.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import torch

from depth_anything_3.geometry.alignment import align_trajectories
from depth_anything_3.geometry.encoding import decode_cameras, encode_cameras
from depth_anything_3.geometry.harmonics import rotate_harmonics
from depth_anything_3.geometry.poses import rigid_inverse
from depth_anything_3.geometry.rays import fit_rays
from depth_anything_3.geometry.rotations import matrix_from_quat_xyzw, quat_xyzw_from_matrix
from depth_anything_3.infer.cameras import normalise_extrinsics
from depth_anything_3.infer.preprocess import preprocess
from depth_anything_3.model.dinov2.rope import angles_table, rotate
from depth_anything_3.model.dpt import DPTTrunk
from depth_anything_3.model.readout import metric_depth, metric_scale, to_metres
from depth_anything_3.types.options import PROCESS_METHODS, PreprocessOptions
from support.compare import assert_close, assert_same_fov, assert_same_poses, assert_same_quaternions
from support.vectors import CASES, EXTRA_CASES, run_case

PROJECT = Path(__file__).resolve().parents[1] / "parity" / "reference"
GOLDEN = Path(__file__).resolve().parents[3] / "shared" / "golden"

Arrays = dict[str, np.ndarray]

DIFFERENT = 3
"""Exit code of the script where a number differs."""

_KEPT = 300  # values per array of a sampled case
_ROW = 16  # arrays with a last axis up to this long are sampled by rows


def sample(array: np.ndarray) -> np.ndarray:
    """About 300 values spread evenly over an array, in whole rows where the last axis is short."""
    rows = array.reshape(-1, array.shape[-1] if array.ndim and array.shape[-1] <= _ROW else 1)
    return rows[:: max(1, rows.size // _KEPT) | 1]  # odd, to fall out of step with the sides of images


@functools.lru_cache
def _archive(path: Path) -> Mapping[str, np.ndarray]:
    with np.load(path) as file:
        return {key: file[key] for key in file.files}


def arrays_of(archive: Mapping[str, np.ndarray], case: str) -> Arrays:
    """The arrays stored as ``<case>/<name>``."""
    return {key.removeprefix(f"{case}/"): value for key, value in archive.items() if key.startswith(f"{case}/")}


def check_network(case: str) -> None:
    """One of :mod:`support.vectors` against the sample of its outputs that the project carries."""
    compare_network(case, arrays_of(_archive(PROJECT / "network.npz"), case), sampled=True)


def compare_network(case: str, expected: Arrays, *, sampled: bool) -> None:
    """Run a case and compare every output with ``expected``."""
    given = {name: expected.pop(name) for name in list(expected) if name.endswith("_in")}
    outputs = run_case(case, given)
    assert set(outputs) == set(expected)
    for name, value in expected.items():
        ours, what = np.asarray(outputs[name]), f"{case}/{name}"
        if name in ("extrinsics", "intrinsics"):
            value = value.reshape(ours.shape)  # small enough to be kept whole
        elif sampled:
            ours = sample(ours)
        if name == "extrinsics":
            assert_same_poses(ours, value, what)
        elif name == "intrinsics":
            height, width = outputs["depth"].shape[-2:]
            assert_same_fov(ours, value, height, width, what)
        elif name == "rotations":
            assert_same_quaternions(ours, value, what)
        else:
            assert_close(ours, value, what)


def load(name: str) -> dict[str, torch.Tensor]:
    """A geometry case: carried by the project, else from the reference data beside it."""
    arrays = arrays_of(_archive(PROJECT / "geometry.npz"), name) or dict(_archive(GOLDEN / f"{name}.npz"))
    return {key: torch.from_numpy(value.astype(np.int64) if "idx" in key else value) for key, value in arrays.items()}


def rotations_and_encodings() -> None:
    d = load("geom__misc")
    assert_close(quat_xyzw_from_matrix(d["in_R"]), d["out_mat_to_quat"], "matrix to quaternion")
    assert_close(matrix_from_quat_xyzw(d["in_quats"]), d["out_quat_to_mat"], "quaternion to matrix")
    assert_close(rigid_inverse(d["in_ext"]), d["out_affine_inverse"], "inverse")
    assert_close(encode_cameras(d["in_ext"], d["in_K"], (84, 140))[None], d["out_pose_enc_from_c2w"], "encoding")
    extrinsics, intrinsics = decode_cameras(d["in_pose_enc_in"], (84, 140))
    # The stored array is camera-to-world, what the published function returns before the network inverts it.
    assert_close(rigid_inverse(extrinsics), d["out_ext_from_enc"], "pose of an encoding")
    assert_close(intrinsics, d["out_ixt_from_enc"], "intrinsics of an encoding")


def harmonics() -> None:
    d = load("geom__misc")
    assert_close(rotate_harmonics(d["in_sh"], d["in_R"][:10]), d["out_sh_rotated"], "harmonics")


def rotary_and_uv_embeddings() -> None:
    d = load("geom__misc")
    tables = torch.stack([angles_table(positions, 64) for positions in d["in_rope_pos"]])
    turned = torch.stack([rotate(x, table) for x, table in zip(d["in_rope_tokens"], tables, strict=True)])
    assert_close(turned, d["out_rope"], "rotary embedding")
    trunk = DPTTrunk(8, 1, 8, (8, 8, 8, 8), norm=False, uv_embedding=True)
    expected = d["out_uv_embed64"]  # stored without the factor of one tenth, for a 10 x 6 map of a 60 x 100 image
    embedded = trunk.add_uv(torch.zeros(1, 64, expected.shape[0], expected.shape[1]), (60, 100))
    assert_close(10 * embedded[0].permute(1, 2, 0), expected, "UV embedding")


def ray_fit(name: str, given_indices: bool) -> None:
    d = load(f"ray__{name}")
    indices = d["in_ransac_idx"] if given_indices else None
    fitted = fit_rays(d["in_camray"][0], d["in_conf"][0], sample_indices=indices)
    assert_close(fitted.world_from_camera, d["out_extrinsic_c2w"][0, :, :3], "pose")
    assert_close(fitted.focal, d["out_focal"][0], "focal")
    assert_close(fitted.principal_point, d["out_pp"][0], "principal point")


def alignment(name: str) -> None:
    d = {key: value.numpy() for key, value in load(f"pose__umeyama_{name}").items()}
    found = align_trajectories(d["in_ext_ref"], d["in_ext_est"])
    assert_close(found.rotation, d["out_r"], "rotation")
    assert_close(found.translation, d["out_t"], "translation")
    assert_close(found.scale, d["out_s"], "scale")
    assert_close(found.on_extrinsics(d["in_ext_est"]), d["out_aligned"][:, :3], "aligned poses")


def normalised_extrinsics(views: int) -> None:
    d = load(f"pose__normalize_ext_n{views}")
    ours = normalise_extrinsics(d["in_ext"].double().numpy())
    assert_close(ours, d["out_ext_norm"].reshape(ours.shape), "normalised extrinsics")


def metric_alignment() -> None:
    d = load("align__utils")
    depth, conf, sky = d["in_depth"], d["in_conf"], d["in_sky"]
    metres = metric_depth(d["in_metric_depth"], d["in_K"])
    assert_close(metres, d["out_metric_scaled"], "metric depth")
    scale = metric_scale(depth, conf, metres, sky)
    assert_close(scale, d["out_scale"].reshape(1), "scale")
    extrinsics = torch.eye(4)[:3].expand(1, 3, 3, 4)
    filled, lowered, _ = to_metres(depth, conf, extrinsics, torch.ones(1), sky)  # stored before scaling
    assert_close(filled, d["out_depth_sky"], "depth with sky")
    assert_close(lowered, d["out_conf_sky"], "confidence with sky")


def preprocessing() -> None:
    """Sizes, pixels and intrinsics of one image under the four methods."""
    stored = _archive(PROJECT / "preprocess.npz")
    for method in PROCESS_METHODS:
        for resolution, step in ((98, 1), (112, 5), (140, 5)):
            case = f"{method}_{resolution}"
            options = PreprocessOptions(process_res=resolution, process_res_method=method)  # type: ignore[arg-type]
            inputs = preprocess([stored["image"]], intrinsics=stored["K"][None], options=options)
            shown, expected = inputs.processed_images[0], stored[f"u8_{case}"].astype(int)
            assert shown.shape == tuple(stored[f"shape_{case}"]), f"{case}: {shown.shape}"
            # Shown pixels are up to one level below the resized ones, as published; OpenCV 4 rounds a few elsewhere.
            below = expected - shown[::step, ::step]
            assert -1 <= below.min() <= below.max() <= 2 and below.mean() < 1, f"{case}: pixels"
            assert_close(inputs.intrinsics[0], stored[f"K_{case}"], f"{case}: intrinsics")  # type: ignore[index]


CHECKS: dict[str, Callable[[], None]] = {
    **{f"network_{case}": functools.partial(check_network, case) for case in (*CASES, *EXTRA_CASES)},
    "rotations_and_encodings": rotations_and_encodings,
    "harmonics": harmonics,
    "rotary_and_uv_embeddings": rotary_and_uv_embeddings,
    "ray_fit": functools.partial(ray_fit, "noisy", False),
    "ray_fit_with_given_indices": functools.partial(ray_fit, "noisy", True),
    "alignment": functools.partial(alignment, "n5_noise0.05_plain"),
    "normalised_extrinsics": functools.partial(normalised_extrinsics, 5),
    "metric_alignment": metric_alignment,
    "preprocessing": preprocessing,
}
"""Checks that need nothing but the project."""


if __name__ == "__main__":
    try:
        for wanted in sys.argv[1:]:
            CHECKS[wanted]()
    except AssertionError as error:
        sys.stderr.write(f"{error}\n")
        sys.exit(DIFFERENT)
