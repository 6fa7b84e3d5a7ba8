# Copyright 2026 The pid_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""Packed rows against a NumPy loop, and against the masks they imply."""

import collections

import numpy as np
import pytest
import tensorflow as tf

from pid_jax import subtasks

S, L = 24, 40
LENGTHS = {'inputs': S, 'prompts': 6, 'targets': 8, 'subtasks': 9, 'decoder': L}
DTYPES = {'subtask_weights': tf.float32}
RANKS = {'prompts': 2, 'targets': 2}
Example = dict[str, np.ndarray]


def _example(rng, max_subtasks, next_token) -> Example:
  """Multi-prompt features; `next_token` returns a new id for each token."""
  num_subtasks = rng.integers(1, max_subtasks + 1)
  row = lambda size: [next_token() for _ in range(size)]
  prompts = [row(rng.integers(1, 7)) for _ in range(num_subtasks)]
  targets = [row(rng.integers(0, 8)) + [1] for _ in range(num_subtasks)]
  empty = rng.random(num_subtasks) < 0.5
  draws = rng.permutation(1000)[:num_subtasks] + 1
  return {
    'inputs': np.array([*row(rng.integers(0, S)), 1], np.int32),
    'inputs_truncated': np.array([rng.integers(2)], np.int32),
    'prompts': _pad(prompts),
    'subtask_weights': rng.choice([0.5, 1, 2], num_subtasks).astype(np.float32),
    'subtasks': np.where(empty, draws, 0).astype(np.int32),
    'targets': _pad(targets),
  }


def _examples(seed, number=50, max_subtasks=9) -> list[Example]:
  rng = np.random.default_rng(seed)
  tokens = iter(range(2, 1_000_000))
  return [
    _example(rng, max_subtasks, lambda: next(tokens)) for _ in range(number)
  ]


def _pad(rows) -> np.ndarray:
  width = max(map(len, rows))
  return np.array([[*r, *[0] * (width - len(r))] for r in rows], np.int32)


def _convert(examples, pack=True, lengths=None, **options) -> list[Example]:
  signature = {
    key: tf.TensorSpec([None] * RANKS.get(key, 1), DTYPES.get(key, tf.int32))
    for key in examples[0]
  }
  dataset = tf.data.Dataset.from_generator(
    lambda: iter(examples), output_signature=signature
  )
  converter = subtasks.PromptInDecoderFeatureConverter(pack, **options)
  return list(converter(dataset, lengths or LENGTHS).as_numpy_iterator())


def _kept(example, max_empty) -> list[int]:
  draws = example['subtasks']
  limit = sorted(draws[draws > 0])[:max_empty]
  return [
    u
    for u, draw in enumerate(draws)
    if draw == 0 or max_empty is None or draw in limit
  ]


def _size(example, u) -> int:
  return int(
    (example['prompts'][u] > 0).sum() + (example['targets'][u] > 0).sum()
  )


def _reference_rows(examples, max_inputs, max_empty) -> list[list[tuple]]:
  """First fit of one window: rows of (example, its subtasks, is repeated)."""
  parts, sizes = [], []
  for index, example in enumerate(examples):
    part, used, is_repeated = [], 0, False
    for u in [*_kept(example, max_empty), None]:
      if part and (u is None or used + _size(example, u) > L):
        parts.append((index, part, is_repeated))
        sizes.append((len(example['inputs']), used))
        part, used, is_repeated = [], 0, True
      if u is not None:
        part, used = [*part, u], used + _size(example, u)
  share = lambda i: max(sizes[i][0] / S, sizes[i][1] / L)
  rows = []
  for i in sorted(range(len(parts)), key=share, reverse=True):
    for row in rows:
      inputs, decoder = np.sum([sizes[j] for j in [*row, i]], axis=0)
      if inputs <= S and decoder <= L and len(row) < max_inputs:
        row.append(i)
        break
    else:
      rows.append([i])
  return [[parts[i] for i in sorted(row)] for row in sorted(rows, key=min)]


def _reference_features(examples, row) -> Example:
  """Fills one row in token by token."""
  out = collections.defaultdict(list)
  counts = collections.Counter()
  running = 0
  for segment, (index, members, is_repeated) in enumerate(row, start=1):
    example = examples[index]
    for position, token in enumerate(example['inputs']):
      out['encoder_input_tokens'].append(token)
      out['encoder_segment_ids'].append(segment)
      out['encoder_positions'].append(position)
    counts['inputs_repeated'] += is_repeated
    if not is_repeated:
      counts['inputs_truncated'] += example['inputs_truncated'][0]
    for u in members:
      running += 1
      prompt = [t for t in example['prompts'][u] if t]
      target = [t for t in example['targets'][u] if t]
      counts['targets_truncated'] += 1 not in target
      for position, token in enumerate(prompt + target):
        is_target = position >= len(prompt)
        before = (prompt + target)[position - 1] if position else 0
        out['decoder_input_tokens'].append(before)
        out['decoder_target_tokens'].append(token)
        out['decoder_segment_ids'].append(segment)
        out['decoder_subtask_ids'].append(running)
        out['decoder_positions'].append(position)
        out['decoder_loss_weights'].append(
          example['subtask_weights'][u] if is_target else 0
        )
  padded = {
    key: np.array(v + [0] * ((S if key[0] == 'e' else L) - len(v)))
    for key, v in out.items()
  }
  names = ('inputs_truncated', 'targets_truncated', 'inputs_repeated')
  return {**padded, **{name: counts[name] for name in names}}


