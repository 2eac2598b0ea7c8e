"""The facade: images in, prediction out."""

from __future__ import annotations

import os
import threading
import warnings
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from typing_extensions import Self

from depth_anything_3.cfg import create_object, load_config
from depth_anything_3.errors import CapabilityError, InputError
from depth_anything_3.export.base import (
    check_exportable,
    export_all,
    parse_formats,
    resolve_options,
    shared_defaults,
)
from depth_anything_3.infer.agreement import derived_confidence
from depth_anything_3.infer.device import DeviceLike, DtypeLike, choose_device, choose_dtype
from depth_anything_3.infer.metres import at_metric_size, with_metres_of
from depth_anything_3.infer.panorama import infer_panorama
from depth_anything_3.infer.postprocess import to_prediction
from depth_anything_3.infer.preprocess import check_cameras, preprocess, resize_pictures, with_anchors
from depth_anything_3.infer.rigs import check_rig, snap_to_rig
from depth_anything_3.infer.runner import Reporter, run_network
from depth_anything_3.infer.scenes import one_or_several
from depth_anything_3.infer.tiles import infer_tiles
from depth_anything_3.io.images import ImageSource, decode_image
from depth_anything_3.io.masks import MaskSource, as_mask_list
from depth_anything_3.io.sources import as_image_list
from depth_anything_3.model.da3 import Network
from depth_anything_3.registry import MODEL_REGISTRY
from depth_anything_3.types.cameras import Lens
from depth_anything_3.types.confidence import ConfidenceMaps
from depth_anything_3.types.inputs import Anchors, ModelInputs
from depth_anything_3.types.options import (
    CAMERA_SIGMA,
    PROCESS_RES,
    AlphaMode,
    ExtrinsicsConvention,
    GaussianSource,
    InferOptions,
    IntrinsicsOrigin,
    MetricFocal,
    MixedSizes,
    OutputSize,
    PreprocessOptions,
    ProcessMethod,
    RefineMode,
    VideoOptions,
    check_count,
)
from depth_anything_3.types.output import NetOutput
from depth_anything_3.types.panorama import Panorama
from depth_anything_3.types.prediction import Prediction
from depth_anything_3.types.progress import ProgressCallback
from depth_anything_3.types.rig import Rig
from depth_anything_3.zoo.bundled import bundled_with_gaussians
from depth_anything_3.zoo.cards import CARDS, warn_on_load
from depth_anything_3.zoo.checkpoints import build_network, resolve, save

Masks = str | os.PathLike[str] | Sequence[MaskSource | None] | npt.NDArray[Any] | None
Images = ImageSource | Sequence[ImageSource]


