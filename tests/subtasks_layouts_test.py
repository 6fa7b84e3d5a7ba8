# Copyright 2026 The pid_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""The three layouts of a task: exact features, lengths, samples, resumption."""

import collections

import numpy as np
import pytest
import seqio
import tensorflow as tf
from toys import subtasks_data

from pid_jax import subtasks
from pid_jax.subtasks import tokenization

EXAMPLE = {
  'example_id': 'one',
  'inputs': 'two nights in the old hotel',
  'prompts': ['s0 :', 's1'],
  'targets': ['none', 'two nights'],
  'subtasks': ['length', 'stay'],
}
LENGTHS = dict(inputs=16, prompts=3, targets=6, subtasks=6, decoder=24)
TEXT_LENGTHS = dict(inputs=16, targets=24)


def _encode(text, eos=True) -> list[int]:
  return subtasks_data.vocabulary().encode(text) + [1] * eos


def _dataset(name, lengths=None, **kwargs) -> tf.data.Dataset:
  kwargs = {'split': 'train', 'shuffle': False, **kwargs}
  return seqio.get_mixture_or_task(name).get_dataset(lengths, **kwargs)


def _list(dataset) -> list[dict[str, np.ndarray]]:
  return list(dataset.as_numpy_iterator())


def _rows(name, lengths=None, **changes) -> list[dict[str, np.ndarray]]:
  return subtasks_data.rows(name, [{**EXAMPLE, **changes}], lengths)


def _message(name, lengths=None, **changes) -> str:
  with pytest.raises(tf.errors.InvalidArgumentError) as error:
    _rows(name, lengths, **changes)
  return str(subtasks.user_error(error.value))


@pytest.fixture(scope='module', name='name')
def _name():
  return subtasks_data.register({'train': [EXAMPLE]})


def test_multi_prompt_features(name):
  dataset = _dataset(name, LENGTHS, seed=1)
  # T5X's infer pads and batches features, which ragged ones do not allow.
  assert all(
    isinstance(spec, tf.TensorSpec) for spec in dataset.element_spec.values()
  )
  (row,) = _list(dataset)
  keys = row.pop('subtasks')
  assert keys[0] > 0 and keys[1] == 0
  plain = {k: v.tolist() for k, v in row.items() if isinstance(v, np.ndarray)}
  assert plain == {
    'inputs': _encode(EXAMPLE['inputs']),
    'inputs_truncated': [0],
    'prompts': [_encode('s0 :', False), [*_encode('s1', False), 0]],
    'prompts_pretokenized': [b's0 :', b's1'],
    'subtask_weights': [1, 1],
    'subtasks_pretokenized': [b'length', b'stay'],
    'targets': [[*_encode('none'), 0], _encode('two nights')],
    'targets_pretokenized': [b'none', b'two nights'],
  }
  assert row['example_id'] == b'one'
  assert row['inputs_pretokenized'] == EXAMPLE['inputs'].encode()
  # Without limits, and without graphs, as in the tests below.
  (eager,) = _rows(name)
  assert eager.pop('subtasks').tolist() == [1, 0]
  assert eager.keys() == row.keys()
  for key, value in row.items():
    np.testing.assert_array_equal(eager[key], value)


def test_text_to_text_features(name):
  pie = _dataset(f'{name}_pie', TEXT_LENGTHS)
  joint = _dataset(f'{name}_joint', TEXT_LENGTHS)
  for dataset in (pie, joint):
    assert all(
      isinstance(spec, tf.TensorSpec) for spec in dataset.element_spec.values()
    )
  seqio.test_utils.assert_dataset(
    pie,
    [
      {
        'inputs': _encode('s0 : two nights in the old hotel'),
        'inputs_pretokenized': 's0 : two nights in the old hotel',
        'targets': _encode('none'),
        'targets_pretokenized': 'none',
        'example_id': 'one',
        'subtask_name': 'length',
        'subtask_index': 0,
        'num_subtasks': 2,
        'empty_rank': 0,
        'inputs_truncated': 0,
        'targets_truncated': 0,
        'example_inputs': EXAMPLE['inputs'],
        'example_targets': ['none', 'two nights'],
        'prompts_pretokenized': ['s0 :', 's1'],
        'subtasks_pretokenized': ['length', 'stay'],
      },
      {
        'inputs': _encode('s1 two nights in the old hotel'),
        'inputs_pretokenized': 's1 two nights in the old hotel',
        'targets': _encode('two nights'),
        'targets_pretokenized': 'two nights',
        'example_id': 'one',
        'subtask_name': 'stay',
        'subtask_index': 1,
        'num_subtasks': 2,
        'empty_rank': -1,
        'inputs_truncated': 0,
        'targets_truncated': 0,
        'example_inputs': '',
        'example_targets': [],
        'prompts_pretokenized': [],
        'subtasks_pretokenized': [],
      },
    ],
  )
  seqio.test_utils.assert_dataset(
    joint,
    {
      'inputs': _encode(EXAMPLE['inputs']),
      'inputs_pretokenized': EXAMPLE['inputs'],
      'targets': _encode('none ; two nights'),
      'targets_pretokenized': 'none ; two nights',
      'example_id': 'one',
      'example_targets': ['none', 'two nights'],
      'prompts_pretokenized': ['s0 :', 's1'],
      'subtasks_pretokenized': ['length', 'stay'],
      'inputs_truncated': 0,
      'targets_truncated': 0,
    },
  )


