# Copyright 2026 The pid_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""PiE's and joint's updates hold the examples of PiD's, no more and no less."""

import collections
import dataclasses
import functools
import itertools

import numpy as np
import pytest
import seqio
from toys import training as toy

from pid_jax import subtasks
from pid_jax.experiments import matched_batches
from pid_jax.trainer import data

NUM_UPDATES = 5
PIE = matched_batches.Arm('pie')
# One subtask to an input, whose target is all letters of the input.
COARSE = matched_batches.Arm(
  'updates_coarse',
  {'inputs': 24, 'prompts': 1, 'targets': 8, 'subtasks': 1, 'decoder': 16},
)
# Six rows of 24 and 13 tokens: up to two inputs share one; an input with more
# subtasks than fit into a row is split.
LENGTHS = {
  'inputs': 24,
  'prompts': 2,
  'targets': 3,
  'subtasks': 5,
  'decoder': 13,
}


def _example(index: int) -> dict:
  """Up to five subtasks; the answer is a letter, two, or nothing ('a')."""
  rng = np.random.default_rng(index)
  letters = rng.choice(list(toy.LETTERS[1:]), 6)
  names = [('first', 'last', 'first first', 'last first', 'last last')[i]
           for i in range(rng.integers(1, 6))]  # fmt: skip
  answers = [letters[0], 'a', f'{letters[1]} {letters[2]}', 'a', 'a']
  return {
    'example_id': str(index),
    'inputs': ' '.join([*f'{index:04d}', *letters[: rng.integers(1, 7)]]),
    'prompts': names,
    'targets': answers[: len(names)],
    'subtasks': names,
    'subtask_weights': [1.0, 0.5, 1.0, 1.0, 2.0][: len(names)],
  }


@functools.cache
def _task() -> str:
  subtasks.register(
    'updates',
    source=subtasks.InMemoryDataSource(
      {'train': [_example(i) for i in range(60)]}
    ),
    vocabulary=toy.vocabulary(),
    empty_target='a',
    joint_separator=' 9 ',
  )
  return 'updates'


def _register_coarse(name: str, numbers) -> None:
  def example(index):
    inputs = _example(index)['inputs']
    return {
      'example_id': str(index),
      'inputs': inputs,
      'prompts': ['first'],
      'targets': [' '.join(inputs.split()[4:])],
      'subtasks': ['all'],
    }

  subtasks.register(
    name,
    source=subtasks.InMemoryDataSource({'train': [*map(example, numbers)]}),
    vocabulary=toy.vocabulary(),
  )


def _config(**overrides) -> data.DatasetConfig:
  converter = functools.partial(
    subtasks.PromptInDecoderFeatureConverter, max_empty_subtasks=2, window=16
  )
  fields = dict(
    mixture_or_task_name=_task(),
    task_feature_lengths=LENGTHS,
    batch_size=6,
    seed=3,
    num_threads=1,
    feature_converter=converter,
  )
  return data.DatasetConfig(**{**fields, **overrides})


def _batches(cfg: data.DatasetConfig) -> list[dict[str, np.ndarray]]:
  """As the trainer reads them."""
  iterator = data.TrainIterator(data.dataset(cfg, None))
  return list(itertools.islice(iterator, NUM_UPDATES))


def _texts(batch, decoder_ids: str) -> list[tuple[str, str, str, str]]:
  """(input, what the loss is not on, target, weights) of each target."""
  read = lambda tokens: toy.vocabulary().decode(
    [int(t) for t in tokens if t > 1]
  )
  found = []
  for i in range(len(batch['encoder_input_tokens'])):
    row = {name: value[i] for name, value in batch.items()}
    for number in range(1, row[decoder_ids].max() + 1):
      mine = row[decoder_ids] == number
      segment = row['decoder_segment_ids'][mine][0]
      tokens, weights = (
        row[name][mine]
        for name in ('decoder_target_tokens', 'decoder_loss_weights')
      )
      # The decoder reads the start, then what it should have written.
      np.testing.assert_array_equal(
        row['decoder_input_tokens'][mine], [0, *tokens[:-1]]
      )
      assert tokens[-1] == 1
      of_input = row['encoder_segment_ids'] == segment
      inputs = row['encoder_input_tokens'][of_input]
      assert inputs[-1] == 1 and 1 not in inputs[:-1]
      found.append(
        (
          read(inputs),
          read(tokens[weights == 0]),
          read(tokens[weights > 0]),
          str(weights[weights > 0]),
        )
      )
  return found


@functools.cache
def _pid_batches() -> list[dict[str, np.ndarray]]:
  return _batches(_config())


@functools.cache
def _shape(arm: matched_batches.Arm) -> matched_batches.Shape:
  return matched_batches.measure(_config(), arm, NUM_UPDATES)


@functools.cache
def _pid() -> list[list[tuple[str, str, str, str]]]:
  return [_texts(b, 'decoder_subtask_ids') for b in _pid_batches()]


def _trained_on(layout: str) -> list[list[tuple[str, str, str, str]]]:
  arm = matched_batches.Arm(layout)
  shape = _shape(arm)
  cfg = matched_batches.train_config(_config(), arm, shape)
  assert cfg.mixture_or_task_name == f'updates_{layout}'
  batches = _batches(cfg)
  rows = [np.any(b['encoder_input_tokens'] > 0, axis=1).sum() for b in batches]
  assert max(rows) == shape.rows == len(batches[0]['encoder_input_tokens'])
  texts = [_texts(b, 'decoder_segment_ids') for b in batches]
  assert sum(map(len, texts)) == shape.pairs
  total = sum((b['encoder_input_tokens'] > 0).sum() for b in batches)
  assert total == shape.encoder_tokens
  return texts


