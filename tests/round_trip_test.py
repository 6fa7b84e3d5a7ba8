# Copyright 2026 The pid_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""Targets that the vocabulary rewrites are counted before training."""

import json
import logging

import pytest
from toys import vocabularies

from pid_jax import trainer
from pid_jax.subtasks import round_trip
from pid_jax.tasks import jsonl
from pid_jax.trainer import data
from pid_jax.trainer import setup

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
    setup.warn_of_rewritten_targets(cfg)
  assert len(caplog.messages) == 2
  assert "'{'" in caplog.text and "'kg/m\u00b2' as 'kg/m2'" in caplog.text
