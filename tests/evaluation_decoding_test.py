# Copyright 2026 The pid_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""Evaluations decode as users' texts are decoded, whatever the batches."""

import json

import jax
import numpy as np
import pytest
import seqio
from toys import training as toy
from toys import weights

from pid_jax import decoding
from pid_jax import errors
from pid_jax import inference
from pid_jax import model as model_lib
from pid_jax import network
from pid_jax import partitioning
from pid_jax import subtasks
from pid_jax import trainer
from pid_jax import vocabulary as vocabulary_lib
from pid_jax.inference import engine as engine_lib
from pid_jax.tasks import jsonl
from pid_jax.trainer import evaluation

LENGTHS = {'inputs': 24, 'prompts': 2, 'targets': 4, 'subtasks': 3}
NUM_EXAMPLES = 10
CONFIG = toy.t5_config(dropout_rate=0.0)


def _examples(with_choices: bool) -> list[dict]:
  """Lines of JSONL: inputs and prompts of unequal number and length."""
  rng = np.random.default_rng(0)
  text = lambda most: ' '.join(
    rng.choice(list(toy.LETTERS), rng.integers(1, most + 1))
  )
  lines = []
  for i in range(NUM_EXAMPLES):
    subtasks = []
    for u in range(rng.integers(1, 4)):
      subtask = {'name': f'{u}', 'prompt': text(2), 'target': text(3)}
      if with_choices and rng.random() < 0.6:
        subtask['choices'] = sorted({text(3) for _ in range(4)})
      subtasks.append(subtask)
    lines.append({'id': i, 'inputs': text(20), 'subtasks': subtasks})
  return lines


class Seen:
  """A task whose one metric keeps what it is given."""

  def __init__(self, name: str, folder, with_choices: bool, layout: str):
    self.lines = _examples(with_choices)
    path = folder / f'{name}.jsonl'
    path.write_text(''.join(json.dumps(line) + '\n' for line in self.lines))
    jsonl.register(
      name,
      test=path,
      vocabulary=toy.vocabulary().sentencepiece_model_file,
      joint_separator=' 0 ',  # All else is unknown to the vocabulary.
    )
    suffix = '' if layout == 'pid' else f'_{layout}'
    task = seqio.TaskRegistry.get(name + suffix)
    self.name = f'{name}{suffix}_seen'
    self.predictions = self.scores = self.target_scores = None

    def predicted(targets, predictions):
      self.predictions = predictions
      return {'count': len(predictions)}

    def predicted_with_aux(targets, predictions, aux_values):
      self.scores = aux_values['scores']
      return {'aux_count': len(predictions)}

    def scored(targets, scores):
      self.target_scores = scores
      return {'sum': float(np.sum([np.sum(own) for own in scores]))}

    # SeqIO hands further values to metrics of text-to-text tasks alone.
    metrics = [predicted, scored]
    metrics += [predicted_with_aux] if layout != 'pid' else []
    seqio.TaskRegistry.add_provider(
      self.name, task.replace(name=self.name, metric_fns=metrics)
    )

  def evaluate(self, model, params, batch_size=4, **options):
    cfg = trainer.DatasetConfig(
      self.name, LENGTHS, 'test', batch_size, shuffle=False, pack=False
    )
    evaluator = evaluation.PredictionEvaluator(
      model,
      cfg,
      partitioning.Partitioner(),
      options=inference.DecodingOptions(**options) if options else None,
    )
    return evaluator.evaluate(params, 0)


@pytest.fixture(scope='module', name='params')
def _params():
  return jax.device_put(weights.random_params(CONFIG, seed=4))


@pytest.fixture(scope='module', name='model')
def _model():
  return model_lib.EncoderDecoderModel(network.Transformer(CONFIG))


@pytest.fixture(scope='module', name='task')
def _task(tmp_path_factory):
  """Makes a task of each kind once."""
  made = {}

  def make(with_choices, layout='pid') -> Seen:
    key = with_choices, layout
    if key not in made:
      name = f'seen_{layout}_{int(with_choices)}'
      made[key] = Seen(name, tmp_path_factory.mktemp('data'), *key)
    return made[key]

  return make


_LOOKUP = decoding.PromptLookup(tokens_per_step=1000)
_SAMPLED = {
  'sampler': decoding.Sample(decoding.Temperature(2.0)),
  'seed': 5,
}


