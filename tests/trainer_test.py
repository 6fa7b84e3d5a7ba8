# Copyright 2026 The pid_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""The training loop in one process: it learns, goes on, stops and refuses."""

import json
import os
import signal

from clu import metrics as clu_metrics
import jax
from jax.experimental.compilation_cache import compilation_cache as jax_cache
import jax.numpy as jnp
import numpy as np
import pytest
from toys import training as toy
from toys import weights

from pid_jax import checkpoints
from pid_jax import errors
from pid_jax import partitioning
from pid_jax import trainer
from pid_jax.trainer import checkpointer
from pid_jax.trainer import data
from pid_jax.trainer import io_errors
from pid_jax.trainer import optimizers
from pid_jax.trainer import step as step_lib


@pytest.fixture(autouse=True, scope='module')
def compilation_cache(tmp_path_factory):
  """Lets the tests share compiled programs."""
  new = {
    'jax_compilation_cache_dir': str(tmp_path_factory.mktemp('compiled')),
    'jax_persistent_cache_min_compile_time_secs': 0.0,
  }
  old = {name: getattr(jax.config, name) for name in new}
  for name, value in new.items():
    jax.config.update(name, value)
  jax_cache.reset_cache()
  yield
  for name, value in old.items():
    jax.config.update(name, value)
  jax_cache.reset_cache()


@pytest.fixture
def after_step(monkeypatch):
  """Calls what the test adds, with the step's number, after each step."""
  calls = []
  compile_train_step = step_lib.compile_train_step

  def compile_and_call(*args, **kwargs):
    step = compile_train_step(*args, **kwargs)

    def wrapped(state, batch):
      state, metrics = step(state, batch)
      for call in calls:
        call(int(state.step), batch)
      return state, metrics

    return wrapped

  monkeypatch.setattr(step_lib, 'compile_train_step', compile_and_call)
  return calls


def assert_equal(a, b):
  jax.tree.map(np.testing.assert_array_equal, a, b)


def test_learns_evaluates_and_keeps_the_best(tmp_path):
  state = toy.train(
    tmp_path,
    model=toy.t5_model(dropout_rate=0.0),
    optimizer=optimizers.adamw(2e-2),
    total_steps=60,
    infer_eval_dataset_cfg=toy.dataset_config('validation'),
    train_eval_dataset_cfg=toy.dataset_config(
      'validation', pack=True, batch_size=2
    ),
    eval_period=20,
    checkpoint_cfg=trainer.CheckpointConfig(
      period=1000, keep=1, best_metric='toy/target_loss', best_mode='min'
    ),
  )
  metrics = checkpoints.read_metrics(tmp_path, 60)
  # Better than guessing one of 12 letters, with EOS free: log(12) / 2 = 1.24.
  assert metrics['toy/target_loss'] < 1.2
  assert set(metrics) >= {
    'toy/joint_goal_accuracy',
    'toy/exact_match',
    'toy/target_accuracy',
  }
  losses = {
    s: checkpoints.read_metrics(tmp_path, s)['toy/target_loss']
    for s in checkpoints.steps(tmp_path)
  }
  assert len(losses) <= 2 and 60 in losses
  best = checkpoints.resolve_step(tmp_path, 'best')
  assert losses[best] == min(losses.values())

  loaded = checkpoints.load(tmp_path, 'last')
  assert_equal(loaded.params, state.params)
  assert loaded.config == toy.t5_config(dropout_rate=0.0)
  assert loaded.vocabulary.encode('first') == toy.vocabulary().encode('first')
  assert loaded.task['name'] == 'toy' and loaded.task['layout'] == 'pid'
  assert list((tmp_path / 'tensorboard').iterdir())


