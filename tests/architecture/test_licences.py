"""The licence check accepts what may be used and refuses the rest, whatever a package says about itself."""

from __future__ import annotations

import importlib.util
import json
import sys
import zipfile
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest


@pytest.fixture(scope="module")
def licences(repository: Path) -> ModuleType:
    """tools/licences.py, which is a script and not part of the package."""
    spec = importlib.util.spec_from_file_location("licences", repository / "tools" / "licences.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["licences"] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(
    ("licence", "accepted"),
    [
        ("Apache-2.0", True),
        ("BSD License", True),
        ("3-Clause BSD License", True),
        ("MPL-2.0 AND (Apache-2.0 OR MIT)", True),
        ("Mozilla Public License 2.0 (MPL 2.0)", True),
        ("LGPL-3.0-or-later", True),
        ("GNU Lesser General Public License v3 (LGPLv3)", True),
        ("GPL-3.0-or-later WITH GCC-exception-3.1", True),
        ("GPL-3.0-only OR MIT", True),
        ("GPL-3.0-only AND MIT", False),
        ("(MIT AND GPL-2.0-only) OR AGPL-3.0-only", False),
        ("GNU General Public License v3 (GPLv3)", False),
        ("GNU Affero General Public License v3", False),
        ("Other/Proprietary License", False),
        ("UNKNOWN", False),
        ("", False),
    ],
)
def test_licence(licences: ModuleType, licence: str, accepted: bool) -> None:
    assert licences.is_accepted(licence) is accepted


def item(name: str, suffix: str = "-1-py3-none-any.whl", **metadata: Any) -> dict[str, Any]:
    """One entry of a report of pip."""
    return {
        "download_info": {"url": f"https://index.example/{name}{suffix}"},
        "metadata": {"name": name, "version": "1", **metadata},
    }


@pytest.mark.parametrize(
    ("entry", "status"),
    [
        (item("nice", license_expression="MIT"), 0),
        (item("old_style", classifier=["License :: OSI Approved :: BSD License"], license="long\ntext of the GPL"), 0),
        (item("gsplat"), 0),
        (item("silent"), 1),
        (item("plyfile", license_expression="GPL-3.0-or-later"), 1),
        (item("av", license_expression="BSD-3-Clause"), 1),
        (item("pycolmap", license="BSD-3-Clause"), 1),
        (item("source", suffix="-1.tar.gz", license_expression="MIT"), 1),
    ],
)
def test_report(
    licences: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str], entry: dict[str, Any], status: int
) -> None:
    report = tmp_path / "report.json"
    report.write_text(json.dumps({"pip_version": "26.3", "install": [entry]}))
    assert licences.main(["--report", str(report)]) == status
    assert licences.normalised(entry["metadata"]["name"]) in capsys.readouterr().out


def test_a_report_that_lost_the_licences_is_refused(licences: ModuleType) -> None:
    with pytest.raises(SystemExit, match=r"pip 24\.1 or newer"):
        licences.from_report({"pip_version": "23.2.1", "install": []})


def test_a_wheel_that_carries_a_gpl_library_is_refused(licences: ModuleType, tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "video-1-py3-none-any.whl", "w") as wheel:
        wheel.writestr("video-1.dist-info/METADATA", "Name: video\nVersion: 1\nLicense-Expression: MIT\n")
        wheel.writestr("video.libs/libx265-f5385bb8.so.216", b"")
    (package,) = licences.from_wheels(tmp_path)
    assert package.problems() == ["x265: GPL (by its file name)"]


def test_this_environment_is_clean(licences: ModuleType) -> None:
    packages = licences.from_environment()
    assert {"numpy", "torch"} <= {package.name for package in packages}
    assert "depth-anything-3" not in {package.name for package in packages}
