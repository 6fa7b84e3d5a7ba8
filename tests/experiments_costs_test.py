# Copyright 2026 The pid_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""The formulas of FLOPs and bytes, against the compiler and by hand."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import pytest

from pid_jax import checkpoints
from pid_jax import model as model_lib
from pid_jax import network
from pid_jax import partitioning
from pid_jax.config import T5Config
from pid_jax.decoding import prefill
from pid_jax.experiments import aot
from pid_jax.experiments import costs
from pid_jax.experiments.layouts import Sizes
from pid_jax.trainer import optimizers
from pid_jax.trainer import step as step_lib

GATED = T5Config(
  vocab_size=512,
  emb_dim=128,
  num_heads=3,
  head_dim=64,
  num_encoder_layers=1,
  num_decoder_layers=3,
  mlp_dim=160,
  mlp_activations=('gelu', 'linear'),
)
# Few of the FLOPs are other than products when products are large.
SIZES = Sizes(2, 48, 5, 7, 6)

# The update costs the same however many tokens there are: let it be little.
TRAINED = dataclasses.replace(GATED, num_decoder_layers=2, dropout_rate=0.1)
TRAINED_SIZES = dataclasses.replace(SIZES, num_inputs=8)


@pytest.mark.parametrize(
  'layout, gated',
  [('pid', True), ('pie', True), ('joint', True), ('pid', False)],
)
def test_formulas_agree_with_the_compiler(layout, gated):
  config = GATED
  if not gated:
    config = dataclasses.replace(
      GATED, mlp_activations=('relu',), logits_via_embedding=True
    )
  for phase, row in aot.compile_phases(config, layout, SIZES).items():
    # The compiler counts norms, softmax and activations besides.
    share = row['compiler_flops'] / row['formula_flops']
    assert 1.0 <= share < 1.05, (phase, row)
    assert row['compiler_bytes'] > 0.95 * row['formula_bytes'], (phase, row)


def test_packed_prompts_cost_what_they_have():
  lengths, sizes = (1, 20, 5, 9, 2, 4), Sizes(2, 48, 6, 20, 6)
  packed_length = sum(lengths) + len(lengths)
  module = network.Transformer(GATED)
  spec = lambda *shape: jax.ShapeDtypeStruct(shape, jnp.int32)
  params = checkpoints.abstract_params(GATED)
  cross = jax.eval_shape(
    functools.partial(prefill.encode, module), params, spec(2, 48)
  )
  traced = jax.jit(
    lambda params, cross, prompts: prefill.prefill(
      module, params, cross, prompts, 26, packed_length
    )
  ).trace(params, cross, spec(2, 6, 20))
  formula = costs.generate(GATED, 'pid', sizes, prompt_lengths=lengths).prefill
  # All pairs of tokens are multiplied in rows as short as these.
  share = aot.count_flops(traced.jaxpr.jaxpr) / formula.flops
  assert 1.0 <= share < 1.05
  padded = costs.generate(GATED, 'pid', sizes).prefill
  assert formula.flops < 1.1 * padded.flops * packed_length / (6 * 21)


def _train_batch(layout: str, sizes: Sizes) -> dict[str, jax.ShapeDtypeStruct]:
  """What the feature converters make of inputs: packed for PiD, else padded."""
  batch, length, row = sizes.num_inputs, sizes.input_length, sizes.new_tokens
  names = ['decoder_input_tokens', 'decoder_target_tokens']
  if layout == 'pid':
    row = sizes.num_prompts * (sizes.prompt_length + sizes.new_tokens)
    names += [f'decoder_{n}' for n in ('segment_ids', 'subtask_ids')]
    names += ['encoder_segment_ids']
  elif layout == 'pie':
    batch, length = batch * sizes.num_prompts, length + sizes.prompt_length
  else:
    row = sizes.num_prompts * sizes.new_tokens
  ids = lambda n: jax.ShapeDtypeStruct((batch, n), jnp.int32)
  features = {n: ids(row if n[0] == 'd' else length) for n in names}
  features['encoder_input_tokens'] = ids(length)
  if layout == 'pid':
    weights = jax.ShapeDtypeStruct((batch, row), jnp.float32)
    features['decoder_loss_weights'] = weights
  return features


