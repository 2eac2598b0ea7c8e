"""Decoding: every accepted kind of image, and every refusal."""

from __future__ import annotations

import io
import threading
import time
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image, ImageOps, features

from depth_anything_3.errors import ImageError
from depth_anything_3.io.images import DecodedImage, ImageSource, decode_image, readable_formats
from depth_anything_3.types.options import AlphaMode

Pixels = npt.NDArray[np.uint8]


def decode(source: Any, *, index: int = 0, alpha: AlphaMode = "composite") -> DecodedImage:
    return decode_image(source, index=index, alpha=alpha)


def noise(*shape: int, seed: int = 0) -> Pixels:
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def encoded(image: Image.Image, format: str = "PNG", **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format, **options)
    return buffer.getvalue()


# --- kinds of sources --------------------------------------------------------------------------------------------


def test_every_kind_of_source_gives_the_same_pixels(tmp_path: Path) -> None:
    pixels = noise(5, 7, 3)
    content = encoded(Image.fromarray(pixels))
    path = tmp_path / "a photo.png"
    path.write_bytes(content)
    with path.open("rb") as stream:
        sources: list[ImageSource] = [path, str(path), content, io.BytesIO(content), stream, pixels]
        sources += [Image.fromarray(pixels), Image.open(io.BytesIO(content))]
        decoded = [decode(source, index=7) for source in sources]
    for image in decoded:
        np.testing.assert_array_equal(image.pixels, pixels)
        assert image.pixels.dtype == np.uint8 and image.exif_orientation == 1
    assert [image.name for image in decoded] == ["a photo.png"] * 2 + ["image_0007"] * 6


def test_result_is_read_only_and_arguments_stay_as_they_were() -> None:
    pixels = noise(4, 4, 3)
    decoded = decode(pixels)
    assert not decoded.pixels.flags.writeable
    assert pixels.flags.writeable
    with pytest.raises(AttributeError):
        decoded.name = "other"  # type: ignore[misc]


def test_file_object_is_put_back_where_it_was() -> None:
    content = encoded(Image.fromarray(noise(4, 4, 3)))
    stream = io.BytesIO(b"header" + content)
    stream.seek(6)
    first, second = decode(stream), decode(stream)
    assert stream.tell() == 6
    np.testing.assert_array_equal(first.pixels, second.pixels)


def test_one_object_decoded_by_many_threads() -> None:
    pixels = noise(300, 300, 3)
    stream = io.BytesIO(encoded(Image.fromarray(pixels)))
    lazy = Image.open(io.BytesIO(stream.getvalue()))
    barrier = threading.Barrier(8)

    def work(source: ImageSource) -> Pixels:
        barrier.wait()
        return decode(source).pixels

    with ThreadPoolExecutor(8) as pool:
        for result in pool.map(work, [stream, lazy] * 4):
            np.testing.assert_array_equal(result, pixels)


def test_one_file_object_is_read_by_one_thread_at_a_time() -> None:
    class Slow(io.BytesIO):
        readers = 0

        def read(self, *arguments: Any) -> bytes:
            self.readers += 1
            assert self.readers == 1
            time.sleep(0.01)
            self.readers -= 1
            return super().read(*arguments)

    stream = Slow(encoded(Image.fromarray(noise(4, 4, 3))))
    with ThreadPoolExecutor(4) as pool:
        assert len(list(pool.map(decode, [stream] * 8))) == 8


def test_non_contiguous_arrays() -> None:
    pixels = noise(6, 8, 3)
    np.testing.assert_array_equal(decode(pixels[::-1, ::2, ::-1]).pixels, pixels[::-1, ::2, ::-1])


# --- pixel formats -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(4, 6), (4, 6, 1)])
def test_grey_arrays(shape: tuple[int, ...]) -> None:
    grey = noise(*shape)
    np.testing.assert_array_equal(decode(grey).pixels, np.stack([grey.reshape(4, 6)] * 3, axis=2))


def test_bool_arrays_are_black_and_white() -> None:
    mask = np.array([[True, False]])
    np.testing.assert_array_equal(decode(mask).pixels, [[[255] * 3, [0] * 3]])


