"""Masks as they come: what counts as kept, and whose they are."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from depth_anything_3.errors import InputError
from depth_anything_3.io.images import LensPhoto
from depth_anything_3.io.masks import as_mask_list, decode_mask
from depth_anything_3.io.video import VideoFrame
from depth_anything_3.types.cameras import Lens

KEPT = np.array([[True, False, True], [False, False, True]])


@pytest.mark.parametrize(
    "mask",
    [KEPT, KEPT.astype(np.uint8), KEPT * np.uint8(255), KEPT * 0.9, KEPT[..., None], 3 + KEPT * np.int32(200)],
    ids=["bool", "0 and 1", "0 and 255", "floats", "with a channel", "rough"],
)
def test_what_is_kept(mask: Any) -> None:
    np.testing.assert_array_equal(decode_mask(mask, index=0, size=(2, 3)), KEPT)


@pytest.mark.parametrize("mode", ["L", "1", "RGB"])
def test_pictures(tmp_path: Path, mode: str) -> None:
    Image.fromarray(KEPT * np.uint8(255)).convert(mode).save(tmp_path / "a.png")
    np.testing.assert_array_equal(decode_mask(tmp_path / "a.png", index=0, size=(2, 3)), KEPT)


def refusal(masks: object, images: list[Any]) -> InputError:
    with pytest.raises(InputError) as caught:
        for index, mask in enumerate(as_mask_list(masks, images)):
            if mask is not None:
                decode_mask(mask, index=index, size=(2, 3))
    return caught.value


def test_refusals(tmp_path: Path) -> None:
    assert (
        "shape (2, 3)" in str(refusal([None, KEPT.T], ["a", "b"])) and refusal([KEPT.T], ["a"]).argument == "masks[0]"
    )
    assert "1 for 2 views" in str(refusal([KEPT], ["a", "b"]))
    assert refusal([5], ["a"]).argument == "masks[0]" and refusal(KEPT, ["a"]).argument == "masks"
    assert refusal([tmp_path / "none.png"], ["a"]).argument == "masks[0]"
    assert "no such folder" in str(refusal(tmp_path / "none", ["a"]))
    Image.fromarray(KEPT).save(tmp_path / "other.png")
    assert "no mask for a.jpg" in str(refusal(tmp_path, [Path("x/a.jpg")]))


def test_a_folder_goes_by_the_names_of_the_photos(tmp_path: Path) -> None:
    for name in ("a.jpg.png", "B.png", "clip_000004.png"):
        Image.fromarray(KEPT).save(tmp_path / name)
    frame = VideoFrame(image=np.zeros((2, 3, 3), np.uint8), timestamp=0.4, index=4, name="clip_000004")
    lens = LensPhoto(photo=Path("b.jpeg"), intrinsics=np.eye(3), lens=Lens(), target=np.eye(3))
    found = as_mask_list(tmp_path, [Path("in/a.jpg"), lens, frame, "c.jpg", KEPT])
    names = [None if mask is None else Path(str(mask)).name for mask in found]
    assert names == ["a.jpg.png", "B.png", "clip_000004.png", None, None]
    assert as_mask_list(None, ["a", "b"]) == [None, None]
