# Copyright 2026 The pid_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""The compiled program never holds the input's keys and values once per prompt.

Sizes are chosen such that one layer's cross-attention keys, copied U times, are
larger than any array that decoding needs: no array of the optimised program
may have as many elements. A program that does copy them shows that such a copy
would be found.

Run as a script, this compiles for a device that is not here and prints the size
of the largest array.
"""

import math
import os
import re
import subprocess
import sys

import jax
import jax.numpy as jnp
import pytest
import xla_options

from pid_jax import decoding
from pid_jax import network
from pid_jax import platforms
from pid_jax.config import T5Config
from pid_jax.experiments import topologies

B, S, U, P, T = 2, 48, 6, 8, 8
CONFIG = T5Config(
  vocab_size=128,
  emb_dim=128,
  num_heads=2,
  head_dim=128,
  num_encoder_layers=1,
  num_decoder_layers=2,
  mlp_dim=256,
  mlp_activations=('gelu', 'linear'),
)
COPIED = B * U * S * CONFIG.num_heads * CONFIG.head_dim


def _lower(device, dtype, scan_layers, copied):
  """Lowers `generate`, or the same with all inputs' keys copied per prompt."""
  config = T5Config(
    **{**CONFIG.to_dict(), 'dtype': dtype, 'scan_layers': scan_layers}
  )
  module = network.Transformer(config)
  sharding = jax.sharding.SingleDeviceSharding(device)
  spec = lambda shape, dtype=jnp.int32: jax.ShapeDtypeStruct(
    shape, dtype, sharding=sharding
  )
  tokens = jnp.ones((1, 2), jnp.int32)
  params = jax.eval_shape(
    lambda rng: module.init(rng, tokens, tokens, enable_dropout=False),
    jax.random.key(0),
  )['params']
  params = jax.tree.map(lambda x: spec(x.shape, x.dtype), params)

  def run(params, encoder_input_tokens, prompt_tokens):
    if not copied:
      return decoding.generate(
        module, params, encoder_input_tokens, prompt_tokens, max_new_tokens=T
      ).tokens
    # The decoder's view of it: B * U inputs of one prompt each.
    apply = lambda *args, **kwargs: module.apply(
      {'params': params}, *args, **kwargs
    )
    encoded = apply(encoder_input_tokens, method='encode', enable_dropout=False)
    cross = network.KVCache(
      apply(encoded, method='cross_key_values'), encoder_input_tokens != 0
    )
    return apply(
      prompt_tokens.reshape(B * U, P),
      cross.repeat(U),
      module.init_cache(B * U, P),
      jnp.int32(0),
      method='decode_chunk',
    )[0]

  return jax.jit(run).lower(params, spec((B, S)), spec((B, U, P)))


def _largest(lowered, compiler_options=None):
  """Returns the elements of the largest array in the optimised program."""
  text = lowered.compile(compiler_options).as_text()
  shapes = re.findall(r'\b(?:f32|bf16|f16|s32|u32|pred)\[([\d,]+)\]', text)
  assert len(shapes) > 100, text
  return max(math.prod(map(int, shape.split(','))) for shape in shapes)


@pytest.mark.parametrize(
  'dtype, scan_layers',
  [
    ('float32', False),
    ('bfloat16', True),
    pytest.param('float32', True, marks=pytest.mark.slow),
    pytest.param('bfloat16', False, marks=pytest.mark.slow),
  ],
)
def test_keys_and_values_are_never_tiled_on_cpu(dtype, scan_layers):
  device = jax.devices('cpu')[0]
  lowered = _lower(device, dtype, scan_layers, False)
  assert _largest(lowered, xla_options.as_users()) < COPIED


@pytest.mark.parametrize('scan_layers', [False, True])
def test_a_copy_would_be_found(scan_layers):
  device = jax.devices('cpu')[0]
  lowered = _lower(device, 'float32', scan_layers, True)
  assert _largest(lowered, xla_options.as_users()) >= COPIED


@pytest.mark.parametrize(
  'topology',
  [
    pytest.param('v5e:1x1', marks=pytest.mark.tpu_aot),
    pytest.param('h100', marks=pytest.mark.gpu_aot),
  ],
)
def test_keys_and_values_are_never_tiled_on_accelerators(topology):
  """Compiled ahead of time for a v5e and an H100, in processes of their own."""
  done = subprocess.run(
    [sys.executable, __file__, topology],
    env={**os.environ, **topologies.ENVIRONMENT, 'XLA_FLAGS': ''},
    capture_output=True,
    text=True,
    timeout=300,
    check=False,
  )
  assert done.returncode == 0, done.stderr
  sizes = dict(line.split() for line in done.stdout.splitlines())
  assert int(sizes['generate']) < COPIED
  assert int(sizes['generate_scanned']) < COPIED
  assert int(sizes['copied']) >= COPIED


def main(topology):
  device = topologies.devices(topology)[0]
  options = dict(platforms.of(device).compiler_options)
  largest = lambda *args: _largest(_lower(device, 'bfloat16', *args), options)
  print('generate', largest(False, False))
  print('generate_scanned', largest(True, False))
  print('copied', largest(False, True))


if __name__ == '__main__':
  main(*sys.argv[1:])
