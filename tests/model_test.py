# Copyright 2026 The pid_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""Losses, predictions and scores against plain computations."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import special
from toys import configs
from toys import decoding_reference
from toys import weights

from pid_jax import errors
from pid_jax import model as model_lib
from pid_jax import network

S, L, V = 6, 12, 32


def make(**kwargs) -> model_lib.EncoderDecoderModel:
  cfg = configs.tiny(mlp_activations=('relu',), dropout_rate=0.0)
  return model_lib.EncoderDecoderModel(network.Transformer(cfg), **kwargs)


@pytest.fixture(scope='module')
def params():
  return weights.random_params(make().module.config, seed=0)


@functools.cache
def jitted(name: str, **kwargs):
  """Returns a method of `make(**kwargs)`, compiled once for all tests."""
  return jax.jit(getattr(make(**kwargs), name))


def packed_batch():
  """Two rows: one input with two subtasks; two inputs with one each."""
  ints = lambda rows: np.asarray(rows, np.int32)
  return {
    'encoder_input_tokens': ints([[9, 8, 7, 1, 0, 0], [5, 4, 1, 6, 7, 1]]),
    'encoder_segment_ids': ints([[1, 1, 1, 1, 0, 0], [1, 1, 1, 2, 2, 2]]),
    'decoder_input_tokens': ints(
      [
        [0, 11, 12, 0, 13, 14, 15, 0, 0, 0, 0, 0],
        [0, 11, 16, 17, 0, 13, 18, 0, 0, 0, 0, 0],
      ]
    ),
    'decoder_target_tokens': ints(
      [
        [11, 12, 1, 13, 14, 15, 1, 0, 0, 0, 0, 0],
        [11, 16, 17, 1, 13, 18, 1, 0, 0, 0, 0, 0],
      ]
    ),
    'decoder_segment_ids': ints(
      [[1] * 7 + [0] * 5, [1] * 4 + [2] * 3 + [0] * 5]
    ),
    'decoder_subtask_ids': ints(
      [[1] * 3 + [2] * 4 + [0] * 5, [1] * 4 + [2] * 3 + [0] * 5]
    ),
    'decoder_loss_weights': np.asarray(
      [
        [0, 1, 1, 0, 1, 1, 1, 0, 0, 0, 0, 0],
        [0, 1, 1, 1, 0, 1, 1, 0, 0, 0, 0, 0],
      ],
      np.float32,
    ),
    'inputs_truncated': ints([2, 1]),
  }


# The subtasks of that batch: input, prompt, target.
SUBTASKS = [
  ([9, 8, 7, 1], [11], [12, 1]),
  ([9, 8, 7, 1], [13], [14, 15, 1]),
  ([5, 4, 1], [11], [16, 17, 1]),
  ([6, 7, 1], [13], [18, 1]),
]


@pytest.fixture(scope='module')
def one_by_one(params) -> np.ndarray:
  """Log-probability of each subtask's target, alone and without padding."""
  row = decoding_reference.Row
  return np.asarray(
    [
      row(make().module.config, params, inputs, prompt, lengths=(S, L)).scores(
        target
      )[0]
      for inputs, prompt, target in SUBTASKS
    ]
  )


@pytest.mark.parametrize('label_smoothing', [0.0, 0.1])
@pytest.mark.parametrize('z_loss', [0.0, 0.01])
def test_cross_entropy_against_soft_targets(label_smoothing, z_loss):
  rng = np.random.default_rng(0)
  logits = rng.normal(size=(3, 4, V)) * 3
  targets = rng.integers(0, V, (3, 4))
  soft = np.full(logits.shape, label_smoothing / (V - 1))
  np.put_along_axis(soft, targets[..., None], 1 - label_smoothing, axis=-1)
  log_z = special.logsumexp(logits, axis=-1)
  kl = special.rel_entr(soft, special.softmax(logits, axis=-1)).sum(axis=-1)
  cross_entropy = jax.jit(
    model_lib.cross_entropy, static_argnames=('label_smoothing', 'z_loss')
  )
  loss, z = cross_entropy(
    jnp.asarray(logits, jnp.float32),
    jnp.asarray(targets),
    label_smoothing=label_smoothing,
    z_loss=z_loss,
  )
  np.testing.assert_allclose(z, z_loss * log_z**2, rtol=1e-5)
  np.testing.assert_allclose(loss, kl + z_loss * log_z**2, atol=1e-5)


def test_cross_entropy_is_finite_for_huge_logits():
  logits = jnp.asarray([[1e4, -1e4, 0.0]])
  loss_and_gradient = jax.jit(
    jax.value_and_grad(
      lambda x: jnp.sum(
        model_lib.cross_entropy(x, jnp.asarray([1]), z_loss=1e-4)[0]
      )
    )
  )
  assert all(np.all(np.isfinite(x)) for x in loss_and_gradient(logits))


