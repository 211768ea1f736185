"""Runs the README's first block of Python, beside the README's pictures."""

import os
import pathlib
import re
import sys

readme = pathlib.Path(sys.argv[1]).resolve()
block = re.search(r"```python\n(.*?)```", readme.read_text(encoding="utf-8"), re.S)[1]
os.chdir(readme.parent)
# The repository's own folder must not stand in for the installed package.
sys.path[:] = [p for p in sys.path if pathlib.Path(p or ".").resolve() != readme.parent]
exec(compile(block, str(readme), "exec"))
