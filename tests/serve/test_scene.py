"""Every option of the Python API in a request, and the views that files beside the images lead to."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.camera_files import scene, write_photos, write_transforms
from support.videos import number_of, write_video

from depth_anything_3.errors import InputError
from depth_anything_3.io.video import VideoFrame
from depth_anything_3.serve.intake import TooLargeError
from depth_anything_3.serve.requests import option_names, parse_request
from depth_anything_3.serve.scene import open_scene
from depth_anything_3.serve.settings import Limits

POSE = ((1.0, 0.0, 0.0, 0.0), (0.0, 1.0, 0.0, 0.0), (0.0, 0.0, 1.0, 0.0))
LENS = ((50.0, 0.0, 20.0), (0.0, 50.0, 20.0), (0.0, 0.0, 1.0))

GIVEN: dict[str, Any] = {
    "process_res": 70, "process_res_method": "lower_bound_crop", "alpha": "mask", "mixed_sizes": "pad",
    "align_to_input_ext_scale": False, "infer_gs": True, "gs_source": "depth", "use_ray_pose": True,
    "ref_view_strategy": "middle", "export_feat_layers": (1, 2), "refine": "poses", "matcher": "attention",
    "metric_focal": "predicted", "shared_intrinsics": True, "square_pixels": True, "derive_confidence": True,
    "max_memory": 4.0, "key_pooling": 2, "gs_refine": 3, "output_size": "input", "metric_res": 168,
    "extrinsics": (POSE, None), "intrinsics": (LENS, LENS),
    "extrinsics_convention": "opengl_c2w", "intrinsics_origin": "exif",
    "export_format": "glb", "rig": 2, "conf_thresh_percentile": 7.0, "num_max_points": 9, "show_cameras": False,
    "feat_vis_fps": 3.0, "clean": "strict", "export_kwargs": {"glb": {"num_max_points": 5}},
    "render_exts": (POSE,), "render_ixts": (LENS,), "render_hw": (28, 42), "video": {"fps": 2.0},
}  # fmt: skip
"""A value other than the default for every option."""


def test_every_option_is_taken_and_reaches_the_network() -> None:
    assert set(GIVEN) == set(option_names())
    defaults = parse_request({}, images=2).arguments()
    for name, value in GIVEN.items():
        together = {"intrinsics": GIVEN["intrinsics"]} if name in ("extrinsics", "extrinsics_convention") else {}
        request = parse_request({**together, name: value}, images=None if name == "video" else 2)
        got = vars(request.video)["fps"] if name == "video" else request.arguments()[name]
        assert got == (2.0 if name == "video" else value), name
        assert name == "video" or defaults[name] != value, name
        with pytest.raises(InputError, match="unknown"):
            parse_request({f"{name}_": value}, images=2)


def stored(folder: Path, names: tuple[str, ...]) -> list[Path]:
    """Photos as they lie in the folder of a job."""
    write_photos(folder, scene(names=tuple(f"inputs/{i:04d}/{name}" for i, name in enumerate(names))))
    return [folder / "inputs" / f"{i:04d}" / name for i, name in enumerate(names)]


def test_camera_files_go_by_names_and_views_keep_their_order(tmp_path: Path) -> None:
    images = stored(tmp_path, ("img10.png", "z.png", "img2.png"))
    written = scene(names=("z.png", "img2.png", "img10.png"))
    write_transforms(tmp_path / "poses.json", written)
    files = {"poses": [tmp_path / "poses.json"], "masks": images}
    views, known = open_scene(images, files, parse_request({}, images=3), Limits())
    assert [Path(view).name for view in views] == ["img10.png", "z.png", "img2.png"]  # type: ignore[arg-type]
    assert np.allclose(known["extrinsics"], written.extrinsics[[2, 0, 1]], atol=1e-5)
    assert np.allclose(known["intrinsics"], written.intrinsics) and known["masks"] == images
    (tmp_path / "broken.json").write_text("{")
    with pytest.raises(InputError, match="poses"):
        open_scene(images, {"poses": [tmp_path / "broken.json"]}, parse_request({}, images=3), Limits())
    twins = [images[0], tmp_path / "inputs" / "0003" / "img10.png"]
    twins[1].parent.mkdir()
    twins[1].write_bytes(images[0].read_bytes())
    with pytest.raises(InputError, match="two called"):
        open_scene(twins, files, parse_request({}, images=2), Limits())


def test_a_file_may_say_a_field_of_view(tmp_path: Path) -> None:
    images = stored(tmp_path, ("a.png", "b.png"))
    (tmp_path / "fov.txt").write_text("90deg\n")
    _, known = open_scene(images, {"intrinsics": [tmp_path / "fov.txt"]}, parse_request({}, images=2), Limits())
    assert np.allclose(known["intrinsics"], [[40, 0, 40], [0, 40, 30], [0, 0, 1]]) and "extrinsics" not in known
    assert known["intrinsics_origin"] == "fov"
    (tmp_path / "fov.txt").write_text("wide")
    with pytest.raises(InputError, match=r"--intrinsics.*fov\.txt"):
        open_scene(images, {"intrinsics": [tmp_path / "fov.txt"]}, parse_request({}, images=2), Limits())


def test_frames_of_a_video_are_chosen_and_counted(tmp_path: Path) -> None:
    film = write_video(tmp_path / "film.avi", 12, fps=4)
    request = parse_request({"video": {"stride": 3}}, images=None)
    views, known = open_scene([film], {}, request, Limits())
    assert [number_of(view.image) for view in views if isinstance(view, VideoFrame)] == [0, 3, 6, 9] and not known
    with pytest.raises(TooLargeError, match="more than 3 frames"):
        open_scene([film], {}, request, Limits(images=3))
    with pytest.raises(TooLargeError, match="pixels"):
        open_scene([film], {}, parse_request({"process_res": 504}, images=None), Limits(processed_pixels=10_000))
    with pytest.raises(InputError, match=r"images: .*not recognised as a video"):
        damaged = tmp_path / "damaged.mp4"
        damaged.write_bytes(b"#EXTM3U and a playlist")
        open_scene([damaged], {}, request, Limits())
