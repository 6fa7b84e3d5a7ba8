# Copyright 2026 The pid_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""The model under T5X: its step, its predictions, its parameters.

T5X is not on PyPI; docs/t5x.md says how to get it. Where it cannot be imported,
these tests are skipped.
"""

import warnings

import flax
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from toys import training as toy

from pid_jax import decoding
from pid_jax import errors
from pid_jax import model as model_lib
from pid_jax import network
from pid_jax.trainer import data
from pid_jax.trainer import optimizers
from pid_jax.trainer import step as step_lib

with warnings.catch_warnings():
  warnings.simplefilter('ignore')
  pytest.importorskip(
    't5x', reason='t5x cannot be imported: docs/t5x.md says where to get it'
  )
  from t5x import adafactor
  from t5x import partitioning
  from t5x import train_state
  from t5x import trainer as t5x_trainer
  from t5x import utils as t5x_utils

  from pid_jax import t5x_model

# T5X calls what JAX and others are about to take away, and broadcasts ranks.
pytestmark = pytest.mark.filterwarnings('ignore')


@pytest.fixture(autouse=True)
def rank_promotion():
  with jax.numpy_rank_promotion('allow'):
    yield


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
    ours, optimizer, flax.core.unfreeze(variables['params'])
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
