# Copyright 2026 The pid_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""Evaluations miss no example, and none is lost when a run is stopped."""

import dataclasses
import functools
import os
import signal
import types

import gin
import jax
import numpy as np
import pytest
import seqio
import tensorflow as tf
from toys import buckets
from toys import training as toy
from toys import weights

from pid_jax import checkpoints
from pid_jax import cli
from pid_jax import decoding
from pid_jax import errors
from pid_jax import evaluate
from pid_jax import inference
from pid_jax import model as model_lib
from pid_jax import partitioning
from pid_jax import trainer
from pid_jax.subtasks import metrics
from pid_jax.subtasks import postprocessors
from pid_jax.trainer import data
from pid_jax.trainer import evaluation
from pid_jax.trainer import reporting

_VOCABULARY = seqio.PassThroughVocabulary(27, eos_id=1)
_SHORT = {**toy.LENGTHS, 'inputs': 10, 'targets': 1}


def _params(model):
  return weights.random_params(model.module.config, seed=0)


def _text_task(name: str, num_examples: int, metric) -> str:
  """A stock text-to-text task, of which all inputs are alike."""
  feature = seqio.Feature(_VOCABULARY, add_eos=False, dtype=tf.int32)
  arrays = {
    'inputs': np.tile(np.int32([5, 6, 7, 1]), (num_examples, 1)),
    'targets': np.tile(np.int32([6, 5, 6, 5, 6, 1]), (num_examples, 1)),
  }
  seqio.TaskRegistry.add(
    name,
    source=seqio.FunctionDataSource(
      lambda split, shuffle_files, seed=None: (
        tf.data.Dataset.from_tensor_slices(arrays)
      ),
      splits=['test'],
    ),
    preprocessors=[],
    output_features={'inputs': feature, 'targets': feature},
    postprocess_fn=lambda output, is_target=False, **unused: output,
    metric_fns=[metric],
  )
  return name


# Rows of the split: 5, of two inputs each. One batch that is not full, two of
# which the second is not, and as many as the batch has.
@pytest.mark.parametrize(
  'batch_size', [pytest.param(32, marks=pytest.mark.slow), 4, 5]
)
def test_loss_is_that_of_all_rows(batch_size):
  model = toy.t5_model()
  params = _params(model)
  cfg = toy.dataset_config('validation', pack=True, batch_size=batch_size)
  evaluator = evaluation.LossEvaluator(
    model, cfg, partitioning.Partitioner(), num_batches=20
  )
  values = evaluator.evaluate(params)

  whole = dataclasses.replace(cfg, batch_size=1)
  rows = list(data.dataset(whole, 1).as_numpy_iterator())
  assert len(rows) == 5
  batch = {k: np.concatenate([row[k] for row in rows]) for k in rows[0]}
  logits = jax.jit(lambda p, b: model.logits(p, b, None))(params, batch)
  logits = np.asarray(logits, np.float64)
  log_z = np.log(np.exp(logits).sum(-1))
  targets = batch['decoder_target_tokens']
  log_probs = np.take_along_axis(logits, targets[..., None], -1)[..., 0] - log_z
  weights = batch['decoder_loss_weights']
  right = logits.argmax(-1) == targets
  np.testing.assert_allclose(
    [values['toy/target_loss'], values['toy/target_accuracy']],
    [
      -np.average(log_probs, weights=weights),
      np.average(right, weights=weights),
    ],
    rtol=1e-5,
  )


def test_a_split_without_rows_is_refused():
  name = _text_task('no_rows', 0, lambda targets, predictions: {})
  cfg = data.DatasetConfig(
    name, {'inputs': 4, 'targets': 6}, 'test', shuffle=False
  )
  with pytest.raises(
    errors.UserError, match='test split of .no_rows. is empty'
  ):
    evaluation.LossEvaluator(
      toy.t5_model(), cfg, partitioning.Partitioner(), num_batches=1
    )


