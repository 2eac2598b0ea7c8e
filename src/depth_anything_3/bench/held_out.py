"""The protocol "held-out" on the frozen scenes of the procedural world, and models as predictors."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, get_args

import numpy as np
import numpy.typing as npt
import torch

from depth_anything_3.api import DepthAnything3
from depth_anything_3.bench.evaluate import Estimate, Floats, Predictor
from depth_anything_3.bench.novel_views import draw
from depth_anything_3.bench.scenes import EvalScene, scene_from_rendering
from depth_anything_3.bench.task import Targets
from depth_anything_3.model.attention_tap import AttentionTap, tapped
from depth_anything_3.model.dinov2.vision_transformer import DinoVisionTransformer
from depth_anything_3.refine.cameras import cameras_from_matches
from depth_anything_3.refine.matches import MATCHING_BLOCKS, best_patches, read_matches
from depth_anything_3.synth.held_out import held_out, render_held_out
from depth_anything_3.types.options import PATCH_SIZE, GaussianSource

CameraSource = Literal["decoder", "rays", "matches"]
CAMERA_SOURCES: tuple[str, ...] = get_args(CameraSource)


@dataclass(frozen=True, kw_only=True, eq=False)
class ModelPredictor:
    """A model as it is used by everyone.

    Attributes:
        model: any of ours; one without cameras scores only depth.
        process_res: longest side in pixels at which it runs; None for the model's own.
        cameras: where they come from: ``decoder``; ``rays``; or ``matches``, those of the decoder being replaced by
            what the matches in the network's attention and its depth say together.
        given_cameras: whether to run with given cameras, where it makes no difference where others come from.
        refine: what inference is asked for by its keyword of this name; None leaves the keyword out.
        ref_view: likewise ``ref_view_strategy``; cameras from matches of more than two views take the first anyway.
        gs_source: where Gaussians for unseen views come from: the ``head``, or plain ones from the ``depth``; None
            takes the head of a model that has one.
    """

    model: DepthAnything3
    process_res: int | None = None
    cameras: CameraSource = "decoder"
    given_cameras: bool = True
    refine: str | None = None
    ref_view: str = "saddle_balanced"
    gs_source: GaussianSource | None = None

    def __call__(
        self, images: list[npt.NDArray[np.uint8]], *, extrinsics: Floats | None, intrinsics: Floats | None
    ) -> Estimate:
        """As :class:`~depth_anything_3.bench.evaluate.Predictor`; given cameras condition the model."""
        more: dict[str, Any] = {} if self.refine is None else {"refine": self.refine}
        matched = self.cameras == "matches" and extrinsics is None and len(images) > 1
        blocks = MATCHING_BLOCKS if matched else ()
        with tapped(_across_views(self.model), blocks) as taps:
            prediction = self.model.inference(
                images,
                extrinsics=extrinsics,
                intrinsics=intrinsics,
                process_res=self.process_res,
                use_ray_pose=self.cameras == "rays",
                ref_view_strategy=_reference(self.ref_view, matched, images, extrinsics),
                **more,
            )
        estimate = Estimate(
            depth=prediction.depth,
            extrinsics=prediction.extrinsics,
            intrinsics=prediction.intrinsics,
            conf=prediction.conf,
        )
        return _from_matches(estimate, taps) if matched else estimate

    def novel_views(
        self, images: list[npt.NDArray[np.uint8]], *, extrinsics: Floats, intrinsics: Floats, targets: Targets
    ) -> npt.NDArray[np.uint8]:
        """As :class:`~depth_anything_3.bench.evaluate.ViewPredictor`, by Gaussians of the images."""
        has_head = "gaussians" in self.model.model.abilities
        more: dict[str, Any] = {} if self.refine is None else {"refine": self.refine}
        prediction = self.model.inference(
            images,
            extrinsics=extrinsics,
            intrinsics=intrinsics,
            infer_gs=True,
            gs_source=self.gs_source or ("head" if has_head else "depth"),
            process_res=self.process_res,
            **more,
        )
        assert prediction.gaussians is not None
        return draw(prediction.gaussians, targets.extrinsics, targets.intrinsics, targets.size)


def _reference(wanted: str, matched: bool, images: Sequence[object], extrinsics: Floats | None) -> str:
    """The strategy; without effect, and not to be asked for, with given poses or fewer than three views."""
    if len(images) < 3 or extrinsics is not None:
        return "saddle_balanced"
    return "first" if matched else wanted


def _across_views(model: DepthAnything3) -> DinoVisionTransformer:
    """The backbone, of a nested model that for any number of views."""
    return next(module for module in model.modules() if isinstance(module, DinoVisionTransformer))


def _from_matches(estimate: Estimate, taps: Sequence[AttentionTap]) -> Estimate:
    assert estimate.depth is not None and estimate.extrinsics is not None and estimate.intrinsics is not None
    views, height, width = estimate.depth.shape
    grid = (height // PATCH_SIZE, width // PATCH_SIZE)
    found = cameras_from_matches(
        read_matches(taps, views, grid),
        torch.tensor(estimate.depth),
        torch.tensor(estimate.intrinsics),
        initial=torch.tensor(estimate.extrinsics),
    )
    return replace(
        estimate,
        depth=estimate.depth * found.depth_scale.numpy()[:, None, None],
        extrinsics=found.extrinsics.numpy(),
        intrinsics=found.intrinsics.numpy(),
        patch_matches=best_patches(taps, views, grid).cpu().numpy(),
    )


def model_predictors(
    models: Sequence[str],
    cameras: Sequence[CameraSource],
    *,
    process_res: int | None = None,
    others: Mapping[str, Predictor] | None = None,
) -> dict[str, Predictor]:
    """Every model with cameras from every source, named ``MODEL, SOURCE``; with given cameras only from the first.

    Args:
        models: hub ids, folders or files.
        cameras: sources.
        process_res: as in :class:`ModelPredictor`.
        others: predictors that come first.
    """
    loaded = {name: DepthAnything3.from_pretrained(name) for name in models}
    return {
        **(others or {}),
        **{
            f"{name}, {source}": ModelPredictor(
                model=model, process_res=process_res, cameras=source, given_cameras=source == cameras[0]
            )
            for name, model in loaded.items()
            for source in cameras
        },
    }


def held_out_scenes(count: int | None = None) -> Iterator[EvalScene]:
    """The frozen scenes, rendered one at a time.

    Args:
        count: only so many, evenly spaced over the set; None for all 200.
    """
    specs = held_out()
    if count is not None:
        specs = tuple(specs[i] for i in np.linspace(0, len(specs) - 1, count).round().astype(int))
    for spec in specs:
        sample = render_held_out(spec)
        yield scene_from_rendering(
            spec.name,
            spec.slices,
            rgb=sample.rgb,
            depth=sample.depth,
            intrinsics=sample.intrinsics,
            extrinsics=sample.extrinsics,
            sky=sample.sky,
        )
