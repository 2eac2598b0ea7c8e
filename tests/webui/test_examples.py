"""Example photos."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from depth_anything_3.errors import InputError
from depth_anything_3.webui.choices import model_choices
from depth_anything_3.webui.examples import MADE_UP, Examples

WITH_HEAD = "depth-anything/DA3-GIANT-1.1"


def test_folders_are_scenes_and_other_names_lead_nowhere(tmp_path: Path) -> None:
    (tmp_path / "examples" / "house").mkdir(parents=True)
    (tmp_path / "examples" / "empty").mkdir()
    Image.new("RGB", (8, 8)).save(tmp_path / "examples" / "house" / "1.jpg")
    examples = Examples(tmp_path / "examples", tmp_path / "cache")
    assert examples.names() == ["house", MADE_UP]
    assert [path.name for path in examples.photos("house")] == ["1.jpg"]
    for name in ("empty", "..", "../examples/house", "other"):
        with pytest.raises(InputError):
            examples.photos(name)


@pytest.mark.slow
def test_the_made_up_room_is_drawn_once(tmp_path: Path) -> None:
    examples = Examples(tmp_path / "none", tmp_path / "cache")
    room = examples.photos(MADE_UP)
    assert len(room) == 3 and room == examples.photos(MADE_UP)
    with Image.open(room[0]) as picture:
        assert np.asarray(picture).std() > 10


def test_every_model_says_its_licence_and_abilities() -> None:
    choices = {choice.source: choice.note for choice in model_choices("my/model")}
    assert next(iter(choices)) == "my/model" and "bundled/da3-tiny" in choices
    assert "CC BY-NC 4.0" in choices["depth-anything/DA3-GIANT-1.1"]
    assert "no commercial use" in choices["depth-anything/DA3-GIANT-1.1"]
    heads = {choice.source: choice.gaussians for choice in model_choices()}
    assert heads["bundled/da3-tiny"] == ["none", "from depth"]
    assert all("from the model's head" in heads[name] for name in (WITH_HEAD, "bundled/da3-gs-tiny"))
    assert "metric depth" in choices["depth-anything/DA3METRIC-LARGE"]