@pytest.mark.parametrize("byte_order", ["<u2", ">u2"])
def test_uint16_arrays_are_scaled_and_rounded(byte_order: str) -> None:
    values = np.arange(65536, dtype=byte_order).reshape(256, 256)
    expected = np.rint(np.arange(65536) * 255 / 65535).astype(np.uint8).reshape(256, 256)
    np.testing.assert_array_equal(decode(values).pixels[:, :, 1], expected)
    colour = np.stack([values, values[::-1], values.T], axis=2)
    np.testing.assert_array_equal(decode(colour).pixels[:, :, 2], expected.T)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_float_arrays_are_scaled_and_rounded(dtype: Any) -> None:
    pixels = noise(8, 8, 3)
    np.testing.assert_array_equal(decode((pixels / 255).astype(dtype)).pixels, pixels)
    np.testing.assert_array_equal(decode((pixels[:, :, 0] / 255).astype(dtype)).pixels[:, :, 2], pixels[:, :, 0])
    assert decode(np.array([[0.499 / 255, 0.501 / 255]])).pixels[0, :, 0].tolist() == [0, 1]


def test_float_arrays_with_alpha() -> None:
    rgba = np.array([[[1.0, 0.0, 0.0, 0.0], [1.0, 0.0, 0.0, 1.0]]])
    assert decode(rgba).pixels.tolist() == [[[255, 255, 255], [255, 0, 0]]]
    assert decode(rgba, alpha="drop").pixels.tolist() == [[[255, 0, 0], [255, 0, 0]]]


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB", "CMYK", "YCbCr", "HSV"])
def test_opaque_pillow_modes_follow_pillow(mode: str) -> None:
    image = Image.fromarray(noise(6, 5, 3)).convert(mode)
    for alpha in ("composite", "drop"):
        np.testing.assert_array_equal(decode(image, alpha=alpha).pixels, np.asarray(image.convert("RGB")))


def test_cmyk_file() -> None:
    image = Image.fromarray(noise(16, 16, 3)).convert("CMYK")
    content = encoded(image, "JPEG", quality=95)
    np.testing.assert_array_equal(decode(content).pixels, np.asarray(Image.open(io.BytesIO(content)).convert("RGB")))


@pytest.mark.parametrize("format", ["PNG", "TIFF", "PPM"])
def test_16_bit_grey_files_are_scaled(format: str) -> None:
    values = np.linspace(0, 65535, 12 * 10).astype(np.uint16).reshape(12, 10)
    expected = np.rint(values * 255.0 / 65535).astype(np.uint8)
    if format == "PPM":  # older Pillow reads these, but does not write them
        content = b"P5 10 12 65535\n" + values.astype(">u2").tobytes()
    else:
        content = encoded(Image.fromarray(values), format)
    decoded = decode(content).pixels
    np.testing.assert_array_equal(decoded, np.stack([expected] * 3, axis=2))


def test_32_bit_and_float_grey_in_pillow() -> None:
    assert decode(Image.fromarray(np.array([[0, 65535]], np.int32))).pixels[0, :, 0].tolist() == [0, 255]
    assert decode(Image.fromarray(np.array([[0, 1]], np.float32))).pixels[0, :, 0].tolist() == [0, 255]
    with pytest.raises(ImageError, match="0 to 65536"):
        decode(Image.fromarray(np.array([[0, 65536]], np.int32)))
    with pytest.raises(ImageError, match=r"-1 to 5"):
        decode(Image.fromarray(np.array([[-1, 5]], np.int32)))
    with pytest.raises(ImageError, match=r"0 to 2"):
        decode(Image.fromarray(np.array([[0, 2]], np.float32)))


# --- transparency ------------------------------------------------------------------------------------------------


def over_white(rgba: Pixels) -> Pixels:
    opacity = rgba[:, :, 3:] / 255
    return np.rint(rgba[:, :, :3] * opacity + 255 * (1 - opacity)).astype(np.uint8)


def test_rgba_array_and_image_and_file() -> None:
    rgba = noise(64, 64, 4)
    rgba[:8, :, 3], rgba[8:16, :, 3] = 0, 255
    for source in (rgba, Image.fromarray(rgba), encoded(Image.fromarray(rgba))):
        np.testing.assert_array_equal(decode(source).pixels, over_white(rgba))
        np.testing.assert_array_equal(decode(source, alpha="drop").pixels, rgba[:, :, :3])
    np.testing.assert_array_equal(
        decode(rgba, alpha="drop").pixels, np.asarray(Image.fromarray(rgba).convert("RGB")), "hidden colours are kept"
    )


