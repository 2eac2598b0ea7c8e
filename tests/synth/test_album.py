"""Photos on surfaces: the right colour in the right place, softer from afar, and nothing else changes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from depth_anything_3.errors import ImageError, InputError
from depth_anything_3.synth.album import SIDE, Album, chosen, load_album, look_up
from depth_anything_3.synth.cameras import make_cameras
from depth_anything_3.synth.render import render
from depth_anything_3.synth.scenes import KINDS, make_scene
from depth_anything_3.synth.variants import textureless, with_thin

H, W = 60, 80


@pytest.fixture
def photos(tmp_path: Path) -> list[Path]:
    """A picture whose corners have four colours, and noise twice as wide as high."""
    corners = np.zeros((SIDE, SIDE, 3), np.uint8)
    corners[: SIDE // 2, : SIDE // 2] = (255, 0, 0)
    corners[: SIDE // 2, SIDE // 2 :] = (0, 255, 0)
    corners[SIDE // 2 :, : SIDE // 2] = (0, 0, 255)
    corners[SIDE // 2 :, SIDE // 2 :] = (255, 255, 255)
    noise = np.random.default_rng(1).integers(0, 256, (100, 200, 3), np.uint8)
    paths = [tmp_path / "corners.png", tmp_path / "noise.png"]
    for path, pixels in zip(paths, (corners, noise), strict=True):
        Image.fromarray(pixels).save(path)
    return paths


def colours(album: Album, photo: int, spots: list[tuple[float, float]], blur: float = 1 / SIDE) -> np.ndarray:
    u, v = torch.tensor(spots, dtype=torch.float32).unbind(1)
    which = torch.full((len(spots),), photo)
    return torch.stack(look_up(album, which, (u, v), torch.full((len(spots),), blur)), 1).numpy()


def test_upright_and_mirrored(photos: list[Path]) -> None:
    album = load_album(photos)
    assert album.aspect.tolist() == [1, 2]
    found = colours(album, 0, [(0.25, 0.75), (0.75, 0.75), (0.25, 0.25), (0.75, 0.25)])
    np.testing.assert_allclose(found, [[1, 0, 0], [0, 1, 0], [0, 0, 1], [1, 1, 1]], atol=1e-5)
    np.testing.assert_allclose(
        colours(album, 0, [(1.75, 0.75), (-0.25, 0.75), (2.25, -0.75)]), [[1, 0, 0]] * 3, atol=1e-5
    )


def test_texels_lie_where_they_should(photos: list[Path]) -> None:
    """The centre of each texel shows that texel; half-way between two shows their mean."""
    album = load_album(photos)
    picture = album.texels[1, : SIDE * SIDE].reshape(SIDE, SIDE, 3).numpy()
    found = colours(album, 1, [((10 + 0.5) / SIDE, 1 - (30 + 0.5) / SIDE), (11 / SIDE, 1 - (30 + 0.5) / SIDE)])
    np.testing.assert_allclose(found, [picture[30, 10], (picture[30, 10] + picture[30, 11]) / 2], atol=1e-3)


def test_far_photos_fade_into_their_mean(photos: list[Path]) -> None:
    album = load_album(photos)
    spots = [tuple(spot) for spot in np.random.default_rng(2).uniform(0, 1, (400, 2)).tolist()]
    spread = [float(colours(album, 1, spots, blur).std(0).mean()) for blur in (1e-4, 1 / SIDE, 4 / SIDE, 32 / SIDE)]
    assert spread[0] == pytest.approx(spread[1])
    assert spread[1] > spread[2] > spread[3]
    assert spread[3] < 0.1 * spread[0]
    mean = album.texels[1, : SIDE * SIDE].mean(0).numpy()
    np.testing.assert_allclose(colours(album, 1, spots, 1.0).mean(0), mean, atol=0.02)


def test_pixels_between_levels_are_mixed(photos: list[Path]) -> None:
    album = load_album(photos)
    fine, between, coarse = (colours(album, 1, [(0.3, 0.6)], blur / SIDE)[0] for blur in (2, 2 * 2**0.5, 4))
    np.testing.assert_allclose(between, (fine + coarse) / 2, atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_only_what_carries_a_photo_changes(kind: str, photos: list[Path]) -> None:
    plain, hung = make_scene(6, kind), make_scene(6, kind, photos=load_album(photos))
    assert plain.album is None
    assert (plain.materials.photo == -1).all()
    covered = hung.materials.photo >= 0
    assert 1 <= covered.sum() < 0.7 * len(covered)
    cameras = make_cameras(plain, 4, H, W, seed=1, kind="random", fov_deg=90)
    before, after = (render(scene, cameras, H, W) for scene in (plain, hung))
    assert torch.equal(before.depth, after.depth)
    with_photo = covered[before.object_id.clamp_min(0).long()] & ~before.sky
    assert torch.equal(before.rgb[~with_photo], after.rgb[~with_photo])
    if with_photo.any():
        assert (before.rgb - after.rgb)[with_photo].abs().mean() > 0.01


def test_photos_survive_other_changes_or_go_with_the_texture(photos: list[Path]) -> None:
    scene = make_scene(6, "room", photos=load_album(photos))
    more = with_thin(scene, 1)
    count = len(scene.world.solids)
    assert torch.equal(more.materials.photo[:count], scene.materials.photo[:count])
    assert (more.materials.photo[count:] == -1).all()
    assert more.album is not None
    bare = textureless(scene, 1)
    assert bare.album is None
    assert (bare.materials.photo == -1).all()


def test_album_of_some(photos: list[Path]) -> None:
    album = load_album(photos)
    assert len(album) == 2
    assert torch.equal(chosen(album, [1]).texels, album.texels[1:])


def test_wrong_photos(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="paths"):
        load_album([])
    (tmp_path / "no.png").write_bytes(b"nothing")
    with pytest.raises(ImageError, match=r"no\.png"):
        load_album([tmp_path / "no.png"])
    with pytest.raises(InputError, match="texels"):
        Album(texels=torch.zeros(1, 5, 3), aspect=torch.ones(1))
