"""Binary glTF 2.0 files: a JSON document and one buffer, built up array by array.

Specification: https://registry.khronos.org/glTF/specs/2.0/glTF-2.0.html (section 4.4 for the binary container).
"""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from depth_anything_3._files import atomic_path

_FLOAT, _UNSIGNED_SHORT, _UNSIGNED_INT = 5126, 5123, 5125
_ARRAY_BUFFER, _ELEMENT_ARRAY_BUFFER = 34962, 34963
_MODES = {"points": 0, "lines": 1, "triangles": 4}
_MAGIC, _JSON_CHUNK, _BINARY_CHUNK = 0x46546C67, 0x4E4F534A, 0x004E4942
_UNLIT = "KHR_materials_unlit"

Json = dict[str, Any]


class GltfDocument:
    """A scene under construction. Indices returned by the methods are those of the glTF arrays.

    Frames: right-handed, y up; cameras look along their negative z axis.
    """

    def __init__(self, scene_extras: Json) -> None:
        self._extras = scene_extras
        self._lists: dict[str, list[Json]] = {}
        self._chunks: list[npt.NDArray[Any]] = []
        self._length = 0

    def add_mesh(
        self,
        name: str,
        kind: Literal["points", "lines", "triangles"],
        positions: npt.NDArray[np.float32],
        colours: npt.NDArray[np.uint8],
        faces: npt.NDArray[np.int32] | None = None,
        confidence: npt.NDArray[np.float32] | None = None,
    ) -> int:
        """Add coloured points, line segments from each even vertex to the next, or triangles.

        Args:
            name: name of the mesh.
            kind: what the vertices are.
            positions: (V, 3) finite, V at least 1.
            colours: (V, 3) sRGB.
            faces: (F, 3) vertices of the triangles.
            confidence: (V,), stored as the attribute ``_CONFIDENCE``, which viewers that do not know it pass over.
        """
        attributes = {"POSITION": self._add_positions(positions), "COLOR_0": self._add_colours(colours)}
        if confidence is not None:
            scalar = {"componentType": _FLOAT, "type": "SCALAR"}
            attributes["_CONFIDENCE"] = self._add_accessor(confidence.astype("<f4"), scalar)
        primitive: Json = {"attributes": attributes, "mode": _MODES[kind], "material": 0}
        if faces is not None:
            indices = {"componentType": _UNSIGNED_INT, "type": "SCALAR"}
            primitive["indices"] = self._add_accessor(faces.astype("<u4").ravel(), indices, _ELEMENT_ARRAY_BUFFER)
        if not self._list("materials"):
            # White, and shown without lights: the colours are those of photographs, which hold the light already.
            reflectance = {"baseColorFactor": [1, 1, 1, 1], "metallicFactor": 0, "roughnessFactor": 1}
            self._add("materials", {"pbrMetallicRoughness": reflectance, "extensions": {_UNLIT: {}}})
        return self._add("meshes", {"name": name, "primitives": [primitive]})

    def add_camera(self, name: str, *, yfov: float, aspect_ratio: float, znear: float, extras: Json) -> int:
        """Add a perspective camera without a far plane.

        Args:
            name: name of the camera.
            yfov: vertical field of view in radians.
            aspect_ratio: width over height of the view.
            znear: distance of the near plane.
            extras: application data.
        """
        lens = {"yfov": yfov, "aspectRatio": aspect_ratio, "znear": znear}
        return self._add("cameras", {"name": name, "type": "perspective", "perspective": lens, "extras": extras})

    def add_node(
        self,
        name: str,
        *,
        mesh: int | None = None,
        camera: int | None = None,
        matrix: npt.NDArray[np.float64] | None = None,
    ) -> int:
        """Add a node at the root of the scene; ``matrix`` (4, 4) maps its coordinates to those of the scene."""
        columns = None if matrix is None else matrix.T.reshape(-1).tolist()
        entries = {"name": name, "mesh": mesh, "camera": camera, "matrix": columns}
        return self._add("nodes", {key: value for key, value in entries.items() if value is not None})

    def write(self, path: Path) -> Path:
        """Write the file; it appears whole or not at all."""
        text = json.dumps(self._document(), separators=(",", ":"), allow_nan=False).encode()
        text += b" " * (-len(text) % 4)
        binary_length = 8 + self._length if self._length else 0
        with atomic_path(path) as temporary, temporary.open("wb") as file:
            file.write(struct.pack("<III", _MAGIC, 2, 12 + 8 + len(text) + binary_length))
            file.write(struct.pack("<II", len(text), _JSON_CHUNK) + text)
            if self._length:
                file.write(struct.pack("<II", self._length, _BINARY_CHUNK))
                for chunk in self._chunks:
                    file.write(chunk.data)
        return path

    def _document(self) -> Json:
        scene: Json = {"name": "scene", "nodes": list(range(len(self._list("nodes")))), "extras": self._extras}
        document: Json = {
            "asset": {"version": "2.0", "generator": "depth-anything-3"},
            "scene": 0,
            "scenes": [{key: value for key, value in scene.items() if value != []}],
            **{key: value for key, value in self._lists.items() if value},
        }
        if self._list("materials"):
            document["extensionsUsed"] = [_UNLIT]
        if self._length:
            document["buffers"] = [{"byteLength": self._length}]
        return document

    def _list(self, key: str) -> list[Json]:
        return self._lists.setdefault(key, [])

    def _add(self, key: str, entry: Json) -> int:
        self._list(key).append(entry)
        return len(self._list(key)) - 1

    def _add_positions(self, positions: npt.NDArray[np.float32]) -> int:
        bounds = {"min": positions.min(axis=0).tolist(), "max": positions.max(axis=0).tolist()}
        return self._add_accessor(positions.astype("<f4"), {"componentType": _FLOAT, "type": "VEC3", **bounds})

    def _add_colours(self, colours: npt.NDArray[np.uint8]) -> int:
        """Opaque linear colours in 16 bits: enough to tell all 256 sRGB values apart, and aligned to four bytes."""
        linear = np.full((len(colours), 4), 65535, "<u2")
        linear[:, :3] = _LINEAR_FROM_SRGB[colours]
        return self._add_accessor(linear, {"componentType": _UNSIGNED_SHORT, "type": "VEC4", "normalized": True})

    def _add_accessor(self, array: npt.NDArray[Any], entry: Json, target: int = _ARRAY_BUFFER) -> int:
        array = np.ascontiguousarray(array)
        assert array.nbytes % 4 == 0
        view = {"buffer": 0, "byteOffset": self._length, "byteLength": array.nbytes, "target": target}
        self._chunks.append(array)
        self._length += array.nbytes
        return self._add("accessors", {"bufferView": self._add("bufferViews", view), "count": len(array), **entry})


def _srgb_table() -> npt.NDArray[np.uint16]:
    """Linear light in 1/65535 for the 256 values of sRGB (IEC 61966-2-1)."""
    encoded = np.arange(256) / 255
    linear = np.where(encoded <= 0.04045, encoded / 12.92, ((encoded + 0.055) / 1.055) ** 2.4)
    return np.round(linear * 65535).astype(np.uint16)


_LINEAR_FROM_SRGB = _srgb_table()
