"""Licences of installed or resolved packages, and of what their wheels carry; fails on GPL, AGPL and unknown ones.

    python tools/licences.py                                     the packages of this environment
    python tools/licences.py --report report.json                what `pip install --dry-run --report` resolved
    python tools/licences.py --wheels FOLDER                     the wheels in a folder

A package may be used if its own licence and the licences of all that its wheels bundle are permissive, MPL, or LGPL
for libraries that are loaded dynamically. Metadata does not tell what a wheel bundles, so there is a table here, and
the names of the libraries inside are looked at where the files are at hand. The exit status is 1 if anything must
not be used.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
import zipfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from email.message import Message
from email.parser import HeaderParser
from importlib.metadata import distributions
from pathlib import Path
from typing import Any

KNOWN_LICENCES = {"gsplat": "Apache-2.0", "openexr": "BSD-3-Clause"}
"""Packages whose metadata says nothing; read in the licence file of the wheel."""

_GCC = ("GCC run-time libraries", "GPL-3.0-or-later WITH GCC-exception-3.1")
_QUADMATH = ("libquadmath", "LGPL-2.1-or-later")
_OPENBLAS = ("OpenBLAS", "BSD-3-Clause")

BUNDLES: Mapping[str, tuple[tuple[str, str], ...]] = {
    "numpy": (_OPENBLAS, _GCC, _QUADMATH),
    "scipy": (_OPENBLAS, _GCC, _QUADMATH),
    "torch": (("GCC OpenMP", _GCC[1]),),
    "opencv-python-headless": (("FFmpeg", "LGPL-2.1-or-later"), _OPENBLAS, _GCC, _QUADMATH),
    "opencv-python": (("FFmpeg", "LGPL-2.1-or-later"), ("Qt", "LGPL-3.0-only"), _OPENBLAS, _GCC, _QUADMATH),
    "av": (("FFmpeg linked to x264 and x265", "GPL-2.0-or-later"),),
    "pycolmap": (("SuiteSparse (CHOLMOD supernodal, SPQR)", "GPL-2.0-or-later"), _GCC, _QUADMATH),
    "pi-heif": (("libheif", "LGPL-3.0-or-later"), ("libde265", "LGPL-3.0-or-later")),
    "pillow-heif": (("x265", "GPL-2.0-or-later"),),
    "imageio-ffmpeg": (("ffmpeg with x264 and x265", "GPL-2.0-or-later"),),
}
"""Package -> (what its wheels for Linux carry, licence). Looked up in the wheels; only what matters here is listed."""

_GPL_LIBRARY = re.compile(
    r"(?:^|/)(?:lib)?(x264|x265|xvidcore|postproc|fftw3|readline|gsl|cholmod|spqr|umfpack|rubberband|vidstab|CGAL)"
    r"[^/]*\.(?:so|dylib|dll|pyd)\b",
    re.IGNORECASE,
)

# Anything that none of these names is unknown, and unknown is not acceptable.
_ACCEPTED = re.compile(
    r"\b(0BSD|Apache|BSD|BSL-1\.0|CC0|CNRI|FTL|HPND|Historical Permission|ISC|LGPL|Lesser General Public|MIT|MPL|"
    r"Mozilla Public|PSF|Python Software Foundation|Unlicense|Zlib|zlib)\b",
)
_GPL = re.compile(r"(?<!L)GPL|(?<!Lesser )General Public License")
_HARMLESS_EXCEPTION = re.compile(r" WITH (GCC|Autoconf|LLVM|Bison)-exception\S*", re.IGNORECASE)


@dataclass(frozen=True, kw_only=True)
class Package:
    """What is known about one distribution.

    Attributes:
        name: normalised: lower case, ``-`` between words.
        version: as released.
        licence: SPDX expression or free text; "" where the metadata is silent.
        files: names of the files in it, as far as they are known.
        is_wheel: False where it would have to be built, which may need a compiler.
    """

    name: str
    version: str
    licence: str
    files: tuple[str, ...] = ()
    is_wheel: bool = True

    @property
    def bundled(self) -> list[tuple[str, str]]:
        """(what, licence) of the libraries that the package carries."""
        found = {match[1].lower() for file in self.files if (match := _GPL_LIBRARY.search(file))}
        return [*BUNDLES.get(self.name, ()), *((name, "GPL (by its file name)") for name in sorted(found))]

    def problems(self) -> list[str]:
        """Why the package must not be used; empty where it may."""
        reasons = []
        for what, licence in [("", self.licence), *self.bundled]:
            if not is_accepted(licence):
                reasons.append(f"{what + ': ' if what else ''}{licence or 'unknown licence'}")
        if not self.is_wheel:
            reasons.append("no wheel: it would be built from source")
        return reasons


def is_accepted(licence: str) -> bool:
    """Whether a licence, or an SPDX expression with AND, OR and parentheses, allows use beside Apache-2.0 code."""
    if not re.search(r" (AND|OR) ", licence):
        return _is_accepted_term(licence)
    while "(" in licence:
        simpler = re.sub(r"\(([^()]*)\)", lambda inner: "MIT" if is_accepted(inner[1]) else "refused", licence)
        if simpler == licence:
            return False  # unbalanced
        licence = simpler
    return any(all(map(_is_accepted_term, choice.split(" AND "))) for choice in licence.split(" OR "))


def _is_accepted_term(licence: str) -> bool:
    if _HARMLESS_EXCEPTION.search(licence):
        return True
    return bool(_ACCEPTED.search(licence)) and not _GPL.search(licence)


def licence_of(name: str, expression: str, classifiers: Iterable[str], text: str) -> str:
    """The best statement in the metadata of a package; free text counts only where it is short."""
    if expression:
        return expression
    families = [c.split(" :: ")[-1] for c in classifiers if c.startswith("License :: ") and c.count(" :: ") > 1]
    if families:
        return "; ".join(families)
    text = text.strip()
    if text and "\n" not in text and len(text) < 100:
        return text
    return KNOWN_LICENCES.get(name, "")


def normalised(name: str) -> str:
    """``Foo_Bar`` and ``foo.bar`` are one name, ``foo-bar``."""
    return re.sub(r"[-_.]+", "-", name).lower()


def from_report(report: Mapping[str, Any]) -> list[Package]:
    """Packages of a report of pip, without those that are installed from a folder (ourselves).

    Raises:
        SystemExit: the pip that wrote it is too old to copy ``License-Expression``.
    """
    if tuple(int(n) for n in report["pip_version"].split(".")[:2]) < (24, 1):
        raise SystemExit(f"the report is from pip {report['pip_version']}, which drops licences; use pip 24.1 or newer")
    packages = []
    for item in report["install"]:
        if "dir_info" in item["download_info"]:
            continue
        data = item["metadata"]
        name = normalised(data["name"])
        licence = licence_of(
            name, data.get("license_expression", ""), data.get("classifier", []), data.get("license", "")
        )
        is_wheel = item["download_info"]["url"].partition("#")[0].endswith(".whl")
        packages.append(Package(name=name, version=data["version"], licence=licence, is_wheel=is_wheel))
    return packages


def from_environment() -> list[Package]:
    """Packages that this interpreter can import, without those that are installed from a folder (ourselves)."""
    packages = []
    for distribution in distributions():
        origin = distribution.read_text("direct_url.json")
        if origin is None or "dir_info" not in json.loads(origin):
            files = tuple(str(file) for file in distribution.files or ())
            headers = HeaderParser().parsestr(distribution.read_text("METADATA") or "")
            packages.append(_from_headers(headers, files))
    return packages


def from_wheels(folder: Path) -> list[Package]:
    """The wheels in a folder, looked into."""
    packages = []
    for path in sorted(folder.glob("*.whl")):
        with zipfile.ZipFile(path) as wheel:
            files = tuple(wheel.namelist())
            metadata = next(name for name in files if re.fullmatch(r"[^/]+\.dist-info/METADATA", name))
            packages.append(_from_headers(HeaderParser().parsestr(wheel.read(metadata).decode()), files))
    return packages


def _from_headers(headers: Message, files: tuple[str, ...]) -> Package:
    name = normalised(str(headers["Name"]))
    licence = licence_of(
        name,
        str(headers["License-Expression"] or ""),
        [str(value) for value in headers.get_all("Classifier", [])],
        str(headers["License"] or ""),
    )
    return Package(name=name, version=str(headers["Version"]), licence=licence, files=files)


def table(packages: Sequence[Package]) -> str:
    """One line per package, bundled libraries below it, problems marked with ``!``."""
    width = max((len(p.name) for p in packages), default=0)
    lines = []
    for package in sorted(packages, key=lambda p: p.name):
        lines.append(f"  {package.name:<{width}}  {package.version:<14}  {package.licence or 'unknown'}")
        lines += [f"  {'':<{width}}  {'carries':<14}  {what}: {licence}" for what, licence in package.bundled]
        lines += [f"! {package.name:<{width}}  {reason}" for reason in package.problems()]
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the table; 1 where something must not be used, else 0."""
    parser = argparse.ArgumentParser(description="Licences of packages and of the libraries that their wheels bundle.")
    source = parser.add_mutually_exclusive_group()
    source.add_argument("--report", type=Path, help="JSON file written by 'pip install --dry-run --report'")
    source.add_argument("--wheels", type=Path, help="folder with .whl files")
    options = parser.parse_args(arguments)
    if options.report:
        packages = from_report(json.loads(options.report.read_text()))
    else:
        packages = from_wheels(options.wheels) if options.wheels else from_environment()
    print(table(packages))
    refused = [package.name for package in packages if package.problems()]
    print(f"{len(packages)} packages, {len(refused)} not acceptable{': ' if refused else ''}{', '.join(refused)}")
    return 1 if refused or not packages else 0


if __name__ == "__main__":
    sys.exit(main())
