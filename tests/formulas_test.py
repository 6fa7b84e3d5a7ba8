# Copyright 2026 The pid_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""The formulas of FLOPs and bytes, against the compiler and by hand."""

import dataclasses

import jax
import jax.numpy as jnp
import pytest

from pid_jax import network
from pid_jax.benchmarks import formulas
from pid_jax.benchmarks import jobs
from pid_jax.benchmarks import runner
from pid_jax.config import T5Config

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
JOB = dataclasses.replace(
  jobs.JOBS['dst'],
  num_inputs=2,
  input_length=48,
  num_prompts=5,
  prompt_length=7,
  new_tokens=6,
)


@pytest.mark.parametrize('layout', ['pid', 'pie', 'joint'])
@pytest.mark.parametrize('gated', [True, False])
def test_formulas_agree_with_the_compiler(layout, gated):
  config = GATED
  if not gated:
    config = dataclasses.replace(
      GATED, mlp_activations=('relu',), logits_via_embedding=True
    )
  for phase, row in runner.work(config, layout, JOB).items():
    # The compiler counts norms, softmax and activations besides.
    share = row['compiler_flops'] / row['formula_flops']
    assert 1.0 <= share < 1.05, (phase, row)
    assert row['compiler_bytes'] > 0.95 * row['formula_bytes'], (phase, row)


def test_train_step_agrees_with_the_compiler():
  config = dataclasses.replace(GATED, dropout_rate=0.0)
  module = network.Transformer(config)
  inputs, rows = jnp.ones((2, 48), jnp.int32), jnp.ones((2, 40), jnp.int32)
  params = jax.eval_shape(
    lambda rng: module.init(rng, inputs, rows, enable_dropout=False),
    jax.random.key(0),
  )['params']

  def loss(params, inputs, rows):
    logits = module.apply({'params': params}, inputs, rows)
    return jnp.sum(jnp.square(logits))

  compiled = jax.jit(jax.grad(loss)).lower(params, inputs, rows).compile()
  formula = formulas.train_step(config, 2, 48, 40).flops
  assert 1.0 <= compiled.cost_analysis()['flops'] / formula < 1.08


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
  assert formulas.num_weights(config) == matrices


def test_a_step_by_hand():
  """One layer, E=4, A=2, F=3, V=10; 2 rows of 1 input, S=5, C=6."""
  config = T5Config(
    vocab_size=10, emb_dim=4, num_heads=1, head_dim=2, mlp_dim=3,
    num_encoder_layers=1, num_decoder_layers=1, mlp_activations=('relu',),
  )  # fmt: skip
  work = formulas.decode(config, batch=1, length=5, rows=2, queries=1, slots=6)
  weights = 6 * 4 * 2 + 2 * 4 * 3  # Attention, feed-forward.
  attention = 2 * (6 + 5) * 2  # Keys and values of 11 places.
  assert work.flops == 2 * 2 * (weights + attention) + 2 * 2 * 4 * 10
  cross, cache = 2 * 5 * 2, 2 * 2 * (6 + 1) * 2
  embedded = 2 * 4
  assert work.bytes == 4 * (weights + 40 + embedded + cross + cache)


def test_rows_that_end_cost_nothing():
  sizes = JOB.sizes
  every = formulas.generate(GATED, 'pid', **sizes)
  some = formulas.generate(GATED, 'pid', **sizes, rows_left=[10, 2, 2])
  assert len(every.steps) == 5 and len(some.steps) == 3
  assert some.steps[0] == every.steps[0]
  assert some.steps[1].flops == pytest.approx(every.steps[0].flops / 5)
  assert some.prefill == every.prefill and some.encode == every.encode


def test_seconds_are_bound_by_the_slower_of_both():
  work = formulas.Work(flops=6.0, bytes=4.0)
  assert work.seconds(flop_rate=2.0, bandwidth=4.0) == 3.0
  assert work.seconds(flop_rate=6.0, bandwidth=2.0) == 2.0
  phases = formulas.Phases(work, work, (work, work))
  assert phases.seconds(2.0, 4.0) == 12.0
  assert phases.total == formulas.Work(24.0, 16.0)
