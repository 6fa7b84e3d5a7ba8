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
import time

from clu import metric_writers
from clu import metrics as clu_metrics
from etils import epath
import jax
import numpy as np

from pid_jax import model as model_lib
from pid_jax import partitioning
from pid_jax import progress as progress_lib
from pid_jax.trainer import step as step_lib

logger = logging.getLogger('pid_jax.trainer')

# Counts that are rates, not overflow.
RATES = ('examples', 'subtasks', 'tokens')
# Suffixes of counts of what went wrong in an evaluation.
_FAULT_SUFFIXES = ('_predictions', model_lib.TRUNCATED)


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
  ):
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
    for name in counts:
      total = values.pop(name)
      if name in RATES:
        values[f'{name}_per_second'] = total / seconds
      else:
        self._warn_of_overflow(name, int(total), last)
        values[f'overflow/{name}'] = total
    self._began, self._first = now, last
    self._writer.write_scalars(
      last, {f'train/{k}': v for k, v in values.items()}
    )
    self.last = {
      'loss': values['loss'],
      'accuracy': values['accuracy'],
      'examples/s': values['examples_per_second'],
    }
    self._progress.update(last, self.last)
    return values

  def restart_clock(self) -> None:
    """Excludes the time since the last flush (an evaluation) from the rates."""
    self._began = time.monotonic()

  def _warn_of_overflow(self, name: str, total: int, step: int) -> None:
    """Warns the first time; TensorBoard shows the others."""
    if (
      total and name not in self._warned and name.endswith(model_lib.TRUNCATED)
    ):
      self._warned.add(name)
      logger.warning(
        'step %d: %s: %d in %d steps; see train/overflow/%s for each report. '
        'Raise TASK_FEATURE_LENGTHS to keep them.',
        *(step, name.replace('_', ' '), total, step - self._first, name),
      )


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
    logger.info('%s: resumes after step %d', model_dir, first_step)
  else:
    logger.info('%s: a new run', model_dir)


def warn_of_truncated(counts: Mapping[str, float]) -> None:
  """Warns of what an evaluation truncates, 'TASK/COUNTER' -> count."""
  found = [f'{name} {count:.0f}' for name, count in counts.items() if count]
  if found:
    logger.warning(
      'evaluation: %s. Raise TASK_FEATURE_LENGTHS to keep them.',
      ', '.join(found),
    )


def write_evaluation(
  writer: metric_writers.MetricWriter, step: int, values: Mapping[str, float]
) -> None:
  """Writes the finite metrics of an evaluation, and logs one line per task.

  Args:
    writer: gets all finite values.
    step: of the parameters that were evaluated.
    values: 'TASK/METRIC' -> value. Counts of missing predictions and truncated
      examples are logged if they are not 0.
  """
  finite = {k: v for k, v in values.items() if math.isfinite(v)}
  writer.write_scalars(step, {f'eval/{k}': v for k, v in finite.items()})
  by_task = collections.defaultdict(list)
  for name, value in values.items():
    task, _, metric = name.rpartition('/')
    if value or not metric.endswith(_FAULT_SUFFIXES):
      # Counts are shown as integers, however large.
      shown = f'{value:.0f}' if value.is_integer() else f'{value:.4g}'
      by_task[task].append(f'{metric} {shown}')
  for task, shown in by_task.items():
    logger.info('step %d: %s: %s', step, task, ', '.join(shown))
