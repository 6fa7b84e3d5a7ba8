# Copyright 2026 The pid_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""A small random model with a vocabulary of words, for tests of texts."""

import functools

import jax
import numpy as np

from pid_jax.vocabulary import Vocabulary
from toys import configs
from toys import vocabularies
from toys import weights

WORDS = (
  'ant bee cat dog eel fox gnu hen ibis jay kiwi lark mole newt owl'.split()
)
TASK = {
  'name': 'animals',
  'layout': 'pid',
  'feature_lengths': {'inputs': 40, 'prompts': 8, 'targets': 6},
}


@functools.cache
def vocabulary() -> Vocabulary:
  """Returns a vocabulary with an id for each word."""
  return Vocabulary(vocabularies.words(*WORDS))


def config_and_params(eos_gain: float = 2.0, **sizes):
  """Returns a network and its parameters, on the device as when loaded.

  Args:
    eos_gain: the higher, the sooner an output ends.
    **sizes: of the network, other than those of `configs.tiny`.
  """
  config = configs.tiny(num_tokens=vocabulary().size, **sizes)
  return config, jax.device_put(weights.random_params(config, 3, eos_gain))


def random_job(num_inputs, seed=0, longest=14, most_prompts=2):
  """Returns random inputs and prompts of unequal number and length."""
  rng = np.random.default_rng(seed)
  text = lambda most: ' '.join(rng.choice(WORDS, rng.integers(1, most + 1)))
  inputs = [text(longest) for _ in range(num_inputs)]
  prompts = [
    [text(4) for _ in range(rng.integers(1, most_prompts + 1))] for _ in inputs
  ]
  return inputs, prompts
