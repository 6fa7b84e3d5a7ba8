# Copyright 2026 The pid_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""A mesh changes where things are, never what comes out."""

import functools
import re

import eight_devices
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

ALL_AXES = 'data, fsdp, model'
FSDP = pytest.param('fsdp', marks=pytest.mark.slow)


@functools.cache
def runs(mesh: str) -> dict:
  """What some steps came to on a mesh of eight devices, and on one."""
  return eight_devices.run('partitioning_child.py', 'one', mesh)


@pytest.mark.parametrize('mesh', [ALL_AXES, FSDP])
def test_meshes_give_the_losses_and_the_update_of_one_device(mesh):
  one, many = runs(mesh)['one'], runs(mesh)[mesh]
  assert one['losses'][0] > 1.5 * one['losses'][-1]  # It does learn.
  np.testing.assert_allclose(many['losses'], one['losses'], rtol=0, atol=1e-4)
  for got, expected in zip(many['params'], one['params'], strict=True):
    np.testing.assert_allclose(got, expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize(
  'mesh, batch, embed, model',
  [
    ('one', '-', '-', '-'),
    (ALL_AXES, 'data+fsdp', 'fsdp', 'model'),
    pytest.param('fsdp', 'fsdp', 'fsdp', '-', marks=pytest.mark.slow),
  ],
)
def test_state_and_activations_are_sharded_as_the_rules_say(
  mesh, batch, embed, model
):
  """Read from the arrays of a trained state, and from the compiler."""
  found = runs(ALL_AXES if mesh == 'one' else mesh)[mesh]
  assert found['activations'] == {
    'batch length embed': f'{batch} - -',
    'batch length heads kv': f'{batch} - {model} -',
    'batch length joined_kv': f'{batch} - {model}',
    'batch length mlp': f'{batch} - {model}',
  }
  shardings = found['shardings']
  inwards, outwards = f'{embed} {model}', f'{model} {embed}'
  attention = {'query': inwards, 'key': inwards, 'value': inwards}
  attention = {f'{k}/kernel': v for k, v in attention.items()}
  attention['out/kernel'] = outwards
  mlp = {'mlp/wi/kernel': inwards, 'mlp/wo/kernel': outwards}

  def within(prefix, specs):
    return {f'{prefix}/{name}': spec for name, spec in specs.items()}

  def norms(prefix, *names):
    return {f'{prefix}/{name}_norm/scale': embed for name in names}

  encoder, decoder = 'encoder/layers_0', 'decoder/layers_0'
  expected = {
    'token_embedder/embedding': outwards,
    'decoder/logits_dense/kernel': inwards,
    'encoder/relpos_bias/rel_embedding': f'{model} -',
    'decoder/relpos_bias/rel_embedding': f'{model} -',
    **within(f'{encoder}/attention', attention),
    **within(f'{decoder}/self_attention', attention),
    **within(f'{decoder}/encoder_decoder_attention', attention),
    **within(encoder, mlp),
    **within(decoder, mlp),
    **norms(encoder, 'pre_attention_layer', 'pre_mlp_layer'),
    **norms(decoder, 'pre_self_attention_layer'),
    **norms(decoder, 'pre_cross_attention_layer', 'pre_mlp_layer'),
    **norms('encoder', 'encoder'),
    **norms('decoder', 'decoder'),
  }
  prefix = 'params/'
  params = {
    name.removeprefix(prefix): spec
    for name, spec in shardings.items()
    if name.startswith(prefix)
  }
  assert params == expected
  # Of Adafactor's state, second moments that are whole are split as their
  # parameters are, rows and columns as one axis of those. Of all kernels here,
  # 'embed' is the shorter axis.
  moments = {'v': {}, 'v_row': {}, 'v_col': {}}
  for name, spec in shardings.items():
    if found := re.fullmatch(r'opt_state/[\d/]*(v|v_row|v_col)/(.*)', name):
      moments[found[1]][found[2]] = spec
  for name, spec in expected.items():
    is_whole = name.endswith(('/scale', '/rel_embedding'))
    assert moments['v'][name] == (spec if is_whole else '-')
    assert moments['v_row'][name] == ('-' if is_whole else embed)
    assert moments['v_col'][name] == ('-' if is_whole else model)


def test_rules_without_fsdp_are_those_of_t5x():
  """Each parameter's axes under T5X's table, for its one and two dimensions."""
  by_hand = {
    # (activation, parameter dimensions): the specs of `arrays`
    (1, 1): [(None, 'model'), (None,), ('data', None)],
    (1, 2): [('data', 'model'), ('data',), ('data', None)],
    (2, 1): [(None, 'model'), ('model',), ('data', 'model')],
    (2, 2): [('data', 'model'), ('model',), ('data', 'model')],
  }
  arrays = [('embed', 'mlp'), ('embed',), ('batch', 'embed')]
  for dims, expected in by_hand.items():
    rules = partitioning.standard_logical_axis_rules(*dims)
    partitioner = partitioning.Partitioner(
      2, logical_axis_rules=rules, devices=[jax.devices()[0]] * 8
    )
    for names, spec in zip(arrays, expected, strict=True):
      got = partitioning.flax_partitioning.logical_to_mesh_axes(names, rules)
      sharding = jax.sharding.NamedSharding(partitioner.mesh, got)
      same = jax.sharding.PartitionSpec(*spec)
      same = jax.sharding.NamedSharding(partitioner.mesh, same)
      assert sharding.is_equivalent_to(same, len(names)), (dims, names, got)


def sizes(num_partitions: int, num_fsdp_partitions: int = 1):
  """A partitioner over an abstract mesh of eight devices."""
  return partitioning.Partitioner(
    num_partitions, num_fsdp_partitions, devices=[jax.devices()[0]] * 8
  )


def test_batch_must_be_divisible():
  partitioner = sizes(2)
  partitioner.check_batch_size(8)
  with pytest.raises(errors.UserError, match='of 6 is not divisible by 4'):
    partitioner.check_batch_size(6)
  with pytest.raises(errors.UserError, match='of 8 is not divisible by 16'):
    partitioner.check_batch_size(8, num_microbatches=4)
  # Devices that share parameters by fsdp have different rows.
  with pytest.raises(errors.UserError, match='4 data shards .data=2, fsdp=2,'):
    sizes(2, 2).check_batch_size(6)


@pytest.mark.parametrize(
  'num, num_fsdp, message',
  [
    (3, 1, '8 devices .* groups of num_partitions=3'),
    (1, 3, '8 devices .* groups of num_fsdp_partitions=3'),
    (4, 4, '8 devices .*num_fsdp_partitions=4 x num_partitions=4'),
    (2, 0, 'num_fsdp_partitions must be a whole number, at least 1'),
  ],
)
def test_devices_must_be_divisible(num, num_fsdp, message):
  with pytest.raises(errors.UserError, match=message):
    _ = sizes(num, num_fsdp).mesh


@pytest.mark.parametrize(
  'fields, num, num_fsdp, message',
  [
    # 6 heads of 8: 'joined_kv' could be split into 4, the heads cannot.
    ({'num_heads': 6}, 4, 1, r'model: num_heads=6 by 4 \(model\)\. Choose'),
    ({'mlp_dim': 33}, 2, 1, r'model: mlp_dim=33 by 2 \(model\)\. Choose'),
    ({'emb_dim': 12}, 1, 8, r'model: emb_dim=12 by 8 \(fsdp\)\. Choose'),
  ],
)
def test_a_mesh_that_does_not_divide_the_model(fields, num, num_fsdp, message):
  fields = dict(vocab_size=128, num_heads=8, emb_dim=16, head_dim=8) | fields
  cfg = config.T5Config(**fields)
  with pytest.raises(errors.UserError, match=message):
    step_lib.abstract_state(
      model.EncoderDecoderModel(network.Transformer(cfg)),
      optimizers.adafactor(1e-3),
      sizes(num, num_fsdp),
    )
  sizes(2, 2).check_model(config.T5Config(vocab_size=128))


def test_parameters_that_the_mesh_does_not_divide_are_named():
  params = {'a': jnp.ones((4, 6)), 'b': {'kernel': jnp.ones((4, 8))}}
  axes = {'a': ('embed', 'mlp'), 'b/kernel': ('embed', 'mlp')}
  with pytest.raises(errors.UserError, match=r'divide: a \(4, 6\) by 4 over'):
    sizes(4).formats(params, axes)
  formats = sizes(2).formats(params, axes)
  assert formats['b']['kernel'].sharding.spec == jax.sharding.PartitionSpec(
    'fsdp', 'model'
  )


@pytest.mark.parametrize('name', ['adamw', 'adafactor', 'muon'])
@pytest.mark.parametrize('by', ['fsdp', 'data'])
def test_optimizer_state_lies_with_its_parameters(name, by):
  """Each leaf as large as its parameter is split as that is (no arrays)."""
  cfg = config.T5Config(size='t5_1_1_xxl', scan_layers=True)
  optimizer = getattr(optimizers, name)(1e-3)
  rules = partitioning.standard_logical_axis_rules(
    parameter_partitioning_dims=2 if by == 'data' else 1
  )
  partitioner = partitioning.Partitioner(
    4,
    2 if by == 'fsdp' else 1,
    logical_axis_rules=rules,
    devices=[jax.devices()[0]] * 8,
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
