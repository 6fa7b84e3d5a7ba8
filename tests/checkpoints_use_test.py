# Copyright 2026 The pid_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""Checkpoints of any format are converted, served and trained on."""

import argparse
import dataclasses
import json
import logging
import os
import shutil

import jax
import pytest
from toys import checkpoints_data as data
from toys import configs
from toys import training
from toys import vocabularies
import transformers

import pid_jax
from pid_jax import checkpoints
from pid_jax import convert
from pid_jax import errors
from pid_jax import inference
from pid_jax import partitioning
from pid_jax.checkpoints import formats
from pid_jax.trainer import setup
from pid_jax.vocabulary import ByteVocabulary
from pid_jax.vocabulary import Vocabulary

JOB = (['book the hotel', 'the quick fox'], [['nights', 'jumps'], ['dog']])


@pytest.fixture(scope='module', name='model')
def _model():
  """A model with a SentencePiece vocabulary and nine sentinels."""
  vocabulary = Vocabulary(vocabularies.of_text(), 9)
  config = configs.tiny(vocab_size=97, num_tokens=vocabulary.size)
  return data.random_pretrained(config, vocabulary=vocabulary)


@pytest.fixture(scope='module', autouse=True, name='served')
def _served(model):
  """Keeps the programs that loaded models of this network share."""
  return inference.PromptInDecoder(model.config, model.params, model.vocabulary)


def _answers(path, **options):
  model = pid_jax.PromptInDecoder.from_pretrained(path, **options)
  return model.generate(*JOB, max_new_tokens=4, return_scores=True)


def test_every_format_alone_is_enough_to_predict(model, tmp_path):
  answers = []
  for name in formats.FORMATS:
    checkpoints.save(tmp_path / name, model, format=name)
    answers.append(_answers(tmp_path / name))
    loaded = checkpoints.load(tmp_path / name)
    assert loaded.vocabulary.model_bytes == model.vocabulary.model_bytes
    assert loaded.vocabulary.extra_ids == 9
  assert answers[0] == answers[1] == answers[2]

  # transformers finds the same tokenizer in the folder.
  theirs = transformers.AutoTokenizer.from_pretrained(tmp_path / 'hugging_face')
  for text in ('book  the hotel\tfor <extra_id_0> nights', ' \nnights<extra'):
    assert theirs(text).input_ids == [*model.vocabulary.encode(text), 1]


def test_a_folder_of_a_run_takes_no_other_one(model, tmp_path):
  checkpoints.save(tmp_path / 'run', model)  # Trained on nobody knows what.
  lengths = {'inputs': 8, 'targets': 4}
  write = lambda **task: checkpoints.write_config(
    tmp_path / 'run',
    config=model.config,
    vocabulary=model.vocabulary,
    task={'name': 'slots', 'layout': 'pid', 'feature_lengths': lengths, **task},
  )
  write()
  write()  # The same run goes on.
  config = (tmp_path / 'run' / checkpoints.CONFIG_FILE).read_text()
  for change, words in (
    ({'name': 'notes'}, "the task's name was 'slots', is now 'notes'"),
    ({'layout': 'pie'}, "layout was 'pid', is now 'pie'"),
    (
      {'feature_lengths': {**lengths, 'inputs': 9}},
      "feature_lengths was {'inp",
    ),
  ):
    with pytest.raises(errors.UserError, match=words):
      write(**change)
  assert (tmp_path / 'run' / checkpoints.CONFIG_FILE).read_text() == config


def test_other_weights_in_the_same_place_are_told_apart(model, tmp_path):
  found = []
  for name in formats.FORMATS:
    path = tmp_path / name
    checkpoints.save(path, model, format=name)
    found.append(checkpoints.open_checkpoint(path).fingerprint())
    assert checkpoints.open_checkpoint(path).fingerprint() == found[-1]
    shutil.rmtree(path)
    checkpoints.save(path, model, format=name)
    for file in path.rglob('*'):
      os.utime(file, (1e9, 1e9))  # Whole seconds count.
    found.append(checkpoints.open_checkpoint(path).fingerprint())
  assert len(set(found)) == len(found)


def test_evaluate_says_what_to_do_with_a_model_of_hugging_face(model, tmp_path):
  checkpoints.save(tmp_path / 'theirs', model, format='hugging_face')
  with pytest.raises(
    errors.UserError, match="Hugging Face's.* pid_jax.convert"
  ):
    checkpoints.read_config(tmp_path / 'theirs')


