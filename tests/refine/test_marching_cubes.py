"""The table that is worked out: loops that close, nothing that is not on the surface, no cracks."""

from __future__ import annotations

import numpy as np

from depth_anything_3.refine.marching_cubes import EDGES, triangle_table


def crossing(case: int) -> set[int]:
    """Edges with one corner inside."""
    return {i for i, (a, b) in enumerate(EDGES) if (case >> a & 1) != (case >> b & 1)}


def test_every_crossed_edge_has_a_corner_and_no_other_has() -> None:
    table = triangle_table()
    assert table.shape == (256, 5, 3)
    for case in range(256):
        used = set(table[case][table[case] >= 0].tolist())
        assert used == crossing(case)


def test_inner_sides_are_shared_by_two_triangles_in_opposite_directions() -> None:
    """What is left over lies on the faces of the cell, and closes."""
    for case, triangles in enumerate(triangle_table()):
        sides = [(int(t[i]), int(t[(i + 1) % 3])) for t in triangles if t[0] >= 0 for i in range(3)]
        assert len(set(sides)) == len(sides)
        border = [side for side in sides if side[::-1] not in sides]
        assert sorted(a for a, _ in border) == sorted(b for _, b in border) == sorted(crossing(case))


def test_neighbouring_cells_cut_their_face_alike() -> None:
    """The border of a cell on its upper x face is, reversed, the border of its neighbour on its lower one."""

    def border(case: int, bit: int) -> set[tuple[tuple[int, int], tuple[int, int]]]:
        sides = [(int(t[i]), int(t[(i + 1) % 3])) for t in triangle_table()[case] if t[0] >= 0 for i in range(3)]
        outer = {side for side in sides if side[::-1] not in sides}
        on_face = {i for i, (a, b) in enumerate(EDGES) if (a & 1) == (b & 1) == bit}
        flat = [tuple(corner >> 1 for corner in edge) for edge in EDGES]
        return {(flat[a], flat[b]) for a, b in outer if a in on_face and b in on_face}  # type: ignore[misc]

    lower_corners = [0, 2, 4, 6]
    for pattern in range(16):
        above = sum((pattern >> i & 1) << corner for i, corner in enumerate(lower_corners))
        below = above << 1
        for rest in (0, 0b1010, 0b0110):
            other = sum((rest >> i & 1) << corner for i, corner in enumerate(lower_corners))
            ours = border(below | other, 1)
            theirs = border(above | other << 1, 0)
            assert ours == {side[::-1] for side in theirs}


def test_triangles_face_away_from_the_inside() -> None:
    middle = np.array([np.mean([[c & 1, c >> 1 & 1, c >> 2 & 1] for c in edge], axis=0) for edge in EDGES])
    for corner in range(8):
        triangle = middle[triangle_table()[1 << corner][0]]
        normal = np.cross(triangle[1] - triangle[0], triangle[2] - triangle[0])
        inside = np.array([corner & 1, corner >> 1 & 1, corner >> 2 & 1])
        assert normal @ (triangle[0] - inside) > 0
