# Copyright 2026 The pid_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""Whole processes: from the start of one to the answers to a file of texts.

Users of a small model wait for imports, loading and compiling as much as for the
work. So each contender is a process of its own (`end_to_end_child`, and the
command `predict`) that reads texts and writes texts. This library's run twice:
'cold', with an empty compilation cache, and 'warm', with the one left by 'cold'.

The model has 2.2 million parameters; texts are made-up words of its vocabulary.
Its weights are those of `synthetic`, with a chain of words: the last word of a
prompt tells its output, in any library.
"""

from __future__ import annotations

from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence
import dataclasses
import io
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import time
from typing import Any
import warnings

import numpy as np
import sentencepiece

from pid_jax import checkpoints
from pid_jax import config as config_lib
from pid_jax import vocabulary as vocabulary_lib
from pid_jax.experiments import end_to_end_child as child_lib
from pid_jax.experiments import output
from pid_jax.experiments import synthetic
from pid_jax.experiments import timer
from pid_jax.experiments import workloads

COLD, WARM = 'cold', 'warm'
PID_JAX = 'pid_jax'  # A program that uses this library.
PREDICT = 'predict'  # The command.
BASELINES = (
  workloads.TRANSFORMERS_PIE,
  workloads.TRANSFORMERS_TILED,
  workloads.CTRANSLATE2_FLOAT32,
  workloads.CTRANSLATE2_INT8,
)
NUM_PROMPTS = 4
MODEL = config_lib.T5Config(
  size='quickstart',
  vocab_size=4096,
  num_tokens=4000,
  logits_via_embedding=False,
)

_MANY = 1000  # Texts, from which on one run tells enough; of fewer, three.
_CHILD = pathlib.Path(child_lib.__file__)


@dataclasses.dataclass(frozen=True)
class Questions:
  """Texts with prompts, and what a model of `make_model` answers.

  Attributes:
    lines: as `pid_jax.predict` reads them.
    answers: of each line, for each prompt.
  """

  lines: list[dict[str, Any]]
  answers: list[list[str]]


class Words:
  """Words that are one token each; some make the chain.

  Attributes:
    vocabulary: SentencePiece's Unigram, of 4,000 pieces.
    chain: words of which each is followed by the one before it, the first by
      EOS.
    others: all that are not in it.
  """

  def __init__(self):
    """Trains a vocabulary on made-up words, in a second."""
    rng = np.random.default_rng(0)
    syllables = [x + y for x in 'bdfgklmnprstvz' for y in 'aeiou']
    drawn = (rng.choice(syllables, n) for n in rng.integers(2, 6, 12_000))
    words = list(dict.fromkeys(map(''.join, drawn)))
    content = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
      sentence_iterator=iter(words * 2),
      model_writer=content,
      vocab_size=MODEL.num_tokens,
      pad_id=vocabulary_lib.PAD_ID,
      eos_id=vocabulary_lib.EOS_ID,
      unk_id=vocabulary_lib.UNK_ID,
      bos_id=-1,
      num_threads=1,
      minloglevel=2,
    )
    self.vocabulary = vocabulary_lib.Vocabulary(
      'words.model', content=content.getvalue()
    )
    whole = [x for x in words if len(self.vocabulary.encode(x)) == 1]
    longest = child_lib.MAX_NEW_TOKENS  # EOS included.
    self.chain, self.others = whole[:longest], whole[longest:]

  @property
  def chain_ids(self) -> list[int]:
    """The id of each word of the chain."""
    return self.vocabulary.encode(' '.join(self.chain))


def make_questions(words: Words, count: int, seed: int = 0) -> Questions:
  """Draws texts of 20 to 220 tokens, 80 in the mean, few of them long.

  Outputs have 3 to 31 tokens, 10 in the mean; prompts 2 to 5.
  """
  rng = np.random.default_rng(seed)
  lengths = rng.lognormal(np.log(72), 0.5, count).clip(20, 220).astype(int)
  shape = count, NUM_PROMPTS
  outputs = rng.lognormal(np.log(9), 0.45, shape).clip(3, len(words.chain))
  draw = lambda n: [str(word) for word in rng.choice(words.others, n)]
  lines, answers = [], []
  for i, length in enumerate(lengths.tolist()):
    subtasks, expected = [], []
    for u, last in enumerate(outputs[i].astype(int).tolist()):
      prompt = [*draw(rng.integers(1, 5)), words.chain[last - 1]]
      subtasks.append({'name': f'subtask {u}', 'prompt': ' '.join(prompt)})
      expected.append(' '.join(words.chain[: last - 1][::-1]))
    lines.append({'inputs': ' '.join(draw(length - 1)), 'subtasks': subtasks})
    answers.append(expected)
  return Questions(lines, answers)


def make_models(words: Words, folder: pathlib.Path, formats: set[str]) -> None:
  """Writes the model in some formats, each to a folder of its name.

  Args:
    words: of its vocabulary.
    folder: to write into.
    formats: of 'native', 'hugging_face' and 'ctranslate2', which needs the
      second.
  """
  params = synthetic.make_params(MODEL, 'synthetic', chain=words.chain_ids)
  task = {'name': 'words', 'layout': 'pid'}
  model = checkpoints.Pretrained(MODEL, params, words.vocabulary, task, 0)
  for name in sorted(formats - {'ctranslate2'}):
    checkpoints.save(folder / name, model, format=name)
  if 'ctranslate2' in formats:
    with warnings.catch_warnings():
      warnings.simplefilter('ignore')
      from ctranslate2.converters import transformers as converters
    converter = converters.TransformersConverter(
      str(folder / 'hugging_face'), copy_files=['spiece.model']
    )
    converter.convert(str(folder / 'ctranslate2'))