def test_the_tokenizer_that_transformers_5_writes(model, tmp_path):
  """A tokenizer.json, and no spiece.model."""
  checkpoints.save(tmp_path / 'x', model, format='hugging_face')
  theirs = transformers.AutoTokenizer.from_pretrained(tmp_path / 'x')
  (tmp_path / 'x' / 'spiece.model').unlink()
  theirs.save_pretrained(tmp_path / 'x')
  file = tmp_path / 'x' / 'tokenizer.json'
  assert file.exists()
  found = checkpoints.load(tmp_path / 'x').vocabulary
  assert (found.size, found.extra_ids) == (model.vocabulary.size, 9)
  for text in [
    '',
    ' ',
    'a\nb  the quick\tHotel {4} <extra_id_3> fox caf\u00e9',
  ]:
    assert found.encode(text) == model.vocabulary.encode(text)
  assert _answers(tmp_path / 'x')[0]

  content = json.loads(file.read_text())
  content['normalizer'] = {'type': 'Lowercase'}
  file.write_text(json.dumps(content))
  with pytest.raises(errors.UserError, match='normalizer: it is Lowercase'):
    checkpoints.load(tmp_path / 'x')


def test_tokens_of_the_users_own_are_refused_but_weights_load(model, tmp_path):
  checkpoints.save(tmp_path / 'x', model, format='hugging_face')
  (tmp_path / 'x' / 'added_tokens.json').write_text('{"{": 97}')
  with pytest.raises(errors.UserError, match="added tokens.*'{'"):
    checkpoints.load(tmp_path / 'x')
  opened = checkpoints.open_checkpoint(tmp_path / 'x')
  opened.restore(opened.config, checkpoints.abstract_params(opened.config))


def test_bytes(tmp_path):
  config = data.FAMILIES['byt5']
  model = data.random_pretrained(config, vocabulary=ByteVocabulary())
  for name in formats.FORMATS:
    checkpoints.save(tmp_path / name, model, format=name)
    assert checkpoints.load(tmp_path / name).vocabulary.extra_ids == 125
  theirs = transformers.AutoTokenizer.from_pretrained(tmp_path / 'hugging_face')
  text = 'a\n{b}\t<extra_id_7> \U0001f600'
  assert theirs(text).input_ids == [*model.vocabulary.encode(text), 1]
  assert _answers(tmp_path / 'native')[0] == _answers(tmp_path / 't5x')[0]


def test_a_checkpoint_without_a_vocabulary(model, tmp_path):
  bare = dataclasses.replace(
    model,
    vocabulary=None,
    config=dataclasses.replace(model.config, num_tokens=97),
  )
  checkpoints.save(tmp_path / 'x', bare, format='t5x')
  (tmp_path / 'x' / 'config.json').unlink()
  with pytest.raises(errors.UserError, match='no SentencePiece vocabulary'):
    _answers(tmp_path / 'x')
  loaded = pid_jax.PromptInDecoder.from_pretrained(
    tmp_path / 'x', vocabulary=model.vocabulary, param_dtype='bfloat16'
  )
  assert loaded.config.num_tokens == model.vocabulary.size
  leaves = jax.tree.leaves(loaded.engine.params)
  assert {leaf.dtype.name for leaf in leaves} == {'bfloat16'}
  assert loaded.generate(*JOB, max_new_tokens=2)
  small = Vocabulary(model.vocabulary.path, 90)
  with pytest.raises(errors.UserError, match='148 ids.*embeds 97'):
    pid_jax.PromptInDecoder.from_pretrained(tmp_path / 'x', vocabulary=small)


def test_a_folder_whose_tokenizer_was_not_copied(model, tmp_path):
  checkpoints.save(tmp_path / 'x', model, format='hugging_face')
  file = tmp_path / 'x' / 'spiece.model'
  content = file.read_bytes()
  file.unlink()
  with pytest.raises(errors.UserError, match='neither spiece.*--vocabulary'):
    checkpoints.load(tmp_path / 'x')
  opened = checkpoints.open_checkpoint(tmp_path / 'x')
  own = model.vocabulary
  assert checkpoints.choose_vocabulary(opened, own) is own
  # One with more ids than the embedding has rows.
  config = tmp_path / 'x' / 'tokenizer_config.json'
  config.write_text('{"tokenizer_class": "T5Tokenizer", "extra_ids": 90}')
  file.write_bytes(content)
  with pytest.raises(errors.UserError, match='148 ids.*embeds'):
    checkpoints.load(tmp_path / 'x')


