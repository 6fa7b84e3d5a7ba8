# Copyright 2026 The pid_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""Newlines survive vocabularies that have none, in every layout."""

import hypothesis
from hypothesis import strategies
import numpy as np
import pytest
import seqio
import tensorflow as tf
from toys import subtasks_data
from toys import vocabularies

from pid_jax import checkpoints
from pid_jax import errors
from pid_jax import inference
from pid_jax import model as model_lib
from pid_jax import network
from pid_jax import subtasks
from pid_jax import trainer
from pid_jax import vocabulary as vocabulary_lib
from pid_jax.config import T5Config
from pid_jax.inference import engine
from pid_jax.subtasks import newlines
from pid_jax.trainer import setup

NEWLINE = '<extra_id_3>'
EXAMPLE = {
  'example_id': 'one',
  'inputs': '[doctor] hello\n\n[patient] i am tired\n',
  'prompts': ['exam:\nshort', 'plan:'],
  'targets': ['EXAM\n\n- lungs : clear\n- heart\n', ' none'],
  'subtasks': ['exam', 'plan'],
}


def model_file(keeps_spaces=False) -> str:
  """A model with T5's normalisation, or one that leaves spaces as they are."""
  return vocabularies.train(
    (' ; '.join(map(str, EXAMPLE.values())),) * 20,
    vocab_size=90,
    remove_extra_whitespaces=not keeps_spaces,
    normalization_rule_name='identity' if keeps_spaces else 'nmt_nfkc',
  )


def _vocabulary(extra_ids=5) -> seqio.SentencePieceVocabulary:
  return seqio.SentencePieceVocabulary(model_file(), extra_ids)


def test_how_a_vocabulary_treats_sentinels():
  vocabulary = _vocabulary()
  sentinel = vocabulary.vocab_size - 4  # <extra_id_0> is the last of all.
  assert sentinel in vocabulary.encode('a <extra_id_3> b')
  assert sentinel not in vocabulary.encode('a<extra_id_3>b')
  assert vocabulary.decode([sentinel, sentinel]) == f'{NEWLINE} {NEWLINE}'
  ids = vocabulary.encode(newlines.mark('\n\nplan:\n', NEWLINE))
  assert ids.count(sentinel) == 3
  assert vocabulary.unk_id not in ids
  assert newlines.restore(vocabulary.decode(ids), NEWLINE) == '\n\nplan:\n'


@pytest.mark.parametrize('keeps_spaces', [False, True])
def test_lines_are_encoded_as_they_would_be_alone(keeps_spaces):
  vocabulary = vocabulary_lib.Vocabulary(model_file(keeps_spaces), 5)
  seqio_vocabulary = seqio.SentencePieceVocabulary(model_file(keeps_spaces), 5)
  through = lambda text: vocabulary.decode(vocabulary.encode(text))

  @hypothesis.settings(deadline=None, max_examples=150)
  @hypothesis.given(
    strategies.text(alphabet='ab :-\n\r猫<', max_size=30)
    | strategies.lists(
      strategies.sampled_from([' ', '\n', 'ab', NEWLINE[:-1], '>', '\t'])
    ).map(''.join)
  )
  def check(text):
    hypothesis.assume(NEWLINE not in text)
    ids = vocabulary.encode(newlines.mark(text, NEWLINE))
    assert ids == seqio_vocabulary.encode(newlines.mark(text, NEWLINE))
    lines = text.replace('\r\n', '\n').replace('\r', '\n').split('\n')
    found = newlines.restore(vocabulary.decode(ids), NEWLINE).split('\n')
    assert len(found) == len(lines)
    if keeps_spaces:
      assert found == [through(line) for line in lines]
    else:  # Such a vocabulary drops spaces at the ends of a text.
      strip = lambda lines: [line.strip() for line in lines]
      assert strip(found) == strip(through(line) for line in lines)

  check()


