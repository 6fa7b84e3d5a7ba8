# Copyright 2026 The pid_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""Decoding a batch equals decoding each prompt alone, by other means.

The other means are PyTorch transformers' generate, one unpadded prompt at a
time. `decoding_property_test` compares with a slow loop without a cache.
"""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from toys import configs
from toys import decoding_batch
from toys import torch_reference
from toys import weights

from pid_jax import decoding
from pid_jax import network

MAX_NEW_TOKENS = 12
SAMPLER = decoding.Sample(decoding.Temperature(2.0))


# Compiled once for all tests of one network and shape.
_jit_generate = jax.jit(
  decoding.generate,
  static_argnums=0,
  static_argnames=('max_new_tokens', 'sampler'),
)
_jit_score = jax.jit(decoding.score, static_argnums=0)


def _generate(
  config,
  params,
  encoder,
  prompt_tokens,
  *,
  max_new_tokens=MAX_NEW_TOKENS,
  min_new_tokens=0,
  sampler=decoding.GREEDY,
  seed=0,
  sequence_ids=None,
  row_mask=None,
):
  """Gives every argument a value, so that all tests share few programs."""
  if sequence_ids is None:
    sequence_ids = np.arange(len(encoder))
  if row_mask is None:
    row_mask = decoding.present_rows(encoder, prompt_tokens)
  return _jit_generate(
    network.Transformer(config),
    params,
    encoder,
    prompt_tokens,
    max_new_tokens=max_new_tokens,
    min_new_tokens=min_new_tokens,
    sampler=sampler,
    rng=jax.random.key(seed),
    sequence_ids=sequence_ids,
    row_mask=row_mask,
  )


# A different length for every input and prompt; U is 3, 1 and 4.
LENGTHS = [31, 9, 17]
PROMPT_LENGTHS = [[1, 7, 4], [3], [2, 5, 1, 9]]


# Seeds and gains are such that some outputs end early and some do not.
@pytest.mark.parametrize(
  'name, scan_layers, seed, eos_gain',
  [
    ('t5_1_0', False, 1, 2.0),
    ('t5_1_1', False, 1, 2.0),
    pytest.param('t5_1_1', True, 1, 2.0, marks=pytest.mark.slow),
    ('odd', True, 2, 1.4),
  ],
)
def test_greedy_equals_transformers_one_prompt_at_a_time(
  name, scan_layers, seed, eos_gain
):
  config = dataclasses.replace(configs.CONFIGS[name], scan_layers=scan_layers)
  params = weights.random_params(config, seed, eos_gain)
  model = torch_reference.from_params(config, params)
  inputs, prompts, encoder, prompt_tokens = decoding_batch.random_batch(
    config, LENGTHS, PROMPT_LENGTHS
  )

  generated = _generate(config, params, encoder, prompt_tokens)

  outputs = []
  for b, tokens in enumerate(inputs):
    for u, prompt in enumerate(prompts[b]):
      expected, log_prob = torch_reference.greedy(
        model, config, tokens, prompt, MAX_NEW_TOKENS
      )
      assert decoding_batch.without_padding(generated.tokens[b, u]) == expected
      np.testing.assert_allclose(
        generated.log_probs[b, u], log_prob, rtol=1e-4, atol=1e-4
      )
      outputs.append(tuple(expected))
    absent = slice(len(prompts[b]), None)
    assert not np.any(generated.tokens[b, absent])
    assert not np.any(generated.log_probs[b, absent])
  # The cases are worth comparing.
  ended = [output[-1] == 1 for output in outputs]
  assert any(ended) and not all(ended), outputs
  assert len(set(outputs)) > len(outputs) // 2, outputs
  assert int(generated.num_steps) == max(map(len, outputs))


def test_a_stock_t5_is_one_row_without_a_prompt():
  config = configs.T5_1_1
  params = weights.random_params(config, seed=1)
  model = torch_reference.from_params(config, params)
  inputs, _, encoder, _ = decoding_batch.random_batch(
    config, LENGTHS, PROMPT_LENGTHS
  )
  encoder = np.concatenate([encoder, np.zeros_like(encoder[:1])])

  generated = _generate(
    config,
    params,
    encoder,
    np.zeros((4, 1, 0), np.int32),
  )

  for b, tokens in enumerate(inputs):
    expected, _ = torch_reference.greedy(
      model, config, tokens, [], MAX_NEW_TOKENS
    )
    assert decoding_batch.without_padding(generated.tokens[b, 0]) == expected
  assert not np.any(generated.tokens[3]), 'padding of the batch'


@pytest.fixture(scope='module', name='small')
def _small():
  """A model that ends some outputs early, and a batch for it."""
  config = configs.T5_1_1
  params = weights.random_params(config, seed=1, eos_gain=3.0)
  model = torch_reference.from_params(config, params)
  return (
    config,
    model,
    params,
    decoding_batch.random_batch(config, LENGTHS, PROMPT_LENGTHS),
  )


def test_min_new_tokens_delays_eos(small):
  config, model, params, (inputs, prompts, encoder, prompt_tokens) = small
  generated = _generate(
    config, params, encoder, prompt_tokens, min_new_tokens=MAX_NEW_TOKENS
  )
  assert int(generated.num_steps) == MAX_NEW_TOKENS
  for b, tokens in enumerate(inputs):
    for u, prompt in enumerate(prompts[b]):
      expected, _ = torch_reference.greedy(
        model, config, tokens, prompt, MAX_NEW_TOKENS, MAX_NEW_TOKENS
      )
      assert len(expected) == MAX_NEW_TOKENS and 1 not in expected
      assert decoding_batch.without_padding(generated.tokens[b, u]) == expected


def test_the_loop_ends_with_the_last_row(small):
  config, _, params, (_, _, encoder, prompt_tokens) = small
  generated = _generate(config, params, encoder, prompt_tokens)
  lengths = np.sum(np.asarray(generated.tokens) != 0, axis=-1)
  assert int(generated.num_steps) == lengths.max()
  # Without the rows that are longest, the loop is shorter.
  short = (lengths > 0) & (lengths < np.median(lengths[lengths > 0]))
  again = _generate(config, params, encoder, prompt_tokens, row_mask=short)
  assert int(again.num_steps) == lengths[short].max() < lengths.max()
  np.testing.assert_array_equal(
    again.tokens, np.where(short[..., None], generated.tokens, 0)
  )


def test_padding_is_never_generated(small):
  """Not even if its logits are the highest."""
  config, _, params, (_, _, encoder, prompt_tokens) = small
  kernel = params['decoder']['logits_dense']['kernel'].copy()
  kernel[:, 0] = 9 * kernel[:, 7]
  kernel[:, config.num_tokens :] = 10 * kernel[:, 5:6]
  decoder = {**params['decoder'], 'logits_dense': {'kernel': kernel}}
  params = {**params, 'decoder': decoder}
  for sampler in (decoding.Greedy(), SAMPLER):
    generated = _generate(
      config,
      params,
      encoder,
      prompt_tokens,
      min_new_tokens=MAX_NEW_TOKENS,
      sampler=sampler,
    )
    rows = np.asarray(generated.tokens)[np.any(prompt_tokens != 0, axis=-1)]
    assert rows.min() >= 2 and rows.max() < config.num_tokens


def test_compaction_changes_the_work_and_nothing_else():
  """Many rows end at once, a few go on, and inputs differ in which."""
  config = configs.T5_1_1
  params = weights.random_params(config, seed=4, eos_gain=3.0)
  rng = np.random.default_rng(3)
  encoder = rng.integers(2, config.num_tokens, (3, 9)).astype(np.int32)
  prompt_tokens = rng.integers(2, config.num_tokens, (3, 14, 2)).astype(
    np.int32
  )
  row_mask = np.ones((3, 14), bool)
  row_mask[1, 4:] = False
  row_mask[2, ::2] = False
  by_compactions = {
    n: jax.jit(
      functools.partial(
        decoding.generate,
        network.Transformer(config),
        max_new_tokens=MAX_NEW_TOKENS,
        sampler=SAMPLER,
        num_compactions=n,
      )
    )(params, encoder, prompt_tokens, rng=jax.random.key(0), row_mask=row_mask)
    for n in (0, 3)
  }
  plain, compacted = by_compactions[0], by_compactions[3]
  np.testing.assert_array_equal(compacted.tokens, plain.tokens)
  np.testing.assert_allclose(
    compacted.log_probs, plain.log_probs, rtol=1e-5, atol=1e-5
  )
  assert int(compacted.num_steps) == int(plain.num_steps)

  # By hand: 14 rows of each input, then 7, 4 and 2, as soon as they suffice.
  lengths = np.count_nonzero(np.asarray(plain.tokens), axis=-1)
  assert int(plain.num_row_steps) == 3 * 14 * lengths.max()
  total, width = 0, 14
  for step in range(1, lengths.max() + 1):
    left = (lengths >= step).sum(axis=1).max()
    while step > 1 and width > 2 and left <= -(-width // 2):
      width = -(-width // 2)
    total += 3 * width
  assert int(compacted.num_row_steps) == total < plain.num_row_steps / 1.3


def test_scores_are_those_of_generation(small):
  config, _, params, (_, _, encoder, prompt_tokens) = small
  module = network.Transformer(config)
  generated = _generate(config, params, encoder, prompt_tokens, sampler=SAMPLER)
  scored = _jit_score(module, params, encoder, prompt_tokens, generated.tokens)
  np.testing.assert_allclose(
    scored.log_probs, generated.log_probs, rtol=1e-4, atol=1e-4
  )
  np.testing.assert_allclose(
    np.sum(scored.token_log_probs, axis=-1), scored.log_probs, rtol=1e-5
  )
  assert not np.any(np.asarray(scored.token_log_probs)[generated.tokens == 0])


def test_scores_of_single_tokens_add_up_to_one(small):
  """T = 1, and prompts of unequal length: all continuations of a prompt."""
  config, _, params, (_, _, encoder, prompt_tokens) = small
  module = network.Transformer(config)
  total = np.zeros(prompt_tokens.shape[:2])
  for token in range(1, config.vocab_size):
    targets = np.full((*prompt_tokens.shape[:2], 1), token, np.int32)
    scored = _jit_score(module, params, encoder, prompt_tokens, targets)
    total += np.exp(scored.log_probs)
  present = np.any(prompt_tokens != 0, axis=-1)
  # What is missing is the probability of the padding id.
  assert np.all(total[present] <= 1 + 1e-5)
  assert np.all(total[present] > 0.5)


def test_choices_score_as_each_of_them_alone(small):
  config, _, params, (_, _, encoder, prompt_tokens) = small
  module = network.Transformer(config)
  rng = np.random.default_rng(0)
  choices = rng.integers(2, config.num_tokens, (*prompt_tokens.shape[:2], 3, 5))
  choices = choices.astype(np.int32)
  choices[:, :, 1, 2:] = 0  # A shorter one.
  choices[:, :, 1, 2] = 1
  choices[0, :, 2] = 0  # The first input has only two.
  scored = jax.jit(decoding.score_choices, static_argnums=0)(
    module, params, encoder, prompt_tokens, choices
  )
  for k in range(3):
    alone = _jit_score(module, params, encoder, prompt_tokens, choices[:, :, k])
    np.testing.assert_allclose(
      scored.log_probs[:, :, k], alone.log_probs, rtol=1e-4, atol=1e-4
    )
    np.testing.assert_allclose(
      scored.token_log_probs[:, :, k],
      alone.token_log_probs,
      rtol=1e-4,
      atol=1e-4,
    )
  assert not np.any(scored.log_probs[0, :, 2])


def test_sampling_depends_on_seed_and_sequence_ids_alone(small):
  config, _, params, (_, _, encoder, prompt_tokens) = small

  def sample(rows, **kwargs):
    return np.asarray(
      _generate(
        config,
        params,
        encoder[rows],
        prompt_tokens[rows],
        sampler=SAMPLER,
        **kwargs,
      ).tokens
    )

  first = sample([0, 1, 2])
  np.testing.assert_array_equal(first, sample([0, 1, 2]))
  assert np.any(first != sample([0, 1, 2], seed=1))
  # At other positions of another batch: the same outputs.
  moved = sample([2, 2, 0], sequence_ids=np.array([2, 5, 0]))
  np.testing.assert_array_equal(moved[[0, 2]], first[[2, 0]])
  # The same input with another id: other outputs.
  assert np.any(moved[1] != first[2])


def test_bfloat16_is_finite_and_close(small):
  config, _, params, (_, _, encoder, prompt_tokens) = small
  config = dataclasses.replace(config, dtype='bfloat16')
  generated = _generate(config, params, encoder, prompt_tokens)
  assert generated.log_probs.dtype == jnp.float32
  assert np.all(np.isfinite(generated.log_probs))
  exact = _jit_score(
    network.Transformer(dataclasses.replace(config, dtype='float32')),
    params,
    encoder,
    prompt_tokens,
    generated.tokens,
  )
  np.testing.assert_allclose(
    generated.log_probs, exact.log_probs, atol=0.5, rtol=0.1
  )


def test_max_new_tokens_must_be_positive(small):
  config, _, params, (_, _, encoder, prompt_tokens) = small
  with pytest.raises(ValueError, match='at least 1, got 0'):
    _generate(config, params, encoder, prompt_tokens, max_new_tokens=0)
