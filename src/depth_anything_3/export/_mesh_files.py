"""Coloured triangle meshes as PLY, GLB and OBJ files."""

from __future__ import annotations

import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from depth_anything_3._files import atomic_path
from depth_anything_3.export._cloud import UNITS
from depth_anything_3.export._frames import AXES, first_usable, frame_from_world, gltf_from_world
from depth_anything_3.export._gltf import GltfDocument
from depth_anything_3.export._ply import Element, record, write_ply
from depth_anything_3.export.mesh import Options
from depth_anything_3.refine.tsdf import mesh
from depth_anything_3.types.cloud import Mesh
from depth_anything_3.types.prediction import Prediction

_BLOCK = 1 << 16
_VERTEX = [
    *(("float", name) for name in ("x", "y", "z", "nx", "ny", "nz")),
    *(("uchar", name) for name in ("red", "green", "blue")),
]
_FACE = [("list uchar int", "vertex_indices")]


def write_mesh(prediction: Prediction, path: Path, options: Options) -> Path:
    """Fuse a prediction and write the surface; the file appears whole or not at all."""
    surface = mesh(prediction, options.clean, options)
    if not len(surface.faces):
        warnings.warn(f"mesh: no surface was seen often enough; {path.name} is empty", stacklevel=3)
    placed = gltf_from_world if options.encoding == "glb" else frame_from_world
    matrix = placed(prediction, options.frame, first_usable(prediction))
    moved = _moved(surface, matrix)
    notes = [f"frame: {AXES[options.frame]}", f"unit: {UNITS[prediction.scale]}"]
    if options.encoding == "glb":
        return _write_glb(moved, path, matrix, prediction)
    return (_write_obj if options.encoding == "obj" else _write_ply)(moved, path, notes)


def _moved(surface: Mesh, matrix: npt.NDArray[np.float64]) -> Mesh:
    rotation = matrix[:3, :3]
    vertices = surface.vertices @ rotation.T + matrix[:3, 3]
    normals = surface.normals @ rotation.T
    return replace(surface, vertices=vertices.astype(np.float32), normals=normals.astype(np.float32))


def _write_ply(surface: Mesh, path: Path, notes: list[str]) -> Path:
    vertices = np.empty(len(surface.vertices), record(_VERTEX))
    vertices["x"], vertices["y"], vertices["z"] = surface.vertices.T
    vertices["nx"], vertices["ny"], vertices["nz"] = surface.normals.T
    vertices["red"], vertices["green"], vertices["blue"] = surface.rgb.T
    faces = np.empty(len(surface.faces), record(_FACE))
    faces["vertex_indices_length"], faces["vertex_indices"] = 3, surface.faces
    elements = [
        Element("vertex", len(vertices), _VERTEX, [vertices]),
        Element("face", len(faces), _FACE, [faces]),
    ]
    return write_ply(path, elements, notes)


def _write_obj(surface: Mesh, path: Path, notes: list[str]) -> Path:
    """Colours follow the coordinates, from 0 to 1: an extension that most programs read."""
    with atomic_path(path) as temporary, temporary.open("w", encoding="ascii", newline="\n") as file:
        file.writelines(f"# {note}\n" for note in notes)
        for start in range(0, len(surface.vertices), _BLOCK):
            part = slice(start, start + _BLOCK)
            rows = np.concatenate((surface.vertices[part], surface.rgb[part] / 255), 1).tolist()
            file.writelines("v {:.7g} {:.7g} {:.7g} {:.4f} {:.4f} {:.4f}\n".format(*row) for row in rows)
            file.writelines("vn {:.4f} {:.4f} {:.4f}\n".format(*row) for row in surface.normals[part].tolist())
        for start in range(0, len(surface.faces), _BLOCK):
            corners = (surface.faces[start : start + _BLOCK] + 1).tolist()
            file.writelines(f"f {a}//{a} {b}//{b} {c}//{c}\n" for a, b, c in corners)
    return path


def _write_glb(surface: Mesh, path: Path, matrix: npt.NDArray[np.float64], prediction: Prediction) -> Path:
    extras = {"gltf_from_world": matrix.tolist(), "scale": prediction.scale, "model_name": prediction.model_name}
    document = GltfDocument(extras)
    if len(surface.faces):
        number = document.add_mesh("mesh", "triangles", surface.vertices, surface.rgb, surface.faces)
        document.add_node("mesh", mesh=number)
    return document.write(path)
