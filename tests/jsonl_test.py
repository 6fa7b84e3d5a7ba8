# Copyright 2026 The pid_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""JSONL files: reading, errors and registration."""

import json
import os
import subprocess
import sys

import gin
import numpy as np
import pytest
import seqio
import tensorflow as tf
from toys import subtasks_data
from toys import tasks_data

from pid_jax import errors
from pid_jax import subtasks
from pid_jax import trainer
from pid_jax.inference import predict_file
from pid_jax.subtasks import examples as examples_lib
from pid_jax.tasks import bookings
from pid_jax.tasks import jsonl
from pid_jax.trainer import setup

GOOD = {
  'inputs': 'two nights',
  'subtasks': [
    {'name': 's0', 'prompt': 's0 :', 'target': 'six'},
    {'name': 's1', 'prompt': 's1 :', 'target': ''},
  ],
}


def _changed(path, value):
  """GOOD as a line with one change; None deletes the value."""
  record = json.loads(json.dumps(GOOD))
  *parents, key = path
  at = record
  for parent in parents:
    at = at[parent]
  if value is None:
    del at[key]
  else:
    at[key] = value
  return json.dumps(record)


def test_the_example_file_reads_as_documented():
  examples = subtasks.read_examples(jsonl.EXAMPLE_FILE)
  assert [e['example_id'] for e in examples] == ['call-1', 'call-2', 'call-3']
  assert examples[2] == {
    'example_id': 'call-3',
    'inputs': 'Good morning. Do you deliver to the islands, and how long does '
    'it take?',
    'prompts': ['product:', 'what the customer wants:'],
    'subtasks': ['product', 'wish'],
    'targets': ['none', 'information'],
  }


def test_blank_lines_byte_order_marks_and_other_keys_are_ignored(tmp_path):
  path = tmp_path / 'a.jsonl'
  line = json.dumps({**GOOD, 'inputs': 'caf\u00e9', 'note': 1}, ensure_ascii=0)
  path.write_bytes(
    b'\xef\xbb\xbf' + line.encode() + b'\r\n \n' + json.dumps(GOOD).encode()
  )
  examples = subtasks.read_examples(path)
  assert [(e['example_id'], e['inputs']) for e in examples] == [
    ('1', 'caf\u00e9'),
    ('3', 'two nights'),
  ]
  assert examples[1]['targets'] == ['six', '']


def test_keys_that_nobody_reads_are_named_once(tmp_path, caplog):
  path = tmp_path / 'a.jsonl'
  record = json.loads(json.dumps(GOOD))
  for subtask in record['subtasks']:
    subtask.update(answer='x', prediction='y', score=-0.5)
  record.update(input='z', inputs_truncated=True)
  path.write_text(json.dumps(record) + '\n' + _changed(['note'], 'x'))
  subtasks.read_examples(path)
  (warning,) = [r.getMessage() for r in caplog.records]
  assert '"note" in 1 line' in warning
  assert '"input" in 1 line (did you mean "inputs"?)' in warning
  assert '"answer" in 2 subtasks (did you mean "answers"?)' in warning
  assert not any(x in warning for x in ('prediction', 'score', 'truncated'))


def test_several_answers(tmp_path):
  path = tmp_path / 'a.jsonl'
  lines = [
    _changed(['subtasks', 0, 'answers'], ['6', 'six']),
    _changed(['subtasks', 0], dict(name='s', prompt='p', answers=['6', '5'])),
    _changed(['inputs'], 'x'),
  ]
  path.write_text('\n'.join(lines))
  first, second, third = subtasks.read_examples(path)
  assert first['targets'] == ['six', ''] and second['targets'] == ['6', '']
  assert first['answers'] == [['6', 'six'], None]
  assert second['answers'] == [['6', '5'], None]
  assert 'answers' not in third
  first, _, third = subtasks.read_examples(path, require_targets=False)
  assert first['answers'] == [['6', 'six'], None]
  assert third['answers'] == [None, None]


def test_predictions_need_no_targets(tmp_path):
  path = tmp_path / 'a.jsonl'
  path.write_text(_changed(['subtasks', 0, 'target'], None))
  (example,) = subtasks.read_examples(path, require_targets=False)
  assert example['targets'] == [None, '']
  assert example['choices'] == example['answers'] == [None, None]
  with pytest.raises(errors.UserError, match='lacks "target"'):
    subtasks.read_examples(path)


