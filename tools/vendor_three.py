"""Renew the copy of three.js that the viewer uses, or check that it is unmodified.

    python tools/vendor_three.py                 check the files against their checksums (no network)
    python tools/vendor_three.py --renew 0.185.0 fetch that version with `npm pack` and write files and checksums

The files are those of the npm package, byte for byte. 0.185 is the last version that carries minified builds; the
later ones are three times as large.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path, PurePosixPath

VENDOR = Path(__file__).resolve().parents[1] / "src" / "depth_anything_3" / "static" / "vendor"
MANIFEST = VENDOR / "three.json"
FOLDER = VENDOR / "three"
ADDONS = (
    "controls/OrbitControls.js",
    "loaders/GLTFLoader.js",
    "loaders/PLYLoader.js",
    "utils/BufferGeometryUtils.js",
    "utils/SkeletonUtils.js",
    "webxr/VRButton.js",
)
"""What the viewer imports, and what those import, below ``examples/jsm``."""

MEMBERS = {
    "LICENSE": "LICENSE",
    "three.core.min.js": "build/three.core.min.js",
    "three.module.min.js": "build/three.module.min.js",
    **{f"addons/{name}": f"examples/jsm/{name}" for name in ADDONS},
}
"""File below ``static/vendor/three`` -> file in the npm package."""


def sha256(data: bytes) -> str:
    """Checksum of a file, in hexadecimal digits."""
    return hashlib.sha256(data).hexdigest()


def check() -> list[str]:
    """What differs from the checksums; empty where nothing does."""
    files = json.loads(MANIFEST.read_text())["files"]
    found = {p.relative_to(FOLDER).as_posix(): sha256(p.read_bytes()) for p in FOLDER.rglob("*") if p.is_file()}
    names = sorted(files.keys() | found.keys())
    return [f"{name}: {found.get(name, 'missing')}" for name in names if files.get(name) != found.get(name)]


def renew(version: str) -> None:
    """Fetch the package from npm's registry and replace the files and the checksums."""
    with tempfile.TemporaryDirectory() as folder:
        answer = subprocess.run(
            ["npm", "pack", "--json", f"three@{version}"], cwd=folder, capture_output=True, text=True, check=True
        )
        entry = json.loads(answer.stdout)
        entry = entry[0] if isinstance(entry, list) else next(iter(entry.values()))
        with tarfile.open(Path(folder) / entry["filename"]) as package:
            data = {name: _member(package, member) for name, member in MEMBERS.items()}
    for old in [path for path in FOLDER.rglob("*") if path.is_file()]:
        old.unlink()
    for name, content in data.items():
        path = FOLDER / PurePosixPath(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    facts = {
        "package": "three",
        "version": entry["version"],
        "licence": "MIT",
        "integrity": entry["integrity"],
        "files": {name: sha256(content) for name, content in sorted(data.items())},
    }
    MANIFEST.write_text(json.dumps(facts, indent=1) + "\n")


def _member(package: tarfile.TarFile, name: str) -> bytes:
    file = package.extractfile(f"package/{name}")
    if file is None:
        raise SystemExit(f"the package holds no file {name}")
    return file.read()


def main() -> None:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--renew", metavar="VERSION", help="fetch this version instead of checking")
    wanted = parser.parse_args().renew
    if wanted:
        renew(wanted)
    differences = check()
    print("\n".join(differences) or f"{len(MEMBERS)} files are those of {json.loads(MANIFEST.read_text())['version']}")
    sys.exit(bool(differences))


if __name__ == "__main__":
    main()
