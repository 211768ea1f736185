"""`compile`, `fit` and `evaluate` of a two-tower model: Keras's loops around the trainer's step."""

import dataclasses
import types
from collections.abc import Callable, Mapping
from typing import Any

import keras
import tensorflow as tf

from lit_tf.contrastive import config as settings
from lit_tf.contrastive.config import LossConfig, OptimizerConfig, trains
from lit_tf.contrastive.optimizers import Optimizer
from lit_tf.contrastive.step import ReplicaStep
from lit_tf.errors import ConfigError, DataError

_IMAGES, _TEXTS = ("image", "image_embedding"), ("tokens", "text")
_OF_LABELS = ("loss_weights", "metrics", "weighted_metrics")


@keras.saving.register_keras_serializable("lit_tf")
class TrainerOptimizer(keras.optimizers.Optimizer):
    """The trainer's optimizer, as Keras holds and saves one; `steps` are those of the whole run."""

    def __init__(self, config, steps, name="trainer"):
        config = config if isinstance(config, OptimizerConfig) else OptimizerConfig(**config)
        config.check(steps)
        super().__init__(learning_rate=config.lr, name=name)
        self.config, self.steps, self.rule = config, steps, None

    @property
    def learning_rate(self):
        return super().learning_rate

    @learning_rate.setter
    def learning_rate(self, value):
        raise ConfigError(
            "an OptimizerConfig has its own schedule: leave out callbacks that set learning_rate, "
            "or compile with a Keras optimizer"
        )

    def start(self, parameters):
        """Makes the state of {canonical name: tf.Variable}."""
        super().build([])
        self.rule = Optimizer(parameters, self.config, self.steps, self.iterations.value)

    def save_own_variables(self, store):
        for name, variable in self.rule.variables.items():
            store[name.replace("/", ".")] = tf.cast(variable, tf.float32).numpy()

    def load_own_variables(self, store):
        for name, variable in self.rule.variables.items():
            variable.assign(tf.cast(store[name.replace("/", ".")][()], variable.dtype))

    def get_config(self):
        return {"config": dataclasses.asdict(self.config), "steps": self.steps, "name": self.name}


def refuse_labels(**given: Any) -> None:
    """Raises DataError where labels, weights or a split are given."""
    names = ("y", "class_weight", "sample_weight", "validation_split")
    if wrong := [name for name in names if given.get(name) is not None]:
        raise DataError(
            f"{wrong[0]}: contrastive training takes neither labels nor weights, nor does it split "
            'data: each image of a batch {"image": ..., "tokens": ...} belongs to its own text'
        )