def test_updates_of_pie_are_those_of_pid():
  for pid, pie in zip(_pid(), _trained_on('pie'), strict=True):
    expected = collections.Counter(
      (f'{prompt} {text}', '', target, weights)
      for text, prompt, target, weights in pid
    )
    assert collections.Counter(pie) == expected


def test_updates_of_joint_are_those_of_pid():
  by_input = {_example(i)['inputs']: _example(i) for i in range(60)}
  seen = set()
  for pid, joint in zip(_pid(), _trained_on('joint'), strict=True):
    inputs = {text for text, *_ in pid}
    # An input whose subtasks go on in the next update came with the first.
    assert {text for text, *_ in joint} | (seen & inputs) == inputs
    assert len(joint) == len({text for text, *_ in joint})
    for text, nothing, target, _ in joint:
      assert not nothing
      assert target == ' 9 '.join(by_input[text]['targets'])
    seen = inputs


def test_updates_of_another_task_have_the_inputs_of_pid():
  _task()
  _register_coarse(COARSE.name, range(60))
  shape = matched_batches.measure(_config(), COARSE, NUM_UPDATES)
  cfg = matched_batches.train_config(_config(), COARSE, shape)
  assert cfg.mixture_or_task_name == COARSE.name
  batches = _batches(cfg)
  rows = [np.any(b['encoder_input_tokens'] > 0, axis=1).sum() for b in batches]
  assert max(rows) == shape.rows == len(batches[0]['encoder_input_tokens'])
  assert shape.decoder_length == batches[0]['decoder_input_tokens'].shape[1]
  seen, tokens = set(), 0
  for pid, batch in zip(_pid(), batches, strict=True):
    inputs = {text for text, *_ in pid}
    coarse = _texts(batch, 'decoder_subtask_ids')
    assert {text for text, *_ in coarse} | (seen & inputs) == inputs
    assert len(coarse) == len({text for text, *_ in coarse})
    for text, prompt, target, _ in coarse:
      assert (prompt, target) == ('first', ' '.join(text.split()[4:]))
    seen = inputs
    tokens += (batch['decoder_target_tokens'] > 0).sum()
  assert shape.inputs == shape.pairs
  assert shape.decoder_tokens == tokens


def test_another_task_with_other_inputs_is_refused():
  _task()
  _register_coarse('updates_backwards', range(59, -1, -1))
  arm = matched_batches.Arm('updates_backwards', COARSE.lengths)
  with pytest.raises(Exception, match='has other inputs than'):
    matched_batches.measure(_config(), arm, 1)


def test_what_pid_is_fed_is_counted():
  shape = _shape(matched_batches.Arm('pid'))
  batches = _pid_batches()
  assert shape.pairs == sum(map(len, _pid()))
  tokens = sum((b['decoder_target_tokens'] > 0).sum() for b in batches)
  assert shape.decoder_tokens == tokens
  assert shape.inputs == len({text for update in _pid() for text, *_ in update})
  repeated = sum(b['inputs_repeated'].sum() for b in batches)
  assert repeated, 'no input was split: the case is too easy'


@pytest.mark.slow
def test_decoder_rows_have_the_length_that_wastes_least(monkeypatch):
  shares, sizes = matched_batches._SHARES, []
  joint = matched_batches.Arm('joint')
  chosen = _shape(joint)
  for share in shares:
    monkeypatch.setattr(matched_batches, '_SHARES', (share,))
    shape = matched_batches.measure(_config(), joint, NUM_UPDATES)
    sizes.append(shape.rows * (shape.encoder_length + shape.decoder_length))
  assert len(set(sizes)) > 1, 'the case is too easy'
  assert chosen.tokens == min(sizes)


@pytest.mark.slow
def test_the_position_in_the_updates_can_be_saved():
  shape = _shape(PIE)
  cfg = matched_batches.train_config(_config(), PIE, shape)
  iterator = data.TrainIterator(data.dataset(cfg, None))
  next(iterator)
  position = iterator.save()
  expected = next(iterator)
  again = data.TrainIterator(data.dataset(cfg, None))
  again.restore(position)
  for name, value in next(again).items():
    np.testing.assert_array_equal(value, expected[name])


def test_a_fuller_update_than_measured_is_an_error():
  shape = _shape(PIE)
  cfg = matched_batches.train_config(
    _config(), PIE, dataclasses.replace(shape, rows=shape.rows - 1)
  )
  with pytest.raises(Exception, match='more than the .* rows'):
    _batches(cfg)


def test_nothing_is_cut_that_pid_does_not_cut():
  of = lambda arm: matched_batches.lengths_of(_config(), arm)
  assert of(matched_batches.Arm('pid')) == LENGTHS
  assert of(PIE) == {'inputs': 26, 'targets': 3}
  # Five targets of two tokens, four separators of one, EOS.
  assert of(matched_batches.Arm('joint')) == {'inputs': 24, 'targets': 15}
  assert of(COARSE) == COARSE.lengths
  assert seqio.get_mixture_or_task(f'{_task()}_joint')
