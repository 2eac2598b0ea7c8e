"""Importing is free: what only tells about the package loads none of the heavy libraries."""

from __future__ import annotations

import subprocess
import sys

import pytest

# `da3 models` asks huggingface_hub what is in its cache; that library is light enough.
HEAVY = ("torch", "cv2", "safetensors", "beartype")

REPORT = f"""
import sys
loaded = [name for name in {HEAVY!r} if name in sys.modules]
assert not loaded, loaded
print("light")
"""


def run(code: str) -> str:
    """What a fresh interpreter prints for ``code`` followed by the check of its modules."""
    result = subprocess.run([sys.executable, "-c", code + REPORT], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout + result.stderr
    assert result.stdout.endswith("light\n")
    return result.stdout


def test_the_package_loads_not_even_numpy() -> None:
    run("import depth_anything_3, sys\nassert 'numpy' not in sys.modules\ndir(depth_anything_3)")


@pytest.mark.parametrize("module", ["cli", "errors", "registry", "cfg", "types.options", "zoo.cards", "export", "io"])
def test_module(module: str) -> None:
    run(f"import depth_anything_3.{module}")


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--help"], "auto"),
        (["--version"], "da3 "),
        (["auto", "--help"], "filter_black_bg"),
        *(
            (["--help", command][::-1], "--export-format")
            for command in ("image", "video", "depth", "clean", "convert")
        ),
        (["models", "--help"], "models"),
        (["models"], "DA3-SMALL"),
    ],
)
def test_command(arguments: list[str], expected: str) -> None:
    code = f"""
import sys
from depth_anything_3.cli import main
sys.argv = ["da3", *{arguments!r}]
try:
    main()
except SystemExit as stop:
    assert stop.code in (0, None), stop.code
"""
    assert expected in run(code)


def test_help_of_all_commands_loads_no_exporter() -> None:
    code = """
import sys
from depth_anything_3.cli import main
sys.argv = ["da3", "--help"]
try:
    main()
except SystemExit as stop:
    assert stop.code in (0, None), stop.code
assert not [name for name in sys.modules if name.startswith("depth_anything_3.export")]
assert "numpy" not in sys.modules
"""
    assert "convert" in run(code)


def test_options_load_neither_torch_nor_numpy() -> None:
    run("import sys, depth_anything_3.types.options, depth_anything_3.zoo.cards\nassert 'numpy' not in sys.modules")


def test_a_network_without_memory_is_built_without_the_compiler() -> None:
    """Some operations on the meta device import torch's compiler, which takes longer than loading a checkpoint."""
    code = """
import sys, torch
from depth_anything_3.cfg import create_object, load_config
from depth_anything_3.registry import MODEL_REGISTRY
with torch.device("meta"):
    for name in ("da3-small", "da3metric-large"):
        create_object(load_config(MODEL_REGISTRY[name]))
assert "torch._dynamo" not in sys.modules
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