def test_a_layout_that_the_checkpoint_does_not_say(model, tmp_path, caplog):
  for layout in ('pid', 'pie'):
    known = dataclasses.replace(model, task={'layout': layout})
    checkpoints.save(tmp_path / layout, known)
  checkpoints.save(tmp_path / 'plain', dataclasses.replace(model, task={}))
  load = pid_jax.PromptInDecoder.from_pretrained
  answers = lambda path, **kwargs: load(tmp_path / path, **kwargs).generate(
    *JOB, max_new_tokens=3, return_scores=True
  )
  expected = {layout: answers(layout) for layout in ('pid', 'pie')}
  assert expected['pid'] != expected['pie']
  caplog.clear()
  assert answers('plain', layout='pie') == expected['pie']
  assert answers('plain', layout='pid') == expected['pid']
  assert not [m for m in caplog.messages if 'layout' in m]
  assert answers('plain') == expected['pid']
  (told,) = [m for m in caplog.messages if 'layout' in m]
  assert '--layout=pie' in told and str(tmp_path / 'plain') in told
  # What is known cannot be overridden, but repeated.
  assert answers('pie', layout='pie') == expected['pie']
  with pytest.raises(errors.UserError, match="trained .*'pie'"):
    load(tmp_path / 'pie', layout='pid')
  with pytest.raises(errors.UserError, match="layout .*'pid', 'pie'.*'joint'"):
    load(tmp_path / 'plain', layout='joint')


@pytest.mark.parametrize(
  'flags, words',
  [
    (['--extra_ids=9'], '--vocabulary'),
    (['--step=5'], 'no checkpoint of step 5'),
  ],
)
def test_flags_of_the_command_that_cannot_be(flags, words, model, tmp_path):
  checkpoints.save(tmp_path / 'x', dataclasses.replace(model, vocabulary=None))
  parser = argparse.ArgumentParser()
  convert.add_flags(parser)
  args = [str(tmp_path / 'x'), str(tmp_path / 'y'), *flags]
  args = parser.parse_args(args)
  with pytest.raises(errors.UserError, match=words):
    convert.check(args)
    convert.main(args)
  assert [p.name for p in tmp_path.iterdir()] == ['x']


def test_the_command(model, tmp_path, capsys):
  checkpoints.save(
    tmp_path / 'ours', dataclasses.replace(model, vocabulary=None)
  )
  parser = argparse.ArgumentParser()
  convert.add_flags(parser)
  command = [
    str(tmp_path / 'ours'), str(tmp_path / 'theirs'),
    '--to=hugging_face', '--dtype=bfloat16',
    f'--vocabulary={model.vocabulary.path}', '--extra_ids=9',
  ]  # fmt: skip
  convert.main(parser.parse_args(command))
  assert 'written to' in capsys.readouterr().out
  opened = checkpoints.open_checkpoint(tmp_path / 'theirs')
  assert opened.is_bfloat16
  assert opened.read_vocabulary().extra_ids == 9
  # What was bfloat16 stays so, unless told otherwise.
  checkpoints.convert(tmp_path / 'theirs', tmp_path / 'again')
  assert checkpoints.open_checkpoint(tmp_path / 'again').is_bfloat16


def test_parameters_go_straight_to_their_shards(tmp_path):
  """On one device here; multi-device meshes read the same boxes."""
  config = dataclasses.replace(
    data.FAMILIES['flan_t5'], vocab_size=96, num_tokens=96
  )
  before = data.random_pretrained(config)
  checkpoints.save(tmp_path / 'x', before, format='hugging_face')
  partitioner = partitioning.Partitioner(devices=jax.devices()[:1])
  loaded = checkpoints.load(tmp_path / 'x', partitioner=partitioner)
  data.assert_same_bits(loaded.params, before.params)
  for leaf in jax.tree.leaves(loaded.params):
    assert leaf.sharding.mesh == partitioner.mesh


