# Copyright 2026 The pid_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""Drafts change how many passes an output takes, and nothing else."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from toys import configs
from toys import weights

from pid_jax import decoding
from pid_jax import network
from pid_jax.decoding import prompt_lookup

MAX_NEW_TOKENS = 14
CONFIG = configs.tiny(
  vocab_size=128, emb_dim=32, head_dim=16, mlp_dim=64, num_decoder_layers=2
)
LOOKUP = decoding.PromptLookup(
  max_draft_tokens=5, min_ngram=1, max_ngram=2, tokens_per_step=90
)
DRAW = decoding.Sample(decoding.Temperature(0.8))

_generate = jax.jit(
  functools.partial(decoding.generate, max_new_tokens=MAX_NEW_TOKENS),
  static_argnums=0,
  static_argnames=('sampler', 'prompt_lookup'),
)


def _random_model(seed, scan_layers, reads_input):
  """A model of random weights, which may be blind to its input."""
  config = dataclasses.replace(CONFIG, scan_layers=scan_layers)
  params = weights.random_params(config, seed, reads_input=reads_input)
  return network.Transformer(config), params


def _inputs_that_hold(outputs, num_tokens, length, rng):
  """Random inputs, in which parts of their own outputs stand."""
  inputs = rng.integers(2, CONFIG.vocab_size, (len(outputs), length))
  for own, rows in zip(inputs, outputs, strict=True):
    copied = np.concatenate([row[:num_tokens] for row in rows])
    copied = copied[copied > 1][:length]
    own[: len(copied)] = copied
  return inputs.astype(np.int32)


@pytest.mark.parametrize(
  'sampler, scan_layers',
  [
    (decoding.GREEDY, False),
    pytest.param(DRAW, True, marks=pytest.mark.slow),
  ],
)
@pytest.mark.parametrize('reads_input', [False, True])
def test_drafts_change_the_passes_and_nothing_else(
  sampler, scan_layers, reads_input
):
  num_passes, num_drafted = 0, 0
  for seed in range(4):
    rng = np.random.default_rng(seed)
    module, params = _random_model(seed, scan_layers, reads_input)
    prompts = rng.integers(2, CONFIG.vocab_size, (2, 3, 4)).astype(np.int32)
    prompts[:, 0, 2:] = 0
    run = functools.partial(
      _generate,
      module,
      params,
      prompt_tokens=prompts,
      sampler=sampler,
      rng=jax.random.key(seed),
    )
    inputs = rng.integers(2, CONFIG.vocab_size, (2, 48)).astype(np.int32)
    # Whole outputs, or beginnings: drafts that fail half way.
    inputs = _inputs_that_hold(
      np.asarray(run(inputs).tokens), (MAX_NEW_TOKENS, 5)[seed % 2], 48, rng
    )

    plain, drafted = run(inputs), run(inputs, prompt_lookup=LOOKUP)

    np.testing.assert_array_equal(plain.tokens, drafted.tokens)
    np.testing.assert_allclose(
      plain.log_probs, drafted.log_probs, rtol=1e-4, atol=1e-4
    )
    num_passes += int(plain.num_steps)
    num_drafted += int(drafted.num_steps)
  if not reads_input:  # What stands in its input is what it says.
    assert num_drafted < num_passes
  assert num_drafted <= num_passes


def test_output_that_stands_in_the_input_takes_the_passes_counted_by_hand():
  module, params = _random_model(7, False, reads_input=False)
  nothing = np.full((1, 20), 3, np.int32)
  for seed in range(20):  # Until no token comes twice: drafts are certain then.
    run = functools.partial(
      _generate,
      module,
      params,
      prompt_tokens=np.array([[[5, 9, 77]]], np.int32),
      min_new_tokens=MAX_NEW_TOKENS,
      sampler=decoding.Sample(decoding.Temperature(20.0)),
      rng=jax.random.key(seed),
    )
    output = np.asarray(run(nothing).tokens)[0, 0]
    if len({*output.tolist(), 3, 5, 9, 77}) == MAX_NEW_TOKENS + 4:
      break
  inputs = nothing.copy()
  inputs[0, 2 : 2 + MAX_NEW_TOKENS] = output

  generated = run(inputs, prompt_lookup=LOOKUP)

  # The prefill gives the first token, a first draft of 5 tokens gives 6 more,
  # a second one as well, and the last token takes another pass.
  assert int(generated.num_steps) == 4
  np.testing.assert_array_equal(generated.tokens[0, 0], output)


@pytest.mark.parametrize(
  'source, recent, expected',
  [
    ([4, 5, 6, 7, 8, 9], [5, 6], [7, 8, 9]),
    # The last of equal matches; no further than the source goes.
    ([5, 6, 7, 5, 6, 8], [5, 6], [8]),
    # Two tokens that agree are better than one, wherever they are.
    ([5, 6, 7, 8, 2, 6, 9], [5, 6], [7, 8, 2]),
    # Too little agrees, nothing follows, or padding agrees with padding.
    ([4, 6, 7, 8], [5, 6], []),
    ([4, 5, 6, 0], [5, 6], []),
    ([0, 0, 3, 4], [0, 0], []),
    # Across the gap between prompt and input nothing agrees.
    ([5, 0, 6, 7], [5, 6], []),
    ([6, 7, 0, 5], [prompt_lookup.NO_TOKEN, 6], []),
  ],
)
def test_draft_by_hand(source, recent, expected):
  lookup = decoding.PromptLookup(max_draft_tokens=3, min_ngram=2, max_ngram=2)
  tokens, lengths = lookup.draft(jnp.array([source]), jnp.array([recent]))
  assert tokens[0, : int(lengths[0])].tolist() == expected


def test_drafts_that_fail_are_tried_ever_more_rarely():
  rates = jnp.full(1, prompt_lookup.FIRST_RATE)
  done = jnp.zeros(1, bool)
  lookup = decoding.PromptLookup(max_draft_tokens=8, tokens_per_step=64)
  num_tried = 0
  for _ in range(200):
    lengths = jnp.full(1, 8)
    tried = bool(lookup.is_worthwhile(lengths, rates, done))
    num_tried += tried
    rates = prompt_lookup.update_rates(
      rates, lengths * tried, jnp.zeros(1, jnp.int32)
    )
  # A pass with drafts costs 8 / 64 of a step more: 200 steps lose less
  # than a twentieth.
  assert num_tried * 8 / 64 < 200 / 20


def test_impossible_lookup():
  with pytest.raises(ValueError, match='min_ngram must be at most max_ngram'):
    decoding.PromptLookup(min_ngram=3, max_ngram=2)
  with pytest.raises(ValueError, match='at least 1'):
    decoding.PromptLookup(max_draft_tokens=0)
