"""Options that every command with photos takes: which photos, and what is known of their cameras."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

InputArgument = Annotated[
    Path,
    typer.Argument(
        metavar="INPUT",
        help="A photo, a folder of photos of one scene, or a folder with a COLMAP model, transforms.json or "
        "cameras.json, whose cameras are then used.",
    ),
]
RecursiveOption = Annotated[bool, typer.Option(help="Also take the photos in the folders below INPUT.")]
StrideOption = Annotated[int, typer.Option(help="Take every how many-th photo of a folder.")]
LimitOption = Annotated[
    int | None, typer.Option(help="Take at most that many photos of a folder. Default: all.", show_default=False)
]
PosesOption = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE",
        help="Known cameras: a COLMAP model, transforms.json, cameras.json, or a trajectory of TUM or KITTI. Lens "
        "distortion is undone.",
        show_default=False,
    ),
]
IntrinsicsOption = Annotated[
    str | None,
    typer.Option(
        metavar="FILE|FOV|exif",
        help="Known intrinsics: a file as for --poses, rows of 'fx fy cx cy' or a 3x3 matrix in pixels; a horizontal "
        "field of view such as 60deg; or 'exif', the focal length in the photos.",
        show_default=False,
    ),
]
