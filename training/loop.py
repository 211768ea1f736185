"""The loop around the step: Orbit's controller, checkpoints, summaries, evaluators, preemption."""

import contextlib
import io
import math
import signal
import sys
import time

import tensorflow as tf
from tqdm import tqdm

from lit_tf.errors import DataError, TrainingError, extra

from .distribution import strategies
from .distribution.collectives import Collectives
from .optimizers import global_norm
from .step import all_parameters

with extra("train"):
    import orbit


class Preempted(Exception):
    """The run was asked to stop (SIGTERM) and has written a checkpoint."""


class Trainer(orbit.StandardTrainer):
    """Runs a `ReplicaStep` under a strategy, many steps per host call.

    What the host wants to know of a step stays in variables on the device, so that nothing comes
    back between two host calls.

    Args:
        strategy: The strategy, in whose scope `step` was built.
        step: The `ReplicaStep`.
        dataset: A distributed dataset of its batches.
    """

    _LAST = ("l2_grads", "schedule")

    def __init__(self, strategy, step, dataset):
        super().__init__(dataset, orbit.StandardTrainerOptions(use_tf_while_loop=True))
        self._strategy, self._step = strategy, step
        with strategy.scope():
            self._loss_sum = _metric(0.0)
            self._last = {name: _metric(0.0) for name in self._LAST}
            # The first step whose loss or gradients were not finite.
            self._bad_step = _metric(-1)

    def train_loop_begin(self):
        """Forgets the last host call's metrics."""
        self._loss_sum.assign(0.0)
        self._bad_step.assign(-1)
        self._first_step = int(self._step.optimizer.iterations.numpy())

    def train_step(self, iterator):
        """Takes one step on every replica."""
        self._strategy.run(self._replica_step, args=(next(iterator),))

    def _replica_step(self, batch):
        step = tf.identity(self._step.optimizer.iterations)
        metrics = self._step(batch)
        finite = tf.math.is_finite(metrics["loss"]) & tf.math.is_finite(metrics["l2_grads"])
        known = tf.identity(self._bad_step)
        bad_step = tf.where(finite | (known >= 0), known, step)
        variables = [self._loss_sum, self._bad_step, *self._last.values()]
        values = [self._loss_sum + metrics["loss"], bad_step, *(metrics[n] for n in self._last)]
        self._step.collectives.assign(variables, values)

    def train_loop_end(self):
        """Returns what TensorBoard shows: the mean loss of the call, the rest of its last step."""
        bad_step = int(self._bad_step.numpy())
        if bad_step >= 0:
            raise TrainingError(
                f"the loss or its gradients became NaN or infinite at step {bad_step}; stopped "
                "there. The checkpoints before it are whole; try a lower optimizer.lr, a longer "
                "warmup or float32"
            )
        steps = int(self._step.optimizer.iterations.numpy()) - self._first_step
        model = self._step.model
        metrics = {
            "loss": self._loss_sum.numpy() / steps,
            **{name: v.numpy() for name, v in self._last.items()},
            **{name: v.numpy() for name, v in self._norms().items()},
            "temperature": model.temperature,
        }
        if model.bias is not None:
            metrics["bias"] = model.bias
        return metrics

    @tf.function(autograph=False)
    def _norms(self):
        def norms():
            parameters = [tf.identity(v) for v in all_parameters(self._step.model).values()]
            return {
                "l2_params": global_norm(parameters),
                "l2_updates": self._step.optimizer.last_change_norm(),
            }

        local = self._strategy.experimental_local_results
        return {k: local(v)[0] for k, v in self._strategy.run(norms).items()}


class _Summaries(orbit.utils.SummaryManager):
    """TensorBoard's files, whose write errors are explained.

    Args:
        folder: Where to write; None for nowhere.
        step: Variable of the step.
        explaining: Function without arguments to a context that explains.
    """

    def __init__(self, folder, step, explaining):
        super().__init__(folder, tf.summary.scalar, global_step=step)
        self._explaining = explaining

    def summary_writer(self, relative_path=""):
        """Returns the writer; the first call opens its file."""
        with self._explaining():
            return super().summary_writer(relative_path)

    def write_summaries(self, summary_dict):
        """Writes {name: value}."""
        with self._explaining():
            super().write_summaries(summary_dict)

    def flush(self):
        """Writes what is still in memory."""
        with self._explaining():
            super().flush()


class LoopEvaluator(orbit.AbstractEvaluator):
    """All evaluators of a run as one for Orbit.

    Args:
        functions: Each returns {name: figure}.
    """

    def __init__(self, functions):
        self._functions = list(functions)

    def evaluate(self, num_steps):
        """Returns all figures; always the whole of every evaluator's data."""
        del num_steps
        return {k: v for function in self._functions for k, v in function().items()}


