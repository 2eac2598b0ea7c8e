"""HEIF photos, with the package that reads them and without it."""

from __future__ import annotations

import io
import sys
from pathlib import Path

import numpy as np
import pytest
from support.heif import heif_photo

from depth_anything_3.errors import ImageError, MissingExtraError
from depth_anything_3.io.images import decode_image, image_size, readable_formats
from depth_anything_3.io.sources import list_images

GREY = np.arange(256, dtype=np.uint8).reshape(16, 16)
SHOWN = np.clip(np.rint((GREY.astype(float) - 16) * 255 / 219), 0, 255)  # video range


def test_pixels(tmp_path: Path) -> None:
    pytest.importorskip("pi_heif")
    photo = tmp_path / "IMG_1.HEIC"
    photo.write_bytes(heif_photo(GREY))
    assert list_images(tmp_path) == [photo] and image_size(photo, index=0) == (16, 16)
    for source in (photo, photo.read_bytes(), io.BytesIO(photo.read_bytes())):
        pixels = decode_image(source, index=0, alpha="composite").pixels
        np.testing.assert_allclose(pixels, np.repeat(SHOWN[:, :, None], 3, 2), atol=1)


@pytest.mark.parametrize("turns", [1, 2, 3])
def test_it_stands_upright(turns: int) -> None:
    pytest.importorskip("pi_heif")
    decoded = decode_image(heif_photo(GREY, quarter_turns=turns), index=0, alpha="composite")
    np.testing.assert_allclose(decoded.pixels[:, :, 1], np.rot90(SHOWN, turns), atol=1)
    assert decoded.exif_orientation == 1


def test_damage() -> None:
    pytest.importorskip("pi_heif")
    with pytest.raises(ImageError, match=r"^image\[3\]: got bytes \("):
        decode_image(heif_photo(GREY)[:-100], index=3, alpha="composite")


def test_without_the_package(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "pi_heif", None)
    photo = tmp_path / "IMG_1.heic"
    photo.write_bytes(heif_photo(GREY))
    assert list_images(tmp_path) == [photo], "it is missed aloud, not left out"
    for read in (lambda: decode_image(photo, index=0, alpha="drop"), lambda: image_size(photo, index=0)):
        with pytest.raises(MissingExtraError, match=r"pip install 'depth-anything-3\[heif\]'"):
            read()


def test_asking_for_formats_registers_it_once() -> None:
    pytest.importorskip("pi_heif")
    assert readable_formats().count("HEIF") == 1
