# Copyright 2026 The pid_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""A comparison from its first to its last part, resumed wherever it stopped.

    OUTPUT/comparison.json    what was asked for, and what is known so far
    OUTPUT/runs/LAYOUT-SEED   MODEL_DIR of a training run

Every part is written down when it is done, whole or not at all, and is not done
again. A training run that was stopped goes on from its last checkpoint. So the
same command, given again after any end, ends with the same results but for the
times that it measures.
"""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Mapping
import dataclasses
import json
import math
import statistics
from typing import Any

from etils import epath
import jax

from pid_jax import atomic
from pid_jax import costs
from pid_jax import errors
from pid_jax import trainer
from pid_jax.comparison import inference
from pid_jax.comparison import training
from pid_jax.comparison import updates
from pid_jax.pages import curves
from pid_jax.trainer import data

FILE = 'comparison.json'
EQUAL = ('updates', 'seconds')
_FORMAT = 1

# total_steps, or None for what was configured -> arguments of trainer.train.
Configure = Callable[[int | None], dict[str, Any]]


@dataclasses.dataclass(frozen=True)
class Settings:
  """What is compared.

  Attributes:
    layouts: of `updates.LAYOUTS`; 'pid' must be among them.
    num_seeds: runs of each layout, with the run's own seed and those after it.
    equal: 'updates', or 'seconds': then PiD makes the updates that were
      configured, and the others as many as they manage in the time of these.
  """

  layouts: tuple[str, ...] = updates.LAYOUTS
  num_seeds: int = 3
  equal: str = 'updates'

  def __post_init__(self):
    for layout in self.layouts:
      if layout not in updates.LAYOUTS:
        raise errors.unknown('layout', layout, updates.LAYOUTS)
    if 'pid' not in self.layouts or len(set(self.layouts)) < len(self.layouts):
      raise errors.UserError(
        'name each layout once, and pid among them, for its updates are those '
        f'that the others make. Got {",".join(self.layouts)}.'
      )
    if self.equal not in EQUAL:
      raise errors.unknown('kind of equality', self.equal, EQUAL)
    if self.num_seeds < 1:
      raise errors.UserError(f'seeds must be at least 1. Got {self.num_seeds}.')


def run(
  configure: Configure,
  settings: Settings,
  output: epath.PathLike,
  *,
  config_text: str,
  sweep: str = '',
  announce: Callable[[str], None] = print,
) -> dict[str, Any]:
  """Does what has not been done yet.

  Args:
    configure: gives the arguments of PiD's training; `model_dir`, `random_seed`
      and all that a layout needs otherwise are set here.
    settings: what is compared.
    output: a folder: new, empty, or of the same comparison.
    config_text: the configuration in words; what is resumed must have the same.
    sweep: letters of further inference jobs, see `inference.jobs`.
    announce: is told what begins.

  Returns:
    The contents of comparison.json.

  Raises:
    UserError: a configuration that cannot be compared, or another comparison's
      folder.
    SystemExit: a signal stopped a training run; see `trainer.train`.
  """
  arguments = configure(None)
  check(arguments, settings)
  cfg, checkpoint = (
    arguments.get(k) for k in ('train_dataset_cfg', 'checkpoint_cfg')
  )
  best = checkpoint.best_metric if checkpoint is not None else None
  inference.check_sweep(sweep)
  asked = {
    'format': _FORMAT,
    'task': cfg.mixture_or_task_name,
    'metric': best.rpartition('/')[2] if best else None,
    'settings': json.loads(json.dumps(dataclasses.asdict(settings))),
    'config': config_text,
    'model': arguments['model'].module.config.to_dict(),
  }
  state = _State(epath.Path(output), asked)
  results = state.results
  seeds = [arguments['random_seed'] + i for i in range(settings.num_seeds)]

  def shape_of(layout: str, seed: int, num_updates: int) -> updates.Shape:
    name = f'{layout}-{seed}-{num_updates}'
    if name not in results['shapes']:
      announce(f'{layout}, seed {seed}: reading {num_updates} updates ...')
      shape = training.measure(arguments, layout, seed, num_updates)
      state.add('shapes', name, shape)
    found = dict(results['shapes'][name])
    del found['inputs']
    return updates.Shape(**found)

  total = arguments['total_steps']
  if not results['update_seconds']:
    shapes = {n: shape_of(n, seeds[0], total) for n in settings.layouts}
    announce('Timing updates, the layouts in turns ...')
    for name, seconds in training.time_updates(arguments, shapes).items():
      results['update_seconds'][name] = seconds
    state.save()
  for layout in settings.layouts:
    num_updates = total
    if settings.equal == 'seconds' and layout != 'pid':
      medians = {
        name: spread['median']
        for name, spread in results['update_seconds'].items()
      }
      num_updates = max(1, round(total * medians['pid'] / medians[layout]))
    results['updates'][layout] = num_updates
  state.save()
  pid = results['shapes'][f'pid-{seeds[0]}-{total}']
  for job in inference.jobs(
    cfg.task_feature_lengths,
    math.ceil(pid['encoder_tokens'] / pid['inputs']),
    settings.layouts,
    sweep,
  ):
    if job.name not in results['inference']:
      config = arguments['model'].module.config
      timed = inference.measure(job, config, announce)
      state.add('inference', job.name, timed)
  if not has_metrics(arguments):
    announce('The task has no metrics: no training, only costs.')
    return results

  for seed in seeds:
    for layout in settings.layouts:
      name, num_updates = f'{layout}-{seed}', results['updates'][layout]
      if name in results['runs']:
        continue
      shape = shape_of(layout, seed, num_updates)
      announce(f'{name}: {num_updates} updates of {shape.rows} rows ...')
      model_dir = state.folder / 'runs' / name
      trainer.train(
        **training.arguments_of(
          configure(num_updates), layout, seed, shape, model_dir
        )
      )
      state.add('runs', name, _result(arguments, layout, shape, model_dir))
  return results


def check(arguments: Mapping[str, Any], settings: Settings) -> None:
  """Raises UserError unless a training can be compared.

  Args:
    arguments: of `trainer.train`.
    settings: what is compared.
  """
  if jax.process_count() > 1:
    raise errors.UserError('a comparison runs in one process, not in several')
  cfg = arguments['train_dataset_cfg']
  task = data.get_task(cfg.mixture_or_task_name)
  layout = getattr(getattr(task, 'layout', None), 'name', None)
  if layout != 'pid':
    raise errors.UserError(
      f'{task.name!r} cannot be compared: name the multi-prompt task of one '
      'registration (subtasks.register), not a mixture nor one of its layouts'
    )
  for name in settings.layouts:
    if name != 'pid':
      data.get_task(f'{task.name}_{name}')
  if not cfg.pack or 'decoder' not in cfg.task_feature_lengths:
    raise errors.UserError(
      "a comparison needs packed training: pack = True, and 'decoder' in "
      'TASK_FEATURE_LENGTHS'
    )
  data.check_split(task, cfg.split)
  evaluation = arguments.get('infer_eval_dataset_cfg')
  if evaluation is not None and evaluation.num_examples is not None:
    raise errors.UserError(
      'num_examples of infer_eval/trainer.DatasetConfig counts rows, of which '
      'PiE has several for an example: leave it None, or name a smaller split'
    )


def has_metrics(arguments: Mapping[str, Any]) -> bool:
  """Whether quality can be measured."""
  name = arguments['train_dataset_cfg'].mixture_or_task_name
  return bool(
    arguments.get('infer_eval_dataset_cfg') and data.get_task(name).metric_fns
  )


class _State:
  """comparison.json, as it is on disk."""

  def __init__(self, folder: epath.Path, asked: Mapping[str, Any]):
    """Reads the file, or begins one.

    Raises:
      UserError: it is another comparison's, or cannot be read or written.
    """
    self.folder = folder
    self._path = folder / FILE
    parts = ('shapes', 'update_seconds', 'updates', 'inference', 'runs')
    self.results = {**asked, **{name: {} for name in parts}}
    if self._path.exists():
      try:
        found = json.loads(self._path.read_text())
        differing = [name for name in asked if found[name] != asked[name]]
      except (ValueError, KeyError, TypeError) as e:
        raise errors.UserError(f'{self._path} is damaged: {e}') from e
      if differing:
        raise errors.UserError(
          f'{folder} holds a comparison with other {" and ".join(differing)}: '
          'name another --output, or give the command that began it'
        )
      self.results = found
      return
    try:
      folder.mkdir(parents=True, exist_ok=True)
      is_empty = not any(folder.iterdir())
    except OSError as e:
      raise errors.UserError(f'cannot write to {folder}: {e.strerror}') from e
    if not is_empty:
      raise errors.UserError(
        f'{folder} holds other files, and no {FILE}: name a new --output'
      )
    self.save()

  def add(self, part: str, name: str, value: Any) -> None:
    self.results[part][name] = value
    self.save()

  def save(self) -> None:
    text = json.dumps(self.results, indent=1) + '\n'
    atomic.write(self._path, text.encode())


def _result(
  arguments: Mapping[str, Any],
  layout: str,
  shape: updates.Shape,
  model_dir: epath.Path,
) -> dict[str, Any]:
  """What a finished run amounts to, as JSON types."""
  found = curves.read(model_dir / 'tensorboard')
  rates = [rate for _, rate in found['train/steps_per_second']]
  task = arguments['train_dataset_cfg'].mixture_or_task_name
  prefix = 'eval/' + training.task_name(task, layout) + '/'
  config = arguments['model'].module.config
  work = costs.train_step(
    config, shape.rows, shape.encoder_length, shape.decoder_length
  )
  return {
    'layout': layout,
    'flops_per_update': work.flops,
    # Of all stretches between two reports, most of which compile nothing.
    'seconds_per_update': 1 / statistics.median(rates),
    # Metric -> [[update, value], ...]
    'curves': {
      tag.removeprefix(prefix): [list(point) for point in points]
      for tag, points in found.items()
      if tag.startswith(prefix)
    },
  }