def make_checkpoint(step) -> tf.train.Checkpoint:
    """Returns a checkpoint of every parameter and all optimizer state, by their own names.

    (Not of the model object: TensorFlow finds only what hangs on it in ways that it knows, and
    leaves out the rest without a word.)
    """
    return tf.train.Checkpoint(
        model=all_parameters(step.model), optimizer=dict(step.optimizer.variables)
    )


class Loop:
    """A run from its last checkpoint to its end.

    Args:
        strategy: The strategy.
        step: The `ReplicaStep`, built in its scope.
        workdir: Where checkpoints and summaries go.
        total_steps: Steps of the run.
        steps_per_loop: Steps per host call.
        checkpoint_every: Steps between checkpoints: at its multiples, and at the end. Before the
            first there is nothing to resume; the run then begins again, and ends the same.
        keep_checkpoints: How many to keep.

    Attributes:
        evaluated: What the evaluators said last.
    """

    def __init__(
        self,
        strategy,
        step,
        workdir,
        *,
        total_steps,
        steps_per_loop,
        checkpoint_every,
        keep_checkpoints,
    ):
        self._strategy, self._step, self._workdir = strategy, step, workdir
        self._total_steps, self._steps_per_loop = total_steps, steps_per_loop
        self._checkpoint_every = checkpoint_every
        self.evaluated = {}
        self._terminated = self._evaluating = False
        self._multi_worker = strategies.has_workers(strategy)
        self._saved = None  # the step of the last checkpoint
        self._folder = f"{workdir}/checkpoints"
        self._checkpoint = make_checkpoint(step)
        self._manager = None
        if strategies.is_chief(strategy):  # replicas agree: one copy of the variables is enough
            self._manager = tf.train.CheckpointManager(
                self._checkpoint,
                self._folder,
                max_to_keep=keep_checkpoints,
            )

    def restore(self) -> int:
        """Restores the last checkpoint, if there is one; returns the step to go on from.

        Raises:
            TrainingError: It belongs to another model or optimizer, or cannot be read.
        """
        path = tf.train.latest_checkpoint(self._folder)
        if path is not None:
            try:
                with self._strategy.scope():
                    status = self._checkpoint.restore(path)
                status.assert_existing_objects_matched()
            except (AssertionError, ValueError, tf.errors.OpError) as error:
                raise TrainingError(
                    f"{path} cannot be restored into this run: {str(error).splitlines()[0]}; "
                    "was it written with another config? Choose another --workdir"
                ) from error
            self._saved = int(self._step.optimizer.iterations.numpy())
        return self._saved or 0

    def run(self, dataset, *, batch_size, evaluators=(), evaluate_every=0, counters=None):
        """Trains to the end.

        Args:
            dataset: A distributed dataset that begins with the batch of the restored step.
            batch_size: Global batch, for the rates that are shown.
            evaluators: Functions that return {name: figure}.
            evaluate_every: Steps between evaluations, 0 for the end only.
            counters: Has `scalars()` for TensorBoard and a context `raising()`, or None.

        Raises:
            TrainingError: The loss is not finite, or something cannot be written.
            Preempted: SIGTERM came; a checkpoint has been written.
        """
        iterations = self._step.optimizer.iterations
        start = int(iterations.numpy())
        chief = self._manager is not None
        bar = tqdm(total=self._total_steps, initial=start, unit="step", disable=not chief)
        last = [start, time.monotonic()]

        def after_call(output):
            step, now = int(iterations.numpy()), time.monotonic()
            rate = (step - last[0]) * batch_size / max(now - last[1], 1e-9)
            bar.update(step - last[0])
            last[:] = [step, now]
            output["examples_per_second"] = rate
            if counters is not None:
                output.update(counters.scalars())
            bar.set_postfix_str(f"loss {output['loss']:.4f}, {rate:.0f} examples/s")
            if self._preempted():
                self._stop(step)

        old_handler = _on_sigterm(self._terminate)
        try:
            with (
                bar,
                # Orbit prints some lines a call; the bar and TensorBoard say the same.
                contextlib.redirect_stdout(io.StringIO()),
                counters.raising() if counters is not None else contextlib.nullcontext(),
            ):
                controller = orbit.Controller(
                    global_step=iterations,
                    trainer=Trainer(self._strategy, self._step, dataset),
                    evaluator=LoopEvaluator(evaluators) if evaluators else None,
                    strategy=self._strategy,
                    steps_per_loop=self._steps_per_loop,
                    train_actions=[after_call],
                    # Orbit compares these: where both are None, it takes one manager for both.
                    summary_dir=f"{self._workdir}/train",
                    eval_summary_dir=f"{self._workdir}/eval",
                    summary_manager=self._summaries("train", iterations),
                    eval_summary_manager=self._summaries("eval", iterations),
                )
                # What was due when the run was stopped has perhaps not been done.
                due = evaluate_every and start % evaluate_every == 0
                if evaluators and due and 0 < start < self._total_steps:
                    self._evaluate(controller, bar)
                step = start
                while step < self._total_steps:
                    step = self._next_stop(step, evaluate_every if evaluators else 0)
                    controller.train(step)
                    # Not left to Orbit, whose checkpoints come one host call, and then every so
                    # many steps, after whatever step the run was started at.
                    if step % self._checkpoint_every == 0 or step == self._total_steps:
                        self._save(step)
                    due = evaluate_every and step % evaluate_every == 0
                    if evaluators and due and step < self._total_steps:
                        self._evaluate(controller, bar)
                    last[1] = time.monotonic()
                if evaluators:
                    self._evaluate(controller, bar)
        finally:
            if old_handler is not None:
                signal.signal(signal.SIGTERM, old_handler)

    def _next_stop(self, step, evaluate_every):
        """The next step after which the host has something to do."""
        stops = [self._total_steps]
        for every in filter(None, (self._checkpoint_every, evaluate_every)):
            stops.append((step // every + 1) * every)
        return min(stops)

    def _summaries(self, part, iterations):
        folder = f"{self._workdir}/{part}" if self._manager is not None else None
        return _Summaries(folder, iterations, self._explaining_write_errors)

    def _save(self, step):
        # Not twice: writing over the last whole checkpoint would put it at risk.
        if self._manager is not None and step != self._saved:
            with self._explaining_write_errors():
                self._manager.save(checkpoint_number=step)
        self._saved = step

    def _stop(self, step):
        self._save(step)
        raise Preempted(f"stopped at step {step}, checkpoint written")

    def _evaluate(self, controller, bar):
        step = int(controller.global_step.numpy())
        if self._preempted():
            self._stop(step)
        self._evaluating = True
        try:
            figures = controller.evaluate()
        except Preempted:
            self._stop(step)
        finally:
            self._evaluating = False
        self.evaluated = {k: float(v) for k, v in figures.items()}
        if not bar.disable:  # `write` would write all the same, on every worker
            figures = ", ".join(f"{k} {v:.4f}" for k, v in self.evaluated.items())
            bar.write(f"step {step}: {figures}", file=sys.stderr)

    def _terminate(self, signum, frame):
        del signum, frame
        self._terminated = True
        # An evaluation may take longer than a machine has left, and changes nothing that is in a
        # checkpoint. (Several workers have to agree first, which they do after a host call.)
        if self._evaluating and not self._multi_worker:
            raise Preempted

    def _preempted(self):
        """Whether any worker was told to stop; all learn of it after the same call."""
        if not self._multi_worker:
            return self._terminated
        flag = tf.constant(int(self._terminated))
        flags = self._any_flag(flag)
        return bool(self._strategy.experimental_local_results(flags)[0].numpy())

    @tf.function(autograph=False)
    def _any_flag(self, flag):
        def total(x):
            # A tensor of the replica's own device, which the reduction needs to know.
            return Collectives().all_reduce([tf.cast(x, tf.float32) + 0.0])[0]

        return self._strategy.run(total, args=(flag,))

    @contextlib.contextmanager
    def _explaining_write_errors(self):
        """Says what could not be written, and what is left, where TensorFlow says only errno.

        Only around what writes, and so on the chief only: whatever else fails (data, the network,
        another worker) has its own words, and leaves the checkpoints alone.
        """
        try:
            yield
        except (OSError, tf.errors.OpError) as error:
            # Half a checkpoint is of no use, and the room it takes may be what is missing.
            for leftover in tf.io.gfile.glob(f"{self._folder}/*_temp"):
                with contextlib.suppress(tf.errors.OpError):
                    tf.io.gfile.rmtree(leftover)
            path = tf.train.latest_checkpoint(self._folder)
            raise TrainingError(
                f"cannot write to {self._workdir}: {str(error).splitlines()[0]}. The last whole "
                f"checkpoint is {path}; make room and run the same command again"
            ) from error


def _metric(value):
    return tf.Variable(
        value,
        dtype=tf.int64 if isinstance(value, int) else tf.float32,
        trainable=False,
        aggregation=tf.VariableAggregation.ONLY_FIRST_REPLICA,
    )


def _on_sigterm(handler):
    """Installs a handler; returns the old one, or None where signals are not ours to handle."""
    try:
        return signal.signal(signal.SIGTERM, handler)
    except ValueError:  # not the main thread
        return None


def validation_loss(strategy, step, dataset, batch_size, counters):
    """Returns an evaluator: the mean contrastive loss over held-out data, without training.

    Args:
        strategy: The strategy.
        step: The `ReplicaStep`.
        dataset: A finite distributed dataset of whole batches.
        batch_size: Global batch.
        counters: The `Counters` of the dataset. Afterwards they hold what the last pass met.

    Returns:
        A function that returns {"validation/loss": mean}. It raises DataError if there is no batch,
        or too much of the data cannot be used.
    """
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
            raise DataError(
                f"eval.validation holds fewer than the {batch_size} examples of a batch"
            )
        return {"validation/loss": math.fsum(losses) / len(losses)}

    return mean
