# Copyright 2026 The pid_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""Trains the vocabulary of the generated dialogues.

    python -m pid_jax.tasks.bookings.train_vocabulary --output=vocabulary.model

Only the training split is used. Special ids are T5's: 0 padding, 1 EOS, 2
unknown.
"""

import argparse
import collections
import io
import re
import string

import sentencepiece

from pid_jax import files
from pid_jax.tasks.bookings import ontology
from pid_jax.tasks.bookings import simulator

VOCABULARY_SIZE = 612
MIN_COUNT = 50  # Of a word that becomes one piece.


def sentences(num_dialogues: int):
  """Yields prompts, values, words of names, and histories of both levels."""
  for _ in range(MIN_COUNT):
    yield from ontology.PROMPTS
    for values in ontology.CLOSED.values():
      yield from values
    yield from (ontology.NONE, ontology.DONTCARE)
    yield from ontology.ADJECTIVES
    yield from ontology.NOUNS
  for level in simulator.LEVELS:
    for index in range(num_dialogues):
      turns = simulator.simulate(level, 'train', seed=0, index=index)
      yield turns[-1].history


def train(num_dialogues: int = 5000) -> bytes:
  """Returns a serialised SentencePiece model.

  A frequent word is one piece, and a time of day is two (hour and minutes), so
  that values unseen in training consist of known pieces; byte pairs and single
  characters spell the rest.
  """
  text = list(sentences(num_dialogues))
  counts = collections.Counter(
    piece
    for sentence in text
    for piece in re.findall(r' (?:[a-z]+:?|\d+)|:\d+', f' {sentence}')
  )
  words = [w for w, n in sorted(counts.items()) if n >= MIN_COUNT]
  model = io.BytesIO()
  sentencepiece.SentencePieceTrainer.train(
    sentence_iterator=iter(text),
    model_writer=model,
    vocab_size=VOCABULARY_SIZE,
    model_type='bpe',
    pad_id=0,
    eos_id=1,
    unk_id=2,
    bos_id=-1,
    user_defined_symbols=[w.replace(' ', '\u2581') for w in words],
    required_chars=string.ascii_letters + string.digits + string.punctuation,
    character_coverage=1.0,
    split_digits=True,
    num_threads=1,
    minloglevel=2,
  )
  return model.getvalue()


def main():
  """Writes the model to --output."""
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument('--output', required=True, help='file to write')
  args = parser.parse_args()
  files.write(files.check_output(args.output), train())


if __name__ == '__main__':
  main()
