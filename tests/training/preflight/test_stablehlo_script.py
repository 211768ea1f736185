"""`benchmarks/stablehlo_step.py`: the lowered step through JAX's client, tried on the CPU."""

import importlib.util
import pathlib
import subprocess
import sys

import pytest

SCRIPT = pathlib.Path(__file__).parents[3] / "benchmarks" / "stablehlo_step.py"
# As on a machine that has neither.
ALONE = f"""
import runpy, sys
sys.modules["tensorflow"] = sys.modules["lit_tf"] = sys.modules["keras"] = None
sys.argv = [{str(SCRIPT)!r}, "run", *sys.argv[1:]]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


@pytest.mark.full
@pytest.mark.skipif(
    importlib.util.find_spec("jax") is None,
    reason="JAX is not installed: pip install 'lit_tf[tpu-preflight]'",
)
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_the_lowered_step_runs_with_nothing_but_jax(tmp_path, dtype):
    step = tmp_path / "step.mlir"
    options = ["--config", "digits", "--batch", "8", "--set", f"dtype={dtype}", "-o", step]
    subprocess.run([sys.executable, SCRIPT, "lower", *options], check=True)
    done = subprocess.run(
        [sys.executable, "-c", ALONE, step, "--steps", "2", "--peak", "1"],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    row = done.stdout.splitlines()[-1]
    assert f"`digits`, {dtype} | 8 |" in row and row.endswith("% |")
