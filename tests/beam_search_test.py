# Copyright 2026 The pid_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""Beam search against transformers, and against brute force.

`decoding_property_test` compares it with a search without a cache.
"""

import itertools

import jax
import numpy as np
import pytest
from toys import configs
from toys import decoding_batch
from toys import torch_reference
from toys import weights

from pid_jax import decoding
from pid_jax import errors
from pid_jax import network

_beam_search = jax.jit(
  decoding.beam_search,
  static_argnums=0,
  static_argnames=('max_new_tokens', 'beam_size'),
)
_score = jax.jit(decoding.score, static_argnums=0)


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


def test_equals_transformers():
  config = configs.T5_1_1
  params = weights.random_params(config, seed=3)
  model = torch_reference.from_params(config, params)
  inputs, prompts, encoder, prompt_tokens = decoding_batch.random_batch(
    config, [15, 6, 11], [[1, 4], [3, 3, 2], [7]]
  )
  beams = _search(
    config,
    params,
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
  config = configs.tiny(vocab_size=10, num_tokens=8)
  params = weights.random_params(config, 3, 1.5)
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
  config = configs.T5_1_1
  with pytest.raises(errors.UserError, match='Got 0 and 4'):
    _search(
      config, None, np.ones((1, 4), int), np.ones((1, 1, 2), int), 0, 0.6, 4
    )