class DepthAnything3(nn.Module):
    """A network with everything around it that turns images into geometry.

    One instance may serve several threads: inference keeps no state in it.

    Args:
        model_name: a preset of :data:`depth_anything_3.registry.MODEL_REGISTRY`. Its weights are random; use
            :meth:`from_pretrained` for trained ones.
        config: a configuration (see :mod:`depth_anything_3.cfg`) to build instead of the preset's.
        device, dtype: where and in which precision to run; by default what suits the machine, see
            :mod:`depth_anything_3.infer.device`.

    Attributes:
        model: the network.
        fast: on the CPU, :meth:`inference` and :meth:`depth` run a twin of the network that gives the same numbers, to
            rounding, in less time and memory. False, or a forward hook on any of its modules, runs the network as it
            stands. See :mod:`depth_anything_3.model.fast`.
        model_name: the preset's name.
        config: its configuration.
        process_res: side in pixels that :meth:`inference` scales images to unless told otherwise: 504 for published
            networks, less for those that were trained on smaller pictures.
        origin: ``source``, ``revision`` and, where known, ``licence`` of the weights, or of those on this disk the name
            of their folder and a fingerprint, see :class:`~depth_anything_3.zoo.checkpoints.Checkpoint`; empty for
            random ones.
        metric_res: longest side in pixels at which its metres are right, where they depend on it; see
            :class:`~depth_anything_3.types.options.InferOptions`.
        confidence_maps: what its confidence is worth, or None where that was not measured.
        camera_sigma: how far off this network's cameras are, see :data:`~depth_anything_3.types.options.CAMERA_SIGMA`.

    Raises:
        UnknownNameError: no such preset (also a KeyError).
    """

    model: Network
    fast: bool = True
    process_res: int = PROCESS_RES
    camera_sigma: tuple[float, float] = CAMERA_SIGMA
    metric_res: int | None = None
    confidence_maps: ConfidenceMaps | None = None

    def __init__(
        self,
        model_name: str = "da3-large",
        *,
        config: Mapping[str, Any] | None = None,
        device: DeviceLike = None,
        dtype: DtypeLike = None,
    ) -> None:
        chosen = load_config(MODEL_REGISTRY[model_name]) if config is None else config
        self._set_up(create_object(chosen), model_name, chosen, device, dtype)

    def _set_up(
        self, network: nn.Module, model_name: str, config: Mapping[str, Any], device: DeviceLike, dtype: DtypeLike
    ) -> None:
        nn.Module.__init__(self)
        self.model_name, self.config = model_name, config
        self.origin: dict[str, str | None] = {}
        self._dtype = dtype
        self.model = network  # type: ignore[assignment]
        self.model.to(choose_device(device))
        choose_dtype(self.device, dtype)  # an unknown dtype is an error now, not at the first image
        self.eval()

    @classmethod
    def from_pretrained(
        cls,
        source: str | os.PathLike[str],
        *,
        revision: str | None = None,
        cache_dir: str | os.PathLike[str] | None = None,
        force_download: bool = False,
        local_files_only: bool = False,
        token: str | bool | None = None,
        device: DeviceLike = None,
        dtype: DtypeLike = None,
    ) -> Self:
        """Load trained weights. Every tensor must be there and fit; nothing is unpickled.

        Args:
            source: a hub id (``depth-anything/DA3-BASE``), a folder with ``config.json`` and ``model.safetensors``,
                one ``.safetensors`` file, or ``bundled``: the demonstration network that comes with the package.
            revision, cache_dir, force_download, local_files_only, token: for the hub, as in ``huggingface_hub``.
            device, dtype: see the class.

        Raises:
            HubError: the hub cannot be reached, or has no such model, revision or file.
            CheckpointError: damaged files, or tensors that are missing, unexpected or of another shape (by name).
            InputError: an unknown device or dtype, before anything is downloaded.
        """
        device = choose_device(device)
        choose_dtype(device, dtype)
        checkpoint = resolve(
            source,
            revision=revision,
            cache_dir=cache_dir,
            force_download=force_download,
            local_files_only=local_files_only,
            token=token,
        )
        warn_on_load(checkpoint.card)
        model = cls.__new__(cls)
        model._set_up(build_network(checkpoint), checkpoint.model_name, checkpoint.config, device, dtype)
        model.origin = checkpoint.origin
        model.process_res, model.camera_sigma = checkpoint.process_res, checkpoint.camera_sigma
        model.metric_res, model.confidence_maps = checkpoint.metric_res, checkpoint.confidence_maps
        return model

    def save_pretrained(self, folder: str | os.PathLike[str], *, overwrite: bool = False) -> Path:
        """Write ``config.json`` and ``model.safetensors``; :meth:`from_pretrained` reads them back bit for bit."""
        return save(
            self.model,
            folder,
            model_name=self.model_name,
            config=self.config,
            process_res=self.process_res,
            camera_sigma=self.camera_sigma,
            metric_res=self.metric_res,
            confidence_maps=self.confidence_maps,
            overwrite=overwrite,
        )

    @property
    def device(self) -> torch.device:
        """Where the weights are now."""
        return next(self.parameters()).device

    @property
    def dtype(self) -> torch.dtype:
        """The precision in which the transformer runs; weights stay float32."""
        return choose_dtype(self.device, self._dtype)

    def to(self, *args: Any, **kwargs: Any) -> Self:
        """Move the weights to a device; a dtype sets the precision to compute in and leaves the weights alone.

        A device that is not there gives a warning and the CPU.
        """
        values = [*args, *(kwargs[name] for name in ("device", "dtype") if kwargs.get(name) is not None)]
        for value in values:
            if isinstance(value, torch.dtype):
                self._dtype = choose_dtype(self.device, value)
            elif isinstance(value, (str, int, torch.device)) and not isinstance(value, bool):
                self.model.to(choose_device(value))
            elif isinstance(value, Tensor):
                self.model.to(value.device)
        return self

    @torch.inference_mode()
    def forward(
        self,
        image: Tensor,
        extrinsics: Tensor | None = None,
        intrinsics: Tensor | None = None,
        export_feat_layers: Sequence[int] | None = None,
        infer_gs: bool = False,
        use_ray_pose: bool = False,
        ref_view_strategy: str = "saddle_balanced",
    ) -> NetOutput:
        """The network on tensors: (B, N, 3, H, W) normalised images, and what
        :meth:`depth_anything_3.model.da3.DepthAnything3Net.forward` takes. Runs in this model's precision."""
        with torch.autocast(image.device.type, self.dtype, enabled=self.dtype != torch.float32):
            output: NetOutput = self.model(
                image, extrinsics, intrinsics, export_feat_layers, infer_gs, use_ray_pose, ref_view_strategy
            )
        return output

    @one_or_several
    def inference(
        self,
        image: Images,
        extrinsics: npt.ArrayLike | None = None,
        intrinsics: npt.ArrayLike | None = None,
        align_to_input_ext_scale: bool = True,
        infer_gs: bool = False,
        use_ray_pose: bool = False,
        ref_view_strategy: str = "saddle_balanced",
        render_exts: npt.ArrayLike | None = None,
        render_ixts: npt.ArrayLike | None = None,
        render_hw: tuple[int, int] | None = None,
        process_res: int | None = None,
        process_res_method: str = "upper_bound_resize",
        export_dir: str | os.PathLike[str] | None = None,
        export_format: str = "mini_npz",
        export_feat_layers: Sequence[int] | None = None,
        conf_thresh_percentile: float = 40.0,
        num_max_points: int = 1_000_000,
        show_cameras: bool = True,
        feat_vis_fps: int = 15,
        export_kwargs: Mapping[str, Mapping[str, Any]] | None = None,
        *,
        extrinsics_convention: ExtrinsicsConvention = "opencv_w2c",
        intrinsics_origin: IntrinsicsOrigin = "given",
        anchors: Anchors | None = None,
        gs_source: GaussianSource = "head",
        gs_refine: int = 0,
        rig: Rig | int | None = None,
        metric_focal: MetricFocal = "given",
        metric_res: int | None = None,
        shared_intrinsics: bool = False,
        square_pixels: bool = False,
        derive_confidence: bool = False,
        output_size: OutputSize = "processed",
        max_memory: float | None = None,
        key_pooling: int = 1,
        refine: RefineMode = "off",
        matcher: str = "sift",
        alpha: AlphaMode = "composite",
        clean: str | None = None,
        masks: Masks = None,
        mixed_sizes: MixedSizes = "crop",
        video: VideoOptions | None = None,
        progress: ProgressCallback | None = None,
        cancel: threading.Event | None = None,
    ) -> Prediction:
        """Depth, cameras and more for the views of one scene. Everything is checked before the network runs.

        Args:
            image: the N views: paths, arrays, PIL images, bytes; or the path of a folder of photos. The path of a video
                stands for frames of it. A list of lists stands for several scenes: they are inferred one after the
                other, ``extrinsics``, ``intrinsics`` and ``masks`` have an entry for each, files go to ``scene_0000``,
                ..., and the result is a tuple. For images that have nothing to do with each other see :meth:`depth`.
            video: which frames; None takes 32, spread evenly.
            extrinsics: (N, 3, 4) or (N, 4, 4) world-to-camera poses, OpenCV axes, to condition on and to return. None
                or NaN for a view whose pose is not known: then none conditions the network, and the result is aligned
                to the given ones.
            intrinsics: (N, 3, 3) in pixels of the upright source images; needed with ``extrinsics`` of all views. Given
                alone they do not influence the network, except for its metres, and are returned at processed size.
            extrinsics_convention: what ``extrinsics`` mean, if not world-to-camera with OpenCV axes; see
                :data:`~depth_anything_3.types.options.ExtrinsicsConvention`.
            intrinsics_origin: where ``intrinsics`` come from, for :attr:`Prediction.metric_focal` and for refinement,
                which keeps those of a calibration; what :func:`~depth_anything_3.io.cameras.given.open_views` read says
                it of itself.
            anchors: cameras of the first views that the network is told, and nothing else is done with: cameras and
                depth come as it says them, in a world of its own. No published network was trained on some views with
                and some without cameras: compare what it says of the first ones with what it was told.
            rig: the views are those of C fixed cameras at T times, all cameras of the first time first. A known rig
                sets unit and relative poses, with its intrinsics where it has any; at a single time it conditions the
                network. The number of cameras of an unknown one lets it be estimated, once for all times. See
                :mod:`depth_anything_3.infer.rigs`.
            align_to_input_ext_scale, infer_gs, gs_source, gs_refine, use_ray_pose, ref_view_strategy,
                export_feat_layers, metric_focal, metric_res, shared_intrinsics, square_pixels, derive_confidence,
                output_size, max_memory, key_pooling, refine, matcher: see
                :class:`~depth_anything_3.types.options.InferOptions`. With ``refine="full"`` maps are at least 504
                pixels long (but never longer than the pictures), whatever ``process_res`` is, unless a Gaussian head
                has predicted for other pixels. Gaussians are in the world and the unit of depth and poses.
            masks: what of each view to use, for refinement, lengths, points, surfaces and files; the network sees all.
                One per view (True or white keeps a pixel; a path or an array of the size of the upright photo), None
                in its place, or a folder with pictures named like the photos.
            process_res, process_res_method, alpha, mixed_sizes: see
                :class:`~depth_anything_3.types.options.PreprocessOptions`; the default of ``process_res`` is this
                model's own, :attr:`process_res`.
            export_dir: folder for files; None writes none.
            export_format: format names joined by ``-``.
            conf_thresh_percentile, num_max_points, show_cameras, feat_vis_fps, clean: options of the formats that have
                them, see :func:`~depth_anything_3.export.base.shared_defaults`; ``clean`` names a preset of
                :data:`~depth_anything_3.types.options.CLEAN_PRESETS`.
            export_kwargs: format -> options; wins over the arguments above.
            render_exts, render_ixts, render_hw: world-to-camera poses (M, 3, 4) or (M, 4, 4), intrinsics (M, 3, 3) and
                height and width of the pictures of ``gs_video``: the frames of a trajectory of your own.
            progress: called after each image and transformer block, and before and after each format.
            cancel: set it from another thread to stop; :class:`~depth_anything_3.errors.Cancelled` is raised.

        Raises:
            InputError: a wrong argument; the message names it and the alternatives.
            CapabilityError: the model cannot do what was asked.
            Cancelled: ``cancel`` was set.
        """
        report = Reporter(progress, cancel)
        options = InferOptions(
            align_to_input_ext_scale=align_to_input_ext_scale,
            infer_gs=infer_gs,
            gs_source=gs_source,
            gs_refine=gs_refine,
            use_ray_pose=use_ray_pose,
            ref_view_strategy=ref_view_strategy,  # type: ignore[arg-type]
            export_feat_layers=tuple(export_feat_layers or ()),
            refine=refine,
            matcher=matcher,
            metric_focal=metric_focal,
            metric_res=metric_res,
            shared_intrinsics=shared_intrinsics,
            square_pixels=square_pixels,
            derive_confidence=derive_confidence,
            output_size=output_size,
            max_memory=max_memory,
            key_pooling=key_pooling,
        )
        preprocessing = PreprocessOptions(
            process_res=self.process_res if process_res is None else process_res,
            process_res_method=process_res_method,  # type: ignore[arg-type]
            alpha=alpha,
            mixed_sizes=mixed_sizes,
        )
        sources = as_image_list(image, video)
        given_masks = as_mask_list(masks, sources)
        if rig is not None:
            check_rig(rig, len(sources), with_poses=extrinsics is not None, infer_gs=infer_gs and gs_source == "head")
            extrinsics, intrinsics = self._cameras_of_rig(rig, len(sources), intrinsics)
            if extrinsics is None and refine != "off":
                raise InputError("refine", f"{refine!r} with a rig", "'off': refined views would not keep the rig")
        given, _ = check_cameras(extrinsics, intrinsics, len(sources), convention=extrinsics_convention)
        all_given = given is not None and bool(np.isfinite(given).all())
        told = all_given or anchors is not None
        self.check_options(options, with_poses=told, views=len(sources), with_intrinsics=intrinsics is not None)
        if given is not None and "cameras" not in self.model.abilities:
            raise CapabilityError(
                "extrinsics", "poses", f"none: {self.model_name} predicts no cameras to align to them"
            )
        general = {
            "conf_thresh_percentile": conf_thresh_percentile,
            "num_max_points": num_max_points,
            "show_cameras": show_cameras,
            "feat_vis_fps": feat_vis_fps,
            "clean": clean,
            "export_feat_layers": options.export_feat_layers,
            **_frames_to_render(render_exts, render_ixts, render_hw),
        }
        formats = _formats(export_dir is not None, str(export_format), general, export_kwargs)
        known = self.predicted_fields(options, views=len(sources), with_intrinsics=intrinsics is not None)
        check_exportable(formats, known)

        inputs = preprocess(
            sources,
            extrinsics=extrinsics,
            intrinsics=intrinsics,
            extrinsics_convention=extrinsics_convention,
            intrinsics_origin=intrinsics_origin,
            masks=given_masks,
            options=preprocessing,
            on_image=lambda done, total: report("preprocess", done, total),
        )
        _check_output_size(inputs, options)
        if anchors is not None:
            inputs = with_anchors(inputs, anchors)
        output = self._run([inputs], options, report)
        prediction = to_prediction(output, inputs, options, self.model_name)
        prediction = self._in_metres([prediction], [inputs], options, report)[0]
        prediction = self._with_confidence(prediction, inputs, options, report)
        if rig is not None and given is None:
            prediction = snap_to_rig(prediction, rig)
        elif isinstance(rig, Rig):
            prediction = replace(prediction, rig=rig)
        report("postprocess", 1, 1)
        if options.refine != "off":
            report("refine", 0, 1)
            prediction = self._refined(prediction, inputs, sources, options, preprocessing, given=all_given)
            report("refine", 1, 1)
        prediction = _with_gaussians(prediction, options, report)
        prediction = _at_size(prediction, sources, options)
        if export_dir is not None:
            self._export(prediction, Path(export_dir), formats, report)
        return prediction

    def panorama(
        self,
        image: ImageSource,
        *,
        intrinsics: npt.ArrayLike | None = None,
        lens: Lens | None = None,
        fov_deg: float = 100.0,
        process_res: int | None = None,
        progress: ProgressCallback | None = None,
        cancel: threading.Event | None = None,
    ) -> Panorama:
        """Distances all around one place: from an equirectangular picture, or through a lens that no pinhole replaces.

        The picture is split into pinhole views with known relative poses, see :mod:`depth_anything_3.infer.panorama`.

        Args:
            image: equirectangular, 360 by 180 degrees, twice as wide as high; or through ``lens``.
            intrinsics: 3x3 camera matrix in pixels of the picture; with ``lens`` only.
            lens: the fisheye lens.
            fov_deg: of the pinhole views; above 90 for panoramas.
            process_res, progress, cancel: as in :meth:`inference`.

        Raises:
            InputError: a picture of another shape, or a lens without intrinsics.
            ImageError: the picture cannot be read.
            Cancelled: ``cancel`` was set.
        """
        conditioned = "pose_conditioning" in self.model.abilities

        def predict(
            images: Sequence[npt.NDArray[np.uint8]], extrinsics: npt.ArrayLike, intrinsics: npt.ArrayLike
        ) -> Prediction:
            with warnings.catch_warnings():
                warnings.filterwarnings("ignore", message="extrinsics: one view, or views that share one place")
                return self.inference(
                    list(images),
                    extrinsics if conditioned else None,
                    intrinsics,
                    process_res=process_res,
                    progress=progress,
                    cancel=cancel,
                )

        matrix = None if intrinsics is None else check_cameras(None, [intrinsics], 1)[1]
        pixels = decode_image(image, index=0, alpha="composite").pixels
        return infer_panorama(
            predict, pixels, intrinsics=None if matrix is None else matrix[0], lens=lens, fov_deg=fov_deg
        )

    def tiled(
        self,
        image: ImageSource,
        *,
        intrinsics: npt.ArrayLike | None = None,
        intrinsics_origin: IntrinsicsOrigin = "given",
        tile: int | None = None,
        overlap: float = 0.25,
        process_res: int | None = None,
        progress: ProgressCallback | None = None,
        cancel: threading.Event | None = None,
    ) -> Prediction:
        """Depth of one large picture at its own size: by tiles, with the scale of the whole picture.

        Args:
            image: the picture.
            intrinsics: 3x3 camera matrix in its pixels.
            intrinsics_origin: as for :meth:`inference`.
            tile: side of a tile in pixels of the picture; ``process_res`` if None, so that tiles are not made smaller.
            overlap: share of a tile that its neighbour shows too, up to a half.
            process_res, progress, cancel: as in :meth:`inference`.

        Raises:
            InputError: a number is out of range.
            ImageError: the picture cannot be read.
            Cancelled: ``cancel`` was set.
        """

        def predict(pixels: npt.NDArray[np.uint8], matrix: npt.NDArray[np.float64] | None) -> Prediction:
            known = None if matrix is None else matrix[None]
            return self.inference(
                [pixels],
                intrinsics=known,
                intrinsics_origin=intrinsics_origin,
                process_res=process_res,
                progress=progress,
                cancel=cancel,
            )

        matrix = None if intrinsics is None else check_cameras(None, [intrinsics], 1)[1]
        pixels = decode_image(image, index=0, alpha="composite").pixels
        side = tile or process_res or self.process_res
        return infer_tiles(
            predict, pixels, tile=side, overlap=overlap, intrinsics=None if matrix is None else matrix[0]
        )

    def _in_metres(
        self, found: list[Prediction], inputs: Sequence[ModelInputs], options: InferOptions, report: Reporter
    ) -> list[Prediction]:
        """Predictions of scenes of equal size; those in metres have the metres of ``metric_res``."""
        side = self.metric_res if options.metric_res is None else options.metric_res
        if not all(prediction.is_metric and prediction.metric_focal is not None for prediction in found):
            if options.metric_res is not None:
                warnings.warn("metric_res has no effect: no metric network makes the unit here", stacklevel=3)
            return found
        again = [] if side is None else [at_metric_size(scene, side) for scene in inputs]
        scenes = [scene for scene in again if scene is not None]
        if not scenes:
            return found
        plain = replace(options, export_feat_layers=(), infer_gs=False, shared_intrinsics=False, square_pixels=False)
        output = self._run(scenes, plain, report)
        seen = [to_prediction(output.scene(k), scenes[k], plain, self.model_name) for k in range(len(scenes))]
        return [with_metres_of(prediction, small) for prediction, small in zip(found, seen, strict=True)]

    def _with_confidence(
        self, prediction: Prediction, inputs: ModelInputs, options: InferOptions, report: Reporter
    ) -> Prediction:
        """The confidence that was asked for, and what it is worth."""
        prediction = self._with_worth(prediction, derived=options.derive_confidence)
        if not options.derive_confidence:
            return prediction

        def predict(changed: ModelInputs) -> npt.NDArray[np.float32]:
            again = replace(options, export_feat_layers=(), infer_gs=False, use_ray_pose=False)
            found = self._run([changed], again, report)
            depth: npt.NDArray[np.float32] = found.depth[0].float().cpu().numpy()
            return depth

        return replace(prediction, conf=derived_confidence(prediction.depth, inputs, predict))

    def _with_worth(self, prediction: Prediction, *, derived: bool) -> Prediction:
        maps = self.confidence_maps
        if maps is None or not (derived or "conf" in self.model.abilities):
            return prediction
        return replace(prediction, confidence_map=maps.of(len(prediction.depth), derived=derived))

    def _cameras_of_rig(
        self, rig: Rig | int, views: int, intrinsics: npt.ArrayLike | None
    ) -> tuple[npt.ArrayLike | None, npt.ArrayLike | None]:
        """What a rig says of the cameras of all views: poses only where there is one time and all else is known."""
        if "cameras" not in self.model.abilities:
            raise CapabilityError("rig", "a rig", f"none: {self.model_name} predicts no cameras")
        if isinstance(rig, int):
            return None, intrinsics
        if intrinsics is None and rig.intrinsics is not None:
            intrinsics = np.tile(rig.intrinsics, (views // len(rig), 1, 1))
        known = views == len(rig) and intrinsics is not None and "pose_conditioning" in self.model.abilities
        return rig.camera_from_rig if known else None, intrinsics

    def depth(
        self,
        image: Images,
        *,
        intrinsics: npt.ArrayLike | None = None,
        intrinsics_origin: IntrinsicsOrigin = "given",
        masks: Masks = None,
        batch_size: int = 8,
        process_res: int | None = None,
        process_res_method: ProcessMethod = "upper_bound_resize",
        alpha: AlphaMode = "composite",
        video: VideoOptions | None = None,
        metric_focal: MetricFocal = "given",
        metric_res: int | None = None,
        output_size: OutputSize = "processed",
        progress: ProgressCallback | None = None,
        cancel: threading.Event | None = None,
    ) -> tuple[Prediction, ...]:
        """Depth of images that have nothing to do with each other: each is a scene of its own.

        Images may differ in size; none is cropped or padded for another. What comes out for an image depends neither on
        the others nor on ``batch_size``, to within rounding (relative 1e-6 on the CPU).

        Args:
            image, masks, video, progress, cancel: as for :meth:`inference`, but nested lists.
            intrinsics: (N, 3, 3) in pixels of the upright source images.
            intrinsics_origin: as for :meth:`inference`.
            batch_size: at most so many images of equal size go through the network at once.
            process_res, process_res_method, alpha, metric_focal, metric_res, output_size: as for
                :meth:`inference`.

        Returns:
            N predictions of one view.

        Raises:
            InputError: a wrong argument.
            Cancelled: ``cancel`` was set.
        """
        options = InferOptions(metric_focal=metric_focal, metric_res=metric_res, output_size=output_size)
        preprocessing = PreprocessOptions(
            process_res=self.process_res if process_res is None else process_res,
            process_res_method=process_res_method,
            alpha=alpha,
        )
        check_count("batch_size", batch_size, optional=True)
        sources = as_image_list(image, video)
        _, calibrations = check_cameras(None, intrinsics, len(sources))
        given_masks = as_mask_list(masks, sources)
        report = Reporter(progress, cancel)

        def prepared(i: int) -> ModelInputs:
            lens = None if calibrations is None else calibrations[i : i + 1]
            return preprocess(
                [sources[i]],
                intrinsics=lens,
                intrinsics_origin=intrinsics_origin,
                masks=[given_masks[i]],
                options=preprocessing,
                first=i,
            )

        found: list[Prediction] = []
        with ThreadPoolExecutor(min(8, batch_size), thread_name_prefix="preprocess") as workers:
            for start in range(0, len(sources), batch_size):
                part = range(start, min(start + batch_size, len(sources)))
                inputs = list(workers.map(prepared, part))
                report("preprocess", part.stop, len(sources))
                views = zip(self._each(inputs, options, report), part, strict=True)
                found += [_at_size(prediction, [sources[i]], options) for prediction, i in views]
        return tuple(found)

    def _each(self, inputs: Sequence[ModelInputs], options: InferOptions, report: Reporter) -> list[Prediction]:
        """Predictions of scenes in their order; those of equal size go through the network together."""
        sizes: dict[tuple[int, ...], list[int]] = {}
        for i, scene in enumerate(inputs):
            sizes.setdefault(scene.images.shape, []).append(i)
        found: dict[int, Prediction] = {}
        for places in sizes.values():
            batch = [inputs[i] for i in places]
            output = self._run(batch, options, report)
            made = [to_prediction(output.scene(k), batch[k], options, self.model_name) for k in range(len(batch))]
            for i, prediction in zip(places, self._in_metres(made, batch, options, report), strict=True):
                found[i] = self._with_worth(prediction, derived=False)
        return [found[i] for i in range(len(inputs))]

    @torch.inference_mode()
    def local_tokens(
        self, image: Images, *, process_res: int | None = None, process_res_method: str = "upper_bound_resize"
    ) -> npt.NDArray[np.float32]:
        """Patch tokens of the last block in which every view only sees itself: what tells places apart.

        Only that part of the network runs.

        Args:
            image, process_res, process_res_method: as of :meth:`inference`; all views of one size.

        Returns:
            (N, H/14 * W/14, C).
        """
        options = PreprocessOptions(
            process_res=self.process_res if process_res is None else process_res,
            process_res_method=process_res_method,  # type: ignore[arg-type]
        )
        inputs = preprocess(as_image_list(image), options=options)
        images = torch.from_numpy(inputs.images)[None].to(self.device)
        with torch.autocast(self.device.type, self.dtype, enabled=self.dtype != torch.float32):
            tokens = self.model.local_tokens(images)
        return tokens[0].float().cpu().numpy()

    def _run(self, scenes: Sequence[ModelInputs], options: InferOptions, report: Reporter) -> NetOutput:
        return run_network(
            self.model, scenes, options, device=self.device, dtype=self.dtype, report=report, fast=self.fast
        )

    def _refined(
        self,
        prediction: Prediction,
        inputs: ModelInputs,
        sources: Sequence[ImageSource],
        options: InferOptions,
        preprocessing: PreprocessOptions,
        *,
        given: bool,
    ) -> Prediction:
        from depth_anything_3.refine.matches import best_patches_of
        from depth_anything_3.refine.prediction import Pictures, refine_prediction
        from depth_anything_3.refine.scene import FEATURE_SIZE

        def pictures(most: int) -> Pictures:
            pixels, records = resize_pictures(sources, most=most, options=preprocessing)
            return Pictures(pixels=pixels, records=records)

        small = max(prediction.depth.shape[1:]) < PROCESS_RES and prediction.gaussians is None
        refined = refine_prediction(
            prediction,
            pictures(FEATURE_SIZE),
            mode=options.refine,
            grid=pictures(PROCESS_RES) if small and options.refine == "full" and len(sources) > 1 else None,
            camera_sigma=self.camera_sigma,
            cameras_given=given,
            lenses_from=None if inputs.intrinsics is None else inputs.intrinsics_origin,
            matcher=options.matcher,
            patches=lambda: best_patches_of(self.model, inputs, device=self.device, dtype=self.dtype),
            device=self.device,
        )
        # Other depth, other confidence: what these are worth was not measured.
        return replace(refined, confidence_map=None) if options.refine == "full" else refined

    def _export(self, prediction: Prediction, folder: Path, formats: Mapping[str, Any], report: Reporter) -> None:
        def on_format(name: str, done: int, total: int) -> None:
            report("export", done, total, name)

        export_all(prediction, folder, formats, on_format=on_format, model=self.origin)

    def check_options(
        self, options: InferOptions, *, with_poses: bool = False, views: int = 1, with_intrinsics: bool = False
    ) -> None:
        """Refuse what this model cannot do; warn of what will have no effect.

        Raises:
            CapabilityError: poses without a pose encoder, Gaussians without a Gaussian head, or plain ones without
                cameras.
            InputError: feature layers that do not exist.
        """
        abilities = self.model.abilities
        if with_poses and "pose_conditioning" not in abilities:
            raise CapabilityError("extrinsics", "poses", f"none: {self.model_name} has no pose encoder")
        self._check_gaussians(options)
        if options.refine != "off" and "cameras" not in abilities:
            raise CapabilityError("refine", repr(options.refine), f"'off': {self.model_name} predicts no cameras")
        self._check_matcher(options)
        self._check_lens_options(options, with_intrinsics)
        if wrong := [i for i in options.export_feat_layers if i not in range(self.model.depth)]:
            raise InputError("export_feat_layers", str(wrong), f"block indices from 0 to {self.model.depth - 1}")
        if options.use_ray_pose and "rays" not in abilities:
            warnings.warn(f"use_ray_pose has no effect: {self.model_name} predicts no rays", stacklevel=3)
        if options.ref_view_strategy != InferOptions.ref_view_strategy and (with_poses or views < 3):
            warnings.warn("ref_view_strategy has no effect with given poses or fewer than three views", stacklevel=3)

    def _check_matcher(self, options: InferOptions) -> None:
        from depth_anything_3.refine.matchers import matcher_names
        from depth_anything_3.refine.matches import matching_backbone

        names = matcher_names(options.matcher)
        if options.refine == "off":
            if options.matcher != InferOptions.matcher:
                warnings.warn("matcher has no effect without refine", stacklevel=4)
        elif "attention" in names:
            matching_backbone(self.model)

    def _check_gaussians(self, options: InferOptions) -> None:
        if not options.infer_gs:
            for name in ("gs_source", "gs_refine"):
                if getattr(options, name) != getattr(InferOptions, name):
                    warnings.warn(f"{name} has no effect without infer_gs=True", stacklevel=4)
            return
        abilities = self.model.abilities
        if "cameras" not in abilities:
            raise CapabilityError(
                "infer_gs", "True", f"False: {self.model_name} has no Gaussian head and no cameras to place any with"
            )
        if options.gs_source == "head" and "gaussians" not in abilities:
            with_head = [card.hub_id for card in CARDS if card.gaussians and not card.deprecated]
            raise CapabilityError(
                "infer_gs",
                "True",
                f"False: {self.model_name} has no Gaussian head. gs_source='depth' makes plain Gaussians of its depth",
                [*with_head, *bundled_with_gaussians()],
            )

    def _check_lens_options(self, options: InferOptions, with_intrinsics: bool) -> None:
        for name in ("shared_intrinsics", "square_pixels"):
            if not getattr(options, name):
                continue
            if options.infer_gs and options.gs_source == "head":
                raise InputError(name, "True with infer_gs", "one of the two, or gs_source='depth'")
            if with_intrinsics or "cameras" not in self.model.abilities:
                why = "intrinsics are given" if with_intrinsics else f"{self.model_name} predicts no cameras"
                warnings.warn(f"{name} has no effect: {why}", stacklevel=4)

    def predicted_fields(
        self, options: InferOptions, *, views: int | None = None, with_intrinsics: bool = False
    ) -> frozenset[str]:
        """Names of the fields of :class:`Prediction` that an inference with these options will fill."""
        abilities = self.model.abilities
        cameras = "cameras" in abilities or (options.use_ray_pose and "rays" in abilities)
        present = {
            "extrinsics": cameras or (with_intrinsics and views == 1),
            "intrinsics": cameras or with_intrinsics,
            "conf": "conf" in abilities or options.derive_confidence,
            "sky": "sky" in abilities,
            "sky_prob": "sky" in abilities,
            "gaussians": options.infer_gs,
            "scale_factor": "metric" in abilities,
            "aux": bool(options.export_feat_layers),
        }
        return frozenset(
            {"depth", "valid", "processed_images", "names", "records", *(n for n, there in present.items() if there)}
        )


def _frames_to_render(
    extrinsics: npt.ArrayLike | None, intrinsics: npt.ArrayLike | None, size: tuple[int, int] | None
) -> dict[str, object]:
    """What to render, as plain data."""
    return {
        "render_exts": None if extrinsics is None else np.asarray(extrinsics).tolist(),
        "render_ixts": None if intrinsics is None else np.asarray(intrinsics).tolist(),
        "render_hw": None if size is None else tuple(size),
    }


def _with_gaussians(prediction: Prediction, options: InferOptions, report: Reporter) -> Prediction:
    """With Gaussians from the depth, and with Gaussians optimised, where that was asked for."""
    if options.infer_gs and options.gs_source == "depth":
        from depth_anything_3.splat.from_depth import plain_gaussians

        prediction = replace(prediction, gaussians=plain_gaussians(prediction))
    if options.infer_gs and options.gs_refine:
        from depth_anything_3.splat.refine import with_refined_gaussians

        return with_refined_gaussians(
            prediction, options.gs_refine, on_step=lambda done, total: report("refine", done, total, "gaussians")
        )
    return prediction


def _check_output_size(inputs: ModelInputs, options: InferOptions) -> None:
    sizes = sorted({record.source_hw for record in inputs.records})
    if options.output_size == "input" and len(sizes) > 1:
        raise InputError(
            "output_size", f"'input' with pictures of several sizes {sizes}", "'processed', or pictures of one size"
        )


def _at_size(prediction: Prediction, sources: Sequence[ImageSource], options: InferOptions) -> Prediction:
    """On the pixels that were asked for."""
    if options.output_size == "processed":
        return prediction
    from depth_anything_3.refine.input_resolution import at_input_resolution

    return at_input_resolution(prediction, sources)


def _formats(
    writes: bool, names: str, general: dict[str, object], export_kwargs: Mapping[str, Mapping[str, Any]] | None
) -> dict[str, Any]:
    """Formats that will be written, with their options; none where nothing is written. Warns of arguments in vain."""
    drawn = writes and "gs_video" in names
    ignored = {name: None if drawn else general[name] for name in ("render_exts", "render_ixts", "render_hw")}
    ignored["feat_vis_fps"] = None if general["feat_vis_fps"] == 15 or "feat_vis" in names else True
    ignored["export_kwargs"] = None if writes else export_kwargs
    if given := [name for name, value in ignored.items() if value is not None]:
        warnings.warn(f"{', '.join(given)}: no effect, because no format that is exported here reads it", stacklevel=3)
    return resolve_options(parse_formats(names), export_kwargs, shared_defaults(general)) if writes else {}
