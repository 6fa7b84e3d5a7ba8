# Copyright 2026 The pid_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""The model under T5X: its step, its predictions, its gin files, its runs.

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
import jax.numpy as jnp
import numpy as np
import pytest
import trainer_toy as toy

from pid_jax import checkpoints
from pid_jax import cli
from pid_jax import config
from pid_jax import decoding
from pid_jax import errors
from pid_jax import inference
from pid_jax import model as model_lib
from pid_jax import network
from pid_jax import subtasks
from pid_jax import trainer
from pid_jax.subtasks import metrics as task_metrics
from pid_jax.trainer import data
from pid_jax.trainer import optimizers
from pid_jax.trainer import step as step_lib

with warnings.catch_warnings():
  warnings.simplefilter('ignore')
  pytest.importorskip(
    't5x', reason='t5x cannot be imported: docs/t5x.md says where to get it'
  )
  from t5x import adafactor
  from t5x import eval as t5x_eval
  from t5x import infer as t5x_infer
  from t5x import partitioning
  from t5x import train as t5x_train
  from t5x import train_state
  from t5x import trainer as t5x_trainer
  from t5x import utils as t5x_utils

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


def make(**overrides) -> t5x_model.PromptInDecoderModel:
  """A model whose kernels Adafactor factors, without dropout."""
  fields = dict(emb_dim=128, mlp_dim=256, head_dim=64, dropout_rate=0.0)
  vocabulary = toy.vocabulary()
  return t5x_model.PromptInDecoderModel(
    network.Transformer(toy.t5_config(**fields)),
    vocabulary,
    vocabulary,
    adafactor.Adafactor(
      decay_rate=0.8,
      step_offset=0,
      logical_factor_rules=adafactor.standard_logical_factor_rules(),
    ),
    **overrides,
  )


def batches(pack: bool, count: int = 1) -> list[dict[str, jax.Array]]:
  """Batches of the toy task, through T5X's choice of converter."""
  converter = t5x_model.PromptInDecoderModel.FEATURE_CONVERTER_CLS
  cfg = toy.dataset_config(pack=pack, feature_converter=converter)
  iterator = data.dataset(cfg, num_epochs=None).as_numpy_iterator()
  return [jax.tree.map(jnp.asarray, next(iterator)) for _ in range(count)]


@pytest.mark.parametrize(
  'factor, num_microbatches',
  [('NUM_REAL_TARGET_TOKENS', 1), ('AVERAGE_PER_SEQUENCE', 1), (None, 2)],
)
def test_steps_are_those_of_our_trainer(factor, num_microbatches):
  """Three of them: the first hides the decay of second moments."""
  loss_options = dict(
    z_loss=1e-2, label_smoothing=0.1, loss_normalizing_factor=factor
  )
  theirs = make(**loss_options)
  ours = model_lib.EncoderDecoderModel(theirs.module, **loss_options)
  variables = theirs.get_initial_variables(jax.random.key(0), {})
  optimizer = optimizers.adafactor(1e-2)
  their_state = train_state.FlaxOptimTrainState.create(
    theirs.optimizer_def, variables
  )
  our_state = step_lib.state_from_params(
    flax.core.unfreeze(variables['params']), optimizer
  )
  weights = np.random.default_rng(0).uniform(0.5, 2.0, (3, 8, 1))
  for batch, weight in zip(batches(pack=True, count=3), weights, strict=True):
    # A weight to each row: subtasks may have weights of their own.
    batch['decoder_loss_weights'] *= jnp.asarray(weight, jnp.float32)
    before = their_state.params
    loss, _ = theirs.loss_fn(their_state.params, batch, None)
    expected, metrics = ours.loss_fn(our_state.params, batch, None)
    np.testing.assert_allclose(loss, expected, rtol=1e-5)
    their_state, their_metrics = t5x_trainer.train_with_lr(
      their_state,
      batch,
      learning_rate=1e-2,
      dropout_rng=jax.random.PRNGKey(0),
      model=theirs,
      num_microbatches=num_microbatches,
    )
    our_state, _ = step_lib.train_step(
      our_state,
      batch,
      model=ours,
      optimizer=optimizer,
      rng=jax.random.key(0),
      num_microbatches=num_microbatches,
    )
    np.testing.assert_allclose(their_metrics['loss'].total, expected, rtol=1e-5)
    for name in ('examples', 'subtasks', 'inputs_truncated'):
      assert their_metrics[name].compute() == metrics[name].compute()
    moved = jax.tree.map(
      lambda a, b: float(jnp.max(jnp.abs(a - b))), before, their_state.params
    )
    assert min(jax.tree.leaves(moved)) > 1e-4
    jax.tree.map(
      lambda a, b: np.testing.assert_allclose(a, b, atol=1e-4, rtol=0),
      flax.core.unfreeze(their_state.params),
      our_state.params,
    )


