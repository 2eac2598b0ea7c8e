"""What the published package's README shows runs here as printed.

Only the image folder is replaced, and the hub is a server on loopback that has a reduced network under the published
id.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from support.hub_server import HubServer
from support.networks import fill_weights, miniature, small_metric

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


SHELL = """
da3 auto assets/examples/SOH \\
    --export-format glb \\
    --export-dir ${GALLERY_DIR}/TEST_CLI/SOH \\
    --model-dir ${MODEL_DIR}
"""


def test_shell_command_without_a_server(tmp_path: Path) -> None:
    """As printed; the model is the bundled one, and the photographs are noise."""
    photos = tmp_path / "assets" / "examples" / "SOH"
    photos.mkdir(parents=True)
    for seed, name in enumerate(("000.png", "010.png")):
        pixels = np.random.default_rng(seed).integers(0, 256, (68, 121, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(photos / name)
    program = f'da3() {{ "{sys.executable}" -c "from depth_anything_3.cli import main; main()" "$@"; }}\n'
    environment = {**os.environ, "MODEL_DIR": "bundled", "GALLERY_DIR": "workspace/gallery"}
    done = subprocess.run(
        ["bash", "-c", program + SHELL], env=environment, cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    out = tmp_path / "workspace" / "gallery" / "TEST_CLI" / "SOH"
    assert (out / "scene.glb").read_bytes()[:4] == b"glTF"
    for name in ("scene.jpg", "depth_vis/0000.jpg", "depth_vis/0001.jpg"):
        with Image.open(out / name) as picture:
            picture.load()


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