def test_composite_for_every_colour_and_opacity() -> None:
    colour, opacity = np.meshgrid(np.arange(256, dtype=np.uint8), np.arange(256, dtype=np.uint8))
    rgba = np.stack([colour, colour, colour, opacity], axis=2)
    np.testing.assert_array_equal(decode(rgba).pixels, over_white(rgba))


def test_grey_with_alpha() -> None:
    image = Image.fromarray(noise(6, 5, 2), "LA")
    rgba = np.asarray(image.convert("RGBA"))
    np.testing.assert_array_equal(decode(image).pixels, over_white(rgba))
    np.testing.assert_array_equal(decode(image, alpha="drop").pixels, np.asarray(image.convert("RGB")))


@pytest.mark.parametrize("mode", ["RGBa", "La"])
def test_premultiplied_alpha(mode: str) -> None:
    straight = Image.fromarray(noise(6, 5, 4)).convert({"RGBa": "RGBA", "La": "LA"}[mode])
    rgba = np.asarray(straight.convert(mode).convert(straight.mode).convert("RGBA"))
    np.testing.assert_array_equal(decode(straight.convert(mode)).pixels, over_white(rgba))
    np.testing.assert_array_equal(decode(straight.convert(mode), alpha="drop").pixels, rgba[:, :, :3])


@pytest.mark.parametrize("transparency", [2, bytes([255, 0, 128, 7])])
def test_palette_with_transparency(transparency: int | bytes) -> None:
    image = Image.fromarray(np.arange(12, dtype=np.uint8).reshape(3, 4) % 4, "P")
    image.putpalette([255, 0, 0, 0, 255, 0, 0, 0, 255, 10, 20, 30])
    content = encoded(image, transparency=transparency)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        composite, dropped = decode(content).pixels, decode(content, alpha="drop").pixels
    rgba = np.asarray(Image.open(io.BytesIO(content)).convert("RGBA"))
    assert (rgba[:, :, 3] < 255).any()
    np.testing.assert_array_equal(composite, over_white(rgba))
    np.testing.assert_array_equal(dropped, np.asarray(image.convert("RGB")))


def test_transparent_colour_of_rgb_file() -> None:
    image = Image.new("RGB", (2, 1), (10, 20, 30))
    image.putpixel((1, 0), (1, 2, 3))
    content = encoded(image, transparency=(10, 20, 30))
    assert decode(content).pixels.tolist() == [[[255, 255, 255], [1, 2, 3]]]
    assert decode(content, alpha="drop").pixels.tolist() == [[[10, 20, 30], [1, 2, 3]]]


def test_transparency_as_a_mask() -> None:
    rgba = noise(12, 10, 4)
    for source in (rgba, Image.fromarray(rgba), encoded(Image.fromarray(rgba))):
        decoded = decode(source, alpha="mask")
        np.testing.assert_array_equal(decoded.pixels, over_white(rgba))
        np.testing.assert_array_equal(decoded.mask, rgba[:, :, 3] >= 128)
        assert decoded.mask is not None and not decoded.mask.flags.writeable
        assert decode(source).mask is None and decode(source, alpha="drop").mask is None
    assert decode(noise(4, 4, 3), alpha="mask").mask is None
    exif = Image.Exif()
    exif[0x0112] = 6
    clear = Image.fromarray(np.array([[[0, 0, 0, 0], [0, 0, 0, 255]]], np.uint8))
    mask = decode(encoded(clear, exif=exif), alpha="mask").mask
    assert mask is not None and mask.tolist() == [[False], [True]]


# --- orientation -------------------------------------------------------------------------------------------------


