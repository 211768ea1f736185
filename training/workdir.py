"""A workdir belongs to one run at a time, and knows what its run began with."""

import contextlib
import json
import sys

import tensorflow as tf

from lit_tf import files
from lit_tf.errors import ConfigError, DataError, TrainingError
from lit_tf.files import write_text

from .checkpoints import steps_in
from .config import TrainConfig, flat
from .data.shards import differences, read_sizes


@contextlib.contextmanager
def taken(workdir: str):
    """Takes a workdir, created if need be, for this process until the block ends.

    Object stores such as gs:// have no locks, so there nobody is refused.
    """
    if set(workdir) & set("*?[]"):
        raise TrainingError(
            f"{workdir}: TensorFlow takes *, ?, [ and ] in the path of a checkpoint for a pattern, "
            "and would not find it again; choose another --workdir"
        )
    tf.io.gfile.makedirs(workdir)
    if "://" in workdir:
        yield
        return
    in_use = f"{workdir} is in use by another run: choose another --workdir, or wait until it ends"
    with files.locked(f"{workdir}/.lock", TrainingError(in_use)):
        yield


# Fields that change no number of a run, so that a resumed run may have others.
_FREE = ("name", "eval", "steps_per_loop", "checkpoint_every", "keep_checkpoints")
_FREE += ("data.max_bad_share",)
# Fields that say where something is. It may be moved, if it is the same.
_DATA = ("data.source", "data.format", "data.data_dir")
_START = ("model.init", "model.image_init", "model.text_init", "model.vocab")
PLACES = _DATA + _START
_START += ("model.image", "model.text")  # perhaps the path of a checkpoint, for its sizes


class Beginning:
    """What the run in a workdir began with, against which it is compared when it goes on."""

    def __init__(self, workdir: str, config):
        self._workdir, self._config = workdir, config
        self.steps = steps_in(f"{workdir}/checkpoints")
        self._changed, self._began = {}, None
        if not self.steps:
            return
        try:
            old = flat(TrainConfig.from_dict(self._read("config.json")).to_dict())
        except ConfigError as error:
            raise TrainingError(
                f"{workdir}/config.json is damaged: expected the JSON of a config: {error}"
            ) from error
        new = flat(config.to_dict())
        self._changed = {k: (old.get(k), new[k]) for k in new if old.get(k) != new[k]}
        self._began = self._read("run.json")
        self._refuse(k for k in self._changed if k not in _DATA + _START)

    def check_data(self, sizes: dict[str, int]) -> None:
        """Compares the shards, {name: bytes}, with those that the run was last started with."""
        known = read_sizes(f"{self._workdir}/shards.json") if self.steps else None
        if known == sizes:
            return
        moved = [k for k in self._changed if k in _DATA]
        if moved:
            self._refuse(moved, differences(known or {}, sizes))
        if known is not None:
            print(
                f"data: the shards of {self._workdir} have changed since the run was last started: "
                f"{differences(known, sizes)}. It goes on from step {self.steps[-1]} with the "
                "shards as they are now; its batches are not those of an uninterrupted run",
                file=sys.stderr,
            )

    def check_start(self, parameters: str, vocabulary: str, hosts: int) -> dict:
        """Compares digests of the first parameters and the vocabulary; returns what to write."""
        now = {"parameters": parameters, "vocabulary": vocabulary, "hosts": hosts}
        began = self._began or {}
        different = [k for k in ("parameters", "vocabulary") if began.get(k) != now[k]]
        moved = [k for k in self._changed if k in _START]
        if moved and different:
            self._refuse(moved, f"they are not the same {' and '.join(different)}")
        if self.steps and began.get("hosts", hosts) != hosts:
            print(
                f"data: there are {hosts} hosts and were {began['hosts']}, which read other parts "
                "of the data: of this epoch, some examples come again and others do not come",
                file=sys.stderr,
            )
        return {**now, "parameters": began.get("parameters", parameters)}

    def write(self, sizes: dict[str, int], start: dict) -> None:
        """Writes what the next start will be compared with."""
        tf.io.gfile.makedirs(self._workdir)
        text = json.dumps(self._config.to_dict(), indent=2)
        write_text(f"{self._workdir}/config.json", text + "\n")
        write_text(f"{self._workdir}/run.json", json.dumps(start) + "\n")
        write_text(f"{self._workdir}/shards.json", json.dumps(sizes, indent=0))

    def _refuse(self, fields, why=""):
        """Refuses to go on if any of the fields is not free, and says how to start from here."""
        fields = [k for k in fields if not k.startswith(_FREE)]
        if not fields:
            return
        told = [f"{k} is {self._changed[k][1]!r} and was {self._changed[k][0]!r}" for k in fields]
        locking = self._config.model.locking.upper()
        raise TrainingError(
            f"{self._workdir} holds a run with another config: {', '.join(told)}"
            f"{f' ({why})' if why else ''}. Resume with the same config, or start a new run from "
            f"its last checkpoint: --workdir NEW --set model.init={self._workdir}/checkpoints/"
            f"ckpt-{self.steps[-1]} --set model.locking={locking}"
        )

    def _read(self, name):
        path = f"{self._workdir}/{name}"
        try:
            return files.parse_object(files.read_bytes(path), path)
        except FileNotFoundError as error:
            if name == "run.json":  # a run of an earlier version
                return None
            raise TrainingError(
                f"{self._workdir} holds checkpoints, but no {name} to tell whose they are; put it "
                "back, or choose another --workdir"
            ) from error
        except DataError as error:
            raise TrainingError(f"{path} is damaged: expected the JSON of a config") from error