@pytest.mark.parametrize(
  'max_inputs, max_empty', [(None, None), (2, 2), (1, None), (None, 0)]
)
def test_rows_are_those_of_a_loop(max_inputs, max_empty):
  examples, window = _examples(0, number=150), 20

  rows = _convert(
    examples,
    window=window,
    max_empty_subtasks=max_empty,
    max_inputs_per_row=max_inputs,
  )

  want = []
  for start in range(0, len(examples), window):
    part = examples[start : start + window]
    for row in _reference_rows(part, max_inputs or window, max_empty):
      want.append(_reference_features(part, row))
  assert len(rows) == len(want)
  for got_row, want_row in zip(rows, want, strict=True):
    assert got_row.keys() == want_row.keys()
    for key, value in want_row.items():
      np.testing.assert_array_equal(got_row[key], value, err_msg=key)
  # The cases are worth the name: inputs are split, rows are shared.
  assert any(r['inputs_repeated'] for r in rows)
  shared = max(r['encoder_segment_ids'].max() for r in rows)
  assert (shared > 1) == (max_inputs != 1)


def test_masks_let_a_token_see_its_own_subtask_and_input_only():
  # Without EOS, token ids are unique and identify their subtask.
  examples = _examples(3)
  owner = {}
  for index, example in enumerate(examples):
    example['inputs'] = example['inputs'][:-1]
    example['targets'][example['targets'] == 1] = 0
    owner |= {t: (index, None) for t in example['inputs']}
    for key in ('prompts', 'targets'):
      for u, row in enumerate(example[key]):
        owner |= {t: (index, u) for t in row if t}

  seen = collections.Counter()
  for row in _convert(examples):
    encoder, decoder = row['encoder_input_tokens'], row['decoder_target_tokens']
    seen.update(decoder[decoder > 0].tolist())
    segment, subtask = row['decoder_segment_ids'], row['decoder_subtask_ids']
    position = row['decoder_positions']
    for i, token in enumerate(decoder):
      if not token:
        assert segment[i] == subtask[i] == row['decoder_loss_weights'][i] == 0
        continue
      sees = (subtask == subtask[i]) & (position <= position[i])
      mates = [
        j for j, t in enumerate(decoder) if t and owner[t] == owner[token]
      ]
      assert np.flatnonzero(sees).tolist() == [j for j in mates if j <= i]
      context = encoder[row['encoder_segment_ids'] == segment[i]]
      np.testing.assert_array_equal(
        context, examples[owner[token][0]]['inputs']
      )
  # Each token of each prompt and target exactly once.
  assert set(seen.values()) == {1}
  assert seen.keys() == {t for t, (_, u) in owner.items() if u is not None}


def test_the_documented_example():
  example = {
    'inputs': np.array([7, 8, 1], np.int32),
    'inputs_truncated': np.array([0], np.int32),
    'prompts': np.array([[5, 0], [6, 4]], np.int32),
    'subtask_weights': np.array([1, 1], np.float32),
    'subtasks': np.array([0, 0], np.int32),
    'targets': np.array([[9, 1], [3, 1]], np.int32),
  }
  lengths = dict(inputs=4, prompts=2, targets=2, subtasks=2, decoder=8)

  (row,) = _convert([example], lengths=lengths)

  want = dict(
    encoder_input_tokens=[7, 8, 1, 0],
    encoder_segment_ids=[1, 1, 1, 0],
    encoder_positions=[0, 1, 2, 0],
    decoder_input_tokens=[0, 5, 9, 0, 6, 4, 3, 0],
    decoder_target_tokens=[5, 9, 1, 6, 4, 3, 1, 0],
    decoder_segment_ids=[1, 1, 1, 1, 1, 1, 1, 0],
    decoder_subtask_ids=[1, 1, 1, 2, 2, 2, 2, 0],
    decoder_positions=[0, 1, 2, 0, 1, 2, 3, 0],
    decoder_loss_weights=[0, 1, 1, 0, 0, 1, 1, 0],
    inputs_truncated=0,
    targets_truncated=0,
    inputs_repeated=0,
  )
  assert {k: v.tolist() for k, v in row.items()} == want
  dtypes = {k: v.dtype for k, v in row.items()}
  assert dtypes.pop('decoder_loss_weights') == np.float32
  assert set(dtypes.values()) == {np.dtype(np.int32)}

  (row,) = _convert([example], pack=False, lengths={**lengths, 'subtasks': 3})

  assert {k: v.tolist() for k, v in row.items()} == dict(
    encoder_input_tokens=[7, 8, 1, 0],
    decoder_prompt_tokens=[[5, 0], [6, 4], [0, 0]],
    decoder_target_tokens=[[9, 1], [3, 1], [0, 0]],
    inputs_truncated=0,
    targets_truncated=0,
  )


def test_an_input_without_kept_subtasks_is_dropped():
  examples = _examples(5, number=3)
  for example in examples:
    example['subtasks'][:] = 7
  assert not _convert(examples, max_empty_subtasks=0)


def test_efficiency_is_the_share_that_is_not_padding():
  rows = _convert(_examples(6))
  batch = {k: np.stack([r[k] for r in rows]) for k in rows[0]}
  figures = subtasks.packing_efficiency(batch)
  tokens = batch['decoder_target_tokens']
  assert figures['decoder_efficiency'] == np.mean(tokens != 0)
  assert figures['encoder_efficiency'] == np.mean(
    batch['encoder_input_tokens'] != 0
  )
  inputs = 50 + batch['inputs_repeated'].sum()
  assert figures['inputs_per_row'] == pytest.approx(inputs / len(rows))


def test_packing_needs_the_length_of_a_row():
  lengths = {k: v for k, v in LENGTHS.items() if k != 'decoder'}
  with pytest.raises(ValueError, match="add 'decoder'"):
    _convert(_examples(7), lengths=lengths)
