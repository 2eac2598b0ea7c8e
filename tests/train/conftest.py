"""A rendered scene of the procedural world that the tests of training share."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from depth_anything_3.datasets.procedural import RenderedScene, render_scene, save_scene
from depth_anything_3.train.augment import Pictures

SEED = 7  # eight views of a room, principal points off the middle, much in common


@pytest.fixture(scope="package", autouse=True)
def _one_thread() -> Iterator[None]:
    """As in the processes that some tests start: sums in another order are other sums."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def rendered() -> RenderedScene:
    """The scene; leave its arrays as they are."""
    return render_scene(SEED)


@pytest.fixture(scope="session")
def pictures(rendered: RenderedScene) -> Pictures:
    """Its views as training augments them."""
    return Pictures(
        images=rendered.images,
        depth=rendered.depth,
        sky=rendered.sky,
        intrinsics=rendered.intrinsics,
        extrinsics=rendered.extrinsics,
    )


@pytest.fixture(scope="session")
def cache(rendered: RenderedScene, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache folder in which the seeds 0 and 1 both hold the scene."""
    folder = tmp_path_factory.mktemp("scenes")
    for seed in (0, 1):
        save_scene(rendered, folder / "000000" / f"{seed:09d}.npz")
    return folder
