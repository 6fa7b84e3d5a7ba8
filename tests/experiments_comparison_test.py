# Copyright 2026 The pid_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""A comparison: what its runs are fed, how it resumes, what it refuses."""

import argparse
import dataclasses
import gc
import json
import pathlib
import weakref

import experiments_toy
import gin
import jax
import numpy as np
import pytest
from toys import training as toy

from pid_jax import cli
from pid_jax import compare
from pid_jax import errors
from pid_jax import partitioning
from pid_jax import subtasks
from pid_jax import trainer
from pid_jax.experiments import answering
from pid_jax.experiments import comparison
from pid_jax.experiments import matched_batches
from pid_jax.experiments import page
from pid_jax.experiments import summary
from pid_jax.experiments import timer
from pid_jax.experiments import trainings
from pid_jax.trainer import data
from pid_jax.trainer import evaluation
from pid_jax.trainer import step as step_lib

LAYOUTS = ('pid', 'pie', 'joint')
_configure, _run = experiments_toy.configure, experiments_toy.run


@pytest.fixture
def quick_costs(monkeypatch):
  """Times nothing; see experiments_toy."""
  experiments_toy.stub_costs(monkeypatch.setattr)


def _numbers(batch) -> list[list[int]]:
  """The numbers of the examples in each row of a batch, sorted."""
  digits = {toy.vocabulary().encode(d)[0]: d for d in '0123456789'}
  found = set()
  for tokens, segments in zip(
    np.asarray(batch['encoder_input_tokens']),
    np.asarray(batch['encoder_segment_ids']),
    strict=True,
  ):
    for segment in range(1, segments.max() + 1):
      own = [digits[t] for t in tokens[segments == segment] if t in digits]
      found.add(int(''.join(own)))
  return sorted(found)


@pytest.fixture
def fed(monkeypatch):
  """Notes first weights and the examples of each update, by run."""
  runs = []
  compile_train_step = step_lib.compile_train_step

  def compile_and_note(*args, **kwargs):
    step = compile_train_step(*args, **kwargs)
    run = {'examples': []}
    runs.append(run)

    def noted(state, batch):
      if not run['examples']:
        run['step'] = int(state.step)
        run['params'] = jax.device_get(state.params)
      run['examples'].append(_numbers(batch))
      return step(state, batch)

    return noted

  monkeypatch.setattr(step_lib, 'compile_train_step', compile_and_note)
  return runs


@pytest.mark.slow
def test_runs_are_alike_and_resume_where_they_were_killed(
  tmp_path, monkeypatch, quick_costs, fed
):
  output, train = tmp_path / 'compared', trainer.train
  killed_before = ['pie-5', 'joint-5']

  def train_or_die(**arguments):
    if pathlib.Path(arguments['model_dir']).name in killed_before:
      killed_before.pop(0)
      raise KeyboardInterrupt
    return train(**arguments)

  monkeypatch.setattr(trainer, 'train', train_or_die)
  for _ in range(2):
    with pytest.raises(KeyboardInterrupt):
      _run(output)
  # Killed between the end of a training and its entry: it is not done again.
  monkeypatch.setattr(comparison, '_result', lambda *args: 1 / 0)
  with pytest.raises(ZeroDivisionError):
    _run(output)
  monkeypatch.undo()
  results = _run(output)
  assert list(results['runs']) == ['pid-5', 'pie-5', 'joint-5']
  assert json.loads((output / comparison.FILE).read_text()) == results

  trained = [run for run in fed if run['examples']]
  assert len(trained) == 3
  for run in trained:
    assert run['step'] == 0
    assert run['examples'] == trained[0]['examples']
    for mine, first in zip(
      jax.tree.leaves(run['params']),
      jax.tree.leaves(trained[0]['params']),
      strict=True,
    ):
      np.testing.assert_array_equal(mine, first)
  assert len(set(map(str, trained[0]['examples']))) == 3
  # Two subtasks to an input, each with a letter and EOS as its target.
  shapes = {n.split('-')[0]: s for n, s in results['shapes'].items()}
  assert shapes['pid']['inputs'] == sum(map(len, trained[0]['examples']))
  assert shapes['pie']['pairs'] == 2 * shapes['pid']['inputs']
  assert shapes['joint']['pairs'] == shapes['pid']['inputs']

  for layout in LAYOUTS:
    metrics = results['runs'][f'{layout}-5']['curves']
    ((update, value),) = metrics['exact_match']
    assert update == 3 and 0 <= value <= 1
    task = matched_batches.Arm(layout).task('toy')
    saved = output / f'runs/{layout}-5/checkpoints/3/metrics/metrics'
    in_training = json.loads(saved.read_text())
    assert in_training[f'{task}/exact_match'] == pytest.approx(value)
    config = json.loads((output / f'runs/{layout}-5/config.json').read_text())
    assert config['task']['layout'] == layout
  # Nothing is left to do.
  assert _run(output) == results
  written = page.write(results, 'the command', output)
  assert 'exact_match, mean' in summary.table(written)


