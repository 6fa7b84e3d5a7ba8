# Copyright 2026 The pid_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""Random inputs with prompts, for the tests of all ways to decode."""

import numpy as np


def random_batch(config, lengths, prompt_lengths, seed=0):
  """Returns random inputs and prompts, as lists of ids and as padded arrays.

  Args:
    config: for the range of ids.
    lengths: of the inputs.
    prompt_lengths: of each input's prompts.
    seed: of the ids.
  """
  rng = np.random.default_rng(seed)
  draw = lambda n: rng.integers(2, config.num_tokens, n).tolist()
  inputs = [[*draw(n - 1), 1] for n in lengths]
  prompts = [[draw(n) for n in ns] for ns in prompt_lengths]
  # Padding beyond the longest, as shape buckets have it.
  encoder = np.zeros((len(inputs), max(lengths) + 3), np.int32)
  longest = max(max(ns) for ns in prompt_lengths) + 2
  most = max(len(ns) for ns in prompt_lengths) + 1
  prompt_tokens = np.zeros((len(inputs), most, longest), np.int32)
  for b, tokens in enumerate(inputs):
    encoder[b, : len(tokens)] = tokens
    for u, prompt in enumerate(prompts[b]):
      prompt_tokens[b, u, : len(prompt)] = prompt
  return inputs, prompts, encoder, prompt_tokens


def without_padding(tokens):
  """Returns the ids before the padding, all of which must stand at the end."""
  tokens = np.asarray(tokens).tolist()
  if 0 in tokens:
    assert not any(tokens[tokens.index(0) :]), tokens
    tokens = tokens[: tokens.index(0)]
  return tokens
