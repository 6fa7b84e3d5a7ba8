# Copyright 2026 The pid_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""Metrics of a model on a task: predicted by SeqIO's Evaluator, and by loss.

Predictions are made by the engine that answers users' texts, with the same
options: `eval_requests` makes requests of SeqIO's examples, and predictions of
its outputs. Every process reads all examples of an evaluation (they are few)
and computes its rows of each global batch; all of them get all
predictions.
"""

from collections.abc import Callable
from collections.abc import Mapping
from collections.abc import Sequence
import functools
import itertools
import json
import operator
from typing import Any

from etils import epath
import jax
import numpy as np
import seqio
import tensorflow as tf

from pid_jax import checks
from pid_jax import decoding
from pid_jax import errors
from pid_jax import files
from pid_jax import model as model_lib
from pid_jax import partitioning
from pid_jax.inference import batching
from pid_jax.inference import engine as engine_lib
from pid_jax.inference import options as options_lib
from pid_jax.inference import results
from pid_jax.subtasks import postprocessors
from pid_jax.subtasks import registration
from pid_jax.trainer import data
from pid_jax.trainer import eval_requests
from pid_jax.trainer import reporting
from pid_jax.trainer import step as step_lib

PyTree = Any


class Interrupted(Exception):
  """An evaluation was stopped before its end."""


class PredictionEvaluator:
  """Runs a task's metrics on what the model predicts (or scores).

  Attributes:
    truncated: 'TASK/inputs_truncated' and 'TASK/targets_truncated' -> how many
      do not fit the lengths, for tasks that tell.
    num_prompts: to be predicted.
    progress: called while predicting with the number of prompts done, of all
      tasks together; None: nothing is called.
  """

  def __init__(
    self,
    model: model_lib.EncoderDecoderModel,
    cfg: data.DatasetConfig,
    partitioner: partitioning.Partitioner,
    should_stop: Callable[[], bool] = lambda: False,
    loggers: Sequence[Callable[..., seqio.Logger]] = (),
    log_dir: str | None = None,
    options: options_lib.DecodingOptions | None = None,
  ):
    """Reads and caches the examples.

    Args:
      model: gives the network.
      cfg: what to evaluate on; `pack` must be False.
      partitioner: gives the mesh.
      should_stop: asked before each batch.
      loggers: SeqIO's loggers of metrics and predictions.
      log_dir: for them.
      options: of decoding; max_new_tokens None: the task's length of targets.
        None: the model's sampler, with the seed of `cfg`.

    Raises:
      UserError: an unknown task, a task without metrics or without this split,
        or a batch that the mesh does not divide.
    """
    partitioner.check_batch_size(cfg.batch_size)
    task = data.get_task(cfg.mixture_or_task_name)
    self._cfg, self._partitioner = cfg, partitioner
    self._should_stop = should_stop
    data.check_split(task, cfg.split)
    self._evaluator = seqio.Evaluator(
      cfg.mixture_or_task_name,
      feature_converter=data.feature_converter(cfg),
      eval_split=cfg.split,
      use_cached=cfg.use_cached,
      seed=cfg.seed,
      # What is missing is measured.
      sequence_length=data.feature_lengths(cfg, complete=False),
      num_examples=cfg.num_examples,
      shuffle=cfg.shuffle,
      logger_cls=loggers,
      log_dir=log_dir,
      async_compute_metrics=False,
    )
    if not self._evaluator.eval_tasks:
      raise errors.UserError(
        f'The task {cfg.mixture_or_task_name!r} has no metrics: there is '
        'nothing to evaluate.'
      )
    self._options = options or options_lib.DecodingOptions(
      sampler=model.sampler or decoding.GREEDY, seed=cfg.seed or 0
    )
    self._engine = engine_lib.Engine(model.module, None, partitioner)
    self._shapes: dict[str, batching.Shapes] = {}
    self._examples = {
      task.name: eval_requests.read(
        task,
        self._evaluator.cached_model_datasets[task.name],
        self._evaluator.cached_task_datasets[task.name],
        self._options.max_new_tokens,
        use_choices=self._options.use_choices,
      )
      for task in self._evaluator.eval_tasks
    }
    self.truncated = {
      f'{task}/{name}': float(count)
      for task, examples in self._examples.items()
      for name, count in examples.truncated.items()
    }
    self._prompts = {
      task: sum(len(request.prompts) for request in examples.requests)
      for task, examples in self._examples.items()
    }
    self.num_prompts = sum(self._prompts.values())
    self.progress: Callable[[int], None] | None = None
    self._num_done = 0
    for task in self._evaluator.eval_tasks:
      results.warn_of_rewritten(
        task.name,
        [
          pair
          for target in self._targets(task)
          for pair in postprocessors.rewritten(target)
        ],
      )

  @property
  def tasks(self) -> list[str]:
    """Names of the tasks with metrics."""
    return [task.name for task in self._evaluator.eval_tasks]

  def metrics_of(self, name: str) -> list[str] | None:
    """Returns the names of a task's metrics, in order, without predictions.

    Computes them on targets whose predictions are all missing, since some names
    depend on the examples (of SQuAD: whether there are unanswerable questions).

    Args:
      name: of the task.

    Returns:
      None where that is not possible: for tasks that are not those of
      `subtasks.register`, and metrics that raise an error.
    """
    task = seqio.TaskRegistry.get(name)
    if not isinstance(task, registration.DecomposableTask):
      return None
    targets = self._targets(task)
    missing = '' if task.layout.name == 'pie' else []
    found = []
    try:
      for metric_fn in task.predict_metric_fns:
        values = metric_fn(targets, [missing] * len(targets))
        found += [k for k, x in values.items() if _number(x) is not None]
    except errors.UserError:
      raise
    except Exception:  # pylint: disable=broad-except  # A function of a user's.
      return None
    prefix = f'{name}/'
    counts = [x for x in self.truncated if x.startswith(prefix)]
    return found + [x.removeprefix(prefix) for x in counts]

  def _targets(self, task: seqio.Task) -> list[Any]:
    """Postprocesses the targets of a task of `subtasks.register`."""
    if not isinstance(task, registration.DecomposableTask):
      return []
    dataset = self._evaluator.cached_task_datasets[task.name]
    return [
      task.postprocess_fn(None, example=example, is_target=True)
      for example in dataset.as_numpy_iterator()
    ]

  @errors.unwrapped  # SeqIO raises a ValueError from each.
  def evaluate(self, params: PyTree, step: int) -> dict[str, float]:
    """Predicts all examples and computes the metrics.

    Args:
      params: of the network.
      step: for the loggers.

    Returns:
      'TASK/METRIC' -> value, for the metrics that are numbers; and `truncated`.

    Raises:
      Interrupted: `should_stop` said so.
    """
    self._num_done = 0
    kinds = seqio.metrics.ModelOutputType
    engine = self._engine.with_params(params)
    predict = functools.cache(functools.partial(self._predict, engine))
    metrics, _ = self._evaluator.evaluate(
      compute_metrics=True,
      step=step,
      model_fns={
        kinds.PREDICTION: lambda ds: predict(self._name_of(ds))[0],
        kinds.PREDICTION_WITH_AUX: lambda ds: predict(self._name_of(ds)),
        kinds.SCORE: lambda ds: self._score(engine, self._name_of(ds)),
      },
    )
    values = {
      f'{task}/{name}': _number(value)
      for task, values in metrics.result().items()
      for name, value in values.items()
    }
    numbers = {name: x for name, x in values.items() if x is not None}
    return numbers | self.truncated

  def _name_of(self, dataset: tf.data.Dataset) -> str:
    """The task of a dataset that SeqIO hands to a model function."""
    datasets = self._evaluator.cached_model_datasets
    return next(name for name, ds in datasets.items() if ds is dataset)

  def _predict(self, engine: engine_lib.Engine, name: str):
    """Predicts a task's examples.

    Returns:
      (index, tokens) of each example, and a dict of lists of further values.
    """
    examples = self._examples[name]
    options = self._options.resolved(examples.target_length)
    outputs = engine.generate(
      examples.requests,
      options,
      progress=self.progress and (lambda n: self.progress(self._num_done + n)),
      **self._batches(name),
    )
    self._num_done += self._prompts[name]
    scores = [engine_lib.scores(x, options.normalize_scores) for x in outputs]
    return (
      list(enumerate(examples.restore([x.tokens for x in outputs]))),
      {'scores': examples.restore(scores)},
    )

  def _score(self, engine: engine_lib.Engine, name: str):
    """Scores the targets of a task's examples: (index, score) of each."""
    examples = self._examples[name]
    scores = engine.score(examples.to_score, **self._batches(f'{name} scored'))
    return list(enumerate(examples.restore([x[:, 0] for x in scores])))

  def _batches(self, name: str) -> dict[str, Any]:
    """Options of the engine to batch requests; `name` identifies them."""
    if name not in self._shapes:
      self._shapes[name] = batching.Shapes(
        batch_multiple=self._partitioner.num_data_shards
      )
    return {
      'batch_size': self._cfg.batch_size,
      'shapes': self._shapes[name],
      'before_batch': self._check_interrupted,
    }

  def _check_interrupted(self) -> None:
    if self._should_stop():
      raise Interrupted


