# Copyright 2026 The pid_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""Subtasks that share a packed row are independent.

The loss of a packed batch is the sum of the losses of its subtasks computed one
by one, and the prediction of a subtask has no gradient, not even a rounding
error, with respect to the embedded tokens of another subtask or input.
"""

import dataclasses

from flax import linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from toys import configs
from toys import weights

from pid_jax import model as model_lib
from pid_jax import network
from pid_jax.network import layers

S, L = 24, 48
# Rows of inputs, each with the (prompt, target) lengths of its subtasks.
ROWS = [
  [(7, [(3, 2), (1, 4), (5, 1)]), (11, [(2, 3)]), (4, [(1, 1), (4, 6)])],
  [(20, [(6, 9), (2, 2)])],
]


@dataclasses.dataclass
class Subtask:
  row: int
  segment: int  # Its input's number in the row.
  index: int  # Its own number in the row.
  inputs: list
  prompt: list
  target: list


def _subtasks(num_tokens):
  rng = np.random.default_rng(0)
  draw = lambda n: rng.integers(2, num_tokens, n).tolist()
  subtasks = []
  for row, inputs in enumerate(ROWS):
    index = 0
    for segment, (length, lengths) in enumerate(inputs, start=1):
      tokens = [*draw(length - 1), 1]
      for m, n in lengths:
        index += 1
        subtasks.append(
          Subtask(row, segment, index, tokens, draw(m), [*draw(n - 1), 1])
        )
  return subtasks


def _pack(subtasks):
  """Packs by hand what the feature converter packs in tf.data."""
  shape = (len(ROWS), L)
  batch = {
    'encoder_input_tokens': np.zeros((len(ROWS), S), np.int32),
    'encoder_segment_ids': np.zeros((len(ROWS), S), np.int32),
    'encoder_positions': np.zeros((len(ROWS), S), np.int32),
    'decoder_input_tokens': np.zeros(shape, np.int32),
    'decoder_target_tokens': np.zeros(shape, np.int32),
    'decoder_segment_ids': np.zeros(shape, np.int32),
    'decoder_subtask_ids': np.zeros(shape, np.int32),
    'decoder_positions': np.zeros(shape, np.int32),
    'decoder_loss_weights': np.zeros(shape, np.float32),
  }
  for row in range(len(ROWS)):
    encoder_end = decoder_end = segment = 0
    for subtask in [s for s in subtasks if s.row == row]:
      if subtask.segment != segment:
        segment = subtask.segment
        new = slice(encoder_end, encoder_end + len(subtask.inputs))
        encoder_end = new.stop
        batch['encoder_input_tokens'][row, new] = subtask.inputs
        batch['encoder_segment_ids'][row, new] = segment
        batch['encoder_positions'][row, new] = range(len(subtask.inputs))
      tokens = [*subtask.prompt, *subtask.target]
      new = slice(decoder_end, decoder_end + len(tokens))
      decoder_end = new.stop
      batch['decoder_input_tokens'][row, new] = [0, *tokens[:-1]]
      batch['decoder_target_tokens'][row, new] = tokens
      batch['decoder_segment_ids'][row, new] = segment
      batch['decoder_subtask_ids'][row, new] = subtask.index
      batch['decoder_positions'][row, new] = range(len(tokens))
      first = new.start + len(subtask.prompt)
      batch['decoder_loss_weights'][row, first : new.stop] = 1
  return batch


def _alone(subtask):
  """A batch of one subtask; the shapes are the same for all subtasks."""
  tokens = [*subtask.prompt, *subtask.target]
  batch = {
    'encoder_input_tokens': np.zeros((1, S), np.int32),
    'decoder_input_tokens': np.zeros((1, 16), np.int32),
    'decoder_target_tokens': np.zeros((1, 16), np.int32),
    'decoder_loss_weights': np.zeros((1, 16), np.float32),
  }
  batch['encoder_input_tokens'][0, : len(subtask.inputs)] = subtask.inputs
  batch['decoder_input_tokens'][0, 1 : len(tokens)] = tokens[:-1]
  batch['decoder_target_tokens'][0, : len(tokens)] = tokens
  span = slice(len(subtask.prompt), len(tokens))
  batch['decoder_loss_weights'][0, span] = 1
  return batch


@pytest.fixture(
  scope='module',
  name='setting',
  params=[
    ('t5_1_0', False, 'none'),
    ('t5_1_1', True, 'full'),
    ('odd', False, 'minimal'),
  ],
  ids=lambda param: '-'.join(map(str, param)),
)
def _setting(request):
  name, scan_layers, remat_policy = request.param
  config = dataclasses.replace(
    configs.CONFIGS[name],
    scan_layers=scan_layers,
    remat_policy=remat_policy,
  )
  params = weights.random_params(config, seed=1)
  model = model_lib.EncoderDecoderModel(
    network.Transformer(config), loss_normalizing_factor=None
  )
  subtasks = _subtasks(config.num_tokens)
  return model, params, subtasks, _pack(subtasks)


def test_packed_loss_is_the_sum_of_single_losses(setting):
  model, params, subtasks, packed = setting
  loss = jax.jit(lambda batch: model.eval_fn(params, batch)[0])
  singles = [float(loss(_alone(subtask))) for subtask in subtasks]
  assert min(singles) > 0.01
  np.testing.assert_allclose(loss(packed), sum(singles), rtol=1e-5)


def test_no_gradient_crosses_subtasks_or_inputs(setting):
  model, params, subtasks, packed = setting
  emb_dim = model.module.config.emb_dim

  def loss(perturbations, weights):
    """The loss where small vectors are added to the embedded tokens."""
    to_add = list(perturbations)  # The encoder's, then the decoder's.

    def intercept(next_fun, args, kwargs, context):
      out = next_fun(*args, **kwargs)
      if isinstance(context.module, layers.Embed) and (
        context.method_name == '__call__'
      ):
        out = out + to_add.pop(0)
      return out

    with nn.intercept_methods(intercept):
      value, _ = model.eval_fn(
        params, {**packed, 'decoder_loss_weights': weights}
      )
    assert not to_add
    return value

  gradient = jax.jit(jax.grad(loss))
  zeros = (jnp.zeros((2, S, emb_dim)), jnp.zeros((2, L, emb_dim)))
  rows = np.arange(len(ROWS))[:, None]
  for subtask in subtasks:
    own = (packed['decoder_subtask_ids'] == subtask.index) & (
      rows == subtask.row
    )
    of_input = (packed['encoder_segment_ids'] == subtask.segment) & (
      rows == subtask.row
    )
    encoder, decoder = gradient(zeros, own * packed['decoder_loss_weights'])
    encoder, decoder = np.asarray(encoder), np.asarray(decoder)
    assert np.all(encoder[~of_input] == 0.0)
    assert np.all(decoder[~own] == 0.0)
    # Every token of the subtask itself has an effect.
    assert np.all(np.any(encoder[of_input] != 0, axis=-1))
    assert np.all(np.any(decoder[own] != 0, axis=-1))
