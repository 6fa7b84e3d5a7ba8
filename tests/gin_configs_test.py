# Copyright 2026 The pid_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""Every shipped gin file parses, and every run lacks nothing but its flags."""

import pathlib
import re

import gin
import jax
import numpy as np
import pytest
import seqio

from pid_jax import checkpoints
from pid_jax import cli
from pid_jax import errors
from pid_jax import network
from pid_jax import train
from pid_jax import trainer
from pid_jax.config import SIZES
from pid_jax.config import T5Config

# Those of t5x/ have tests beside the model, in t5x_runs_test.py.
_FILES = sorted(
  str(path.relative_to(cli.gin_configs()))
  for folder in ('models', 'runs', 'tasks')
  for path in (cli.gin_configs() / folder).rglob('*.gin')
)
_MODELS = [f for f in _FILES if f.startswith('models/')]
_SIZES = sorted({pathlib.Path(f).stem for f in _MODELS} & set(SIZES))
_TASKS = [f for f in _FILES if f.startswith('tasks/')]
_RUNS = [f for f in _FILES if f.startswith('runs/') and '_base' not in f]


@pytest.fixture(autouse=True)
def clean_state(tmp_path, monkeypatch):
  """An empty gin configuration, among folders that are named like ours."""
  for name in ('models', 'runs', 'tasks', 'gin_configs'):
    (tmp_path / name).mkdir()
  monkeypatch.chdir(tmp_path)
  monkeypatch.syspath_prepend('')
  gin.clear_config()
  yield
  gin.clear_config()


def _parse(file: str) -> None:
  gin.parse_config_file(str(cli.gin_configs() / file))


@pytest.mark.parametrize('file', _FILES)
def test_parses_and_begins_with_what_it_is(file):
  _parse(file)
  assert gin.config_str().strip()
  assert (cli.gin_configs() / file).read_text().startswith('# ')


def _config(*bindings: str) -> T5Config:
  """Makes the configuration of the network that the gin files describe."""
  for binding in ('DROPOUT_RATE = 0.0', *bindings):  # The run's to give.
    gin.parse_config(binding)
  return gin.get_configurable(network.T5Config)()


@pytest.mark.parametrize('name', _SIZES)
def test_model_file_chooses_the_size_of_its_name(name):
  _parse(f'models/{name}.gin')
  assert not _config().differences(T5Config(size=name))


def test_any_size_by_name_and_any_field():
  _parse('models/t5.gin')
  made = _config("MODEL_SIZE = 'mt5_small'", 'network.T5Config.num_heads = 4')
  assert made.differences(T5Config(size='mt5_small')) == {'num_heads': (4, 6)}
  assert (made.dtype, made.num_tokens) == ('bfloat16', 250100)


def test_the_size_of_a_checkpoint(tmp_path):
  saved = T5Config(size='tiny', num_heads=2, layer_norm_epsilon=1e-5)
  checkpoints.save(
    tmp_path / 'x',
    checkpoints.Pretrained(
      saved,
      jax.tree.map(
        lambda leaf: np.zeros(leaf.shape, np.float32),
        checkpoints.abstract_params(saved),
      ),
      None,
      task={},
      step=0,
    ),
  )
  _parse('runs/finetune.gin')
  made = _config(f"INITIAL_CHECKPOINT_PATH = '{tmp_path}/x'")
  assert not made.differences(saved)
  # A run, not a checkpoint, says how to compute.
  assert (made.dtype, made.dropout_rate) == ('bfloat16', 0.0)
  with pytest.raises(errors.UserError, match='MODEL_SIZE'):
    _config('INITIAL_CHECKPOINT_PATH = None')


@pytest.mark.parametrize('file', _RUNS)
def test_run_lacks_nothing_but_what_it_requires(file):
  _parse(file)
  required = re.findall(r'^(\S+) = %gin\.REQUIRED', gin.config_str(), re.M)
  assert 'MODEL_DIR' in required  # A run never chooses where to write.
  header = (cli.gin_configs() / file).read_text()
  for name in required:
    assert name in header
    gin.parse_config(f"{name} = 'given'")
  gin.finalize()


