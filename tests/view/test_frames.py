"""Frames as bytes."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from depth_anything_3.view.frames import HEADER, DepthFrame, decode_depth, encode_depth, pack


def test_depth_comes_back_as_well_as_sixteen_bits_of_inverse_depth_can() -> None:
    depth = np.geomspace(0.1, 80, 60, dtype=np.float32).reshape(6, 10)
    depth[0, :3] = (np.nan, np.inf, -1)
    codes, near, far = encode_depth(depth)
    back = decode_depth(codes, near, far)
    assert codes.dtype == "<u2" and (back[0, :3] == 0).all()
    valid = codes > 0
    step = (1 / near - 1 / far) / 65534
    assert np.abs(1 / back[valid] - 1 / depth[valid]).max() <= 0.51 * step
    assert (near, far) == (depth[0, 3], depth[-1, -1])


@pytest.mark.parametrize("value", [0.0, np.nan, 2.0])
def test_depth_without_a_span(value: float) -> None:
    depth = np.full((3, 4), value, np.float32)
    codes, near, far = encode_depth(depth)
    np.testing.assert_allclose(decode_depth(codes, near, far), 2 if value == 2 else 0)


def test_a_message_holds_colour_and_depth_of_one_time() -> None:
    rng = np.random.default_rng(0)
    frame = DepthFrame(
        image=np.full((14, 28, 3), (200, 40, 90), np.uint8),
        depth=rng.uniform(1, 5, (14, 28)).astype(np.float32),
        intrinsics=np.array([[20, 0, 14], [0, 21, 7], [0, 0, 1]], np.float32),
        timestamp=1.25,
        sequence=7,
        generation=3,
        metric=True,
    )
    message = pack(frame)
    magic, version, flags, sequence, generation, time, width, height, *rest = HEADER.unpack_from(message)
    assert (magic, version, flags, sequence, generation, time, width, height) == (b"DA3V", 1, 1, 7, 3, 1.25, 28, 14)
    *lens, near, far, jpeg, depth = rest
    assert lens == [20, 21, 14, 7]
    assert len(message) == HEADER.size + jpeg + depth == HEADER.size + jpeg + 2 * 14 * 28
    with Image.open(io.BytesIO(message[HEADER.size :][:jpeg])) as picture:
        assert np.abs(np.asarray(picture.convert("RGB")).astype(int) - (200, 40, 90)).max() < 8
    codes = np.frombuffer(message, "<u2", offset=HEADER.size + jpeg).reshape(14, 28)
    np.testing.assert_allclose(decode_depth(codes, near, far), frame.depth, rtol=1e-3)
