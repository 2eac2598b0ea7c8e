"""``DepthAnything3``: the facade's behaviour, and bad input."""

from __future__ import annotations

import io
import threading
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from support.networks import build, fill_weights, miniature, node, small_gaussians, small_metric
from support.videos import write_video

from depth_anything_3 import DepthAnything3, Prediction, VideoOptions
from depth_anything_3.errors import Cancelled, CapabilityError, ImageError, InputError
from depth_anything_3.infer.preprocess import preprocess
from depth_anything_3.types.options import PreprocessOptions
from depth_anything_3.types.progress import Progress

RES = 56
K = np.array([[60.0, 0, 40], [0, 60, 30], [0, 0, 1]])


def loaded(name: str, config: dict[str, Any]) -> DepthAnything3:
    model = DepthAnything3(name, config=config, device="cpu")
    fill_weights(model)
    return model


@pytest.fixture(scope="module")
def model() -> DepthAnything3:
    return loaded("miniature", miniature())


@pytest.fixture(scope="module")
def metric_model() -> DepthAnything3:
    return loaded("small-metric", small_metric())


@pytest.fixture(scope="module")
def gaussian_model() -> DepthAnything3:
    return loaded("small-gaussians", small_gaussians())


def photos(count: int, height: int = 60, width: int = 80) -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    return list(rng.integers(0, 256, (count, height, width, 3), dtype=np.uint8))


def poses(centres: np.ndarray, seed: int = 0) -> np.ndarray:
    """World-to-camera poses at ``centres`` with slightly different orientations."""
    rng = np.random.default_rng(seed)
    result = np.tile(np.eye(4), (len(centres), 1, 1))
    for pose, centre in zip(result, centres, strict=True):
        angle = rng.uniform(-0.3, 0.3)
        pose[:3, :3] = [[np.cos(angle), 0, np.sin(angle)], [0, 1, 0], [-np.sin(angle), 0, np.cos(angle)]]
        pose[:3, 3] = -pose[:3, :3] @ centre
    return result


def intrinsics(count: int) -> np.ndarray:
    return np.tile(K, (count, 1, 1))


# --- what comes out ----------------------------------------------------------------------------------------------


def test_a_prediction_has_the_published_fields(model: DepthAnything3) -> None:
    prediction = model.inference(photos(3), process_res=RES, export_feat_layers=[5, 2])
    assert isinstance(prediction, Prediction)
    assert prediction.depth.shape == (3, 42, 56) and prediction.depth.dtype == np.float32
    assert prediction.conf is not None and prediction.conf.min() >= 1
    assert prediction.extrinsics is not None and prediction.extrinsics.shape == (3, 3, 4)
    assert prediction.intrinsics is not None and prediction.intrinsics.shape == (3, 3, 3)
    assert prediction.processed_images is not None and prediction.processed_images.dtype == np.uint8
    assert prediction.aux["feat_layer_2"].shape == prediction.aux["feat_layer_5"].shape == (3, 3, 4, 384)
    assert prediction.sky is None and prediction.gaussians is None and prediction.scale_factor is None
    assert prediction.is_metric is False and prediction.scale == "relative"
    assert prediction.names == ("image_0000", "image_0001", "image_0002")
    assert prediction.records[0].source_hw == (60, 80)


def test_every_kind_of_source_gives_the_same(model: DepthAnything3, tmp_path: Path) -> None:
    pixels = photos(1)[0]
    picture = Image.fromarray(pixels)
    path, buffer = tmp_path / "photo.png", io.BytesIO()
    picture.save(path)
    picture.save(buffer, "PNG")
    expected = model.inference([pixels], process_res=RES).depth
    sources: list[Any] = [
        pixels,
        pixels[None],
        (pixels,),
        path,
        str(path),
        [path],
        picture,
        buffer.getvalue(),
        tmp_path,
    ]
    for source in sources:
        np.testing.assert_array_equal(model.inference(source, process_res=RES).depth, expected)


