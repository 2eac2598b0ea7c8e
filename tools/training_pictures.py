"""Pictures for docs/training: curves of the runs, and what a model makes of photographs and held-out scenes.

    python tools/training_pictures.py curves docs/training/logs/*.jsonl --out docs/training
    python tools/training_pictures.py looks --model bundled --out docs/training

``looks`` draws one row per view (picture, true depth where it is known, predicted depth), and the point cloud of all
views from in front and from aside. Needs the extras ``dev`` and ``demo``.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from depth_anything_3.geometry.pinhole import unproject

Array = npt.NDArray[Any]

SCENES = ("held_out_000", "held_out_041", "held_out_080", "held_out_119", "held_out_161")
VIEWS, HEIGHT = 4, 168


def curves(logs: list[Path], out: Path) -> None:
    """One PNG per log: every loss over the steps, each point the step that was logged."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    hidden = {"step", "views", "labels", "grad_norm", "rate", "seconds", "skipped", "total"}
    for log in logs:
        lines = [json.loads(line) for line in log.read_text().splitlines()]
        names = sorted({name for line in lines for name in line} - hidden)
        figure, axes = pyplot.subplots(
            2, (len(names) + 1) // 2, figsize=(3.2 * ((len(names) + 1) // 2), 5), squeeze=False
        )
        for axis, name in zip(axes.flat, names, strict=False):
            points = [(line["step"], line[name]) for line in lines if np.isfinite(line.get(name, np.nan))]
            steps, values = np.array(points).T
            axis.plot(steps, values, linewidth=0.5, alpha=0.5)
            axis.plot(steps, smooth(values), linewidth=1.5)
            axis.set_title(name.removeprefix("_"), fontsize=9)
            axis.tick_params(labelsize=7)
        for axis in axes.flat[len(names) :]:
            axis.axis("off")
        figure.suptitle(log.stem)
        figure.tight_layout()
        figure.savefig(out / f"{log.stem}.png", dpi=90)
        pyplot.close(figure)


def smooth(values: Array, width: int = 9) -> Array:
    """Running median."""
    padded = np.pad(values, width // 2, mode="edge")
    return np.median(np.lib.stride_tricks.sliding_window_view(padded, width), axis=-1)


def looks(source: str, out: Path) -> None:
    """Pictures of the demonstration photographs and of held-out scenes."""
    from skimage.data import stereo_motorcycle

    from depth_anything_3.api import DepthAnything3
    from depth_anything_3.bench.scenes import evenly_spaced
    from depth_anything_3.synth.held_out import held_out, render_held_out

    model = DepthAnything3.from_pretrained(source)
    left, right, _ = stereo_motorcycle()
    draw(model.inference([left, right]), None, out / "look_motorcycle.jpg")
    for spec in held_out():
        if spec.name in SCENES:
            sample = render_held_out(spec)
            chosen = evenly_spaced(len(sample.rgb), VIEWS)
            pictures, depth = (np.asarray(v)[chosen] for v in (sample.rgb, sample.depth))
            if pictures.dtype != np.uint8:
                pictures = (pictures.clip(0, 1) * 255 + 0.5).astype(np.uint8)
            draw(model.inference(list(pictures)), depth, out / f"look_{spec.name}.jpg")


def draw(prediction: Any, truth: Array | None, path: Path) -> None:
    """One row per view, and the cloud below."""
    from depth_anything_3.export._colormap import colour_depth

    rows = []
    for i, picture in enumerate(prediction.processed_images):
        tiles = [picture, *([] if truth is None else [colour_depth(truth[i])]), colour_depth(prediction.depth[i])]
        rows.append(beside(tiles))
    clouds = [cloud(prediction, turn) for turn in (0.0, 35.0)]
    stack([*pairs(rows), beside(clouds, 2 * HEIGHT)], path)


def pairs(rows: list[Array]) -> Iterable[Array]:
    """Two views in one row."""
    for i in range(0, len(rows), 2):
        yield beside(rows[i : i + 2])


def beside(tiles: list[Array], height: int = HEIGHT) -> Array:
    """Pictures next to each other at one height."""
    resized = [Image.fromarray(t).resize((round(t.shape[1] * height / t.shape[0]), height)) for t in tiles]
    return np.concatenate([np.asarray(picture) for picture in resized], 1)


def stack(rows: list[Array], path: Path) -> None:
    """Pictures below each other, white where a row is shorter."""
    width = max(row.shape[1] for row in rows)
    padded = [np.pad(row, ((0, 4), (0, width - row.shape[1]), (0, 0)), constant_values=255) for row in rows]
    Image.fromarray(np.concatenate(padded)).save(path, quality=88)


def cloud(prediction: Any, degrees: float) -> Array:
    """All points, from a camera that stepped back from the first and walked around the middle by an angle."""
    keep = np.isfinite(prediction.depth) & (prediction.depth > 0)
    if prediction.sky is not None:
        keep &= ~prediction.sky.astype(bool)
    points = unproject(prediction.depth, prediction.intrinsics, prediction.extrinsics)[keep]
    colours = prediction.processed_images[keep]
    local = points @ prediction.extrinsics[0, :, :3].T + prediction.extrinsics[0, :, 3]
    centre = np.array([0, 0, np.median(local[:, 2])])
    angle = np.radians(degrees)
    turn = np.array([[np.cos(angle), 0, np.sin(angle)], [0, 1, 0], [-np.sin(angle), 0, np.cos(angle)]])
    local = (local - centre) @ turn.T + centre * 1.5
    height, width = prediction.depth.shape[1:]
    scale = 2 * HEIGHT / height
    return splat(
        local, colours, prediction.intrinsics[0] * np.array([[scale], [scale], [1]]), 2 * HEIGHT, round(width * scale)
    )


def splat(points: Array, colours: Array, intrinsics: Array, height: int, width: int) -> Array:
    """Points as squares of a few pixels, the nearest on top."""
    points, colours = points[points[:, 2] > 0.05], colours[points[:, 2] > 0.05]
    order = np.argsort(-points[:, 2])
    pixels = points[order] @ intrinsics.T
    x, y = (pixels[:, :2] / pixels[:, 2:]).astype(int).T
    canvas = np.full((height, width, 3), 255, np.uint8)
    for dy, dx in np.ndindex(2, 2):
        inside = (x + dx >= 0) & (x + dx < width) & (y + dy >= 0) & (y + dy < height)
        canvas[y[inside] + dy, x[inside] + dx] = colours[order][inside]
    return canvas


def main() -> None:
    """Parse and draw."""
    parser = argparse.ArgumentParser(description="Pictures for docs/training.")
    commands = parser.add_subparsers(dest="command", required=True)
    of_curves = commands.add_parser("curves")
    of_curves.add_argument("logs", type=Path, nargs="+")
    of_looks = commands.add_parser("looks")
    of_looks.add_argument("--model", default="bundled")
    for command in (of_curves, of_looks):
        command.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    if arguments.command == "curves":
        curves(arguments.logs, arguments.out)
    else:
        looks(arguments.model, arguments.out)


if __name__ == "__main__":
    main()