@pytest.mark.parametrize(
  'layout, with_choices, options',
  [
    ('pid', True, {'beam_size': 2, 'normalize_scores': True}),
    ('pie', True, {**_SAMPLED, 'max_new_tokens': 5, 'prompt_lookup': _LOOKUP}),
    *(
      pytest.param(*case, marks=pytest.mark.slow)
      for case in [
        ('pid', False, {'beam_size': 3, 'length_penalty': 1.0}),
        ('pid', False, _SAMPLED),
        ('pid', True, {'prompt_lookup': _LOOKUP}),
      ]
    ),
  ],
)
def test_evaluation_decodes_as_generate_does(
  model, params, task, layout, with_choices, options, monkeypatch
):
  seen, outputs = task(with_choices, layout), []
  generate = engine_lib.Engine.generate

  def generate_and_note(*args, **kwargs):
    outputs.extend(generate(*args, **kwargs))
    return outputs

  with monkeypatch.context() as patch:
    patch.setattr(engine_lib.Engine, 'generate', generate_and_note)
    seen.evaluate(model, params, **options)

  path = toy.vocabulary().sentencepiece_model_file
  user = inference.PromptInDecoder(
    CONFIG,
    params,
    vocabulary_lib.Vocabulary(path),
    {'layout': layout, 'feature_lengths': LENGTHS},
  )
  column = lambda key: [
    [subtask.get(key) for subtask in line['subtasks']] for line in seen.lines
  ]
  texts, scores = user.generate(
    [line['inputs'] for line in seen.lines],
    column('prompt'),
    **{'max_new_tokens': LENGTHS['targets'], **options},
    choices=column('choices'),
    return_scores=True,
    batch_size=3,
  )
  normalize = options.get('normalize_scores', False)
  found = np.concatenate([engine_lib.scores(x, normalize) for x in outputs])
  np.testing.assert_allclose(found, np.concatenate(scores), atol=1e-4)
  if layout == 'pid':
    assert seen.predictions == texts
  else:
    assert seen.predictions == [text for own in texts for text in own]
    np.testing.assert_array_equal(seen.scores, found)
  # Worth comparing.
  assert len({text for own in texts for text in own}) > 5
  if with_choices:
    for own, lists in zip(texts, column('choices'), strict=True):
      for text, choices in zip(own, lists, strict=True):
        assert choices is None or text in choices


@pytest.mark.parametrize('layout', ['pid', 'joint'])
def test_batches_and_buckets_change_no_metric(model, params, task, layout):
  """Against one example at a time, padded to the lengths of the task."""
  seen = task(False, layout)
  values = seen.evaluate(model, params)
  joint = {'inputs': LENGTHS['inputs'], 'targets': LENGTHS['targets']}

  if layout == 'pid':
    lengths = LENGTHS
    converter = subtasks.PromptInDecoderFeatureConverter(pack=False)
  else:
    lengths = joint
    converter = subtasks.TextToTextFeatureConverter(pack=False)
  dataset = seqio.get_dataset(
    seen.name.removesuffix('_seen'), lengths, converter, 'test', shuffle=False
  )
  predict = jax.jit(model.predict_batch_with_aux)
  score = jax.jit(model.score_batch)
  vocabulary = toy.vocabulary()
  predictions, scores, target_scores = [], [], []
  for example, line in zip(
    dataset.as_numpy_iterator(), seen.lines, strict=True
  ):
    batch = {k: v[None] for k, v in example.items() if v.ndim}
    tokens, aux = predict(params, batch)
    tokens = np.asarray(tokens[0]).tolist()
    if layout == 'pid':
      predictions.append(
        [vocabulary.decode(x) for x in tokens][: len(line['subtasks'])]
      )
    else:
      parts = vocabulary.decode(tokens).split('0')
      predictions.append([part.strip(' ') for part in parts])
    scores.append(np.asarray(aux['scores'][0]))
    target_scores.append(score(params, batch)[0])
  assert seen.predictions == predictions
  if layout != 'pid':
    np.testing.assert_allclose(seen.scores, scores, atol=1e-4)
  np.testing.assert_allclose(seen.target_scores, target_scores, atol=1e-4)
  assert values[f'{seen.name}/count'] == NUM_EXAMPLES
  assert values[f'{seen.name}/sum'] == pytest.approx(
    float(np.sum(target_scores)), abs=1e-3
  )


def test_choices_that_cannot_be_are_found_before_anything_is_predicted(
  model, params, task
):
  seen = task(True)
  with pytest.raises(errors.UserError, match='takes . tokens .*raise max_new'):
    seen.evaluate(model, params, max_new_tokens=2)


@pytest.mark.parametrize(
  'options, message',
  [
    ({'max_new_tokens': 0}, 'max_new_tokens must be .* at least 1 .*got 0'),
    ({'max_new_tokens': 2.5}, 'max_new_tokens must be a whole number'),
    ({'min_new_tokens': -1}, 'min_new_tokens must be .* at least 0'),
    ({'beam_size': 0}, 'beam_size must be .* at least 1'),
    ({'beam_size': True}, 'beam_size must be a whole number'),
    ({'sampler': 'greedy'}, 'sampler must be a decoding.Sampler'),
    ({'length_penalty': '1'}, 'length_penalty must be a finite number'),
    ({'beam_size': 2, **_SAMPLED}, 'beam_size and sampler exclude'),
    (
      {'beam_size': 2, 'prompt_lookup': decoding.PromptLookup()},
      'beam_size and prompt_lookup exclude',
    ),
  ],
)
def test_options_that_cannot_be(options, message):
  with pytest.raises(errors.UserError, match=message):
    inference.DecodingOptions(**options)
