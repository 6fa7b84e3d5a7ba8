# Copyright 2026 The pid_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""T5X's train, eval and infer, configured by our gin files as a user would.

T5X is not on PyPI; docs/t5x.md says how to get it. Where it cannot be imported,
these tests are skipped.
"""

import json
import re
import shutil
import sys
import types
import warnings

import flax
import gin
import jax
import numpy as np
import pytest
from toys import training as toy

from pid_jax import checkpoints
from pid_jax import cli
from pid_jax import config
from pid_jax import errors
from pid_jax import inference
from pid_jax import subtasks
from pid_jax import trainer
from pid_jax.subtasks import metrics as task_metrics

with warnings.catch_warnings():
  warnings.simplefilter('ignore')
  pytest.importorskip(
    't5x', reason='t5x cannot be imported: docs/t5x.md says where to get it'
  )
  from t5x import eval as t5x_eval
  from t5x import infer as t5x_infer
  from t5x import train as t5x_train

  from pid_jax import t5x_model

# T5X calls what JAX and others are about to take away, and broadcasts ranks.
pytestmark = pytest.mark.filterwarnings('ignore')

_FILES = sorted(
  str(path.relative_to(cli.gin_configs() / 't5x'))
  for path in (cli.gin_configs() / 't5x').rglob('*.gin')
)
_MODELS = [f for f in _FILES if f.startswith('models/')]
_RUNS = [f for f in _FILES if not f.startswith('models/')]
_SCRIPTS = {'eval.gin': t5x_eval, 'infer.gin': t5x_infer}


@pytest.fixture(autouse=True)
def clean_state():
  gin.clear_config()
  with jax.numpy_rank_promotion('allow'):
    yield
  gin.clear_config()


def parse(*files: str, script: types.ModuleType, monkeypatch) -> None:
  """Reads gin files as T5X's script does, whose module is __main__ then."""
  monkeypatch.setitem(sys.modules, '__main__', script)
  gin.add_config_file_search_path(t5x_train._DEFAULT_GIN_SEARCH_PATHS[0])
  for file in files:
    ours = cli.gin_configs() / file
    gin.parse_config_file(str(ours if ours.exists() else file))


@pytest.mark.parametrize('file', _MODELS)
def test_model_file_builds_its_size(file, monkeypatch):
  name = file.removeprefix('models/').removesuffix('.gin')
  files = [f't5x/{file}', 't5x/finetune_pid.gin', 'tasks/bookings_short.gin']
  parse(*files, script=t5x_train, monkeypatch=monkeypatch)
  if name in ('pid', 'from_checkpoint'):
    return
  if name == 't5':
    name = 'byt5_small'
    gin.parse_config(f"MODEL_SIZE = '{name}'")
  model = gin.get_configurable(t5x_model.PromptInDecoderModel)()
  made = model.module.config
  assert not made.differences(config.T5Config(size=name))
  if name == 'quickstart':
    assert made.num_tokens == model.output_vocabulary.vocab_size
    return
  assert made.dtype == 'bfloat16'
  gin.parse_config('NUM_PARTITIONS = 2\nnetwork.T5Config.dtype = "float16"')
  with pytest.raises(errors.UserError, match='use bfloat16'):
    gin.get_configurable(t5x_model.PromptInDecoderModel)()


@pytest.mark.parametrize('file', _RUNS)
def test_run_lacks_nothing_but_what_it_requires(file, monkeypatch):
  script = _SCRIPTS.get(file, t5x_train)
  files = [f't5x/{file}']
  if file != 'quickstart.gin':
    files = ['t5x/models/t5_1_1_base.gin', *files, 'tasks/todsum_domain.gin']
  parse(*files, script=script, monkeypatch=monkeypatch)
  required = re.findall(r'^(\S+) = %gin\.REQUIRED', gin.config_str(), re.M)
  assert required
  header = (cli.gin_configs() / 't5x' / file).read_text()
  for name in required:
    assert name in header
    gin.parse_config(f"{name} = 'given'")
  gin.finalize()


