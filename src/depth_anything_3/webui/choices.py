"""What can be chosen: models with their licences and abilities. Nothing here loads a model."""

from __future__ import annotations

from dataclasses import dataclass

from depth_anything_3.webui.jobs import GAUSSIANS
from depth_anything_3.zoo.bundled import DEFAULT, PREFIX, bundled_names, bundled_with_gaussians
from depth_anything_3.zoo.cards import ABILITIES, CARDS, describe_licence, find_card

_DEMONSTRATION = "Comes with the package, needs no download; small, for demonstration."


@dataclass(frozen=True)
class ModelChoice:
    """A model that can be chosen.

    Attributes:
        source: what ``DepthAnything3.from_pretrained`` takes.
        label: for the list.
        note: licence and abilities in a line or two of plain text.
        gaussian_head: whether it has, or may have, a head of its own for 3D Gaussians; others give plain ones from
            depth.
    """

    source: str
    label: str
    note: str
    gaussian_head: bool = True

    @property
    def gaussians(self) -> list[str]:
        """The choices of :data:`depth_anything_3.webui.jobs.GAUSSIANS` that it offers."""
        return [name for name, source in GAUSSIANS.items() if source != "head" or self.gaussian_head]


def model_choices(extra: str | None = None) -> list[ModelChoice]:
    """The bundled models, the published ones that were not replaced, and ``extra``, first, if it is none of these."""
    with_head = bundled_with_gaussians()
    names = sorted(bundled_names(), key=lambda name: name != DEFAULT)  # the default one first
    bundled = [
        ModelChoice(f"{PREFIX}/{n}", f"{n} (bundled)", _DEMONSTRATION, gaussian_head=f"{PREFIX}/{n}" in with_head)
        for n in names
    ]
    published = [_published(card.hub_id) for card in CARDS if not card.deprecated]
    known = [*bundled, *published]
    if extra is None or any(choice.source == extra for choice in known):
        return known
    if extra == PREFIX:
        return known
    return [ModelChoice(extra, extra, "Given at the command line; licence and abilities are those of its own."), *known]


def _published(hub_id: str) -> ModelChoice:
    card = find_card(hub_id)
    assert card is not None
    abilities = ", ".join(ABILITIES[name] for name in card.abilities)
    use = describe_licence(card) or "Commercial use is allowed."
    note = (
        f"Licence of the weights: {card.licence}. {use} Abilities: {abilities}. {card.parameters / 1e6:.0f} M weights."
    )
    return ModelChoice(card.hub_id, card.name, note, gaussian_head="gaussians" in card.abilities)
