"""The log on disk: what is committed is there, what is not is gone, and damage is said."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from depth_anything_3.errors import InputError
from depth_anything_3.stream.frames import (
    FrameDepth,
    Picture,
    decode_depth,
    decode_picture,
    encode_depth,
    encode_picture,
)
from depth_anything_3.stream.store import LOG, Store, pack, unpack

MADE_WITH = {"window": 3}


def _filled(folder: Path) -> Store:
    store = Store(folder, MADE_WITH)
    store.put("pict", 0, b"first")
    store.put("wind", 0, b"window")
    store.commit()
    store.put("pict", 1, b"second")
    store.commit()
    return store


def test_what_is_committed_is_there_again(tmp_path: Path) -> None:
    store = _filled(tmp_path / "new")
    store.put("pict", 2, b"lost")
    store.close()
    again = Store(tmp_path / "new", MADE_WITH)
    assert again.keys("pict") == [0, 1]
    assert again.in_order(("wind", "pict")) == [("pict", 0), ("wind", 0), ("pict", 1)]
    assert again.get("pict", 1) == b"second"
    again.put("pict", 2, b"third")
    again.commit()
    assert again.commits == 3


@pytest.mark.parametrize("cut", range(1, 70, 9))
def test_a_torn_end_is_cut_off(tmp_path: Path, cut: int) -> None:
    _filled(tmp_path).close()
    log = tmp_path / LOG
    log.write_bytes(log.read_bytes()[:-cut])
    store = Store(tmp_path, MADE_WITH)
    assert store.keys("pict") == [0]
    store.put("pict", 1, b"again")
    store.commit()
    store.close()
    assert Store(tmp_path, MADE_WITH).get("pict", 1) == b"again"


def test_damage_is_not_taken_for_a_torn_end(tmp_path: Path) -> None:
    _filled(tmp_path).close()
    log = tmp_path / LOG
    content = bytearray(log.read_bytes())
    content[10] ^= 1  # in the header of the first record
    log.write_bytes(content)
    with pytest.raises(InputError, match="damaged at byte 0"):
        Store(tmp_path, MADE_WITH)
    content[10] ^= 1
    content[content.index(b"second")] ^= 1
    log.write_bytes(content)
    with pytest.raises(InputError, match="pict 1 is damaged"):
        Store(tmp_path, MADE_WITH).get("pict", 1)


def test_a_store_of_something_else_is_refused(tmp_path: Path) -> None:
    _filled(tmp_path).close()
    with pytest.raises(InputError, match="which was made with window 3, not 4; expected the same"):
        Store(tmp_path, {"window": 4})
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "notes.txt").write_text("mine")
    with pytest.raises(InputError, match="holds other files"):
        Store(tmp_path / "other", MADE_WITH)
    with pytest.raises(InputError, match="which is there"):
        Store(tmp_path, MADE_WITH).put("pict", 0, b"")


def test_frames_of_full_size_fit_a_megabyte_and_come_back() -> None:
    rng = np.random.default_rng(0)
    depth = rng.uniform(0.3, 300, (378, 504)).astype(np.float32)  # nothing to compress
    depth[:10] = np.nan
    conf = rng.uniform(1, 30, depth.shape).astype(np.float32)
    pixels = rng.integers(0, 256, (48, 63, 3)).repeat(8, 0).repeat(8, 1)[:378, :504].astype(np.uint8)
    picture = Picture(
        pixels=pixels,
        source_hw=(756, 1008),
        scale_xy=(0.5, 0.5),
        offset_xy=(0.0, 0.0),
        timestamp=1.25,
        intrinsics=np.eye(3),
        intrinsics_origin="fov",
        extrinsics=None,
        mask=pixels[..., 0] > 10,
        name="a.png",
    )
    stored, shown = encode_depth(FrameDepth(depth=depth, conf=conf)), encode_picture(picture)
    assert len(stored) + len(shown) < 1_000_000
    back, seen = decode_depth(stored), decode_picture(shown)
    np.testing.assert_allclose(back.depth, depth, rtol=1e-4)
    assert back.conf is not None
    np.testing.assert_allclose(back.conf, conf, rtol=0.01)
    assert (seen.name, seen.timestamp, seen.source_hw, seen.extrinsics) == ("a.png", 1.25, (756, 1008), None)
    np.testing.assert_array_equal(seen.mask, picture.mask)
    assert np.abs(seen.pixels.astype(int) - pixels).mean() < 12


def test_depth_that_is_unknown_everywhere() -> None:
    depth = np.full((2, 3), np.nan, np.float32)
    back = decode_depth(encode_depth(FrameDepth(depth=depth, conf=None)))
    assert np.isnan(back.depth).all() and back.conf is None


def test_what_is_no_record_is_refused() -> None:
    assert unpack(pack(a=[1, 2]))["a"].tolist() == [1, 2]
    with pytest.raises(InputError, match="cannot be read"):
        unpack(b"nothing")