_WRONG = [
  ('{"inputs": "x", ', 'malformed JSON at column 1[67]: '),
  ("{'inputs': 'x'}", 'malformed JSON at column 2: .*double quotes'),
  ('[' * 100_000, 'malformed JSON'),
  (b'{"inputs": "caf\xe9"}', 'byte 16 is not UTF-8'),
  ('["x"]', 'must be a JSON object .* not a list'),
  (_changed(['inputs'], None), 'lacks "inputs"; it has "subtasks"'),
  ('{"inputs": "x"}', 'lacks "subtasks"; it has "inputs"'),
  (_changed(['inputs'], 3), '"inputs" must be a string, not the number 3'),
  (_changed(['inputs'], True), '"inputs" must be a string, not true'),
  (_changed(['inputs'], '\ud800'), '"inputs" has an unpaired surrogate'),
  (_changed(['subtasks'], {}), '"subtasks" must be a list'),
  (_changed(['subtasks'], []), '"subtasks" is empty'),
  (
    _changed(['subtasks', 1], 'x'),
    r'subtasks\[1\]: must be an object',
  ),
  (
    _changed(['subtasks', 0, 'prompt'], None),
    r'subtasks\[0\]: lacks "prompt"; it has "name", "target"',
  ),
  (_changed(['subtasks', 0, 'name'], None), 'lacks "name"'),
  (
    _changed(['subtasks', 0, 'prompt'], ' '),
    r"subtasks\[0\] \('s0'\): \"prompt\" is empty",
  ),
  (
    _changed(['subtasks', 1, 'name'], 's0'),
    r"subtasks\[1\]: subtasks\[0\] has the same name, 's0'",
  ),
  (
    _changed(['subtasks', 1, 'target'], 4.5),
    r'subtasks\[1\]: "target" must be a string, not the number 4.5',
  ),
  (
    _changed(['id'], [1]),
    '"id" must be a string or .*, not a list',
  ),
  (_changed(['id'], '1'), "the id '1' occurs on line 1 too"),
  (_changed(['id'], 'x\ud800'), '"id" has an unpaired surrogate'),
  (
    _changed(['subtasks', 1, 'name'], 'x\udc00'),
    r'"subtasks\[1\].name" has an unpaired surrogate',
  ),
  ('{"id": ' + '9' * 5000 + '}', '"id" is a number of 5,000 digits'),
  ('{"id": 1, "id": 2}', "'id' twice"),
  ('{"id": NaN}', '"id" is NaN'),
  (
    _changed(['subtasks', 0, 'prompt'], ' \u200b\ufeff'),
    r"subtasks\[0\] \('s0'\): \"prompt\" has no visible character",
  ),
  (
    _changed(['subtasks', 0, 'answers'], 'six'),
    r'subtasks\[0\]: "answers" must be a list .* not a string',
  ),
  (_changed(['subtasks', 0, 'answers'], []), '"answers" .* an empty one'),
  (_changed(['subtasks', 0, 'choices'], ['a', 'b', 'a']), '"choices" .*\'a\''),
  (_changed(['subtasks', 0, 'answers'], ['six', 6]), r'"answers\[1\]" must'),
  (
    _changed(['subtasks', 0, 'answers'], ['seven']),
    '"target" \'six\' is none of "answers"',
  ),
  (_changed(['subtasks', 0, 'choices'], {'a': 1}), '"choices" must be a list'),
]


@pytest.mark.parametrize('line, message', _WRONG, ids=range(len(_WRONG)))
def test_an_invalid_line_is_named(tmp_path, line, message):
  path = tmp_path / 'a.jsonl'
  good = json.dumps(GOOD).encode()
  line = line if isinstance(line, bytes) else line.encode()
  path.write_bytes(good + b'\n\n' + line + b'\n' + good)
  with pytest.raises(errors.UserError, match=message) as error:
    subtasks.read_examples(path)
  assert str(error.value).startswith(f'{path}, line 3')
  assert '\n' not in str(error.value)


def test_files_that_are_empty_or_missing(tmp_path):
  path = tmp_path / 'a.jsonl'
  with pytest.raises(errors.UserError, match='no such file'):
    subtasks.read_examples(path)
  path.write_text('\n')
  with pytest.raises(errors.UserError, match='is empty'):
    subtasks.read_examples(path)
  with pytest.raises(errors.UserError, match='not a regular file'):
    subtasks.read_examples(tmp_path)