def test_arguments_are_not_changed(model: DepthAnything3) -> None:
    images = photos(3)
    extrinsics, lens = poses(np.random.default_rng(1).normal(size=(3, 3))), intrinsics(3)
    kwargs: dict[str, Any] = {"glb": {"num_max_points": 5}}
    copies = [image.copy() for image in images], extrinsics.copy(), lens.copy()
    with pytest.warns(UserWarning, match="export_kwargs"):
        model.inference(images, extrinsics, lens, process_res=RES, export_kwargs=kwargs, export_dir=None)
    for a, b in zip(images, copies[0], strict=True):
        np.testing.assert_array_equal(a, b)
    np.testing.assert_array_equal(extrinsics, copies[1])
    np.testing.assert_array_equal(lens, copies[2])
    assert kwargs == {"glb": {"num_max_points": 5}}


def test_given_poses_come_back_and_depth_takes_their_scale(model: DepthAnything3) -> None:
    centres = np.random.default_rng(2).normal(size=(4, 3))
    small, large = (model.inference(photos(4), poses(centres * s), intrinsics(4), process_res=RES) for s in (1.0, 10.0))
    assert small.extrinsics is not None and large.extrinsics is not None
    np.testing.assert_allclose(small.extrinsics, poses(centres)[:, :3], rtol=1e-5)
    np.testing.assert_allclose(large.extrinsics, poses(centres * 10)[:, :3], rtol=1e-5)
    np.testing.assert_allclose(large.depth, 10 * small.depth, rtol=1e-3)
    np.testing.assert_allclose(small.intrinsics, intrinsics(4) * np.array([[56 / 80], [42 / 60], [1]]), rtol=1e-5)


def test_unaligned_poses_are_in_the_predicted_frame(model: DepthAnything3) -> None:
    given = poses(np.random.default_rng(2).normal(size=(4, 3)))
    free = model.inference(photos(4), given, intrinsics(4), process_res=RES, align_to_input_ext_scale=False)
    tied = model.inference(photos(4), given, intrinsics(4), process_res=RES)
    assert free.extrinsics is not None and free.extrinsics.shape == (4, 3, 4)
    # The same camera path up to a similarity: distances between centres differ by one factor, that of the depths.
    factor = np.median(free.depth / tied.depth)
    gaps = [np.linalg.norm(np.diff(-np.einsum("nji,nj->ni", e[:, :3, :3], e[:, :3, 3]), axis=0), axis=1)
            for e in (free.extrinsics, given)]  # fmt: skip
    np.testing.assert_allclose(gaps[0] / gaps[1], factor, rtol=1e-3)


PATHS = {
    "one": np.zeros((1, 3)),
    "two": np.array([[0.0, 0, 0], [1, 0, 0]]),
    "two in one place": np.zeros((2, 3)),
    "on a line": np.arange(5)[:, None] * np.array([[0.0, 0, 1]]),
    "in one place": np.zeros((4, 3)),
    "ten on a line": np.arange(10)[:, None] * np.array([[1.0, 0, 1]]),
    "centimetres": 0.01 * np.random.default_rng(0).normal(size=(4, 3)),
}


@pytest.mark.parametrize("name", PATHS)
@pytest.mark.parametrize("align", [True, False])
def test_any_camera_path_works(model: DepthAnything3, name: str, align: bool) -> None:
    given = poses(PATHS[name])
    count, unknown = len(given), name == "one" or "one place" in name
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        prediction = model.inference(
            photos(count), given, intrinsics(count), process_res=RES, align_to_input_ext_scale=align
        )
    assert np.isfinite(prediction.depth).all() and prediction.extrinsics is not None
    assert any("cannot tell the scale" in str(w.message) for w in caught) == unknown
    if align:
        np.testing.assert_allclose(prediction.extrinsics, given[:, :3], atol=1e-6)


def in_their_cameras(p: Prediction) -> np.ndarray:
    """(N, pixels, 3) centres of Gaussians in the frames of the cameras of their views."""
    assert p.gaussians is not None and p.extrinsics is not None
    means = p.gaussians.means.numpy().reshape(len(p.depth), -1, 3)
    return means @ p.extrinsics[:, :, :3].swapaxes(1, 2) + p.extrinsics[:, None, :, 3]


