"""Features as colours, by principal components."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from depth_anything_3._files import atomic_path
from depth_anything_3.errors import InputError
from depth_anything_3.export._film import write_film
from depth_anything_3.export.feat_vis import Options, planned_files
from depth_anything_3.types.prediction import Prediction

Pictures = npt.NDArray[np.uint8]

_QUALITY = 95
_PREFIX = "feat_layer_"
_FLAT = 1e-4


def write_layers(prediction: Prediction, folder: Path, options: Options) -> list[Path]:
    """Write what ``planned_files`` lists for the layers that are asked for."""
    there = sorted(int(name.removeprefix(_PREFIX)) for name in prediction.aux if name.startswith(_PREFIX))
    if missing := [layer for layer in options.layers if layer not in there]:
        raise InputError("layers", str(missing), "layers whose features were kept (export_feat_layers)", there)
    paths = []
    for layer in options.layers or there:
        files = [folder / name for name in planned_files(len(prediction.depth), replace(options, layers=(layer,)))]
        assert prediction.processed_images is not None
        pairs = _beside(prediction.processed_images, feature_colours(prediction.aux[f"{_PREFIX}{layer}"]))
        for path, pair in zip(files, pairs, strict=False):
            with atomic_path(path) as temporary:
                Image.fromarray(pair).save(temporary, format="JPEG", quality=_QUALITY)
        if options.video:
            write_film(files[-1], pairs, options.fps)
        paths += files
    return paths


def feature_colours(features: npt.NDArray[np.float32]) -> Pictures:
    """(N, h, w, 3) colours of (N, h, w, C) features, the same components for all views.

    The components are eigenvectors of the covariance, and of the two signs each may have, the one whose largest entry
    is positive is taken: colours are the same in every run. With fewer than three channels the rest stay black.
    """
    flat = np.nan_to_num(features, posinf=0.0, neginf=0.0).reshape(-1, features.shape[-1]).astype(np.float64)
    flat -= flat.mean(0)
    _, vectors = np.linalg.eigh(flat.T @ flat)
    components = vectors[:, ::-1][:, :3]
    largest = np.take_along_axis(components, np.abs(components).argmax(0)[None], 0)
    values = flat @ (components * np.sign(largest))
    low, high = np.percentile(values, (10, 90), axis=0)
    coloured = np.zeros((len(values), 3), np.uint8)
    coloured[:, : values.shape[1]] = np.clip((values - low) / np.maximum(high - low, _FLAT), 0, 1) * 255
    return coloured.reshape(*features.shape[:-1], 3)


def _beside(images: Pictures, colours: Pictures) -> Pictures:
    """The pictures on the left, the colours on the right, each patch as large as it was."""
    _, height, width, _ = images.shape
    row = np.arange(height) * colours.shape[1] // height
    column = np.arange(width) * colours.shape[2] // width
    return np.concatenate((images, colours[:, row][:, :, column]), axis=2)