def test_goes_on_where_it_crashed(tmp_path, after_step):
  seen = {}
  after_step.append(
    lambda step, batch: seen.setdefault(step, []).append(
      toy.example_numbers(batch)
    )
  )
  options = dict(
    num_microbatches=2,
    ema_decay=0.9,
    total_steps=5,
    checkpoint_cfg=trainer.CheckpointConfig(period=2),
  )
  whole = toy.train(tmp_path / 'whole', **options)

  class Crash(Exception):
    pass

  def crash(step, unused_batch):
    if step == 4 and len(seen[4]) == 2:
      raise Crash

  after_step.append(crash)
  with pytest.raises(Crash):
    toy.train(tmp_path / 'crashed', **options)
  assert checkpoints.steps(tmp_path / 'crashed') == [2]
  resumed = toy.train(tmp_path / 'crashed', **options)
  assert_equal(resumed, whole)
  # Step 3 ran three times and always saw the same examples, and so on.
  assert len(seen[3]) == 3
  for step, batches in seen.items():
    assert all(batch == batches[0] for batch in batches), step
  numbers = sum((batches[0] for batches in seen.values()), [])
  assert len(numbers) == len(set(numbers))


def test_does_nothing_when_all_is_done(tmp_path, after_step):
  first = toy.copy_finished(tmp_path)
  steps = []
  after_step.append(lambda step, batch: steps.append(step))
  assert_equal(toy.train(tmp_path, total_steps=2), first)
  assert not steps


@pytest.mark.parametrize(
  'number',
  [signal.SIGTERM, pytest.param(signal.SIGINT, marks=pytest.mark.slow)],
)
def test_signal_leads_to_checkpoint_and_exit(tmp_path, after_step, number):
  handler = signal.getsignal(number)
  after_step.append(
    lambda step, batch: os.kill(os.getpid(), number) if step == 3 else None
  )
  with pytest.raises(SystemExit) as e:
    toy.train(tmp_path, total_steps=4)
  assert e.value.code == 128 + number
  assert checkpoints.steps(tmp_path) == [3]
  assert signal.getsignal(number) == handler
  after_step.clear()
  assert int(toy.train(tmp_path, total_steps=4).step) == 4


def nan_at(step: int):
  return lambda s: jnp.where(s == step - 1, jnp.nan, 1e-2)


@pytest.mark.parametrize('period', [2, pytest.param(3, marks=pytest.mark.slow)])
def test_stops_when_not_finite(tmp_path, period):
  # The update of step 6 makes the parameters NaN, its loss is fine. A step
  # that is due for a checkpoint must not be saved then.
  with pytest.raises(errors.UserError) as e:
    toy.train(
      tmp_path,
      total_steps=20,
      optimizer=optimizers.adafactor(nan_at(6)),
      checkpoint_cfg=trainer.CheckpointConfig(period=period),
    )
  good = 4 if period == 2 else 3
  assert 'not finite at step 6' in str(e.value)
  assert f'step {good}, {tmp_path}/checkpoints/{good}' in str(e.value)
  assert checkpoints.steps(tmp_path)[-1] == good
  params = checkpoints.load(tmp_path).params
  assert all(np.all(np.isfinite(leaf)) for leaf in jax.tree.leaves(params))


def test_microbatches_and_padding_do_not_change_the_gradient():
  model = toy.t5_model(dropout_rate=0.0)
  ds = data.dataset(toy.dataset_config(seed=0), 1)
  batch = next(ds.as_numpy_iterator())
  params = weights.random_params(model.module.config, seed=0)
  gradients = jax.jit(
    lambda params, num_microbatches: step_lib.gradients(
      model, params, batch, jax.random.key(1), num_microbatches
    ),
    static_argnums=1,
  )
  whole, metrics = gradients(params, 1)
  parts, metrics_of_parts = gradients(params, 4)
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6),
    whole,
    parts,
  )
  for name, metric in metrics.items():
    np.testing.assert_allclose(
      metric.compute(), metrics_of_parts[name].compute(), rtol=1e-5
    )


class Parabola:
  """A model whose one parameter wants to be 3."""

  param_axes = {'x': ('embed',)}

  def loss_fn(self, params, batch, unused_rng):
    loss = jnp.sum((params['x'] - 3.0) ** 2) + 0 * batch['unused']
    return loss, {'loss': clu_metrics.Average(loss, jnp.float32(1))}


