"""How far long paths are off, with the network replaced by one that errs by as much as it is told.

usage: python benchmarks/streaming.py [--frames 5000] [--laps 4] [--seeds 20] [--size 120] [--overlap 12] [--state]

Rings and figure eights, four times around. Each window comes in a gauge of its own and drifts by 2 % of scale,
0.3 degrees and 1 % of translation, its focal length is 2 % off, and of its pixels 3 % noise is on all, 10 % are wrong
and 15 % move (standard deviations). Three of ten loop candidates are false. Each path is solved with the loops that
pass the check, and once more with the check switched off, so that only the pose graph stands against the false ones.
The error is the root mean square of the distances of the cameras after alignment, as a part of the path's length.
Beside it stands the published scheme with windows of the same size. ``--state`` runs the ring of one seed through
:class:`~depth_anything_3.stream.reconstructor.StreamingReconstructor` instead, with its state on disk, and says how
memory and disk grow with the frames.
"""

from __future__ import annotations

import argparse
import json
import platform
import resource
import time
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from depth_anything_3.bench.published_streaming import published_path
from depth_anything_3.metrics.trajectory import trajectory_errors
from depth_anything_3.stream.loops import LoopCandidate, LoopOptions, propose_loops
from depth_anything_3.stream.mapper import Mapper, MapperOptions
from depth_anything_3.stream.reconstructor import StreamingReconstructor
from depth_anything_3.stream.windows import plan_windows
from depth_anything_3.synth.oracle import Oracle, OracleModel, OracleWorld, frame_picture, make_oracle_world
from depth_anything_3.types.options import StreamOptions

FALSE_SHARE = 0.3


def with_false(oracle: Oracle, candidates: Sequence[LoopCandidate], share: float) -> list[LoopCandidate]:
    """The candidates, and so many pairs of frames that share no place that they are that part of all."""
    rng = np.random.default_rng(oracle.seed)
    wanted = round(len(candidates) * share / (1 - share))
    false: list[LoopCandidate] = []
    while len(false) < wanted:
        first, second = sorted(int(f) for f in rng.choice(len(oracle.world), 2, replace=False))
        if not oracle.shares_place(first, second):
            false.append(LoopCandidate(first=first, second=second, similarity=0.0))
    return [*candidates, *false]