def test_jobs_have_the_sizes_of_a_mean_input():
  subtasks.register(
    'sized',
    source=subtasks.InMemoryDataSource(
      {'train': [toy.example(i, 'train') for i in range(50)]}
    ),
    vocabulary=toy.vocabulary(),
    joint_separator=' 0 0 ',
  )
  cfg = toy.dataset_config(mixture_or_task_name='sized', shuffle=False)
  pid, joint = (matched_batches.Arm(name) for name in ('pid', 'joint'))
  sizes = answering.typical(cfg, pid, has_targets=True)
  # Four digits, six letters and EOS; a word and a letter with EOS; joint: two
  # letters, two tokens between them, EOS.
  assert sizes == {
    'input_length': 11, 'num_prompts': 2, 'prompt_length': 1, 'new_tokens': 2,
    'joint_tokens': 5,
  }  # fmt: skip
  lengths = {**toy.LENGTHS, 'targets': 7}
  longer = dataclasses.replace(cfg, task_feature_lengths=lengths)
  unknown = answering.typical(longer, pid, has_targets=False)
  assert (unknown['new_tokens'], unknown['joint_tokens']) == (7, 15)

  coarse = matched_batches.Arm('coarse', lengths)
  of_coarse = {**sizes, 'num_prompts': 1, 'new_tokens': 9}
  task, *swept = answering.jobs(
    {'pid': {**sizes, 'joint_tokens': 7}, 'coarse': of_coarse},
    [joint, pid, coarse],
    'U,B',
  )
  assert [v.name for v in task.variants] == ['pid', 'joint', 'coarse']
  done = [
    (s.input_length, s.num_prompts, s.new_tokens)
    for s in (task.of(v).sizes for v in task.variants)
  ]
  assert done == [(11, 2, 2), (11, 2, 4), (11, 1, 9)]
  assert [job.name for job in swept[:2]] == ['U=1', 'U=2']
  for job in swept:
    assert [v.name for v in job.variants] == ['pid', 'joint']
    assert getattr(
      job.sizes, {'U': 'num_prompts', 'B': 'num_inputs'}[job.name[0]]
    ) == int(job.name[2:])


def test_evaluations_of_a_training_end_with_it():
  """Their examples would add up: the next training is in the same process."""
  evaluator = evaluation.PredictionEvaluator(
    toy.t5_model(),
    toy.dataset_config('validation', batch_size=4),
    partitioning.Partitioner(),
  )
  found = weakref.ref(evaluator)
  gc.disable()
  try:
    del evaluator
    assert found() is None
  finally:
    gc.enable()


def test_equal_seconds(tmp_path, monkeypatch, quick_costs):
  updates = {}
  monkeypatch.setattr(
    trainer,
    'train',
    lambda **a: updates.update({a['model_dir'].split('/')[-1]: a}),
  )
  monkeypatch.setattr(comparison, '_result', lambda *args: {})
  shape = matched_batches.Shape(*[8] * 7)
  monkeypatch.setattr(matched_batches, 'measure', lambda *args: shape)
  configure = lambda n=None: _configure(n or 6)
  results = _run(
    tmp_path / 'out', configure=configure, equal='seconds', num_seeds=2
  )
  # An update of PiE takes 2 s, one of joint 3.
  assert results['updates'] == {'pid': 6, 'pie': 3, 'joint': 2}
  steps = {name: a['total_steps'] for name, a in updates.items()}
  assert steps == {
    f'{layout}-{seed}': results['updates'][layout]
    for seed in (5, 6)
    for layout in LAYOUTS
  }
  for name, arguments in updates.items():
    assert arguments['random_seed'] == int(name[-1])
    layout = name.split('-')[0]
    task = matched_batches.Arm(layout).task('toy')
    assert arguments['infer_eval_dataset_cfg'].mixture_or_task_name == task
    best = arguments['checkpoint_cfg'].best_metric
    assert best == f'{task}/exact_match'


@pytest.mark.slow
def test_a_task_without_metrics_gives_costs_alone(tmp_path, quick_costs):
  subtasks.register(
    'unmeasured',
    source=subtasks.InMemoryDataSource(
      {'train': [toy.example(i, 'train') for i in range(50)]}
    ),
    vocabulary=toy.vocabulary(),
    joint_separator=' 0 ',
  )
  cfg = toy.dataset_config(mixture_or_task_name='unmeasured', batch_size=2)
  configure = lambda n=None: _configure(
    n, train_dataset_cfg=cfg, checkpoint_cfg=None
  )
  results = _run(tmp_path / 'out', configure=configure, sweep='u')
  assert not results['runs'] and not (tmp_path / 'out/runs').exists()
  assert list(results['inference'])[:3] == ['task', 'U=1', 'U=2']
  table = summary.table(page.write(results, '', tmp_path / 'out'))
  assert 'Costs alone: the task has no metrics' in table


