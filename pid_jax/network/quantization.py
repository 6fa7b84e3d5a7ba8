# Copyright 2026 The pid_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""Smaller weights for decoding: bfloat16, or int8 with a scale per channel.

A step of few rows waits for the weights, and a processor multiplies narrow
numbers at a multiple of its rate for float32. `cast_params` turns trained
parameters into such a form once, for inference alone; the layers take every
form, the narrow ones through `product`.

In 'bfloat16' everything is bfloat16, and products are summed in float32. In
'int8', by part of the network:

    attention, wi, head      int8 x int8, summed exactly in int32
    wo                       bfloat16, summed in float32
    embedding                bfloat16
    norms, position biases   float32

Each row of activations gets an int8 scale of its own as it comes: there is
nothing to calibrate. The inputs of `wo` are the exception: in a gated block
they are products of two activations, and a value far above the others of its
row would leave these few of the 255 steps of int8.

Letters: M rows, K inputs and N outputs of a kernel.
"""

from typing import Any

import flax
import jax
import jax.numpy as jnp

from pid_jax import errors
from pid_jax.config import PARAM_DTYPES

PyTree = Any

SCALE = 'kernel_scale'  # Beside an int8 'kernel', float32 [N].

_MAX = 127.0
# The scale of zeros; any positive number will do.
_TINY = 1e-30
# XLA's CPU compiler has no fast product of fewer narrow rows.
_MIN_ROWS = 4


def check_param_dtype(param_dtype: str) -> None:
  """Checks a name.

  Raises:
    UserError: it is none of PARAM_DTYPES.
  """
  if param_dtype not in PARAM_DTYPES:
    hint = ' T5 overflows in float16.' if param_dtype == 'float16' else ''
    raise errors.UserError(
      f'param_dtype is {param_dtype!r}; choose one of {PARAM_DTYPES}.{hint}'
    )


def cast_params(params: PyTree, param_dtype: str) -> PyTree:
  """Returns the parameters in a form for inference; see the module.

  A tied head is kept a second time, as a kernel: products with the embedding's
  transpose are slow in all narrow forms.

  Args:
    params: float32 or bfloat16, nested dict, of `Transformer.init`; layers may
      be scanned (stacked on axis 1).
    param_dtype: one of PARAM_DTYPES.

  Returns:
    A nested dict for the methods of Transformer.

  Raises:
    UserError: no such form, or the parameters are in int8 already.
  """
  check_param_dtype(param_dtype)
  flat = flax.traverse_util.flatten_dict(flax.core.unfreeze(params), sep='/')
  if any(name.endswith(SCALE) for name in flat):
    raise errors.UserError(
      'These parameters are int8 already: cast those that were trained.'
    )
  if param_dtype == 'float32':
    cast = {name: leaf.astype(jnp.float32) for name, leaf in flat.items()}
    return flax.traverse_util.unflatten_dict(cast, sep='/')
  if 'decoder/logits_dense/kernel' not in flat:
    embedding = flat['token_embedder/embedding']
    flat['token_embedder/kernel'] = jnp.asarray(embedding).T
  cast = {}
  for name, leaf in flat.items():
    leaf = jnp.asarray(leaf)
    if param_dtype == 'int8' and _is_int8(name):
      cast[name], scale = _quantize(leaf, axis=0)
      # [1, N] -> [N], or [1, layers, N] -> [N, layers]: as axis 1 of all else.
      cast[name.removesuffix('kernel') + SCALE] = scale[0].T
    elif param_dtype == 'int8' and not _is_matrix(name):
      cast[name] = leaf.astype(jnp.float32)
    else:
      cast[name] = leaf.astype(jnp.bfloat16)
  return flax.traverse_util.unflatten_dict(cast, sep='/')


def product(
  x: jax.Array, kernel: jax.Array, scale: jax.Array | None, dtype: str
) -> jax.Array:
  """Multiplies rows with a kernel in a form that `cast_params` made.

  Args:
    x: [M, K].
    kernel: [K, N], bfloat16 or int8.
    scale: float32 [N] of an int8 kernel, else None.
    dtype: of the result.

  Returns:
    [M, N].
  """
  num_rows = x.shape[0]
  x = jnp.pad(x, ((0, max(0, _MIN_ROWS - num_rows)), (0, 0)))
  if scale is not None:
    x, row_scale = _quantize(x, axis=1)
    y = jnp.dot(x, kernel, preferred_element_type=jnp.int32)
    y = y.astype(jnp.float32) * (row_scale * scale[None, :])
  else:
    # Sums in bfloat16 would be slower on CPUs, and wrong everywhere.
    x = x.astype(kernel.dtype)
    y = jnp.dot(x, kernel, preferred_element_type=jnp.float32)
  return y[:num_rows].astype(dtype)


def _quantize(x: jax.Array, axis: int) -> tuple[jax.Array, jax.Array]:
  """Returns int8 numbers and float32 scales (size 1 along `axis`) for x."""
  x = x.astype(jnp.float32)
  largest = jnp.max(jnp.abs(x), axis=axis, keepdims=True)
  scale = jnp.maximum(largest, _TINY) / _MAX
  return jnp.round(x / scale).astype(jnp.int8), scale


def _is_matrix(name: str) -> bool:
  return name.endswith(('/kernel', '/embedding'))


def _is_int8(name: str) -> bool:
  return name.endswith('/kernel') and not name.endswith('/wo/kernel')
