# Copyright 2026 The pid_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""What a run may change when it goes on, and what MODEL_DIR says of it."""

import inspect
import json
import pathlib

import pytest
from toys import training as toy

from pid_jax import checkpoints
from pid_jax import errors
from pid_jax import partitioning
from pid_jax import subtasks
from pid_jax import trainer
from pid_jax.trainer import optimizers
from pid_jax.trainer import run_record
from pid_jax.trainer import schedules


def _adafactor(learning_rate, **overrides):
  return optimizers.adafactor(learning_rate, max_grad_norm=1.0, **overrides)


def _contents(folder: pathlib.Path) -> dict[str, bytes]:
  return {
    str(path.relative_to(folder)): path.read_bytes()
    for path in sorted(folder.rglob('*'))
    if path.is_file() and path.name != 'run.lock'
  }


def _entries(folder: pathlib.Path) -> list[dict]:
  return json.loads((folder / 'training.json').read_text())


@pytest.mark.parametrize(
  'overrides, words',
  [  # Trained: 2 steps of `_adafactor(1e-2)` on toy.
    (dict(optimizer=_adafactor(3e-2)), ['learning_rate', '0.01', '0.03']),
    (
      dict(optimizer=_adafactor(schedules.linear(1e-2, 2, 1))),
      ['schedule.name', 'constant', 'linear'],
    ),
    (
      dict(optimizer=_adafactor(1e-2, weight_decay=0.1)),
      ['optimizer.weight_decay', 'None', '0.1'],
    ),
    (dict(optimizer=optimizers.adamw(1e-2)), ['adafactor', 'adamw']),
    (dict(optimizer=optimizers.adamw(1e-2), total_steps=4), ['adamw']),
    (dict(optimizer=optimizers.adafactor(1e-2), total_steps=4), ['None']),
    (dict(model=toy.t5_model(dropout_rate=0.3)), ['dropout_rate', '0.3']),
    (dict(random_seed=5, total_steps=4), ['random_seed', '5']),
    (dict(ema_decay=0.9, total_steps=4), ['ema_decay', '0.9']),
    (
      dict(model=toy.t5_model(mlp_dim=64, num_heads=4), total_steps=4),
      ['mlp_dim was 32, is now 64', 'num_heads'],
    ),
    (dict(train_dataset_cfg=('toy_pie', {})), ['toy_pie']),
    (
      dict(train_dataset_cfg=('toy', {'batch_size': 16}), total_steps=4),
      ['batch_size was 8, is now 16'],
    ),
    (
      dict(train_dataset_cfg=('toy', {'task_feature_lengths': 25})),
      ['inputs was 24, is now 25'],
    ),
  ],
)
def test_another_training_is_named_and_nothing_is_touched(
  tmp_path, overrides, words
):
  toy.copy_finished(tmp_path)
  if cfg := overrides.get('train_dataset_cfg'):
    task, others = cfg
    if 'task_feature_lengths' in others:
      others = {'task_feature_lengths': {**toy.LENGTHS, 'inputs': 25}}
    cfg = toy.dataset_config(mixture_or_task_name=task, **others)
    overrides = {'train_dataset_cfg': cfg}
  before = _contents(tmp_path)
  with pytest.raises(errors.UserError) as e:
    toy.train(tmp_path, **{'total_steps': 2, **overrides})
  message = str(e.value)
  assert all(word in message for word in words), message
  assert 'INITIAL_CHECKPOINT_PATH' in message  # The remedy.
  assert '\n' not in message and len(message) < 900
  assert _contents(tmp_path) == before


def test_what_may_change_is_told_and_recorded(tmp_path, caplog):
  toy.copy_finished(tmp_path)
  first = _entries(tmp_path)
  assert [entry['first_step'] for entry in first] == [0]
  caplog.set_level('INFO', 'pid_jax')
  toy.train(tmp_path, total_steps=2)  # The same: nothing is told.
  assert 'was' not in caplog.text and _entries(tmp_path) == first
  toy.train(tmp_path, total_steps=2, eval_period=7)  # Nothing is left.
  assert 'eval_period was 1000, is now 7' in caplog.text
  assert _entries(tmp_path) == first

  caplog.clear()
  toy.train(tmp_path, total_steps=3, optimizer=_adafactor(3e-2))
  (warning,) = [
    record.getMessage()
    for record in caplog.records
    if record.levelname == 'WARNING' and record.name.startswith('pid_jax')
  ]
  assert 'learning_rate was 0.01, is now 0.03' in warning
  assert 'total_steps was 2, is now 3' in caplog.text
  entries = _entries(tmp_path)
  assert entries[:1] == first and entries[1]['first_step'] == 2
  assert entries[1]['settings']['schedule.learning_rate'] == 0.03
  assert checkpoints.steps(tmp_path)[-1] == 3
  # The last settings count.
  with pytest.raises(errors.UserError, match='was 0.03, is now 0.01'):
    toy.train(tmp_path, total_steps=3)