@pytest.mark.parametrize(
  'long_inputs, kept, beside',
  [
    ('keep_start', 'two nights in', 'two nights'),
    ('keep_end', 'the old hotel', 'old hotel'),
  ],
)
def test_truncation_is_counted(long_inputs, kept, beside):
  name = subtasks_data.register({'train': [EXAMPLE]}, long_inputs=long_inputs)
  (row,) = _rows(name, {**LENGTHS, 'inputs': 4, 'targets': 2})
  assert row['inputs'].tolist() == _encode(kept)
  assert row['inputs_truncated'] == [1]
  # No EOS after truncation: nothing should learn to stop there.
  assert row['targets'].tolist() == [
    _encode('none'),
    _encode('two nights', False),
  ]
  # The prompt of the baseline stays whole: the input has what is left.
  text = dict(inputs=5, targets=2)
  rows = _rows(f'{name}_pie', text)
  assert rows[0]['inputs'].tolist() == _encode(f's0 : {beside}')
  assert [r['inputs_truncated'] for r in rows] == [1, 1]
  assert [r['targets_truncated'] for r in rows] == [0, 1]
  (row,) = _rows(f'{name}_joint', text)
  assert row['inputs_truncated'] == row['targets_truncated'] == 1
  assert row['targets'].tolist() == _encode('none ;', False)


@pytest.mark.parametrize('pack', [True, False])
def test_converters_count_truncation_and_weight_the_loss(pack):
  example = {**EXAMPLE, 'subtask_weights': [0.0, 2.5]}
  name = subtasks_data.register({'train': [example]})
  short = {**LENGTHS, 'inputs': 4, 'targets': 2}
  converter = subtasks.PromptInDecoderFeatureConverter(pack)
  (row,) = _list(seqio.get_dataset(name, short, converter))
  assert row['inputs_truncated'] == row['targets_truncated'] == 1
  if pack:
    per_subtask = [
      set(row['decoder_loss_weights'][row['decoder_subtask_ids'] == i])
      for i in (1, 2)
    ]
    assert per_subtask == [{0.0}, {0.0, 2.5}]


def test_measured_lengths_and_how_many_are_over(name):
  short = {**LENGTHS, 'inputs': 4, 'targets': 2}
  found = subtasks.measure_lengths(name, 'train', short)
  assert {k: (v.longest, v.over) for k, v in found.items()} == {
    'inputs': (7, 1),
    'prompts': (2, 0),
    'targets': (3, 1),
    'subtasks': (2, 0),
    'decoder': (4, 0),
    'example': (8, 0),
  }
  found = subtasks.measure_lengths(f'{name}_pie', 'train')
  assert {k: (v.longest, v.count) for k, v in found.items()} == {
    'inputs': (9, 2),
    'targets': (3, 2),
  }


@pytest.mark.parametrize(
  'layout, lengths, changes, parts',
  [
    ('', dict(prompts=1), {}, ('subtask length', '2 tokens', 'prompts = 1')),
    ('', dict(subtasks=1), {}, ('2 subtasks', 'subtasks = 1')),
    ('', dict(decoder=3), {}, ('subtask length', '4 tokens', 'decoder = 3')),
    ('_pie', dict(inputs=3), {}, ('subtask length', '2 tokens', 'inputs = 3')),
    ('', {}, dict(prompts=['s0', ' ']), ('subtask stay', 'prompt is empty')),
    ('_pie', {}, dict(prompts=['s0', ' ']), ('subtask stay', 'is empty')),
    ('', {}, dict(targets=['none']), ('2 prompts', '1 targets', '2 subtask')),
    (
      '_joint',
      {},
      dict(targets=['none', 'two ; nights']),
      ('subtask stay', "separator ';'"),
    ),
  ],
)
def test_examples_that_stop_the_run(name, layout, lengths, changes, parts):
  message = _message(name + layout, lengths, **changes)
  assert message.startswith(f'task {name}, example one')
  for part in parts:
    assert part in message


