# Copyright 2026 The pid_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""Attends block by block on a mesh of 4 x 2 devices and on one.

Run by blockwise_attention_test.py with eight devices.
"""

import json
import re

import jax
import jax.numpy as jnp
import numpy as np

from pid_jax.network import blockwise_attention
from pid_jax.network import masks
from pid_jax.network.kv_cache import KVLayer

B, H, D, L = 8, 4, 8, 64
BLOCK = 16


def main() -> None:
  rng = np.random.default_rng(0)
  normal = lambda *shape: jnp.asarray(rng.normal(size=shape), jnp.float32)
  arguments = (
    normal(B, L, H, D),
    KVLayer(normal(B, H, D, L), normal(B, H, L, D)),
    normal(H, 41),
  )
  ids = jnp.asarray(np.sort(rng.integers(1, 5, (B, L)), axis=1), jnp.int32)

  def loss(query, key_values, by_distance, ids):
    attended = blockwise_attention.attend(
      query,
      key_values,
      masks.Mask((ids,), (ids,), L, causal=True),
      blockwise_attention.bias_blocks(by_distance, L, L, block=BLOCK),
    )
    return jnp.sum(jnp.sin(attended)), attended

  run = jax.value_and_grad(loss, argnums=(0, 1, 2), has_aux=True)
  (_, expected), expected_gradient = jax.jit(run)(*arguments, ids)

  mesh = jax.make_mesh((4, 2), ('data', 'model'))
  spec = lambda *axes: jax.sharding.NamedSharding(
    mesh, jax.sharding.PartitionSpec(*axes)
  )
  heads = spec('data', 'model')
  shardings = (
    spec('data', None, 'model'),
    KVLayer(heads, heads),
    spec('model'),
  )
  program = jax.jit(
    run,
    in_shardings=(*shardings, spec('data')),
    out_shardings=((spec(), shardings[0]), shardings),
  )
  compiled = program.lower(*arguments, ids).compile()
  (_, attended), gradient = compiled(
    *jax.device_put((*arguments, ids), (*shardings, spec('data')))
  )
  difference = lambda x, y: max(
    float(np.abs(np.asarray(a) - np.asarray(b)).max())
    for a, b in zip(jax.tree.leaves(x), jax.tree.leaves(y), strict=True)
  )
  blocks = blockwise_attention.bias_blocks(arguments[-1], L, L, block=BLOCK)
  sizes = re.findall(r'f32\[([\d,]+)\]', compiled.as_text())
  print(
    json.dumps(
      {
        'difference': difference(attended, expected),
        'gradient_difference': difference(gradient, expected_gradient),
        'largest': max(int(np.prod([*map(int, x.split(','))])) for x in sizes),
        # The heads of a device, in laying out the blocks of biases: more than
        # its queries, keys or values, less than all pairs of a row.
        'allowed': blocks.shape[0] * H // 2 * BLOCK * 2 * BLOCK,
      }
    )
  )


if __name__ == '__main__':
  main()
