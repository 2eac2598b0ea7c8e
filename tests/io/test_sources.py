"""What a path or the argument ``image`` stands for."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, features

from depth_anything_3.errors import InputError
from depth_anything_3.io.sources import as_image_list, image_extensions, list_images


def fill(folder: Path, *names: str) -> Path:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"not read here")
    return folder


def names(paths: list[Path]) -> list[str]:
    return [path.name for path in paths]


# --- folders -----------------------------------------------------------------------------------------------------


def test_natural_order(tmp_path: Path) -> None:
    fill(tmp_path, "img10.png", "img2.png", "IMG1.png", "img02.png", "b.png", "a.png", "10.png", "9.png")
    expected = ["9.png", "10.png", "a.png", "b.png", "IMG1.png", "img02.png", "img2.png", "img10.png"]
    assert names(list_images(tmp_path)) == expected


def test_natural_order_with_two_numbers_and_long_digits(tmp_path: Path) -> None:
    ordered = ["f1_2.png", "f1_10.png", "f2_1.png", "f18446744073709551616.png", "f18446744073709551617.png"]
    fill(tmp_path, *reversed(ordered))
    assert names(list_images(tmp_path)) == ordered


def test_digits_of_other_scripts_and_superscripts(tmp_path: Path) -> None:
    fill(tmp_path, "a².png", "a٣.png", "a1.png", "²/b.png", "2/b.png")
    assert len(list_images(tmp_path, recursive=True)) == 5


def test_names_that_differ_in_zeros_or_case_have_an_order(tmp_path: Path) -> None:
    zeros = ["0" * count + "1.png" for count in range(7, -1, -1)]
    fill(tmp_path, *zeros[::2], *zeros[1::2])
    assert names(list_images(tmp_path)) == zeros


def test_any_case_and_every_common_extension(tmp_path: Path) -> None:
    files = ["a.png", "b.Jpg", "c.JPEG", "d.WebP", "e.bmp", "f.TIF", "g.tiff", "h.gif", "i.ppm"]
    if features.check("avif"):
        files.append("j.avif")
    fill(tmp_path, *files, "notes.txt", "scene.eps", "depth.pfm", "points.ply", "clip.mp4")
    assert names(list_images(tmp_path)) == files


def test_hidden_files_and_folders_are_left_out(tmp_path: Path) -> None:
    fill(tmp_path, "a.png", ".b.png", "._a.png", "sub/c.png", "folder.png/d.txt", ".cache/e.png")
    assert names(list_images(tmp_path)) == ["a.png"]
    assert names(list_images(tmp_path, recursive=True)) == ["a.png", "c.png"]


def test_recursive_goes_folder_by_folder(tmp_path: Path) -> None:
    fill(tmp_path, "s10/1.png", "s2/2.png", "s2/10.png")
    found = [path.relative_to(tmp_path).as_posix() for path in list_images(tmp_path, recursive=True)]
    assert found == ["s2/2.png", "s2/10.png", "s10/1.png"]


def test_folder_inside_a_hidden_one(tmp_path: Path) -> None:
    assert names(list_images(fill(tmp_path / ".hidden", "a.png"))) == ["a.png"]


def test_extensions_are_lower_case_with_a_dot() -> None:
    assert all(ext.startswith(".") and ext == ext.lower() for ext in image_extensions())
    assert not image_extensions() & {".eps", ".ps", ".pdf", ".mpg", ".h5", ".pfm", ".mp4"}


# --- single files ------------------------------------------------------------------------------------------------


def test_single_photo(tmp_path: Path) -> None:
    path = fill(tmp_path, "a.PNG") / "a.PNG"
    assert list_images(path) == list_images(str(path)) == [path]


def test_photo_without_extension_is_recognised_by_content(tmp_path: Path) -> None:
    Image.new("RGB", (3, 3)).save(tmp_path / "photo", "PNG")
    assert list_images(tmp_path / "photo") == [tmp_path / "photo"]


# --- refusals ----------------------------------------------------------------------------------------------------


def refusal(path: Path | str, **options: Any) -> str:
    with pytest.raises(InputError) as caught:
        list_images(path, **options)
    assert caught.value.argument == options.get("argument", "INPUT")
    message = str(caught.value)
    assert str(path) in message and "a photo, or a folder of photos" in message
    return message


def test_missing_and_empty(tmp_path: Path) -> None:
    assert "no such file or folder" in refusal(tmp_path / "missing")
    assert "empty folder" in refusal(tmp_path)
    assert "empty path" in refusal("")
    assert "no such file" in refusal("a" * 5000)
    assert as_image_list("a" * 5000) == ["a" * 5000]  # decoding it says what is wrong
    assert "image:" in refusal(tmp_path, argument="image")


def test_folder_without_photos(tmp_path: Path) -> None:
    message = refusal(fill(tmp_path, "b.txt", "a.csv"))
    assert "2 files" in message and "a.csv" in message and ".png" in message


def test_folder_of_folders(tmp_path: Path) -> None:
    assert "folders" in refusal(fill(tmp_path, "left/a.png").resolve())


def test_file_that_is_no_photo(tmp_path: Path) -> None:
    assert "not an image" in refusal(fill(tmp_path, "a.txt") / "a.txt")


@pytest.mark.parametrize("name", ["clip.mp4", "CLIP.MOV", "a.webm"])
def test_videos_are_no_photos(tmp_path: Path, name: str) -> None:
    fill(tmp_path, name)
    assert "(a video)" in refusal(tmp_path / name)
    assert "a folder with videos and no photos" in refusal(tmp_path)


def test_the_photos_of_colmap_folders_are_pointed_at(tmp_path: Path) -> None:
    fill(tmp_path, "images/a.png", "sparse/0/cameras.bin", "preview.png")
    message = refusal(tmp_path)
    assert "COLMAP" in message and str(tmp_path / "images") in message
    assert names(list_images(tmp_path / "images")) == ["a.png"]


# --- the argument ``image`` --------------------------------------------------------------------------------------


def test_lists_and_tuples_stay_as_they_are(tmp_path: Path) -> None:
    array = np.zeros((2, 3, 3), np.uint8)
    sources = ["a.png", Path("b.png"), b"bytes", io.BytesIO(), Image.new("RGB", (1, 1)), array]
    for given in (sources, tuple(sources)):
        result = as_image_list(given)
        assert result is not given
        assert all(a is b for a, b in zip(result, sources, strict=True))


@pytest.mark.parametrize(
    "source",
    ["a.png", Path("a.png"), b"bytes", Image.new("RGB", (1, 1)), np.zeros((4, 5)), np.zeros((4, 5, 3), np.uint8)],
    ids=lambda source: type(source).__name__,
)
def test_single_source(source: Any) -> None:
    (only,) = as_image_list(source)
    assert only is source


def test_stack_of_arrays() -> None:
    stack = np.arange(2 * 4 * 5 * 3, dtype=np.uint8).reshape(2, 4, 5, 3)
    first, second = as_image_list(stack)
    np.testing.assert_array_equal(first, stack[0])
    np.testing.assert_array_equal(second, stack[1])


@pytest.mark.parametrize("as_type", [str, Path])
def test_folder(tmp_path: Path, as_type: Any) -> None:
    fill(tmp_path, "2.png", "10.png")
    assert as_image_list(as_type(tmp_path)) == [tmp_path / "2.png", tmp_path / "10.png"]


def test_folder_without_photos_is_about_the_argument_image(tmp_path: Path) -> None:
    with pytest.raises(InputError) as caught:
        as_image_list(tmp_path)
    assert caught.value.argument == "image"


@pytest.mark.parametrize("nothing", [[], (), np.zeros((0, 4, 4, 3), np.uint8)], ids=["list", "tuple", "array"])
def test_nothing(nothing: Any) -> None:
    with pytest.raises(InputError, match="no images") as caught:
        as_image_list(nothing)
    assert caught.value.argument == "image"


@pytest.mark.parametrize("shape", [(), (7,), (1, 2, 4, 5, 3)])
def test_arrays_that_are_neither_image_nor_stack(shape: tuple[int, ...]) -> None:
    with pytest.raises(InputError, match=r"N, H, W, 3") as caught:
        as_image_list(np.zeros(shape))
    assert caught.value.argument == "image"


@pytest.mark.parametrize("wrong", [None, 5, {"a": 1}, {1, 2}, iter(["a.png"])], ids=lambda wrong: type(wrong).__name__)
def test_wrong_types_list_the_right_ones(wrong: Any) -> None:
    for given, argument in ((wrong, "image"), (["a.png", wrong], "image[1]")):
        with pytest.raises(InputError, match="PIL image") as caught:
            as_image_list(given)
        assert caught.value.argument == argument
        assert type(wrong).__name__ in str(caught.value)


def test_nested_lists_are_refused() -> None:
    with pytest.raises(InputError, match=r"image\[0\]"):
        as_image_list([["a.png"]])
