"""Photos in no order: more than the network sees at once, put into groups that overlap.

The tokens of the photos say which ones look alike. A tree of the strongest likenesses is walked so that small branches
come first, which gives an order in which neighbours mostly show one place; it is cut into groups. The network sees each
group together with *anchors*, the photos already placed that are most like it, wherever they are in the order; they
join the group to the rest. Loops and the pose graph are those of a sequence.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise

import numpy as np
import numpy.typing as npt
from jaxtyping import Float

from depth_anything_3.errors import InputError
from depth_anything_3.stream.events import Event
from depth_anything_3.stream.frames import StreamFrame
from depth_anything_3.stream.places import describe, whitened
from depth_anything_3.stream.reconstructor import StreamingReconstructor

_WITNESSES = 3  # photos at the beginning of a group that say how like it a placed photo is
_WORTH = 0.4  # of the likeness of the best anchor; what is less like the group only confuses the network


def collect(stream: StreamingReconstructor, frames: Sequence[StreamFrame]) -> Iterator[Event]:
    """Reconstruct photos that come in no order; each is read twice.

    Afterwards ``stream`` holds them in the order of :func:`reading_order`, and ``stream.names()`` says which is which.
    :meth:`StreamingReconstructor.finalize` is left to the caller. A store is gone on with at the group that it ends at.

    Args:
        stream: new, or gone on with, and with these frames.
        frames: all photos; they are brought to the shape of the first.

    Yields:
        what happens.

    Raises:
        InputError: no photo.
    """
    if not frames:
        raise InputError("frames", "none", "at least one photo")
    likeness = photo_likeness(stream, frames)
    order = reading_order(likeness)
    for start, stop in groups(len(order), stream.options.window, stream.options.overlap):
        if stop <= stream.received:
            continue
        new, placed = order[start:stop], order[:start]
        anchors = anchors_of(likeness, new, placed, stream.options.overlap)
        yield from stream.take_group([stream.prepare(frames[i]) for i in new], anchors)


def photo_likeness(stream: StreamingReconstructor, frames: Sequence[StreamFrame]) -> Float[np.ndarray, "n n"]:
    """Cosines between the descriptors of all photos."""
    described = [describe(stream.local_tokens(stream.prepare(frame))) for frame in frames]
    unit = whitened(np.concatenate(described)).astype(np.float64)
    return unit @ unit.T


def reading_order(likeness: Float[np.ndarray, "n n"]) -> list[int]:
    """All photos, so that neighbours are alike: the maximum spanning tree, small branches first."""
    count = len(likeness)
    parent = _spanning_tree(likeness)
    children: list[list[int]] = [[] for _ in range(count)]
    neighbours: list[list[int]] = [[] for _ in range(count)]
    for child, near in enumerate(parent):
        if near >= 0:
            neighbours[child].append(near)
            neighbours[near].append(child)
    root = _by_distance(neighbours, 0)[-1]  # an end of the tree
    walk = _by_distance(neighbours, root)
    size, above = [1] * count, {root: -1}
    for node in walk:
        for other in neighbours[node]:
            if other not in above:
                above[other] = node
                children[node].append(other)
    for node in reversed(walk):
        if above[node] >= 0:
            size[above[node]] += size[node]
    order, left = [], [root]
    while left:
        node = left.pop()
        order.append(node)
        left += sorted(children[node], key=lambda c: (-size[c], c))
    return order


def groups(count: int, window: int, overlap: int) -> list[tuple[int, int]]:
    """Runs of new photos: as few as fit beside their anchors, and about equally many in each."""
    first, rest = min(window, count), max(window - overlap, 1)
    number = 1 if count <= window else 1 + -(-(count - first) // rest)
    if number == 1:
        return [(0, count)]
    edges = np.linspace(overlap, count, number + 1).round().astype(int)
    edges[0] = 0
    return [(int(a), int(b)) for a, b in pairwise(edges)]


def anchors_of(likeness: Float[np.ndarray, "n n"], new: Sequence[int], placed: Sequence[int], most: int) -> list[int]:
    """Positions in ``placed`` of the photos that are most like the first of the new ones, the best last.

    Args:
        likeness: of all photos.
        new: a group.
        placed: photos that are there, in their order.
        most: at most so many.
    """
    if not placed:
        return []
    score = likeness[np.ix_(placed, new[:_WITNESSES])].mean(1)
    best = np.argsort(-score, kind="stable")[:most]
    enough = score[best] >= _WORTH * score[best[0]] if score[best[0]] > 0 else np.arange(len(best)) < 1
    return best[enough][::-1].tolist()


def _spanning_tree(likeness: npt.NDArray[np.float64]) -> list[int]:
    """Prim's algorithm; the parent of each photo, -1 for the first."""
    count = len(likeness)
    best, parent = likeness[0].copy(), [0] * count
    outside = np.ones(count, bool)
    outside[0], parent[0] = False, -1
    for _ in range(count - 1):
        node = int(np.argmax(np.where(outside, best, -np.inf)))
        outside[node] = False
        closer = outside & (likeness[node] > best)
        best[closer] = likeness[node][closer]
        for other in np.flatnonzero(closer).tolist():
            parent[other] = node
    return parent


def _by_distance(neighbours: list[list[int]], start: int) -> list[int]:
    """All nodes of a tree by their distance from ``start``."""
    order, seen = [start], {start}
    for node in order:
        for other in neighbours[node]:
            if other not in seen:
                seen.add(other)
                order.append(other)
    return order