@pytest.mark.slow
@pytest.mark.parametrize('name', formats.FORMATS)
def test_training_begins_with_any_format(name, tmp_path):
  config = training.t5_config(scan_layers=True)
  before = data.random_pretrained(
    dataclasses.replace(config, scan_layers=False)
  )
  checkpoints.save(tmp_path / name, before, format=name)
  training.train(
    tmp_path / 'run',
    model=training.t5_model(scan_layers=True),
    optimizer=training.optimizers.adafactor(lambda step: 0.0),
    total_steps=1,
    initial_checkpoint_path=str(tmp_path / name),
  )
  after = checkpoints.load(tmp_path / 'run')
  expected = checkpoints.open_checkpoint(tmp_path / name).restore(
    config, checkpoints.abstract_params(config)
  )
  data.assert_same_bits(after.params, expected)


def test_a_run_takes_the_shape_of_its_checkpoint(tmp_path, caplog):
  config = dataclasses.replace(
    training.t5_config(logits_via_embedding=True, mlp_dim=24),
    num_tokens=128,  # As if the file did not say.
  )
  before = data.random_pretrained(config)
  checkpoints.save(tmp_path / 'from', before, format='hugging_face')
  train = lambda steps: training.train(
    tmp_path / 'run',
    model=training.t5_model(emb_dim=24, dropout_rate=0.0, num_heads=3),
    optimizer=training.optimizers.adafactor(lambda step: 0.0),
    total_steps=steps,
    initial_checkpoint_path=str(tmp_path / 'from'),
  )
  with caplog.at_level(logging.INFO, logger='pid_jax'):
    train(1)
  (told,) = [r for r in caplog.messages if 'begins with the weights' in r]
  assert str(tmp_path / 'from') in told
  for words in ('emb_dim 16, not 24', 'num_heads 2, not 3', 'mlp_dim 24, not'):
    assert words in told
  after = checkpoints.load(tmp_path / 'run')
  # Free fields are the run's, and the vocabulary says which ids there are.
  assert after.config == dataclasses.replace(
    config, dropout_rate=0.0, num_tokens=27
  )
  data.assert_same_bits(after.params, before.params)
  # A run that goes on begins with its last checkpoint, and so says nothing.
  caplog.clear()
  train(2)
  assert not [r for r in caplog.messages if 'begins with' in r]


def test_what_a_file_of_t5x_does_not_say_is_the_users_to_say(tmp_path):
  silu = dict(mlp_activations=('silu', 'linear'))
  before = data.random_pretrained(training.t5_config(**silu))
  checkpoints.save(tmp_path / 'x', before, format='t5x')
  (tmp_path / 'x' / 'config.json').unlink()
  opened = checkpoints.open_checkpoint(tmp_path / 'x')
  assert opened.config.mlp_activations == ('gelu', 'linear')
  cfg = training.dataset_config()
  for given, expected in (
    (silu, ('silu', 'linear')),
    ({'mlp_activations': ('relu',)}, ('gelu', 'linear')),  # Not gated: no.
  ):
    model = training.t5_model(emb_dim=24, **given)
    fitted = setup.fit_to_checkpoint(model, opened, cfg).module.config
    assert (fitted.mlp_activations, fitted.emb_dim) == (expected, 16)


@pytest.mark.slow
def test_the_optimizer_goes_on_where_it_was(tmp_path):
  """Ours -> T5X's files -> ours, and the run ends as if never interrupted."""
  train = lambda path, steps: training.train(
    path,
    total_steps=steps,
    optimizer=training.optimizers.adafactor(1e-2),
    model=training.t5_model(dropout_rate=0.0),
    checkpoint_cfg=training.trainer.CheckpointConfig(
      period=10, save_dataset=False
    ),
  )
  train(tmp_path / 'a', 2)
  options = dict(with_optimizer=True)
  checkpoints.convert(
    tmp_path / 'a', tmp_path / 'b', target_format='t5x', **options
  )
  checkpoints.convert(tmp_path / 'b', tmp_path / 'c', **options)
  one, other = train(tmp_path / 'a', 4), train(tmp_path / 'c', 4)
  assert int(other.step) == 4
  data.assert_same_bits(one.params, other.params)
  data.assert_same_bits(one.opt_state, other.opt_state)


def test_lost_characters_are_told_once_with_their_number(served, caplog):
  with caplog.at_level(logging.WARNING, logger='pid_jax'):
    served.generate(['the hotel', 'a dog'], [['dog'], ['dog']], 2)
    assert not caplog.records
    served.generate(['{the}\n{hotel}', 'dog'], [['dog'], ['{dog}']], 2)
  (record,) = caplog.records
  assert record.getMessage().startswith('2 of 4 texts have characters')
  assert record.getMessage().endswith("'{' (3), '}' (3), '\\n' (1)")
