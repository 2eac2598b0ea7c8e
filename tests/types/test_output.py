"""The network's output as a mapping of what is present."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from depth_anything_3._attr_dict import AttrDict
from depth_anything_3.types.output import NetOutput

DEPTH = torch.ones(1, 2, 14, 28)


def test_attributes_and_entries_are_the_same() -> None:
    output = NetOutput(depth=DEPTH, depth_conf=2 * DEPTH)
    assert output["depth"] is output.depth is DEPTH
    assert output["depth_conf"] is output.depth_conf
    assert output.get("depth") is DEPTH


def test_only_what_is_present_is_an_entry() -> None:
    output = NetOutput(depth=DEPTH, extrinsics=torch.zeros(1, 2, 3, 4))
    assert output.keys() == list(output) == ["depth", "extrinsics", "aux", "is_metric"]
    assert "extrinsics" in output and "sky" not in output and "nothing" not in output and 3 not in output
    assert output.sky is None and output.get("sky") is None and output.get("sky", 5) == 5
    assert output.get("nothing", 5) == 5


@pytest.mark.parametrize("name", ["sky", "nothing", "keys"])
def test_an_absent_entry_lists_the_present_ones(name: str) -> None:
    with pytest.raises(KeyError, match=f"no entry '{name}'; there are: depth, aux, is_metric"):
        NetOutput(depth=DEPTH)[name]


def test_entries_follow_changes() -> None:
    output = NetOutput(depth=DEPTH)
    output.sky = DEPTH
    assert "sky" in output and output["sky"] is DEPTH
    output.sky = None
    assert "sky" not in output


def test_a_mapping_can_be_made_of_it() -> None:
    output = NetOutput(depth=DEPTH, ray=torch.zeros(1, 2, 8, 16, 6), is_metric=True)
    assert {name: output[name] for name in output} == dict(output)
    assert dict(output).keys() == {"depth", "ray", "aux", "is_metric"}


def test_every_field_can_be_an_entry() -> None:
    names = [field.name for field in dataclasses.fields(NetOutput)]
    assert NetOutput(**dict.fromkeys(names, DEPTH)).keys() == names  # type: ignore[arg-type]


def test_features_belong_to_one_output() -> None:
    first, second = NetOutput(depth=DEPTH), NetOutput(depth=DEPTH)
    first.aux["feat_layer_5"] = DEPTH
    assert first.aux.feat_layer_5 is DEPTH
    assert second.aux == {} and isinstance(second.aux, AttrDict)