class LossEvaluator:
  """Loss and accuracy of a task's targets, each token given those before.

  The last batch of a split may not be full: rows of zeros, which weigh nothing,
  fill it.

  Attributes:
    truncated: as of `PredictionEvaluator`, in the batches that are read.
  """

  def __init__(
    self,
    model: model_lib.EncoderDecoderModel,
    cfg: data.DatasetConfig,
    partitioner: partitioning.Partitioner,
    num_batches: int,
  ):
    """Reads the batches.

    Args:
      model: gives the loss.
      cfg: what to evaluate on.
      partitioner: gives the mesh.
      num_batches: the most to read.
    """
    partitioner.check_batch_size(cfg.batch_size)
    data.check_split(data.get_task(cfg.mixture_or_task_name), cfg.split)
    self._name = cfg.mixture_or_task_name
    self._partitioner = partitioner
    self._batch_size = cfg.batch_size
    self._batches, self.truncated = [], {}
    ds = data.dataset(cfg, num_epochs=1).as_numpy_iterator()
    for batch in itertools.islice(ds, num_batches):
      self._batches.append(_local_rows(partitioner, batch, cfg.batch_size))
      for name in (k for k in batch if k.endswith(model_lib.TRUNCATED)):
        before = self.truncated.get(f'{self._name}/{name}', 0.0)
        self.truncated[f'{self._name}/{name}'] = before + float(
          batch[name].sum()
        )
    if not self._batches:
      raise errors.UserError(
        f'The {cfg.split} split of {self._name!r} is empty: there is nothing '
        'to measure the loss on.'
      )
    self._eval = jax.jit(
      lambda params, batch: model.eval_fn(params, batch)[1],
      in_shardings=(None, partitioner.batch_sharding),
      out_shardings=partitioner.replicated,
    )

  @property
  def names(self) -> list[str]:
    """Names of the reported metrics."""
    return [f'{self._name}/target_{name}' for name in ('loss', 'accuracy')]

  def evaluate(self, params: PyTree) -> dict[str, float]:
    """Measures them.

    Returns:
      'TASK/target_loss' and 'TASK/target_accuracy', per token; and `truncated`.
    """
    with self._partitioner.scope():
      per_batch = [
        self._eval(params, self._partitioner.put_batch(batch, self._batch_size))
        for batch in self._batches
      ]
    merged = functools.reduce(step_lib.merge, jax.device_get(per_batch))
    values = (float(merged[name].compute()) for name in ('loss', 'accuracy'))
    return dict(zip(self.names, values, strict=True)) | self.truncated


