"""What the page says about pixels, and what becomes of a form."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from support.results import small_prediction, write_result

from depth_anything_3.errors import InputError
from depth_anything_3.webui import results
from depth_anything_3.webui.jobs import Form, gallery_name, options_of
from depth_anything_3.webui.pages import downloads_html, viewer_html


@pytest.fixture(scope="module")
def arrays(tmp_path_factory: pytest.TempPathFactory) -> results.Arrays:
    folder = write_result(tmp_path_factory.mktemp("job"), "npz", small_prediction(metric=True))
    return results.read_arrays(folder / results.ARRAYS)


def test_a_pixel_says_its_depth_in_its_unit(arrays: results.Arrays) -> None:
    depth = small_prediction().depth[1, 5, 20]
    assert results.read_out(arrays, (1, 20, 5)).startswith(f"view 1, column 20, row 5: depth {depth:.3f} m, confidence")
    assert "units (relative scale)" in results.read_out(dataclasses.replace(arrays, metric=False), (0, 0, 0))
    unknown = dataclasses.replace(arrays, depth=np.zeros_like(arrays.depth))
    assert results.read_out(unknown, (0, 3, 4)) == "view 0, column 3, row 4: no depth"


def test_distances_are_in_space_and_between_views(arrays: results.Arrays) -> None:
    focal, (height, width) = 0.9 * 42, arrays.depth.shape[1:]
    points = []
    for view, column, row in ((0, 5, 20), (1, 30, 3)):
        z = float(arrays.depth[view, row, column])
        place = np.array([(column + 0.5 - width / 2) / focal * z, (row + 0.5 - height / 2) / focal * z, z])
        points.append(place + np.array([0.4 * view, 0, 0]))
    expected = np.linalg.norm(points[0] - points[1])
    assert results.distance(arrays, (0, 5, 20), (1, 30, 3)) == pytest.approx(expected, rel=1e-4)
    assert results.distance(dataclasses.replace(arrays, intrinsics=None), (0, 0, 0), (0, 1, 1)) is None


def test_pictures(arrays: results.Arrays) -> None:
    marked = results.marked(arrays, 0, ((0, 0, 0), (1, 20, 5), (0, 41, 27)))
    assert (marked[0, 0] == (255, 212, 0)).all() and (marked[27, 41] == (255, 212, 0)).all()
    assert (marked[5, 20] == arrays.image[0, 5, 20]).all()
    assert results.depth_picture(arrays, 0).shape == (28, 42, 3)
    confidence = results.confidence_picture(arrays, 0)
    assert confidence is not None and np.ptp(confidence) > 200
    assert [row[-1] for row in results.camera_rows(arrays)] == ["0.000, 0.000, 0.000", "0.400, 0.000, 0.000"]


def test_every_setting_reaches_the_job() -> None:
    form = Form(
        process_res=280, process_res_method="upper_bound_crop", ref_view_strategy="middle", refine="poses",
        metric_focal="predicted", pose_method="rays", clean="strict", gaussians="from depth", formats=("glb", "mesh"),
    )  # fmt: skip
    assert options_of(form) == {
        "process_res": 280,
        "process_res_method": "upper_bound_crop",
        "ref_view_strategy": "middle",
        "refine": "poses",
        "metric_focal": "predicted",
        "use_ray_pose": True,
        "infer_gs": True,
        "gs_source": "depth",
        "export_format": "npz-depth_vis-glb-mesh-gs_ply-gs_splat",
        "conf_thresh_percentile": 30.0,
        "export_kwargs": {"mesh": {"clean": "strict"}},
    }
    assert "process_res" not in options_of(Form()) and options_of(Form())["refine"] is None, "the model decides"
    for wrong in ({"pose_method": "guess"}, {"clean": "spotless"}, {"gaussians": "magic"}, {"formats": ("glb", "exe")}):
        with pytest.raises(InputError):
            options_of(Form(**wrong))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "name", ["", "..", ".hidden", "a/b", "a\\b", "a\0b", "/etc", "a" * 200, "ends.", "taken", "<b>"]
)
def test_a_name_in_the_gallery_is_one_folder(name: str) -> None:
    with pytest.raises(InputError):
        gallery_name(name, ["taken"])
    assert gallery_name("  my house 2 ", ["taken"]) == "my house 2"


def test_nothing_becomes_html() -> None:
    hostile = '"><script>alert(1)</script>.glb'
    for html in (viewer_html("job", [hostile], metric=True), downloads_html("job", [(hostile, 5)])):
        assert "<script" not in html


def test_uploads_come_from_the_folder_of_uploads(tmp_path: Path) -> None:
    pytest.importorskip("depth_anything_3.serve.intake", reason="the server is not there")
    from depth_anything_3.webui.intake import Uploads

    folder = tmp_path / "uploads"
    folder.mkdir()
    (folder / "photo.jpg").touch()
    (tmp_path / "uploads2").mkdir()
    (tmp_path / "uploads2" / "other.jpg").touch()
    (folder / "link.jpg").symlink_to(tmp_path / "uploads2" / "other.jpg")
    uploads = Uploads(folder)
    assert uploads.check(folder / "photo.jpg") == (folder / "photo.jpg").resolve()
    for path in ("link.jpg", "../uploads2/other.jpg", "/etc/passwd", "none.jpg", "."):
        with pytest.raises(InputError, match="not uploaded here"):
            uploads.check(folder / path)