def _files(tmp_path) -> dict[str, str]:
  (tmp_path / 'train.jsonl').write_text(json.dumps(GOOD))
  return {
    'train': str(tmp_path / 'train.jsonl'),
    'vocabulary': subtasks_data.vocabulary().sentencepiece_model_file,
  }


def test_registered_as_the_three_layouts(tmp_path):
  files = _files(tmp_path)
  options = dict(metrics=('exact_match', 'rouge'), extra_ids=3)
  assert jsonl.register('jsonl_a', **files, **options) == 'jsonl_a'
  # A no-op.
  name = jsonl.register('jsonl_a', **files, **options, layout='pie')
  assert name == 'jsonl_a_pie'
  with pytest.raises(errors.UserError, match='registered already'):
    jsonl.register('jsonl_a', **files)

  vocabulary = seqio.TaskRegistry.get(name).output_features['inputs'].vocabulary
  assert vocabulary.vocab_size == subtasks_data.vocabulary().vocab_size + 3
  (row,) = seqio.TaskRegistry.get('jsonl_a').get_dataset(shuffle=False)
  assert row['targets'].numpy().tolist() == [
    vocabulary.encode('six') + [1],
    [1, 0],
  ]
  lengths = dict(inputs=8, prompts=4, targets=4, subtasks=2)
  evaluator = seqio.Evaluator(
    'jsonl_a',
    subtasks.PromptInDecoderFeatureConverter(pack=False),
    'train',
    sequence_length=lengths,
  )
  answer = [[vocabulary.encode('six') + [1], [1, 0]]]
  figures, _ = evaluator.evaluate(
    compute_metrics=True, predict_fn=lambda dataset: list(enumerate(answer))
  )
  figures = figures.result()['jsonl_a']
  assert figures['exact_match'] == figures['rougeL'] == 1
  assert 'token_f1' not in figures


def test_lines_and_empty_targets_reach_the_metrics(tmp_path):
  (tmp_path / 'x.jsonl').write_text(
    '{"inputs": "a", "subtasks": [{"name": "n", "prompt": "p", '
    '"target": "red\\ninn"}, {"name": "m", "prompt": "p", "target": "no"}]}'
  )
  name = jsonl.register(
    'jsonl_lines',
    test=tmp_path / 'x.jsonl',
    vocabulary=bookings.VOCABULARY_FILE,
    extra_ids=9,
    newline='<extra_id_8>',
    empty_target='no',
    metrics=('squad', 'rouge', 'rouge_of_whole'),
  )
  figures = tasks_data.score(name, 'test', {'1': ['inn\nred', 'No.']})
  assert figures['no_answer_exact_match'] == 1
  assert figures['has_answer_exact_match'] == 0
  # By lines, and in any order; "No." is a text, and none was wanted.
  assert figures['rougeLsum'] == figures['rouge1'] == 1 / 2
  assert figures['rougeL'] == 1 / 4
  assert figures['whole_rouge1'] == pytest.approx(2 * (2 / 3) / (1 + 2 / 3))


def test_an_empty_input_is_eos_and_a_prompt_has_tokens(tmp_path):
  path = tmp_path / 'x.jsonl'
  path.write_text(_changed(['inputs'], ''))
  vocabulary = bookings.VOCABULARY_FILE
  name = jsonl.register('jsonl_blank', train=path, vocabulary=vocabulary)
  with pytest.raises(errors.UserError, match='--split.*: train'):
    trainer.default_split(name)
  for suffix, inputs in (('', [1]), ('_joint', [1])):
    (row,) = seqio.TaskRegistry.get(name + suffix).get_dataset(shuffle=False)
    assert row['inputs'].numpy().tolist() == inputs
  first = next(
    iter(seqio.TaskRegistry.get(f'{name}_pie').get_dataset(shuffle=False))
  )
  assert first['inputs'].numpy()[-1] == 1 and len(first['inputs']) > 1
  # A source other than JSON lines has the same rule.
  for prompt in ('', ' \u3000', '\u200b', '\u00ad\ufeff'):
    assert examples_lib.is_blank(prompt)
    name = subtasks_data.register(
      {
        'train': [
          {
            'example_id': 'one',
            'inputs': 'x',
            'prompts': ['a', prompt],
            'targets': ['', ''],
            'subtasks': ['m', 'n'],
          }
        ]
      },
      vocabulary=seqio.ByteVocabulary(),
    )
    with pytest.raises(tf.errors.InvalidArgumentError) as error:
      list(seqio.TaskRegistry.get(name).get_dataset(shuffle=False))
    assert 'subtask n: the prompt is empty' in str(
      subtasks.user_error(error.value)
    )
  assert not examples_lib.is_blank('\u200bx')