def test_predictions_and_scores_are_those_of_our_engine():
  model = make()
  params = model.get_initial_variables(jax.random.key(1), {})['params']
  (batch,) = batches(pack=False)
  shape = batch['decoder_target_tokens'].shape
  tokens, aux = model.predict_batch_with_aux(
    params, batch, jax.random.PRNGKey(0)
  )
  arrays = [
    batch[f'{name}_tokens'] for name in ('encoder_input', 'decoder_prompt')
  ]
  expected = decoding.generate(
    model.module, params, *arrays, max_new_tokens=shape[-1]
  )
  np.testing.assert_array_equal(tokens, expected.tokens)
  np.testing.assert_array_equal(tokens, model.predict_batch(params, batch))
  np.testing.assert_allclose(aux['scores'], expected.log_probs, atol=1e-5)

  # What was predicted, scored as a target, has the score of the prediction.
  batch['decoder_target_tokens'] = tokens
  scores = model.score_batch(params, batch)
  assert scores.shape == shape[:2]
  np.testing.assert_allclose(scores, aux['scores'], atol=1e-4)


def test_sampler_draws_from_the_key_that_t5x_gives():
  model = make(sampler=decoding.make_sampler(temperature=5.0))
  params = model.get_initial_variables(jax.random.key(1), {})['params']
  (batch,) = batches(pack=False)
  draw = lambda seed: model.predict_batch(
    params, batch, jax.random.PRNGKey(seed)
  )
  np.testing.assert_array_equal(draw(0), draw(0))
  assert (draw(0) != draw(1)).any()


@pytest.mark.parametrize(
  'fields, num_partitions, message',
  [
    ({'num_heads': 6}, 4, r'NUM_PARTITIONS is 4, .* num_heads=6 of the model'),
    ({'mlp_dim': 33}, 2, r'does not divide mlp_dim=33'),
  ],
)
def test_model_axis_that_does_not_divide(fields, num_partitions, message):
  module = network.Transformer(toy.t5_config(**fields))
  with pytest.raises(errors.UserError, match=message):
    t5x_model.PromptInDecoderModel(
      module, None, None, None, num_partitions=num_partitions
    )


def test_parameters_are_split_by_t5xs_standard_rules():
  partitioner = partitioning.PjitPartitioner(
    num_partitions=1,
    logical_axis_rules=partitioning.standard_logical_axis_rules(),
  )
  model = make()
  axes = t5x_utils.TrainStateInitializer(
    optimizer_def=model.optimizer_def,
    init_fn=model.get_initial_variables,
    input_shapes={},
    partitioner=partitioner,
  ).train_state_axes.params
  spec = jax.sharding.PartitionSpec
  assert axes['token_embedder']['embedding'] == spec('model', None)
  layer = axes['decoder']['layers_0']
  assert layer['self_attention']['query']['kernel'] == spec(None, 'model')
  assert layer['self_attention']['out']['kernel'] == spec('model', None)
  assert layer['mlp']['wo']['kernel'] == spec('model', None)
  assert axes['encoder']['relpos_bias']['rel_embedding'] == spec('model', None)


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
  if name == 'pid':
    return
  model = gin.get_configurable(t5x_model.PromptInDecoderModel)()
  made = model.module.config
  if name == 'quickstart':
    assert made.num_tokens == model.output_vocabulary.vocab_size
    return
  named = config.named(name, dtype='bfloat16')
  assert made == named
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
import trainer_toy

MIXTURE_OR_TASK_NAME = @trainer_toy.register()
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


def train(model_dir, monkeypatch, **options):
  return launch(
    t5x_train,
    t5x_train.train,
    't5x/models/quickstart.gin',
    't5x/finetune_pid.gin',
    _TOY,
    _TOY_MODEL,
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
  """Of any format: `pid_jax.convert --to=t5x` makes it one of T5X's."""
  model = toy.t5_model(logits_via_embedding=True)
  params = model.get_initial_variables(jax.random.key(7))['params']
  pretrained = checkpoints.Pretrained(
    model.module.config, params, None, task={}, step=0
  )
  checkpoints.save(tmp_path / 'from', pretrained, format='t5x')
  step, state = train(
    tmp_path / 'to',
    monkeypatch,
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
      't5x/models/quickstart.gin',
      run,
      _TOY,
      _TOY_MODEL,
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