def test_gaussians_move_with_the_cameras(gaussian_model: DepthAnything3) -> None:
    """Also where the given poses are far from a similarity of the predicted ones."""
    given = poses(np.random.default_rng(3).normal(size=(4, 3)) * 5)
    free = gaussian_model.inference(
        photos(4), given, intrinsics(4), process_res=RES, infer_gs=True, align_to_input_ext_scale=False
    )
    tied = gaussian_model.inference(photos(4), given, intrinsics(4), process_res=RES, infer_gs=True)
    assert free.gaussians is not None and tied.gaussians is not None
    factor = float(np.median(tied.depth / free.depth))
    torch.testing.assert_close(tied.gaussians.scales, factor * free.gaussians.scales, rtol=1e-3, atol=1e-6)
    np.testing.assert_allclose(in_their_cameras(tied), factor * in_their_cameras(free), rtol=1e-2, atol=1e-3 * factor)


def test_gaussians_have_the_unit_of_the_depth(gaussian_model: DepthAnything3) -> None:
    """With poses that condition the network too, whatever their unit."""
    raw = gaussian_model.inference(photos(3), process_res=RES, infer_gs=True)

    def distance(p: Prediction) -> float:
        return float(np.median(np.linalg.norm(in_their_cameras(p), axis=-1)) / np.median(p.depth))

    for scale in (1.0, 30.0):
        given = poses(np.random.default_rng(3).normal(size=(3, 3)) * scale)
        tied = gaussian_model.inference(photos(3), given, intrinsics(3), process_res=RES, infer_gs=True)
        assert 0.5 < distance(tied) / distance(raw) < 2


def test_plain_gaussians_on_request(model: DepthAnything3, metric_model: DepthAnything3) -> None:
    given = poses(np.random.default_rng(3).normal(size=(3, 3)))
    p = model.inference(photos(3), given, intrinsics(3), process_res=RES, infer_gs=True, gs_source="depth")
    np.testing.assert_allclose(in_their_cameras(p)[..., 2].reshape(p.depth.shape), p.depth, rtol=1e-3)
    with pytest.raises(CapabilityError, match="no cameras to place any with"):
        metric_model.inference(photos(1), process_res=RES, infer_gs=True, gs_source="depth")
    with pytest.raises(CapabilityError, match=r"gs_source='depth'.*DA3-GIANT"):
        model.inference(photos(1), process_res=RES, infer_gs=True)
    with pytest.warns(UserWarning, match="gs_source has no effect"):
        model.inference(photos(1), process_res=RES, gs_source="depth")


def test_gaussians_are_optimised_on_request(model: DepthAnything3, tmp_path: Path) -> None:
    given = poses(np.random.default_rng(3).normal(size=(2, 3)))
    told: list[Progress] = []
    p = model.inference(
        photos(2),
        given,
        intrinsics(2),
        process_res=28,
        infer_gs=True,
        gs_source="depth",
        gs_refine=4,
        progress=told.append,
    )
    report = p.gaussian_refinement
    assert report is not None and report.steps == 4 and report.psnr_after > report.psnr_before
    assert [(t.done, t.total) for t in told if t.item == "gaussians"] == [(i, 4) for i in (1, 2, 3, 4)]
    assert Prediction.load(p.save(tmp_path / "p.npz")).gaussian_refinement == report
    with pytest.warns(UserWarning, match="gs_refine has no effect"):
        model.inference(photos(1), process_res=28, gs_refine=3)
    with pytest.raises(InputError, match="gs_refine: got -1"):
        model.inference(photos(1), process_res=28, infer_gs=True, gs_refine=-1)


def test_gaussian_formats_are_reached_from_inference(model: DepthAnything3, tmp_path: Path) -> None:
    with pytest.raises(CapabilityError, match=r"export_format.*gs_ply.*gaussians"):
        model.inference(photos(2), process_res=RES, export_dir=tmp_path, export_format="gs_ply")
    eyes = np.repeat(np.eye(4)[None], 3, 0)
    model.inference(
        photos(2),
        process_res=RES,
        infer_gs=True,
        gs_source="depth",
        render_exts=eyes,
        render_hw=(20, 30),
        export_dir=tmp_path,
        export_format="gs_ply-gs_splat-gs_spz-gs_video",
    )
    assert (tmp_path / "gs_ply/0000.ply").exists() and (tmp_path / "gs_splat/0000.splat").exists()
    assert (tmp_path / "gs_spz/0000.spz").exists()
    assert (tmp_path / "gs_video/0000_given.mp4").exists()
    with pytest.warns(UserWarning, match="render_hw: no effect"):
        model.inference(photos(1), process_res=RES, render_hw=(20, 30))