class Evaluators:
  """The evaluations of a run, made together; false if there are none."""

  def __init__(
    self,
    model: model_lib.EncoderDecoderModel,
    partitioner: partitioning.Partitioner,
    *,
    infer_cfg: data.DatasetConfig | None,
    loss_cfg: data.DatasetConfig | None,
    loss_batches: int,
    should_stop: Callable[[], bool],
    decoding_options: options_lib.DecodingOptions | None = None,
  ):
    """See `PredictionEvaluator` and `LossEvaluator`."""
    self._loss = self._prediction = None
    if loss_cfg is not None:
      self._loss = LossEvaluator(model, loss_cfg, partitioner, loss_batches)
    if infer_cfg is not None:
      self._prediction = PredictionEvaluator(
        model,
        infer_cfg,
        partitioner,
        should_stop,
        options=decoding_options,
      )
    both = [x.truncated for x in (self._loss, self._prediction) if x]
    reporting.warn_of_truncated(functools.reduce(operator.or_, both, {}))

  def __bool__(self) -> bool:
    return self._loss is not None or self._prediction is not None

  def find_metric(self, name: str | None) -> str | None:
    """Returns a metric's name as the evaluations give it; checks that they do.

    What is configured for a task serves its baselines: of NAME_pie,
    'NAME/METRIC' means 'NAME_pie/METRIC'.

    Args:
      name: 'TASK/METRIC', 'first' (the first metric of the first task, None if
        nothing is predicted), or None.

    Raises:
      UserError: no evaluation has this metric, or there is none.
    """
    if name is None:
      return None
    where = 'CheckpointConfig.best_metric'
    if not self:
      if name == 'first':
        return None
      raise errors.UserError(
        f'{where} is {checks.shown(name)}, but nothing is evaluated: give '
        'infer_eval_dataset_cfg or train_eval_dataset_cfg, or no best_metric'
      )
    known, open_tasks = [], []
    for task in [] if self._prediction is None else self._prediction.tasks:
      metrics = self._prediction.metrics_of(task)
      if metrics is None:
        open_tasks.append(task)
      known += [f'{task}/{metric}' for metric in metrics or ()]
    if name == 'first' and not open_tasks:
      return known[0] if known else None
    if self._loss is not None:
      known += [*self._loss.names, *self._loss.truncated]
    task, _, metric = str(name).partition('/')
    for suffix in ('', '_pie', '_joint'):
      full = f'{task}{suffix}/{metric}'
      if full in known or (metric and f'{task}{suffix}' in open_tasks):
        return full
    known += [f'{task}/METRIC' for task in open_tasks]
    raise errors.unknown(where, str(name), known)

  def evaluate(self, params: PyTree, step: int) -> dict[str, float] | None:
    """Returns the metrics of all evaluations, 'TASK/METRIC' -> value.

    None if they were stopped before the end.
    """
    values = {}
    try:
      if self._loss is not None:
        values |= self._loss.evaluate(params)
      if self._prediction is not None:
        values |= self._prediction.evaluate(params, step)
    except Interrupted:
      return None
    return values


