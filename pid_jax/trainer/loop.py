# Copyright 2026 The pid_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""The training loop, from top to bottom."""

from clu import metric_writers
import jax

from pid_jax import model as model_lib
from pid_jax import partitioning
from pid_jax import progress as progress_lib
from pid_jax.trainer import data
from pid_jax.trainer import optimizers
from pid_jax.trainer import reporting
from pid_jax.trainer import step as step_lib


def train(
  *,
  model: model_lib.EncoderDecoderModel,
  model_dir: str,
  train_dataset_cfg: data.DatasetConfig,
  optimizer: optimizers.Optimizer,
  total_steps: int,
  partitioner: partitioning.Partitioner | None = None,
  random_seed: int = 0,
  num_microbatches: int = 1,
  ema_decay: float | None = None,
  log_period: int = 100,
) -> step_lib.TrainState:
  partitioner = partitioner or partitioning.Partitioner()
  partitioner.check_batch_size(train_dataset_cfg.batch_size, num_microbatches)
  iterator = data.TrainIterator(data.dataset(train_dataset_cfg, None))
  ema = ema_decay is not None
  shapes = step_lib.abstract_state(model, optimizer, partitioner, ema)
  init = jax.jit(
    lambda rng: step_lib.initial_state(model, optimizer, rng, ema),
    out_shardings=jax.tree.map(lambda s: s.sharding, shapes),
  )
  with partitioner.scope():
    state = init(jax.random.key(random_seed))
  train_step = step_lib.compile_train_step(
    model,
    optimizer,
    partitioner,
    shapes,
    seed=random_seed,
    num_microbatches=num_microbatches,
    ema_decay=ema_decay,
  )
  writer = metric_writers.SummaryWriter(model_dir + '/tensorboard')
  with progress_lib.Progress(total_steps, label='train') as progress:
    reporter = reporting.Reporter(writer, progress, 0)
    for step in range(1, total_steps + 1):
      batch = partitioner.put_batch(next(iterator))
      state, metrics = train_step(state, batch)
      reporter.add(step, metrics)
      if step % log_period == 0 or step == total_steps:
        reporter.flush()
  writer.flush()
  return state
