# Copyright 2026 The pid_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""Smaller weights for decoding: bfloat16, or int8 with a scale per channel.

A step of few rows waits for the weights, and a processor multiplies narrow
numbers at a multiple of its rate for float32. `quantize_params` turns trained
parameters into such a form once, for inference alone; the layers take every
form, the narrow ones through `quantized_dot`.

In 'bfloat16' everything is bfloat16, and products are summed in float32. In
'int8', by part of the network:

    attention, wi, head      int8 x int8, summed exactly in int32
    wo                       bfloat16, summed in float32
    embedding                bfloat16
    norms, position biases   float32

Each row of activations is scaled when it is multiplied, so nothing has to be
calibrated. The inputs of `wo` are the exception: in a gated block they are
products of two activations, and one value far above the others of its row would
leave those few of the 255 steps of int8.

Letters: M rows, K inputs and N outputs of a kernel.
"""

import functools
from typing import Any

import flax
import jax
import jax.numpy as jnp

from pid_jax import config
from pid_jax import errors
from pid_jax import platforms
from pid_jax.network import axes as axes_lib
from pid_jax.network.axes import Axes
from pid_jax.network.axes import ParamAxes

PyTree = Any

SCALE = 'kernel_scale'  # Beside an int8 'kernel', float32 [N].
# The kernel that a tied head becomes.
TIED_HEAD = 'token_embedder/kernel'
_EMBEDDING = 'token_embedder/embedding'

_MAX = 127.0
# The scale of zeros; any positive number will do.
_TINY = 1e-30


def quantized_axes(axes: ParamAxes, param_dtype: str) -> dict[str, Axes]:
  """Returns the axes of what `quantize_params` makes of parameters.

  Args:
    axes: of the parameters.
    param_dtype: one of `config.PARAM_DTYPES`.

  Returns:
    Path -> axes: those given, and of what is added.
  """
  table = dict(axes)
  if param_dtype == 'float32':
    return table
  if not any(axes_lib.role(a) is axes_lib.Role.HEAD for a in axes.values()):
    table[TIED_HEAD] = axes[_EMBEDDING][::-1]
  if param_dtype == 'int8':
    for name, kernel_axes in list(table.items()):
      if _is_int8(kernel_axes):
        table[_scale_name(name)] = _scale_axes(kernel_axes)
  return table


def quantize_params(
  params: PyTree, axes: ParamAxes, param_dtype: str
) -> PyTree:
  """Returns the parameters in a form for inference; see the module.

  A tied head is kept a second time, as a kernel: products with the embedding's
  transpose are slow in all narrow forms.

  Args:
    params: float32 or bfloat16, nested dict, of `Transformer.init`; layers may
      be stacked.
    axes: of the parameters, from `param_axes`.
    param_dtype: one of `config.PARAM_DTYPES`.

  Returns:
    A nested dict for the methods of Transformer; `quantized_axes` has its axes.

  Raises:
    UserError: no such form, or the parameters are in int8 already.
  """
  config.check_dtype('param_dtype', param_dtype, config.PARAM_DTYPES)
  flat = flax.traverse_util.flatten_dict(flax.core.unfreeze(params), sep='/')
  if any(name.endswith(SCALE) for name in flat):
    raise errors.UserError(
      'These parameters are int8 already: quantize those that were trained.'
    )
  table = quantized_axes(axes, param_dtype)
  if TIED_HEAD in table:
    flat[TIED_HEAD] = jnp.asarray(flat[_EMBEDDING]).T
  quantized = {}
  for name, leaf in flat.items():
    leaf, leaf_axes = jnp.asarray(leaf), table[name]
    if param_dtype == 'int8' and _is_int8(leaf_axes):
      summed = axes_lib.input_dim(leaf_axes)
      quantized[name], scale = _quantize(leaf, summed)
      kept = leaf_axes[:summed] + leaf_axes[summed + 1 :]
      quantized[_scale_name(name)] = axes_lib.transpose(
        jnp.squeeze(scale, summed), kept, _scale_axes(leaf_axes)
      )
    else:
      quantized[name] = leaf.astype(_float_dtype(leaf_axes, param_dtype))
  return flax.traverse_util.unflatten_dict(quantized, sep='/')


def quantized_dot(
  x: jax.Array, kernel: jax.Array, scale: jax.Array | None, dtype: str
) -> jax.Array:
  """Multiplies rows with a kernel in a form that `quantize_params` made.

  Args:
    x: [M, K].
    kernel: [K, N], bfloat16 or int8.
    scale: float32 [N] of an int8 kernel, else None.
    dtype: of the result.

  Returns:
    [M, N].
  """
  # Products of such numbers are exact: no precision has to be asked for.
  dot = functools.partial(jnp.dot, precision=jax.lax.Precision.DEFAULT)
  num_rows = x.shape[0]
  x = jnp.pad(
    x, ((0, max(0, platforms.current().min_narrow_rows - num_rows)), (0, 0))
  )
  if scale is not None:
    x, row_scale = _quantize(x, axis=1)
    y = dot(x, kernel, preferred_element_type=jnp.int32)
    y = y.astype(jnp.float32) * (row_scale * scale[None, :])
  else:
    # Sums are float32 in either case. A float32 result that is rounded next
    # would be written and read at twice the bytes: `generate` of T5 1.1 base,
    # compiled for an H100, would move 55 GB instead of 46.
    wide = platforms.current().widens_results
    y = dot(
      x.astype(kernel.dtype),
      kernel,
      preferred_element_type='float32' if wide else dtype,
    )
  return y[:num_rows].astype(dtype)


def _quantize(x: jax.Array, axis: int) -> tuple[jax.Array, jax.Array]:
  """Returns int8 numbers and float32 scales (size 1 along `axis`) for x."""
  x = x.astype(jnp.float32)
  largest = jnp.max(jnp.abs(x), axis=axis, keepdims=True)
  scale = jnp.maximum(largest, _TINY) / _MAX
  return jnp.round(x / scale).astype(jnp.int8), scale


def _is_int8(axes: Axes) -> bool:
  """Whether a kernel or head becomes int8: all but `wo` do."""
  is_multiplied = axes_lib.role(axes) in (
    axes_lib.Role.KERNEL,
    axes_lib.Role.HEAD,
  )
  return is_multiplied and axes[axes_lib.input_dim(axes)] != 'mlp'


def _float_dtype(axes: Axes, param_dtype: str) -> Any:
  """The dtype of what does not become int8."""
  small = (axes_lib.Role.SCALE, axes_lib.Role.POSITION_BIAS)
  if param_dtype == 'int8' and axes_lib.role(axes) in small:
    return jnp.float32
  return jnp.float32 if param_dtype == 'float32' else jnp.bfloat16


def _scale_name(kernel_name: str) -> str:
  return kernel_name.removesuffix('kernel') + SCALE


def _scale_axes(kernel_axes: Axes) -> Axes:
  """One number for each output channel, of each layer."""
  axes = (kernel_axes[axes_lib.output_dim(kernel_axes)],)
  is_stacked = axes_lib.LAYERS in kernel_axes
  return axes_lib.with_layers(axes) if is_stacked else axes
