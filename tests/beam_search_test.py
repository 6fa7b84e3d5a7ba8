# Copyright 2026 The pid_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""Beam search against transformers, a search without cache, and brute force."""

import dataclasses
import itertools

import decoding_batch
import jax
import numpy as np
import pytest
import torch_reference

from pid_jax import decoding
from pid_jax import errors
from pid_jax import network

MAX_NEW_TOKENS = 8
LENGTHS = [13, 7]
PROMPT_LENGTHS = [[1, 6, 3], [2]]

_beam_search = jax.jit(
  decoding.beam_search,
  static_argnums=0,
  static_argnames=('max_new_tokens', 'beam_size'),
)
_score = jax.jit(decoding.score, static_argnums=0)
_logits = jax.jit(
  lambda module, params, *args: module.apply(
    {'params': params}, *args, enable_dropout=False
  ),
  static_argnums=0,
)


def _search(config, params, encoder, prompt_tokens, beam_size, alpha, steps):
  return _beam_search(
    network.Transformer(config),
    params,
    encoder,
    prompt_tokens,
    max_new_tokens=steps,
    beam_size=beam_size,
    length_penalty=alpha,
  )


def _by_hand(config, params, tokens, prompt, beam_size, alpha, steps):
  """Searches for one prompt alone, without a cache.

  Returns:
    [(score, log-probability, ids)], best first: finished ones, if there are any
    within `steps` tokens, else what has not finished.
  """
  module = network.Transformer(config)
  width = 1 + len(prompt) + steps
  live, finished = [(0.0, [])], []
  for step in range(1, steps + 1):
    rows = np.zeros((beam_size, width), np.int32)
    for i, (_, ids) in enumerate(live):
      rows[i, : 1 + len(prompt) + len(ids)] = [0, *prompt, *ids]
    encoder = np.tile(np.array(tokens, np.int32), (beam_size, 1))
    logits = np.asarray(_logits(module, params, encoder, rows))
    logits = logits[:, len(prompt) + step - 1].astype(np.float64)
    log_probs = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
    grown = [
      (total + log_probs[i, token], [*ids, token])
      for i, (total, ids) in enumerate(live)
      for token in range(1, config.num_tokens)
    ]
    grown = sorted(grown, key=lambda g: -g[0])[: 2 * beam_size]
    finished += [
      (total / ((5 + step) / 6) ** alpha, total, ids)
      for total, ids in grown
      if ids[-1] == 1
    ]
    finished = sorted(finished, key=lambda f: -f[0])[:beam_size]
    live = [g for g in grown if g[1][-1] != 1][:beam_size]
  if finished:
    return finished
  return [(t / ((5 + steps) / 6) ** alpha, t, ids) for t, ids in live]


@pytest.mark.parametrize(
  'name, scan_layers, seed, eos_gain, alpha',
  [
    ('t5_1_0', False, 1, 2.0, 0.6),
    ('t5_1_1', True, 4, 2.0, 0.0),
    ('odd', False, 2, 1.4, 1.5),
  ],
)
def test_equals_search_without_cache_one_prompt_at_a_time(
  name, scan_layers, seed, eos_gain, alpha
):
  config = dataclasses.replace(
    torch_reference.CONFIGS[name], scan_layers=scan_layers
  )
  model = torch_reference.random_model(config, seed, eos_gain)
  params = torch_reference.params_of(model, config)
  inputs, prompts, encoder, prompt_tokens = decoding_batch.random_batch(
    config, LENGTHS, PROMPT_LENGTHS
  )
  beams = _search(
    config, params, encoder, prompt_tokens, 3, alpha, MAX_NEW_TOKENS
  )
  lengths = set()
  for b, tokens in enumerate(inputs):
    for u, prompt in enumerate(prompts[b]):
      want = _by_hand(config, params, tokens, prompt, 3, alpha, MAX_NEW_TOKENS)
      for w, (score, log_prob, ids) in enumerate(want):
        got = decoding_batch.without_padding(beams.tokens[b, u, w])
        assert got == ids
        lengths.add(len(ids))
        np.testing.assert_allclose(
          beams.scores[b, u, w], score, rtol=1e-4, atol=1e-5
        )
        np.testing.assert_allclose(
          beams.log_probs[b, u, w], log_prob, rtol=1e-4, atol=1e-5
        )
      assert np.all(np.isneginf(beams.scores[b, u, len(want) :]))
  assert len(lengths) > 2
  # A row that is no prompt has no output.
  assert not np.any(beams.tokens[1, 1:])
  assert np.all(np.isneginf(beams.log_probs[1, 1:]))


def test_equals_transformers():
  config = torch_reference.T5_1_1
  model = torch_reference.random_model(config, 3, 2.0)
  inputs, prompts, encoder, prompt_tokens = decoding_batch.random_batch(
    config, [15, 6, 11], [[1, 4], [3, 3, 2], [7]]
  )
  beams = _search(
    config,
    torch_reference.params_of(model, config),
    encoder,
    prompt_tokens,
    4,
    0.0,
    12,
  )
  for b, tokens in enumerate(inputs):
    for u, prompt in enumerate(prompts[b]):
      want, score = torch_reference.beam_search(
        model, config, tokens, prompt, max_new_tokens=12, beam_size=4
      )
      # Theirs lets outputs compete that have not ended.
      assert want[-1] == 1, 'choose another seed'
      assert decoding_batch.without_padding(beams.tokens[b, u, 0]) == want
      np.testing.assert_allclose(
        beams.log_probs[b, u, 0], score, rtol=1e-4, atol=1e-5
      )


def test_wide_enough_a_beam_finds_the_best_of_all_outputs():
  config = dataclasses.replace(
    torch_reference.T5_1_1, vocab_size=10, num_tokens=8
  )
  model = torch_reference.random_model(config, 3, 1.5)
  params = torch_reference.params_of(model, config)
  (tokens,), ((prompt,),), encoder, prompt_tokens = decoding_batch.random_batch(
    config, [5], [[2]]
  )
  beams = _search(config, params, encoder, prompt_tokens, 36, 1.0, 3)

  letters = range(2, 8)
  outputs = [
    [*body, 1]
    for n in range(3)
    for body in itertools.product(letters, repeat=n)
  ]
  targets = np.zeros((1, len(outputs), 3), np.int32)
  for i, ids in enumerate(outputs):
    targets[0, i, : len(ids)] = ids
  scored = _score(
    network.Transformer(config),
    params,
    np.array([tokens], np.int32),
    np.tile(np.array(prompt, np.int32), (1, len(outputs), 1)),
    targets,
  )
  scores = np.asarray(scored.log_probs[0])
  scores = scores / np.array([(5 + len(ids)) / 6 for ids in outputs])
  best = np.argsort(-scores)
  np.testing.assert_allclose(
    beams.scores[0, 0, :3], scores[best[:3]], rtol=1e-4
  )
  for w in range(3):
    got = decoding_batch.without_padding(beams.tokens[0, 0, w])
    assert got == outputs[best[w]]


def test_refuses_no_beams():
  config = torch_reference.T5_1_1
  with pytest.raises(errors.UserError, match='Got 0 and 4'):
    _search(
      config, None, np.ones((1, 4), int), np.ones((1, 1, 2), int), 0, 0.6, 4
    )
