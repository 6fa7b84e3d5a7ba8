# Copyright 2026 The pid_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""Float32 means float32 on every platform, unless something else is asked for.

Programs are lowered for CPUs, GPUs and TPUs, which needs no such device, and
read: each product of float32 numbers says how exact it must be. A GPU is played
by an interpreter that rounds operands as tensor cores do.
"""

import collections
import dataclasses
import re

import jax
from jax.extend import core
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from toys import configs
from toys import torch_reference
from toys import weights

from pid_jax import decoding
from pid_jax import errors
from pid_jax import model as model_lib
from pid_jax import network
from pid_jax import partitioning
from pid_jax.network import blockwise_attention
from pid_jax.network import precision
from pid_jax.trainer import optimizers
from pid_jax.trainer import step as step_lib

TOKENS = np.random.default_rng(0).integers(2, 90, (2, 20)).astype(np.int32)
PROMPTS = TOKENS[:, None, :6].repeat(2, 1)


def _config(**fields):
  return dataclasses.replace(configs.CONFIGS['t5_1_1'], **fields)


def _logits(config):
  return lambda params: network.Transformer(config).apply(
    {'params': params}, TOKENS, TOKENS, enable_dropout=False
  )


def _trace(program, config):
  params = jax.tree.map(jnp.asarray, weights.random_params(config, seed=1))
  return jax.jit(program).trace(params)


def _logits_only(config):
  return _trace(_logits(config), config)


def _gradient(config):
  return _trace(jax.grad(lambda p: jnp.sum(_logits(config)(p))), config)


def _generate(config, packed_prompt_length=None):
  module = network.Transformer(config)
  return _trace(
    lambda params: (
      decoding.generate(
        module,
        params,
        TOKENS,
        PROMPTS,
        max_new_tokens=3,
        packed_prompt_length=packed_prompt_length,
      ).tokens
    ),
    config,
  )


def _generate_packed(config):
  return _generate(config, packed_prompt_length=14)


def _update(config):
  """A train step of Muon, which multiplies matrices, too."""
  model = model_lib.EncoderDecoderModel(network.Transformer(config))
  optimizer = optimizers.muon(0.01)
  partitioner = partitioning.Partitioner(devices=jax.devices()[:1])
  state = step_lib.abstract_state(model, optimizer, partitioner)
  step = step_lib.jit_train_step(model, optimizer, partitioner, state, seed=0)
  tokens = jax.ShapeDtypeStruct(TOKENS.shape, jnp.int32)
  batch = {
    'encoder_input_tokens': tokens,
    'decoder_input_tokens': tokens,
    'decoder_target_tokens': tokens,
  }
  with partitioner.scope():
    return step.trace(state, batch)


def _products(traced, *platforms):
  """Counts the products of float32 numbers by what they ask XLA for."""
  found = collections.Counter()
  for platform in platforms:
    text = traced.lower(lowering_platforms=(platform,)).as_text()
    before = found.total()
    for line in re.findall(r'stablehlo\.dot_general .*', text):
      if re.search(r': \(tensor<[^>]*f32>, tensor<[^>]*f32>\)', line):
        found.update(re.search(r'precision = \[(\w+), (\w+)\]', line).groups())
    assert found.total() > before
  return found


@pytest.mark.parametrize(
  'program, fields',
  [
    (_gradient, {'remat_policy': 'minimal'}),
    (_gradient, {'scan_layers': True, 'remat_policy': 'full'}),
    (_generate, {}),
    (_generate, {'scan_layers': True}),
    (_generate_packed, {}),
    (_update, {}),
  ],
  ids=lambda x: getattr(x, '__name__', str(x)),
)
def test_float32_is_asked_for(program, fields):
  found = _products(program(_config(**fields)), 'cpu', 'cuda', 'tpu')
  assert set(found) == {'HIGHEST'}


@pytest.mark.parametrize(
  'fields', [{}, {'scan_layers': True, 'remat_policy': 'full'}], ids=str
)
def test_blockwise_attention_has_it_in_both_passes(monkeypatch, fields):
  whole = _products(_gradient(_config(**fields)), 'cuda')
  monkeypatch.setattr(blockwise_attention, '_MIN_LOGITS', 1)
  monkeypatch.setattr(blockwise_attention, 'BLOCK', 8)
  found = _products(_gradient(_config(**fields)), 'cuda')
  assert set(found) == {'HIGHEST'} and found != whole


@pytest.mark.parametrize(
  'value, asked', [('tensorfloat32', 'HIGH'), ('bfloat16', 'DEFAULT')]
)
@pytest.mark.parametrize('program', [_generate, _update])
def test_what_is_asked_for_by_name(program, value, asked):
  config = _config(matmul_precision=value)
  assert set(_products(program(config), 'tpu')) == {asked}


def test_bfloat16_activations_do_not_slow_down_what_is_left():
  config = _config(dtype='bfloat16')
  assert set(_products(_logits_only(config), 'cuda')) == {
    'DEFAULT'
  }  # The logits.
  config = _config(dtype='bfloat16', matmul_precision='float32')
  assert set(_products(_logits_only(config), 'cuda')) == {'HIGHEST'}


def test_a_setting_of_the_process_does_not_change_a_model():
  with jax.default_matmul_precision('bfloat16'):
    assert set(_products(_gradient(_config()), 'cuda')) == {'HIGHEST'}
    assert precision.current() == 'bfloat16'


def _on_tensor_cores(program, *arguments):
  """Runs a program, its products as GPUs compute them.

  The operands of a product that does not ask for 'highest' lose all but ten
  bits of their fractions.
  """

  def rounded(x):
    if x.dtype != jnp.float32:
      return x
    bits = np.asarray(x).view(np.uint32)
    half = (1 << 12) - 1 + (bits >> 13 & 1)  # To the nearest even.
    return jnp.asarray((bits + half & ~np.uint32((1 << 13) - 1)).view('f4'))

  def run(jaxpr, constants, values):
    known = dict(zip(jaxpr.constvars, constants, strict=True))
    known |= dict(zip(jaxpr.invars, values, strict=True))
    read = lambda x: x.val if isinstance(x, core.Literal) else known[x]
    for eqn in jaxpr.eqns:
      inputs = [read(x) for x in eqn.invars]
      inner = eqn.params.get('jaxpr', eqn.params.get('call_jaxpr'))
      if inner is not None:
        outputs = run(inner.jaxpr, inner.consts, inputs)
      else:
        if eqn.primitive.name == 'dot_general':
          asked = eqn.params['precision'] or (jax.lax.Precision.DEFAULT,)
          if set(asked) != {jax.lax.Precision.HIGHEST}:
            inputs = [rounded(x) for x in inputs]
        outputs = eqn.primitive.bind(*inputs, **eqn.params)
        if not eqn.primitive.multiple_results:
          outputs = [outputs]
      known |= dict(zip(eqn.outvars, outputs, strict=True))
    return [read(x) for x in jaxpr.outvars]

  closed = jax.make_jaxpr(program)(*arguments)
  (result,) = run(closed.jaxpr, closed.consts, jax.tree.leaves(arguments))
  return np.asarray(result)


@pytest.mark.parametrize('name', ['t5_1_1', 'odd'])
def test_logits_on_tensor_cores_are_those_of_transformers(name):
  """Fails where float32 falls to TF32, as the last lines show."""
  config = configs.CONFIGS[name]
  params = weights.random_params(config, seed=1, gain=1.2)
  tokens = torch.tensor(TOKENS)
  with torch.no_grad():
    expected = torch_reference.from_params(config, params)(
      input_ids=tokens, decoder_input_ids=tokens
    ).logits.numpy()

  def difference(value):
    changed = dataclasses.replace(config, matmul_precision=value)
    logits = _on_tensor_cores(_logits(changed), params)
    return np.linalg.norm(logits - expected) / np.linalg.norm(expected)

  assert difference('auto') < 1e-5
  print(difference('auto'), difference('tensorfloat32'))
  assert difference('tensorfloat32') > 1e-3
  assert difference('bfloat16') > 1e-3


def test_products_of_narrow_weights_ask_for_nothing():
  """Products of bfloat16 and int8 numbers are exact."""
  config = _config()
  axes = network.param_axes(network.Transformer(config))
  params = network.quantize_params(
    weights.random_params(config, seed=1), axes, 'int8'
  )
  module = network.Transformer(config)
  encode = lambda params: module.apply(
    {'params': params}, TOKENS, method='encode', enable_dropout=False
  )
  text = jax.jit(encode).lower(params).as_text()
  of_int8 = re.findall(r'stablehlo\.dot_general .*i8>.*', text)
  assert of_int8 and not [x for x in of_int8 if 'HIGH' in x]


def test_an_unknown_precision_is_refused():
  with pytest.raises(errors.UserError, match=r"tensorfloat32.*got 'tf32'"):
    _config(matmul_precision='tf32')
