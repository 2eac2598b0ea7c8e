"""``da3 doctor``: what is installed, what is missing, what this machine has, and nothing of who owns it."""

from __future__ import annotations

import json
import os
import platform
import re
import sys
import time
from collections.abc import Iterable
from importlib.metadata import PackageNotFoundError, entry_points, metadata, requires, version
from pathlib import Path
from typing import Annotated, Any

import typer

from depth_anything_3.cli._console import EXIT_FAILED, human_size
from depth_anything_3.cli._options import ReportOptions, With, command

DISTRIBUTION = "depth-anything-3"

GIVES = {
    "app": "the web app on Gradio",
    "gs": "3D Gaussians drawn on CUDA",
    "colmap": "bundle adjustment and reports by COLMAP itself (its wheels hold GPL parts)",
    "video": "nothing yet: video is read without it",
    "heif": "photos as HEIF and HEIC, the format of many phones",
    "bench": "scores of models",
    "exr": "depth as EXR",
    "clean": "the clean-up preset 'strict', which removes outliers",
    "open3d": "clouds and meshes as objects of Open3D",
    "trimesh": "clouds and meshes as objects of trimesh",
    "rerun": "the format rerun",
    "onnx": "da3 export onnx",
    "stream": "long sequences",
    "train": "training, and data sets in HDF5 and EXR",
    "tensorboard": "curves of training for TensorBoard",
    "serve": "the server",
    "ray": "many scenes over many machines",
    "demo": "the photographs of the demonstration",
    "dev": "tests and checks of this package",
    "peers": "large libraries that the tests compare with",
}
"""What each extra of the package is for."""

_GROUPS = ("exporter", "dataset", "model", "camera_reader", "rasteriser", "recipe")


@command
def doctor(
    report: Annotated[ReportOptions, With("as_json", "quiet")],
    report_file: Annotated[
        Path | None,
        typer.Option(
            "--report",
            metavar="FILE",
            help="Also write everything, as JSON, to this file, to go with a bug report.",
            show_default=False,
        ),
    ] = None,
    check: Annotated[bool, typer.Option(help="Also run the bundled model once.")] = True,
) -> None:
    """Say what is installed, what is missing, and what this machine has.

    Nothing private is in it: no names of people, machines or folders, no photos, no settings but those listed.
    """
    facts = examine(check=check)
    if report_file is not None:
        from depth_anything_3._files import atomic_path

        with atomic_path(report_file) as temporary:
            temporary.write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")
    if report.as_json:
        typer.echo(json.dumps(facts))
    elif not report.quiet:
        for line in _lines(facts):
            typer.echo(line)
        if report_file is not None:
            typer.echo(f"\nreport: {report_file}")
    if facts["check"] is not None and not facts["check"]["ok"]:
        raise typer.Exit(EXIT_FAILED)


def examine(*, check: bool) -> dict[str, Any]:
    """Everything, as plain data.

    Args:
        check: also run the bundled model on a small grey picture.
    """
    return {
        "package": _version(DISTRIBUTION),
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "cpus": os.cpu_count(),
        "memory": _memory(),
        "core": {name: _version(name) for name in _core()},
        "devices": _devices(),
        "extras": {name: _extra(name, packages) for name, packages in sorted(_extras().items())},
        "models": _models(),
        "plugins": _plugins(),
        "settings": sorted(name for name in ("HF_HUB_OFFLINE", "HF_ENDPOINT", "HF_HOME") if name in os.environ),
        "check": _check() if check else None,
    }


def _version(distribution: str) -> str | None:
    try:
        return version(distribution)
    except PackageNotFoundError:
        return None


def _requirements() -> list[tuple[str, str | None]]:
    """(distribution, extra or None) of every requirement of this package."""
    found = []
    try:
        lines = requires(DISTRIBUTION) or []
    except PackageNotFoundError:
        lines = []
    for line in lines:
        name = re.match(r"[\w.-]+", line)
        extra = re.search(r"extra *== *['\"]([\w-]+)['\"]", line)
        if name is not None:
            found.append((name[0], extra[1] if extra else None))
    return found


def _core() -> list[str]:
    return [name for name, extra in _requirements() if extra is None]


def _extras() -> dict[str, list[str]]:
    try:
        announced = metadata(DISTRIBUTION).get_all("Provides-Extra") or []
    except PackageNotFoundError:  # run from a folder of sources
        return {}
    extras: dict[str, list[str]] = {name: [] for name in announced if name != "all"}
    for name, extra in _requirements():
        if extra in extras and name != DISTRIBUTION:
            extras[extra].append(name)
    return extras


def _extra(name: str, packages: Iterable[str]) -> dict[str, Any]:
    versions = {package: _version(package) for package in packages}
    return {
        "gives": GIVES.get(name, ""),
        "packages": versions,
        "complete": all(versions.values()),
        "install": f"pip install '{DISTRIBUTION}[{name}]'",
    }


def _memory() -> dict[str, int] | None:
    """Bytes of memory in all and free; None where the system does not say."""
    try:
        page = os.sysconf("SC_PAGE_SIZE")
        return {"total": page * os.sysconf("SC_PHYS_PAGES"), "free": page * os.sysconf("SC_AVPHYS_PAGES")}
    except (AttributeError, OSError, ValueError):
        return None