def test_a_thousand_images() -> None:
    """At process_res 112; a network of two narrow blocks of each kind keeps it quick."""
    from depth_anything_3.model.da3 import DepthAnything3Net
    from depth_anything_3.model.dinov2.dinov2 import DinoV2
    from depth_anything_3.model.dinov2.vision_transformer import DinoVisionTransformer

    config = {
        "net": miniature()["net"],
        "head": node("dualdpt", "DualDPT", dim_in=64, features=8, out_channels=[8] * 4),
    }
    backbone = DinoV2.__new__(DinoV2)
    torch.nn.Module.__init__(backbone)
    backbone.pretrained = DinoVisionTransformer(
        embed_dim=32, depth=4, num_heads=1, out_layers=(0, 1, 2, 3), alt_start=2, rope_start=2, qknorm_start=2
    )
    from depth_anything_3.cfg import create_object

    model = DepthAnything3("thousand", config=miniature(), device="cpu")
    model.model = DepthAnything3Net(backbone, create_object(config["head"]), node("cam_dec", "CameraDec", dim_in=64))
    image = photos(1, height=16, width=128)[0]
    prediction = model.eval().inference([image] * 1000, process_res=112)
    assert prediction.depth.shape == (1000, 14, 112)
    assert np.isfinite(prediction.depth).all()


# --- files, progress, threads ------------------------------------------------------------------------------------


def test_export_and_progress(model: DepthAnything3, tmp_path: Path) -> None:
    seen: list[Progress] = []
    prediction = model.inference(
        photos(2), process_res=RES, export_dir=tmp_path / "out", export_format="npz-glb", progress=seen.append
    )
    stages = list(dict.fromkeys(step.stage for step in seen))
    assert stages == ["preprocess", "network", "postprocess", "export"]
    for stage in stages[:-1]:
        steps = [step for step in seen if step.stage == stage]
        assert [step.done for step in steps] == list(range(1, steps[0].total + 1))
    files = [(step.item, step.done, step.total) for step in seen if step.stage == "export"]
    assert files == [("npz", 0, 1), ("npz", 1, 1), ("glb", 0, 4), ("glb", 4, 4)]
    with np.load(tmp_path / "out" / "exports" / "npz" / "results.npz") as file:
        np.testing.assert_allclose(file["depth"], prediction.depth, atol=1e-5)
    assert (tmp_path / "out" / "scene.glb").stat().st_size > 1000


@pytest.mark.parametrize("stage", ["preprocess", "network", "export"])
def test_cancelling_stops_at_once(model: DepthAnything3, tmp_path: Path, stage: str) -> None:
    cancel, seen = threading.Event(), []

    def progress(step: Progress) -> None:
        seen.append(step)
        if step.stage == stage:
            cancel.set()

    with pytest.raises(Cancelled, match="stopped by the caller"):
        model.inference(
            photos(3),
            process_res=RES,
            export_dir=tmp_path / "out",
            export_format="npz-depth_vis",
            progress=progress,
            cancel=cancel,
        )
    assert [step.stage for step in seen].count(stage) == 1
    assert not list(tmp_path.rglob("*.tmp*"))


def test_one_model_serves_several_threads(model: DepthAnything3) -> None:
    scenes = [photos(n + 1, height=56 + 14 * (n % 3)) for n in range(6)]
    expected = [model.inference(scene, process_res=RES).depth for scene in scenes]
    with ThreadPoolExecutor(4) as pool:
        results = list(pool.map(lambda scene: model.inference(scene, process_res=RES).depth, scenes * 2))
    for got, want in zip(results, expected * 2, strict=True):
        np.testing.assert_array_equal(got, want)


def test_two_runs_are_bit_identical(model: DepthAnything3) -> None:
    first, second = (model.inference(photos(3), process_res=RES, use_ray_pose=True) for _ in range(2))
    np.testing.assert_array_equal(first.depth, second.depth)
    assert first.extrinsics is not None and second.extrinsics is not None
    np.testing.assert_array_equal(first.extrinsics, second.extrinsics)