def with_orientation(pixels: Pixels, format: str, orientation: object, **options: Any) -> bytes:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return encoded(Image.fromarray(pixels), format, exif=exif, **options)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize(("format", "options"), [("PNG", {}), ("TIFF", {}), ("JPEG", {}), ("WEBP", {"lossless": True})])
def test_orientation_is_applied(format: str, options: dict[str, Any], orientation: int) -> None:
    content = with_orientation(noise(6, 9, 3), format, orientation, **options)
    upright = np.asarray(ImageOps.exif_transpose(Image.open(io.BytesIO(content))).convert("RGB"))
    assert upright.shape == ((6, 9, 3) if orientation < 5 else (9, 6, 3))
    for source in (content, io.BytesIO(content), Image.open(io.BytesIO(content))):
        decoded = decode(source)
        np.testing.assert_array_equal(decoded.pixels, upright)
        assert decoded.exif_orientation == orientation


def test_orientation_by_hand() -> None:
    a, b = [255, 0, 0], [0, 255, 0]
    row = np.array([[a, b]], np.uint8)
    shown = {o: decode(with_orientation(row, "PNG", o)).pixels.tolist() for o in (1, 2, 3, 6, 8)}
    assert shown == {1: [[a, b]], 2: [[b, a]], 3: [[b, a]], 6: [[a], [b]], 8: [[b], [a]]}


def test_orientation_of_grey_16_bit_and_transparent_images() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    grey = Image.fromarray(np.array([[0, 65535]], np.uint16))
    assert decode(encoded(grey, exif=exif)).pixels[:, :, 0].tolist() == [[0], [255]]
    clear = Image.fromarray(np.array([[[0, 0, 0, 0], [0, 0, 0, 255]]], np.uint8))
    assert decode(encoded(clear, exif=exif)).pixels[:, :, 0].tolist() == [[255], [0]]


@pytest.mark.parametrize("orientation", [0, 9, 1000])
def test_senseless_orientation_is_ignored(orientation: int) -> None:
    pixels = noise(3, 5, 3)
    decoded = decode(with_orientation(pixels, "PNG", orientation))
    np.testing.assert_array_equal(decoded.pixels, pixels)
    assert decoded.exif_orientation == 1


def test_orientation_that_is_no_number_is_ignored() -> None:
    image = Image.fromarray(noise(3, 5, 3))
    image.getexif()[0x0112] = "6"
    assert decode(image).pixels.shape == (3, 5, 3)


def test_damaged_metadata_does_not_matter() -> None:
    pixels = noise(3, 5, 3)
    decoded = decode(encoded(Image.fromarray(pixels), exif=b"Exif\0\0not a TIFF header at all"))
    np.testing.assert_array_equal(decoded.pixels, pixels)
    assert decoded.exif_orientation == 1


def test_memory_images_carry_their_tag() -> None:
    image = Image.open(io.BytesIO(with_orientation(noise(4, 6, 3), "PNG", 8)))
    image.load()
    assert decode(image).pixels.shape == (6, 4, 3)
    assert decode(image).exif_orientation == 8  # a second time: the argument was not turned


# --- files -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("format", ["GIF", "TIFF", "PNG", "WEBP"])
def test_first_frame_of_several(format: str) -> None:
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "blue", "green")]
    options: dict[str, Any] = {"save_all": True, "append_images": frames[1:]}
    content = encoded(frames[0], format, **options, **({"lossless": True} if format == "WEBP" else {}))
    assert Image.open(io.BytesIO(content)).n_frames == 3  # type: ignore[attr-defined]
    assert decode(content).pixels[4, 4].tolist() == [255, 0, 0]


@pytest.mark.parametrize("format", ["PNG", "JPEG", "WEBP", "BMP", "TIFF", "GIF", "PPM", "TGA", "JPEG2000", "AVIF"])
def test_common_formats(format: str) -> None:
    if format in {"AVIF", "JPEG2000"} and not features.check({"AVIF": "avif", "JPEG2000": "jpg_2000"}[format]):
        pytest.skip(f"this Pillow is built without {format}")
    content = encoded(Image.fromarray(noise(16, 12, 3)), format)
    expected = np.asarray(Image.open(io.BytesIO(content)).convert("RGB"))
    np.testing.assert_array_equal(decode(content).pixels, expected)


