"""``da3 clean``: cloud and mesh of a saved result, freed of what is wrong."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from depth_anything_3.cli._options import FileOptions, ReportOptions, With, command
from depth_anything_3.errors import InputError

if TYPE_CHECKING:
    from depth_anything_3.types.prediction import Prediction


@command
def clean(
    source: Annotated[
        Path,
        typer.Argument(
            metavar="SOURCE",
            help="A folder of results with exports/npz, an .npz file, or a file of Prediction.save.",
        ),
    ],
    files: Annotated[
        FileOptions,
        With(
            *("export_dir", "export_format", "num_max_points", "clean", "export_kwargs", "overwrite"),
            export_format="ply-mesh",
            clean="clean",
        ),
    ],
    report: ReportOptions,
) -> None:
    """Clean the point cloud and the mesh of a saved result.

    The presets: 'raw' keeps every pixel that has a depth, 'clean' leaves out sky, the ramps at edges, the least
    confident tenth and what other views contradict, 'strict' also what no other view confirms, and merges and thins
    what is left. The depth itself is never changed.
    """
    from depth_anything_3.cli.convert import convert_result
    from depth_anything_3.export.base import EXPORTERS, parse_formats
    from depth_anything_3.types.options import clean_preset

    preset = str(files.clean)
    clean_preset(preset)
    able = [name for name in EXPORTERS if hasattr(EXPORTERS[name].options, "clean")]
    for name in parse_formats(files.export_format):
        if name not in able:
            raise InputError("export_format", repr(name), "formats of clouds and meshes", able)

    def judge(prediction: Prediction) -> tuple[dict[str, object], str]:
        from depth_anything_3.export._points import cleaned_pixels

        kept, every = (int(cleaned_pixels(prediction, name).sum()) for name in (preset, "raw"))
        line = f"{preset}: {kept} of {every} points kept ({kept / max(every, 1):.1%})"
        return {"clean": preset, "points": every, "kept": kept}, line

    convert_result(source, files, report, judge=judge)
