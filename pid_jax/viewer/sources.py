# Copyright 2026 The pid_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""What there is to report on at a path: predictions, metrics, curves.

A path may be
  a file               what `predict` wrote, or TASK.jsonl of an evaluation
  an evaluation        a folder with metrics.json and TASK.jsonl, which
                       `evaluate` wrote
  a MODEL_DIR          its latest evaluation, and the curves of its training
"""

from __future__ import annotations

from collections.abc import Mapping
from collections.abc import Sequence
import dataclasses
import json

from etils import epath

from pid_jax import errors
from pid_jax.viewer import curves as curves_lib
from pid_jax.viewer import figures
from pid_jax.viewer import records

_METRICS_FILE = 'metrics.json'
_CURVES_FOLDER = 'tensorboard'
_OF_MODEL_DIR = ('config.json', 'checkpoints', _CURVES_FOLDER)


@dataclasses.dataclass(frozen=True)
class Source:
  """What a report shows.

  Attributes:
    title: says what was predicted, in a few words.
    examples: with their predictions; none if nothing was evaluated yet.
    metrics: of the evaluation, 'TASK/METRIC' -> value.
    curves: of the training, tag -> (step, value) by rising step.
    notes: what is missing and why; sentences for the reader of the report.
  """

  title: str
  examples: Sequence[records.Example]
  metrics: Mapping[str, float] = dataclasses.field(default_factory=dict)
  curves: Mapping[str, curves_lib.Curve] = dataclasses.field(
    default_factory=dict
  )
  notes: Sequence[str] = ()


def load(path: epath.PathLike) -> Source:
  """Reads what there is at a path.

  Args:
    path: local, or gs://.

  Raises:
    UserError: there is nothing to report on, or a file is not as it should be.
  """
  path = epath.Path(path)
  if path.is_file():
    return _file(path)
  if (path / _METRICS_FILE).is_file():
    curves, notes = _curves(_home(path))
    return _evaluation(path, curves, notes)
  if any((path / name).exists() for name in _OF_MODEL_DIR):
    return _model_dir(path)
  if not path.exists():
    raise errors.UserError(f'{path} does not exist')
  raise errors.UserError(
    f'{path} is neither the MODEL_DIR of a training run, nor what `python -m '
    'pid_jax.evaluate` wrote, nor a JSONL file of predictions'
  )


def _file(path: epath.Path) -> Source:
  metrics, task = {}, ''
  if (path.parent / _METRICS_FILE).is_file():
    results = _results(path.parent)
    of_task = path.name.removesuffix('.jsonl')
    metrics = _of_task(results['metrics'], of_task)
    task = of_task if metrics else ''
  return Source(path.name, records.read(path, task), metrics)


def _evaluation(
  folder: epath.Path,
  curves: Mapping[str, curves_lib.Curve],
  notes: Sequence[str],
) -> Source:
  """The tasks whose metrics an evaluation holds."""
  results = _results(folder)
  tasks = list(dict.fromkeys(k.partition('/')[0] for k in results['metrics']))
  files = [(task, folder / f'{task}.jsonl') for task in tasks]
  missing = [path.name for _, path in files if not path.is_file()]
  if missing:
    raise errors.UserError(
      f'{folder} has metrics but no predictions ({", ".join(missing)}): run '
      '`python -m pid_jax.evaluate` again'
    )
  return Source(
    f'{", ".join(tasks)}: {results["split"]} at step {results["step"]:,}',
    [x for task, path in files for x in records.read(path, task)],
    results['metrics'],
    curves,
    notes,
  )


def _model_dir(path: epath.Path) -> Source:
  """The evaluation that was written last, and the curves."""
  curves, notes = _curves(path)
  found = [*path.glob(f'*/{_METRICS_FILE}')]
  found += path.glob(f'evaluation/*/{_METRICS_FILE}')
  found.sort(key=lambda file: (file.stat().mtime, str(file)))
  folders = [str(file.parent.relative_to(path)) for file in found]
  if folders:
    others = ', '.join(folders[:-1])
    if others:
      notes = [
        *notes,
        f'This is the latest evaluation, {folders[-1]}. Others, to be named '
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
    'There are no predictions yet: python -m pid_jax.evaluate '
    f'--model_dir={path} makes them.',
  ]
  return Source(f'training of {path.name}', [], {}, curves, notes)


def _home(evaluation: epath.Path) -> epath.Path:
  """The MODEL_DIR that an evaluation lies in, or else its own folder."""
  for folder in (evaluation.parent, evaluation.parent.parent):
    if (folder / _CURVES_FOLDER).is_dir():
      return folder
  return evaluation


def _curves(
  model_dir: epath.Path,
) -> tuple[dict[str, curves_lib.Curve], list[str]]:
  """The curves of a MODEL_DIR and what to say where there are none."""
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


def _results(folder: epath.Path) -> dict:
  """Reads metrics.json: its `step`, `split` and `metrics`."""
  path = folder / _METRICS_FILE
  try:
    results = json.loads(path.read_text())
    is_whole = {'step', 'split', 'metrics'} <= results.keys()
  except (AttributeError, ValueError):  # No object, or no JSON.
    is_whole = False
  if not is_whole or not isinstance(results['metrics'], dict):
    raise errors.UserError(
      f'{path} is not what `python -m pid_jax.evaluate` writes'
    )
  return results


def _of_task(metrics: Mapping[str, float], task: str) -> dict[str, float]:
  return {k: v for k, v in metrics.items() if k.partition('/')[0] == task}