def test_marking_is_undone_exactly():
  text = '  a \n\n b\n'
  assert newlines.mark(text, NEWLINE).count(NEWLINE) == 3
  assert newlines.restore(newlines.mark(text, NEWLINE), NEWLINE) == text
  assert newlines.mark('a\r\nb\rc', '|') == 'a | b | c'
  assert newlines.mark(text, None) == newlines.restore(text, None) == text
  with pytest.raises(errors.UserError, match=r"prompts\[3\] contains '<extra"):
    newlines.mark('a <extra_id_3>', NEWLINE, 'prompts[3]')


_counter = iter(range(99))


def _register(**kwargs) -> str:
  name = f'newlines_test_{next(_counter)}'
  seen = kwargs.pop('seen', [])
  subtasks.register(
    name,
    source=subtasks.InMemoryDataSource({'test': [EXAMPLE]}),
    metric_fns=[lambda t, p: seen.append((t, p)) or {'metric': 0}],
    **{'vocabulary': _vocabulary(), 'newline': NEWLINE, **kwargs},
  )
  return name


def _rows(name, **changes):
  return subtasks_data.rows(name, [{**EXAMPLE, **changes}])


def test_every_layout_writes_the_sentinel():
  name = _register()
  vocabulary = _vocabulary()
  encode = lambda text: vocabulary.encode(newlines.mark(text, NEWLINE))
  (row,) = _rows(name)
  assert row['inputs'].tolist() == [*encode(EXAMPLE['inputs']), 1]
  for key, eos in (('prompts', []), ('targets', [1])):
    for u, text in enumerate(EXAMPLE[key]):
      assert np.trim_zeros(row[key][u], 'b').tolist() == [*encode(text), *eos]
  assert row['inputs_pretokenized'].decode() == EXAMPLE['inputs']

  for u, row in enumerate(_rows(f'{name}_pie')):
    prompt, inputs = encode(EXAMPLE['prompts'][u]), encode(EXAMPLE['inputs'])
    assert row['inputs'].tolist() == [*prompt, *inputs, 1]
    assert row['targets'].tolist() == [*encode(EXAMPLE['targets'][u]), 1]
  (row,) = _rows(f'{name}_joint')
  first, last = map(encode, EXAMPLE['targets'])
  assert row['targets'].tolist() == [*first, *encode(' ; '), *last, 1]


@pytest.mark.parametrize('layout', ['', '_pie', '_joint'])
def test_metrics_see_lines_in_every_layout(layout):
  seen = []
  name = _register(seen=seen) + layout
  task, decode = seqio.TaskRegistry.get(name), _vocabulary().decode
  targets, predictions = [], []
  for row in _rows(name):
    tokens = row['targets'].tolist()  # A perfect model generates them.
    output = decode(tokens) if layout else [decode(x) for x in tokens]
    targets.append(task.postprocess_fn(None, example=row, is_target=True))
    predictions.append(
      task.postprocess_fn(output, example=row, is_target=False)
    )
  (metric_fn,) = task.predict_metric_fns
  metric_fn(targets, predictions)
  ((targets, predictions),) = seen
  # As the vocabulary writes them, which drops spaces at the start.
  assert targets[0]['targets'] == [x.lstrip(' ') for x in EXAMPLE['targets']]
  assert predictions == [['EXAM\n\n- lungs : clear\n- heart\n', 'none']]


def test_texts_that_hold_the_sentinel_stop_the_run():
  name = _register()
  with pytest.raises(tf.errors.InvalidArgumentError) as error:
    _rows(name, targets=['x', f'a {NEWLINE}'])
  message = str(subtasks.user_error(error.value))
  assert message.startswith(f'task {name}, example one: ')
  assert f"'{NEWLINE}'" in message