class Fitting:
    """What `compile` makes: the step, the metrics, and what prepares batches for the step."""

    def __init__(self, model, loss: LossConfig, locking: str, seed: int):
        self.optimizer, self.tokenizer, self.loss = model.optimizer, model.tokenizer, loss
        named = model.canonical_variables().items()
        self.variables = {k: v for k, v in named if v.trainable and trains(k, locking)}
        if not self.variables:
            raise ConfigError("nothing is left to train: all layers are frozen or locked")
        parameters = {name: variable.value for name, variable in self.variables.items()}
        if isinstance(self.optimizer, TrainerOptimizer):
            self.optimizer.start(parameters)
            rule = self.optimizer.rule
        else:
            self.optimizer.build(list(self.variables.values()))
            rule = types.SimpleNamespace(  # what a step asks before the update, which Keras makes
                parameters=parameters,
                iterations=self.optimizer.iterations.value,
                scale_loss=self.optimizer.scale_loss,
            )
        self.step = ReplicaStep(model, rule, loss, seed=seed, observe=self._observe)
        self._loss = keras.metrics.Mean(name="loss")
        self._recalls = [keras.metrics.Mean(name=f"{w}_recall") for w in ("img2txt", "txt2img")]
        self.metrics = [self._loss, *self._recalls]

    def prepare(self, batch: Any, *given: Any) -> dict[str, tf.Tensor]:
        """Returns a batch as the step takes it: two tensors, strings as tokens."""
        if isinstance(batch, tuple | list):
            batch, *given = batch  # type: ignore[assignment]
        labels = [part for part in given if part is not None]
        refuse_labels(y=labels or None)
        keys = sorted(batch) if isinstance(batch, Mapping) else []
        image, text = ([k for k in keys if k in known] for known in (_IMAGES, _TEXTS))
        if len(keys) != 2 or not (image and text):
            found = keys if isinstance(batch, Mapping) else type(batch).__name__
            raise DataError(
                'expected batches {"image": ..., "tokens": ...}, where the tokens may be strings; '
                f"found {found}"
            )
        texts = batch[text[0]]
        if texts.dtype == tf.string:
            if self.tokenizer is None:
                raise DataError("the texts are strings, but this model has no vocabulary")
            texts = self.tokenizer(texts)
        return {image[0]: batch[image[0]], "tokens": texts}

    def dataset(self, x: Any, batch_size: int | None, shuffle: bool, replicas: int) -> Any:
        """Returns prepared batches of arrays or of a dataset; of anything else, that itself."""
        if isinstance(x, Mapping):
            arrays = {k: tf.convert_to_tensor(v) for k, v in x.items()}
            lengths = {k: v.shape[0] for k, v in arrays.items()}
            if len(set(lengths.values())) != 1:
                raise DataError(f"expected as many images as texts, found {lengths}")
            rows = tf.data.Dataset.range(length := next(iter(lengths.values())))
            rows = rows.shuffle(length) if shuffle else rows
            batch_size = batch_size or 32
            one_size = replicas > 1 or self.loss.chunk or self.loss.cache_chunk
            whole = bool(one_size) or length % batch_size == 0
            rows = rows.batch(batch_size, drop_remainder=whole)
            x = rows.map(lambda i: {k: tf.gather(v, i) for k, v in arrays.items()})
        if isinstance(x, tf.data.Dataset):
            return x.map(self.prepare, num_parallel_calls=tf.data.AUTOTUNE).prefetch(2)
        return x

    def train(self, batch: Any) -> None:
        """Takes one step, in replica context."""
        batch = self._checked(batch)
        if isinstance(self.optimizer, TrainerOptimizer):
            self._count(batch, self.step(batch)["loss"])
            return
        share, gradients = self.step.loss_and_gradients(batch)
        # Keras adds up the replicas' gradients.
        self.optimizer.apply_gradients([(gradients[k], v) for k, v in self.variables.items()])
        self._count(batch, self.step.collectives.all_reduce([share])[0])

    def test(self, batch: Any) -> None:
        """Measures one batch, in replica context."""
        batch = self._checked(batch)
        self._count(batch, self.step.loss(batch))

    def _checked(self, batch):
        batch = self.prepare(batch)
        images, tokens = (x.shape[0] for x in batch.values())
        replicas = self.step.collectives.num_replicas
        if tokens is None and (replicas > 1 or self.loss.chunk or self.loss.cache_chunk):
            raise DataError(
                "with several replicas, or chunks of the loss, all batches need one size: "
                "dataset.batch(n, drop_remainder=True)"
            )
        if None not in (images, tokens) and images != tokens:
            raise DataError(f"expected as many images as texts, found {images} and {tokens}")
        inner = getattr(self.optimizer, "inner_optimizer", self.optimizer)
        clips = [n for n in ("clipnorm", "global_clipnorm", "clipvalue") if getattr(inner, n)]
        if clips and replicas > 1:
            raise ConfigError(
                f"with several replicas, {clips[0]} would clip each one's share of a gradient. "
                "Compile with lit_tf.contrastive.config.OptimizerConfig(clip=...) instead"
            )
        return batch

    def _count(self, batch, loss):
        self._loss.update_state(loss, sample_weight=tf.shape(batch["tokens"])[0])

    def _observe(self, zimg, ztxt):
        """Counts which images find their texts in the global batch, and which texts theirs."""
        gather = self.step.collectives.gather
        cosines = tf.matmul(*map(tf.stop_gradient, (gather(zimg), gather(ztxt))), transpose_b=True)
        own = tf.range(tf.shape(cosines)[0], dtype=tf.int64)
        for metric, axis in zip(self._recalls, (1, 0), strict=True):
            metric.update_state(tf.cast(tf.argmax(cosines, axis) == own, tf.float32))


