"""Array shapes in signatures are checked while tests run, and cost nothing for users."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
from jaxtyping import TypeCheckError

from depth_anything_3.errors import InputError
from depth_anything_3.geometry.pinhole import camera_centres


def test_a_wrong_shape_is_caught() -> None:
    assert camera_centres(np.eye(3, 4)).shape == (3,)
    with pytest.raises(TypeCheckError, match="extrinsics"):
        camera_centres(np.eye(4))


@pytest.mark.usefixtures("unchecked_shapes")
def test_a_test_can_ask_for_the_error_of_the_package() -> None:
    with pytest.raises(InputError, match="extrinsics"):
        camera_centres(np.eye(4))


@pytest.mark.parametrize("package", ["geometry.pinhole", "model.da3", "infer.preprocess"])
def test_every_core_package_is_checked(package: str) -> None:
    module = __import__(f"depth_anything_3.{package}", fromlist=["_"])
    functions = [f for f in vars(module).values() if callable(f) and getattr(f, "__module__", "") == module.__name__]
    assert any(hasattr(f, "__wrapped__") or hasattr(getattr(f, "forward", None), "__wrapped__") for f in functions)


def test_users_do_not_load_the_checker() -> None:
    code = (
        "import sys, numpy\n"
        "from depth_anything_3.geometry import pinhole\n"
        "assert 'beartype' not in sys.modules\n"
        "assert not hasattr(pinhole.camera_centres, '__wrapped__')\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
