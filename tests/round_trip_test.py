# Copyright 2026 The pid_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""What a vocabulary rewrites is counted, and another vocabulary refused."""

import dataclasses
import json
import logging

import pytest
from toys import checkpoints_data
from toys import configs
from toys import vocabularies

from pid_jax import checkpoints
from pid_jax import errors
from pid_jax import model as model_lib
from pid_jax import network
from pid_jax import trainer
from pid_jax import vocabulary as vocabulary_lib
from pid_jax.subtasks import round_trip
from pid_jax.tasks import jsonl
from pid_jax.trainer import data
from pid_jax.trainer import setup
from pid_jax.vocabulary import Vocabulary

SIGNS = 'abcdefghijklmnopqrstuvwxyz0123456789/.:;'
ROWS = [
  ('bmi 31 kg/m\u00b2', 'bmi:', '31 kg/m\u00b2'),
  ('two\nlines', 'lines:', 'two\nlines'),
  ('plain', 'what:', 'plain {x}'),
]


@pytest.fixture(scope='module', name='task')
def _task(tmp_path_factory):
  path = tmp_path_factory.mktemp('data') / 'train.jsonl'
  with path.open('w') as file:
    for inputs, prompt, target in ROWS:
      subtask = {'name': 'x', 'prompt': prompt, 'target': target}
      file.write(json.dumps({'inputs': inputs, 'subtasks': [subtask]}) + '\n')
  return jsonl.register(
    'round_trip_toy',
    vocabulary=vocabularies.train((' '.join(SIGNS),) * 3, vocab_size=99),
    extra_ids=9,
    train=path,
    newline='<extra_id_8>',
  )


@pytest.mark.parametrize('layout', ['', '_pie', '_joint'])
def test_texts_of_all_layouts(task, layout):
  counters = round_trip.count(data.get_task(task + layout), 'train')
  targets = counters['targets']
  assert (targets.num_texts, targets.num_rewritten) == (3, 1)
  assert targets.rewritten == {('kg/m\u00b2', 'kg/m2'): 1}
  assert targets.unknown == {'{': 1, '}': 1}  # The newline is a sentinel.
  assert counters['inputs'].num_rewritten == 1
  assert not counters['prompts'].lines()
  report = round_trip.report(data.get_task(task + layout), ['train'])
  assert 'kg/m2' in report and max(map(len, report.splitlines())) <= 80


def test_training_warns_of_targets(task, caplog):
  cfg = trainer.DatasetConfig(task, {})
  with caplog.at_level(logging.WARNING, logger='pid_jax'):
    setup.warn_of_lost_text(cfg)
  assert len(caplog.messages) == 2
  assert "'{'" in caplog.text and "'kg/m\u00b2' as 'kg/m2'" in caplog.text


def _checkpoint(folder, vocabulary):
  config = configs.tiny(vocab_size=128, num_tokens=vocabulary.size)
  model = checkpoints_data.random_pretrained(config, vocabulary=vocabulary)
  checkpoints.save(folder, model)
  return checkpoints.open_checkpoint(folder), model_lib.EncoderDecoderModel(
    network.Transformer(config)
  )


def test_a_run_has_the_vocabulary_of_its_first_weights(task, tmp_path):
  own = round_trip.plain_vocabulary(
    data.get_task(task).output_features['targets'].vocabulary
  )
  cfg = trainer.DatasetConfig(task, {})
  # Sentinels that the weights never saw are new tokens; equal ids are enough.
  for name, extra_ids in (('same', 9), ('without', 0)):
    proto = own.proto()
    proto.trainer_spec.input.append(name)  # Another file.
    path = tmp_path / f'{name}.model'
    path.write_bytes(proto.SerializeToString())
    other = Vocabulary(path, extra_ids)
    initial, model = _checkpoint(tmp_path / name, other)
    model = model.with_config(
      dataclasses.replace(model.module.config, num_tokens=own.size)
    )
    setup.check_vocabularies(model, initial, cfg, cfg)

  proto = own.proto()
  pieces = [p for p in proto.pieces if p.piece in ('4', '5')]
  pieces[0].piece, pieces[1].piece = pieces[1].piece, pieces[0].piece
  path = tmp_path / 'swapped.model'
  path.write_bytes(proto.SerializeToString())
  initial, model = _checkpoint(tmp_path / 'swapped', Vocabulary(path, 9))
  with pytest.raises(errors.UserError, match='is not that of the model'):
    setup.check_vocabularies(model, initial, cfg)
  # The run's directory takes a file with the same ids, and keeps its own.
  folder = tmp_path / 'same'
  before = (folder / checkpoints.VOCABULARY_FILE).read_bytes()
  write = lambda vocabulary: checkpoints.write_config(
    folder,
    config=configs.tiny(vocab_size=128, num_tokens=own.size),
    task=initial.task,
    vocabulary=vocabulary,
  )
  write(own)
  assert (folder / checkpoints.VOCABULARY_FILE).read_bytes() == before
  with pytest.raises(errors.UserError, match='the vocabulary is another one'):
    write(Vocabulary(path, 9))
  # A vocabulary that is given is compared, too.
  with pytest.raises(errors.UserError, match='is not that of the model'):
    checkpoints.choose_vocabulary(initial, own)


def test_first_difference():
  """Cases: other pieces, normalizer, sentinels, kinds, and none."""
  plain, folded = (
    Vocabulary(vocabularies.of_text(normalization_rule_name=rule), 9)
    for rule in ('nmt_nfkc', 'nmt_nfkc_cf')
  )
  difference = vocabulary_lib.first_difference
  assert difference(plain, plain) is None
  assert difference(plain, Vocabulary(plain.path, 0)) is None
  text, ids, others = difference(plain, Vocabulary(plain.path, 8))
  assert '<extra_id_0>' in text and (ids[-3:] != others[-3:])
  text, ids, others = difference(plain, folded)
  assert (
    (plain.encode(text), folded.encode(text)) == (ids, others) != (ids,) * 2
  )
  assert difference(plain, folded, ['please Book'])[0] == 'please Book'
  bytes_of = vocabulary_lib.ByteVocabulary
  assert difference(plain, bytes_of()) is not None
  assert difference(bytes_of(), bytes_of(9, sentinels_in_text=False)) is None
