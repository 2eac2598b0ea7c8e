"""The main job on real photographs, the way a newcomer runs it, and how far the results are from the truth.

    python examples/demo/run.py [--output demo-output]

The photographs are the rectified "Motorcycle" stereo pair of Middlebury 2014 (Scharstein et al., GCPR 2014), which
the scikit-image package carries together with its measured disparity. Needs the extra `demo`; downloads nothing.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image
from skimage.data import stereo_motorcycle

Array = npt.NDArray[np.floating]

# Calibration published with the pair, in pixels of the 741 x 500 photographs and metres.
FOCAL = 994.978
BASELINE = 0.193001  # the right camera stands this far along the x axis of the left one; both look the same way
DISPARITY_OFFSET = 31.086  # difference of the two principal points along x

COMMAND_OPTIONS = ("--export-format", "glb-npz-depth_vis", "--overwrite")


def write_photographs(folder: Path) -> Array:
    """Write ``left.png`` and ``right.png``; the true z-depth of the left one in metres, NaN where unknown."""
    left, right, disparity = stereo_motorcycle()
    folder.mkdir(parents=True, exist_ok=True)
    Image.fromarray(left).save(folder / "left.png")
    Image.fromarray(right).save(folder / "right.png")
    known = np.isfinite(disparity) & (disparity > 0)
    depth = np.full(disparity.shape, np.nan)
    depth[known] = FOCAL * BASELINE / (disparity[known] + DISPARITY_OFFSET)
    return depth


def run_da3(images: Path, result: Path, *options: str) -> None:
    """Run the command that a user would type."""
    beside_python = Path(sys.executable).with_name("da3")
    program = str(beside_python) if beside_python.exists() else shutil.which("da3")
    if program is None:
        raise SystemExit("the command da3 is not installed here: run `make demo`, or `pip install -e '.[demo]'` first")
    arguments = ["auto", str(images), "--model-dir", "bundled", "--export-dir", str(result), *COMMAND_OPTIONS]
    arguments += options
    print("$ da3", *arguments, flush=True)
    if status := subprocess.run([program, *arguments], check=False).returncode:
        raise SystemExit(status)


def rotation_error(extrinsics: Array) -> float:
    """Degrees between the predicted relative rotation of the two cameras and the true one, which is none."""
    relative = extrinsics[1, :, :3] @ extrinsics[0, :, :3].T
    skew = relative - relative.T
    sine = np.linalg.norm([skew[2, 1], skew[0, 2], skew[1, 0]]) / 2
    return float(np.degrees(np.arctan2(sine, (np.trace(relative) - 1) / 2)))


def baseline_error(extrinsics: Array) -> float:
    """Degrees between the predicted direction from the left camera to the right one and the true one, +x."""
    left, right = (-pose[:, :3].T @ pose[:, 3] for pose in extrinsics)
    towards_right = extrinsics[0, :, :3] @ (right - left)
    return float(np.degrees(np.arctan2(np.linalg.norm(towards_right[1:]), towards_right[0])))


def share_of_good_depth(depth: Array, truth: Array) -> float:
    """Share of pixels whose depth is within a factor of 1.25 of the truth, after one scale that matches the medians.

    Args:
        depth: (H, W) prediction for the whole image.
        truth: (H', W') of the same image at another size; NaN where unknown. Looked up at the nearest pixel.
    """
    (height, width), (true_height, true_width) = depth.shape, truth.shape
    rows = ((np.arange(height) + 0.5) * true_height / height).astype(int)
    columns = ((np.arange(width) + 0.5) * true_width / width).astype(int)
    sampled = truth[np.ix_(rows, columns)]
    known = np.isfinite(sampled)
    predicted, true = depth[known], sampled[known]
    ratio = predicted * (np.median(true) / np.median(predicted)) / true
    return float(np.mean(np.maximum(ratio, 1 / ratio) < 1.25))


def errors(result: Path, truth: Array) -> tuple[float, float, float]:
    """Error of the rotation and of the baseline's direction in degrees, and the share of good depth."""
    with np.load(result / "exports" / "npz" / "results.npz") as stored:
        depth, extrinsics = stored["depth"].astype(np.float64), stored["extrinsics"].astype(np.float64)
    return rotation_error(extrinsics), baseline_error(extrinsics), share_of_good_depth(depth[0], truth)


def report(network: Path, result: Path, truth: Array) -> None:
    """Compare both stored results with the truth, and say where to look."""
    alone, refined = errors(network, truth), errors(result, truth)
    print("\nAgainst the measured truth of the pair:            network alone    refined")
    titles = (
        "error of the rotation, degrees",
        "error of the baseline, degrees",
        "share of depth within 25 %",
    )
    for title, before, after in zip(titles, alone, refined, strict=True):
        print(f"  {title:<46} {before:11.2f} {after:12.2f}")
    print("\nLook at:")
    looks = {
        "scene.glb": "point cloud and cameras, for any glTF viewer",
        "depth_vis": "photograph and depth side by side (near is red)",
        "exports/npz/results.npz": "depth, confidence, extrinsics, intrinsics",
    }
    for name, what in looks.items():
        print(f"  {result / name!s:<46} {what}")


def main() -> None:
    """Photographs, command, report."""
    parser = argparse.ArgumentParser(description="Depth Anything 3 on two photographs with known geometry.")
    parser.add_argument("--output", type=Path, default=Path("demo-output"), help="folder for everything that is made")
    output = parser.parse_args().output
    truth = write_photographs(output / "images")
    print("The bundled network is a demonstration: 8 million weights, trained on synthetic scenes alone.")
    print("First its answer alone, then with matches between the photographs correcting cameras and depth.")
    run_da3(output / "images", output / "network", "--refine", "off")
    run_da3(output / "images", output / "result")
    report(output / "network", output / "result", truth)


if __name__ == "__main__":
    main()