def test_own_data_by_absolute_paths_and_without_a_validation_file(
  tmp_path, monkeypatch
):
  monkeypatch.setenv('HOME', '/home/somebody')
  _parse('runs/jsonl.gin')
  for binding in (
    "TRAIN_FILE = 'a b.jsonl'",
    "TEST_FILE = '~/test.jsonl'",
    "VOCABULARY = 'gs://bucket/spiece.model'",
    'VALIDATION_FILE = None',
    "MODEL_DIR = '../model'",
    "MIXTURE_OR_TASK_NAME = 'jsonl'",
  ):
    gin.parse_config(binding)
  gin.finalize()
  train.make_paths_absolute()
  for name, path in (
    ('TRAIN_FILE', tmp_path / 'a b.jsonl'),
    ('TEST_FILE', '/home/somebody/test.jsonl'),
    ('VOCABULARY', 'gs://bucket/spiece.model'),
    ('MODEL_DIR', tmp_path.parent / 'model'),
    ('VALIDATION_FILE', None),
  ):
    expected = path and str(path)
    assert gin.query_parameter(f'{name}/gin.macro.value') == expected

  def evaluated():
    scopes = ('train_eval', 'infer_eval')
    found = gin.get_bindings(trainer.train, resolve_references=False)
    return [
      found[f'{scope}_dataset_cfg'].scoped_configurable_fn() for scope in scopes
    ]

  assert evaluated() == [None, None]
  with gin.unlock_config():
    gin.bind_parameter('VALIDATION_FILE/gin.macro.value', 'dev.jsonl')
  assert [cfg.split for cfg in evaluated()] == ['validation'] * 2


def test_a_model_file_after_a_run_leaves_nothing_of_the_runs_model():
  _parse('runs/jsonl.gin')
  _parse('models/flan_t5_xl.gin')
  expected = T5Config(
    size='flan_t5_xl', dtype='bfloat16', dropout_rate=0.0, scan_layers=None
  )
  assert _config() == expected


@pytest.mark.parametrize('optimizer', [None, 'adamw'])
@pytest.mark.parametrize('file', _RUNS)
def test_learning_rate_of_run_is_reached_and_held(file, optimizer):
  _parse(file)
  if optimizer:
    gin.parse_config(f'OPTIMIZER = @optimizers.{optimizer}()')
  total, warmup, peak = (
    gin.query_parameter(f'{macro}/gin.macro.value')
    for macro in ('TRAIN_STEPS', 'WARMUP_STEPS', 'LEARNING_RATE')
  )
  made = gin.query_parameter('OPTIMIZER/gin.macro.value')
  rates = [
    float(made.scoped_configurable_fn().learning_rate(step))
    for step in (0, warmup, total // 2, total)
  ]
  assert warmup <= total // 4
  assert rates[1] == pytest.approx(peak, rel=0.1)
  assert 0.4 * peak <= rates[2] <= 1.001 * peak
  assert 0 <= rates[3] <= 1.001 * peak


@pytest.mark.parametrize('file', _TASKS)
def test_task_completes_a_fine_tuning_run(file):
  for part in ('runs/finetune.gin', file):
    _parse(part)
  required = re.findall(r'^(\S+) = %gin\.REQUIRED', gin.config_str(), re.M)
  assert sorted(required) == ['INITIAL_CHECKPOINT_PATH', 'MODEL_DIR']
  name, lengths, best = (
    gin.query_parameter(f'{macro}/gin.macro.value')
    for macro in ('MIXTURE_OR_TASK_NAME', 'TASK_FEATURE_LENGTHS', 'BEST_METRIC')
  )
  assert name == file.removeprefix('tasks/').removesuffix('.gin')
  assert set(lengths) == {'inputs', 'prompts', 'targets', 'subtasks', 'decoder'}
  assert lengths['prompts'] < lengths['inputs']
  assert lengths['prompts'] + lengths['targets'] <= lengths['decoder']
  tasks = seqio.get_subtasks(seqio.get_mixture_or_task(name))
  task, metric = best.split('/', maxsplit=1)
  assert task in [t.name for t in tasks]
  (metric_fn,) = seqio.TaskRegistry.get(task).metric_fns
  assert metric in metric_fn([], [])
