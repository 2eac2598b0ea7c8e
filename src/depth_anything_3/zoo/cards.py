"""What is known about the published checkpoints before any of them is opened.

This module imports neither torch nor numpy, so that listing the models is instant.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass, fields, replace

ABILITIES: dict[str, str] = {
    "relative_depth": "relative depth",
    "pose_estimation": "pose estimation",
    "pose_conditioning": "pose conditioning",
    "gaussians": "3D Gaussians",
    "metric_depth": "metric depth",
    "sky_segmentation": "sky segmentation",
}
"""Field of :class:`ModelCard` -> what it means, in the order in which tables show them."""

_APACHE = "Apache-2.0"
_NON_COMMERCIAL = "CC BY-NC 4.0"
_TRAINING_BUG = "trained with a bug that the replacement does not have"


@dataclass(frozen=True, kw_only=True)
class ModelCard:
    """One published checkpoint.

    Attributes:
        hub_id: ``organisation/name`` on the hub.
        preset: name of its architecture in :data:`depth_anything_3.registry.MODEL_REGISTRY`.
        licence: of the weights; the code has its own.
        commercial_use: whether the licence of the weights allows commercial use.
        parameters: number of weights, every tensor counted once.
        relative_depth: depth up to an unknown scale.
        pose_estimation: extrinsics and intrinsics of every view.
        pose_conditioning: known cameras can be given as input.
        gaussians: 3D Gaussians for novel views.
        metric_depth: depth in metres. The stand-alone metric model needs the focal length for that.
        sky_segmentation: a sky score per pixel.
        recommended_process_res: longest side of the processed image in pixels.
        replaced_by: hub id of a better checkpoint of the same size; None where this one is current.
        note: anything else worth knowing, one sentence at most.
    """

    hub_id: str
    preset: str
    licence: str
    commercial_use: bool
    parameters: int
    relative_depth: bool = True
    pose_estimation: bool = False
    pose_conditioning: bool = False
    gaussians: bool = False
    metric_depth: bool = False
    sky_segmentation: bool = False
    recommended_process_res: int = 504
    replaced_by: str | None = None
    note: str = ""

    @property
    def name(self) -> str:
        """The hub id without the organisation."""
        return self.hub_id.rpartition("/")[2]

    @property
    def deprecated(self) -> bool:
        """Whether another checkpoint should be used instead."""
        return self.replaced_by is not None

    @property
    def abilities(self) -> tuple[str, ...]:
        """Names of the abilities this model has: keys of :data:`ABILITIES`, in that order."""
        return tuple(name for name in ABILITIES if getattr(self, name))

    def as_dict(self) -> dict[str, object]:
        """All fields by name, as plain data."""
        return {field.name: getattr(self, field.name) for field in fields(self)}


_SMALL = ModelCard(
    hub_id="depth-anything/DA3-SMALL",
    preset="da3-small",
    licence=_APACHE,
    commercial_use=True,
    parameters=34_299_463,
    pose_estimation=True,
    pose_conditioning=True,
)
_BASE = replace(_SMALL, hub_id="depth-anything/DA3-BASE", preset="da3-base", parameters=135_366_599)
_LARGE = replace(
    _SMALL,
    hub_id="depth-anything/DA3-LARGE-1.1",
    preset="da3-large",
    licence=_NON_COMMERCIAL,
    commercial_use=False,
    parameters=410_941_767,
)
_GIANT = replace(
    _LARGE,
    hub_id="depth-anything/DA3-GIANT-1.1",
    preset="da3-giant",
    parameters=1_355_674_125,
    gaussians=True,
)
_NESTED = replace(
    _GIANT,
    hub_id="depth-anything/DA3NESTED-GIANT-LARGE-1.1",
    preset="da3nested-giant-large",
    parameters=1_689_845_519,
    metric_depth=True,
    sky_segmentation=True,
)
_MONO = ModelCard(
    hub_id="depth-anything/DA3MONO-LARGE",
    preset="da3mono-large",
    licence=_APACHE,
    commercial_use=True,
    parameters=334_171_394,
    sky_segmentation=True,
)
_METRIC = replace(
    _MONO,
    hub_id="depth-anything/DA3METRIC-LARGE",
    preset="da3metric-large",
    metric_depth=True,
    note="metres = output x focal / 300, with the focal length in pixels of the processed image",
)


def _first_edition(card: ModelCard) -> ModelCard:
    """The checkpoint that ``card`` replaces."""
    return replace(card, hub_id=card.hub_id.removesuffix("-1.1"), replaced_by=card.hub_id, note=_TRAINING_BUG)


CARDS: tuple[ModelCard, ...] = (
    _SMALL,
    _BASE,
    _LARGE,
    _GIANT,
    _NESTED,
    _METRIC,
    _MONO,
    _first_edition(_LARGE),
    _first_edition(_GIANT),
    _first_edition(_NESTED),
)
"""Every published checkpoint: the current ones first, then those that were replaced."""

_BY_ID = {card.hub_id.lower(): card for card in CARDS}


def find_card(hub_id: str) -> ModelCard | None:
    """The card of ``hub_id`` (upper or lower case), or None if it is none of the published checkpoints."""
    return _BY_ID.get(hub_id.strip().lower())


def preferred(card: ModelCard) -> ModelCard:
    """The card to use instead of ``card``: its replacement, or itself where it is current."""
    replacement = find_card(card.replaced_by) if card.replaced_by else None
    return replacement or card


def describe_licence(card: ModelCard) -> str:
    """One line that says what the licence of the weights forbids; empty for licences that allow commercial use."""
    if card.commercial_use:
        return ""
    return f"The weights of {card.hub_id} are licensed {card.licence}: no commercial use."


def describe_replacement(card: ModelCard) -> str:
    """One line that says what to use instead and why; empty for current checkpoints."""
    return f"{card.hub_id} is deprecated ({card.note}); use {card.replaced_by}." if card.replaced_by else ""


def warn_on_load(card: ModelCard | None) -> None:
    """Warn about a non-commercial licence and about a checkpoint that was replaced.

    Args:
        card: of the checkpoint being loaded; None (a checkpoint nobody published) warns about nothing.
    """
    if card is None:
        return
    if licence := describe_licence(card):
        commercial = ", ".join(c.hub_id for c in CARDS if c.commercial_use and not c.deprecated)
        warnings.warn(f"{licence} Models that allow it: {commercial}.", UserWarning, stacklevel=3)
    if replacement := describe_replacement(card):
        warnings.warn(replacement, UserWarning, stacklevel=3)