_TOY = """
from toys import training

MIXTURE_OR_TASK_NAME = @training.register()
TASK_FEATURE_LENGTHS = {
  'inputs': 24, 'prompts': 2, 'targets': 2, 'subtasks': 2, 'decoder': 16
}
"""
_TOY_MODEL = """
from pid_jax import network

network.T5Config:
  vocab_size = 128
  num_tokens = 27
  emb_dim = 16
  num_heads = 2
  head_dim = 8
  num_encoder_layers = 1
  num_decoder_layers = 1
  mlp_dim = 32
"""
_TRAIN = """
from t5x import trainer
from t5x import utils

MODEL_DIR = '{model_dir}'
INITIAL_CHECKPOINT_PATH = {initial}
TRAIN_STEPS = {steps}
BATCH_SIZE = 8
EVAL_STEPS = 1
EVAL_PERIOD = 4
CHECKPOINT_PERIOD = 4
RANDOM_SEED = 0
trainer.Trainer.num_microbatches = 2
utils.create_learning_rate_scheduler.base_learning_rate = {learning_rate}
"""


def launch(script, function, *files_and_texts, monkeypatch):
  """Calls T5X's function as its script does after parsing its flags."""
  gin.clear_config()
  files = [f for f in files_and_texts if f.endswith('.gin')]
  parse(*files, script=script, monkeypatch=monkeypatch)
  for text in files_and_texts[len(files) :]:
    gin.parse_config('from __gin__ import dynamic_registration\n' + text)
  gin.finalize()
  return gin.get_configurable(function)()


def run_text(model_dir, steps=8, learning_rate=1e-2, initial='[]') -> str:
  return _TRAIN.format(
    model_dir=model_dir,
    steps=steps,
    learning_rate=learning_rate,
    initial=initial,
  )


def train(
  model_dir,
  monkeypatch,
  model_file='t5x/models/quickstart.gin',
  model_text=_TOY_MODEL,
  **options,
):
  return launch(
    t5x_train,
    t5x_train.train,
    model_file,
    't5x/finetune_pid.gin',
    _TOY,
    model_text,
    run_text(model_dir, **options),
    monkeypatch=monkeypatch,
  )


@pytest.fixture(scope='module')
def trained(tmp_path_factory):
  """A MODEL_DIR of t5x.train after eight steps, with checkpoints at 0, 4, 8."""
  model_dir = tmp_path_factory.mktemp('t5x')
  with pytest.MonkeyPatch.context() as monkeypatch:
    with jax.numpy_rank_promotion('allow'):
      step, _ = train(model_dir, monkeypatch)
  assert step == 8
  return model_dir


def metrics(folder) -> list[dict]:
  """What SeqIO's evaluator logged, a line for each evaluation."""
  (path,) = folder.glob('inference_eval/*-metrics.jsonl')
  return [json.loads(line) for line in path.read_text().splitlines()]


def test_restart_goes_on_from_the_last_checkpoint(
  trained, tmp_path, monkeypatch
):
  model_dir = tmp_path / 'again'
  shutil.copytree(trained, model_dir)
  step, state = train(model_dir, monkeypatch, steps=9, learning_rate=0.0)
  assert step == 9
  kept = checkpoints.load(trained, 8).params
  first = checkpoints.load(trained, 0).params
  params = flax.core.unfreeze(jax.device_get(state.params))
  assert jax.tree.all(
    jax.tree.map(lambda a, b: np.allclose(a, b, atol=1e-6), params, kept)
  )
  assert not jax.tree.all(
    jax.tree.map(lambda a, b: np.allclose(a, b, atol=1e-4), params, first)
  )


