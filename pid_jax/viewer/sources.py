# Copyright 2026 The pid_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""Finds predictions, metrics and curves at a path.

A path may be
  a file               of `predict`, or TASK.jsonl of an evaluation
  an evaluation        a folder of `evaluate` with metrics.json and TASK.jsonl
  a MODEL_DIR          its latest evaluation, and the curves of its training
"""

from __future__ import annotations

from collections.abc import Mapping
from collections.abc import Sequence
import dataclasses
from typing import Any

from etils import epath

from pid_jax import errors
from pid_jax import files
from pid_jax import strict_json
from pid_jax.viewer import curves as curves_lib
from pid_jax.viewer import figures
from pid_jax.viewer import records

_METRICS_FILE = 'metrics.json'
_CURVES_FOLDER = 'tensorboard'
_MODEL_DIR_FILES = ('config.json', 'checkpoints', _CURVES_FOLDER)


@dataclasses.dataclass(frozen=True)
class Source:
  """What a report shows.

  Attributes:
    title: names what was predicted.
    examples: with their predictions; empty before the first evaluation.
    metrics: of the evaluation, 'TASK/METRIC' -> value.
    curves: of the training, tag -> (step, value) by ascending step.
    notes: sentences on what is missing and why.
  """

  title: str
  examples: Sequence[records.Example]
  metrics: Mapping[str, float] = dataclasses.field(default_factory=dict)
  curves: Mapping[str, curves_lib.Curve] = dataclasses.field(
    default_factory=dict
  )
  notes: Sequence[str] = ()


def load(path: epath.PathLike) -> Source:
  """Reads predictions, metrics and curves at a path.

  Args:
    path: local, or gs://.

  Raises:
    UserError: there is nothing to report on, or a file is invalid.
  """
  path = files.path(path, 'the predictions')
  with files.explained(f'cannot read {path}'):
    return _load(path)


def _load(path: epath.Path) -> Source:
  if path.is_file():
    return _file(path)
  if (path / _METRICS_FILE).is_file():
    curves, notes = _curves(_model_dir_of(path))
    return _evaluation(path, curves, notes)
  if any((path / name).exists() for name in _MODEL_DIR_FILES):
    return _model_dir(path)
  if not path.exists():
    raise errors.UserError(f'{path} does not exist')
  raise errors.UserError(
    f'{path} is neither the MODEL_DIR of a training run, nor what `python -m '
    'pid_jax.evaluate` wrote, nor a JSONL file of predictions'
  )


def inputs(path: epath.Path) -> list[epath.Path]:
  """Returns the files at a path that a report could read, to keep them."""
  if not path.is_dir():
    return [path]
  return [
    file
    for pattern in ('*', '*/*', '*/*/*')
    for file in path.glob(pattern)
    if file.suffix in ('.json', '.jsonl') or 'tfevents' in file.name
  ]


def _file(path: epath.Path) -> Source:
  metrics, task = {}, path.name.removesuffix('.jsonl')
  if (path.parent / _METRICS_FILE).is_file():
    results = _results(path.parent)['metrics']
    metrics = {k: v for k, v in results.items() if _task_of(k) == task}
  return Source(path.name, records.read(path, task if metrics else ''), metrics)


def _evaluation(
  folder: epath.Path,
  curves: Mapping[str, curves_lib.Curve],
  notes: Sequence[str],
) -> Source:
  """Reads the predictions of all tasks in metrics.json."""
  results = _results(folder)
  tasks = list(dict.fromkeys(map(_task_of, results['metrics'])))
  paths = [(task, folder / f'{task}.jsonl') for task in tasks]
  missing = [path.name for _, path in paths if not path.is_file()]
  if missing:
    raise errors.UserError(
      f'{folder} has metrics but no predictions ({", ".join(missing)}): run '
      '`python -m pid_jax.evaluate` again'
    )
  return Source(
    f'{", ".join(tasks)}: {results["split"]} at step {results["step"]:,}',
    [x for task, path in paths for x in records.read(path, task)],
    results['metrics'],
    curves,
    notes,
  )


def _model_dir(path: epath.Path) -> Source:
  """Reads the latest evaluation, and the curves."""
  curves, notes = _curves(path)
  found = [*path.glob(f'*/{_METRICS_FILE}')]
  found += path.glob(f'evaluation/*/{_METRICS_FILE}')
  found.sort(key=lambda file: (files.stat(file)[1], str(file)))
  folders = [str(file.parent.relative_to(path)) for file in found]
  if folders:
    others = ', '.join(folders[:-1])
    if others:
      notes = [
        *notes,
        f'This is the latest evaluation, {folders[-1]}. Others can be given '
        f'instead of the MODEL_DIR: {others}.',
      ]
    return _evaluation(found[-1].parent, curves, notes)
  if not curves:
    raise errors.UserError(
      f'{path} holds no predictions: run `python -m pid_jax.evaluate '
      f'--model_dir={path}` first'
    )
  notes = [
    *notes,
    'There are no predictions yet: run `python -m pid_jax.evaluate '
    f'--model_dir={path}`.',
  ]
  return Source(f'training of {path.name}', [], {}, curves, notes)


def _model_dir_of(evaluation: epath.Path) -> epath.Path:
  """Returns the MODEL_DIR that contains an evaluation, else its folder."""
  for folder in (evaluation.parent, evaluation.parent.parent):
    if (folder / _CURVES_FOLDER).is_dir():
      return folder
  return evaluation


def _curves(
  model_dir: epath.Path,
) -> tuple[dict[str, curves_lib.Curve], list[str]]:
  """Reads the curves of a MODEL_DIR; returns them and notes."""
  folder = model_dir / _CURVES_FOLDER
  if not folder.is_dir():
    return {}, []
  try:
    curves = curves_lib.read(folder)
  except ImportError:
    return {}, [
      'The curves of the training are left out: tensorboard is not installed.'
    ]
  if not figures.is_installed():
    return curves, [
      'The curves of the training are left out: matplotlib is not installed '
      f'({figures.INSTALL}).'
    ]
  return curves, []


def _results(folder: epath.Path) -> dict[str, Any]:
  """Reads metrics.json: its `step`, `split` and `metrics`."""
  path = folder / _METRICS_FILE
  results = strict_json.read_object(path, 'the metrics', allow_nan=True)
  metrics = results.get('metrics')
  if (
    not isinstance(results.get('step'), int)
    or not isinstance(results.get('split'), str)
    or not isinstance(metrics, dict)
    or not all(isinstance(x, int | float) for x in metrics.values())
  ):
    raise errors.UserError(
      f'{path} is not what `python -m pid_jax.evaluate` writes'
    )
  return results


def _task_of(metric: str) -> str:
  """'TASK/METRIC' -> 'TASK'."""
  return metric.partition('/')[0]