def test_sentinels_that_cannot_be_restored_are_refused():
  name = _register(vocabulary=_vocabulary(extra_ids=3))
  with pytest.raises(errors.UserError, match="cannot express .* '<extra_id_3>"):
    _rows(name)
  for newline in ('', 'new line', 'a\n', 3):
    with pytest.raises(errors.UserError, match='newline must be a s'):
      _register(newline=newline)
  # Bytes express it, but not the joint layout with its ';'.
  name = _register(vocabulary=seqio.ByteVocabulary(), newline='<;>')
  assert len(_rows(name)) == len(_rows(f'{name}_pie')) - 1 == 1
  with pytest.raises(errors.UserError, match='must not contain each other'):
    _rows(f'{name}_joint')
  # Bytes express any sentinel, also with backslashes.
  name = _register(vocabulary=seqio.ByteVocabulary(), newline=r'\1')
  (row,) = _rows(name)
  text = seqio.ByteVocabulary().decode(row['targets'][0])
  assert newlines.restore(text, r'\1') == EXAMPLE['targets'][0]


def _model(newline=NEWLINE, extra_ids=5) -> inference.PromptInDecoder:
  vocabulary = vocabulary_lib.Vocabulary(model_file(), extra_ids)
  task = {'layout': 'pid', 'newline': newline}
  config = T5Config(vocab_size=vocabulary.size)
  return inference.PromptInDecoder(config, {}, vocabulary, task)


def test_inference_writes_and_reads_newlines_as_training_does(
  monkeypatch,
):
  model = _model()
  seen = {}

  def score(requests, **unused):
    (seen['request'],) = requests
    return [np.zeros((2, 1), np.float32)]

  def generate(requests, *unused_args, **unused_kwargs):  # As it was taught.
    targets = [target for (target,) in seen['request'].targets]
    tokens = np.zeros((2, max(map(len, targets))), np.int32)
    for row, target in zip(tokens, targets, strict=True):
      row[: len(target)] = target
    return [engine.Output(tokens, np.zeros(2), np.zeros(2))] * len(requests)

  monkeypatch.setattr(model.engine, 'score', score)
  monkeypatch.setattr(model.engine, 'generate', generate)
  model.score(*([EXAMPLE[name]] for name in ('inputs', 'prompts', 'targets')))
  (row,) = _rows(_register())
  real = lambda tokens: np.trim_zeros(np.asarray(tokens), 'b').tolist()
  request = seen['request']
  assert list(request.inputs) == real(row['inputs'])
  assert request.prompts == [real(x) for x in row['prompts']]
  assert [list(x) for (x,) in request.targets] == [
    real(x) for x in row['targets']
  ]

  (answers,) = model.generate([EXAMPLE['inputs']], [EXAMPLE['prompts']])
  assert answers == ['EXAM\n\n- lungs : clear\n- heart\n', 'none']

  with pytest.raises(errors.UserError, match=r'inputs\[0\] contains'):
    model.generate([NEWLINE], [['plan:']])
  with pytest.raises(errors.UserError, match='cannot express'):
    _model(extra_ids=2)


def test_config_json_says_how_newlines_were_written(tmp_path):
  marked, plain, other = (
    _register(newline=newline) for newline in (NEWLINE, None, '|')
  )
  model = model_lib.EncoderDecoderModel(
    network.Transformer(T5Config(vocab_size=128, num_tokens=128))
  )

  def described(*names) -> dict:
    name = names[0]
    if len(names) > 1:
      name = '_and_'.join(names)
      seqio.MixtureRegistry.add(name, names, default_rate=1)
    cfg = trainer.DatasetConfig(name, {'inputs': 8})
    folder = tmp_path / name
    setup.describe(model, folder, cfg, trainer.CheckpointConfig())
    return checkpoints.read_config(folder)['task']

  assert described(marked)['newline'] == NEWLINE
  assert described(marked, plain)['newline'] == NEWLINE
  assert 'newline' not in described(plain)
  assert described(f'{marked}_pie', f'{plain}_pie')['newline'] == NEWLINE
  with pytest.raises(errors.UserError, match='different sentinels'):
    described(marked, other)
