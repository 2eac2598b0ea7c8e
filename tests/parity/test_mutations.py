"""Each of these small changes to the code makes the carried reference numbers differ: the parity tests can fail."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest
from support.reference import DIFFERENT

ROOT = Path(__file__).resolve().parents[2]


class Mutation(NamedTuple):
    what: str
    file: str
    old: str
    new: str
    check: str


VIT, DPT, DUAL = "model/dinov2/vision_transformer.py", "model/dpt.py", "model/dualdpt.py"

MUTATIONS = (
    Mutation(
        "eps of the block norms",
        "model/dinov2/layers.py",
        "norm_eps: float = 1e-6",
        "norm_eps: float = 1e-2",
        "network_A",
    ),
    Mutation(
        "eps of the final norm",
        VIT,
        "nn.LayerNorm(embed_dim, eps=1e-5)",
        "nn.LayerNorm(embed_dim, eps=1e-2)",
        "network_A",
    ),
    Mutation(
        "base of the rotary embedding",
        "model/dinov2/rope.py",
        "BASE = 100.0",
        "BASE = 10000.0",
        "rotary_and_uv_embeddings",
    ),
    Mutation(
        "rotary positions start at zero",
        "model/dinov2/rope.py",
        "torch.arange(1, grid_h + 1",
        "torch.arange(0, grid_h",
        "network_I",
    ),
    Mutation(
        "cross-view patches at (0, 0)",
        "model/dinov2/rope.py",
        "torch.ones(1 + patches",
        "torch.zeros(1 + patches",
        "network_A",
    ),
    Mutation("even blocks attend across views", VIT, "i % 2 == 1", "i % 2 == 0", "network_B"),
    Mutation("position table by size, not scale", VIT, "_GRID_OFFSET = 0.1", "_GRID_OFFSET = 0.0", "network_u"),
    Mutation(
        "heads read normalised camera tokens",
        VIT,
        "patches, camera = self.norm(x[:, :, 1:]), x[:, :, 0]",
        "patches, camera = self.norm(x[:, :, 1:]), self.norm(x[:, :, 0])",
        "network_A",
    ),
    Mutation(
        "local half is normalised too",
        VIT,
        "torch.cat([local[:, :, 1:], patches]",
        "torch.cat([self.norm(local[:, :, 1:]), patches]",
        "network_A",
    ),
    Mutation(
        "all views take the reference's token", VIT, "self.camera_token[:, 1:]", "self.camera_token[:, :1]", "network_B"
    ),
    Mutation(
        "the balanced rule takes the largest score",
        "model/reference_view.py",
        "_saddle_balanced(tokens).argmin(-1)",
        "_saddle_balanced(tokens).argmax(-1)",
        "network_C",
    ),
    Mutation(
        "outputs keep the reference's order",
        VIT,
        "x if order is None else reorder(x, order.argsort(-1))",
        "x",
        "network_D",
    ),
    Mutation("resize without aligned corners", DPT, "align_corners=True", "align_corners=False", "network_A"),
    Mutation("weight of the UV embedding", DPT, "_EMBEDDING_WEIGHT = 0.1", "_EMBEDDING_WEIGHT = 0.2", "network_u"),
    Mutation(
        "no UV embedding before the output",
        DPT,
        "x = self.add_uv(resize(x, image_hw), image_hw)",
        "x = resize(x, image_hw)",
        "network_A",
    ),
    Mutation("rays from the first auxiliary level", DUAL, "output_conv2_aux.3", "output_conv2_aux.0", "network_A"),
    Mutation(
        "quaternions are scalar first",
        "geometry/rotations.py",
        "x, y, z, w = quat_xyzw.unbind(-1)",
        "w, x, y, z = quat_xyzw.unbind(-1)",
        "network_A",
    ),
    Mutation(
        "field of view by the wrong side",
        "geometry/encoding.py",
        "height / 2 / intrinsics[..., 1, 1]",
        "width / 2 / intrinsics[..., 1, 1]",
        "network_E",
    ),
    Mutation(
        "camera encoder with the backbone's eps", "model/cam_enc.py", "norm_eps=1e-5", "norm_eps=1e-2", "network_E"
    ),
    Mutation("sky quantile", "model/readout.py", "SKY_QUANTILE = 0.99", "SKY_QUANTILE = 0.95", "network_F"),
    Mutation(
        "canonical focal length", "model/readout.py", "CANONICAL_FOCAL = 300.0", "CANONICAL_FOCAL = 310.0", "network_G"
    ),
    Mutation(
        "quaternions of Gaussians in one order",
        "model/gs_adapter.py",
        'quaternion_order: QuaternionOrder = "published"',
        'quaternion_order: QuaternionOrder = "consistent"',
        "network_H",
    ),
    Mutation(
        "inlier distance of the ray fit",
        "geometry/rays.py",
        "INLIER_DISTANCE = 0.2",
        "INLIER_DISTANCE = 0.02",
        "ray_fit",
    ),
    Mutation(
        "exact decomposition by default",
        "geometry/rays.py",
        'if decomposition == "exact"',
        'if decomposition == "published"',
        "ray_fit",
    ),
    Mutation(
        "ties between multiples of 14 go down",
        "infer/preprocess.py",
        "length + PATCH_SIZE // 2)",
        "length + PATCH_SIZE // 2 - 1)",
        "preprocessing",
    ),
    Mutation(
        "enlarging by area",
        "infer/preprocess.py",
        "cv2.INTER_CUBIC",
        "cv2.INTER_AREA",
        "preprocessing",
    ),
    Mutation(
        "median of the camera distances",
        "infer/cameras.py",
        "(len(distances) - 1) // 2",
        "len(distances) // 2 + 1",
        "normalised_extrinsics",
    ),
)


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the package that may be changed."""
    copy = tmp_path_factory.mktemp("mutated") / "depth_anything_3"
    shutil.copytree(ROOT / "src" / "depth_anything_3", copy, ignore=shutil.ignore_patterns("__pycache__"))
    return copy


def run(package: Path, *checks: str) -> subprocess.CompletedProcess[str]:
    path = os.pathsep.join([str(package.parent), str(ROOT / "tests")])
    environment = {**os.environ, "PYTHONPATH": path, "PYTHONDONTWRITEBYTECODE": "1"}
    command = [sys.executable, "-m", "support.reference", *checks]
    return subprocess.run(command, env=environment, cwd=package.parent, capture_output=True, text=True, check=False)


def test_unchanged_copy_passes(package: Path) -> None:
    checks = sorted({mutation.check for mutation in MUTATIONS})
    done = run(package, *checks)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda mutation: mutation.what.replace(" ", "-"))
def test_mutation_is_noticed(package: Path, mutation: Mutation) -> None:
    file = package / mutation.file
    original = file.read_text()
    assert mutation.old in original, "the code has changed: write this mutation anew"
    file.write_text(original.replace(mutation.old, mutation.new))
    try:
        done = run(package, mutation.check)
    finally:
        file.write_text(original)
    assert done.returncode == DIFFERENT, f"not noticed, or not by a number: {done.returncode} {done.stderr[-800:]}"
