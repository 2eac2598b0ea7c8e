"""Several scenes of one image each in one pass through the network."""

from __future__ import annotations

import threading
from collections.abc import Sequence

import torch

from depth_anything_3.errors import InputError
from depth_anything_3.infer.postprocess import to_prediction
from depth_anything_3.infer.preprocess import preprocess
from depth_anything_3.infer.runner import Reporter, run_network
from depth_anything_3.io.images import ImageSource
from depth_anything_3.model.da3 import Network
from depth_anything_3.types.options import InferOptions, PreprocessOptions
from depth_anything_3.types.prediction import Prediction
from depth_anything_3.types.progress import ProgressCallback


def predict_singles(
    net: Network,
    images: Sequence[ImageSource],
    *,
    preprocessing: PreprocessOptions,
    options: InferOptions,
    device: torch.device,
    dtype: torch.dtype,
    model_name: str,
    progress: ProgressCallback | None = None,
    cancel: threading.Event | None = None,
) -> list[Prediction]:
    """The prediction of each image by itself, as if each had been given alone.

    Args:
        images: B images that come to one size, see :func:`~depth_anything_3.infer.preprocess.plan_resize`.
        preprocessing, options, model_name: as for a single scene; no Gaussians, features or refinement.
        device, dtype: see :func:`~depth_anything_3.infer.runner.run_network`.

    Raises:
        InputError: the images come to different sizes, or an option asks for more than depth and cameras.
        ImageError: one of them cannot be read.
    """
    if options.infer_gs or options.export_feat_layers or options.refine != "off":
        raise InputError("options", "Gaussians, features or refinement", "depth and cameras alone")
    report = Reporter(progress, cancel)
    inputs = []
    for index, image in enumerate(images):
        inputs.append(preprocess([image], options=preprocessing))
        report("preprocess", index + 1, len(images))
    if len(sizes := {scene.images.shape for scene in inputs}) > 1:
        raise InputError("images", f"{len(sizes)} sizes after preprocessing", "images that come to one size")
    output = run_network(net, inputs, options, device=device, dtype=dtype, report=report)
    return [to_prediction(output.scene(index), scene, options, model_name) for index, scene in enumerate(inputs)]
