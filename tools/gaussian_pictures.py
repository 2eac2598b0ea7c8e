"""Pictures of docs/gaussians: frames of flights through Gaussians, beside the pictures that these were made from.

    python tools/gaussian_pictures.py docs/gaussians [--model bundled] [--source depth]

On the left the first picture, beside it four frames on the way from view to view (``interpolate``). Cameras and depth
are refined; those of the synthetic scenes are given. Needs the extra ``demo``.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
import skimage.data
from PIL import Image

from depth_anything_3.api import DepthAnything3
from depth_anything_3.bench.held_out import held_out_scenes
from depth_anything_3.bench.novel_views import farthest_views
from depth_anything_3.export._flight import drawn_along, flight_path
from depth_anything_3.export.gs_video import Options

Picture = npt.NDArray[np.uint8]

_HEIGHT, _FRAMES, _SCENES, _VIEWS = 168, 4, 3, 4


def main() -> None:
    """Draw and write."""
    parser = argparse.ArgumentParser(description="Draw the pictures of docs/gaussians.")
    parser.add_argument("out", type=Path)
    parser.add_argument("--model", default="bundled")
    parser.add_argument("--source", default="depth", choices=("head", "depth"))
    arguments = parser.parse_args()
    model = DepthAnything3.from_pretrained(arguments.model)
    arguments.out.mkdir(parents=True, exist_ok=True)
    for name, images, cameras in scenes():
        prediction = model.inference(
            images,
            extrinsics=cameras[0] if cameras else None,
            intrinsics=cameras[1] if cameras else None,
            infer_gs=True,
            gs_source=arguments.source,
            process_res=252,
            refine="full",
        )
        options = Options(trj_mode="interpolate", vis_depth=None, background=(1.0, 1.0, 1.0), max_depth_jump=0.1)
        path = flight_path(prediction, options)
        chosen = np.linspace(0, len(path) - 1, _FRAMES + 2)[1:-1].round().astype(int)
        sheet = _row([images[0], *drawn_along(path[chosen], prediction, options)])
        path = arguments.out / f"{arguments.source}_{name}.jpg"
        Image.fromarray(sheet).save(path, quality=88)
        print(path, path.stat().st_size)


def scenes() -> Iterator[tuple[str, list[Picture], tuple[npt.NDArray[np.float64], ...]]]:
    """Name, pictures and known cameras: the two photographs of the demo, and held-out scenes with four views."""
    yield "motorcycle", [np.asarray(picture, np.uint8) for picture in skimage.data.stereo_motorcycle()[:2]], ()
    for scene in held_out_scenes(_SCENES):
        seen = list(farthest_views(scene.extrinsics, _VIEWS))
        yield scene.name, list(scene.images[seen]), (scene.extrinsics[seen], scene.intrinsics[seen])


def _row(pictures: list[Picture]) -> Picture:
    """Pictures of one height beside each other."""
    small = []
    for picture in pictures:
        width = round(picture.shape[1] * _HEIGHT / picture.shape[0])
        small.append(np.asarray(Image.fromarray(picture).resize((width, _HEIGHT), Image.Resampling.LANCZOS)))
    return np.concatenate(small, 1)


if __name__ == "__main__":
    main()
