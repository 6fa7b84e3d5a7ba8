# Copyright 2026 The pid_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""Compiles programs for eight devices and prints what hlo.py reads in them.

Run by experiments_aot_test.py: the number of devices is fixed when JAX starts.
"""

import dataclasses
import itertools
import json

import jax
import jax.numpy as jnp

from pid_jax import config as config_lib
from pid_jax import decoding
from pid_jax import model as model_lib
from pid_jax import network
from pid_jax import partitioning
from pid_jax.experiments import aot
from pid_jax.experiments import hlo
from pid_jax.experiments.layouts import Sizes
from pid_jax.trainer import optimizers
from pid_jax.trainer import step as step_lib

NUM_LAYERS = 5
SIZE = 64
SPEC = jax.sharding.PartitionSpec


def loop(partitioner):
  """Five products, for each of which one matrix is gathered; then one sum."""
  shape = jax.ShapeDtypeStruct
  sharding = lambda *spec: jax.sharding.NamedSharding(
    partitioner.mesh, SPEC(*spec)
  )

  def body(x, kernel):
    kernel = jax.lax.with_sharding_constraint(kernel, sharding(None, None))
    return x @ kernel, None

  def run(x, kernels):
    return jnp.sum(jax.lax.scan(body, x, kernels)[0])

  x = shape((8, SIZE), jnp.float32, sharding=sharding('fsdp', None))
  kernels = shape(
    (NUM_LAYERS, SIZE, SIZE),
    jnp.float32,
    sharding=sharding(None, 'fsdp', None),
  )
  return jax.jit(run).trace(x, kernels)


def config(**overrides):
  fields = dict(
    vocab_size=256,
    emb_dim=64,
    num_heads=4,
    head_dim=16,
    num_encoder_layers=6,
    num_decoder_layers=6,
    mlp_dim=256,
    scan_layers=True,
    remat_policy='full',
    dropout_rate=0.0,
  )
  return config_lib.T5Config(**fields | overrides)


def train(partitioner):
  model = model_lib.EncoderDecoderModel(network.Transformer(config()))
  optimizer = optimizers.adafactor(1e-3)
  state = step_lib.abstract_state(model, optimizer, partitioner)
  ids = jax.ShapeDtypeStruct(
    (8, 16), jnp.int32, sharding=partitioner.batch_sharding
  )
  names = ('encoder_input', 'decoder_input', 'decoder_target')
  step = step_lib.jit_train_step(model, optimizer, partitioner, state, seed=0)
  with partitioner.scope():
    traced = step.trace(state, {f'{name}_tokens': ids for name in names})
  return aot.Program('train', traced, partitioner, state, 8)


def generate(partitioner):
  """All of decoding in one program, as evaluation runs it."""
  module = network.Transformer(config())
  like = next(
    aot.decode_programs(module.config, partitioner, Sizes(8, 2, 16, 4, 4))
  )
  ids = lambda *shape: jax.ShapeDtypeStruct(
    shape, jnp.int32, sharding=partitioner.batch_sharding
  )
  run = lambda params, inputs, prompts: decoding.generate(
    module, params, inputs, prompts, max_new_tokens=4
  )
  jitted = jax.jit(run, out_shardings=partitioner.replicated)
  with partitioner.scope():
    traced = jitted.trace(like.resident, ids(8, 16), ids(8, 2, 4))
  return dataclasses.replace(like, name='generate', traced=traced)


def largest_gather(text: str) -> int:
  """Returns the bytes of the largest array that an all-gather returns."""
  computations, _ = hlo.parse(text)
  return max(
    array.num_bytes
    for instruction in itertools.chain.from_iterable(computations.values())
    if instruction.opcode.startswith('all-gather')
    for array in instruction.arrays
  )


def main():
  partitioner = partitioning.Partitioner(1, 8)
  traced = loop(partitioner)
  summary = hlo.summarise(traced.lower().compile().as_text())
  results = {
    'loop': {
      'flops': aot.count_flops(traced.jaxpr.jaxpr),
      'collectives': {
        kind: [c.count, c.num_bytes] for kind, c in summary.collectives.items()
      },
      'unknown': summary.num_unknown_loops,
    }
  }
  for program in (train(partitioner), generate(partitioner)):
    compiled = program.compile()
    memory = compiled.memory_analysis()
    params = getattr(program.resident, 'params', program.resident)
    results[program.name] = {
      'largest_gather': largest_gather(compiled.as_text()),
      'temporary': memory.temp_size_in_bytes,
      'arguments': memory.argument_size_in_bytes,
      'whole': sum(leaf.size * 4 for leaf in jax.tree.leaves(params)),
    }
  print(json.dumps(results))


if __name__ == '__main__':
  main()
