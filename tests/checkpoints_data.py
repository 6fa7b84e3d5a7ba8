# Copyright 2026 The pid_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""Small models of odd sizes for the tests of checkpoints, theirs and ours."""

import functools

import jax
import numpy as np
import sentencepiece
import torch
import torch_reference
import transformers

from pid_jax import checkpoints
from pid_jax import network
from pid_jax.checkpoints import tensors
from pid_jax.config import T5Config

_SHAPE = dict(
  emb_dim=20,
  num_heads=3,
  head_dim=5,
  num_encoder_layers=3,
  num_decoder_layers=2,
  mlp_dim=37,
  relpos_num_buckets=10,
  relpos_max_distance=23,
)
_GATED = ('gelu', 'linear')
# Shapes of the released families: T5 1.1, LM-adapted and Flan are the same.
FAMILIES = {
  't5_1_0': T5Config(
    **_SHAPE,
    vocab_size=97,
    mlp_activations=('relu',),
    logits_via_embedding=True,
  ),
  'flan_t5': T5Config(**_SHAPE, vocab_size=97, mlp_activations=_GATED),
  'mt5': T5Config(**_SHAPE, vocab_size=211, mlp_activations=_GATED),
  'byt5': T5Config(**_SHAPE, vocab_size=384, mlp_activations=_GATED),
}


@functools.cache
def torch_model(family: str) -> transformers.T5ForConditionalGeneration:
  """A random model of transformers', with logits of the size of one."""
  config = FAMILIES[family]
  model = torch_reference.random_model(config, seed=3)
  with torch.no_grad():
    norm = model.decoder.final_layer_norm.weight
    norm.copy_(1 + 0.2 * torch.randn_like(norm))
    if not config.logits_via_embedding:
      model.lm_head.weight.mul_(config.emb_dim**-0.5)
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
  rng = np.random.default_rng(seed)
  params = jax.tree.map(
    lambda leaf: rng.normal(size=leaf.shape).astype(np.float32),
    checkpoints.abstract_params(config),
  )
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


@functools.cache
def sentencepiece_model(folder: str) -> str:
  """Trains a Unigram model as T5's: 60 pieces or so, of our own text."""
  path = f'{folder}/unigram'
  sentencepiece.SentencePieceTrainer.train(
    sentence_iterator=iter(
      [f'please book the hotel for {i} nights' for i in range(200)]
      + ['the quick brown fox jumps over the lazy dog']
    ),
    model_prefix=path,
    model_type='unigram',
    vocab_size=60,
    hard_vocab_limit=False,
    pad_id=0,
    eos_id=1,
    unk_id=2,
    bos_id=-1,
    minloglevel=2,
  )
  return f'{path}.model'