def test_packed_loss_is_the_sum_of_the_subtasks_losses(params, one_by_one):
  loss_fn = jitted('loss_fn', loss_normalizing_factor=None)
  loss, metrics = loss_fn(params, packed_batch(), None)
  np.testing.assert_allclose(loss, -one_by_one.sum(), rtol=1e-5)
  np.testing.assert_allclose(
    metrics['loss'].compute(), loss / 10, rtol=1e-6
  )  # 10 target tokens


@pytest.mark.parametrize(
  'factor, divisor',
  [
    (None, 1),
    (7.0, 7),
    ('num_real_target_tokens', 10),
    ('NUM_TOTAL_TARGET_TOKENS', 24),
  ],
)
def test_loss_normalizing_factor(params, one_by_one, factor, divisor):
  loss_fn = jitted('loss_fn', loss_normalizing_factor=factor)
  loss, _ = loss_fn(params, packed_batch(), None)
  expected = -one_by_one.sum() / divisor
  np.testing.assert_allclose(loss, expected, rtol=1e-5)


def test_average_per_sequence(params, one_by_one):
  loss_fn = jitted('loss_fn', loss_normalizing_factor='AVERAGE_PER_SEQUENCE')
  loss, _ = loss_fn(params, packed_batch(), None)
  lengths = np.asarray([len(target) for _, _, target in SUBTASKS])
  expected = np.mean(-one_by_one / lengths)
  np.testing.assert_allclose(loss, expected, rtol=1e-5)


def test_unknown_loss_normalizing_factor():
  with pytest.raises(errors.UserError, match="one of .* got 'NUM_TOKENS'"):
    make(loss_normalizing_factor='NUM_TOKENS')


def test_batch_counts():
  counts = model_lib.batch_counts(jax.tree.map(jnp.asarray, packed_batch()))
  values = {k: float(v.compute()) for k, v in counts.items()}
  assert values == {
    'examples': 3,
    'subtasks': 4,
    'tokens': 10 + 14,
    'padding_share/encoder': pytest.approx(2 / 12),
    'padding_share/decoder': pytest.approx(10 / 24),
    'inputs_truncated': 3,
  }


def grid_batch():
  """The same subtasks as a grid: B=3 inputs, U=2, P=2, T=3."""
  ints = lambda rows: jnp.asarray(rows, jnp.int32)
  return {
    'encoder_input_tokens': ints([[9, 8, 7, 1], [5, 4, 1, 0], [6, 7, 1, 0]]),
    'decoder_prompt_tokens': ints(
      [[[11, 0], [13, 0]], [[11, 0], [0, 0]], [[0, 0], [13, 0]]]
    ),
    'decoder_target_tokens': ints(
      [
        [[12, 1, 0], [14, 15, 1]],
        [[16, 17, 1], [0, 0, 0]],
        [[0, 0, 0], [18, 1, 0]],
      ]
    ),
  }


def test_scores_of_a_grid(params, one_by_one):
  scores = jitted('score_batch')(params, grid_batch())
  a, b, c, d = one_by_one
  np.testing.assert_allclose(scores, [[a, b], [c, 0], [0, d]], rtol=1e-5)


def test_scores_and_predictions_of_text_to_text(params):
  batch = {
    'encoder_input_tokens': jnp.asarray([[9, 8, 7, 1], [5, 1, 0, 0]]),
    'decoder_input_tokens': jnp.asarray([[0, 12, 0], [0, 14, 15]]),
    'decoder_target_tokens': jnp.asarray([[12, 1, 0], [14, 15, 1]]),
  }
  tokens, aux = jitted('predict_batch_with_aux')(params, batch)
  assert tokens.shape == (2, 3) and aux['scores'].shape == (2,)
  # A prediction scores what the model says of it as a target.
  predicted = {
    **batch,
    'decoder_target_tokens': tokens,
    'decoder_input_tokens': jnp.pad(tokens, ((0, 0), (1, 0)))[:, :-1],
  }
  np.testing.assert_allclose(
    jitted('score_batch')(params, predicted), aux['scores'], rtol=1e-4
  )


def test_predictions_of_a_grid(params):
  batch = grid_batch()
  tokens, aux = jitted('predict_batch_with_aux')(params, batch)
  assert tokens.shape == (3, 2, 3) and tokens.dtype == jnp.int32
  assert not np.any(tokens[1, 1]) and not np.any(tokens[2, 0])
  np.testing.assert_allclose(
    jitted('score_batch')(params, {**batch, 'decoder_target_tokens': tokens}),
    aux['scores'],
    rtol=1e-4,
  )


def test_dropout_only_with_a_key(params):
  cfg = dataclasses.replace(make().module.config, dropout_rate=0.5)
  model = model_lib.EncoderDecoderModel(network.Transformer(cfg))
  loss_fn = jax.jit(model.loss_fn)
  loss = lambda key: loss_fn(params, packed_batch(), key)[0]
  assert loss(None) == jax.jit(model.eval_fn)(params, packed_batch())[0]
  assert loss(jax.random.key(0)) != loss(None)
  assert loss(jax.random.key(0)) != loss(jax.random.key(1))
