"""Processes beside the one that runs the tests."""

import contextlib
import itertools
import json
import os
import pathlib
import socket
import subprocess
import sys

ROOT = pathlib.Path(__file__).parents[1]
QUIET = {"TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": ""}


def worker(name, *arguments):
    """Returns the command of a program in tests/workers."""
    return [sys.executable, "-m", f"tests.workers.{name}", *map(str, arguments)]


def launch(command, env=None, cwd=ROOT, **options):
    """Starts a command, by default in the repository's root."""
    return subprocess.Popen(
        command,
        env={**os.environ, **QUIET, **(env or {})},
        cwd=cwd,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        **options,
    )


def finish(process, code=0):
    """Waits for a process to end with an exit code; returns what it printed."""
    out, err = process.communicate(timeout=600)
    assert process.returncode == code, err[-3000:]
    return out, err


def free_ports(count):
    """Returns ports of this machine that nothing listens on, no two the same.

    Systems hand out ports above 32,767, so nobody else gets these in the meantime by chance; test
    processes begin at different ones.
    """
    found = []
    for _ in range(10_000):
        if len(found) == count:
            return found
        with socket.socket() as s, contextlib.suppress(OSError):
            port = next(_PORTS)
            s.bind(("localhost", port))
            found.append(port)
    raise OSError("this machine has no free port from 10,000 to 30,000")


_PORTS = itertools.cycle(range(10_000, 30_000))
next(itertools.islice(_PORTS, os.getpid() * 97 % 20_000, None))


def worker_environments(count):
    """Returns the environment of each worker of a cluster on this machine."""
    cluster = {"worker": [f"localhost:{port}" for port in free_ports(count)]}
    tasks = ({"type": "worker", "index": index} for index in range(count))
    return [{"TF_CONFIG": json.dumps({"cluster": cluster, "task": task})} for task in tasks]