def test_predict_finds_mistakes_before_the_model_is_loaded(tmp_path):
  for line in (
    '{"id": ' + '9' * 5000 + ', "inputs": "a", "subtasks": []}',
    '{"id": "x\\ud800", "inputs": "a", "subtasks": []}',
    _changed(['subtasks', 0, 'prompt'], '\u200b'),
  ):
    (tmp_path / 'in.jsonl').write_text(json.dumps(GOOD) + '\n' + line)
    with pytest.raises(errors.UserError, match='in.jsonl, line 2'):
      predict_file.answer_file(
        lambda: pytest.fail('loaded'),
        tmp_path / 'in.jsonl',
        tmp_path / 'out.jsonl',
      )
    assert [p.name for p in tmp_path.iterdir()] == ['in.jsonl']


def test_an_answer_that_is_no_choice_is_named_once(tmp_path, caplog):
  path = tmp_path / 'x.jsonl'
  lines = [
    _changed(['subtasks', 0, 'choices'], choices)
    for choices in ([GOOD['subtasks'][0]['target'], 'b'], ['b'], ['c', 'd'])
  ]
  path.write_text('\n'.join(lines))
  jsonl.subtasks.read_examples(path)
  assert len(caplog.messages) == 1
  for part in ('no answer of 2 subtasks', '"choices"', 'line 2'):
    assert part in caplog.messages[0]


def test_registered_by_gin(tmp_path):
  files = _files(tmp_path)
  bindings = [
    'from __gin__ import dynamic_registration',
    'from pid_jax.tasks import jsonl',
    'MIXTURE_OR_TASK_NAME = @jsonl.register()',
    "jsonl.register.name = 'jsonl_by_gin'",
    *[f'jsonl.register.{key} = {value!r}' for key, value in files.items()],
  ]
  with gin.unlock_config():
    gin.parse_config('\n'.join(bindings))
    value = gin.query_parameter('%MIXTURE_OR_TASK_NAME')
  try:
    assert value.scoped_configurable_fn() == 'jsonl_by_gin'
    assert value.scoped_configurable_fn() == 'jsonl_by_gin'
  finally:
    gin.clear_config()
  assert 'jsonl_by_gin_joint' in seqio.TaskRegistry.names()


def test_several_answers_reach_the_metrics_of_all_layouts(tmp_path):
  path = tmp_path / 'x.jsonl'
  path.write_text(
    _changed(['subtasks', 0, 'answers'], ['6', 'six', 'half a dozen'])
  )
  name = jsonl.register(
    'jsonl_answers',
    test=path,
    vocabulary=bookings.VOCABULARY_FILE,
    metrics='squad',
  )
  for suffix in ('', '_pie', '_joint'):
    for text, exact in (('6', 1), ('six', 1), ('half a dozen', 1), ('7', 0.5)):
      figures = tasks_data.score(name + suffix, 'test', {'1': [text, '']})
      assert figures['squad_exact_match'] == exact, (suffix, text)


def test_a_file_that_has_changed_is_read_again(tmp_path):
  files = _files(tmp_path)
  targets = lambda name: [
    row['targets_pretokenized']
    for row in seqio.TaskRegistry.get(name)
    .get_dataset(shuffle=False)
    .as_numpy_iterator()
  ]
  name = jsonl.register('jsonl_again', **files)
  source = seqio.TaskRegistry.get(name).source
  assert targets(name)[0].tolist() == [b'six', b'']
  # Of the same size, and at the same time.
  path = tmp_path / 'train.jsonl'
  stat = path.stat()
  path.write_text(path.read_text().replace('six', 'red'))
  os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
  jsonl.register(name, **files)
  assert targets(name)[0].tolist() == [b'red', b'']
  assert targets(f'{name}_pie') == [b'red', b'']
  assert seqio.TaskRegistry.get(name).source is not source
  # Another form of the same path changes nothing.
  source = seqio.TaskRegistry.get(name).source
  jsonl.register(name, **{**files, 'train': tmp_path / 'x/../train.jsonl'})
  assert seqio.TaskRegistry.get(name).source is source
  # A mixture would keep what the file was.
  seqio.MixtureRegistry.add('jsonl_mixture', [name], default_rate=1)
  path.write_text(path.read_text().replace('red', 'six'))
  with pytest.raises(errors.UserError, match="mixture 'jsonl_mixture'"):
    jsonl.register(name, **files)