def test_formats_that_run_programs_are_refused() -> None:
    assert {"PNG", "JPEG", "WEBP", "BMP", "TIFF", "GIF", "PPM"} <= set(readable_formats())
    assert "EPS" not in readable_formats()
    with pytest.raises(ImageError, match="not recognised"):
        decode(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EndComments\n")


# --- refusals ----------------------------------------------------------------------------------------------------


def refusal(source: Any, *, index: int = 3) -> str:
    with pytest.raises(ImageError) as caught:
        decode(source, index=index)
    assert caught.value.argument == f"image[{index}]"
    return str(caught.value)


def test_paths_that_are_no_images(tmp_path: Path) -> None:
    text, empty, missing = tmp_path / "notes.png", tmp_path / "empty.png", tmp_path / "missing.png"
    text.write_text("no image")
    empty.touch()
    reasons = {text: "not recognised", empty: "empty", missing: "no such file", tmp_path: "a folder"}
    for path, reason in reasons.items():
        message = refusal(path)
        assert str(path) in message and reason in message and "image[3]" in message
    assert "0x" not in refusal(text), "no memory addresses for people"
    assert "null" in refusal("a\0b.png")
    assert "too long" in refusal("a" * 5000)
    assert "empty" in refusal(b"")


@pytest.mark.parametrize("format", ["PNG", "JPEG", "GIF", "TIFF", "BMP", "WEBP"])
def test_truncated_files_are_named(tmp_path: Path, format: str) -> None:
    content = encoded(Image.fromarray(noise(64, 64, 3)), format)
    path = tmp_path / f"half.{format.lower()}"
    path.write_bytes(content[: len(content) // 2])
    assert str(path) in refusal(path)


@pytest.mark.parametrize("format", ["PNG", "JPEG", "GIF", "TIFF", "BMP", "WEBP", "PPM", "TGA", "JPEG2000", "ICO"])
def test_damaged_files_give_pixels_or_an_image_error(format: str) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    options: dict[str, Any] = {"exif": exif} if format in {"PNG", "JPEG", "TIFF", "WEBP"} else {}
    whole = np.frombuffer(encoded(Image.fromarray(noise(24, 16, 3)), format, **options), np.uint8)
    rng = np.random.default_rng(1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow warns of damaged metadata
        for _ in range(150):
            content = whole[: rng.integers(1, len(whole) + 1)].copy()
            hits = rng.integers(0, min(len(content), 200), rng.integers(0, 6))
            content[hits] = rng.integers(0, 256, len(hits))
            try:
                assert decode(content.tobytes()).pixels.ndim == 3
            except ImageError:
                continue


def test_decompression_bombs(monkeypatch: pytest.MonkeyPatch) -> None:
    content = encoded(Image.fromarray(noise(30, 30, 3)))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    message = refusal(content)
    assert "900 pixels" in message and "MAX_IMAGE_PIXELS" in message


@pytest.mark.parametrize("shape", [(), (5,), (4, 4, 2), (4, 4, 5), (3, 20, 30), (2, 4, 4, 3), (0, 4, 3), (4, 0)])
def test_shapes_that_are_no_image(shape: tuple[int, ...]) -> None:
    assert str(shape) in refusal(np.zeros(shape, np.uint8))


@pytest.mark.parametrize("dtype", [np.int64, np.int8, np.uint32, np.complex64, object, "U1", "datetime64[s]"])
def test_dtypes_without_a_range(dtype: Any) -> None:
    message = refusal(np.zeros((4, 4, 3), dtype))
    assert "dtype" in message and "uint8" in message


@pytest.mark.parametrize("value", [-0.01, 1.01, 255.0, np.nan, np.inf])
def test_floats_out_of_range(value: float) -> None:
    image = np.full((4, 4, 3), 0.5)
    image[2, 1, 0] = value
    assert "[0, 1]" in refusal(image)


def test_empty_pillow_image() -> None:
    assert "at least one pixel" in refusal(Image.new("RGB", (0, 3)))


def test_streams_that_are_no_images(tmp_path: Path) -> None:
    assert "binary mode" in refusal(io.StringIO("text"))
    closed = io.BytesIO(b"x")
    closed.close()
    assert "closed" in refusal(closed)


@pytest.mark.parametrize("source", [None, 5, 1.5, {"a": 1}, [1, 2], object()])
def test_other_types_list_what_is_accepted(source: object) -> None:
    message = refusal(source)
    assert type(source).__name__ in message and "numpy array" in message and "path" in message