def test_saved_and_loaded_weights_predict_the_same(model: DepthAnything3, tmp_path: Path) -> None:
    model.save_pretrained(tmp_path / "model")
    again = DepthAnything3.from_pretrained(tmp_path / "model", device="cpu")
    for (name, a), (other, b) in zip(model.state_dict().items(), again.state_dict().items(), strict=True):
        assert name == other and torch.equal(a, b)
    np.testing.assert_array_equal(
        again.inference(photos(2), process_res=RES).depth, model.inference(photos(2), process_res=RES).depth
    )


def test_forward_takes_tensors(model: DepthAnything3) -> None:
    output = model(torch.zeros(2, 3, 3, 28, 28))
    assert output.depth.shape == (2, 3, 28, 28) and output["extrinsics"].shape == (2, 3, 3, 4)


def test_device_and_dtype() -> None:
    model = loaded("miniature", miniature())
    assert model.device.type == "cpu" and model.dtype == torch.float32
    exact = model.inference(photos(1), process_res=RES).depth
    assert model.to(dtype=torch.bfloat16) is model and model.dtype == torch.bfloat16
    near = model.inference(photos(1), process_res=RES).depth
    assert next(model.parameters()).dtype == torch.float32
    assert 0 < np.median(np.abs(near / exact - 1)) < 0.02
    with pytest.raises(InputError, match=r"dtype: got 'int4'.*bfloat16"):
        DepthAnything3("miniature", config=miniature(), dtype="int4")
    with pytest.raises(InputError, match=r"device: got 'gpu'.*cuda"):
        DepthAnything3("miniature", config=miniature(), device="gpu")


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_scripts_for_a_gpu_run_on_the_cpu() -> None:
    model = loaded("miniature", miniature())
    with pytest.warns(UserWarning, match="cuda is not available here; using the CPU"):
        model = model.to(device=torch.device("cuda"))
    assert model.inference(photos(1), process_res=RES).depth.shape == (1, 42, 56)


# --- bad input ---------------------------------------------------------------------------------------------------


class _Untouchable(torch.nn.Module):
    """A network that must not run."""

    def __init__(self, network: Any) -> None:
        super().__init__()
        self.network = network
        self.abilities, self.depth = network.abilities, network.depth

    def forward(self, *_: Any, **__: Any) -> None:
        raise AssertionError("the network ran")


@pytest.fixture(scope="module")
def guarded(model: DepthAnything3) -> DepthAnything3:
    copy = DepthAnything3("miniature", config=miniature(), device="cpu")
    copy.model = _Untouchable(build(miniature()))  # type: ignore[assignment]
    return copy


def bad(**changes: Any) -> dict[str, Any]:
    return {"image": photos(3), "process_res": RES, **changes}


BENT = poses(np.random.default_rng(0).normal(size=(3, 3)))
BENT[1, :3, :3] *= 1.2
WITH_NAN = poses(np.random.default_rng(0).normal(size=(3, 3)))
WITH_NAN[2, 0, 3] = np.nan
GOOD = poses(np.random.default_rng(0).normal(size=(3, 3)))

