"""The loop around the step: host calls, checkpoints, summaries, evaluators, preemption."""

import contextlib
import math
import signal
import sys
import time

import tensorflow as tf
from tqdm import tqdm

from lit_tf.contrastive.collectives import Collectives
from lit_tf.errors import DataError

from .checkpoints import Checkpoints, writing_to
from .distribution import strategies
from .host_call import HostCall


class Preempted(Exception):
    """SIGTERM or Ctrl-C stopped the run, and a checkpoint has been written."""

    def __init__(self, message: str = "", interrupted: bool = False):
        super().__init__(message)
        self.interrupted = interrupted


class WorkerLost(Exception):
    """Another worker of this run is gone, which no collective can go on without."""


class Loop:
    """A run from its last checkpoint to its end.

    Only the chief writes and shows anything, but every worker takes part in every collective.
    """

    def __init__(self, config, strategy, step, workdir):
        self._config, self._strategy, self._step, self._workdir = config, strategy, step, workdir
        self.evaluated, self.best = {}, None
        self._signal = None
        self._evaluating = False
        self._multi_worker = strategies.has_workers(strategy)
        self._saved = None  # the step of the last checkpoint
        # Replicas agree: one copy of the variables is enough.
        self._chief, self._writers = strategies.is_chief(strategy), {}
        self._checkpoints = Checkpoints(workdir, step, config.keep_checkpoints)

    @property
    def steps_taken(self) -> int:
        """Steps taken so far."""
        return int(self._step.optimizer.iterations.numpy())

    def restore(self) -> int:
        """Restores the newest checkpoint, if there is one; returns the step to go on from."""
        with self._strategy.scope():
            path = self._checkpoints.restore()
        if path is None:
            return 0
        self._saved = self.steps_taken
        if self._chief:
            print(f"resumed from step {self._saved} ({path})", file=sys.stderr)
        return self._saved

    def run(self, dataset, evaluators=(), counters=None):
        """Trains to the end on a dataset that begins with the batch of the restored step."""
        total, step = self._config.steps, self.steps_taken
        bar = tqdm(total=total, initial=step, unit="step", disable=not self._chief)
        with (
            bar,
            _handling(self._terminate),
            counters.raising() if counters is not None else contextlib.nullcontext(),
        ):
            if step and self._evaluation_is_due(step):  # the run may have stopped before it
                self._evaluate(evaluators, bar)
            call = HostCall(self._strategy, self._step)
            batches = iter(dataset) if step < total else None  # or it would read for nothing
            while step < total:
                step = self._train(call, batches, counters, bar)
                if self._preempted():
                    self._stop()
                if step % self._config.checkpoint_every == 0 or step == total:
                    self._save()
                if self._evaluation_is_due(step):
                    self._evaluate(evaluators, bar)
            self._evaluate(evaluators, bar)

    def _train(self, call, batches, counters, bar):
        """Makes one host call, shows its figures and returns the step that it ended at."""
        start, began = self.steps_taken, time.monotonic()
        # Calls end at multiples of `steps_per_loop`, wherever the run was resumed.
        per_call = self._config.steps_per_loop
        step = min((start // per_call + 1) * per_call, self._config.steps)
        figures = call(batches, step - start)
        per_second = (step - start) / max(time.monotonic() - began, 1e-9)
        figures["steps_per_second"] = per_second
        figures["examples_per_second"] = rate = per_second * self._config.batch_size
        if counters is not None:
            figures.update(counters.scalars())
        bar.update(step - start)
        bar.set_postfix_str(f"loss {figures['loss']:.4f}, {rate:.0f} examples/s")
        self._write_summaries("train", figures)
        return step

    def _evaluation_is_due(self, step):
        """Whether evaluators run at a step that is not the last, after which they always run."""
        every = self._config.eval.every
        return every and step % every == 0 and step < self._config.steps

    def _evaluate(self, evaluators, bar):
        if not evaluators:
            return
        if self._preempted():
            self._stop()
        self._evaluating = True
        try:
            figures = {k: float(v) for function in evaluators for k, v in function().items()}
        except Preempted:
            self._stop()
        finally:
            self._evaluating = False
        self.evaluated = figures
        if self.best is not None:
            with writing_to(self._workdir):
                self.best.offer(figures, self.steps_taken, writes=self._chief)
        self._write_summaries("eval", figures)
        if not bar.disable:  # a disabled bar's `write` still writes, on every worker
            line = ", ".join(f"{k} {v:.4f}" for k, v in figures.items())
            bar.write(f"step {self.steps_taken}: {line}", file=sys.stderr)

    def _write_summaries(self, part, figures):
        if not self._chief:
            return
        with writing_to(self._workdir):
            if part not in self._writers:
                self._writers[part] = tf.summary.create_file_writer(f"{self._workdir}/{part}")
            with self._writers[part].as_default(self.steps_taken):
                for name, value in figures.items():
                    tf.summary.scalar(name, value)
            self._writers[part].flush()

    def _save(self):
        # Not twice: overwriting the last whole checkpoint would put it at risk.
        step = self.steps_taken
        if self._chief and step != self._saved:
            with writing_to(self._workdir, half=True):
                self._checkpoints.save(step)
        self._saved = step

    def _stop(self):
        self._save()
        raise Preempted(
            f"stopped at step {self.steps_taken}, checkpoint written",
            interrupted=self._signal == signal.SIGINT,
        )

    def _terminate(self, signum, frame):
        del frame
        self._signal = signum
        if signum == signal.SIGINT:
            print(
                "stopping after the steps in progress, with a checkpoint; Ctrl-C again stops at "
                "once, without",
                file=sys.stderr,
            )
            signal.signal(signum, signal.default_int_handler)
        # An evaluation may take longer than a machine has left, and changes nothing that is in a
        # checkpoint. (Several workers have to agree first, which they do after a host call.)
        if self._evaluating and not self._multi_worker:
            raise Preempted

    def _preempted(self):
        """Whether any worker is to stop. All workers get the same answer after the same call."""
        if not self._multi_worker:
            return self._signal is not None
        flags = self._any_flag(tf.constant(int(self._signal is not None)))
        return bool(self._strategy.experimental_local_results(flags)[0].numpy())

    @tf.function(autograph=False)
    def _any_flag(self, flag):
        def total(x):
            # The addition makes a tensor on the replica's own device, as the reduction needs it.
            return Collectives().all_reduce([tf.cast(x, tf.float32) + 0.0])[0]

        return self._strategy.run(total, args=(flag,))


@contextlib.contextmanager
def _handling(handler):
    """Handles SIGTERM and Ctrl-C within the context; does nothing outside of the main thread."""
    before = {}
    try:
        for number in (signal.SIGTERM, signal.SIGINT):
            before[number] = signal.signal(number, handler)
    except ValueError:  # not the main thread, where signals are not ours to handle
        pass
    try:
        yield
    finally:
        for number, old in before.items():
            if old is not None:
                signal.signal(number, old)


def validation_loss(strategy, step, dataset, batch_size, counters):
    """Returns an evaluator: the mean contrastive loss over held-out data (finite)."""
    local = batch_size // strategy.num_replicas_in_sync

    def replica_loss(batch):
        # The batches of several workers' finite datasets lose their static size on the way.
        return step.loss({k: tf.ensure_shape(v, [local, *v.shape[1:]]) for k, v in batch.items()})

    @tf.function(autograph=False)
    def loss(batch):
        return strategy.run(replica_loss, args=(batch,))

    def mean():
        counters.clear()
        with counters.raising():
            losses = [float(strategy.experimental_local_results(loss(b))[0]) for b in dataset]
        if not losses:
            raise DataError(f"eval.validation has fewer than the {batch_size} examples of a batch")
        return {"validation/loss": math.fsum(losses) / len(losses)}

    return mean
