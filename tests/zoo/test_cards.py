"""The model cards agree with the networks, with the published facts, and with themselves."""

from __future__ import annotations

import math
import subprocess
import sys
import warnings

import pytest

from depth_anything_3.registry import MODEL_REGISTRY
from depth_anything_3.zoo.cards import ABILITIES, CARDS, describe_licence, find_card, preferred, warn_on_load
from depth_anything_3.zoo.identify import config_of
from depth_anything_3.zoo.weights import Shapes, skeleton

PUBLISHED_COUNTS = {
    "da3-small": 34_299_463,
    "da3-base": 135_366_599,
    "da3-large": 410_941_767,
    "da3-giant": 1_355_674_125,
    "da3metric-large": 334_171_394,
    "da3mono-large": 334_171_394,
    "da3nested-giant-large": 1_689_845_519,
}

DEPRECATED = {
    "depth-anything/DA3-LARGE": "depth-anything/DA3-LARGE-1.1",
    "depth-anything/DA3-GIANT": "depth-anything/DA3-GIANT-1.1",
    "depth-anything/DA3NESTED-GIANT-LARGE": "depth-anything/DA3NESTED-GIANT-LARGE-1.1",
}


def test_there_are_ten_models_of_seven_presets() -> None:
    assert len(CARDS) == len({card.hub_id for card in CARDS}) == 10
    assert {card.preset for card in CARDS} == set(PUBLISHED_COUNTS) < set(MODEL_REGISTRY)


@pytest.mark.parametrize("preset", sorted(PUBLISHED_COUNTS))
def test_parameters_are_those_of_the_network_and_of_the_published_files(
    preset: str, published_shapes: dict[str, Shapes]
) -> None:
    unique = {id(p): p.numel() for p in skeleton(config_of(preset)).parameters()}
    counted = sum(unique.values())
    assert counted == PUBLISHED_COUNTS[preset]
    assert counted == sum(math.prod(shape) for shape in published_shapes[preset].values())
    assert {card.parameters for card in CARDS if card.preset == preset} == {counted}


@pytest.mark.parametrize("preset", sorted(PUBLISHED_COUNTS))
def test_abilities_are_those_of_the_network(preset: str) -> None:
    network = skeleton(config_of(preset))
    built: frozenset[str] = network.abilities  # type: ignore[assignment]
    for card in (card for card in CARDS if card.preset == preset):
        assert card.pose_estimation == ("cameras" in built)
        assert card.pose_conditioning == ("pose_conditioning" in built)
        assert card.gaussians == ("gaussians" in built)
        assert card.metric_depth == ("nested" in preset or "metric" in preset)
        assert card.relative_depth
        assert set(card.abilities) <= set(ABILITIES)


def test_licences() -> None:
    commercial = {card.name for card in CARDS if card.commercial_use}
    assert commercial == {"DA3-SMALL", "DA3-BASE", "DA3METRIC-LARGE", "DA3MONO-LARGE"}
    for card in CARDS:
        assert card.licence == ("Apache-2.0" if card.commercial_use else "CC BY-NC 4.0")
        statement = describe_licence(card)
        assert (statement == "") == card.commercial_use
        assert "\n" not in statement
        if statement:
            assert card.hub_id in statement and "CC BY-NC 4.0" in statement and "no commercial use" in statement


def test_deprecated_models_name_their_replacement_and_the_reason() -> None:
    assert {card.hub_id: card.replaced_by for card in CARDS if card.deprecated} == DEPRECATED
    for card in CARDS:
        assert preferred(card).hub_id == DEPRECATED.get(card.hub_id, card.hub_id)
        assert not preferred(card).deprecated
        assert ("bug" in card.note) == card.deprecated


def test_find_card_ignores_case_and_knows_nothing_else() -> None:
    card = find_card("Depth-Anything/da3-small")
    assert card is not None and card.hub_id == "depth-anything/DA3-SMALL"
    assert find_card("someone/else") is None


def test_loading_warns_about_licence_and_replacement() -> None:
    with pytest.warns(UserWarning) as caught:
        warn_on_load(find_card("depth-anything/DA3-LARGE"))
    licence, deprecated = (str(warning.message) for warning in caught)
    assert "no commercial use" in licence and "DA3-BASE" in licence
    assert "deprecated" in deprecated and "depth-anything/DA3-LARGE-1.1" in deprecated
    with pytest.warns(UserWarning) as caught:
        warn_on_load(find_card("depth-anything/DA3-LARGE-1.1"))
    assert len(caught) == 1


@pytest.mark.parametrize("hub_id", ["depth-anything/DA3-BASE", "someone/else"])
def test_loading_free_or_unknown_models_warns_about_nothing(hub_id: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warn_on_load(find_card(hub_id))


def test_cards_need_neither_torch_nor_numpy() -> None:
    code = "import sys, depth_anything_3.zoo.cards; print(sorted({'torch', 'numpy'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"
