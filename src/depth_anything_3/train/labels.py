"""Depth that a teacher makes, in place of the data's own."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from depth_anything_3.errors import InputError
from depth_anything_3.model.da3 import DepthAnything3Net
from depth_anything_3.train.batch import Batch
from depth_anything_3.train.config import LabelOptions
from depth_anything_3.train.pseudo_labels import align_to_measured, simulate_sensor
from depth_anything_3.zoo.checkpoints import build_network, resolve


class Labeller:
    """A frozen teacher that labels batches.

    Args:
        options: which teacher, and from when on.
        device: where it runs.

    Raises:
        InputError: the options name no teacher.
    """

    def __init__(self, options: LabelOptions, device: torch.device) -> None:
        if options.teacher is None:
            raise InputError("labels.teacher", "nothing", "the checkpoint of a teacher")
        self.options = options
        teacher = build_network(resolve(options.teacher))
        assert isinstance(teacher, DepthAnything3Net)
        self.teacher = teacher.to(device).requires_grad_(False)

    def active(self, step: int, seed: int) -> bool:
        """Whether a step is supervised by labels; the same for all processes."""
        if step < self.options.from_step:
            return False
        return bool(np.random.default_rng([seed, step, 77]).random() < self.options.share)

    @torch.no_grad()
    def labels(self, batch: Batch, seed: int, autocast: torch.dtype | None) -> tuple[Tensor, Tensor]:
        """Aligned depth (B, N, H, W), 0 where there is none, and the measured depth that it was aligned to."""
        measured = batch.depth.flatten(0, 1)
        if self.options.simulate_sensor:
            rng = np.random.default_rng([seed, 3])
            measured = simulate_sensor(measured, rng, noise=self.options.sensor_noise)
        images = batch.images.flatten(0, 1)[:, None]
        with torch.autocast(images.device.type, autocast or torch.bfloat16, enabled=autocast is not None):
            depth = self.teacher.encode(images).depth[:, 0].float()
        aligned = depth
        if self.options.align:
            aligned, _ = align_to_measured(depth, measured, generator=torch.Generator().manual_seed(seed))
        aligned = torch.where(batch.sky.flatten(0, 1), 0.0, aligned)
        return aligned.view_as(batch.depth), measured.view_as(batch.depth)
