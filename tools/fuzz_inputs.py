"""Read thousands of damaged input files and report every traceback, crash and hang.

    python tools/fuzz_inputs.py                      2,000 mutants
    python tools/fuzz_inputs.py --mutants 20000 --seed 1

Mutants are read in a process of their own; one that says nothing for ten seconds is ended and started again after the
mutant that it was at. The exit status is 1 if anything was found. The mutants are those of ``tests/support/fuzz.py``,
by seed, so a finding can be repeated by its number.
"""

from __future__ import annotations

import argparse
import importlib
import multiprocessing
import sys
import tempfile
from multiprocessing.connection import Connection
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[1]
PATIENCE = 10.0
"""Seconds for one mutant."""


def work(first: int, last: int, seed: int, reports: Connection) -> None:
    """Read the mutants from ``first`` up to ``last`` and say after each what came of it."""
    sys.path.insert(0, str(REPOSITORY / "tests"))
    fuzz = importlib.import_module("support.fuzz")
    with tempfile.TemporaryDirectory() as folder:
        every = fuzz.targets(Path(folder))
        reports.send(None)  # ready: imports take longer than a mutant
        for number in range(first, last):
            finding, refused = fuzz.attempt(every[number % len(every)], number, seed)
            reports.send((None if finding is None else str(finding), refused))


def run(mutants: int, seed: int) -> tuple[list[str], int]:
    """All findings, and how many mutants were refused."""
    found: list[str] = []
    refused = number = 0
    context = multiprocessing.get_context("spawn")
    while number < mutants:
        receiver, sender = context.Pipe(duplex=False)
        process = context.Process(target=work, args=(number, mutants, seed, sender), daemon=True)
        process.start()
        sender.close()
        try:
            if receiver.poll(120):
                receiver.recv()
            while number < mutants:
                if not receiver.poll(PATIENCE):
                    found.append(f"mutant {number}: no answer in {PATIENCE:.0f} s")
                    number += 1
                    break
                finding, was_refused = receiver.recv()
                refused += was_refused
                number += 1
                if finding is not None:
                    found.append(finding)
        except EOFError:
            found.append(f"mutant {number}: the process died with {process.exitcode}")
            number += 1
        finally:
            process.kill()
            process.join()
    return found, refused


def main() -> int:
    """Parse, run, report."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--mutants", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    found, refused = run(arguments.mutants, arguments.seed)
    for finding in found:
        print(finding)
    print(f"{arguments.mutants} mutants, {refused} refused, {len(found)} findings")
    return 1 if found else 0


if __name__ == "__main__":
    raise SystemExit(main())