def _train_step_share(
  config: T5Config, batch: dict[str, jax.ShapeDtypeStruct]
) -> float:
  """The compiler's FLOPs of the trainer's step, over the formula's."""
  module = model_lib.EncoderDecoderModel(network.Transformer(config))
  optimizer = optimizers.adafactor(1e-3)
  state = step_lib.abstract_state(module, optimizer, partitioning.Partitioner())
  step = functools.partial(
    step_lib.train_step, model=module, optimizer=optimizer
  )
  compiled = (
    jax.jit(lambda state, batch: step(state, batch, rng=jax.random.key(0)))
    .lower(state, batch)
    .compile()
  )
  rows, length = batch['encoder_input_tokens'].shape
  row_length = batch['decoder_input_tokens'].shape[1]
  formula = costs.train_step(config, rows, length, row_length)
  return compiled.cost_analysis()['flops'] / formula.flops


@pytest.mark.parametrize(
  'layout',
  ['pid', *(pytest.param(x, marks=pytest.mark.slow) for x in ('pie', 'joint'))],
)
def test_train_step_agrees_with_the_compiler(layout):
  batch = _train_batch(layout, TRAINED_SIZES)
  assert 1.0 <= _train_step_share(TRAINED, batch) < 1.05


@pytest.mark.slow
@pytest.mark.parametrize('policy', ['minimal', 'full'])
def test_recomputed_products_count(policy):
  config = dataclasses.replace(TRAINED, remat_policy=policy)
  batch = _train_batch('pid', TRAINED_SIZES)
  assert _train_step_share(config, batch) == pytest.approx(1, abs=0.05)


@pytest.mark.slow
@pytest.mark.parametrize('size', ['small', 'base', 'large'])
def test_sizes_of_t5_agree_with_the_compiler(size):
  config = T5Config(size=f't5_1_1_{size}')
  sizes = Sizes(num_inputs=2, input_length=512, num_prompts=16)
  for phase, row in aot.compile_phases(config, 'pid', sizes).items():
    share = row['compiler_flops'] / row['formula_flops']
    assert 1.0 <= share < 1.05, (phase, row)
  assert 1.0 <= _train_step_share(config, _train_batch('pid', sizes)) < 1.05


@pytest.mark.parametrize('tied', [True, False])
def test_weights_are_those_of_the_network(tied):
  config = dataclasses.replace(GATED, logits_via_embedding=tied)
  tokens = jnp.ones((1, 2), jnp.int32)
  module = network.Transformer(config)
  params = jax.eval_shape(
    lambda rng: module.init(rng, tokens, tokens, enable_dropout=False),
    jax.random.key(0),
  )['params']
  flat, _ = jax.tree_util.tree_flatten_with_path(params)
  matrices = sum(
    x.size
    for path, x in flat
    if x.ndim == 2 and 'relpos_bias' not in jax.tree_util.keystr(path)
  )
  assert costs.num_weights(config) == matrices


def test_a_step_by_hand():
  """One layer, E=4, A=2, F=3, V=10; 2 rows of 1 input, S=5, C=6."""
  config = T5Config(
    vocab_size=10, emb_dim=4, num_heads=1, head_dim=2, mlp_dim=3,
    num_encoder_layers=1, num_decoder_layers=1, mlp_activations=('relu',),
  )  # fmt: skip
  work = costs.decode(
    config, batch=1, length=5, rows=2, queries=1, cache_length=6
  )
  weights = 6 * 4 * 2 + 2 * 4 * 3  # Attention, feed-forward.
  attention = 2 * (6 + 5) * 2  # Keys and values of 11 places.
  assert work.flops == 2 * 2 * (weights + attention) + 2 * 2 * 4 * 10
  cross, cache = 2 * 5 * 2, 2 * 2 * (6 + 1) * 2
  embedded = 2 * 4
  assert work.bytes == 4 * (weights + 40 + embedded + cross + cache)


def test_rows_that_end_cost_nothing():
  every = costs.generate(GATED, 'pid', SIZES)
  some = costs.generate(GATED, 'pid', SIZES, rows_left=[10, 2, 2])
  assert len(every.steps) == 5 and len(some.steps) == 3
  assert some.steps[0] == every.steps[0]
  assert some.steps[1].flops == pytest.approx(every.steps[0].flops / 5)
  assert some.prefill == every.prefill and some.encode == every.encode


def test_seconds_are_bound_by_the_slower_of_both():
  work = costs.Work(flops=6.0, bytes=4.0)
  assert work.seconds(flop_rate=2.0, bandwidth=4.0) == 3.0
  assert work.seconds(flop_rate=6.0, bandwidth=2.0) == 2.0
  phases = costs.Phases(work, work, (work, work))
  assert phases.seconds(2.0, 4.0) == {
    'encode': 3.0, 'prefill': 3.0, 'steps': 6.0,
  }  # fmt: skip
  assert phases.flops() == {'encode': 6.0, 'prefill': 6.0, 'steps': 12.0}
  assert phases.total == costs.Work(24.0, 16.0)
