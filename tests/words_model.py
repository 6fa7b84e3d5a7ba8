# Copyright 2026 The pid_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""A small random model with a vocabulary of words, for tests of texts."""

import dataclasses
import pathlib

import numpy as np
import sentencepiece
import torch_reference

from pid_jax.vocabulary import Vocabulary

WORDS = (
  'ant bee cat dog eel fox gnu hen ibis jay kiwi lark mole newt owl'.split()
)
TASK = {
  'name': 'animals',
  'layout': 'pid',
  'feature_lengths': {'inputs': 40, 'prompts': 8, 'targets': 6},
}


def make_vocabulary(folder: pathlib.Path) -> Vocabulary:
  """Trains a vocabulary with an id for each word."""
  sentencepiece.SentencePieceTrainer.train(
    sentence_iterator=iter([' '.join(WORDS)] * 9),
    model_prefix=str(folder / 'words'),
    model_type='word',
    vocab_size=len(WORDS) + 3,
    pad_id=0,
    eos_id=1,
    unk_id=2,
    bos_id=-1,
    minloglevel=2,
  )
  return Vocabulary(f'{folder}/words.model')


def make_weights(
  vocabulary: Vocabulary, eos_gain: float = 2.0, num_layers: int = 2
):
  """Returns a config and random parameters.

  Args:
    vocabulary: of the model.
    eos_gain: the higher, the sooner an output ends.
    num_layers: of either stack; the fewer, the sooner it is compiled.
  """
  config = dataclasses.replace(
    torch_reference.T5_1_1,
    vocab_size=32,
    num_tokens=vocabulary.size,
    num_encoder_layers=num_layers,
    num_decoder_layers=num_layers,
  )
  model = torch_reference.random_model(config, seed=3, eos_gain=eos_gain)
  return config, torch_reference.params_of(model, config)


def random_job(num_inputs, seed=0, longest=14, most_prompts=2):
  """Returns random inputs and prompts of unequal number and length."""
  rng = np.random.default_rng(seed)
  text = lambda most: ' '.join(rng.choice(WORDS, rng.integers(1, most + 1)))
  inputs = [text(longest) for _ in range(num_inputs)]
  prompts = [
    [text(4) for _ in range(rng.integers(1, most_prompts + 1))] for _ in inputs
  ]
  return inputs, prompts
