"""What the published package's README shows runs here as printed.

Only the image folder is replaced, and the hub is a server on loopback that has a reduced network under the published
id.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from PIL import Image
from support.hub_server import HubServer
from support.networks import fill_weights, miniature, preset, small_metric
from support.videos import write_video

from depth_anything_3.api import DepthAnything3
from depth_anything_3.cfg import create_object, load_config

SNIPPET = """
import glob, os, torch
from depth_anything_3.api import DepthAnything3
device = torch.device("cuda")
model = DepthAnything3.from_pretrained("depth-anything/DA3NESTED-GIANT-LARGE")
model = model.to(device=device)
example_path = "assets/examples/SOH"
images = sorted(glob.glob(os.path.join(example_path, "*.png")))
prediction = model.inference(
    images,
)
# prediction.processed_images : [N, H, W, 3] uint8   array
print(prediction.processed_images.shape)
# prediction.depth            : [N, H, W]    float32 array
print(prediction.depth.shape)
# prediction.conf             : [N, H, W]    float32 array
print(prediction.conf.shape)
# prediction.extrinsics       : [N, 3, 4]    float32 array # opencv w2c or colmap format
print(prediction.extrinsics.shape)
# prediction.intrinsics       : [N, 3, 3]    float32 array
print(prediction.intrinsics.shape)
"""

VIT_B = """
Model:
  __object__:
    path: depth_anything_3.model.da3
    name: DepthAnything3Net
    args: as_params

  net:
    __object__:
      path: depth_anything_3.model.dinov2.dinov2
      name: DinoV2
      args: as_params

    name: vitb
    out_layers: [5, 7, 9, 11]
    alt_start: 4
    qknorm_start: 4
    rope_start: 4
    cat_token: True

  head:
    __object__:
      path: depth_anything_3.model.dualdpt
      name: DualDPT
      args: as_params

    dim_in: &head_dim_in 1536
    output_dim: 2
    features: &head_features 128
    out_channels: &head_out_channels [96, 192, 384, 768]
"""


def reduced_nested(folder: Path) -> Path:
    config = {
        "__object__": {"path": "depth_anything_3.model.da3", "name": "NestedDepthAnything3Net", "args": "as_params"},
        "anyview": miniature(),
        "metric": small_metric(),
    }
    model = DepthAnything3("da3nested-giant-large", config=config, device="cpu")
    fill_weights(model)
    return model.save_pretrained(folder)


def test_python_snippet(tmp_path: Path) -> None:
    checkpoint = reduced_nested(tmp_path / "checkpoint")
    photos = tmp_path / "work" / "assets" / "examples" / "SOH"
    photos.mkdir(parents=True)
    rng = np.random.default_rng(0)
    for name in ("000.png", "010.png"):
        Image.fromarray(rng.integers(0, 256, (68, 121, 3), dtype=np.uint8)).save(photos / name)
    with HubServer() as hub:
        files = {path.name: path.read_bytes() for path in checkpoint.iterdir()}
        hub.add_model("depth-anything/DA3NESTED-GIANT-LARGE", files)
        environment = {**os.environ, **hub.environment(tmp_path / "cache"), "HF_HUB_OFFLINE": "0"}
        done = subprocess.run(
            [sys.executable, "-c", SNIPPET],
            env=environment,
            cwd=tmp_path / "work",
            capture_output=True,
            text=True,
            check=False,
        )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [
        "(2, 280, 504, 3)",
        "(2, 280, 504)",
        "(2, 280, 504)",
        "(2, 3, 4)",
        "(2, 3, 3)",
    ]
    assert "use depth-anything/DA3NESTED-GIANT-LARGE-1.1" in done.stderr.replace("\n", " ")
    if not torch.cuda.is_available():
        assert "cuda is not available here" in done.stderr


SERVER = "da3 backend --model-dir ${MODEL_DIR} --gallery-dir ${GALLERY_DIR} # Cache model to gpu"

ON_THE_SERVER = """
da3 auto assets/examples/SOH \\
    --export-format glb \\
    --export-dir ${GALLERY_DIR}/TEST_BACKEND/SOH \\
    --use-backend

da3 video assets/examples/robot_unitree.mp4 \\
    --fps 15 \\
    --use-backend \\
    --export-dir ${GALLERY_DIR}/TEST_BACKEND/robo \\
    --export-format glb-feat_vis \\
    --feat-vis-fps 15 \\
    --process-res-method lower_bound_resize \\
    --export-feat "11,21,31"
"""

ALONE = """
da3 auto assets/examples/SOH \\
    --export-format glb \\
    --export-dir ${GALLERY_DIR}/TEST_CLI/SOH \\
    --model-dir ${MODEL_DIR}