def test_a_run_without_a_checkpoint_leaves_no_record_that_binds(tmp_path):
  settings = {'total_steps': 5, 'data.toy.sha256': 'a'}
  run_record.Record(tmp_path, settings).append(0)
  other = {'total_steps': 5, 'data.toy.sha256': 'b'}
  run_record.Record(tmp_path, other).append(0)
  assert [entry['settings'] for entry in _entries(tmp_path)] == [other]


def test_examples_that_changed_are_named(tmp_path):
  toy.copy_finished(tmp_path)
  settings = _entries(tmp_path)[0]['settings']
  run_record.Record(tmp_path, settings)
  with pytest.raises(errors.UserError, match='examples of toy .* changed'):
    run_record.Record(tmp_path, {**settings, 'data.toy.sha256': 'b'})
  (tmp_path / 'training.json').write_text('[1]')
  with pytest.raises(errors.UserError, match='training.json is damaged'):
    run_record.Record(tmp_path, settings)


def test_settings_with_which_nothing_was_trained_do_not_count(tmp_path):
  toy.copy_finished(tmp_path)
  first = _entries(tmp_path)[0]['settings']
  other = first | {'schedule.learning_rate': 1.0, 'total_steps': 9}
  run_record.Record(tmp_path, other).append(2)  # Killed before a checkpoint.
  assert len(_entries(tmp_path)) == 2
  run_record.Record(tmp_path, first)  # Trained to its end with these.
  third = first | {'schedule.learning_rate': 2.0, 'total_steps': 9}
  run_record.Record(tmp_path, third).append(2)
  assert [entry['settings'] for entry in _entries(tmp_path)] == [first, third]


def test_another_batch_size_restarts_the_data(tmp_path):
  toy.copy_finished(tmp_path)
  cfg = trainer.CheckpointConfig(save_dataset=False)
  larger = toy.dataset_config(batch_size=16)
  toy.train(
    tmp_path, total_steps=3, train_dataset_cfg=larger, checkpoint_cfg=cfg
  )
  last = _entries(tmp_path)[-1]
  assert (last['first_step'], last['settings']['train.batch_size']) == (2, 16)


def test_a_value_may_become_a_dictionary():
  found = []
  for multipliers in (None, {'relpos': 10.0}):
    settings = run_record.settings(
      {
        **dict.fromkeys(inspect.signature(trainer.train).parameters),
        'model': toy.t5_model(),
        'train_dataset_cfg': toy.dataset_config(),
        'optimizer': optimizers.adamw(1e-3, multipliers=multipliers),
        'checkpoint_cfg': trainer.CheckpointConfig(),
        'partitioner': partitioning.Partitioner(),
      }
    )
    found.append(settings['optimizer.multipliers'])
  assert found == [None, "{'relpos': 10.0}"]


@pytest.mark.parametrize(
  'old, new, steps, message',
  [
    ('gone', None, 3, None),  # Deleted or moved since; it is read no more.
    ('gone', 'other', 3, None),
    ('gone', None, 2, 'nothing would be trained'),
    ('there', 'other', 3, 'another run.*there.*other'),
  ],
)
def test_the_checkpoint_that_a_run_began_with(
  tmp_path, old, new, steps, message
):
  toy.copy_finished(tmp_path)
  (tmp_path / 'there').mkdir()
  entries = _entries(tmp_path)
  entries[0]['settings']['initial_checkpoint_path'] = str(tmp_path / old)
  (tmp_path / 'training.json').write_text(json.dumps(entries))
  settings = entries[0]['settings'] | {
    'initial_checkpoint_path': new,
    'total_steps': steps,
  }
  if message is None:
    run_record.Record(tmp_path, settings)
    return
  with pytest.raises(errors.UserError, match=message):
    run_record.Record(tmp_path, settings)


def test_fingerprint_is_that_of_content():
  def fingerprint(*texts):
    examples = [
      {'inputs': text, 'prompts': ['p', 'q'], 'number': 1} for text in texts
    ]
    source = subtasks.InMemoryDataSource({'train': lambda: iter(examples)})
    return source.fingerprint('train')

  known = [
    fingerprint(*texts)
    for texts in (('a', 'b'), ('b', 'a'), ('a', 'a'), ('ab', 'b'), ('a',))
  ]
  assert len(set(known)) == len(known)
  assert fingerprint('a', 'b') == known[0]


@pytest.mark.parametrize(
  'name', ['config.json', 'vocabulary.model', 'config.gin', 'training.json']
)
def test_files_of_others_are_not_replaced(tmp_path, name):
  (tmp_path / name).write_text('mine')
  with pytest.raises(errors.UserError, match=f'{name} is not from a run'):
    toy.train(tmp_path, total_steps=1)
  assert [p.name for p in tmp_path.iterdir()] == [name]
  assert (tmp_path / name).read_text() == 'mine'
