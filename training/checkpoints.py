"""The checkpoints of a run: known by their own files, read whole or refused, written durably.

`ckpt-30.index` and `ckpt-30.data-*` are TensorFlow's. The vocabulary `ckpt-30.txt` or `.model` and
perhaps the record `ckpt-30.json` lie beside them, so that `lit_tf.load` reads the model. The file
`checkpoint` is TensorFlow's too. It is written, but not relied on: people copy folders without it,
and delete the last checkpoint to go back.
"""

import contextlib
import json
import os
import re

import tensorflow as tf

from lit_tf import files, loading
from lit_tf.checkpoints import record
from lit_tf.contrastive.step import all_parameters
from lit_tf.errors import CheckpointError, ConfigError, TrainingError
from lit_tf.texts import vocabularies

_FILE = re.compile(r"ckpt-(\d+)\.(?:index|data-\d+-of-\d+)")
# What TensorFlow raises for a damaged checkpoint; IndexError if one of its files is cut off.
_READ_ERRORS = (AssertionError, IndexError, ValueError, tf.errors.OpError)


def steps_in(folder: str) -> list[int]:
    """Returns the steps of which a folder holds checkpoints, whole or not, in order."""
    names = tf.io.gfile.listdir(folder) if tf.io.gfile.isdir(folder) else []
    return sorted({int(found[1]) for name in names if (found := _FILE.fullmatch(name))})


@contextlib.contextmanager
def writing_to(workdir: str, half: bool = False):
    """Explains errors of a workdir: what failed, what is left; removes `half` a checkpoint."""
    folder = f"{workdir}/checkpoints"
    try:
        yield
    except (OSError, ValueError, CheckpointError, tf.errors.OpError) as error:
        last, room = "", "make room and " if files.disk_error(error) else ""
        with contextlib.suppress(tf.errors.OpError):
            # Half a checkpoint is useless, and it may fill the very disk that is full.
            for leftover in tf.io.gfile.glob(f"{folder}/*_temp") if half else ():
                tf.io.gfile.rmtree(leftover)
            if steps := steps_in(folder):
                last = f". The last whole checkpoint is {folder}/ckpt-{steps[-1]}"
        raise TrainingError(
            f"cannot write to {workdir}: {_line(error)}{last}; {room}run the same command again"
        ) from error


class Checkpoints:
    """The checkpoints of every parameter and all optimizer state of a `ReplicaStep`.

    (Of the model object, TensorFlow would silently leave out attributes of kinds unknown to it.)
    """

    def __init__(self, workdir, step, keep):
        self.folder, self._step, self._keep = f"{workdir}/checkpoints", step, keep
        self._checkpoint = tf.train.Checkpoint(
            model=all_parameters(step.model), optimizer=dict(step.optimizer.variables)
        )

    def path(self, step: int) -> str:
        """Returns the prefix of a checkpoint's files."""
        return f"{self.folder}/ckpt-{step}"

    def restore(self) -> str | None:
        """Restores the newest checkpoint; returns its path, or None if there is none."""
        steps = steps_in(self.folder)
        if not steps:
            return None
        path = self.path(steps[-1])
        try:
            self._checkpoint.read(path).assert_existing_objects_matched()
        except _READ_ERRORS as error:
            if damage := _damage(path):
                raise TrainingError(self._advice(path, damage, steps[:-1])) from error
            raise TrainingError(
                f"{path} cannot be restored into this run: {_line(error)}; was it written with "
                "another config? Choose another --workdir"
            ) from error
        return path

    def _advice(self, path, damage, others):
        whole = next((s for s in reversed(others) if not _damage(self.path(s))), None)
        go_on = "no other is whole; remove it to begin again from step 0"
        if whole is not None:
            go_on = f"ckpt-{whole} is whole; remove {path}.* to go on from step {whole}"
        return f"{path} is damaged ({damage}); {go_on}"

    def save(self, step: int) -> None:
        """Writes a checkpoint, and only then removes those beyond the last few."""
        path = self.path(step)
        self._checkpoint.write(path)
        model = self._step.model
        beside = {".json": record.to_bytes(loading.written_config(model))}
        if model.tokenizer is not None:
            beside[vocabularies.suffix(model.tokenizer.kind)] = model.tokenizer.to_bytes()
        for suffix, data in beside.items():
            if data is not None:
                with files.replacing(path + suffix) as file:
                    file.write(data)
            elif tf.io.gfile.exists(path + suffix):  # of another run's checkpoint
                tf.io.gfile.remove(path + suffix)
        if "://" not in path:  # it outlives a power failure
            for name in os.listdir(self.folder):
                if name.startswith(f"ckpt-{step}."):
                    files.sync(f"{self.folder}/{name}")
            files.sync(self.folder)
        steps = steps_in(self.folder)
        old, kept = steps[: -self._keep], steps[-self._keep :]
        lines = [f'model_checkpoint_path: "ckpt-{kept[-1]}"']
        lines += [f'all_model_checkpoint_paths: "ckpt-{s}"' for s in kept]
        files.write_text(f"{self.folder}/checkpoint", "\n".join(lines) + "\n")
        gone = tuple(f"ckpt-{s}." for s in old)
        for name in tf.io.gfile.listdir(self.folder) if gone else ():
            if name.startswith(gone):
                tf.io.gfile.remove(f"{self.folder}/{name}")


def _damage(path):
    """Returns why a checkpoint cannot be read whole, or None. Reads all of it."""
    try:
        reader = tf.train.load_checkpoint(path)
        for name in reader.get_variable_to_shape_map():
            reader.get_tensor(name)
    except _READ_ERRORS as error:
        return _line(error)
    return None


def _line(error):
    return (str(error).splitlines() or [type(error).__name__])[0]


class Best:
    """Keeps the model with the best figure of a run, by `save()`; the run goes on from `start`."""

    def __init__(self, workdir, name, start, save):
        # Not best.json, which is the place of the record of best.npz.
        self._path, self._best = f"{workdir}/best_figure.json", None
        self._name, self._save = name, save
        if start and tf.io.gfile.exists(self._path):
            found = files.parse_object(files.read_bytes(self._path), self._path)
            if found.get("metric") == name and found.get("step", start + 1) <= start:
                self._best = found.get("value")

    def offer(self, figures, step, *, writes):
        """Keeps the model if its figure is the best so far; the smallest, of a loss."""
        if self._name not in figures:
            known = ", ".join(figures)
            raise ConfigError(f"eval.keep_best is {self._name!r}; the evaluators measure {known}")
        value, sign = figures[self._name], -1 if self._name.endswith("loss") else 1
        if self._best is not None and sign * value <= sign * self._best:
            return
        self._best = value
        if writes:
            self._save()
            about = {"metric": self._name, "value": value, "step": step}
            files.write_text(self._path, json.dumps(about) + "\n")
