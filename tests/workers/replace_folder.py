"""Replaces folders below FOLDER in processes that are killed before, within and after the swap."""

import os
import pathlib
import signal
import sys

from lit_tf import files

NAME = "lit_manifest.json"
MOMENTS = ("before", "within", "after")


def kill():
    os.kill(os.getpid(), signal.SIGKILL)


def replace(path, moment):
    exchange = files._exchange

    def exchange_and_be_killed(*folders):
        if moment == "before":
            kill()
        if moment == "within":  # what takes two steps dies between them
            sys.addaudithook(lambda event, _: event == "os.rename" and kill())
        exchange(*folders)
        kill()

    files._exchange = exchange_and_be_killed
    with files.replacing_folder(path) as folder:  # as exports do
        (folder / NAME).write_text("new")


def main(folder):
    for moment in MOMENTS:
        out = pathlib.Path(folder, moment)
        out.mkdir()
        (out / NAME).write_text("old")
        if not os.fork():
            replace(out, moment)
        assert os.WTERMSIG(os.wait()[1]) == signal.SIGKILL


if __name__ == "__main__":
    main(*sys.argv[1:])
