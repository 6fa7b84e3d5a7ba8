# Copyright 2026 The pid_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""The training loop, from top to bottom."""

from collections.abc import Callable
from collections.abc import Iterator
import contextlib
import dataclasses
from typing import Any

from etils import epath
import jax
import jax.numpy as jnp

from pid_jax import checkpoints
from pid_jax import errors
from pid_jax import model as model_lib
from pid_jax import partitioning
from pid_jax import progress as progress_lib
from pid_jax.distributed import run_lock as claim_lib
from pid_jax.trainer import checkpointer as checkpointer_lib
from pid_jax.trainer import data
from pid_jax.trainer import evaluation
from pid_jax.trainer import interruption
from pid_jax.trainer import io_errors
from pid_jax.trainer import optimizers
from pid_jax.trainer import reporting
from pid_jax.trainer import setup
from pid_jax.trainer import step as step_lib


def train(
  *,
  model: model_lib.EncoderDecoderModel,
  model_dir: str,
  train_dataset_cfg: data.DatasetConfig,
  optimizer: optimizers.Optimizer,
  total_steps: int,
  train_eval_dataset_cfg: data.DatasetConfig | None = None,
  infer_eval_dataset_cfg: data.DatasetConfig | None = None,
  eval_period: int = 1000,
  eval_steps: int = 20,
  checkpoint_cfg: checkpointer_lib.CheckpointConfig | None = None,
  initial_checkpoint_path: str | None = None,
  partitioner: partitioning.Partitioner | None = None,
  num_microbatches: int = 1,
  ema_decay: float | None = None,
  random_seed: int = 0,
  log_period: int = 100,
  summarize_config_fn: Callable[..., None] | None = None,
  quiet: bool = False,
) -> step_lib.TrainState:
  """Trains a model, or goes on where an earlier run in MODEL_DIR stopped.

  The run is a function of its arguments: however often it was stopped and
  started again, it ends with the same parameters, bit by bit, on the same
  machine.

  Args:
    model: network and loss; with `initial_checkpoint_path` the network takes
      the checkpoint's shape, see `setup.fit_to_checkpoint`.
    model_dir: where checkpoints, TensorBoard events, config.json and the
      vocabulary go; see `pid_jax.checkpoints`.
    train_dataset_cfg: what to train on.
    optimizer: see `trainer.optimizers`.
    total_steps: updates in all, those of earlier runs in MODEL_DIR included.
    train_eval_dataset_cfg: where to measure the loss; None: nowhere.
    infer_eval_dataset_cfg: where to predict and compute the task's metrics;
      None: nowhere.
    eval_period: steps from one evaluation to the next; one is made at the end
      besides.
    eval_steps: batches on which to measure the loss.
    checkpoint_cfg: when to write checkpoints, which to keep, which is best.
    initial_checkpoint_path: a checkpoint to begin with the parameters of:
      MODEL_DIR of a run or one of its checkpoints, of ours or of T5X's, or a
      folder of Hugging Face's. Without effect on a run that goes on.
    partitioner: the mesh; all devices on the data axis by default.
    num_microbatches: parts of a batch whose gradients are added up, to save
      memory.
    ema_decay: keep an exponential moving average of the parameters, which is
      then what is evaluated and served; None: do not.
    random_seed: of initialisation, dropout, and data without a seed of its own.
    log_period: steps from one report to the next.
    summarize_config_fn: called with (model_dir, writer, step) once all is set
      up, to write the configuration down.
    quiet: say nothing but the metrics of evaluations, and warnings.

  Returns:
    The state after the last step.

  Raises:
    UserError: a configuration that cannot work, a full disk, a loss that is
      not finite.
    SystemExit: after SIGTERM (status 143) or SIGINT (130), with a checkpoint
      of the step that it came in.
  """
  # Set-up. All that can be wrong is found here, before anything is written.
  claim = claim_lib.RunLock(model_dir, enabled=jax.process_index() == 0)
  claim.check()
  checkpoint_cfg = checkpoint_cfg or checkpointer_lib.CheckpointConfig()
  partitioner = partitioner or partitioning.Partitioner()
  partitioner.check_batch_size(train_dataset_cfg.batch_size, num_microbatches)
  train_dataset_cfg = dataclasses.replace(
    data.with_seed(train_dataset_cfg, random_seed),
    task_feature_lengths=data.feature_lengths(train_dataset_cfg),
  )
  num_shards = data.find_num_shards(
    train_dataset_cfg,
    checkpointer_lib.saved_files(model_dir)
    if checkpoint_cfg.save_dataset
    else [],
  )
  configured, initial = model.module.config, None
  if initial_checkpoint_path is not None:
    initial = setup.open_initial(initial_checkpoint_path)
    model = setup.fit_to_checkpoint(model, initial, train_dataset_cfg)
  setup.find_vocabulary(model, train_dataset_cfg)
  optimizer.learning_rate(0)  # Raises if the schedule cannot be.
  setup.check_targets(train_dataset_cfg)
  shapes = step_lib.abstract_state(
    model, optimizer, partitioner, ema=ema_decay is not None
  )
  train_step = step_lib.compile_train_step(
    model,
    optimizer,
    partitioner,
    shapes,
    seed=random_seed,
    num_microbatches=num_microbatches,
    ema_decay=ema_decay,
  )
  stop = interruption.Interruption()
  with io_errors.reads_explained('the data to evaluate on'):
    evaluators = evaluation.Evaluators(
      model,
      partitioner,
      infer_cfg=infer_eval_dataset_cfg,
      loss_cfg=train_eval_dataset_cfg,
      loss_batches=eval_steps,
      should_stop=lambda: bool(stop),
    )
  checkpoint_cfg = dataclasses.replace(
    checkpoint_cfg,
    best_metric=evaluators.find_metric(checkpoint_cfg.best_metric),
  )
  batch_size = train_dataset_cfg.batch_size
  iterator = data.ShardedIterator(
    train_dataset_cfg,
    num_shards,
    partitioner.rows_of_processes(batch_size),
  )

  with contextlib.ExitStack() as stack:
    stack.enter_context(_failures_explained(model_dir))
    stack.enter_context(claim)
    claim.check_shared()
    setup.describe(model, model_dir, train_dataset_cfg, checkpoint_cfg)
    checkpointer = stack.enter_context(
      checkpointer_lib.Checkpointer(model_dir, checkpoint_cfg)
    )
    writer = reporting.tensorboard_writer(model_dir)
    stack.callback(writer.flush)

    # The first state, or that of the last checkpoint.
    restored = checkpointer.restore(shapes, iterator.needs)
    if restored is None:
      with io_errors.reads_explained(
        f'the checkpoint {initial_checkpoint_path}'
      ):
        state = setup.first_state(
          model,
          optimizer,
          partitioner,
          shapes,
          seed=random_seed,
          initial=initial,
        )
      if initial is not None and not quiet:
        reporting.tell(
          setup.describe_initial(initial, configured, model.module.config)
        )
    else:
      state, position = restored
      if position is not None:
        iterator.restore(position)
    first_step = int(state.step)
    if summarize_config_fn is not None:
      summarize_config_fn(model_dir, writer, first_step)
    if not quiet:
      reporting.announce(
        model_dir, shapes, partitioner, first_step, total_steps
      )
    progress = stack.enter_context(
      progress_lib.Progress(
        total_steps,
        label='train',
        start=first_step,
        enabled=jax.process_index() == 0 and not quiet,
      )
    )
    reporter = reporting.Reporter(writer, progress, first_step)
    stack.enter_context(stop)

    def save(step: int, metrics: dict[str, float] | None = None) -> None:
      reporter.flush()
      if not _all_finite(state.params):
        raise reporting.NonFiniteError(step)
      if checkpointer.last_saved != step:
        claim.still_held()
        position = iterator.save() if checkpoint_cfg.save_dataset else None
        checkpointer.save(step, state, position, metrics)

    def is_due(step: int) -> bool:
      is_last = step == total_steps
      return bool(evaluators) and (is_last or step % eval_period == 0)

    def evaluate(step: int) -> dict[str, float] | None:
      values = evaluators.evaluate(state.eval_params, step)
      if values is not None:
        reporting.write_evaluation(writer, step, values)
      return values

    # An evaluation that was interrupted is made up for.
    end = total_steps
    if restored is not None and is_due(first_step):
      if not checkpoints.read_metrics(model_dir, first_step):
        values = evaluate(first_step)
        if values is None:
          end = first_step
        else:
          checkpointer.add_metrics(first_step, values)
        reporter.restart_clock()

    # Steps.
    for step in range(first_step + 1, end + 1):
      with io_errors.reads_explained('the training data'):
        own_rows = next(iterator)
      batch = partitioner.put_batch(own_rows, batch_size)
      state, metrics = train_step(state, batch)
      reporter.add(step, metrics)

      is_last = step == total_steps
      if is_last or step % log_period == 0:
        reporter.flush()
      if is_due(step):
        reporter.flush()
        save(step, evaluate(step))
        reporter.restart_clock()
      elif is_last or step % checkpoint_cfg.period == 0:
        save(step)
      if stop:
        save(step)
        break

  if stop:
    reporting.tell(
      f'stopped by {stop.signal.name} after step {int(state.step)}, which is '
      'saved; the same command goes on from there'
    )
    raise SystemExit(stop.exit_status)
  return state


@contextlib.contextmanager
def _failures_explained(model_dir: str) -> Iterator[None]:
  """Turns a full disk or a loss that is not finite into a UserError."""
  try:
    with io_errors.faults_explained(model_dir):
      yield
  except reporting.NonFiniteError as e:
    good = checkpoints.steps(model_dir)
    if good:
      path = epath.Path(model_dir) / checkpoints.CHECKPOINTS / str(good[-1])
      last = f'The last good checkpoint is that of step {good[-1]}, {path}'
    else:
      last = 'No checkpoint had been written before'
    raise errors.UserError(
      f'The loss, its gradient or a parameter is not finite at step {e.step}. '
      f'{last}. Lower the learning rate or clip gradients (max_grad_norm).'
    ) from e


@jax.jit
def _all_finite(tree: Any) -> jax.Array:
  leaves = jax.tree.leaves(tree)
  return jnp.all(jnp.stack([jnp.all(jnp.isfinite(leaf)) for leaf in leaves]))