BAD_INPUT = {
    "no images": (bad(image=[]), InputError, r"image.*no images"),
    "not an image": (bad(image=[3.5]), InputError, r"image\[0\]"),
    "lists in lists of lists": (bad(image=[[photos(2), photos(2)]]), InputError, r"image\[0\]"),
    "missing file": (bad(image=["/does/not/exist.png"]), ImageError, r"exist\.png"),
    "truncated file": (bad(image=[b"\x89PNG\r\n\x1a\n" + b"\0" * 40]), ImageError, r"image\[0\]"),
    "aspect above 20:1": (bad(image=photos(1, 10, 300)), ImageError, r"20:1"),
    "unknown method": (bad(process_res_method="foo"), InputError, r"process_res_method.*upper_bound_crop"),
    "crop to nothing": (bad(process_res=14, process_res_method="upper_bound_crop"), ImageError, r"14"),
    "process_res too small": (bad(process_res=5), InputError, r"process_res.*14"),
    "unknown strategy": (bad(ref_view_strategy="empty"), InputError, r"ref_view_strategy.*saddle_sim_range"),
    "unknown format": (bad(export_dir="x", export_format="glb-ply2"), InputError, r"export_format.*'ply2'.*mini_npz"),
    "unknown export option": (
        bad(export_dir="x", export_format="glb", export_kwargs={"glb": {"size": 3}}),
        InputError,
        r"export_kwargs\[glb\]\.size.*num_max_points",
    ),
    "feature layer": (bad(export_feat_layers=[3, 12]), InputError, r"export_feat_layers.*\[12\].*0 to 11"),
    "gaussians": (bad(infer_gs=True), CapabilityError, r"infer_gs"),
    "poses without intrinsics": (bad(extrinsics=GOOD), InputError, r"intrinsics"),
    "wrong shape of poses": (bad(extrinsics=np.zeros((3, 3, 3)), intrinsics=intrinsics(3)), InputError, r"extrinsics"),
    "too few poses": (bad(extrinsics=GOOD[:2], intrinsics=intrinsics(3)), InputError, r"extrinsics.*2.*3"),
    "too many intrinsics": (bad(intrinsics=intrinsics(4)), InputError, r"intrinsics.*4.*3"),
    "NaN in poses": (bad(extrinsics=WITH_NAN, intrinsics=intrinsics(3)), InputError, r"extrinsics"),
    "scaled rotation": (bad(extrinsics=BENT, intrinsics=intrinsics(3)), InputError, r"extrinsics.*1"),
    "negative focal": (bad(intrinsics=-intrinsics(3)), InputError, r"intrinsics"),
    "unknown alpha": (bad(alpha="black"), InputError, r"alpha.*composite"),
}


