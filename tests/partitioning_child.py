# Copyright 2026 The pid_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""Trains some steps on several meshes and prints the losses as JSON.

Run by partitioning_test.py with eight devices: their number is fixed when JAX
starts.
"""

import json

import jax
import trainer_toy as toy

from pid_jax import partitioning
from pid_jax.trainer import data
from pid_jax.trainer import optimizers
from pid_jax.trainer import start
from pid_jax.trainer import step as step_lib


def run(partitioner, batches) -> list[float]:
  model = toy.t5_model(num_heads=4, dropout_rate=0.1)
  optimizer = optimizers.adafactor(3e-2, max_grad_norm=1.0)
  shapes = step_lib.abstract_state(model, optimizer, partitioner)
  state = start.first_state(model, optimizer, partitioner, shapes, seed=0)
  train_step = step_lib.compile_train_step(
    model, optimizer, partitioner, shapes, seed=0
  )
  losses = []
  for batch in batches:
    state, metrics = train_step(state, partitioner.put_batch(batch))
    losses.append(float(metrics['loss'].compute()))
  kernel = state.params['encoder']['layers_0']['mlp']['wi']['kernel']
  parts = partitioner.mesh.shape['model']
  assert kernel.addressable_shards[0].data.shape[-1] == 32 // parts
  return losses


def main():
  assert jax.device_count() == 8
  iterator = data.TrainIterator(data.dataset(toy.dataset_config(seed=0), None))
  batches = [next(iterator) for _ in range(8)]
  two_dims = partitioning.standard_logical_axis_rules(1, 2)
  make = partitioning.Partitioner
  partitioners = {
    '1x1': make(devices=jax.devices()[:1]),
    '8x1': make(1),
    '4x2': make(2),
    '2x4': make(4),
    '4x2 2d': make(2, logical_axis_rules=two_dims),
  }
  losses = {name: run(p, batches) for name, p in partitioners.items()}
  print(json.dumps(losses))


if __name__ == '__main__':
  main()
