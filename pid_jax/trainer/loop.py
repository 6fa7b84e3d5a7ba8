# Copyright 2026 The pid_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""The train loop, from top to bottom.

Each phase stands under a heading, in the order in which it runs.
"""

from collections.abc import Callable
from collections.abc import Iterator
import contextlib
import dataclasses
import os
import time
from typing import Any

from clu import metric_writers
from etils import epath
import jax
import jax.numpy as jnp

from pid_jax import checkpoints
from pid_jax import errors
from pid_jax import files
from pid_jax import model as model_lib
from pid_jax import partitioning
from pid_jax import progress as progress_lib
from pid_jax.distributed import run_lock as run_lock_lib
from pid_jax.inference import options as options_lib
from pid_jax.trainer import checkpointer as checkpointer_lib
from pid_jax.trainer import data
from pid_jax.trainer import evaluation
from pid_jax.trainer import interruption as interruption_lib
from pid_jax.trainer import io_errors
from pid_jax.trainer import optimizers
from pid_jax.trainer import reporting
from pid_jax.trainer import run_record
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
  decoding_options: options_lib.DecodingOptions | None = None,
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
  """Trains a model, or resumes an earlier run in MODEL_DIR.

  The run is a function of its arguments: however often it was stopped and
  resumed, it ends with the same parameters, bit by bit, on the same machine.
  `run_record` says which arguments may change when it is resumed.

  Args:
    model: network and loss; with `initial_checkpoint_path` the network takes
      the checkpoint's shape, see `setup.fit_to_checkpoint`.
    model_dir: where checkpoints, TensorBoard events, config.json and the
      vocabulary go; see `pid_jax.checkpoints`.
    train_dataset_cfg: what to train on.
    optimizer: see `trainer.optimizers`.
    total_steps: number of updates, those of earlier runs in MODEL_DIR included.
    train_eval_dataset_cfg: where to measure the loss; None: nowhere.
    infer_eval_dataset_cfg: where to predict and compute the task's metrics;
      None: nowhere.
    decoding_options: of these predictions, as in `PromptInDecoder.generate`;
      None: the model's sampler, greedy by default.
    eval_period: steps from one evaluation to the next; there is also one at the
      end.
    eval_steps: number of batches on which to measure the loss.
    checkpoint_cfg: when to write checkpoints, which to keep, which is best.
    initial_checkpoint_path: the checkpoint that gives the first parameters:
      MODEL_DIR of a run or one of its checkpoints, of pid_jax or T5X, or a
      folder of Hugging Face's. Without effect on a run that is resumed.
    partitioner: the mesh; all devices on the data axis by default.
    num_microbatches: number of parts of a batch whose gradients are
      accumulated, to save memory.
    ema_decay: of an exponential moving average of the parameters, which is then
      evaluated and served; None: keep none.
    random_seed: of initialisation, dropout, and data whose configuration has no
      seed.
    log_period: steps from one report to the next.
    summarize_config_fn: called with (model_dir, writer, step) after the set-up,
      to write the configuration down; not if no step is left.
    quiet: report only the metrics of evaluations, and warnings.

  Returns:
    The state after the last step.

  Raises:
    UserError: an argument that cannot work, or differs from those of the run
      in MODEL_DIR; a full disk, a loss that is not finite.
    SystemExit: after SIGTERM (status 143) or SIGINT (130; of many processes
      143), with a checkpoint of the step at which the run stopped.
  """
  # --- Check the configuration: nothing is written before all of it is valid.
  arguments, began = dict(locals()), time.monotonic()
  setup.check_arguments(arguments)
  model_dir = os.fspath(files.absolute(model_dir, 'MODEL_DIR'))
  run_lock = run_lock_lib.RunLock(model_dir, enabled=jax.process_index() == 0)
  run_lock.check()
  if jax.process_index() == 0:
    checkpoints.check_own(model_dir, ('config.gin', run_record.FILE))
  checkpoint_cfg = checkpoint_cfg or checkpointer_lib.CheckpointConfig()
  partitioner = partitioner or partitioning.Partitioner()
  setup.check_datasets(
    train_dataset_cfg, train_eval_dataset_cfg, infer_eval_dataset_cfg
  )
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
  model = setup.choose_scanning(model, partitioner, model_dir)
  configured, initial = model.module.config, None
  if initial_checkpoint_path is not None:
    initial = setup.open_initial(initial_checkpoint_path)
    model = setup.fit_to_checkpoint(model, initial, train_dataset_cfg)
  setup.check_vocabularies(
    model,
    initial,
    train_dataset_cfg,
    train_eval_dataset_cfg,
    infer_eval_dataset_cfg,
  )
  setup.check_targets(train_dataset_cfg)
  shapes = step_lib.abstract_state(
    model, optimizer, partitioner, ema=ema_decay is not None
  )
  setup.check_memory(
    shapes,
    model.module.config,
    train_dataset_cfg,
    partitioner,
    num_microbatches,
  )
  with io_errors.reads_explained('the training data'):
    record = run_record.Record(
      model_dir,
      run_record.settings(
        arguments
        | {
          'model': model,
          'train_dataset_cfg': train_dataset_cfg,
          'checkpoint_cfg': checkpoint_cfg,
          'partitioner': partitioner,
        }
      ),
    )
  with record.named_where_they_do_not_fit():
    checkpointer_lib.check_last(model_dir, shapes)

  # --- Build the train step, the evaluators and the training data.
  train_step = step_lib.compile_train_step(
    model,
    optimizer,
    partitioner,
    shapes,
    seed=random_seed,
    num_microbatches=num_microbatches,
    ema_decay=ema_decay,
  )
  interruption = interruption_lib.Interruption()
  with io_errors.reads_explained('the data to evaluate on'):
    evaluators = evaluation.Evaluators(
      model,
      partitioner,
      infer_cfg=infer_eval_dataset_cfg,
      loss_cfg=train_eval_dataset_cfg,
      loss_batches=eval_steps,
      should_stop=interruption.requested,
      decoding_options=decoding_options,
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
    # --- Lock MODEL_DIR and describe the model there.
    stack.enter_context(_errors_explained(model_dir))
    stack.enter_context(run_lock)
    run_lock.check_shared()
    setup.describe(model, model_dir, train_dataset_cfg, checkpoint_cfg)
    checkpointer = stack.enter_context(
      checkpointer_lib.Checkpointer(model_dir, checkpoint_cfg)
    )
    writer = reporting.tensorboard_writer(model_dir)
    stack.callback(writer.flush)

    # --- Restore the last checkpoint, or initialise the state.
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
        reporting.logger.info(
          setup.describe_initial(initial, configured, model.module.config)
        )
    else:
      state, position = restored
      if position is not None:
        iterator.restore(position)
    first_step = int(state.step)

    # --- Record and report what is about to run.
    if jax.process_index() == 0:
      with io_errors.reads_explained('the training data'):
        setup.warn_of_lost_text(train_dataset_cfg)
    record.report()
    if first_step < total_steps:  # Else nothing is trained with the settings.
      record.append(first_step)
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
    reporter = reporting.Reporter(writer, progress, first_step, logs=not quiet)
    stack.enter_context(interruption)
    run = _Run(
      evaluators=evaluators,
      checkpointer=checkpointer,
      run_lock=run_lock,
      iterator=iterator if checkpoint_cfg.save_dataset else None,
      writer=writer,
      reporter=reporter,
    )
    is_eval_step = lambda step: (
      bool(evaluators) and (step == total_steps or step % eval_period == 0)
    )

    # --- Run the evaluation that was interrupted.
    if (
      restored is not None
      and is_eval_step(first_step)
      and not checkpoints.read_metrics(model_dir, first_step)
    ):
      metrics = _evaluate(run, state)
      if metrics is not None:
        checkpointer.add_metrics(first_step, metrics)
      reporter.restart_clock()

    # --- Train.
    end = total_steps if interruption.signal is None else first_step
    for step in range(first_step + 1, end + 1):
      with io_errors.reads_explained('the training data'):
        rows = next(iterator)
      batch = partitioner.put_batch(rows, batch_size)
      state, metrics = train_step(state, batch)
      reporter.add(step, metrics)

      is_last = step == total_steps
      if is_last or step % log_period == 0:
        reporter.flush()
      else:
        reporter.show_first(step)
      if is_eval_step(step):
        _save(run, state, _evaluate(run, state))
        reporter.restart_clock()
      elif is_last or step % checkpoint_cfg.period == 0:
        _save(run, state)
      if interruption.requested():
        _save(run, state)
        break

  # --- Everything is written: stop, or return.
  if interruption.signal is not None:
    reporting.logger.info(
      'stopped by %s after step %d, which is saved; the same command resumes '
      'from there',
      *(interruption.signal.name, int(state.step)),
    )
    raise SystemExit(interruption.exit_status)
  if not quiet and jax.process_index() == 0:
    step = int(state.step)
    seconds = None if step == first_step else time.monotonic() - began
    reporting.close(model_dir, step, seconds, checkpoint_cfg.best_metric)
  return state


@dataclasses.dataclass(frozen=True)
class _Run:
  """What evaluating and saving need besides the state.

  Attributes:
    iterator: the training data whose position is saved; None: do not save it.
  """

  evaluators: evaluation.Evaluators
  checkpointer: checkpointer_lib.Checkpointer
  run_lock: run_lock_lib.RunLock
  iterator: data.ShardedIterator | None
  writer: metric_writers.MetricWriter
  reporter: reporting.Reporter


def _evaluate(run: _Run, state: step_lib.TrainState) -> dict[str, float] | None:
  """Evaluates a state and reports its metrics.

  Returns:
    'TASK/METRIC' -> value; None if the evaluation was interrupted.

  Raises:
    NonFiniteError: an update before was not finite.
  """
  run.reporter.flush()
  step = int(state.step)
  metrics = run.evaluators.evaluate(state.eval_params, step)
  if metrics is not None:
    reporting.write_evaluation(run.writer, step, metrics)
  return metrics


def _save(
  run: _Run,
  state: step_lib.TrainState,
  metrics: dict[str, float] | None = None,
) -> None:
  """Begins to write a checkpoint, unless this step has one.

  Raises:
    NonFiniteError: a loss, gradient or parameter is not finite. Nothing is
      written then.
    UserError: another run has taken MODEL_DIR over.
  """
  run.reporter.flush()
  step = int(state.step)
  if not _all_finite(state.params):
    raise reporting.NonFiniteError(step)
  if run.checkpointer.last_saved != step:
    run.run_lock.check_held()
    position = None if run.iterator is None else run.iterator.save()
    run.checkpointer.save(step, state, position, metrics)


@contextlib.contextmanager
def _errors_explained(model_dir: str) -> Iterator[None]:
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
      f'{last}. Lower LEARNING_RATE, which this MODEL_DIR may change, or clip '
      'gradients (max_grad_norm of the optimizer) in another MODEL_DIR.'
    ) from e


@jax.jit
def _all_finite(tree: Any) -> jax.Array:
  leaves = jax.tree.leaves(tree)
  return jnp.all(jnp.stack([jnp.all(jnp.isfinite(leaf)) for leaf in leaves]))