def test_a_sampler_draws_by_the_number_of_an_example():
  seen = {}

  def note(targets, predictions):
    seen['tokens'] = [list(tokens) for tokens in predictions]
    return {'count': len(predictions)}

  model = model_lib.EncoderDecoderModel(
    toy.t5_model().module, sampler=decoding.Sample()
  )
  params = _params(model)
  cfg = data.DatasetConfig(
    _text_task('all_alike', 4, note),
    {'inputs': 4, 'targets': 6},
    'test',
    batch_size=2,
    shuffle=False,
    pack=False,
    seed=7,
  )
  evaluator = evaluation.PredictionEvaluator(
    model, cfg, partitioning.Partitioner()
  )
  evaluator.evaluate(params, 0)
  assert len(set(map(tuple, seen['tokens']))) > 1
  generate = functools.partial(
    decoding.generate,
    model.module,
    max_new_tokens=6,
    sampler=decoding.Sample(),
    rng=jax.random.key(7),
  )
  drawn = jax.jit(generate)(
    params,
    np.tile(np.int32([5, 6, 7, 1]), (4, 1)),
    np.zeros((4, 1, 0), np.int32),
  ).tokens
  rows = np.asarray(drawn[:, 0]).tolist()
  expected = seen.pop('tokens')
  assert [_VOCABULARY.decode(row) for row in rows] == expected

  # As the train loop evaluates, with the same options for any model.
  options = inference.DecodingOptions(sampler=decoding.Sample(), seed=7)
  evaluation.Evaluators(
    toy.t5_model(),
    partitioning.Partitioner(),
    infer_cfg=cfg,
    loss_cfg=None,
    loss_batches=1,
    should_stop=lambda: False,
    decoding_options=options,
  ).evaluate(params, 0)
  assert seen['tokens'] == expected


@pytest.mark.parametrize(
  'layout, count', [('', 10), ('_pie', 20), ('_joint', 10)]
)
def test_what_is_cut_is_counted_and_told(layout, count, caplog):
  caplog.set_level('WARNING', 'pid_jax')
  infer = toy.dataset_config('validation', task_feature_lengths=_SHORT)
  name = infer.mixture_or_task_name + layout
  infer = dataclasses.replace(infer, mixture_or_task_name=name)
  evaluators = evaluation.Evaluators(
    toy.t5_model(),
    partitioning.Partitioner(),
    infer_cfg=infer,
    loss_cfg=None,
    loss_batches=20,
    should_stop=lambda: False,
  )
  del evaluators
  targets = 10 if layout == '_joint' else 20
  assert (
    f'evaluation: {name}/inputs_truncated {count}, '
    f'{name}/targets_truncated {targets}. Raise' in caplog.text
  )


def _no_metrics_of_loss(name, metric_fns):
  """Evaluators of predictions on a toy task with some metrics."""
  task = seqio.TaskRegistry.get('toy')
  toy_of = task.replace(name=name, metric_fns=metric_fns)
  seqio.TaskRegistry.add_provider(name, toy_of)
  return evaluation.Evaluators(
    toy.t5_model(),
    partitioning.Partitioner(),
    infer_cfg=toy.dataset_config('validation', mixture_or_task_name=name),
    loss_cfg=None,
    loss_batches=1,
    should_stop=lambda: False,
  )


def test_names_of_metrics_are_known_before_they_are_computed():
  toy.register()
  evaluators = _no_metrics_of_loss(
    'toy_named',
    [
      postprocessors.combine_metrics(
        [
          functools.partial(metrics.rouge, by_subtask=True),
          metrics.squad,  # Which figures it has depends on the examples.
          lambda targets, predictions: {'text': 'not a number', 'own': 1},
        ]
      )
    ],
  )
  values = evaluators.evaluate(_params(toy.t5_model()), 0)
  assert 'toy_named/own' in values and 'toy_named/text' not in values
  for name in values:
    assert evaluators.find_metric(name) == name
  assert evaluators.find_metric('first') == 'toy_named/rouge1'
  assert evaluators.find_metric(None) is None
  for wrong in ('rouge1', 'toy_named/text', 'toy_named/', 'toy/own', '', 'x/y'):
    with pytest.raises(errors.UserError, match='unknown .*best_metric'):
      evaluators.find_metric(wrong)

  def fails(targets, predictions):
    raise KeyError('of a metric that takes no missing predictions')

  unknown = _no_metrics_of_loss('toy_unnamed', [fails])
  assert unknown.find_metric('toy_unnamed/any') == 'toy_unnamed/any'
  with pytest.raises(errors.UserError, match='toy_unnamed/METRIC'):
    unknown.find_metric('first')


def test_what_is_cut_is_among_the_metrics():
  model = toy.t5_model()
  cfg = toy.dataset_config(
    'validation', task_feature_lengths=_SHORT, pack=True, batch_size=4
  )
  evaluator = evaluation.LossEvaluator(
    model, cfg, partitioning.Partitioner(), num_batches=20
  )
  values = evaluator.evaluate(_params(model))
  assert values['toy/inputs_truncated'] == 10
  assert values['toy/targets_truncated'] == 20