def test_messages_of_graphs():
  example = {
    **EXAMPLE,
    'prompts': ['', 's1'],
    'subtasks': ['l\u00e4nge\n"1"' + 'x' * 200, 'b'],
  }
  name = subtasks_data.register({'train': [example]})
  with pytest.raises(tf.errors.InvalidArgumentError) as error:
    _list(_dataset(name))
  message = str(subtasks.user_error(error.value))
  name = f'task {name}, example one, subtask l\u00e4nge "1"' + 'x' * 71
  assert message.startswith(f'{name}: ')
  assert subtasks.user_error(ValueError('another')) is None


def test_long_inputs_can_be_an_error():
  name = subtasks_data.register({'train': [EXAMPLE]}, long_inputs='error')
  assert _rows(name, {'inputs': 7})
  for layout, length in (('', 6), ('_pie', 8)):
    message = _message(name + layout, {'inputs': length})
    assert 'example one' in message and '7 tokens' in message
    assert 'for 6' in message  # A prompt leaves less than the length.


def test_a_separator_that_the_vocabulary_lacks_is_refused():
  name = subtasks_data.register({'train': [EXAMPLE]}, joint_separator=' § ')
  with pytest.raises(ValueError, match="' § '"):
    _rows(f'{name}_joint')


def test_targets_that_the_vocabulary_writes_with_a_separator_are_refused():
  # SentencePiece's NFKC makes a semicolon of a full-width one.
  name = subtasks_data.register({'train': [EXAMPLE]})
  assert '\uff1b' not in subtasks_data.WORDS
  message = _message(f'{name}_joint', targets=['two \uff1b nights', 'x'])
  assert "contains the separator ';'" in message
  assert _rows(f'{name}_joint', targets=['two nights', ''])


def test_features_that_are_missing_or_of_another_type_are_named(name):
  lacking = {k: v for k, v in EXAMPLE.items() if k != 'prompts'}
  with pytest.raises(ValueError, match="lack 'prompts'"):
    subtasks_data.rows(name, [lacking])
  with pytest.raises(ValueError, match="'inputs' .* string tensor of rank 0"):
    _rows(name, inputs=3)


def _packed(
  name, seed=0, max_empty=None, max_inputs=None, **kwargs
) -> tf.data.Dataset:
  converter = subtasks.PromptInDecoderFeatureConverter(
    window=8, max_empty_subtasks=max_empty, max_inputs_per_row=max_inputs
  )
  return seqio.get_dataset(
    name, LENGTHS, converter, 'train', seed=seed, shuffle=True, **kwargs
  )


def _trained_on(rows) -> list[tuple]:
  """Inputs, with the tokens of prompt and target, of all subtasks in rows."""
  found = []
  for row in rows:
    for number in range(1, row['decoder_subtask_ids'].max() + 1):
      mine = row['decoder_subtask_ids'] == number
      (segment,) = set(row['decoder_segment_ids'][mine])
      inputs = row['encoder_input_tokens'][
        row['encoder_segment_ids'] == segment
      ]
      found.append(
        (tuple(inputs), tuple(row['decoder_target_tokens'][mine].tolist()))
      )
  return found


def test_each_epoch_samples_subtasks():
  # Prompts are all different, so that a subtask is known by its tokens.
  words = subtasks_data.WORDS
  example = {
    'example_id': 'one',
    'inputs': 'two nights',
    'prompts': words[:6],
    'targets': ['none', 'red', 'none', 'none', 'six', 'none'],
    'subtasks': words[:6],
  }
  name = subtasks_data.register({'train': [example]})
  filled = {tuple(_encode('nights red')), tuple(_encode('old six'))}

  rows = _list(_packed(name, max_empty=2, max_inputs=1, num_epochs=60))
  epochs = [{target for _, target in _trained_on([row])} for row in rows]

  assert len(epochs) == 60
  drawn = collections.Counter()
  for got in epochs:
    assert filled < got and len(got) == 4
    drawn.update(got - filled)
  # Each of the 4 is drawn in half of the epochs; 30 +- 5 standard deviations.
  assert len(drawn) == 4
  assert all(11 <= n <= 49 for n in drawn.values())
  assert len({frozenset(e) for e in epochs}) == 6


def test_samples_depend_only_on_the_seed():
  name = subtasks_data.register({'train': subtasks_data.examples(20)})
  run = lambda seed: _trained_on(_list(_packed(name, seed, max_empty=1)))
  first = run(1)
  assert first == run(1)
  assert sorted(first) != sorted(run(2))


