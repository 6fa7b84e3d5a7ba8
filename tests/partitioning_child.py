# Copyright 2026 The pid_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""Trains some steps on each mesh named; prints what came out and where it was.

Run by partitioning_test.py with eight devices: their number is fixed when JAX
starts.
"""

import json
import sys

import jax
import numpy as np
from toys import training as toy

from pid_jax import partitioning
from pid_jax.network import layers
from pid_jax.trainer import data
from pid_jax.trainer import optimizers
from pid_jax.trainer import setup
from pid_jax.trainer import step as step_lib

NUM_STEPS = 6


def spy_on_activations() -> dict[str, str]:
  """Lets the compiler say how each activation that has a name is sharded.

  Returns:
    A dict that fills while programs are compiled: from names to what the
    partitioned program really does, not what it was asked for.
  """
  seen = {}
  constrain = layers.with_sharding_constraint

  def constrain_and_tell(x, names):
    x = constrain(x, names)
    if names[0] == 'batch':
      jax.debug.inspect_array_sharding(
        x, callback=lambda s: seen.update({' '.join(names): spec(s, x.ndim)})
      )
    return x

  layers.with_sharding_constraint = constrain_and_tell
  return seen


def spec(sharding, ndim: int) -> str:
  """Mesh axes of each dimension, those of one device left out."""
  sizes = dict(sharding.mesh.shape)
  entries = [*sharding.spec] + [None] * (ndim - len(sharding.spec))
  names = []
  for entry in entries:
    axes = entry if isinstance(entry, tuple) else (entry,)
    names.append('+'.join(a for a in axes if a and sizes[a] > 1) or '-')
  return ' '.join(names)


def run(partitioner, batches, activations) -> dict:
  model = toy.t5_model(num_heads=4, dropout_rate=0.1)
  # All matrices but the position biases are large enough to be factored.
  optimizer = optimizers.adafactor(
    3e-2, max_grad_norm=1.0, min_dim_size_to_factor=16
  )
  shapes = step_lib.abstract_state(model, optimizer, partitioner)
  state = setup.first_state(model, optimizer, partitioner, shapes, seed=0)
  train_step = step_lib.compile_train_step(
    model, optimizer, partitioner, shapes, seed=0
  )
  losses, first = [], None
  activations.clear()
  for batch in batches:
    state, metrics = train_step(state, partitioner.put_batch(batch))
    losses.append(float(metrics['loss'].compute()))
    if first is None:
      first = jax.device_get(state.params)
  return {
    'losses': losses,
    'params': [np.ravel(x).tolist() for x in jax.tree.leaves(first)],
    'shardings': {
      jax.tree_util.keystr(path, simple=True, separator='/'): (
        spec(leaf.sharding, leaf.ndim)
      )
      for path, leaf in jax.tree_util.tree_leaves_with_path(state)
    },
    'activations': dict(activations),
  }


def main():
  assert jax.device_count() == 8
  activations = spy_on_activations()
  iterator = data.TrainIterator(data.dataset(toy.dataset_config(seed=0), None))
  batches = [next(iterator) for _ in range(NUM_STEPS)]
  make = partitioning.Partitioner
  partitioners = {
    'one': make(devices=jax.devices()[:1]),
    'fsdp': make(1, 8),
    'data, fsdp, model': make(2, 2),
  }
  results = {
    name: run(partitioners[name], batches, activations) for name in sys.argv[1:]
  }
  print(json.dumps(results))


if __name__ == '__main__':
  main()
