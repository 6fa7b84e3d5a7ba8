# Copyright 2026 The pid_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""Reports to the user of a run: progress, TensorBoard, warnings.

Metrics of a step stay on the devices until the next report, so that the loop
never waits for the step that it has just started.
"""

import collections
from collections.abc import Mapping
import logging
import math
import os
import shlex
import time

from clu import metric_writers
from clu import metrics as clu_metrics
from etils import epath
import jax
import numpy as np

from pid_jax import checkpoints
from pid_jax import model as model_lib
from pid_jax import partitioning
from pid_jax import progress as progress_lib
from pid_jax.trainer import step as step_lib

logger = logging.getLogger('pid_jax.trainer')

# Counts that are rates, not overflow.
RATES = ('examples', 'subtasks', 'tokens')
# After so many updates of a run their loss is shown, whatever the log period.
_FIRST_UPDATES = (1, 2, 5, 10, 20, 50, 100, 200, 500)
# Of counts of what went wrong in an evaluation.
_FAULT_SUFFIX = '_predictions'


class NonFiniteError(Exception):
  """The loss, a gradient or a parameter is not a finite number.

  Attributes:
    step: the first such step.
  """

  def __init__(self, step: int):
    super().__init__(f'not finite at step {step}')
    self.step = step


class Reporter:
  """Collects the metrics of steps and reports them every few."""

  def __init__(
    self,
    writer: metric_writers.MetricWriter,
    progress: progress_lib.Progress,
    first_step: int,
    logs: bool = False,
  ):
    """Starts the clock.

    Args:
      writer: to TensorBoard.
      progress: shows the last values.
      first_step: number of updates that were made before.
      logs: whether to log the first update, too.
    """
    self._begin, self._logs = first_step, logs
    self._writer = writer
    self._progress = progress
    self._pending: list[tuple[int, Mapping[str, clu_metrics.Metric]]] = []
    self._began, self._first = time.monotonic(), first_step
    self._warned: set[str] = set()
    self.last: dict[str, float] = {}

  def add(self, step: int, metrics: Mapping[str, clu_metrics.Metric]) -> None:
    """Notes the metrics of an update.

    Waits for the update before the last one, no later: this bounds how far the
    host runs ahead of the devices.
    """
    self._pending.append((step, metrics))
    if len(self._pending) > 2:
      _check_finite(*self._pending[-3])
    self._progress.update(step, self.last)

  def show_first(self, step: int) -> None:
    """Shows the loss of the first updates; TensorBoard gets it by `flush`.

    Waits for the update, after the first, the second, and then ever fewer: the
    next report may be minutes away.

    Args:
      step: of the last update that was added.

    Raises:
      NonFiniteError: its loss or gradient is not finite.
    """
    count = step - self._begin
    if count not in _FIRST_UPDATES:
      return
    _, metrics = self._pending[-1]
    _check_finite(step, metrics)
    self.last = {name: _value(metrics[name]) for name in ('loss', 'accuracy')}
    if count == 1 and self._logs:
      seconds = time.monotonic() - self._began
      logger.info(
        'step %d: loss %.4g (after %.0f s, mostly of compilation)',
        *(step, self.last['loss'], seconds),
      )
      self._progress.restart_clock()
    self._progress.update(step, self.last)

  def flush(self) -> dict[str, float]:
    """Waits for all steps, checks them, and writes their averages.

    Counts of overflow are those since the last report, so that a resumed run
    reports the same.

    Returns:
      The values written; empty if there was no step since the last flush.

    Raises:
      NonFiniteError: a loss or gradient was not finite.
    """
    if not self._pending:
      return {}
    steps, per_step = zip(*jax.device_get(self._pending), strict=True)
    self._pending = []
    for step, metrics in zip(steps, per_step, strict=True):
      _check_finite(step, metrics)
    # Lists of host scalars -> one metric of sums.
    merged = jax.tree.map(lambda *x: np.sum(x), *per_step)
    values = {k: _value(v) for k, v in merged.items()}
    now, last = time.monotonic(), int(steps[-1])
    seconds = now - self._began
    values['steps_per_second'] = (last - self._first) / seconds
    counts = [k for k, v in merged.items() if isinstance(v, model_lib.Count)]
    counts = {name: values.pop(name) for name in counts}
    self._warn_of_truncated(counts)
    for name, total in counts.items():
      if name in RATES:
        values[f'{name}_per_second'] = total / seconds
      else:
        values[f'overflow/{name}'] = total
    self._began, self._first = now, last
    self._writer.write_scalars(
      last, {f'train/{k}': v for k, v in values.items()}
    )
    self.last = {
      'loss': values['loss'],
      'accuracy': values['accuracy'],
      'inputs/s': values['examples_per_second'],
    }
    self._progress.update(last, self.last)
    return values

  def restart_clock(self) -> None:
    """Excludes the time since the last flush (an evaluation) from the rates."""
    self._began = time.monotonic()

  def _warn_of_truncated(self, counts: Mapping[str, float]) -> None:
    """Warns the first time; TensorBoard shows the others."""
    new = {
      name: total
      for name, total in counts.items()
      if total
      and name.endswith(model_lib.TRUNCATED)
      and name not in self._warned
    }
    self._warned.update(new)
    warn_of_truncated(new, 'training')


def _check_finite(step: int, metrics: Mapping[str, clu_metrics.Metric]) -> None:
  checked = metrics['loss'].total, metrics['grad_norm'].total
  if not all(math.isfinite(x) for x in checked):
    raise NonFiniteError(int(step))


def _value(metric: clu_metrics.Metric) -> float:
  if isinstance(metric, clu_metrics.Average):
    return float(metric.total) / max(float(metric.count), 1e-9)
  return float(metric.total)


def tensorboard_writer(
  model_dir: epath.PathLike,
) -> metric_writers.MetricWriter:
  """Writes to MODEL_DIR/tensorboard from the first process, else nowhere."""
  if jax.process_index():
    return metric_writers.MultiWriter([])
  path = epath.Path(model_dir) / 'tensorboard'
  return metric_writers.SummaryWriter(os.fspath(path))


def announce(
  model_dir: epath.PathLike,
  state: step_lib.TrainState,
  partitioner: partitioning.Partitioner,
  first_step: int,
  total_steps: int,
) -> None:
  """Logs in two lines what is about to run."""
  size = sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(state.params))
  mesh = ' x '.join(f'{v} {k}' for k, v in partitioner.mesh.shape.items())
  logger.info(
    '%.4g million parameters on %d %s device%s (%s)',
    *(size / 1e6, partitioner.mesh.size, jax.default_backend()),
    *('s' * (partitioner.mesh.size > 1), mesh),
  )
  if first_step >= total_steps:
    logger.info('%s: step %d, nothing left to do', model_dir, first_step)
  elif first_step:
    path = checkpoints.checkpoints_path(model_dir) / str(first_step)
    logger.info(
      'resumes after step %d, with the weights of %s', first_step, path
    )
  else:
    logger.info('%s: a new run', model_dir)


def close(
  model_dir: epath.PathLike,
  step: int,
  seconds: float | None,
  metric: str | None,
) -> None:
  """Logs how a run ended, which step is best, and what to do next.

  Args:
    model_dir: of the run.
    step: its last.
    seconds: that it took, set-up included; None: no step was left.
    metric: what 'best' means; None: no step is best.
  """
  if seconds is not None:
    logger.info('finished at step %d, after %s', step, _duration(seconds))
  best = checkpoints.resolve_step(model_dir)
  value = checkpoints.read_metrics(model_dir, best).get(metric)
  if value is not None:
    logger.info('best is step %d: %s %.4g', best, metric, value)
  flag = f'--model_dir={shlex.quote(os.fspath(model_dir))}'
  # Without the configuration, `evaluate` cannot know the task.
  task = (
    '' if (epath.Path(model_dir) / 'config.gin').exists() else ' --input=FILE'
  )
  logger.info('next: python -m pid_jax.evaluate %s%s', flag, task)
  logger.info(
    '      python -m pid_jax.predict %s --input=FILE --output=FILE', flag
  )


def _duration(seconds: float) -> str:
  if seconds < 100:
    return f'{seconds:.0f} seconds'
  return f'{seconds / 60:.0f} minutes'


def warn_of_truncated(
  counts: Mapping[str, float], where: str = 'evaluation'
) -> None:
  """Warns of what is truncated.

  Args:
    counts: COUNTER or 'TASK/COUNTER' -> count.
    where: 'training' or 'evaluation'.
  """
  found = [f'{name} {count:.0f}' for name, count in counts.items() if count]
  if found:
    logger.warning(
      '%s: %s. Raise TASK_FEATURE_LENGTHS to keep them.',
      *(where, ', '.join(found)),
    )


def write_evaluation(
  writer: metric_writers.MetricWriter, step: int, values: Mapping[str, float]
) -> None:
  """Writes the finite metrics of an evaluation, and logs one line per task.

  Args:
    writer: gets all finite values.
    step: of the parameters that were evaluated.
    values: 'TASK/METRIC' -> value. Counts of missing predictions are logged if
      they are not 0; those of truncated examples were told at the start.
  """
  finite = {k: v for k, v in values.items() if math.isfinite(v)}
  writer.write_scalars(step, {f'eval/{k}': v for k, v in finite.items()})
  by_task = collections.defaultdict(list)
  for name, value in values.items():
    task, _, metric = name.rpartition('/')
    if metric.endswith(model_lib.TRUNCATED):
      continue
    if value or not metric.endswith(_FAULT_SUFFIX):
      # Counts are shown as integers, however large.
      shown = f'{value:.0f}' if value.is_integer() else f'{value:.4g}'
      by_task[task].append(f'{metric} {shown}')
  for task, shown in by_task.items():
    logger.info('step %d: %s: %s', step, task, ', '.join(shown))