@pytest.mark.slow
def test_updates_are_timed_in_turns(monkeypatch):
  arguments = _configure()
  arms = [matched_batches.Arm(layout) for layout in ('pid', 'pie')]
  cfg = data.with_seed(arguments['train_dataset_cfg'], 5)
  shapes = {arm: matched_batches.measure(cfg, arm, 6) for arm in arms}
  steady = lambda: lambda: timer.Speed(1e9, 1e9)
  monkeypatch.setattr(trainings.machine, 'Probe', steady)
  updater, taken = trainings._updater, []

  def noted(*args):
    update = updater(*args)
    return lambda: taken.append(args[2].name) or update()

  monkeypatch.setattr(trainings, '_updater', noted)
  seconds = trainings.time_updates(arguments, shapes)
  assert taken == ['pid', 'pie'] + ['pid', 'pie', 'pid'] * 5
  assert {name: s['num'] for name, s in seconds.items()} == {
    'pid': 10, 'pie': 5,
  }  # fmt: skip
  assert all(s['min'] > 0 for s in seconds.values())


@pytest.mark.parametrize(
  'settings, message',
  [
    ({'layouts': ('pid', 'piee')}, "unknown layout 'piee'; did you mean"),
    ({'layouts': ('pie', 'joint')}, 'pid among them'),
    ({'layouts': ('pid', 'pid')}, 'each layout once'),
    ({'equal': 'hours'}, "unknown kind of equality 'hours'"),
    ({'num_seeds': 0}, 'seeds must be .* at least 1 .* got 0'),
  ],
)
def test_settings_that_make_no_sense(settings, message):
  with pytest.raises(errors.UserError, match=message):
    comparison.Settings(**settings)


@pytest.mark.parametrize(
  'overrides, message',
  [
    (
      {'train_dataset_cfg': lambda: toy.dataset_config(
        mixture_or_task_name='toy_pie')},
      "'toy_pie' cannot be compared",
    ),
    (
      {'train_dataset_cfg': lambda: toy.dataset_config(pack=False)},
      'pack = True',
    ),
    (
      {'infer_eval_dataset_cfg': lambda: toy.dataset_config(
        'validation', num_examples=3)},
      'num_examples .* counts rows',
    ),
  ],
)  # fmt: skip
def test_configurations_that_cannot_be_compared(tmp_path, overrides, message):
  toy.register()
  made = {name: make() for name, make in overrides.items()}
  with pytest.raises(errors.UserError, match=message):
    _run(tmp_path / 'out', configure=lambda n=None: _configure(n, **made))
  assert not (tmp_path / 'out').exists()


def test_the_command_compares_generated_dialogues_by_default():
  gin.clear_config()
  parser = argparse.ArgumentParser()
  compare.add_flags(parser)
  cli._add_gin_flags(parser)
  args = parser.parse_args(['--output=x', '--seeds=2'])
  try:
    compare.check(args)
    configure, settings, _ = compare.configured(args)
    arguments = configure(None)
  finally:
    gin.clear_config()
  comparison.check(arguments, settings)
  assert settings.num_seeds == 2
  assert [arm.task('bookings_short') for arm in settings.arms] == [
    'bookings_short',
    'bookings_short_pie',
    'bookings_short_joint',
    'bookings_short_domain',
  ]
  period = arguments['eval_period']
  assert arguments['total_steps'] % period == 0
  assert period % arguments['checkpoint_cfg'].period == 0


@pytest.mark.parametrize(
  'granularities, message',
  [
    ({'toy': toy.LENGTHS}, "'toy' is no multi-prompt task other than"),
    ({'toy_joint': toy.LENGTHS}, "'toy_joint' is no multi-prompt task"),
    ({'toi': toy.LENGTHS}, "unknown task 'toi'; did you mean toy"),
  ],
)
def test_granularities_that_are_none(tmp_path, granularities, message):
  with pytest.raises(errors.UserError, match=message):
    _run(tmp_path / 'out', granularities=granularities)
  assert not (tmp_path / 'out').exists()


def test_folders_of_others_are_left_alone(tmp_path, quick_costs):
  with pytest.raises(errors.UserError, match="unknown sweep 'Q'"):
    _run(tmp_path / 'new', sweep='Q')
  assert not (tmp_path / 'new').exists()
  (tmp_path / 'letter').write_text('dear')
  with pytest.raises(errors.UserError, match='holds other files'):
    _run(tmp_path)
  assert [p.name for p in tmp_path.iterdir()] == ['letter']
  file = tmp_path / 'ours' / comparison.FILE
  file.parent.mkdir()
  file.write_text('{"format": 1')
  with pytest.raises(errors.UserError, match='is damaged'):
    _run(tmp_path / 'ours')
  comparison._State(tmp_path / 'theirs', {'task': 'toy', 'config': 'a'})
  with pytest.raises(errors.UserError, match='with other config: name'):
    comparison._State(tmp_path / 'theirs', {'task': 'toy', 'config': 'b'})
