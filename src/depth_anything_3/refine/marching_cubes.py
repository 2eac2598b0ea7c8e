"""Marching cubes (Lorensen and Cline, 1987), with a table that is worked out instead of written down.

The corners of a cell are numbered by their coordinates, ``x + 2 y + 4 z``; a case is the set of corners inside the
surface, as bits. On each face of the cell, every stretch of inside corners is cut off by one segment (so inside corners
that touch across a face only diagonally stay apart). Two cells that share a face cut it in the same way, and the
segments of a cell close to loops; each loop becomes a fan of triangles. The surface has no cracks.
"""

from __future__ import annotations

from functools import cache

import numpy as np
import numpy.typing as npt

EDGES: tuple[tuple[int, int], ...] = tuple(
    (first, first | bit) for bit in (1, 2, 4) for first in range(8) if not first & bit
)
"""The corners of the 12 edges, the lower one first; edges 0-3 lie along x, 4-7 along y, 8-11 along z."""


@cache
def triangle_table() -> npt.NDArray[np.int64]:
    """(256, T, 3): edges of the triangles of each case, counter-clockwise from outside; -1 where there are fewer."""
    cases = [_triangles(case) for case in range(256)]
    most = max(len(triangles) for triangles in cases)
    table = np.full((256, most, 3), -1)
    for case, triangles in enumerate(cases):
        table[case, : len(triangles)] = np.reshape(triangles, (-1, 3))
    return table


def _faces() -> list[list[int]]:
    """The corners around each of the six faces, counter-clockwise from outside of the cell."""
    faces = []
    for axis in range(3):
        u, v = 1 << (axis + 1) % 3, 1 << (axis + 2) % 3
        around = [0, u, u | v, v]  # counter-clockwise as seen from the positive end of the axis
        faces.append([corner | 1 << axis for corner in around])
        faces.append(around[::-1])
    return faces


def _triangles(case: int) -> list[tuple[int, int, int]]:
    following = {}
    for face in _faces():
        inside = [bool(case >> corner & 1) for corner in face]
        for k in range(4):
            if inside[k] and not inside[k - 1]:  # a stretch of inside corners begins here
                end = k
                while inside[(end + 1) % 4]:
                    end += 1
                following[_edge(face[k - 1], face[k])] = _edge(face[end % 4], face[(end + 1) % 4])
    triangles = []
    while following:
        start, loop = next(iter(following)), []
        while start in following:
            loop.append(start)
            start = following.pop(start)
        triangles += [(loop[0], loop[i], loop[i + 1]) for i in range(1, len(loop) - 1)]
    return triangles


def _edge(a: int, b: int) -> int:
    return EDGES.index((min(a, b), max(a, b)))