class ContrastiveModel(keras.Model):
    """A Keras model of two towers that `fit` tunes to each other."""

    fitting: Fitting | None = None

    def compile(
        self,
        optimizer: Any = "rmsprop",
        loss: Any = None,
        *,
        locking: str = "LU",
        steps: int | None = None,
        seed: int = 0,
        jit_compile: bool | str = "auto",
        **kwargs: Any,
    ) -> None:
        """Prepares `fit`: contrastive training, by default with the image tower locked.

        Examples:
            >>> model.compile(keras.optimizers.Adam(1e-4))
            >>> model.fit({"image": pixels, "tokens": texts}, batch_size=64)  # uint8, strings

        Args:
            optimizer: a Keras optimizer, or the trainer's `contrastive.config.OptimizerConfig`,
                with big_vision's rules, schedule, clipping and multipliers by name.
            loss: "softmax", "sigmoid", a `contrastive.config.LossConfig`, or a function of unit-
                length embeddings (N, D) of images and of texts, the temperature's logarithm (1,)
                and the bias (1,) or None to a scalar. By default sigmoid where the model has a
                bias, else softmax. A dict or a `keras.losses.Loss` is Keras's own training.
            locking: two letters, image tower first: L locked, U or u tuned; H for the text tower's
                head alone. What is frozen by `trainable = False` stays so.
            steps: steps of the whole run, for the schedule of an `OptimizerConfig`.
            seed: of dropout.
            jit_compile: whether XLA compiles the step; "auto" does not.
            **kwargs: of `keras.Model.compile`, such as `steps_per_execution`.

        Raises:
            ConfigError: no such loss or locking, `steps` is missing, or nothing is left to train.
        """
        if isinstance(loss, Mapping | keras.losses.Loss):
            self.fitting = None
            super().compile(optimizer, loss, jit_compile=jit_compile, **kwargs)
            return
        if self.image_tower is None or self.text_tower is None:
            raise ConfigError("this model has one tower only; contrastive training needs both")
        if self.config.image.naflex:
            raise ConfigError("fit takes images of one size; NaFlex models cannot be tuned by it")
        if locking not in settings.LOCKINGS:
            raise ConfigError(
                f"locking is {locking!r}; expected one of {', '.join(settings.LOCKINGS)}"
            )
        if labelled := [name for name in _OF_LABELS if kwargs.get(name) is not None]:
            raise ConfigError(
                f"{labelled[0]} compares with labels, which contrastive training lacks; its "
                "metrics are the loss and retrieval in the batch"
            )
        if isinstance(optimizer, OptimizerConfig):
            if steps is None:
                raise ConfigError("an OptimizerConfig has a schedule: compile(..., steps=N) too")
            optimizer = TrainerOptimizer(optimizer, steps)
        config = self._loss_config(loss)
        with self.distribute_strategy.scope():
            jit_compile = False if jit_compile == "auto" else jit_compile
            super().compile(optimizer, None, jit_compile=jit_compile, **kwargs)
            inner = getattr(self.optimizer, "inner_optimizer", None)  # of a LossScaleOptimizer
            if inner and (isinstance(inner, TrainerOptimizer) or config.cache_chunk):
                raise ConfigError("mixed_float16 needs a Keras optimizer and no cache_chunk")
            self.fitting = Fitting(self, config, locking, seed)
        self._given = {"optimizer": self.optimizer, "loss": loss, "locking": locking, "seed": seed}
        self._given |= {"jit_compile": jit_compile, **kwargs}

    def _loss_config(self, loss):
        if loss is None:
            loss = settings.SOFTMAX if self.b is None else settings.SIGMOID
        if isinstance(loss, LossConfig):
            return loss
        if not isinstance(loss, Callable) and loss not in settings.LOSSES:
            known = ", ".join(settings.LOSSES)
            raise ConfigError(f"loss is {loss!r}; expected one of {known}, or a function")
        return LossConfig(loss)

    def get_compile_config(self) -> dict[str, Any]:
        """Returns what `compile_from_config` needs."""
        if self.fitting is None:
            return super().get_compile_config()
        given = dict(self._given)
        if isinstance(given["loss"], LossConfig):
            given["loss"] = dataclasses.asdict(given["loss"])
        return keras.saving.serialize_keras_object(given)

    def compile_from_config(self, config: dict[str, Any]) -> None:
        """Compiles as the model was; its optimizer's state is there to be filled."""
        config = keras.saving.deserialize_keras_object(config)
        if isinstance(config.get("loss"), dict) and "cache_chunk" in config["loss"]:
            config["loss"] = LossConfig(**config["loss"])
        self.compile(**config)
        if self.fitting is None:
            self.optimizer.build(self.trainable_variables)

    def fit(
        self, x: Any = None, y: Any = None, batch_size: int | None = None, **kwargs: Any
    ) -> Any:
        """Tunes the towers, in Keras's loop; `compile` says how.

        Args:
            x: batches {"image": (N, R, R, 3), uint8 or floats in [-1, 1]; "tokens": int32 (N, L) or
                strings (N,)}: a `tf.data.Dataset` or an iterable of them, or a dict of arrays.
                "image_embedding" (N, D) of a locked tower may stand for "image".
            y: must be None; so must `class_weight` and `sample_weight`.
            batch_size: pairs in a batch of a dict of arrays, over all replicas; 32 by default. What
                is left over is left out where all batches need one size.
            **kwargs: of `keras.Model.fit`: epochs, callbacks, validation_data, ...

        Returns:
            Keras's History: loss, img2txt_recall, txt2img_recall (at 1, within the batch).

        Raises:
            DataError: batches of another kind, or labels or weights.
        """
        if self.fitting is not None:
            refuse_labels(y=y, **kwargs)
            x = self._batches(x, batch_size, kwargs.pop("shuffle", True))
            if kwargs.get("validation_data") is not None:
                held_out = self._batches(kwargs["validation_data"], batch_size, False)
                kwargs["validation_data"] = held_out
            batch_size, kwargs["shuffle"] = None, False
        return super().fit(x, y, batch_size, **kwargs)

    def evaluate(self, x: Any = None, y: Any = None, batch_size: int | None = None, **kwargs: Any):
        """Measures loss and retrieval in the batch; arguments are those of `fit`."""
        if self.fitting is not None and not kwargs.get("_use_cached_eval_dataset"):
            refuse_labels(y=y, **kwargs)
            x, batch_size = self._batches(x, batch_size, False), None
        return super().evaluate(x, y, batch_size, **kwargs)

    def _batches(self, x, batch_size, shuffle):
        x = x[0] if isinstance(x, tuple) and len(x) == 1 else x
        if isinstance(x, tuple | list):
            raise DataError('expected a dataset, or arrays {"image": ..., "tokens": ...}')
        replicas = self.distribute_strategy.num_replicas_in_sync
        return self.fitting.dataset(x, batch_size, shuffle, replicas)

    @property
    def metrics(self) -> list[keras.metrics.Metric]:
        """The loss and retrieval in the batch, or Keras's own."""
        return super().metrics if self.fitting is None else self.fitting.metrics

    def train_step(self, data: Any) -> dict[str, tf.Tensor]:
        """Takes one step, in replica context."""
        if self.fitting is None:
            return super().train_step(data)
        self.fitting.train(data)
        return self.get_metrics_result()

    def test_step(self, data: Any) -> dict[str, tf.Tensor]:
        """Measures one batch, in replica context."""
        if self.fitting is None:
            return super().test_step(data)
        self.fitting.test(data)
        return self.get_metrics_result()