def _devices() -> list[dict[str, Any]]:
    try:
        import torch
    except ImportError as error:
        return [{"name": "none", "note": f"torch cannot be imported: {type(error).__name__}"}]
    from depth_anything_3.infer.device import choose_device, choose_dtype

    names = ["cpu", *(f"cuda:{index}" for index in range(torch.cuda.device_count()))]
    names += ["mps"] if torch.backends.mps.is_available() else []
    devices = []
    for name in names:
        device = choose_device(name)
        entry: dict[str, Any] = {"name": name, "dtype": str(choose_dtype(device, None)).removeprefix("torch.")}
        if device.type == "cuda":
            free, total = torch.cuda.mem_get_info(device)
            entry |= {"model": torch.cuda.get_device_name(device), "memory": {"total": total, "free": free}}
        devices.append(entry | {"chosen": str(choose_device(None)) == name.removesuffix(":0")})
    return devices


def _models() -> dict[str, Any]:
    from depth_anything_3.zoo.bundled import bundled_names
    from depth_anything_3.zoo.cache import list_cached
    from depth_anything_3.zoo.cards import find_card
    from depth_anything_3.zoo.default import DEFAULT_MODEL

    cached = [model for model in list_cached() if find_card(model.hub_id) is not None]
    return {
        "bundled": list(bundled_names()),
        "cached": {model.hub_id: {"complete": model.complete, "bytes": model.size} for model in cached},
        "default": DEFAULT_MODEL,
    }


def _plugins() -> dict[str, dict[str, str]]:
    """What other packages add: group -> name -> the package and its version."""
    found: dict[str, dict[str, str]] = {}
    for group in _GROUPS:
        for point in entry_points(group=f"depth_anything_3.{group}"):
            origin = f"{point.dist.name} {point.dist.version}" if point.dist is not None else "unknown"
            found.setdefault(group, {})[point.name] = origin
    return found


def _check() -> dict[str, Any]:
    started = time.perf_counter()
    try:
        import numpy as np

        from depth_anything_3.api import DepthAnything3

        model = DepthAnything3.from_pretrained("bundled")
        prediction = model.inference([np.full((56, 56, 3), 128, np.uint8)], process_res=56)
        ok = bool(np.isfinite(prediction.depth).all())
        reason = "" if ok else "the depth is not finite"
    except Exception as error:  # whatever is wrong here is what is to be found out
        ok, reason = False, f"{type(error).__name__}: {_without_paths(str(error))}"
    return {"ok": ok, "reason": reason, "seconds": round(time.perf_counter() - started, 1)}


def _without_paths(text: str) -> str:
    """A message without the folders that are in it."""
    return re.sub(r"(?:[A-Za-z]:)?[\\/](?:[^\\/\s:'\"]+[\\/])+", "", text)


# --- for people -------------------------------------------------------------------------------------------------------


def _lines(facts: dict[str, Any]) -> list[str]:
    memory = facts["memory"]
    of_memory = f", {_of(memory)} of memory" if memory else ""
    lines = [
        f"{DISTRIBUTION} {facts['package'] or 'not installed'}, Python {facts['python']}, {facts['system']}",
        f"{facts['cpus']} CPUs{of_memory}",
        "",
        *_device_lines(facts["devices"]),
        "",
        "Needed:",
        *(f"  {_mark(found)} {name} {found or 'is missing'}" for name, found in facts["core"].items()),
        "",
        "Extras:",
        *(_extra_line(name, extra) for name, extra in facts["extras"].items()),
        "",
        "Models on this disk:",
        f"  bundled: {', '.join(facts['models']['bundled'])} (demonstration)",
        *(f"  {name} ({human_size(model['bytes'])})" for name, model in facts["models"]["cached"].items()),
    ]
    if facts["plugins"]:
        lines += ["", "From other packages:"]
        lines += [f"  {group} {name} ({by})" for group, found in facts["plugins"].items() for name, by in found.items()]
    if facts["settings"]:
        lines += ["", f"Set: {', '.join(facts['settings'])}"]
    if (check := facts["check"]) is not None:
        told = f"ran in {check['seconds']} s" if check["ok"] else f"does not run: {check['reason']}"
        lines += ["", f"{_mark(check['ok'])} The bundled model {told}"]
    return lines


def _device_lines(devices: list[dict[str, Any]]) -> list[str]:
    lines = ["Devices:"]
    for device in devices:
        parts = [device.get("model"), device.get("dtype"), device.get("note")]
        parts += [_of(device["memory"])] if "memory" in device else []
        parts += ["chosen by --device auto"] if device.get("chosen") else []
        lines.append(f"  {device['name']}: {', '.join(part for part in parts if part)}")
    return lines


def _extra_line(name: str, extra: dict[str, Any]) -> str:
    if extra["complete"]:
        return f"  {_mark(True)} {name}: {extra['gives']}"
    missing = [package for package, found in extra["packages"].items() if found is None]
    return f"  {_mark(False)} {name}: would give {extra['gives']}; {', '.join(missing)} missing: {extra['install']}"


def _mark(good: object) -> str:
    encoding = (sys.stdout.encoding or "").lower().replace("-", "")
    return ("✓" if good else "✗") if encoding.startswith("utf") else ("+" if good else "-")


def _of(memory: dict[str, int]) -> str:
    return f"{human_size(memory['free'])} free of {human_size(memory['total'])}"
