# Copyright 2026 The pid_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""The lazy vocabulary: where and when it looks for its file."""

import copy
import io
import os
import pickle
import shutil
import time
import urllib.error
import urllib.request

import gin
import pytest
import seqio

from pid_jax import checkpoints
from pid_jax import errors
from pid_jax import model as model_lib
from pid_jax import network
from pid_jax import subtasks
from pid_jax import trainer
from pid_jax.tasks import bookings
from pid_jax.tasks import vocabulary
from pid_jax.tasks import web
from pid_jax.trainer import setup

FILE = bookings.VOCABULARY_FILE


@pytest.fixture(autouse=True)
def alone(monkeypatch, tmp_path):
  """No file is named or kept, and nothing may reach for the network."""
  monkeypatch.delenv(vocabulary.ENVIRONMENT, raising=False)
  monkeypatch.setenv('HOME', str(tmp_path))
  monkeypatch.delenv('XDG_CACHE_HOME', raising=False)
  monkeypatch.setattr(urllib.request, 'urlopen', None)
  yield
  gin.clear_config()


def test_the_file_is_found_on_first_use(tmp_path, monkeypatch):
  found = vocabulary.default()
  assert isinstance(found, seqio.SentencePieceVocabulary)
  assert found.extra_ids == 100
  assert found == vocabulary.default() and found != bookings.vocabulary()
  assert hash(found) == hash(vocabulary.default())
  assert str(found) == 'LazyVocabulary(extra_ids=100)'
  copies = [pickle.loads(pickle.dumps(found)), copy.deepcopy(found)]

  monkeypatch.setenv(vocabulary.ENVIRONMENT, FILE)
  plain = seqio.SentencePieceVocabulary(FILE, extra_ids=100)
  text = 'user: a cheap hotel <extra_id_3>'
  for one in (found, *copies):
    assert one == found
    assert one.encode(text) == plain.encode(text)
    assert one.encode_tf([text]).to_list() == [plain.encode(text)]
    assert one.vocab_size == plain.vocab_size
    assert one.sentencepiece_model_file == FILE
  # Not the path goes along, but the way of finding one.
  moved = tmp_path / 'moved.model'
  shutil.copy(FILE, moved)
  sent = pickle.dumps(found)
  monkeypatch.setenv(vocabulary.ENVIRONMENT, str(moved))
  assert pickle.loads(sent).sentencepiece_model_file == str(moved)


def test_gin_comes_before_the_environment(monkeypatch):
  monkeypatch.setenv(vocabulary.ENVIRONMENT, '/nowhere.model')
  with pytest.raises(
    errors.UserError, match='the vocabulary /nowhere.model.*PID_JAX_VOC'
  ):
    _ = vocabulary.default().vocab_size
  gin.parse_config(
    'from __gin__ import dynamic_registration\n'
    'from pid_jax.tasks import vocabulary\n'
    f'vocabulary.model_file.path = {FILE!r}'
  )
  assert vocabulary.default().sentencepiece_model_file == FILE


def test_the_public_file_is_fetched_once(monkeypatch, tmp_path):
  asked = []

  def urlopen(url, timeout):
    asked.append((url, timeout))
    with open(FILE, 'rb') as f:
      return io.BytesIO(f.read())

  monkeypatch.setattr(urllib.request, 'urlopen', urlopen)
  for _ in range(2):
    assert vocabulary.default().vocab_size == 712
  assert asked == [
    (
      'https://storage.googleapis.com/t5-data/vocabs/cc_all.32000/'
      'sentencepiece.model',
      30,
    )
  ]
  kept = vocabulary.default().sentencepiece_model_file
  assert kept == str(tmp_path / '.cache/pid_jax/t5.cc_all.32000.model')
  assert len(list((tmp_path / '.cache/pid_jax').iterdir())) == 1


@pytest.mark.parametrize('home', [None, '/proc/none', 'a file'])
def test_without_a_home(home, monkeypatch, tmp_path):
  (tmp_path / 'file').write_text('x')
  if home is None:
    monkeypatch.setattr(os.path, 'expanduser', lambda path: path)
  else:
    monkeypatch.setenv('HOME', home.replace('a file', f'{tmp_path}/file'))
  with open(FILE, 'rb') as f:
    content = f.read()
  fetched = []
  monkeypatch.setattr(web, 'fetch', lambda url: fetched.append(url) or content)
  vocabulary._temporary_file.cache_clear()
  monkeypatch.chdir(tmp_path)
  for _ in range(2):
    assert vocabulary.default().vocab_size == 712
  assert len(fetched) == 1
  assert os.listdir(tmp_path) == ['file']


def test_without_a_network(monkeypatch, tmp_path):
  def refuse(url, timeout):
    raise urllib.error.URLError('no route to host')

  monkeypatch.setattr(urllib.request, 'urlopen', refuse)
  with pytest.raises(
    errors.UserError,
    match='model: urlopen error no route to host. .* PID_JAX_VOCABULARY',
  ):
    _ = vocabulary.default().vocab_size

  # One that swallows all packets.
  def swallow(url, timeout):
    time.sleep(1)
    raise OSError

  monkeypatch.setattr(urllib.request, 'urlopen', swallow)
  monkeypatch.setattr(web, 'TIMEOUT_SECONDS', 0.1)
  began = time.monotonic()
  with pytest.raises(errors.UserError, match='model: no answer in 0.1 s'):
    _ = vocabulary.default().vocab_size
  assert time.monotonic() - began < 0.9
  assert not (tmp_path / '.cache').exists()


def test_a_trained_model_has_a_copy_of_the_file(monkeypatch, tmp_path):
  monkeypatch.setenv(vocabulary.ENVIRONMENT, FILE)
  row = dict(example_id='0', inputs='a', prompts=['b'], targets=['c'])
  subtasks.register(
    'lazy_vocabulary_task',
    source=subtasks.InMemoryDataSource({'train': [{**row, 'subtasks': ['d']}]}),
    vocabulary=vocabulary.default(),
  )
  config = network.T5Config(vocab_size=768, emb_dim=8, num_heads=1)
  setup.describe(
    model_lib.EncoderDecoderModel(network.Transformer(config)),
    tmp_path / 'model',
    trainer.DatasetConfig('lazy_vocabulary_task', {'inputs': 8, 'targets': 8}),
    trainer.CheckpointConfig(),
  )
  with open(FILE, 'rb') as f:
    assert (tmp_path / 'model/vocabulary.model').read_bytes() == f.read()
  written = checkpoints.read_config(tmp_path / 'model')
  assert written['vocabulary']['extra_ids'] == 100
