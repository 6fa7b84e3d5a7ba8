# Copyright 2026 The pid_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""Weights and token ids of the benchmark, with outputs that are known.

Random weights cost what trained ones cost, but nobody can say when their
outputs end or what they copy. So there is also a synthetic model: **token k
is followed by token k - 1**, down to EOS, which is 1 (and the start token 0 by
the last token of the vocabulary). It is made of random weights: the head's
column of k - 1 becomes the embedding of k, and the decoder's layers are scaled
down, so that the newest token decides. Every matrix keeps its shape and stays
dense: the work is that of any other model.

A row whose prompt ends with k then has k - 1 tokens, EOS included, and a run of
the output stands in the input where the input counts down.
"""

from collections.abc import Sequence
import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from pid_jax import config as config_lib
from pid_jax import network
from pid_jax.experiments import workloads

# Scales what each layer of the decoder adds. The embedding, of variance 1, is
# then well above the sum of 24 random contributions.
_DECODER_SCALE = 0.5


@dataclasses.dataclass(frozen=True)
class Batch:
  """Token ids of a job.

  Attributes:
    inputs: int32 [B, S].
    prompts: int32 [B, U, P], none padded.
    lengths: int32 [B, U], tokens that a row of PiD must generate.
    outputs: int32 [B, U, T], what it must generate, 0 after EOS; None where
      the weights are random.
  """

  inputs: np.ndarray
  prompts: np.ndarray
  lengths: np.ndarray
  outputs: np.ndarray | None


def make_params(
  config: config_lib.T5Config,
  weights: str,
  seed: int = 0,
  chain: Sequence[int] = (),
) -> Any:
  """Returns float32 parameters.

  Args:
    config: of the model.
    weights: 'random' (T5's initial ones) or 'synthetic'.
    seed: of the draws.
    chain: of synthetic weights, ids of which each is followed by the one before
      it, and the first by EOS; all other ids count down to the last of these.
  """
  params = jax.tree.map(np.array, random_params(config, seed))
  if weights == 'synthetic':
    embedding = params['token_embedder']['embedding']
    decoder = params['decoder']
    # Ids beyond num_tokens follow themselves alone: no other leads there.
    others = set(range(2, config.num_tokens)).difference(chain)
    order = np.array([1, *chain, *sorted(others), 0])
    follows = np.arange(config.vocab_size)
    follows[order] = np.roll(order, -1)
    head = embedding[follows].T * config.emb_dim**-0.5
    decoder['logits_dense']['kernel'] = np.ascontiguousarray(head)
    for layer in decoder.values():
      if 'self_attention' not in layer:
        continue
      layer['self_attention']['out']['kernel'] *= _DECODER_SCALE
      layer['encoder_decoder_attention']['out']['kernel'] *= _DECODER_SCALE
      layer['mlp']['wo']['kernel'] *= _DECODER_SCALE
  return params


def random_params(
  config: config_lib.T5Config, seed: int = 0, dtype: str = 'float32'
) -> Any:
  """Returns T5's initial parameters, made on JAX's default device."""
  tokens, module = jnp.ones((1, 8), jnp.int32), network.Transformer(config)

  def initialize(rng):
    params = network.initialize(module, rng, tokens, tokens)['params']
    return jax.tree.map(lambda x: x.astype(dtype), params)

  return jax.jit(initialize)(jax.random.key(seed))


def make_batch(
  config: config_lib.T5Config, job: workloads.Job, seed: int = 0
) -> Batch:
  """Draws the token ids of a job.

  Args:
    config: of the model; its vocabulary must have room for the job.
    job: what to make them for.
    seed: of the draws.
  """
  rng = np.random.default_rng(seed)
  sizes = job.sizes
  b, u, t = sizes.num_inputs, sizes.num_prompts, sizes.new_tokens
  # Countdowns start in the lower half of the vocabulary; all else is above.
  middle = config.num_tokens // 2
  draw = lambda *shape: rng.integers(
    middle, config.num_tokens, shape, dtype=np.int32
  )
  inputs = draw(b, sizes.input_length)
  prompts = draw(b, u, sizes.prompt_length)
  lengths = np.full((b, u), t, np.int32)
  if job.weights == 'random':
    return Batch(inputs, prompts, lengths, None)
  if job.lengths in _LENGTHS:
    lengths = _LENGTHS[job.lengths](rng, b, u, t)
    starts = lengths + 1
  else:
    # Far enough apart that no two outputs of an input share a token.
    assert u * (t + 1) + 1 < middle, 'the vocabulary is too small'
    first = (np.arange(u, dtype=np.int32) + 1) * (t + 1) + 1
    starts = np.broadcast_to(first, (b, u))
  prompts[:, :, -1] = starts
  outputs = starts[:, :, None] - 1 - np.arange(t, dtype=np.int32)
  outputs = np.maximum(outputs, 0)
  for i in range(b if job.copied_run else 0):
    _copy_runs(rng, inputs[i], outputs[i], job.copied_run)
  return Batch(inputs, prompts, lengths, outputs)


def countdown_from_start(num_tokens: int, length: int) -> np.ndarray:
  """Returns what a synthetic model writes without a prompt, int32 [length]."""
  return num_tokens - 1 - np.arange(length, dtype=np.int32)


def _skewed_lengths(rng, num_inputs, num_prompts, longest):
  """80 % of the rows of each input have 2 tokens, the others 4 to `longest`."""
  num_long = num_prompts - round(0.8 * num_prompts)
  lengths = np.full((num_inputs, num_prompts), 2, np.int32)
  for row in lengths:
    long = rng.permutation(num_prompts)[:num_long]
    row[long] = rng.integers(4, longest + 1, num_long)
    row[long[:1]] = longest
  return lengths


def _uneven_lengths(rng, num_inputs, num_prompts, longest):
  """Rows of an input have half of to all of its length, 4 to `longest`.

  Lengths of inputs are spread evenly over the logarithm.
  """
  exponents = rng.uniform(np.log(4), np.log(longest + 1), num_inputs)
  longest_of = np.exp(exponents).astype(np.int32)[:, None]
  longest_of[0] = longest
  lengths = rng.integers(
    (longest_of + 1) // 2, longest_of + 1, (num_inputs, num_prompts)
  )
  lengths[:, 0] = longest_of[:, 0]
  return lengths.astype(np.int32)


_LENGTHS = {'skewed': _skewed_lengths, 'uneven': _uneven_lengths}


def _copy_runs(rng, inputs, outputs, length):
  """Writes every other run of the outputs into an input, at random places.

  Args:
    rng: for the places.
    inputs: int32 [S], changed.
    outputs: int32 [U, T].
    length: tokens of a run.
  """
  runs = [
    output[start : start + length]
    for output in outputs
    for start in range(0, len(output), 2 * length)
  ]
  num_places = len(inputs) // length
  assert len(runs) <= num_places, 'the input is too short for the runs'
  places = rng.permutation(num_places)[: len(runs)]
  for place, run in zip(places, runs, strict=True):
    inputs[place * length : place * length + len(run)] = run