def test_an_invalid_line_stops_the_task(tmp_path):
  files = _files(tmp_path)
  (tmp_path / 'train.jsonl').write_text('{')
  jsonl.register('jsonl_wrong', **files)
  with pytest.raises(errors.UserError, match=r'train.jsonl, line 1: malformed'):
    seqio.TaskRegistry.get('jsonl_wrong').get_dataset(shuffle=False)


def test_a_task_without_targets_can_be_timed_but_not_trained_on(tmp_path):
  files = _files(tmp_path)
  bare = json.loads(json.dumps(GOOD))
  for subtask in bare['subtasks']:
    del subtask['target']
  for split in ('train', 'validation', 'test'):
    if split in files:
      (tmp_path / f'{split}.jsonl').write_text(json.dumps(bare) + '\n')
  task = seqio.TaskRegistry.get(jsonl.register('jsonl_bare', **files))
  assert not task.layout.has_targets and not task.metric_fns
  (example,) = task.get_dataset(shuffle=False).as_numpy_iterator()
  assert example['prompts'].shape[0] == 2
  cfg = trainer.DatasetConfig('jsonl_bare', {})
  with pytest.raises(errors.UserError, match="'jsonl_bare' has no targets"):
    setup.check_targets(cfg)
  # All examples, or none.
  with (tmp_path / 'train.jsonl').open('a') as f:
    f.write(json.dumps(GOOD))
  jsonl.register('jsonl_half', **files)
  with pytest.raises(errors.UserError, match="example '2' has targets"):
    seqio.TaskRegistry.get('jsonl_half').get_dataset(shuffle=False)


@pytest.mark.parametrize(
  'change, message',
  [
    (dict(train='no.jsonl'), 'train file .*/no.jsonl: no such'),
    (dict(train='None'), 'no data: give it at least one of train'),
    (dict(train='', test=''), 'no data: give it at least one of train'),
    (dict(train=3), "train file of the task 'jsonl_b' must be a path"),
    (dict(train='/dev/null'), 'not a regular file'),
    (dict(name='a b'), 'name must be of letters'),
    (dict(vocabulary=None), 'vocabulary must be the path'),
    (dict(extra_ids=-1), 'extra_ids must be a whole number'),
    (dict(train=np.array(['a', 'b'])), 'must be a path'),
    (dict(metrics=[3]), 'a metric must be a string'),
    (dict(metrics=[['rouge']]), 'a metric must be a string'),
    (dict(metrics=None), 'metrics must be a list'),
    (dict(metrics=['squad', 'squad']), 'metrics holds one twice'),
    (dict(empty_target=3), 'empty_target must be a string'),
    (dict(long_inputs='cut'), "unknown long_inputs 'cut'"),
    (dict(newline=' x'), 'newline must be a sentinel'),
    (dict(train=None), 'no data: give it at least one of train'),
    (dict(vocabulary='no.model'), 'no.model: no such file'),
    (dict(metrics=['rogue']), "unknown metric 'rogue'; did you mean rouge"),
    (dict(layout='both'), 'unknown layout'),
    (dict(layout=[]), 'layout must be a string'),
    (dict(long_inputs=0), 'long_inputs must be a string'),
    (dict(empty_target='\ud800'), 'empty_target must be a string'),
    (dict(vocabulary='/dev/zero'), 'not a regular file'),
    (dict(metrics='x' * 5000), 'unknown metric .{60,90}; known'),
  ],
)
def test_invalid_arguments(tmp_path, change, message):
  with pytest.raises(errors.UserError, match=message):
    jsonl.register(**{'name': 'jsonl_b', **_files(tmp_path), **change})
  assert 'jsonl_b' not in seqio.TaskRegistry.names()


def test_reading_and_metrics_load_no_tensorflow():
  code = (
    'import sys\n'
    'from pid_jax import subtasks\n'
    'from pid_jax.subtasks import metrics\n'
    f'examples = subtasks.read_examples({jsonl.EXAMPLE_FILE!r})\n'
    'outputs = [e["targets"] for e in examples]\n'
    'assert metrics.joint_goal_accuracy(examples, outputs) == '
    '{"joint_goal_accuracy": 1}\n'
    'assert not {"tensorflow", "seqio", "jax"} & set(sys.modules)\n'
  )
  subprocess.run([sys.executable, '-c', code], check=True)
