"""Photos and cameras brought together: by name, time and order; sizes, orientation, lenses; fields of view and EXIF."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import pytest
from PIL import ExifTags, Image
from support import camera_files as files

from depth_anything_3.errors import CameraFileError, ImageError, InputError
from depth_anything_3.geometry.distortion import rays_through, through_lens
from depth_anything_3.io.cameras.cameras_json import write_cameras
from depth_anything_3.io.cameras.fields_of_view import focal_from_exif
from depth_anything_3.io.cameras.fitting import at_sizes_of, cameras_of
from depth_anything_3.io.cameras.given import open_views
from depth_anything_3.io.images import ImageHeader, LensPhoto, decode_image
from depth_anything_3.types.cameras import Cameras, Lens
from depth_anything_3.types.options import FolderOptions

FLAT = files.scene(names=("img2.png", "img10.png", "IMG1.png"))
IN_ORDER = [2, 0, 1]  # IMG1, img2, img10


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    files.write_photos(tmp_path / "photos", FLAT)
    return tmp_path / "photos"


# --- whose camera ------------------------------------------------------------------------------------------------


def test_by_name_and_never_by_order(photos: Path, tmp_path: Path) -> None:
    files.write_colmap(tmp_path / "model", FLAT)
    views = open_views(photos, poses=tmp_path / "model")
    assert [photo.name for photo in views.photos] == ["IMG1.png", "img2.png", "img10.png"]
    assert views.images == views.photos
    np.testing.assert_allclose(views.extrinsics, FLAT.extrinsics[IN_ORDER], atol=1e-9)
    np.testing.assert_array_equal(views.intrinsics, [FLAT.intrinsics] * 3)
    assert views.intrinsics_origin == "given"
    part = open_views(photos, poses=tmp_path / "model", options=FolderOptions(stride=2))
    np.testing.assert_allclose(part.extrinsics, FLAT.extrinsics[[2, 1]], atol=1e-9)


def named(*names: str) -> Cameras:
    return Cameras(source="model", names=names, extrinsics=np.zeros((len(names), 3, 4)))


@pytest.mark.parametrize(
    "names, photo, found",
    [
        (("b.jpg", "a.jpg"), "a.jpg", "a.jpg"),
        (("A.JPG", "a.jpg"), "A.JPG", "A.JPG"),
        (("B.JPG", "A.JPG"), "a.jpg", "A.JPG"),
        (("./train/r_0", "./train/r_10"), "r_10.png", "./train/r_10"),
        (("left/1.png", "right/1.png"), "right/1.png", "right/1.png"),
        (("a/left/1.png", "b/left/1.png"), "b/left/1.png", "b/left/1.png"),
        (("images\\1.png", "images\\2.png"), "2.png", "images\\2.png"),
    ],
)
def test_names(names: tuple[str, ...], photo: str, found: str) -> None:
    assert cameras_of(named(*names), [Path("somewhere") / photo]).names == (found,)


def test_an_unmatched_name_lists_the_nearest() -> None:
    with pytest.raises(CameraFileError, match=r"no camera named IMG_0012.jpg.*IMG_0011.jpg") as caught:
        cameras_of(named("x.png", "IMG_0011.jpg", "IMG_0100.jpg"), [Path("IMG_0012.jpg")], argument="--poses")
    assert str(caught.value).startswith("--poses: got model (")
    with pytest.raises(CameraFileError, match=r"2 cameras for .*1.png.*left/1.png"):
        cameras_of(named("left/1.png", "right/1.png"), [Path("1.png")])


def test_tum_goes_by_time(tmp_path: Path) -> None:
    written = files.scene(names=("1305.10.png", "1305.20.png", "1305.30.png"))
    files.write_photos(tmp_path / "rgb", written)
    extra = files.Written(np.concatenate((FLAT.extrinsics[:1], written.extrinsics)))
    files.write_tum(tmp_path / "gt.txt", extra, [1305.02, 1305.11, 1305.19, 1305.305])
    views = open_views(tmp_path / "rgb", poses=tmp_path / "gt.txt", intrinsics="60deg")
    np.testing.assert_allclose(views.extrinsics, written.extrinsics, atol=1e-7)
    files.write_tum(tmp_path / "gt.txt", extra, [1305.02, 1305.11, 1305.24, 1305.305])
    with pytest.raises(CameraFileError, match=r"no pose within 0.02 s of 1305.20.png; the nearest is 0.040 s away"):
        open_views(tmp_path / "rgb", poses=tmp_path / "gt.txt", intrinsics="60deg")


@pytest.mark.parametrize("kind", ["tum", "kitti"])
def test_what_has_neither_goes_by_order(kind: str, photos: Path, tmp_path: Path) -> None:
    written = files.Written(FLAT.extrinsics[IN_ORDER])
    if kind == "tum":
        files.write_tum(tmp_path / "t.txt", written, [5000.0, 5001, 5002])
    else:
        files.write_kitti(tmp_path / "t.txt", written)
    views = open_views(photos, poses=tmp_path / "t.txt", intrinsics="60deg", options=FolderOptions(stride=2))
    np.testing.assert_allclose(views.extrinsics, FLAT.extrinsics[[2, 1]], atol=1e-7)
    (photos / "more.png").write_bytes((photos / "IMG1.png").read_bytes())
    with pytest.raises(CameraFileError, match="3 cameras without names for 4 photos"):
        open_views(photos, poses=tmp_path / "t.txt", intrinsics="60deg")


def test_poses_need_intrinsics(photos: Path, tmp_path: Path) -> None:
    files.write_kitti(tmp_path / "t.txt", FLAT)
    with pytest.raises(InputError, match=r"--intrinsics: got nothing.*60deg, exif"):
        open_views(photos, poses=tmp_path / "t.txt")
    (tmp_path / "k.txt").write_text("1 2 3 4\n")
    with pytest.raises(CameraFileError, match=r"--poses: .*no poses in it"):
        open_views(photos, poses=tmp_path / "k.txt")
    with pytest.raises(CameraFileError, match=r"--intrinsics: .*no intrinsics in it"):
        open_views(photos, intrinsics=tmp_path / "t.txt")


# --- sizes and sides ---------------------------------------------------------------------------------------------


def test_sizes_are_checked_and_smaller_copies_scaled(tmp_path: Path) -> None:
    files.write_colmap(tmp_path / "model", FLAT)
    files.write_photos(tmp_path / "half", FLAT, size=(30, 40))
    with pytest.warns(UserWarning, match="3 of 3 photos have another size"):
        views = open_views(tmp_path / "half", poses=tmp_path / "model")
    np.testing.assert_allclose(views.intrinsics, [FLAT.intrinsics * [[0.5], [0.5], [1]]] * 3)
    files.write_photos(tmp_path / "other", FLAT, size=(60, 60))
    with pytest.raises(CameraFileError, match=r"80x60 pixels for IMG1.png, which has 60x60"):
        open_views(tmp_path / "other", poses=tmp_path / "model")


@pytest.mark.parametrize("lens", [Lens(), Lens("OPENCV", (-0.2, 0.05, 0.01, -0.02))])
@pytest.mark.parametrize("orientation", [6, 8])
def test_cameras_turn_with_their_photos(orientation: int, lens: Lens) -> None:
    """COLMAP counts the pixels as they are stored; a point must then be found where the upright photo shows it."""
    stored = np.zeros((60, 80, 3), np.uint8)
    stored[17, 65] = 255
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    image = Image.fromarray(stored)
    image.info["exif"] = exif.tobytes()
    image.getexif()[ExifTags.Base.Orientation] = orientation
    row, column = np.argwhere(decode_image(image, index=0, alpha="drop").pixels[:, :, 0])[0]
    cameras = Cameras(
        intrinsics=FLAT.intrinsics[None],
        extrinsics=FLAT.extrinsics[:1],
        sizes=np.array([[60, 80]]),
        lenses=(lens,),
    )
    header = ImageHeader(size=(80, 60), exif_orientation=orientation, exif={})
    turned = at_sizes_of(cameras, [header])
    ray = rays_through(np.array([65.5, 17.5]), FLAT.intrinsics, lens)
    world_from_stored = FLAT.extrinsics[0, :, :3].T
    ray_upright = turned.extrinsics[0, :, :3] @ world_from_stored @ ray
    found = through_lens(ray_upright, turned.intrinsics[0], turned.lenses[0])
    np.testing.assert_allclose(found, [column + 0.5, row + 0.5], atol=1e-9)
    centre = -world_from_stored @ FLAT.extrinsics[0, :, 3]
    np.testing.assert_allclose(turned.extrinsics[0, :, :3] @ centre + turned.extrinsics[0, :, 3], 0, atol=1e-12)
    assert np.linalg.det(turned.extrinsics[0, :, :3]) == pytest.approx(1)
    assert turned.intrinsics[0, 0, 0] == FLAT.focal[1] and turned.intrinsics[0, 1, 0] == 0


def test_lens_distortion_is_undone(photos: Path, tmp_path: Path) -> None:
    parameters = [70, 72, 41, 29.5, -0.2, 0.05, 0.001, -0.002]
    files.write_colmap(tmp_path / "model", FLAT, model=("OPENCV", 4), parameters=parameters)
    views = open_views(photos, poses=tmp_path / "model")
    assert all(isinstance(image, LensPhoto) for image in views.images)
    assert not np.allclose(views.intrinsics[0], FLAT.intrinsics)
    decoded = decode_image(views.images[0], index=0, alpha="composite")
    assert decoded.name == "IMG1.png" and decoded.pixels.shape == (60, 80, 3)
    taken = decode_image(views.photos[0], index=0, alpha="composite").pixels
    rays = rays_through(np.array([60.5, 40.5]), views.intrinsics[0])
    x, y = through_lens(rays, FLAT.intrinsics, Lens("OPENCV", tuple(map(float, parameters[4:])))) - 0.5
    corners = taken[int(y) : int(y) + 2, int(x) : int(x) + 2].astype(float)
    down, right = y % 1, x % 1
    expected = np.einsum("i,ijc,j->c", [1 - down, down], corners, [1 - right, right])
    np.testing.assert_allclose(decoded.pixels[40, 60], expected, atol=6)  # OpenCV interpolates in steps of 1/32


def test_a_lens_that_cannot_be_undone(photos: Path, tmp_path: Path) -> None:
    parameters = [70, 72, 41, 29.5, -3.0, 0, 0, 0]
    files.write_colmap(tmp_path / "model", FLAT, model=("OPENCV", 4), parameters=parameters)
    with pytest.raises(CameraFileError, match=r"a lens that cannot be undone over all of IMG1.png"):
        open_views(photos, poses=tmp_path / "model")


# --- scenes ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["colmap", "transforms", "own"])
def test_a_folder_with_photos_and_cameras(kind: str, tmp_path: Path) -> None:
    written = files.scene()
    files.write_photos(tmp_path / "images", written)
    if kind == "colmap":
        files.write_colmap(tmp_path / "sparse" / "0", written, binary=True)
    elif kind == "transforms":
        files.write_transforms(tmp_path / "transforms.json", written)
    else:
        cameras = Cameras(
            names=written.names, intrinsics=np.stack([written.intrinsics] * 3), extrinsics=written.extrinsics
        )
        write_cameras(cameras, tmp_path / "cameras.json")
    views = open_views(tmp_path)
    order = [written.names.index(photo.relative_to(tmp_path / "images").as_posix()) for photo in views.photos]
    assert order == [2, 0, 1]
    np.testing.assert_allclose(views.extrinsics, written.extrinsics[order], atol=1e-9)
    (tmp_path / "images" / "img2.png").unlink()
    with pytest.warns(UserWarning, match="1 of the 3 photos"):
        assert len(open_views(tmp_path, options=FolderOptions(limit=5)).photos) == 2
    views = open_views(tmp_path / "images", options=FolderOptions(recursive=True))
    assert len(views.photos) == 2 and views.extrinsics is None and views.intrinsics is None


def test_cameras_without_their_photos(tmp_path: Path) -> None:
    files.write_colmap(tmp_path / "sparse" / "0", FLAT)
    with pytest.raises(CameraFileError, match=r"none of the photos that it names is there, for example IMG1.png"):
        open_views(tmp_path)


# --- intrinsics --------------------------------------------------------------------------------------------------


def test_field_of_view(photos: Path) -> None:
    views = open_views(photos, intrinsics="90deg")
    np.testing.assert_allclose(views.intrinsics, [[[40, 0, 40], [0, 40, 30], [0, 0, 1]]] * 3)
    assert views.extrinsics is None and views.intrinsics_origin == "fov"
    with pytest.raises(InputError, match="intrinsics: got 180deg; expected a field of view between 0 and 180"):
        open_views(photos, intrinsics="180deg")
    with pytest.raises(InputError, match=r"--intrinsics: got 60 \(no such file\).*\(valid: a file, .* 60deg, exif\)"):
        open_views(photos, intrinsics="60")


def test_all_photos_without_a_header_are_named(photos: Path) -> None:
    for name in ("y.png", "z.png"):
        (photos / name).write_bytes(b"")
    with pytest.raises(
        ImageError, match=r"2 of 5 that cannot be used \(image\[3\]: .*y\.png .*; image\[4\]: .*z\.png "
    ):
        open_views(photos, intrinsics="60deg")


def test_given_intrinsics_win_over_those_of_the_poses(photos: Path, tmp_path: Path) -> None:
    parameters = [70, 72, 41, 29.5, -0.2, 0.05, 0.001, -0.002]
    files.write_colmap(tmp_path / "model", FLAT, model=("OPENCV", 4), parameters=parameters)
    views = open_views(photos, poses=tmp_path / "model", intrinsics="90deg")
    assert views.images == views.photos and views.intrinsics[0, 0, 0] == pytest.approx(40)
    np.testing.assert_allclose(views.extrinsics, FLAT.extrinsics[IN_ORDER], atol=1e-9)


def exif_photo(file: Path, orientation: int = 1, **tags: float) -> Path:
    image = Image.new("RGB", (80, 60))
    exif = image.getexif()
    exif[ExifTags.Base.Orientation] = orientation
    exif.get_ifd(ExifTags.IFD.Exif).update({getattr(ExifTags.Base, name): value for name, value in tags.items()})
    image.save(file, exif=exif)
    return file


@pytest.mark.parametrize("orientation", [1, 6])
def test_exif(orientation: int, tmp_path: Path) -> None:
    photo = exif_photo(tmp_path / "a.jpg", orientation, FocalLengthIn35mmFilm=26, FocalLength=4.2)
    width, height = (80, 60) if orientation == 1 else (60, 80)
    focal = 26 / np.hypot(36, 24) * 100
    views = open_views(photo, intrinsics="exif")
    assert views.intrinsics_origin == "exif"
    np.testing.assert_allclose(views.intrinsics[0], [[focal, 0, width / 2], [0, focal, height / 2], [0, 0, 1]])
    silent = exif_photo(tmp_path / "b.jpg", FocalLength=4.2)
    with pytest.raises(InputError, match=r"b.jpg tells no focal length"):
        open_views(silent, intrinsics="exif")


def test_focal_length_and_sensor() -> None:
    """A sensor of 35.9 mm and 7360 pixels (205 per mm) behind a 50 mm lens, and a copy at half the size."""
    per_inch = 7360 / 35.9 * 25.4
    exif = {0x920A: 50.0, 0xA20E: per_inch, 0xA210: 2.0, 0xA002: 7360.0}
    assert focal_from_exif(exif, (4912, 7360)) == pytest.approx(50 * 7360 / 35.9)
    assert focal_from_exif(exif, (2456, 3680)) == pytest.approx(25 * 7360 / 35.9)
    assert focal_from_exif({**exif, 0xA210: 3.0, 0xA20E: per_inch / 2.54}, (4912, 7360)) == pytest.approx(
        50 * 7360 / 35.9
    )
    for broken in ({0xA20E: 0.0}, {0xA210: 1.0}, {0x920A: float("nan")}, {0xA002: 0.0}, {0xA20E: float("inf")}):
        assert focal_from_exif({**exif, **broken}, (4912, 7360)) is None


# --- real folders ------------------------------------------------------------------------------------------------


def test_lund(shared: Path, tmp_path: Path) -> None:
    """Twelve photos through COLMAP's SIMPLE_RADIAL lens: points of the model fall where they did before."""
    folder = shared / "data" / "lund_door12"
    if not folder.is_dir():
        pytest.skip("no lund_door12")
    stored = np.load(folder / "scene.npz", allow_pickle=False)
    extrinsics = np.linalg.inv(stored["c2w"])[:, :3].astype(np.float64)
    intrinsics = stored["K"] if stored["K"].ndim == 2 else stored["K"][0]
    photos = sorted((folder / "images").iterdir())
    with Image.open(photos[0]) as image:
        size = (image.height, image.width)
    focal, centre = float(intrinsics[0, 0]), tuple(map(float, intrinsics[:2, 2]))
    written = files.Written(extrinsics, tuple(p.name for p in photos), size, (focal, focal), centre)
    lens = Lens("OPENCV", (-0.0337, 0.0, 0.0, 0.0))
    files.write_colmap(tmp_path, written, model=("SIMPLE_RADIAL", 2), parameters=[focal, *centre, -0.0337])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        views = open_views(folder / "images", poses=tmp_path)
    assert len(views.photos) == 12
    np.testing.assert_allclose(views.extrinsics, extrinsics, atol=1e-6)
    grid = np.stack(np.meshgrid(np.linspace(0, size[1], 20), np.linspace(0, size[0], 20)), -1)
    taken_at = through_lens(rays_through(grid, views.intrinsics[0]), written.intrinsics, lens)
    assert (taken_at > -0.05).all() and (taken_at < [size[1] + 0.05, size[0] + 0.05]).all()
    assert 1 < np.abs(taken_at - grid).max() < 60


def test_tum_folder(shared: Path, tmp_path: Path) -> None:
    folder = shared / "data" / "tum_fr1_rpy"
    if not folder.is_dir():
        pytest.skip("no tum_fr1_rpy")
    stored = np.load(folder / "scene.npz", allow_pickle=False)
    names = [str(name) for name in stored["names"]]
    written = files.Written(np.linalg.inv(stored["c2w"])[:, :3].astype(np.float64), tuple(names))
    files.write_tum(tmp_path / "groundtruth.txt", written, [float(name) + 0.01 for name in names])
    views = open_views(folder / "images", poses=tmp_path / "groundtruth.txt", intrinsics="63deg")
    assert [photo.stem for photo in views.photos] == names
    np.testing.assert_allclose(views.extrinsics, written.extrinsics, atol=1e-6)
