# Copyright 2026 The pid_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""A task and a model small enough to train inside a test.

An input is four digits that number it and some letters; the subtasks ask for
the first and the last letter.
"""

import functools
import os
import shutil
import tempfile

import numpy as np
import seqio

from pid_jax import config
from pid_jax import model
from pid_jax import network
from pid_jax import subtasks
from pid_jax import trainer
from pid_jax.subtasks import metrics
from pid_jax.trainer import optimizers
from toys import configs
from toys import vocabularies

LETTERS = 'abcdefghijkl'
LENGTHS = {
  'inputs': 24,
  'prompts': 2,
  'targets': 2,
  'subtasks': 2,
  'decoder': 16,
}
NUM_TRAIN = 2000


def example(index: int, split: str) -> dict:
  seed = index if split == 'train' else index + NUM_TRAIN
  letters = list(np.random.default_rng(seed).choice(list(LETTERS), 6))
  return {
    'example_id': f'{split}-{index}',
    'inputs': ' '.join([*f'{index:04d}', *letters]),
    'prompts': ['first', 'last'],
    'targets': [letters[0], letters[-1]],
    'subtasks': ['first', 'last'],
  }


@functools.cache
def vocabulary() -> seqio.SentencePieceVocabulary:
  """One piece for each digit, letter and prompt.

  Processes that share a MODEL_DIR must share the file too: $TOY_VOCABULARY.
  """
  path = vocabularies.words(*LETTERS, *'0123456789', 'first', 'last')
  if shared := os.environ.get('TOY_VOCABULARY'):
    if not os.path.exists(shared):
      shutil.copyfile(path, shared)
    path = shared
  return seqio.SentencePieceVocabulary(path)


@functools.cache
def register() -> str:
  """Registers the task toy with its layouts, once a process."""
  splits = {
    'train': [example(i, 'train') for i in range(NUM_TRAIN)],
    'validation': [example(i, 'validation') for i in range(10)],
  }
  subtasks.register(
    'toy',
    source=subtasks.InMemoryDataSource(splits),
    vocabulary=vocabulary(),
    metric_fns=[metrics.joint_goal_accuracy, metrics.exact_match],
    joint_separator=' 0 ',  # All else is unknown to the vocabulary.
  )
  return 'toy'


def t5_config(**overrides) -> config.T5Config:
  fields = dict(vocab_size=128, num_tokens=27, mlp_activations=('relu',))
  return configs.tiny(**{**fields, 'dropout_rate': 0.1, **overrides})


def t5_model(**overrides) -> model.EncoderDecoderModel:
  return model.EncoderDecoderModel(network.Transformer(t5_config(**overrides)))


def dataset_config(split: str = 'train', **overrides) -> trainer.DatasetConfig:
  fields = dict(
    mixture_or_task_name=register(),
    task_feature_lengths=LENGTHS,
    split=split,
    batch_size=8,
    shuffle=split == 'train',
    pack=split == 'train',
    num_threads=1,
  )
  return trainer.DatasetConfig(**{**fields, **overrides})


def train(model_dir, **overrides) -> trainer.TrainState:
  """Trains with defaults that suit a test; `overrides` as `trainer.train`."""
  arguments = dict(
    model=t5_model(),
    model_dir=str(model_dir),
    train_dataset_cfg=dataset_config(),
    optimizer=optimizers.adafactor(1e-2, max_grad_norm=1.0),
    total_steps=8,
    checkpoint_cfg=trainer.CheckpointConfig(period=4),
    log_period=4,
  )
  return trainer.train(**{**arguments, **overrides})


@functools.cache
def _finished() -> tuple[str, trainer.TrainState]:
  model_dir = f'{tempfile.mkdtemp()}/finished'
  return model_dir, train(model_dir, total_steps=2)


def copy_finished(model_dir) -> trainer.TrainState:
  """Makes MODEL_DIR that of a run of two steps, trained once a process."""
  source, state = _finished()
  shutil.copytree(source, model_dir, dirs_exist_ok=True)
  return state


def example_numbers(batch) -> list[int]:
  """The numbers of the examples of a packed batch."""
  digits = {vocabulary().encode(d)[0]: d for d in '0123456789'}
  numbers = []
  for tokens, segments in zip(
    np.asarray(batch['encoder_input_tokens']),
    np.asarray(batch['encoder_segment_ids']),
    strict=True,
  ):
    for segment in range(1, segments.max() + 1):
      first = tokens[segments == segment][:4]
      numbers.append(int(''.join(digits[int(t)] for t in first)))
  return numbers
