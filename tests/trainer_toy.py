# Copyright 2026 The pid_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""A task and a model small enough to train inside a test, and a command.

An input is four digits that number it and some letters; the subtasks ask for
the first and the last letter. Run as a script, it trains in a process of its
own, which a test can kill, and logs the examples of each step.
"""

import argparse
import functools
import json
import os
import pathlib
import sys
import tempfile

import numpy as np
import sentencepiece
import seqio

from pid_jax import config
from pid_jax import model
from pid_jax import network
from pid_jax import subtasks
from pid_jax import trainer
from pid_jax.subtasks import metrics
from pid_jax.trainer import optimizers

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
  path = pathlib.Path(
    os.environ.get('TOY_VOCABULARY') or tempfile.mkdtemp() + '/toy.model'
  )
  if path.exists():
    return seqio.SentencePieceVocabulary(str(path))
  words = ' '.join([*LETTERS, *'0123456789', 'first', 'last'])
  sentencepiece.SentencePieceTrainer.train(
    sentence_iterator=iter([words] * 20),
    model_prefix=str(path.with_suffix('')),
    model_type='word',
    vocab_size=27,
    pad_id=0,
    eos_id=1,
    unk_id=2,
    bos_id=-1,
    minloglevel=2,
  )
  return seqio.SentencePieceVocabulary(str(path))


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
  fields = dict(
    vocab_size=128,
    num_tokens=27,
    emb_dim=16,
    num_heads=2,
    head_dim=8,
    num_encoder_layers=1,
    num_decoder_layers=1,
    mlp_dim=32,
    dropout_rate=0.1,
  )
  return config.T5Config(**{**fields, **overrides})


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


def log_steps(path: pathlib.Path) -> None:
  """Makes each train step append its number and examples to a file."""
  from pid_jax.trainer import step as step_lib

  compile_train_step = step_lib.compile_train_step

  def compile_and_log(*args, **kwargs):
    step = compile_train_step(*args, **kwargs)

    def logged(state, batch):
      line = {'step': int(state.step) + 1, 'examples': example_numbers(batch)}
      with path.open('a') as f:
        f.write(json.dumps(line) + '\n')
      return step(state, batch)

    return logged

  step_lib.compile_train_step = compile_and_log


def main(args) -> None:
  if args.log:
    log_steps(pathlib.Path(args.log))
  train(
    args.model_dir,
    total_steps=args.steps,
    checkpoint_cfg=trainer.CheckpointConfig(period=args.period),
    ema_decay=0.9,
    num_microbatches=2,
  )


if __name__ == '__main__':
  parser = argparse.ArgumentParser()
  parser.add_argument('model_dir')
  parser.add_argument('--steps', type=int, default=60)
  parser.add_argument('--period', type=int, default=3)
  parser.add_argument('--log')
  sys.path.insert(0, os.path.dirname(__file__))
  from pid_jax import cli

  cli.run(
    main,
    doc=__doc__,
    flags=lambda p: [p._add_action(a) for a in parser._actions[1:]],
  )
