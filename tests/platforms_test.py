# Copyright 2026 The pid_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""What was tuned for CPUs is in programs for them alone, with equal results."""

import dataclasses
import re
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from toys import configs
from toys import weights

from pid_jax import decoding
from pid_jax import network
from pid_jax import partitioning
from pid_jax import platforms

CONFIG = dataclasses.replace(configs.CONFIGS['t5_1_1'], vocab_size=512)
B, S, U, P = 2, 20, 2, 6
TOKENS = np.random.default_rng(0).integers(2, 90, (B, S)).astype(np.int32)
PROMPTS = TOKENS[:, None, :P].repeat(U, 1)


def _device(name):
  return types.SimpleNamespace(platform=name)


def _loss(params):
  logits = network.Transformer(CONFIG).apply(
    {'params': params},
    TOKENS,
    TOKENS,
    encoder_segment_ids=jnp.ones((B, S), jnp.int32),
    decoder_segment_ids=jnp.ones((B, S), jnp.int32),
    enable_dropout=False,
  )
  return jnp.mean(jax.nn.logsumexp(logits, axis=-1))


def _generate(inputs, prompts, **options):
  return lambda params: decoding.generate(
    network.Transformer(CONFIG),
    params,
    inputs,
    prompts,
    max_new_tokens=8,
    num_compactions=0,
    **options,
  )


def _lowered(name, program, params):
  with platforms.scope(_device(name)):
    # A function of its own, which JAX has not traced for another platform.
    traced = jax.jit(lambda params: program(params)).trace(params)
  return traced.lower(lowering_platforms=(name,)).as_text()


def _operands(text):
  return re.findall(r'stablehlo\.dot_general .* : \(tensor<(\S+)>, ', text)


@pytest.mark.parametrize('name', ['cpu', 'cuda', 'tpu'])
def test_forms_of_programs(name):
  is_cpu = name == 'cpu'
  params = jax.tree.map(jnp.asarray, weights.random_params(CONFIG, seed=1))
  rows = _operands(_lowered(name, jax.grad(_loss), params))
  emb = CONFIG.emb_dim
  assert (f'{B * S}x{emb}xf32' in rows) == is_cpu
  assert (f'{B}x{S}x{emb}xf32' in rows) != is_cpu
  assert (f'{B}x1xf32' in rows) == is_cpu  # Ones that repeat the bias.

  lookup = decoding.PromptLookup()
  text = _lowered(
    name, _generate(TOKENS, PROMPTS, prompt_lookup=lookup), params
  )
  assert ('stablehlo.case' in text) != is_cpu
  argmaxes = re.findall(
    r': \(tensor<[\dx]+x(\d+)xf32>, tensor<[\dx]+x\1xi32>,', text
  )
  assert (str(CONFIG.vocab_size) in argmaxes) != is_cpu

  axes = network.param_axes(network.Transformer(CONFIG))
  narrow = network.quantize_params(params, axes, 'int8')
  rows = _operands(
    _lowered(name, _generate(TOKENS[:1], PROMPTS[:1, :1]), narrow)
  )
  assert (f'1x{emb}xi8' in rows) != is_cpu
  assert (f'4x{emb}xi8' in rows) == is_cpu


def test_forms_change_no_result():
  # Blind to its input, in which its output then stands: drafts are accepted.
  params = weights.random_params(CONFIG, 3, reads_input=False, gain=1.0)
  output = jax.jit(_generate(TOKENS, PROMPTS, min_new_tokens=8))(params).tokens
  options = dict(
    min_new_tokens=8,
    prompt_lookup=decoding.PromptLookup(min_ngram=1, tokens_per_step=256),
  )
  found = []
  for name in ('cpu', 'gpu'):
    with platforms.scope(_device(name)):
      program = _generate(output[:, 0], PROMPTS, **options)
      run = lambda params, run=program: (jax.grad(_loss)(params), run(params))
      found.append(jax.jit(run)(params))
  (gradient, generated), (expected, same) = found
  jax.tree.map(
    lambda x, y: np.testing.assert_allclose(x, y, atol=1e-5), gradient, expected
  )
  assert np.array_equal(generated.tokens, output)
  assert np.array_equal(generated.tokens, same.tokens)
  assert generated.num_steps == same.num_steps < 8


def test_the_devices_of_a_program_decide_on_drafts():
  """Not those of the machine that compiles it."""
  lookup, given = (
    decoding.PromptLookup(),
    decoding.PromptLookup(tokens_per_step=32),
  )
  assert not lookup.pays(17) and lookup.pays(16)
  with platforms.scope(_device('tpu')):
    assert lookup.pays(128) and not lookup.pays(129)
    assert not given.pays(17)
  assert lookup == decoding.PromptLookup()  # One static argument.


def test_a_partitioner_says_where_its_programs_run(monkeypatch):
  partitioner = partitioning.Partitioner(devices=jax.devices()[:1])
  known = dataclasses.replace(platforms.of(), name='of the mesh')
  assert platforms.current() == platforms.of()
  monkeypatch.setattr(
    platforms, 'of', lambda devices=None: known if devices is not None else None
  )
  with partitioner.scope():
    assert platforms.current() is known
    with platforms.scope(_device('cpu')):
      pass
    assert platforms.current() is known
  assert platforms.current() is None


@pytest.mark.parametrize(
  'name, scans',
  [('cpu', False), ('tpu', True), ('gpu', True), ('cuda', True)],
)
def test_a_mesh_may_exist_in_name_only(name, scans):
  assert platforms.of([_device(name)]).scan_layers == scans
  assert platforms.of(_device(name)).scan_layers == scans
