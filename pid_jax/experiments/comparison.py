# Copyright 2026 The pid_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""A comparison of PiD, PiE and joint on one task, resumed where it stopped.

    OUTPUT/comparison.json    what was asked for, and the results so far
    OUTPUT/runs/NAME-SEED     MODEL_DIR of a training run, of a layout or task

Every part is written when it is done, whole or not at all, and is not done
again. A training run that was stopped goes on from its last checkpoint. So the
same command, given again after any end, ends with the same results but for the
times that it measures.
"""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Mapping
import dataclasses
import gc
import json
import statistics
import time
from typing import Any

from etils import epath
import gin
import jax

from pid_jax import checks
from pid_jax import compilation
from pid_jax import errors
from pid_jax import strict_json
from pid_jax import trainer
from pid_jax.distributed import run_lock
from pid_jax.experiments import answering
from pid_jax.experiments import costs
from pid_jax.experiments import matched_batches
from pid_jax.experiments import output as output_lib
from pid_jax.experiments import roofline
from pid_jax.experiments import trainings
from pid_jax.experiments import workloads
from pid_jax.experiments.layouts import LAYOUTS
from pid_jax.experiments.output import say
from pid_jax.trainer import data
from pid_jax.viewer import curves

EQUAL = ('updates', 'seconds')
FILE = 'comparison.json'
_FORMAT = 2

# total_steps, or None for what was configured -> arguments of trainer.train.
Configure = Callable[[int | None], dict[str, Any]]


@dataclasses.dataclass(frozen=True)
class Settings:
  """What is compared.

  Attributes:
    layouts: of `layouts.LAYOUTS`; 'pid' must be among them.
    num_seeds: runs of each layout, with the seed of the run and those after it.
    equal: 'updates', or 'seconds': then PiD makes the updates that were
      configured, and the others as many as they manage in the time of these.
    granularities: further tasks that PiD is trained on, with the lengths of
      their features; see `matched_batches.Arm`.
  """

  layouts: tuple[str, ...] = LAYOUTS
  num_seeds: int = 3
  equal: str = 'updates'
  granularities: Mapping[str, Mapping[str, int]] = dataclasses.field(
    default_factory=dict
  )

  def __post_init__(self):
    for layout in self.layouts:
      if layout not in LAYOUTS:
        raise errors.unknown('layout', layout, LAYOUTS)
    if 'pid' not in self.layouts or len(set(self.layouts)) < len(self.layouts):
      raise errors.UserError(
        'name each layout once, and pid among them, for its updates are those '
        f'that the others make. Got {",".join(self.layouts)}.'
      )
    if self.equal not in EQUAL:
      raise errors.unknown('kind of equality', self.equal, EQUAL)
    checks.integer('seeds', self.num_seeds, 1, 1000)
    checks.mapping(
      'granularities',
      self.granularities,
      'a dictionary from task to feature lengths',
    )
    for task, lengths in self.granularities.items():
      data.DatasetConfig(task, lengths)  # Checks them.

  @classmethod
  def from_gin(cls, *args: Any) -> Settings:
    """Made of these fields, and of what gin says of others."""
    try:
      make = gin.get_configurable(cls)
    except ValueError:  # No gin file names it.
      make = cls
    return make(*args)

  @property
  def arms(self) -> list[matched_batches.Arm]:
    """All that is compared."""
    others = self.granularities.items()
    return [
      *[matched_batches.Arm(layout) for layout in self.layouts],
      *[matched_batches.Arm(task, lengths) for task, lengths in others],
    ]


def run(
  configure: Configure,
  settings: Settings,
  output: epath.PathLike,
  *,
  config_text: str,
  sweep: str = '',
) -> dict[str, Any]:
  """Does all that is left to do.

  Args:
    configure: gives the arguments of PiD's training; `model_dir`, `random_seed`
      and all that a layout needs otherwise are set here.
    settings: what is compared.
    output: a folder: new, empty, or of the same comparison.
    config_text: the configuration as text; a resumed one must have the same.
    sweep: letters of further inference jobs, see `answering.jobs`.

  Returns:
    The contents of comparison.json.

  Raises:
    UserError: a configuration that cannot be compared, or another comparison's
      folder.
    SystemExit: a signal stopped a training run; see `trainer.train`.
  """
  given = configure
  configure = lambda total_steps: trainings.fit_model(given(total_steps))
  arguments = configure(None)
  check(arguments, settings)
  cfg, checkpoint = (
    arguments.get(k) for k in ('train_dataset_cfg', 'checkpoint_cfg')
  )
  best = checkpoint.best_metric if checkpoint is not None else None
  workloads.read_sweeps(sweep)
  asked = {
    'format': _FORMAT,
    'task': cfg.mixture_or_task_name,
    'metric': best.rpartition('/')[2] if best else None,
    'settings': json.loads(json.dumps(dataclasses.asdict(settings))),
    'config': config_text,
    'model': arguments['model'].module.config.to_dict(),
    'untrained': why_untrained(arguments),
  }
  state = _State(epath.Path(output), asked)
  results = state.results
  _measure_costs(arguments, settings, state, sweep)
  if results['untrained']:
    say(f'Costs alone: {results["untrained"]}.')
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
    shape = _shape(arguments, arm, seed, num_updates, state)
    minutes = sum(seconds[arm.name] for arm, _ in left[index:]) / 60
    say(
      f'{name}: {num_updates} updates of {shape.rows} rows; runs to go: '
      f'{len(left) - index}, in at least {minutes:.0f} minutes'
    )
    model_dir = state.folder / 'runs' / name
    start, is_whole = time.monotonic(), not model_dir.exists()
    trainer.train(
      **trainings.arguments_of(
        configure(num_updates), arm, seed, shape, model_dir
      ),
      quiet=True,
    )
    if is_whole:
      seconds[arm.name] = time.monotonic() - start
    # What is left of a training are cycles, and free memory of its programs.
    gc.collect()
    compilation.release_memory()
    state.add('runs', name, _result(arguments, arm, shape, model_dir))
  return results


def _measure_costs(
  arguments: Mapping[str, Any],
  settings: Settings,
  state: _State,
  sweep: str,
) -> None:
  """Times updates and answers, and asks compilers about programs."""
  results, total = state.results, arguments['total_steps']
  seed = _seeds(arguments, settings)[0]
  is_trainable = has_targets(arguments)
  if is_trainable and not results['update_seconds']:
    shapes = {
      arm: _shape(arguments, arm, seed, total, state) for arm in settings.arms
    }
    say('Timing updates, in turns ...')
    results['update_seconds'] = trainings.time_updates(arguments, shapes)
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
      state.add('sizes', arm.name, answering.typical(cfg, arm, is_trainable))
  jobs = answering.jobs(results['sizes'], settings.arms, sweep)
  left = [job for job in jobs if job.name not in results['inference']]
  config = arguments['model'].module.config
  if left:
    for row in answering.measure(left, config):
      state.add('inference', row['name'], row)
  if not results['roofline']:
    say('Compiling the phases of answering, for here and for a TPU ...')
    results['roofline'] = roofline.measure(jobs[0], config)
    state.save()


def _seeds(arguments: Mapping[str, Any], settings: Settings) -> list[int]:
  return [arguments['random_seed'] + i for i in range(settings.num_seeds)]


def _shape(
  arguments: Mapping[str, Any],
  arm: matched_batches.Arm,
  seed: int,
  num_updates: int,
  state: _State,
) -> matched_batches.Shape:
  """The shape of an arm's updates, measured once."""
  shapes, name = state.results['shapes'], f'{arm.name}-{seed}-{num_updates}'
  if name not in shapes:
    say(f'{arm.name}-{seed}: reading {num_updates} updates ...')
    shape = matched_batches.measure(
      data.with_seed(arguments['train_dataset_cfg'], seed),
      arm,
      num_updates,
      arguments.get('num_microbatches', 1) * jax.device_count(),
    )
    state.add('shapes', name, dataclasses.asdict(shape))
  return matched_batches.Shape(**shapes[name])


