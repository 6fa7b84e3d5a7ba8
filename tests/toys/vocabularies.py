# Copyright 2026 The pid_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""SentencePiece models, trained once a process."""

import functools
import tempfile

import sentencepiece


@functools.cache
def train(sentences: tuple[str, ...], **options) -> str:
  """Returns the file of a model, by default with T5's special ids.

  Args:
    sentences: to train on.
    **options: of SentencePiece's trainer.
  """
  prefix = f'{tempfile.mkdtemp()}/vocabulary'
  sentencepiece.SentencePieceTrainer.train(
    sentence_iterator=iter(sentences),
    model_prefix=prefix,
    hard_vocab_limit=False,
    minloglevel=2,
    **{'pad_id': 0, 'eos_id': 1, 'unk_id': 2, 'bos_id': -1, **options},
  )
  return f'{prefix}.model'


def words(*pieces: str) -> str:
  """Returns the file of a model with an id for each of some words."""
  return train(
    (' '.join(pieces),) * 20, model_type='word', vocab_size=len(pieces) + 3
  )


def of_text(model_type: str = 'unigram', **options) -> str:
  """Returns the file of a model of parts of words, as T5's."""
  sentences = (
    *(f'please book the hotel for {i} nights' for i in range(200)),
    'the quick brown fox jumps over the lazy dog',
  )
  options = {'vocab_size': 60, 'model_type': model_type, **options}
  return train(sentences, **options)
