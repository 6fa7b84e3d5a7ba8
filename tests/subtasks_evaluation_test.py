# Copyright 2026 The pid_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""seqio.Evaluator gives the same figures for the same answers in any layout."""

import numpy as np
import pytest
import seqio
from toys import subtasks_data

from pid_jax import subtasks
from pid_jax.subtasks import postprocessors

LENGTHS = dict(inputs=16, prompts=3, targets=6, subtasks=7)
TEXT_LENGTHS = dict(inputs=16, targets=24)


def _evaluate(name, answers, layout='', lengths=None, **kwargs):
  """Evaluates a layout with `answers`, from example id to U strings.

  The strings go through tokens and back, as a model's would. Returns the
  figures and what the metrics and loggers were given.
  """
  vocabulary = subtasks_data.vocabulary()
  converter = (
    seqio.EncDecFeatureConverter(pack=False)
    if layout
    else subtasks.PromptInDecoderFeatureConverter(pack=False)
  )
  logged = {}

  class Logger(seqio.Logger):
    def __call__(self, **kwargs):
      logged.update(kwargs)

  evaluator = seqio.Evaluator(
    name + layout,
    converter,
    eval_split='test',
    sequence_length=lengths,
    logger_cls=[Logger],
    log_dir='unused',
    **kwargs,
  )
  tokens = []
  for row in evaluator.cached_task_datasets[name + layout].as_numpy_iterator():
    answer = answers[row['example_id'].decode()]
    if layout == '_pie':
      tokens.append(vocabulary.encode(answer[row['subtask_index']]))
    elif layout == '_joint':
      tokens.append(vocabulary.encode(' ; '.join(answer)))
    else:
      tokens.append([vocabulary.encode(text) for text in answer])

  def predict(dataset):
    shape = [30]
    if not layout:
      (_, batch) = next(dataset.as_numpy_iterator())
      shape = [len(batch['decoder_prompt_tokens']), 30]
    outputs = []
    for index, _ in dataset.as_numpy_iterator():
      output = np.zeros(shape, np.int32)
      for u, row in enumerate(tokens[index] if not layout else []):
        output[u, : len(row) + 1] = [*row, 1]
      if layout:
        output[: len(tokens[index]) + 1] = [*tokens[index], 1]
      outputs.append((index, output))
    return outputs[::-1]  # Hosts finish in any order.

  figures, _ = evaluator.evaluate(compute_metrics=True, predict_fn=predict)
  return figures.result()[name + layout], logged


def _wrong(answer, index):
  """Changes some answers of an example."""
  return [
    'red bridge' if (index + u) % 5 == 0 else text
    for u, text in enumerate(answer)
  ]


def test_figures_are_the_same_in_all_layouts():
  examples = subtasks_data.examples(25)
  for index, example in enumerate(examples):  # Features for metrics only.
    example['turn'] = index
    example['domains'] = ['hotel', 'train'][: index % 3]
  seen = []

  def metric(targets, predictions):
    seen.append([(t['turn'], t['domains']) for t in targets])
    return {'count': len(predictions)}

  name = subtasks_data.register(
    {'test': examples}, metric_fns=[*subtasks_data.ALL_METRICS, metric]
  )
  answers = {
    e['example_id']: _wrong(e['targets'], i) for i, e in enumerate(examples)
  }

  pid, logged = _evaluate(name, answers, lengths=LENGTHS)
  pie, _ = _evaluate(name, answers, '_pie')
  joint, _ = _evaluate(name, answers, '_joint', TEXT_LENGTHS)

  want = {'missing_predictions': 0, 'surplus_predictions': 0, 'count': 25}
  for metric_fn in subtasks_data.ALL_METRICS:
    want.update(metric_fn(examples, list(answers.values())))
  assert pid == pie == joint == want
  assert 0 < pid['joint_goal_accuracy'] < pid['slot_accuracy'] < 1
  assert seen == 3 * [[(e['turn'], e['domains']) for e in examples]]
  assert logged['targets'] == [
    {k: e[k] for k in logged['targets'][0]} for e in examples
  ]
  assert logged['inferences']['prediction'] == list(answers.values())


