# Copyright 2026 The pid_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""Writes a run's checkpoints, chooses which to keep, and restores the last.

Parameters, optimizer state and the position in the data are the items of one
orbax step: written in the background, and renamed when complete. Whenever a
process is killed, the newest step is complete and its items belong together.
"""

import asyncio
from collections.abc import Callable
from collections.abc import Mapping
import contextlib
import dataclasses
import functools
import json
import math
from typing import Any

from etils import epath
import jax
import orbax.checkpoint as ocp

from pid_jax import checkpoints
from pid_jax import checks
from pid_jax import distributed
from pid_jax import errors
from pid_jax import file_errors
from pid_jax import files
from pid_jax.trainer import io_errors
from pid_jax.trainer import reporting
from pid_jax.trainer import step as step_lib

PyTree = Any


@dataclasses.dataclass(frozen=True)
class CheckpointConfig:
  """Which checkpoints to write and to keep.

  Attributes:
    period: steps from one checkpoint to the next; there is also one after each
      evaluation and one at the end.
    keep: number of the newest checkpoints to keep; None for all.
    keep_best: number of the best checkpoints to keep besides.
    best_metric: what 'best' means, 'TASK/METRIC'; 'first': the first metric of
      the task that is evaluated; None: no step is best. For a run of TASK_pie
      or TASK_joint, 'TASK/METRIC' means that of the layout which is trained.
    best_mode: 'max' or 'min'.
    save_dataset: whether to save the position in the training data, so that a
      run resumes with the next example.

  Raises:
    UserError: a value of another type or out of its range.
  """

  period: int = 1000
  keep: int | None = 2
  keep_best: int = 1
  best_metric: str | None = None
  best_mode: str = 'max'
  save_dataset: bool = True

  def __post_init__(self):
    name = 'CheckpointConfig.{}'.format
    checks.integer(name('period (CHECKPOINT_PERIOD)'), self.period, 1)
    if self.keep is not None:
      checks.integer(name('keep'), self.keep, 1)
    checks.integer(name('keep_best'), self.keep_best, 0)
    if self.best_metric is not None:
      checks.string(name('best_metric'), self.best_metric)
    checks.one_of(name('best_mode'), self.best_mode, ('max', 'min'))
    checks.boolean(name('save_dataset'), self.save_dataset)

  @property
  def selection(self) -> dict[str, str] | None:
    """What goes into config.json for `checkpoints.load(step='best')`."""
    if self.best_metric is None:
      return None
    return {'metric': self.best_metric, 'mode': self.best_mode}


class FilesHandler(ocp.AsyncCheckpointHandler):
  """Writes named files as an item of an orbax checkpoint.

  Each process writes the files that it is given, under names that no other
  process uses.
  """

  async def async_save(self, directory, args):
    return [
      ocp.future.CommitFutureAwaitingContractedSignals(
        self._write(directory, args.files), name='files'
      )
    ]

  async def _write(self, directory: epath.Path, files: Mapping[str, bytes]):
    for name, content in files.items():
      (directory / name).write_bytes(content)

  def save(self, directory, args):
    asyncio.run(self._write(directory, args.files))

  def restore(self, directory: epath.Path, args) -> dict[str, bytes]:
    """Returns the wanted files, name -> content, of all processes."""
    return {
      path.name: path.read_bytes()
      for path in epath.Path(directory).iterdir()
      if args.wanted(path.name)
    }


@ocp.args.register_with_handler(FilesHandler, for_save=True)
@dataclasses.dataclass
class FilesSave(ocp.args.CheckpointArgs):
  """Files to write: name -> content, of this process."""

  files: Mapping[str, bytes]


@ocp.args.register_with_handler(FilesHandler, for_restore=True)
@dataclasses.dataclass
class FilesRestore(ocp.args.CheckpointArgs):
  """Which files to read, by name."""

  wanted: Callable[[str], bool]


def saved_files(model_dir: epath.PathLike) -> list[str]:
  """Returns the names of the files that hold the last position in the data."""
  steps = checkpoints.steps(model_dir)
  if not steps:
    return []
  folder = checkpoints.checkpoints_path(model_dir) / str(steps[-1]) / 'data'
  return [path.name for path in folder.iterdir()] if folder.is_dir() else []


def check_last(model_dir: epath.PathLike, shapes: step_lib.TrainState) -> None:
  """Checks that the last step, if there is one, holds a state of these shapes.

  Args:
    model_dir: local, or gs://.
    shapes: the run's state, as ShapeDtypeStructs.

  Raises:
    UserError: it is of another model or optimizer.
  """
  steps = checkpoints.steps(model_dir)
  if steps:
    folder = checkpoints.checkpoints_path(model_dir) / str(steps[-1])
    served, rest = _split(shapes)
    checkpoints.check_saved(folder / 'params', served)
    checkpoints.check_saved(folder / 'state', rest)


class _Manager(ocp.CheckpointManager):
  """Leaves JAX's preemption service to `interruption`.

  Orbax would ask it about its steps, also about old ones in the background,
  but the service has one count of checks per process.
  """

  def reached_preemption(self, step: int) -> bool:
    return False


class Checkpointer:
  """Writes and restores the steps of one MODEL_DIR.

  A context: its end waits until everything is written.
  """

  def __init__(self, model_dir: epath.PathLike, cfg: CheckpointConfig):
    self._cfg = cfg
    self._path = checkpoints.checkpoints_path(model_dir)
    policies = ocp.checkpoint_managers
    keep = [policies.LatestN(cfg.keep)]
    metric = cfg.best_metric
    if metric is not None and cfg.keep_best:
      keep.append(
        policies.BestN(
          get_metric_fn=functools.partial(_rank, cfg),
          reverse=cfg.best_mode == 'min',
          n=cfg.keep_best,
          keep_checkpoints_without_metrics=False,
        )
      )
    options = ocp.CheckpointManagerOptions(
      preservation_policy=policies.AnyPreservationPolicy(keep),
      # Without a best_fn orbax does not write metrics.
      best_fn=lambda metrics: metrics.get(metric, 0.0),
      best_mode=cfg.best_mode,
      cleanup_tmp_directories=True,
      save_root_metadata=False,
    )
    for step in checkpoints.steps(model_dir):
      checkpoints.read_metrics(model_dir, step)  # Orbax would not say where.
    self._manager = _Manager(self._path, options=options)
    self.last_saved = self._manager.latest_step()

  def save(
    self,
    step: int,
    state: step_lib.TrainState,
    data: Mapping[str, bytes] | None,
    metrics: Mapping[str, float] | None = None,
  ) -> None:
    """Begins to write a step; returns when `state` may be donated.

    Args:
      step: number of updates made.
      state: of the run.
      data: position in the training data, the files of this process; None saves
        no position.
      metrics: of the evaluation at this step, if there was one.

    Raises:
      UserError: the evaluation lacks the metric that 'best' means. The step is
        written all the same.
      OSError or ValueError: the disk is full; also of the previous write.
    """
    best = self._cfg.best_metric
    has_best = metrics is None or best is None or best in metrics
    served, rest = _split(state)
    items = {
      'params': checkpoints.TreeSave(served),
      'state': checkpoints.TreeSave(rest),
    }
    if data is not None:
      items['data'] = FilesSave(data)
    io_errors.check_space(self._path, _num_bytes(state, data))
    self._manager.save(
      step,
      args=ocp.args.Composite(**items),
      metrics=(
        checkpoints.with_checksum(metrics) if metrics and has_best else None
      ),
      force=True,
    )
    self.last_saved = step
    if not has_best:
      raise errors.unknown('CheckpointConfig.best_metric', best, metrics)

  def add_metrics(self, step: int, metrics: Mapping[str, float]) -> None:
    """Adds metrics to a step that was written before its evaluation.

    Args:
      step: of a checkpoint.
      metrics: of the evaluation.

    Raises:
      UserError: the evaluation lacks the metric that 'best' means.
    """
    best = self._cfg.best_metric
    if best is not None and best not in metrics:
      raise errors.unknown('CheckpointConfig.best_metric', best, metrics)
    if jax.process_index() == 0:
      folder = self._path / str(step) / 'metrics'
      folder.mkdir(exist_ok=True)
      content = json.dumps(checkpoints.with_checksum(metrics)).encode()
      files.write(folder / 'metrics', content)  # As orbax writes them.
    distributed.barrier('add_metrics')
    self._manager.reload()

  def restore(
    self,
    shapes: step_lib.TrainState,
    wanted: Callable[[str], bool] = lambda name: False,
  ) -> tuple[step_lib.TrainState, dict[str, bytes] | None] | None:
    """Restores the last step.

    Args:
      shapes: the run's state as ShapeDtypeStructs with formats, see
        `check_last`.
      wanted: whether to read a file of the position in the data, by its name;
        none by default.

    Returns:
      The state and the position in the data (None where none was saved); or
      None if there is no checkpoint.

    Raises:
      UserError: the checkpoint is damaged, or of another model or optimizer.
    """
    step = self._manager.latest_step()
    if step is None:
      return None
    folder = self._path / str(step)
    served, rest = _split(shapes)
    items = {
      'params': checkpoints.TreeRestore(served),
      'state': checkpoints.TreeRestore(rest),
    }
    if self._cfg.save_dataset and (folder / 'data').exists():
      items['data'] = FilesRestore(wanted)
    try:
      restored = self._manager.restore(step, args=ocp.args.Composite(**items))
    except errors.UserError as e:  # Damage that only this process may have met.
      raise io_errors.ReadError(str(e)) from e
    state = _join(restored['params'], restored['state'])
    return state, restored.get('data')

  def __enter__(self) -> 'Checkpointer':
    return self

  def __exit__(self, unused_kind, error, unused_traceback) -> None:
    """Waits until everything is written, unless an error makes that pointless.

    One of many processes that fails alone does not wait for the others, which
    may never arrive. After a fault of the disk the incomplete step is removed,
    since it may be what fills the disk; otherwise orbax does so at the next
    start.
    """
    if distributed.process_count() > 1 and not _is_common(error):
      return
    if not file_errors.fault(error):
      self._manager.close()
      return
    with contextlib.suppress(Exception):  # It would only repeat the fault.
      self._manager.close()
    if jax.process_index() == 0 and self._path.exists():
      for path in self._path.iterdir():
        if ocp.path.step.is_path_temporary(path):
          path.rmtree(missing_ok=True)


def _rank(cfg: CheckpointConfig, metrics: Mapping[str, float]) -> float:
  """Returns what the best checkpoints are chosen by; NaN and none are worst."""
  worst = -math.inf if cfg.best_mode == 'max' else math.inf
  # An earlier run of this MODEL_DIR may have evaluated something else.
  value = metrics.get(cfg.best_metric, worst)
  return worst if math.isnan(value) else value


def _is_common(error: BaseException | None) -> bool:
  """Whether all processes of a run raise such an error together."""
  known = errors.UserError | reporting.NonFiniteError
  if isinstance(error, io_errors.ReadError):
    return False
  return not isinstance(error, Exception) or isinstance(error, known)


def _num_bytes(
  state: step_lib.TrainState, data: Mapping[str, bytes] | None
) -> int:
  """Returns the bytes that this process is about to write, with metadata."""
  arrays = sum(leaf.nbytes for leaf in jax.tree.leaves(state))
  files = sum(map(len, data.values())) if data else 0
  return arrays // jax.process_count() + files + (1 << 18)


def _split(state: step_lib.TrainState) -> tuple[PyTree, PyTree]:
  """Returns the parameters to serve, and everything else."""
  rest = {'step': state.step, 'opt_state': state.opt_state}
  if state.ema_params is not None:
    rest['params'] = state.params
  return state.eval_params, rest


def _join(served: PyTree, rest: PyTree) -> step_lib.TrainState:
  """Undoes `_split`."""
  has_ema = 'params' in rest
  return step_lib.TrainState(
    step=rest['step'],
    params=rest['params'] if has_ema else served,
    opt_state=rest['opt_state'],
    ema_params=served if has_ema else None,
  )