@pytest.mark.parametrize("name", BAD_INPUT)
def test_bad_input_is_refused_before_the_network_runs(
    guarded: DepthAnything3, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    arguments, error, message = BAD_INPUT[name]
    with pytest.raises(error, match=message):
        guarded.inference(**arguments)
    assert not list(tmp_path.iterdir())


def test_poses_for_a_model_without_an_encoder(metric_model: DepthAnything3) -> None:
    with pytest.raises(CapabilityError, match=r"extrinsics.*no pose encoder"):
        metric_model.inference(photos(3), GOOD, intrinsics(3), process_res=RES)


def test_a_format_that_the_model_cannot_fill(metric_model: DepthAnything3, tmp_path: Path) -> None:
    with pytest.raises(CapabilityError, match=r"export_format.*'glb'.*extrinsics.*depth_vis"):
        metric_model.inference(photos(1), process_res=RES, export_dir=tmp_path / "x", export_format="glb")
    prediction = metric_model.inference(
        photos(1), process_res=RES, export_dir=tmp_path / "y", export_format="npz-depth_vis"
    )
    assert prediction.sky is not None and prediction.sky.dtype == np.bool_ and prediction.extrinsics is None


@pytest.mark.parametrize("arguments", [{"render_hw": (10, 10)}, {"feat_vis_fps": 30}])
def test_what_has_no_effect_is_said(model: DepthAnything3, arguments: dict[str, Any]) -> None:
    with pytest.warns(UserWarning, match="no effect"):
        model.inference(photos(1), process_res=RES, **arguments)


def test_unknown_preset_lists_the_known_ones() -> None:
    with pytest.raises(KeyError, match=r"model_name: got 'da3-tiny-x'.*da3-base.*da3nested-giant-large"):
        DepthAnything3("da3-tiny-x")


def test_the_views_of_a_video_have_names_and_times(model: DepthAnything3, tmp_path: Path) -> None:
    clip = write_video(tmp_path / "clip.mp4", 9, fps=4.0)
    prediction = model.inference([clip], process_res=RES, video=VideoOptions(fps=1))
    assert prediction.timestamps == pytest.approx((0, 1, 2))
    assert prediction.names == ("clip_000000", "clip_000004", "clip_000008")
    mixed = model.inference([clip, photos(1)[0]], process_res=RES, video=VideoOptions(fps=1))
    assert len(mixed.depth) == 4 and mixed.timestamps == ()


def _two_photographs() -> list[np.ndarray]:
    from depth_anything_3.bench.refinement import render_scene

    return list(render_scene("wide", 910_005).rgb[[0, 1]])


def test_refinement_corrects_cameras_and_enlarges_the_maps() -> None:
    model = DepthAnything3.from_pretrained("bundled")
    photographs = _two_photographs()
    alone = model.inference(photographs)
    poses = model.inference(photographs, refine="poses")
    full = model.inference(photographs, refine="full")
    assert alone.refinement is None
    assert poses.depth.shape == alone.depth.shape and full.depth.shape == (2, 364, 476)
    assert full.processed_images.shape == (2, 364, 476, 3) and full.records[0].processed_hw == (364, 476)
    assert poses.refinement.mode == "poses" and full.refinement.mode == "full"
    assert full.refinement.pose_source == ("matches", "matches") and min(full.refinement.observations) > 30
    assert not np.allclose(full.extrinsics[1], alone.extrinsics[1], atol=1e-3)
    np.testing.assert_allclose(full.extrinsics[0], alone.extrinsics[0], atol=1e-4)


def test_refinement_keeps_given_cameras() -> None:
    from depth_anything_3.bench.refinement import render_scene

    sample = render_scene("wide", 910_005)
    given = DepthAnything3.from_pretrained("bundled").inference(
        list(sample.rgb[:2]), extrinsics=sample.extrinsics[:2], intrinsics=sample.intrinsics[:2], refine="poses"
    )
    np.testing.assert_allclose(given.extrinsics, sample.extrinsics[:2], atol=1e-5)
    assert given.refinement.pose_source == ("given", "given") and given.refinement.scale_source == "given"


def test_a_matcher_by_name() -> None:
    from depth_anything_3.refine.matches import best_patches_of

    model = DepthAnything3.from_pretrained("bundled")
    photographs = list(np.random.default_rng(0).integers(0, 256, (3, 56, 84, 3), np.uint8))
    with pytest.raises(InputError, match="attention, sift"):
        model.inference(photographs, refine="poses", matcher="swift")
    with pytest.warns(UserWarning, match="matcher has no effect"):
        model.inference(photographs[:1], process_res=84, matcher="attention")
    noise = model.inference(photographs, process_res=84, refine="poses", matcher="attention")
    assert noise.refinement is not None and noise.refinement.matcher == "attention"
    assert noise.refinement.unsupported == (0, 1, 2)
    inputs = preprocess(photographs, options=PreprocessOptions(process_res=84))
    best = best_patches_of(model.model, inputs, device=torch.device("cpu"), dtype=torch.float32)
    assert best.shape == (3, 3, 24) and best.min() >= 0 and best.max() < 24


def test_refinement_that_a_model_cannot_do_is_refused() -> None:
    mono = DepthAnything3.from_pretrained("bundled/da3metric-tiny")
    photograph = np.zeros((56, 70, 3), np.uint8)
    with pytest.raises(CapabilityError, match="refine"):
        mono.inference([photograph, photograph], refine="full")
    with pytest.raises(InputError, match="refine"):
        DepthAnything3.from_pretrained("bundled").inference([photograph], refine="best")  # type: ignore[arg-type]


def test_one_photograph_and_its_lens_make_points_in_its_own_frame() -> None:
    metric = DepthAnything3.from_pretrained("bundled/da3metric-tiny")
    photograph, lens = np.full((56, 70, 3), 90, np.uint8), np.array([[60.0, 0, 35], [0, 60, 28], [0, 0, 1]])
    alone = metric.inference([photograph], intrinsics=lens[None], process_res=70)
    assert alone.extrinsics is not None and alone.is_metric
    np.testing.assert_array_equal(alone.extrinsics, np.eye(3, 4)[None])
    np.testing.assert_allclose(metric.depth([photograph] * 2, intrinsics=np.stack([lens] * 2), process_res=70)[1].depth,
                               alone.depth, rtol=1e-5)  # fmt: skip
    assert metric.inference([photograph], process_res=70).extrinsics is None
    two = metric.inference([photograph] * 2, intrinsics=np.stack([lens] * 2), process_res=70)
    assert two.extrinsics is None, "nothing says where they are to each other"