def test_fine_tuning_begins_with_a_converted_checkpoint(tmp_path, monkeypatch):
  """Of any format: `pid_jax.convert --to=t5x` makes it one of T5X's.

  Its shape is the checkpoint's, without a word in gin.
  """
  model = toy.t5_model(logits_via_embedding=True, mlp_dim=24)
  params = model.get_initial_variables(jax.random.key(7))['params']
  pretrained = checkpoints.Pretrained(
    model.module.config, params, None, task={}, step=0
  )
  checkpoints.save(tmp_path / 'from', pretrained, format='t5x')
  step, state = train(
    tmp_path / 'to',
    monkeypatch,
    model_file='t5x/models/from_checkpoint.gin',
    model_text='',
    initial=f"'{tmp_path}/from/checkpoint_0'",
    steps=1,
    learning_rate=0.0,
  )
  assert step == 1
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6),
    flax.core.unfreeze(jax.device_get(state.params)),
    params,
  )


def test_our_commands_take_what_t5x_trained(trained, tmp_path, monkeypatch):
  """Compares t5x.eval and t5x.infer with `evaluate` and PromptInDecoder."""
  text = f"""
from t5x import utils
CHECKPOINT_PATH = '{trained}/checkpoint_8'
EVAL_OUTPUT_DIR = '{tmp_path}/eval'
INFER_OUTPUT_DIR = '{tmp_path}/infer'
utils.DatasetConfig.split = 'validation'
"""
  for script, function, run in (
    (t5x_eval, t5x_eval.evaluate, 't5x/eval.gin'),
    (t5x_infer, t5x_infer.infer, 't5x/infer.gin'),
  ):
    launch(
      script,
      function,
      't5x/models/from_checkpoint.gin',
      run,
      _TOY,
      text,
      monkeypatch=monkeypatch,
    )
  (theirs,) = metrics(tmp_path / 'eval')
  assert theirs == metrics(trained)[-1]
  (path,) = (tmp_path / 'infer').glob('toy-predict.jsonl-*-of-00001')
  predicted = [
    json.loads(line)['prediction'] for line in path.read_text().splitlines()
  ]
  assert len(predicted) == 10

  cfg = toy.dataset_config('validation')
  values, _ = trainer.evaluate(trained, cfg, output_dir=tmp_path / 'ours')
  assert values['toy/exact_match'] == pytest.approx(theirs['exact_match'])
  lines = (tmp_path / 'ours/toy.jsonl').read_text().splitlines()
  assert [json.loads(line)['prediction'] for line in lines] == predicted

  model = inference.PromptInDecoder.from_pretrained(trained)
  examples = [toy.example(i, 'validation') for i in range(10)]
  answers = model.generate(
    inputs=[e['inputs'] for e in examples],
    prompts=[e['prompts'] for e in examples],
    max_new_tokens=2,
  )
  assert answers == predicted


@pytest.fixture(scope='module')
def separable() -> str:
  """The toy task with a separator that its vocabulary has, and no target."""
  examples = [toy.example(i, 'train') for i in range(20)]
  subtasks.register(
    'toy_separable',
    source=subtasks.InMemoryDataSource(
      {'train': examples, 'validation': examples}
    ),
    vocabulary=toy.vocabulary(),
    metric_fns=[task_metrics.exact_match],
    joint_separator=' 0 ',
  )
  return 'toy_separable'


@pytest.mark.parametrize('layout', ['pie', 'joint'])
def test_baselines_run_with_t5xs_own_model(
  separable, layout, tmp_path, monkeypatch
):
  text = f"""
from t5x.examples.t5 import network
MIXTURE_OR_TASK_NAME = '{separable}_{layout}'
TASK_FEATURE_LENGTHS = {{'inputs': 24, 'targets': 8}}
network.T5Config:
  vocab_size = 128
  emb_dim = 16
  num_heads = 2
  num_encoder_layers = 1
  num_decoder_layers = 1
  head_dim = 8
  mlp_dim = 32
"""
  step, state = launch(
    t5x_train,
    t5x_train.train,
    't5x/examples/t5/t5_1_1/base.gin',
    't5x/finetune.gin',
    run_text(tmp_path, steps=4),
    text,
    monkeypatch=monkeypatch,
  )
  assert step == 4 and 'encoder' in state.params
  # Of whole examples, whatever the layout.
  (logged,) = metrics(tmp_path)
  assert 'exact_match' in logged
