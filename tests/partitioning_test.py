# Copyright 2026 The pid_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""A mesh changes where things are, never what comes out."""

import json
import os
import pathlib
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from pid_jax import config
from pid_jax import errors
from pid_jax import model
from pid_jax import network
from pid_jax import partitioning
from pid_jax.trainer import optimizers
from pid_jax.trainer import step as step_lib

_CHILD = pathlib.Path(__file__).parent / 'partitioning_child.py'


@pytest.fixture(scope='module')
def losses():
  """Losses of some steps on each mesh of eight devices, and on one."""
  flags = os.environ.get('XLA_FLAGS', '')
  result = subprocess.run(
    [sys.executable, str(_CHILD)],
    env={
      **os.environ,
      'XLA_FLAGS': f'{flags} --xla_force_host_platform_device_count=8',
      'JAX_PLATFORMS': 'cpu',
    },
    capture_output=True,
    text=True,
    check=False,
  )
  assert result.returncode == 0, result.stderr
  return json.loads(result.stdout.splitlines()[-1])


@pytest.mark.parametrize('mesh', ['8x1', '4x2', '2x4', '4x2 2d'])
def test_meshes_give_the_losses_of_one_device(losses, mesh):
  assert losses['1x1'][0] > 1.5 * losses['1x1'][-1]  # It does learn.
  np.testing.assert_allclose(losses[mesh], losses['1x1'], rtol=0, atol=1e-4)


def sizes(num_partitions: int):
  """A partitioner over an abstract mesh of eight devices."""
  partitioner = partitioning.Partitioner(
    num_partitions, devices=[jax.devices()[0]] * 8
  )
  return partitioner


def test_batch_must_be_divisible():
  partitioner = sizes(2)
  partitioner.check_batch_size(8)
  with pytest.raises(errors.UserError, match='of 6 is not divisible by 4'):
    partitioner.check_batch_size(6)
  with pytest.raises(errors.UserError, match='of 8 is not divisible by 16'):
    partitioner.check_batch_size(8, num_microbatches=4)


def test_devices_must_be_divisible():
  with pytest.raises(errors.UserError, match='num_partitions=3'):
    _ = sizes(3).mesh


def test_parameters_that_the_mesh_does_not_divide_are_named():
  names = partitioning.flax_partitioning.AxisMetadata
  params = {'a': jnp.ones((4, 6)), 'b': {'kernel': jnp.ones((4, 8))}}
  axes = {
    'a_axes': names(names=jax.sharding.PartitionSpec('embed', 'mlp')),
    'b': {'kernel_axes': names(jax.sharding.PartitionSpec('embed', 'mlp'))},
  }
  with pytest.raises(errors.UserError, match=r'divide: a \(4, 6\) by 4 over'):
    sizes(4).param_shardings(params, axes)
  shardings = sizes(2).param_shardings(params, axes)
  assert shardings['b']['kernel'].spec == jax.sharding.PartitionSpec(
    None, 'model'
  )


@pytest.mark.parametrize('name', ['adamw', 'adafactor', 'muon'])
def test_optimizer_state_lies_with_its_parameters(name):
  """Each leaf as large as its parameter is split as that is (no arrays)."""
  cfg = config.named('t5_1_1_xxl', scan_layers=True)
  optimizer = getattr(optimizers, name)(1e-3)
  rules = partitioning.standard_logical_axis_rules(
    parameter_partitioning_dims=2
  )
  partitioner = partitioning.Partitioner(
    4, logical_axis_rules=rules, devices=[jax.devices()[0]] * 8
  )
  state = step_lib.abstract_state(
    model.EncoderDecoderModel(network.Transformer(cfg)),
    optimizer,
    partitioner,
    ema=True,
  )
  num_bytes = lambda tree: sum(
    np.prod(leaf.sharding.shard_shape(leaf.shape)) * 4
    for leaf in jax.tree.leaves(tree)
  )
  whole = sum(leaf.size for leaf in jax.tree.leaves(state.params)) * 4
  assert 40e9 < whole < 48e9
  # Norms and position biases alone are not split into 8.
  assert num_bytes(state.params) < whole / 8 * 1.01
  assert num_bytes(state.ema_params) < whole / 8 * 1.01
  copies = {'adamw': 2, 'adafactor': 0.01, 'muon': 2}[name]
  assert num_bytes(state.opt_state) < copies * whole / 8 * 1.02