def run(oracle: Oracle, *, size: int, overlap: int, checked: bool) -> dict[str, float]:
    """One path, from windows to the solution."""
    world, frames = oracle.world, len(oracle.world)
    loops = LoopOptions() if checked else LoopOptions(least_agreeing=0.0, least_shared=0.0)
    mapper, start = Mapper(MapperOptions(loops=loops)), time.process_time()
    windows = plan_windows(frames, size=size, overlap=overlap)
    for window in windows:
        mapper.add_window(window, oracle.predict(window.frames))
    chain = mapper.extrinsics()
    mapper.solve()
    same = bool((mapper.extrinsics() == chain).all())
    true = propose_loops(oracle.descriptors(), replace(loops, least_gap=world.frames_per_lap // 2))
    accepted, looked = [], 0
    for candidate in with_false(oracle, true, FALSE_SHARE):
        sides = mapper.loop_frames(candidate)
        looked += len(sides[0]) + len(sides[1])
        check = mapper.add_loop(candidate, oracle.predict(sides[0] + sides[1]))
        accepted.append(check.accepted)
    result = mapper.solve()
    doubtful = np.concatenate([part.doubtful for part in mapper.relations])
    weights = result.weights[0][doubtful] if result is not None else np.zeros(0)
    honest = [oracle.shares_place(candidate.first, candidate.second) for candidate in true]
    return {
        "ate_percent": 100 * trajectory_errors(mapper.extrinsics(), world.extrinsics).rmse / world.path_length,
        "chain_ate_percent": 100 * trajectory_errors(chain, world.extrinsics).rmse / world.path_length,
        "without_loops_equals_chain": same,
        "proposed": len(true),
        "proposed_true": sum(honest),
        "accepted_proposed": sum(accepted[: len(true)]),
        "accepted_false": sum(accepted[len(true) :]),
        "false": len(accepted) - len(true),
        "believed_loops": int((weights > 0.5).sum()),
        "inferred_per_frame": (sum(len(window) for window in windows) + looked) / frames,
        "processor_seconds": time.process_time() - start,
        "fingerprint": float(mapper.nodes.translation.sum()),
    }


def published(oracle: Oracle, size: int) -> dict[str, float]:
    """The published scheme on the same path, with the loops that it finds itself."""
    frames = len(oracle.world)
    path, inferred = published_path(oracle.predict, frames, oracle.descriptors(), size=size)
    error = trajectory_errors(path, oracle.world.extrinsics).rmse
    return {"ate_percent": 100 * error / oracle.world.path_length, "inferred_per_frame": inferred / frames}


def run_state(world: OracleWorld, *, size: int, overlap: int) -> dict[str, object]:
    """Memory and disk while the frames come, and the error at the end."""
    oracle, grown = Oracle(world=world), []
    with StreamingReconstructor(OracleModel(oracle), StreamOptions(window=size, overlap=overlap)) as stream:
        for frame in range(len(world)):
            stream.push(frame_picture(frame))
            if (frame + 1) % max(len(world) // 5, 1) == 0:
                peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
                grown.append({"frames": frame + 1, "peak_memory_mb": peak, "state_bytes": stream.store.size})
        stream.finalize()
        error = trajectory_errors(stream.trajectory(), world.extrinsics).rmse
        return {
            "growth": grown,
            "ate_percent": round(100 * error / world.path_length, 4),
            "inferred_per_frame": round(stream.inferred / len(world), 3),
        }


def summary(world: OracleWorld, runs: list[dict[str, float]]) -> dict[str, object]:
    """The worst seed of each number that has a bound, and the middle of the others."""
    worst = ("ate_percent", "chain_ate_percent", "inferred_per_frame", "accepted_false", "processor_seconds")
    counts = ("proposed", "proposed_true", "accepted_proposed", "false", "believed_loops")
    return {
        "path_metres": round(world.path_length, 1),
        "seeds": len(runs),
        "worst": {name: round(max(r[name] for r in runs), 4) for name in worst},
        "median": {name: round(float(np.median([r[name] for r in runs])), 4) for name in (*worst, *counts)},
        "without_loops_equals_chain": all(r["without_loops_equals_chain"] for r in runs),
    }


def main() -> None:
    """Measure and print JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--frames", type=int, default=5000)
    parser.add_argument("--laps", type=int, default=4)
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--size", type=int, default=120)
    parser.add_argument("--overlap", type=int, default=12)
    parser.add_argument("--state", action="store_true")
    args = parser.parse_args()
    if args.state:
        world = make_oracle_world(args.frames, laps=args.laps)
        print(json.dumps(run_state(world, size=args.size, overlap=args.overlap), indent=2))
        return
    report: dict[str, object] = {"arguments": vars(args), "machine": platform.machine()}
    for path in ("ring", "eight"):
        world = make_oracle_world(args.frames, path=path, laps=args.laps)
        theirs = [published(Oracle(world=world, seed=seed), args.size) for seed in range(args.seeds)]
        report[f"{path}, published scheme"] = {
            "worst_ate_percent": round(max(r["ate_percent"] for r in theirs), 4),
            "mean_ate_percent": round(float(np.mean([r["ate_percent"] for r in theirs])), 4),
            "inferred_per_frame": round(theirs[0]["inferred_per_frame"], 3),
        }
        for checked in (True, False):
            options = {"size": args.size, "overlap": args.overlap, "checked": checked}
            runs = [run(Oracle(world=world, seed=seed), **options) for seed in range(args.seeds)]
            again = run(Oracle(world=world, seed=0), **options)
            found = summary(world, runs)
            found["repeats_identically"] = again["fingerprint"] == runs[0]["fingerprint"]
            report[f"{path}, {'loops checked' if checked else 'check off'}"] = found
    report["peak_memory_mb"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    print(json.dumps(report, indent=2))


if __name__ == "__main__":
    main()