class PredictionsWriter(seqio.Logger):
  """Writes TASK.jsonl: one line per example, with target and prediction."""

  def __call__(
    self, task_name, step, metrics, dataset, inferences, targets
  ) -> None:
    """See base class."""
    del step, metrics
    if jax.process_index() or not inferences:
      return
    predictions = inferences.get('prediction', inferences.get('output'))
    lines = []
    for example, target, prediction in zip(
      dataset.as_numpy_iterator(), targets, predictions, strict=True
    ):
      line = {'inputs': _text(example.get('inputs_pretokenized'))}
      line |= target if isinstance(target, dict) else {'target': target}
      line['prediction'] = prediction
      lines.append(json.dumps(line, default=_plain, ensure_ascii=False) + '\n')
    path = epath.Path(self.output_dir) / f'{task_name}.jsonl'
    with files.explained(f'cannot write {path}'):
      path.parent.mkdir(parents=True, exist_ok=True)
    files.write(path, ''.join(lines).encode())


def _local_rows(
  partitioner: partitioning.Partitioner,
  batch: Mapping[str, np.ndarray],
  batch_size: int,
) -> dict[str, np.ndarray]:
  """Takes this process's rows of a batch that may not be full."""
  rows = partitioner.local_rows(batch_size)

  def take(x):
    missing = batch_size - len(x)
    return np.pad(x, [(0, missing)] + [(0, 0)] * (x.ndim - 1))[rows]

  return {name: take(x) for name, x in batch.items()}


def _text(value: bytes | None) -> str | None:
  return None if value is None else value.decode()


def _plain(value: Any) -> Any:
  """JSON for what metrics make of targets: arrays and bytes."""
  if isinstance(value, bytes):
    return value.decode()
  return np.asarray(value).tolist()


def _number(value: Any) -> float | None:
  """The number in a metric's value, if it is one."""
  value = getattr(value, 'value', value)
  try:
    return float(np.asarray(value).reshape(()))
  except (TypeError, ValueError):
    return None
