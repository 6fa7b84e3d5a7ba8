# Copyright 2026 The pid_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""Values without sense, of each setting of training: one line that names it.

All in this process, up to the point where data would be read.
"""

import json

import gin
import pytest
from toys import training as toy

from pid_jax import checks
from pid_jax import errors
from pid_jax import messages
from pid_jax import model
from pid_jax import partitioning
from pid_jax import subtasks
from pid_jax import trainer
from pid_jax.trainer import optimizers
from pid_jax.trainer import run_record
from pid_jax.trainer import schedules


class _Reached(Exception):
  """The configuration passed."""


_WRONG_TYPES = ("'abc'", 'True', '[1]', "{'a': 1}", '@trainer.train')
_FLAG = ("'yes'", '1', '[True]', '-1', '0.0')
_COUNT = (*_WRONG_TYPES, '-1', '1.5', '0', '1e999')
_COUNT_FROM_0 = (*_WRONG_TYPES, '-1', '1.5', '1e999', str(10**30))
_POSITIVE = (*_WRONG_TYPES, '-1', '0', '1e999', '-1e999', f'1{"0" * 400}')
_FRACTION = (*_WRONG_TYPES, '-0.1', '1', '2', '1e999')
_NAME = ('5', 'True', "['a']", "''", "'  '")
_PATH = ('5', "['x']", "''", r"'a\0b'", "' '")
_OBJECT = ("'adam'", '5', 'True', '[]', '@schedules.constant()')

# Macro or parameter, its name in messages, values, what else is bound.
_MUON = 'OPTIMIZER = @optimizers.muon()'
_ADAMW = 'OPTIMIZER = @optimizers.adamw()'
_COSINE = 'optimizers.adafactor.learning_rate = @schedules.cosine()'
_SETTINGS = [
  ('TRAIN_STEPS', 'total_steps', (*_COUNT, str(10**18), 'None'), ''),
  ('TRAIN_STEPS', 'total_steps', _COUNT, _COSINE),
  ('BATCH_SIZE', 'batch_size', (*_COUNT, '10000000'), ''),
  ('EVAL_BATCH_SIZE', 'batch_size', (*_COUNT, '10000000'), ''),
  ('EVAL_PERIOD', 'eval_period', (*_COUNT, 'None'), ''),
  ('trainer.train.eval_steps', 'eval_steps', _COUNT, ''),
  ('trainer.train.log_period', 'log_period', _COUNT, ''),
  ('trainer.train.num_microbatches', 'num_microbatches', _COUNT, ''),
  ('trainer.train.quiet', 'quiet', _FLAG, ''),
  ('CHECKPOINT_PERIOD', 'period', _COUNT, ''),
  ('trainer.CheckpointConfig.keep', 'keep', _COUNT, ''),
  ('trainer.CheckpointConfig.keep_best', 'keep_best', _COUNT_FROM_0[:-1], ''),
  (
    'trainer.CheckpointConfig.best_mode',
    'best_mode',
    ("'maximum'", '1', "['max']", 'None', "''"),
    '',
  ),
  ('trainer.CheckpointConfig.save_dataset', 'save_dataset', _FLAG, ''),
  ('BEST_METRIC', 'best_metric', _NAME, ''),
  ('RANDOM_SEED', 'random_seed', (*_COUNT_FROM_0, 'None'), ''),
  ('EMA_DECAY', 'ema_decay', (*_FRACTION, '0'), ''),
  ('LEARNING_RATE', 'learning_rate', (*_POSITIVE, 'None'), ''),
  ('LEARNING_RATE', 'learning_rate', _POSITIVE, _COSINE),
  ('WARMUP_STEPS', 'warmup_steps', _COUNT_FROM_0, ''),
  ('schedules.cosine.end_factor', 'end_factor', _FRACTION[:-3], _COSINE),
  ('DROPOUT_RATE', 'dropout_rate', _FRACTION, ''),
  ('Z_LOSS', 'z_loss', (*_WRONG_TYPES, '-1', '1e999'), ''),
  ('LABEL_SMOOTHING', 'label_smoothing', _FRACTION, ''),
  (
    'LOSS_NORMALIZING_FACTOR',
    'loss_normalizing_factor',
    (*_WRONG_TYPES, '-1', '0', '1e999'),
    '',
  ),
  ('NUM_PARTITIONS', 'num_partitions', _COUNT, ''),
  ('NUM_FSDP', 'num_fsdp_partitions', _COUNT, ''),
  (
    'partitioning.standard_logical_axis_rules.additional_rules',
    'logical_axis_rules',
    ("'abc'", '5', "['embed']", "[('embed', 'modle')]", '[(1, None)]'),
    '',
  ),
  ('MODEL_DIR', 'MODEL_DIR', _PATH, ''),
  ('INITIAL_CHECKPOINT_PATH', 'INITIAL_CHECKPOINT_PATH', _PATH, ''),
  ('OPTIMIZER', 'optimizer', _OBJECT, ''),
  ('MODEL', 'model', _OBJECT, ''),
  ('MIXTURE_OR_TASK_NAME', 'mixture_or_task_name', _NAME, ''),
  ('USE_CACHED_TASKS', 'use_cached', _FLAG, ''),
  (
    'TASK_FEATURE_LENGTHS',
    'TASK_FEATURE_LENGTHS',
    (
      *('5', "'abc'", '[24]', "{1: 24, 'targets': 2}"),
      *(f"{{'inputs': {x}, 'targets': 2}}" for x in _COUNT),
      "{'inputs': 24}",
    ),
    '',
  ),
  ('train/trainer.DatasetConfig.split', 'split', _NAME, ''),
  ('train/trainer.DatasetConfig.shuffle', 'shuffle', _FLAG, ''),
  ('train/trainer.DatasetConfig.pack', 'pack', (*_FLAG, 'False'), ''),
  ('infer_eval/trainer.DatasetConfig.pack', 'pack', (*_FLAG, 'True'), ''),
  ('train/trainer.DatasetConfig.num_shards', 'num_shards', _COUNT, ''),
  ('train/trainer.DatasetConfig.num_threads', 'num_threads', _COUNT, ''),
  ('train/trainer.DatasetConfig.seed', 'seed', _COUNT_FROM_0, ''),
  ('infer_eval/trainer.DatasetConfig.num_examples', 'num_examples', _COUNT, ''),
  (
    'train/trainer.DatasetConfig.feature_converter',
    'feature_converter',
    ("'abc'", '5', 'True', '[]', '{}'),
    '',
  ),
  ('optimizers.adafactor.decay_rate', 'decay_rate', _POSITIVE, ''),
  ('optimizers.adafactor.beta1', 'beta1', _FRACTION, ''),
  ('optimizers.adafactor.weight_decay', 'weight_decay', _FRACTION, ''),
  (
    'optimizers.adafactor.clipping_threshold',
    'clipping_threshold',
    _POSITIVE,
    '',
  ),
  ('optimizers.adafactor.max_grad_norm', 'max_grad_norm', _POSITIVE, ''),
  ('optimizers.adafactor.min_dim_size_to_factor', 'min_dim', _COUNT, ''),
  (
    'optimizers.adafactor.multiply_by_parameter_scale',
    'multiply_by_parameter_scale',
    _FLAG,
    '',
  ),
  ('optimizers.adamw.beta1', 'beta1', _FRACTION, _ADAMW),
  ('optimizers.adamw.beta2', 'beta2', _FRACTION, _ADAMW),
  ('optimizers.adamw.eps', 'eps', _POSITIVE, _ADAMW),
  ('optimizers.adamw.nesterov', 'nesterov', _FLAG, _ADAMW),
  (
    'optimizers.adamw.weight_decay',
    'weight_decay',
    (*_WRONG_TYPES, '-1', '1e999'),
    _ADAMW,
  ),
  (
    'optimizers.adamw.multipliers',
    'multipliers',
    ('5', "'abc'", "{'(': 2.0}", "{'x': -1}", '{1: 1.0}', "{'x': 'y'}"),
    _ADAMW,
  ),
  ('optimizers.muon.beta', 'beta', _FRACTION, _MUON),
  ('optimizers.muon.ns_steps', 'ns_steps', (*_COUNT, '100000'), _MUON),
  ('optimizers.muon.consistent_rms', 'consistent_rms', _POSITIVE, _MUON),
  ('optimizers.muon.adam_beta1', 'adam_beta1', _FRACTION, _MUON),
  ('optimizers.muon.adam_beta2', 'adam_beta2', _FRACTION, _MUON),
  *(
    (
      f'subtasks.PromptInDecoderFeatureConverter.{name}',
      name,
      values,
      'train/trainer.DatasetConfig.feature_converter = '
      '@subtasks.PromptInDecoderFeatureConverter',
    )
    for name, values in (
      ('window', _COUNT),
      ('max_inputs_per_row', _COUNT),
      ('max_empty_subtasks', _COUNT_FROM_0),
      ('eos_id', _COUNT_FROM_0),
    )
  ),
]

_RUN = f"""
from __gin__ import dynamic_registration
from pid_jax import partitioning
from pid_jax import subtasks
from pid_jax import trainer
from pid_jax.trainer import optimizers
from pid_jax.trainer import schedules
include 'pid_jax/gin_configs/runs/train_base.gin'
include 'pid_jax/gin_configs/models/tiny.gin'
MIXTURE_OR_TASK_NAME = 'toy'
TASK_FEATURE_LENGTHS = {toy.LENGTHS}
TRAIN_STEPS = 2000
BATCH_SIZE = 8
"""


@pytest.fixture(autouse=True)
def stop_before_the_data(monkeypatch):
  """Ends what passes, and leaves no configuration behind."""

  def stop(arguments):
    raise _Reached

  monkeypatch.setattr(run_record, 'settings', stop)
  toy.register()
  yield
  gin.clear_config()


def _train(tmp_path, *bindings: str) -> None:
  gin.clear_config()
  lines = [_RUN, f"MODEL_DIR = '{tmp_path}/model'", *bindings]
  gin.parse_config('\n'.join(lines))
  gin.get_configurable(trainer.train)()


@pytest.mark.parametrize(
  ('setting', 'shown', 'values', 'others'),
  _SETTINGS,
  ids=lambda x: x if isinstance(x, str) and x.isidentifier() else '',
)
def test_a_value_without_sense_is_one_line(
  tmp_path, setting, shown, values, others
):
  for value in values:
    with pytest.raises(errors.UserError) as e:
      _train(tmp_path, others, f'{setting} = {value}')
    message = messages.explain(e.value)
    assert shown.lower() in message.lower(), (value, message)
    assert len(message) < 400 and '\n' not in message
  assert not list(tmp_path.iterdir())


def test_what_has_sense_passes(tmp_path):
  for binding in (
    'LEARNING_RATE = 1',
    'WARMUP_STEPS = 0',
    'EMA_DECAY = 0.999',
    'RANDOM_SEED = 7',
    'trainer.CheckpointConfig.keep = None',
    'optimizers.adafactor.clipping_threshold = None',
    'LOSS_NORMALIZING_FACTOR = None',
    'LOSS_NORMALIZING_FACTOR = 32',
    'trainer.train.infer_eval_dataset_cfg = None',
    'TRAIN_STEPS = 1',
    "MODEL_DIR = '~/x'",
    *(f'OPTIMIZER = @optimizers.{x}()' for x in ('adamw', 'muon')),
  ):
    with pytest.raises(_Reached):
      _train(tmp_path, binding)


@pytest.mark.parametrize(
  'make',
  [
    lambda x: schedules.constant(x),
    lambda x: schedules.rsqrt(1.0, x),
    lambda x: schedules.linear(1e-3, x),
    lambda x: schedules.cosine(1e-3, 10, x),
    lambda x: optimizers.adafactor(x),
    lambda x: optimizers.adamw(1e-3, eps=x),
    lambda x: optimizers.muon(1e-3, ns_steps=x),
    lambda x: trainer.CheckpointConfig(period=x),
    lambda x: toy.dataset_config(batch_size=x),
    lambda x: toy.dataset_config(task_feature_lengths={'inputs': x}),
    lambda x: partitioning.Partitioner(x),
    lambda x: model.EncoderDecoderModel(toy.t5_model().module, z_loss=x),
    lambda x: model.EncoderDecoderModel(x),
    lambda x: subtasks.PromptInDecoderFeatureConverter(window=x),
    lambda x: toy.train('unused', total_steps=x),
    lambda x: toy.train('unused', optimizer=x),
  ],
)
def test_python_callers_get_the_same(make):
  for value in (float('nan'), -1, 'a', b'1', [2], {}, object(), 1j, True):
    with pytest.raises(errors.UserError) as e:
      make(value)
    assert '\n' not in str(e.value)
    assert checks.shown(value)[:12] in str(e.value) or 'nan' in str(e.value)


def test_what_no_memory_holds_is_refused(tmp_path):
  lengths = json.dumps({**toy.LENGTHS, 'inputs': 1 << 20})
  for binding in (
    f'TASK_FEATURE_LENGTHS = {lengths}',
    'BATCH_SIZE = 1048576',
  ):
    with pytest.raises(errors.UserError, match='GB .* BATCH_SIZE'):
      _train(tmp_path, 'MODEL_SIZE = "t5_base"', binding)
