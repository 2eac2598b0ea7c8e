"""Records, progress and Gaussians: plain values without behaviour, made once and not changed."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from depth_anything_3.types.gaussians import Gaussians
from depth_anything_3.types.inputs import ModelInputs, ResizeRecord
from depth_anything_3.types.progress import Progress

RECORD = ResizeRecord(source_hw=(1200, 1600), processed_hw=(378, 504), scale_xy=(0.315, 0.315), offset_xy=(0.0, 0.0))


def test_records_are_values() -> None:
    assert dataclasses.replace(RECORD) == RECORD and len({RECORD, dataclasses.replace(RECORD)}) == 1
    assert RECORD.exif_orientation == 1
    assert dataclasses.replace(RECORD, exif_orientation=6) != RECORD


@pytest.mark.parametrize("cls", [ResizeRecord, ModelInputs])
def test_records_and_inputs_are_frozen_and_given_by_name(cls: type) -> None:
    assert all(field.kw_only for field in dataclasses.fields(cls))
    with pytest.raises(dataclasses.FrozenInstanceError):
        RECORD.source_hw = (1, 1)  # type: ignore[misc]


def test_progress_is_a_value() -> None:
    step = Progress("network", 3, 12)
    assert (step.stage, step.done, step.total) == ("network", 3, 12) and step == Progress("network", 3, 12)
    with pytest.raises(dataclasses.FrozenInstanceError):
        step.done = 4  # type: ignore[misc]


def test_the_published_fields_of_gaussians() -> None:
    names = [field.name for field in dataclasses.fields(Gaussians)]
    assert names == ["means", "scales", "rotations", "harmonics", "opacities"]
    values = [torch.full((1, 2), float(i)) for i in range(5)]
    assert Gaussians(*values).opacities is values[4]
