"""4,096 views in one forward pass within 8 GB, and 16 of them beside attention in float64.

usage: python benchmarks/many_views.py [--views 4096] [--side 70] [--address-space 8] [--compared 16] [--out FILE.json]

The network (da3-small, seeded weights, pictures of noise) runs as inference runs it, under an enforced limit on the
address space of its process. The reference is a second implementation of nothing but attention, in a transformer that
is in float64 throughout: scores, their exponentials and sums written out for the tokens of the views that are compared;
those of the other views, whose values only reach the compared ones through later layers, go through PyTorch's float64
kernel. The reference takes the memory it wants, and of the time most: some minutes for each of the four layers.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
import torch.nn.functional as F
from forward import built
from peak import peak_bytes
from torch import Tensor

if TYPE_CHECKING:
    from depth_anything_3.model.dinov2.layers import Attention
    from depth_anything_3.types.output import NetOutput

PRESET = "da3-small"


def pictures(views: int, side: int) -> Tensor:
    """(1, views, 3, side, side) normalised noise, smooth over some pixels, each view with a brightness of its own."""
    generator = torch.Generator().manual_seed(0)
    coarse = torch.randn(views, 3, side // 7, side // 7, generator=generator)
    shade = torch.randn(views, 3, 1, 1, generator=generator)
    return (F.interpolate(coarse, size=(side, side), mode="bilinear") + shade)[None]


def compared_views(views: int, compared: int) -> list[int]:
    """Views spread over the whole sequence, the first and the last among them."""
    return np.linspace(0, views - 1, compared).round().astype(int).tolist()


def picked(output: NetOutput, views: list[int]) -> dict[str, np.ndarray]:
    """What some views got."""
    assert output.extrinsics is not None and output.intrinsics is not None
    found = {"depth": output.depth, "depth_conf": output.depth_conf}
    found |= {"extrinsics": output.extrinsics, "intrinsics": output.intrinsics}
    return {name: tensor[0, views].double().numpy() for name, tensor in found.items() if tensor is not None}


def run_within(views: int, side: int, address_space: float, compared: int, out: Path) -> None:
    """The network as inference runs it, in this process, which must not take more than ``address_space`` GB."""
    from depth_anything_3.infer.plan import plan_memory
    from depth_anything_3.model.fast import fast_twin

    net, images = built(PRESET), pictures(views, side)
    resource.setrlimit(resource.RLIMIT_AS, (int(address_space * 1e9),) * 2)
    cpu, limit = torch.device("cpu"), int(address_space * 1e9)
    plan = plan_memory(net, views, (side, side), device=cpu, dtype=torch.float32, limit=limit)
    twin, started = fast_twin(net, torch.float32), time.perf_counter()
    with torch.inference_mode():
        output = twin(images, ref_view_strategy="first", chunking=plan.chunking)
    seconds = time.perf_counter() - started
    np.savez(out, **picked(output, compared_views(views, compared)))  # type: ignore[arg-type]
    print(json.dumps({"plan": str(plan), "seconds": round(seconds), "measured_mb": round(peak_bytes() / 1e6)}))


class Reference(torch.nn.Module):
    """Attention as its definition has it, for the tokens of some views; PyTorch's float64 kernel for the others."""

    def __init__(self, attention: Attention, views: int, compared: list[int]) -> None:
        super().__init__()
        self.attention, self.views, self.compared = attention, views, compared

    def forward(self, x: Tensor, rope: Tensor | None = None, pooling: None = None) -> Tensor:
        q, k, v = self.attention.project(x, rope)
        assert v.dtype == torch.float64 and pooling is None
        found = F.scaled_dot_product_attention(q, k, v)
        if len(x) == 1:  # all views at once: the layers in question
            tokens = torch.arange(q.shape[2]).unflatten(0, (self.views, -1))[self.compared].flatten()
            for head in range(q.shape[1]):
                for some in tokens.split(64):
                    scores = (q[0, head, some] @ k[0, head].T) / q.shape[-1] ** 0.5
                    weights = (scores - scores.amax(1, keepdim=True)).exp()
                    found[0, head, some] = (weights @ v[0, head]) / weights.sum(1, keepdim=True)
        projected: Tensor = self.attention.proj(found.transpose(1, 2).flatten(2))
        return projected


def reference(views: int, side: int, compared: int) -> dict[str, np.ndarray]:
    """The same views from a transformer in float64."""
    from depth_anything_3.model.da3 import DepthAnything3Net
    from depth_anything_3.model.dinov2.layers import Attention

    net, chosen = built(PRESET), compared_views(views, compared)
    assert isinstance(net, DepthAnything3Net)
    net.backbone.double()
    for i, block in enumerate(net.backbone.pretrained.blocks):
        attention = block.attn
        assert isinstance(attention, Attention)
        block.attn = Reference(attention, views, chosen)
        block.register_forward_hook(lambda *_, i=i: print(f"float64: block {i + 1}", file=sys.stderr, flush=True))
    with torch.inference_mode():
        return picked(net(pictures(views, side).double(), ref_view_strategy="first"), chosen)


def main() -> None:
    """Run both and print how far they are apart."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--views", type=int, default=4096)
    parser.add_argument("--side", type=int, default=70)
    parser.add_argument("--address-space", type=float, default=8.0, help="enforced limit in GB")
    parser.add_argument("--compared", type=int, default=16)
    parser.add_argument("--out", type=Path, help="also write the JSON to this file")
    parser.add_argument("--run-into", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    how = (options.views, options.side)
    if options.run_into:
        run_within(*how, options.address_space, options.compared, options.run_into)
        return
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "found.npz"
        command = [sys.executable, __file__, "--run-into", str(file), *sys.argv[1:]]
        done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
        print(done.stdout, file=sys.stderr, flush=True)
        with np.load(file) as stored:
            found = dict(stored)
    want = reference(*how, options.compared)
    errors = {name: float(np.abs(found[name] - want[name]).max() / np.abs(want[name]).max()) for name in want}
    apart = float(np.abs(found["depth"] / want["depth"] - 1).max())
    spread = float(want["depth"].std() / want["depth"].mean())
    size = {"views": options.views, "side": options.side, "address_space_gb": options.address_space}
    result = {**size, **json.loads(done.stdout), "compared": options.compared, "largest_relative_error": errors}
    result |= {"largest_relative_error_of_a_pixel": apart, "spread_of_depth": spread}
    print(json.dumps(result, indent=2))
    if options.out:
        options.out.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
