"""How far long paths are off, with the network replaced by one that errs by as much as it is told.

usage: python benchmarks/streaming.py [--frames 5000] [--laps 4] [--seeds 20] [--size 120] [--overlap 12] [--out FILE]
       python benchmarks/streaming.py --state [--frames 5000]

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
import copy
import json
import platform
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
from peak import peak_bytes

from depth_anything_3.bench.published_streaming import published_path
from depth_anything_3.metrics.trajectory import trajectory_errors
from depth_anything_3.stream.loops import LoopCandidate, propose_loops
from depth_anything_3.stream.mapper import Mapper
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


def run(oracle: Oracle, *, size: int, overlap: int) -> dict[bool, dict[str, float]]:
    """One path, from windows to the solution, with the check of loops on and off."""
    frames, mapper, start = len(oracle.world), Mapper(), time.process_time()
    windows = plan_windows(frames, size=size, overlap=overlap)
    for window in windows:
        mapper.add_window(window, oracle.predict(window.frames))
    chain = mapper.extrinsics()
    mapper.solve()
    same = bool((mapper.extrinsics() == chain).all())
    options = mapper.options.loops
    true = propose_loops(oracle.descriptors(), replace(options, least_gap=oracle.world.frames_per_lap // 2))
    honest = [oracle.shares_place(candidate.first, candidate.second) for candidate in true]
    facts = {
        "chain_ate_percent": _ate_percent(chain, oracle.world),
        "without_loops_equals_chain": same,
        "proposed": len(true),
        "proposed_true": sum(honest),
    }
    seconds, inferred = time.process_time() - start, sum(len(window) for window in windows)
    found = {}
    for checked in (True, False):
        start = time.process_time()
        ended = copy.deepcopy(mapper)
        if not checked:
            ended.options = replace(mapper.options, loops=replace(options, least_agreeing=0.0, least_shared=0.0))
        ended_facts = close_loops(ended, oracle, true)
        ended_facts["inferred_per_frame"] = (inferred + ended_facts.pop("looked_at")) / frames
        ended_facts["processor_seconds"] = seconds + time.process_time() - start
        found[checked] = facts | ended_facts
    return found


def close_loops(mapper: Mapper, oracle: Oracle, true: Sequence[LoopCandidate]) -> dict[str, float]:
    """Offer the loops and false ones, and solve."""
    accepted, looked = [], 0
    for candidate in with_false(oracle, true, FALSE_SHARE):
        sides = mapper.loop_frames(candidate)
        looked += len(sides[0]) + len(sides[1])
        check = mapper.add_loop(candidate, oracle.predict(sides[0] + sides[1]))
        accepted.append(check.accepted)
    result = mapper.solve()
    doubtful = np.concatenate([part.doubtful for part in mapper.relations])
    weights = result.weights[0][doubtful] if result is not None else np.zeros(0)
    return {
        "ate_percent": _ate_percent(mapper.extrinsics(), oracle.world),
        "accepted_proposed": sum(accepted[: len(true)]),
        "accepted_false": sum(accepted[len(true) :]),
        "false": len(accepted) - len(true),
        "believed_loops": int((weights > 0.5).sum()),
        "looked_at": looked,
        "fingerprint": float(mapper.nodes.translation.sum()),
    }


def _ate_percent(path: npt.NDArray[np.float64], world: OracleWorld) -> float:
    return 100 * trajectory_errors(path, world.extrinsics).rmse / world.path_length


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
                peak = peak_bytes() >> 20
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


def one_seed(world: OracleWorld, seed: int, *, size: int, overlap: int) -> dict[str, dict[str, float]]:
    """Ours and the published scheme on one path with one seed."""
    oracle = Oracle(world=world, seed=seed)
    ours = run(oracle, size=size, overlap=overlap)
    found = {"loops checked": ours[True], "check off": ours[False], "published scheme": published(oracle, size)}
    found["process"] = {"peak_memory_mb": peak_bytes() >> 20}
    return found


def report(path: str, world: OracleWorld, runs: list[dict[str, dict[str, float]]], again: bool) -> dict[str, object]:
    """What all seeds of a path say."""
    theirs = [r["published scheme"]["ate_percent"] for r in runs]
    ours = [r["loops checked"]["ate_percent"] for r in runs]
    return {
        f"{path}, loops checked": summary(world, [r["loops checked"] for r in runs]),
        f"{path}, check off": summary(world, [r["check off"] for r in runs]),
        f"{path}, published scheme": {
            "worst_ate_percent": round(max(theirs), 4),
            "mean_ate_percent": round(float(np.mean(theirs)), 4),
            "inferred_per_frame": round(runs[0]["published scheme"]["inferred_per_frame"], 3),
            "seeds_on_which_it_is_better": sum(a > b for a, b in zip(ours, theirs, strict=True)),
            "ours_mean_ate_percent": round(float(np.mean(ours)), 4),
        },
        f"{path}, repeats identically": again,
    }


def main() -> None:
    """Measure and print JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--frames", type=int, default=5000)
    parser.add_argument("--laps", type=int, default=4)
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--size", type=int, default=120)
    parser.add_argument("--overlap", type=int, default=12)
    parser.add_argument("--out", type=Path, help="JSON of each seed; a run that was stopped goes on with it")
    parser.add_argument("--state", action="store_true")
    args = parser.parse_args()
    sizes = {"size": args.size, "overlap": args.overlap}
    if args.state:
        world = make_oracle_world(args.frames, laps=args.laps)
        print(json.dumps(run_state(world, **sizes), indent=2))
        return
    arguments = {"frames": args.frames, "laps": args.laps, **sizes}
    kept = json.loads(args.out.read_text()) if args.out and args.out.exists() else {"arguments": arguments}
    if kept["arguments"] != arguments:
        parser.error(f"{args.out} holds runs with {kept['arguments']}")
    worlds = {path: make_oracle_world(args.frames, path=path, laps=args.laps) for path in ("ring", "eight")}
    for seed in range(args.seeds):
        for path, world in worlds.items():
            seeds = kept.setdefault(path, {})
            if str(seed) not in seeds:
                seeds[str(seed)] = one_seed(world, seed, **sizes)
                if args.out:
                    args.out.write_text(json.dumps(kept, indent=1))
    found: dict[str, object] = {"arguments": vars(args) | {"out": None}, "machine": platform.machine()}
    for path, world in worlds.items():
        runs = [kept[path][str(seed)] for seed in range(args.seeds)]
        again = one_seed(world, 0, **sizes)["loops checked"]["fingerprint"] == runs[0]["loops checked"]["fingerprint"]
        found |= report(path, world, runs, again)
    peaks = [kept[path][str(seed)]["process"]["peak_memory_mb"] for path in worlds for seed in range(args.seeds)]
    found["peak_memory_mb"] = max(peaks)
    print(json.dumps(found, indent=2))


if __name__ == "__main__":
    main()