@pytest.mark.slow
@pytest.mark.parametrize('step', [2, 4])
def test_an_interrupted_evaluation_is_made_up_for(tmp_path, monkeypatch, step):
  options = dict(
    total_steps=4,
    infer_eval_dataset_cfg=toy.dataset_config('validation'),
    eval_period=2,
    checkpoint_cfg=trainer.CheckpointConfig(
      period=1, keep=None, best_metric='toy/exact_match'
    ),
  )
  evaluate = evaluation.Evaluators.evaluate

  def interrupted(self, params, at):
    if at == step:
      os.kill(os.getpid(), signal.SIGTERM)
    return evaluate(self, params, at)

  with monkeypatch.context() as patch:
    patch.setattr(evaluation.Evaluators, 'evaluate', interrupted)
    with pytest.raises(SystemExit):
      toy.train(tmp_path, **options)
    assert checkpoints.steps(tmp_path)[-1] == step
    assert not checkpoints.read_metrics(tmp_path, step)
    # It may be interrupted once more: no step is made meanwhile.
    with pytest.raises(SystemExit):
      toy.train(tmp_path, **options)
    assert checkpoints.steps(tmp_path)[-1] == step

  state = toy.train(tmp_path, **options)
  assert int(state.step) == 4
  toy.train(tmp_path / 'whole', **options)
  for at in (2, 4):
    found = checkpoints.read_metrics(tmp_path, at)
    assert found and found == checkpoints.read_metrics(tmp_path / 'whole', at)
  best = checkpoints.resolve_step(tmp_path, 'best')
  assert best == checkpoints.resolve_step(tmp_path / 'whole', 'best')


def test_training_data_that_may_not_be_read(tmp_path, monkeypatch):
  toy.copy_finished(tmp_path)
  message = '/data/train.tfrecord; Permission denied'
  error = tf.errors.PermissionDeniedError(None, None, message)

  def refuse(self):
    raise error

  monkeypatch.setattr(data.ShardedIterator, '__next__', refuse)
  with pytest.raises(errors.UserError) as e:
    toy.train(tmp_path, total_steps=4)
  assert str(e.value).startswith(
    'Cannot read the training data: /data/train.tfrecord: permission denied'
  )
  assert 'Cannot write' not in str(e.value)
  assert os.listdir(tmp_path / 'checkpoints') == ['2']


class _Writer:
  """Keeps what is written."""

  def __init__(self):
    self.scalars = {}

  def write_scalars(self, step, scalars):
    self.scalars[step] = scalars


class _NoProgress:
  def update(self, *unused):
    pass


def test_overflow_is_that_of_an_interval(caplog):
  caplog.set_level('WARNING', 'pid_jax')
  writer = _Writer()
  average = lambda x: evaluation.step_lib._average(np.float32(x))
  metrics = lambda count: {
    **{k: average(1.0) for k in ('loss', 'accuracy', 'grad_norm')},
    'examples': model_lib.Count(np.float32(8)),
    'inputs_truncated': model_lib.Count(np.float32(count)),
  }

  def report(reporter, steps):
    for step, count in steps.items():
      reporter.add(step, metrics(count))
    reporter.flush()
    return writer.scalars[max(steps)]['train/overflow/inputs_truncated']

  reporter = reporting.Reporter(writer, _NoProgress(), 0)
  assert report(reporter, {1: 0, 2: 3, 3: 2}) == 5
  assert caplog.text.count('inputs_truncated 5') == 1
  assert report(reporter, {4: 1, 5: 0}) == 1
  # A run that goes on after step 3 tells the same of the same steps.
  assert report(reporting.Reporter(writer, _NoProgress(), 3), {4: 1, 5: 0}) == 1


def test_evaluate_finds_the_configuration_in_a_bucket(tmp_path, monkeypatch):
  folder = tmp_path / 'bucket' / 'model'
  folder.mkdir(parents=True)
  toy.copy_finished(folder)
  (folder / 'checkpoints' / '2' / 'commit_success.txt').touch()
  (folder / 'config.gin').write_text('TEXT = "before"')
  for step, text in ((9, 'earlier'), (10, 'there')):  # It went on, twice.
    (folder / f'config-{step}.gin').write_text(f'TEXT = "{text}"')
  args = cli.parse_flags(
    ['--model_dir=gs://bucket/model/'],
    evaluate.__doc__,
    evaluate.add_flags,
    use_gin=True,
    join=True,
  )
  real, read = cli.parse_gin, []

  def parse_gin(args, bindings):
    real(args)
    read.append(gin.query_parameter('TEXT/gin.macro.value'))
    raise errors.UserError('enough')

  monkeypatch.setattr(cli, 'parse_gin', parse_gin)
  # TensorStore's reader of buckets is its own.
  opened = types.SimpleNamespace(task={})
  monkeypatch.setattr(checkpoints, 'open_checkpoint', lambda *unused: opened)
  try:
    with buckets.fake(tmp_path, monkeypatch):
      with pytest.raises(errors.UserError, match='enough'):
        evaluate.main(args)
  finally:
    gin.clear_config()
  assert args.gin_file == ['gs://bucket/model/config-10.gin']
  assert read == ['there']