def test_outputs_that_are_missing_are_wrong_and_counted():
  examples = [subtasks_data.example(i, max_subtasks=4) for i in range(12)]
  for example in examples:
    example['targets'] = ['', *example['targets'][1:]]
  name = subtasks_data.register({'test': examples})
  sizes = [len(e['targets']) for e in examples]
  answers = {e['example_id']: e['targets'] for e in examples}

  # The joint output ends too early, or late, or says nothing at all.
  short = dict(answers)
  for index in (0, 1):
    assert sizes[index] > 1
  short['example-0'] = answers['example-0'][:-1]
  short['example-1'] = [*answers['example-1'], 'six', 'red']
  figures, _ = _evaluate(name, short, '_joint')
  assert figures['missing_predictions'] == 1
  assert figures['surplus_predictions'] == 2
  assert figures['joint_goal_accuracy'] == pytest.approx(11 / 12)
  assert figures['slot_accuracy'] == pytest.approx(1 - 1 / sum(sizes))

  # Rows without a prediction are wrong, even with an empty target.
  rows = sum(sizes[:3]) + 1
  assert sizes[3] > 1
  figures, _ = _evaluate(name, answers, '_pie', TEXT_LENGTHS, num_examples=rows)
  assert figures['missing_predictions'] == sizes[3] - 1
  assert figures['joint_goal_accuracy'] == pytest.approx(3 / 4)
  assert figures['slot_accuracy'] == pytest.approx(rows / sum(sizes[:4]))


def test_evaluating_twice_gives_the_same():
  row = {'example_id': 'a', 'num_subtasks': 2}
  whole = {'targets': ['x', 'y'], 'subtasks': ['s', 't']}
  rows = [
    {**row, 'index': 0, 'subtask': 's', 'target': 'x', 'whole': whole},
    {**row, 'index': 1, 'subtask': 't', 'target': 'y'},
  ]
  first = postprocessors.group_by_example(rows, ['x', 'z'])
  assert postprocessors.group_by_example(rows[::-1], ['z', 'x']) == first
  assert first == ([{'example_id': 'a', **whole}], [['x', 'z']])


def test_ids_that_are_not_unique_are_named():
  row = {'example_id': 'a', 'num_subtasks': 1, 'index': 0, 'subtask': 's'}
  rows = [{**row, 'target': 'x'}, {**row, 'target': 'y'}]
  with pytest.raises(ValueError, match="'a' occurs twice"):
    postprocessors.group_by_example(rows, ['x', 'y'])


def test_mixtures_evaluate_each_task_with_its_own_number_of_subtasks():
  tasks = [
    subtasks_data.register({'test': subtasks_data.examples(6)}),
    subtasks_data.register(
      {'test': [subtasks_data.example(i, 2) for i in range(40, 48)]}
    ),
  ]
  name = f'evaluated_mixture_of_{tasks[0]}'
  seqio.MixtureRegistry.add(name, tasks, default_rate=1)
  converter = subtasks.PromptInDecoderFeatureConverter(pack=False)
  evaluator = seqio.Evaluator(name, converter, eval_split='test')
  none = [subtasks_data.vocabulary().encode('none') + [1, 0]] * 7
  predict = lambda dataset: [(i, none) for i in range(len(dataset))]
  figures, _ = evaluator.evaluate(compute_metrics=True, predict_fn=predict)
  for task, found in figures.result().items():
    targets = [
      target
      for row in evaluator.cached_task_datasets[task].as_numpy_iterator()
      for target in row['targets_pretokenized']
    ]
    share = np.mean([target == b'none' for target in targets])
    assert found['slot_accuracy'] == pytest.approx(share)
