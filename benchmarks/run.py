"""Runs every benchmark of this folder, each in a process of its own: `make bench`.

    python benchmarks/run.py [NAME...]

Only ratios within one run mean anything: machines differ, and so do two hours of one machine.
The exit status is 1 if any bound that a benchmark is held to was missed.
"""

import pathlib
import subprocess
import sys

HERE = pathlib.Path(__file__).parent
HELPERS = {"run", "quick", "timing", "stablehlo_step"}  # the last needs another machine


def main():
    """Runs the named benchmarks, or all; returns the names of those that failed."""
    names = sorted(p.stem for p in HERE.glob("*.py") if p.stem not in HELPERS)
    chosen = sys.argv[1:] or names
    if unknown := set(chosen) - set(names):
        sys.exit(f"no benchmark {', '.join(sorted(unknown))}; there are {', '.join(names)}")
    failed = []
    for name in chosen:
        print(f"\n=== {name}", flush=True)
        if subprocess.run([sys.executable, HERE / f"{name}.py"]).returncode:
            failed.append(name)
    return failed


if __name__ == "__main__":
    if failures := main():
        sys.exit(f"\nmissed a bound or failed: {', '.join(failures)}")
