# Copyright 2026 The pid_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""Small models of odd sizes for the tests of checkpoints, theirs and ours."""

import functools

import jax
import numpy as np
import torch
import transformers

from pid_jax import checkpoints
from pid_jax import network
from pid_jax.checkpoints import tensors
from pid_jax.config import T5Config
from toys import configs
from toys import torch_reference
from toys import weights

# Shapes of the released families: T5 1.1, LM-adapted and Flan are the same.
FAMILIES = {
  't5_1_0': configs.odd(mlp_activations=('relu',), logits_via_embedding=True),
  'flan_t5': configs.odd(),
  'mt5': configs.odd(vocab_size=211),
  'byt5': configs.odd(vocab_size=384),
}


@functools.cache
def torch_model(family: str) -> transformers.T5ForConditionalGeneration:
  """A random model of transformers', with logits of the size of one."""
  config = FAMILIES[family]
  # Mild weights: the programs' rounding errors stay small.
  params = dict(weights.random_params(config, seed=3, eos_gain=1.0, gain=0.5))
  norm = params['encoder']['encoder_norm']  # Logits of the size of one.
  params['decoder'] = {**params['decoder'], 'decoder_norm': norm}
  model = torch_reference.from_params(config, params)
  if family == 'mt5':  # The same network under another name.
    fields = model.config.to_dict() | {'model_type': 'mt5'}
    fields['tie_word_embeddings'] = False
    theirs = transformers.MT5ForConditionalGeneration(
      transformers.MT5Config(**fields)
    )
    theirs.lm_head.weight = torch.nn.Parameter(model.lm_head.weight.clone())
    theirs.load_state_dict(model.state_dict())
    return theirs.eval()
  return model


@functools.cache
def ids(config: T5Config) -> tuple[np.ndarray, np.ndarray]:
  """Inputs [2, 31] (padded) and decoder inputs [2, 9] for logits."""
  rng = np.random.default_rng(0)
  inputs = rng.integers(2, config.vocab_size, (2, 31)).astype(np.int32)
  inputs[1, 20:] = 0
  targets = rng.integers(2, config.vocab_size, (2, 9)).astype(np.int32)
  targets[:, 0] = 0
  return inputs, targets


def torch_logits(model, config: T5Config) -> np.ndarray:
  inputs, targets = ids(config)
  with torch.no_grad():
    return model(
      input_ids=torch.tensor(inputs),
      attention_mask=torch.tensor(inputs != 0).long(),
      decoder_input_ids=torch.tensor(targets),
    ).logits.numpy()


def logits(loaded: checkpoints.Pretrained) -> np.ndarray:
  module = network.Transformer(loaded.config)
  apply = jax.jit(module.apply, static_argnames='enable_dropout')
  inputs, targets = ids(loaded.config)
  return np.asarray(
    apply({'params': loaded.params}, inputs, targets, enable_dropout=False)
  )


def random_pretrained(config: T5Config, seed: int = 0, **fields):
  """A model of ours with random weights, and no vocabulary."""
  params = weights.random_params(config, seed)
  fields = {'vocabulary': None, 'task': {'layout': 'pid'}, 'step': 7, **fields}
  return checkpoints.Pretrained(config, params, **fields)


def assert_same_bits(a, b) -> None:
  """Checks that two parameter trees are the same in every name and bit."""
  a, b = tensors.flatten(a), tensors.flatten(b)
  assert set(a) == set(b)
  for name in a:
    one, other = np.asarray(a[name]), np.asarray(b[name])
    assert one.dtype == other.dtype and one.shape == other.shape, name
    assert one.tobytes() == other.tobytes(), name
