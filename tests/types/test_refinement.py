"""What a refinement says of itself in one line."""

from __future__ import annotations

import pytest

from depth_anything_3.types.refinement import PoseSource, Refinement


@pytest.mark.parametrize(
    ("sources", "observations", "told"),
    [
        (("matches", "matches", "network"), (90, 90, 0), "2 of 3 cameras from 180 observations, view 2 keeps the"),
        (("network", "matches", "matches", "network"), (0, 9, 9, 0), "2 of 4 cameras from 18 observations, views 0, 3"),
        (("rotation", "rotation"), (0, 0), "2 of 2 cameras turned in one place"),
        (("given", "given"), (0, 0), "2 of 2 cameras from 0 observations"),
        (("network", "network"), (0, 0), "nothing connects the 2 views"),
    ],
)  # fmt: skip
def test_one_line(sources: tuple[PoseSource, ...], observations: tuple[int, ...], told: str) -> None:
    n = len(sources)
    report = Refinement(
        mode="poses", pose_source=sources, observations=observations, reprojection_px=(None,) * n, focal_factor=1.0,
        depth_source=("network",) * n, depth_error=(None,) * n, measured=(0.0,) * n, scale_source="network",
    )  # fmt: skip
    assert report.summary().startswith(f"refinement: {told}")
