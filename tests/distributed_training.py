# Copyright 2026 The pid_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""Trains the toy as one process of several; run by distributed_run_test.py.

Notes the loss and the examples of each step in a file of its own, so that the
test can compare runs, and harms itself as it is told.
"""

import argparse
import json
import os
import pathlib
import signal
import time

from pid_jax import cli


def note_steps(args) -> None:
  """Makes each step note itself in LOG.PROCESS, and then do as told."""
  import jax
  import numpy as np
  from toys import training as toy

  from pid_jax.trainer import step as step_lib

  compile_train_step = step_lib.compile_train_step
  path = pathlib.Path(f'{args.log}.{jax.process_index()}')

  def compile_and_note(*arguments, **kwargs):
    train_step = compile_train_step(*arguments, **kwargs)

    def noted(state, batch):
      step = int(state.step) + 1
      own = {
        name: np.concatenate(
          [np.asarray(shard.data) for shard in x.addressable_shards]
        )
        for name, x in batch.items()
      }
      state, metrics = train_step(state, batch)
      loss = float(metrics['loss'].compute())
      line = {'step': step, 'loss': loss, 'examples': toy.example_numbers(own)}
      with path.open('a') as f:
        f.write(json.dumps(line) + '\n')
      if args.at and args.at[:2] == [jax.process_index(), step]:
        os.kill(os.getpid(), args.at[2])
        if args.at[2] == signal.SIGKILL:
          time.sleep(60)
      return state, metrics

    return noted

  step_lib.compile_train_step = compile_and_note


def main(args) -> None:
  from toys import training as toy

  from pid_jax import partitioning
  from pid_jax import trainer

  note_steps(args)
  evaluations = dict(
    infer_eval_dataset_cfg=toy.dataset_config('validation'),
    train_eval_dataset_cfg=toy.dataset_config(
      'validation', pack=True, batch_size=4
    ),
  )
  toy.train(
    args.model_dir,
    total_steps=args.steps,
    train_dataset_cfg=toy.dataset_config(num_shards=args.num_shards),
    checkpoint_cfg=trainer.CheckpointConfig(period=args.period),
    **(evaluations if args.evaluate else {}),
    partitioner=partitioning.Partitioner(args.num_partitions),
    log_period=2,
  )


def flags(parser: argparse.ArgumentParser) -> None:
  add = parser.add_argument
  add('--model_dir')
  add('--log')
  add('--steps', type=int, default=50)
  add('--period', type=int, default=1000)
  add('--evaluate', type=int, default=0)
  add('--num_partitions', type=int, default=1)
  add('--num_shards', type=int)
  add('--at', type=json.loads, help='[process, step, signal]')


if __name__ == '__main__':
  cli.run(
    main,
    __doc__,
    flags,
    preload=['seqio'],
    join=True,
    stops_on_preemption=True,
  )
