# Copyright 2026 The pid_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""A comparison from its first to its last part, resumed wherever it stopped.

    OUTPUT/comparison.json    what was asked for, and what is known so far
    OUTPUT/runs/NAME-SEED     MODEL_DIR of a training run, of a layout or task

Every part is written down when it is done, whole or not at all, and is not done
again. A training run that was stopped goes on from its last checkpoint. So the
same command, given again after any end, ends with the same results but for the
times that it measures.
"""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Mapping
import dataclasses
import functools
import json
import statistics
import time
from typing import Any

from etils import epath

from pid_jax import atomic
from pid_jax import costs
from pid_jax import errors
from pid_jax import trainer
from pid_jax.comparison import inference
from pid_jax.comparison import roofline
from pid_jax.comparison import settings as settings_lib
from pid_jax.comparison import training
from pid_jax.comparison import updates
from pid_jax.trainer import data
from pid_jax.viewer import curves

FILE = 'comparison.json'
_FORMAT = 2

_print = functools.partial(print, flush=True)

# total_steps, or None for what was configured -> arguments of trainer.train.
Configure = Callable[[int | None], dict[str, Any]]


def run(
  configure: Configure,
  settings: settings_lib.Settings,
  output: epath.PathLike,
  *,
  config_text: str,
  sweep: str = '',
  announce: Callable[[str], None] = _print,
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
  settings_lib.check(arguments, settings)
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
    'untrained': settings_lib.why_untrained(arguments),
  }
  state = _State(epath.Path(output), asked)
  results = state.results
  _measure_costs(arguments, settings, state, sweep, announce)
  if results['untrained']:
    announce(f'Costs alone: {results["untrained"]}.')
    return results

  # Training, all arms of a seed before the next.
  seeds = _seeds(arguments, settings)
  left = [
    (arm, seed)
    for seed in seeds
    for arm in settings.arms
    if f'{arm.name}-{seed}' not in results['runs']
  ]
  # By arm: seconds of updates, and of a whole run as soon as one was timed.
  seconds = {
    arm.name: results['updates'][arm.name]
    * results['update_seconds'][arm.name]['median']
    for arm in settings.arms
  }
  for index, (arm, seed) in enumerate(left):
    name, num_updates = f'{arm.name}-{seed}', results['updates'][arm.name]
    shape = _shape(arguments, arm, seed, num_updates, state, announce)
    minutes = sum(seconds[arm.name] for arm, _ in left[index:]) / 60
    announce(
      f'{name}: {num_updates} updates of {shape.rows} rows; runs to go: '
      f'{len(left) - index}, in at least {minutes:.0f} minutes'
    )
    model_dir = state.folder / 'runs' / name
    start, is_whole = time.monotonic(), not model_dir.exists()
    trainer.train(
      **training.arguments_of(
        configure(num_updates), arm, seed, shape, model_dir
      ),
      quiet=True,
    )
    if is_whole:
      seconds[arm.name] = time.monotonic() - start
    state.add('runs', name, _result(arguments, arm, shape, model_dir))
  return results


def _measure_costs(
  arguments: Mapping[str, Any],
  settings: settings_lib.Settings,
  state: _State,
  sweep: str,
  announce: Callable[[str], None],
) -> None:
  """Times updates and answers, and asks compilers about programs."""
  results, total = state.results, arguments['total_steps']
  seed = _seeds(arguments, settings)[0]
  has_targets = settings_lib.has_targets(arguments)
  if has_targets and not results['update_seconds']:
    shapes = {
      arm: _shape(arguments, arm, seed, total, state, announce)
      for arm in settings.arms
    }
    announce('Timing updates, in turns ...')
    results['update_seconds'] = training.time_updates(arguments, shapes)
    state.save()
  medians = {
    name: spread['median'] for name, spread in results['update_seconds'].items()
  }
  for name, median in medians.items():
    num_updates = total
    if settings.equal == 'seconds' and name != 'pid':
      num_updates = max(1, round(total * medians['pid'] / median))
    results['updates'][name] = num_updates
  state.save()
  cfg = data.with_seed(arguments['train_dataset_cfg'], seed)
  for arm in settings.arms:
    if arm.layout == 'pid' and arm.name not in results['sizes']:
      state.add('sizes', arm.name, inference.typical(cfg, arm, has_targets))
  jobs = inference.jobs(results['sizes'], settings.arms, sweep)
  left = [job for job in jobs if job.name not in results['inference']]
  config = arguments['model'].module.config
  if left:
    inference.measure(
      left,
      config,
      announce=announce,
      keep=lambda name, row: state.add('inference', name, row),
    )
  if not results['roofline']:
    announce('Compiling the phases of answering, for here and for a TPU ...')
    results['roofline'] = roofline.measure(jobs[0], config)
    state.save()


def _seeds(
  arguments: Mapping[str, Any], settings: settings_lib.Settings
) -> list[int]:
  return [arguments['random_seed'] + i for i in range(settings.num_seeds)]


def _shape(
  arguments: Mapping[str, Any],
  arm: updates.Arm,
  seed: int,
  num_updates: int,
  state: _State,
  announce: Callable[[str], None],
) -> updates.Shape:
  """The shape of an arm's updates, measured once."""
  shapes, name = state.results['shapes'], f'{arm.name}-{seed}-{num_updates}'
  if name not in shapes:
    announce(f'{arm.name}-{seed}: reading {num_updates} updates ...')
    shape = training.measure(arguments, arm, seed, num_updates)
    state.add('shapes', name, shape)
  found = dict(shapes[name])
  del found['inputs']
  return updates.Shape(**found)


class _State:
  """comparison.json, as it is on disk."""

  def __init__(self, folder: epath.Path, asked: Mapping[str, Any]):
    """Reads the file, or begins one.

    Raises:
      UserError: it is another comparison's, or cannot be read or written.
    """
    self.folder = folder
    self._path = folder / FILE
    parts = ('shapes', 'update_seconds', 'updates', 'sizes', 'inference')
    parts = (*parts, 'roofline', 'runs')
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
  arm: updates.Arm,
  shape: updates.Shape,
  model_dir: epath.Path,
) -> dict[str, Any]:
  """What a finished run amounts to, as JSON types."""
  found = curves.read(model_dir / 'tensorboard')
  rates = [rate for _, rate in found['train/steps_per_second']]
  task = arguments['train_dataset_cfg'].mixture_or_task_name
  prefix = f'eval/{arm.task(task)}/'
  config = arguments['model'].module.config
  work = costs.train_step(
    config, shape.rows, shape.encoder_length, shape.decoder_length
  )
  return {
    'arm': arm.name,
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
