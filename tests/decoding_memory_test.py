# Copyright 2026 The pid_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""What a prompt costs in memory: its self-attention cache, and no more."""

import jax
import jax.numpy as jnp
import xla_options

from pid_jax import decoding
from pid_jax import network
from pid_jax.config import T5Config
from pid_jax.inference import memory

B, S, P, T = 2, 256, 4, 6
CONFIG = T5Config(
  vocab_size=256,
  emb_dim=64,
  num_heads=4,
  head_dim=16,
  mlp_dim=128,
  num_encoder_layers=1,
  num_decoder_layers=4,
  mlp_activations=('relu',),
  logits_via_embedding=False,
)


def _temporary_bytes(
  num_prompts, num_inputs=B, length=S, prompt=P, packed=None
):
  """Memory of `generate` besides arguments and results, says the compiler."""
  module = network.Transformer(CONFIG)
  tokens = jnp.ones((1, 2), jnp.int32)
  params = jax.eval_shape(
    lambda rng: module.init(rng, tokens, tokens, enable_dropout=False),
    jax.random.key(0),
  )['params']

  def run(params, encoder_input_tokens, prompt_tokens):
    return decoding.generate(
      module,
      params,
      encoder_input_tokens,
      prompt_tokens,
      max_new_tokens=T,
      packed_prompt_length=packed,
    ).tokens

  spec = lambda *shape: jax.ShapeDtypeStruct(shape, jnp.int32)
  lowered = jax.jit(run).lower(
    params, spec(num_inputs, length), spec(num_inputs, num_prompts, prompt)
  )
  compiled = lowered.compile(xla_options.as_users())
  return compiled.memory_analysis().temp_size_in_bytes


def test_memory_grows_with_prompts_by_their_cache_alone():
  few, many = 4, 32
  more_rows = B * (many - few)
  width = CONFIG.num_heads * CONFIG.head_dim
  keys_and_values = 2 * CONFIG.num_decoder_layers * width * 4  # bytes a place
  cache = more_rows * (P + T) * keys_and_values
  # The prefill holds the attention of one layer to the input at a time.
  scores = more_rows * (P + 1) * CONFIG.num_heads * S * 4
  copies = more_rows * S * keys_and_values

  whole = _temporary_bytes(many)
  grown = whole - _temporary_bytes(few)

  _check_estimate(whole, (B, S, many, P, 0, 0))
  assert grown <= cache + scores
  assert grown < copies / 4  # What a copy for each prompt would take.


def test_the_estimate_of_a_long_input_is_close_to_what_the_compiler_says():
  """Its logits, whole, would take a gigabyte."""
  _check_estimate(_temporary_bytes(2, 1, 8192), (1, 8192, 2, P, 0, 0))


def test_the_estimate_of_packed_prompts_is_close_as_well():
  """Attention to the input, in tokens that the prompts have."""
  prompts, prompt, packed = 16, 127, 512
  compiled = _temporary_bytes(prompts, prompt=prompt, packed=packed)
  _check_estimate(compiled, (B, S, prompts, prompt, 0, 0), packed)


def _check_estimate(compiled, shape, packed=None):
  budget = memory.Budget(CONFIG, {}, max_new_tokens=T)
  budget.num_bytes = 2 * compiled
  assert budget.fits(shape, packed)
  budget.num_bytes //= 4
  assert not budget.fits(shape, packed)