class _State:
  """The contents of comparison.json, on disk and in memory."""

  def __init__(self, folder: epath.Path, asked: Mapping[str, Any]):
    """Reads the file, or writes a new one.

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
        found = strict_json.read_object(
          self._path, 'the comparison', allow_nan=True
        )
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
      is_empty = all(p.name == run_lock.FILE for p in folder.iterdir())
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
    output_lib.write_json(self._path, self.results)


def _result(
  arguments: Mapping[str, Any],
  arm: matched_batches.Arm,
  shape: matched_batches.Shape,
  model_dir: epath.Path,
) -> dict[str, Any]:
  """Returns the results of a finished run, as JSON types."""
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
  if _layout(task) != 'pid':
    raise errors.UserError(
      f'{task.name!r} cannot be compared: name the multi-prompt task of one '
      'registration (subtasks.register), not a mixture nor one of its layouts'
    )
  evaluation = arguments.get('infer_eval_dataset_cfg')
  is_trained = why_untrained(arguments) is None
  for arm in settings.arms:
    other = data.get_task(arm.task(task.name))
    data.check_split(other, cfg.split)
    if is_trained:
      data.check_split(other, evaluation.split)
    if arm.lengths is not None:
      _check_granularity(arm, other, task, cfg.task_feature_lengths)
  if not cfg.pack or 'decoder' not in cfg.task_feature_lengths:
    raise errors.UserError(
      "a comparison needs packed training: pack = True, and 'decoder' in "
      'TASK_FEATURE_LENGTHS'
    )
  if evaluation is not None and evaluation.num_examples is not None:
    raise errors.UserError(
      'num_examples of infer_eval/trainer.DatasetConfig counts rows, of which '
      'PiE has several for an example: leave it None, or name a smaller split'
    )


def has_targets(arguments: Mapping[str, Any]) -> bool:
  """Whether there is something to train on."""
  name = arguments['train_dataset_cfg'].mixture_or_task_name
  return data.get_task(name).layout.has_targets


def why_untrained(arguments: Mapping[str, Any]) -> str | None:
  """Why quality cannot be measured; None if it can be."""
  name, reason = arguments['train_dataset_cfg'].mixture_or_task_name, None
  if not has_targets(arguments):
    reason = 'the task has no targets'
  elif not arguments.get('infer_eval_dataset_cfg'):
    reason = 'the run has no infer_eval_dataset_cfg'
  elif not data.get_task(name).metric_fns:
    reason = 'the task has no metrics'
  return reason and f'{reason}, so that nothing was trained'


def _check_granularity(
  arm: matched_batches.Arm,
  other: Any,
  task: Any,
  lengths: Mapping[str, int],
) -> None:
  if _layout(other) != 'pid' or other.name == task.name:
    raise errors.UserError(
      f'the granularity {arm.name!r} is no multi-prompt task other than '
      f'{task.name!r}'
    )
  wanted = {'inputs', 'prompts', 'targets', 'subtasks', 'decoder'}
  if set(arm.lengths) != wanted or arm.lengths['inputs'] != lengths['inputs']:
    raise errors.UserError(
      f'the granularity {arm.name!r} needs lengths of {sorted(wanted)}, with '
      f"'inputs' as in TASK_FEATURE_LENGTHS: {lengths['inputs']}. Got "
      f'{dict(arm.lengths)}.'
    )


def _layout(task: Any) -> str | None:
  return getattr(getattr(task, 'layout', None), 'name', None)
