"""How much of its work the network does at once: what bounds the memory and changes no number but by rounding."""

from __future__ import annotations

from dataclasses import dataclass

CHUNK_VIEWS = 8
"""Views that a head processes at once unless told otherwise."""


@dataclass(frozen=True, kw_only=True)
class Chunking:
    """What is done at once. For inference: parts are written into place, which has no gradient.

    Attributes:
        head_views: views that a head processes at once.
        token_rows: tokens that a transformer block processes at once, queries included; every one of them still sees
            all keys and values, so that attention is exact. None for all.
        offload: layer features and the maps of finished views leave the device for the memory of the host.
    """

    head_views: int = CHUNK_VIEWS
    token_rows: int | None = None
    offload: bool = False


WHOLE = Chunking()
"""Nothing is split but the head."""