def test_average_of_parameters():
  optimizer = optimizers.adamw(1e-2)
  state = step_lib.state_from_params(
    Parabola(), optimizer, {'x': jnp.zeros(1)}, ema=True
  )
  step = lambda state: step_lib.train_step(
    state,
    {'unused': 0.0},
    model=Parabola(),
    optimizer=optimizer,
    rng=jax.random.key(1),
    ema_decay=0.15,
  )[0]
  one = step(state)
  two = step(one)
  expected = 0.1 * state.params['x'] + 0.9 * one.params['x']
  np.testing.assert_allclose(one.ema_params['x'], expected, rtol=1e-6)
  expected = 0.15 * expected + 0.85 * two.params['x']  # 2 / 11 > 0.15
  np.testing.assert_allclose(two.ema_params['x'], expected, rtol=1e-6)
  assert int(two.step) == 2 and two.params['x'] > one.params['x'] > 0


@pytest.mark.slow
def test_begins_with_the_parameters_of_another_run(tmp_path):
  first = toy.train(tmp_path / 'first', ema_decay=0.9)
  for path in (tmp_path / 'first', tmp_path / 'first' / 'checkpoints' / '8'):
    state = toy.train(
      tmp_path / f'second_{path.name}',
      initial_checkpoint_path=str(path),
      optimizer=optimizers.adamw(lambda step: 0.0),
      total_steps=1,
    )
    assert_equal(state.params, first.ema_params)


@pytest.mark.parametrize(
  'overrides, message',
  [
    (
      dict(train_dataset_cfg=('train', dict(batch_size=9)), num_microbatches=2),
      'batch of 9 is not divisible by 2',
    ),
    (
      dict(
        train_dataset_cfg=('train', dict(mixture_or_task_name='toi')),
      ),
      "unknown task 'toi'; did you mean toy",
    ),
    (
      dict(train_dataset_cfg=('tran', {})),
      "'tran'; did you mean train",
    ),
    (
      dict(infer_eval_dataset_cfg=('test', {})),
      "unknown split of toy 'test'",
    ),
    (dict(ema_decay=1.0), 'ema_decay must be .* below 1; got 1.0'),
    (dict(initial_checkpoint_path='/nowhere'), '/nowhere does not exist'),
    (
      dict(
        infer_eval_dataset_cfg=('validation', {}),
        checkpoint_cfg=trainer.CheckpointConfig(best_metric='toi/exact_match'),
      ),
      "best_metric 'toi/exact_match'; did you mean toy/exact_match",
    ),
    (
      dict(
        infer_eval_dataset_cfg=('validation', {}),
        checkpoint_cfg=trainer.CheckpointConfig(best_metric='toy/exact_mach'),
      ),
      "best_metric 'toy/exact_mach'; did you mean toy/exact_match",
    ),
    (
      dict(
        checkpoint_cfg=trainer.CheckpointConfig(best_metric='toy/exact_match'),
      ),
      'best_metric is .toy/exact_match., but nothing is evaluated',
    ),
  ],
)
def test_refuses_before_anything_is_written(tmp_path, overrides, message):
  overrides = {
    k: toy.dataset_config(v[0], **v[1]) if k.endswith('dataset_cfg') else v
    for k, v in overrides.items()
  }
  with pytest.raises(errors.UserError, match=message) as e:
    toy.train(tmp_path / 'new', **overrides)
  assert '\n' not in str(e.value)
  assert not (tmp_path / 'new').exists()


@pytest.mark.parametrize(
  'ema', [pytest.param(False, marks=pytest.mark.slow), True]
)
@pytest.mark.parametrize(
  'name',
  ['adafactor', 'muon', pytest.param('adamw', marks=pytest.mark.slow)],
)
def test_state_of_each_optimizer_comes_back(tmp_path, name, ema):
  optimizer = getattr(optimizers, name)(1e-2)
  partitioner = partitioning.Partitioner()
  model = toy.t5_model()
  shapes = step_lib.abstract_state(model, optimizer, partitioner, ema)
  rng = np.random.default_rng(0)
  state = jax.tree.map(
    lambda leaf: jax.device_put(
      rng.uniform(1, 9, leaf.shape).astype(leaf.dtype), leaf.sharding
    ),
    shapes,
  )
  files = {'position': b'here'}
  cfg = trainer.CheckpointConfig()
  with checkpointer.Checkpointer(tmp_path, cfg) as saver:
    assert saver.restore(shapes) is None
    saver.save(7, state, files)
  with checkpointer.Checkpointer(tmp_path, cfg) as restorer:
    restored, position = restorer.restore(shapes, files.__contains__)
  assert_equal(restored, state)
  assert position == files

  # A changed byte is refused, in either item.
  for item in ('params', 'state'):
    file = tmp_path / 'checkpoints' / '7' / item / 'checksums.json'
    content = file.read_text()
    damaged = json.loads(content)
    array = max(damaged['crc32'])
    damaged['crc32'][array][0] = '00000000'
    file.write_text(json.dumps(damaged))
    with checkpointer.Checkpointer(tmp_path, cfg) as restorer:
      with pytest.raises(errors.UserError, match=f'checksum of {array} '):
        restorer.restore(shapes)
    file.write_text(content)
  # Those of before there were checksums come back.
  for file in tmp_path.rglob('checksums.json'):
    file.unlink()
  with checkpointer.Checkpointer(tmp_path, cfg) as restorer:
    assert_equal(restorer.restore(shapes)[0], state)