def test_odds_weight_the_sample():
  n = 6000
  subtasks = np.tile([[4, 1, 0]], (n, 1)).astype(np.int32)
  ds = tf.data.Dataset.from_tensor_slices({'subtasks': subtasks})
  with seqio.utils.map_seed_manager(3):
    drawn = np.stack(
      [e['subtasks'] for e in tokenization.draw_keys(ds).as_numpy_iterator()]
    )
  assert (drawn[:, 2] == 0).all()
  assert (drawn[:, :2] > 0).all()
  # Odds of 4 to 1, within four standard deviations.
  share = np.mean(drawn[:, 0] < drawn[:, 1])
  assert abs(share - 4 / 5) < 4 * np.sqrt(0.8 * 0.2 / n)
  # Odds of 1 draw uniformly, as before there were odds.
  assert abs(np.mean(drawn[:, 1]) / 2**30 - 1) < 0.05


def test_the_baseline_samples_its_training_split_only():
  splits = {k: subtasks_data.examples(30) for k in ('train', 'validation')}
  name = subtasks_data.register(splits, pie_max_empty_subtasks=1)
  empty = collections.Counter()
  for row in _list(_dataset(f'{name}_pie', seed=1)):
    empty[row['example_id']] += row['targets_pretokenized'] == b'none'
  assert set(empty.values()) == {0, 1}
  assert len(_list(_dataset(f'{name}_pie', split='validation'))) == sum(
    len(e['prompts']) for e in splits['validation']
  )


def test_an_iterator_resumes_where_it_was_saved(tmp_path):
  examples = subtasks_data.examples(30)
  name = subtasks_data.register({'train': examples}, shuffle_buffer_size=16)
  build = lambda: _packed(name, seed=3, max_empty=1, num_epochs=None).batch(3)
  iterator = iter(build())
  checkpoint = tf.train.Checkpoint(iterator=iterator)
  batches, paths = [], {}
  for number in range(20):  # Some 2 epochs.
    if number in (4, 15):
      paths[number] = checkpoint.write(str(tmp_path / f'at-{number}'))
    batches.append(next(iterator))

  dataset = build()
  for number, path in paths.items():
    resumed = iter(dataset)
    tf.train.Checkpoint(iterator=resumed).read(path).assert_consumed()
    for want in batches[number:]:
      got = next(resumed)
      for key, value in want.items():
        np.testing.assert_array_equal(got[key], value)


def test_shards_of_an_epoch_hold_every_subtask_once():
  examples = subtasks_data.examples(31)
  name = subtasks_data.register({'train': examples})
  want = sorted(
    (tuple(_encode(e['inputs'])), tuple(_encode(f'{prompt} {target}')))
    for e in examples
    for prompt, target in zip(e['prompts'], e['targets'], strict=True)
  )
  shards = [
    _list(_packed(name, shard_info=seqio.ShardInfo(index, 2)))
    for index in range(2)
  ]
  assert sorted(_trained_on(shards[0] + shards[1])) == want


@pytest.mark.slow
def test_mixtures_of_tasks_with_other_numbers_of_subtasks():
  small = [subtasks_data.example(i, max_subtasks=2) for i in range(100, 120)]
  tasks = [
    subtasks_data.register({'train': subtasks_data.examples(20)}),
    subtasks_data.register({'train': small}),
  ]
  name = f'mixture_of_{tasks[0]}'
  seqio.MixtureRegistry.add(name, tasks, default_rate=1)

  rows = _list(_packed(name, num_epochs=None).take(40))
  inputs = {i for i, _ in _trained_on(rows)}
  for some in (subtasks_data.examples(20), small):
    assert inputs & {tuple(_encode(e['inputs'])) for e in some}
  converter = subtasks.PromptInDecoderFeatureConverter(pack=False)
  grid = seqio.get_dataset(name, LENGTHS, converter, num_epochs=1).batch(8)
  assert next(iter(grid))['decoder_prompt_tokens'].shape == (8, 6, 3)


def test_replacing_a_part_of_a_task_keeps_its_features_whole():
  name = subtasks_data.register({'train': subtasks_data.examples(5)})
  task = seqio.TaskRegistry.get(name).replace(name=f'{name}_replaced')
  for row, want in zip(
    _list(task.get_dataset({'prompts': 3, 'inputs': 16}, shuffle=False)),
    subtasks_data.examples(5),
    strict=True,
  ):
    assert len(row['prompts']) == len(want['prompts'])


def test_other_vocabularies_tokenise_as_well():
  vocabulary = seqio.ByteVocabulary()
  name = subtasks_data.register({'train': [EXAMPLE]}, vocabulary=vocabulary)
  (row,) = _rows(name)
  assert row['prompts'].tolist() == [
    vocabulary.encode('s0 :'),
    [*vocabulary.encode('s1'), 0, 0],
  ]
  (row,) = _rows(f'{name}_joint')
  assert row['targets'].tolist() == [*vocabulary.encode('none ; two nights'), 1]