"""

DA3 = f'da3() {{ "{sys.executable}" -c "from depth_anything_3.cli import main; main()" "$@"; }}\nset -e\n'
PORT = 8008  # as published


def deep_and_narrow() -> dict[str, Any]:
    """A network with the 32 blocks that the commands speak of."""
    config = preset("da3-tiny")
    config["head"] = {**config["head"], "features": 16, "out_channels": [8, 8, 8, 8]}
    return {**config, "net": {**config["net"], "extra_blocks": 20}}


@pytest.fixture
def examples(tmp_path: Path) -> dict[str, str]:
    """The folder and the video that the commands speak of, the model; the environment for the commands."""
    photos = tmp_path / "assets" / "examples" / "SOH"
    photos.mkdir(parents=True)
    for seed, name in enumerate(("000.png", "010.png")):
        pixels = np.random.default_rng(seed).integers(0, 256, (68, 121, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(photos / name)
    write_video(photos.parent / "robot_unitree.mp4", 2, fps=15.0, size=(48, 48))
    (tmp_path / "workspace" / "gallery").mkdir(parents=True)
    return {**os.environ, "MODEL_DIR": "bundled", "GALLERY_DIR": "workspace/gallery", "NO_COLOR": "1"}


def shell(commands: str, folder: Path, environment: dict[str, str]) -> None:
    done = subprocess.run(
        ["bash", "-c", DA3 + commands], env=environment, cwd=folder, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def check_scene(folder: Path, views: int) -> None:
    """Every file that the manifest names opens."""
    trimesh = pytest.importorskip("trimesh")
    formats = json.loads((folder / "exports.json").read_text())["formats"]
    named = [file for made in formats.values() for file in made["files"]]
    assert {"scene.glb", "scene.jpg", *(f"depth_vis/{view:04d}.jpg" for view in range(views))} <= set(named)
    for name in named:
        if name.endswith(".glb"):
            assert len(trimesh.load(folder / name).geometry["points"].vertices)
        elif name.endswith(".mp4"):
            film = cv2.VideoCapture(str(folder / name))
            assert film.get(cv2.CAP_PROP_FPS) == 15 and all(film.read()[0] for _ in range(views))
        else:
            with Image.open(folder / name) as picture:
                picture.load()


def test_shell_command_without_a_server(tmp_path: Path, examples: dict[str, str]) -> None:
    """As printed; the model is the bundled one, and the photographs are noise."""
    shell(ALONE, tmp_path, examples)
    check_scene(tmp_path / "workspace/gallery/TEST_CLI/SOH", 2)


def test_shell_commands_with_a_server(tmp_path: Path, examples: dict[str, str]) -> None:
    """As printed, on the port that is published; the model has as many blocks as their ``--export-feat`` needs."""
    pytest.importorskip("fastapi")
    httpx = pytest.importorskip("httpx")
    with socket.socket() as probe:
        if probe.connect_ex(("127.0.0.1", PORT)) == 0:
            pytest.skip(f"port {PORT} is in use")
    model = DepthAnything3("da3-tiny", config=deep_and_narrow(), device="cpu")
    fill_weights(model)
    environment = {**examples, "MODEL_DIR": str(model.save_pretrained(tmp_path / "model"))}
    with (tmp_path / "server.log").open("wb") as log:
        server = subprocess.Popen(
            ["bash", "-c", DA3 + SERVER], env=environment, cwd=tmp_path, stdout=log, stderr=log, start_new_session=True
        )
    try:
        for _ in range(600):
            with contextlib.suppress(httpx.TransportError):
                if httpx.get(f"http://127.0.0.1:{PORT}/status", timeout=5).is_success:
                    break
            assert server.poll() is None, (tmp_path / "server.log").read_text()
            time.sleep(0.1)
        shell(ON_THE_SERVER, tmp_path, environment)
    finally:
        os.killpg(server.pid, signal.SIGINT)
        server.wait(60)
    results = tmp_path / "workspace" / "gallery" / "TEST_BACKEND"
    check_scene(results / "SOH", 2)
    check_scene(results / "robo", 2)
    layers = {path.name for path in (results / "robo" / "feat_vis").iterdir()}
    assert layers == {f"feat_layer_{i}{end}" for i in (11, 21, 31) for end in ("", ".mp4")}


def test_vit_b_configuration(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(VIT_B)
    with torch.device("meta"):
        net = create_object(load_config(str(path)))
    published = DepthAnything3("da3-base", device="cpu").model
    wanted = {
        name: tensor.shape for name, tensor in published.state_dict().items() if name.startswith(("backbone.", "head."))
    }
    assert {name: tensor.shape for name, tensor in net.state_dict().items()} == wanted