def test_best_of_steps_that_were_evaluated_otherwise(tmp_path):
  optimizer, partitioner = (
    optimizers.adafactor(1e-2),
    partitioning.Partitioner(),
  )
  shapes = step_lib.abstract_state(
    toy.t5_model(), optimizer, partitioner, ema=False
  )
  state = jax.tree.map(lambda leaf: np.ones(leaf.shape, leaf.dtype), shapes)
  for metric, values in (
    ('toy/a', {1: 1.0, 2: float('nan'), 3: 0.5}),
    ('toy/b', {4: 9.0, 5: 2.0, 6: 3.0}),
  ):
    cfg = trainer.CheckpointConfig(
      keep=1, best_metric=metric, best_mode='min', keep_best=1
    )
    with checkpointer.Checkpointer(tmp_path, cfg) as saver:
      for step, value in values.items():
        saver.save(step, state, None, {metric: value})
  assert checkpoints.steps(tmp_path) == [5, 6]


def test_refuses_another_optimizer_without_a_record(tmp_path):
  toy.copy_finished(tmp_path)
  (tmp_path / 'training.json').unlink()
  with pytest.raises(errors.UserError, match='does not fit .* unknown here'):
    toy.train(tmp_path, optimizer=optimizers.adamw(1e-2))
  with pytest.raises(errors.UserError, match='mlp_dim was 32, is now 64'):
    toy.train(tmp_path, model=toy.t5_model(mlp_dim=64))


def test_full_disk(tmp_path, monkeypatch):
  toy.copy_finished(tmp_path)
  usage = io_errors.shutil.disk_usage(tmp_path)._replace(free=1000)
  monkeypatch.setattr(io_errors.shutil, 'disk_usage', lambda path: usage)
  with pytest.raises(errors.UserError) as e:
    toy.train(tmp_path, total_steps=4)
  assert 'no space left on the device' in str(e.value)
  assert 'Step 2 is complete' in str(e.value)
  assert checkpoints.steps(tmp_path) == [2]
  assert sorted(os.listdir(tmp_path / 'checkpoints')) == ['2']
  monkeypatch.undo()
  assert int(toy.train(tmp_path, total_steps=4).step) == 4


@pytest.mark.slow
def test_overflow_is_counted_and_told(tmp_path, caplog):
  caplog.set_level('INFO', 'pid_jax')
  cfg = toy.dataset_config(task_feature_lengths={**toy.LENGTHS, 'inputs': 7})
  toy.train(tmp_path, train_dataset_cfg=cfg, total_steps=4)
  assert 'training: inputs_truncated' in caplog.text


def test_config_json(tmp_path):
  toy.copy_finished(tmp_path)
  description = json.loads((tmp_path / 'config.json').read_text())
  assert description['model'] == toy.t5_config().to_dict()
  assert description['vocabulary']['file'] == 'vocabulary.model'
  assert description['task']['feature_lengths'] == toy.LENGTHS
  with pytest.raises(errors.UserError, match='has no checkpoint of step 5'):
    checkpoints.load(tmp_path, 5)
  with pytest.raises(errors.UserError, match='named no metric'):
    checkpoints.load(tmp_path, 'best')
  (tmp_path / 'vocabulary.model').unlink()
  with pytest.raises(errors.UserError, match='annot read the vocabulary'):
    checkpoints.load(tmp_path)
