# Copyright 2026 The pid_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""Every shipped gin file parses, and every run lacks nothing but its flags."""

import pathlib
import re
import shlex

import gin
import pytest
import seqio

from pid_jax import cli
from pid_jax import config
from pid_jax import network

# Those of t5x/ have tests beside the model, in t5x_runs_test.py.
_FILES = sorted(
  str(path.relative_to(cli.gin_configs()))
  for folder in ('models', 'runs', 'tasks')
  for path in (cli.gin_configs() / folder).rglob('*.gin')
)
_MODELS = [f for f in _FILES if f.startswith('models/')]
_NAMES = [pathlib.Path(f).stem for f in _MODELS]
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


@pytest.mark.parametrize('file', _MODELS)
def test_model_is_a_valid_config(file):
  _parse(file)
  gin.parse_config('DROPOUT_RATE = 0.1')  # The run's to give.
  made = gin.get_configurable(network.T5Config)()
  name = file.removeprefix('models/').removesuffix('.gin')
  if name in config.NAMED:
    named = config.named(name)
    assert made.emb_dim == named.emb_dim and made.mlp_dim == named.mlp_dim
    assert made.num_decoder_layers == named.num_decoder_layers
    assert made.mlp_activations == named.mlp_activations


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


@pytest.mark.parametrize('name', [n for n in _NAMES if n in config.NAMED])
def test_own_data_with_the_model_of_a_checkpoint(name):
  _parse('runs/jsonl.gin')
  _parse(f'models/{name}.gin')
  made = gin.get_configurable(network.T5Config)()
  # Nothing that the small model or the run sets survives, but for dropout.
  assert made == config.named(name, dtype='bfloat16', dropout_rate=0.0)


def test_commands_of_the_readme_give_all_that_a_run_requires():
  readme = pathlib.Path(__file__).parents[1] / 'README.md'
  commands = re.findall(
    r'python -m pid_jax.train (.*?[^\\])\n', readme.read_text(), re.S
  )
  assert len(commands) >= 4
  for command in commands:
    gin.clear_config()
    arguments = shlex.split(command.replace('\\\n', ''))
    for argument in arguments:
      if argument.startswith('--gin_file='):
        _parse(argument.removeprefix('--gin_file='))
    for argument in arguments:
      if argument.startswith('--gin.'):
        gin.parse_config(argument.removeprefix('--gin.'))
    assert '%gin.REQUIRED' not in gin.config_str(), command


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
  for part in ('runs/finetune.gin', 'models/t5_1_1_base.gin', file):
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
