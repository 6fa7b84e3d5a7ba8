# Copyright 2026 The pid_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""Adafactor by logical axes: layers that are stacked are optimized one by one.

Adafactor (arXiv 1804.04235) factors the second moments of a matrix into those
of its rows and its columns, and relates the size of an update to the root mean
square of the parameter. optax's takes each array for one parameter. With
`scan_layers`, an array holds the parameters of all layers: here each layer is
treated as if it stood alone, as T5X's `logical_factor_rules` do.

The state is optax's `FactoredState`, so that checkpoints hold one form of it.
"""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import optax

from pid_jax.network import axes as axes_lib
from pid_jax.network.axes import Axes
from pid_jax.network.axes import ParamAxes

PyTree = Any

# Kernels with a smaller dimension keep full second moments; T5X's default.
MIN_DIM_SIZE_TO_FACTOR = 128
# The second moments of a parameter: whole, of its rows, and of its columns.
MOMENTS = ('v', 'v_row', 'v_col')

_EPSILON = 1e-30  # Added to squared gradients.
_MIN_SCALE = 1e-3  # Of a parameter, for the size of its updates.


def adafactor(
  axes: ParamAxes,
  learning_rate: optax.ScalarOrSchedule,
  *,
  decay_rate: float = 0.8,
  clipping_threshold: float | None = 1.0,
  multiply_by_parameter_scale: bool = True,
  min_dim_size_to_factor: int = MIN_DIM_SIZE_TO_FACTOR,
  beta1: float | None = None,
  weight_decay: float | None = None,
) -> optax.GradientTransformationExtraArgs:
  """Returns the optimizer for parameters with these axes.

  Args:
    axes: of the parameters.
    learning_rate: a schedule, or a number.
    decay_rate: second moments decay as 1 - (step + 1) ** -decay_rate.
    clipping_threshold: bound on the root mean square of each update.
    multiply_by_parameter_scale: whether the learning rate is relative to each
      parameter's root mean square.
    min_dim_size_to_factor: see `factored_dims`.
    beta1: decay of a first moment; None keeps none.
    weight_decay: per step, not multiplied by the learning rate.
  """
  parts = [scale_by_factored_rms(axes, decay_rate, min_dim_size_to_factor)]
  if clipping_threshold is not None:
    parts.append(clip_by_rms(axes, clipping_threshold))
  parts.append(optax.scale_by_learning_rate(learning_rate, flip_sign=False))
  if multiply_by_parameter_scale:
    parts.append(scale_by_param_rms(axes))
  if beta1 is not None:
    parts.append(optax.ema(beta1, debias=False, accumulator_dtype=jnp.float32))
  if weight_decay is not None:
    parts.append(decay_weights(axes, weight_decay))
  return optax.chain(*parts, optax.scale(-1))


def decayed(axes: ParamAxes, params: PyTree) -> PyTree:
  """Tells which parameters weight decay applies to.

  Args:
    axes: of the parameters.
    params: nested dict.

  Returns:
    A tree like `params` of bools: True for kernels, embeddings and the head,
    False for scales of norms and for relative position biases.
  """
  spared = (axes_lib.Role.SCALE, axes_lib.Role.POSITION_BIAS)
  return axes_lib.tree_map(
    lambda a, unused_leaf: axes_lib.role(a) not in spared, axes, params
  )


def decay_weights(
  axes: ParamAxes, weight_decay: float
) -> optax.GradientTransformation:
  """Adds `weight_decay` times the parameters to the updates of `decayed` ones.

  As `optax.add_decayed_weights` with a mask, whose state would wrap another.
  """

  def decay(updates: PyTree, params: PyTree) -> PyTree:
    return jax.tree.map(
      lambda decays, u, p: u + weight_decay * p if decays else u,
      decayed(axes, params),
      updates,
      params,
    )

  return optax.stateless(decay)


def factored_dims(
  axes: Axes,
  shape: tuple[int, ...],
  min_dim_size_to_factor: int = MIN_DIM_SIZE_TO_FACTOR,
) -> tuple[int, int] | None:
  """Chooses the two dimensions of a parameter whose moments are factored.

  Args:
    axes: of the parameter.
    shape: of the parameter.
    min_dim_size_to_factor: a parameter whose second largest dimension (layers
      aside) is smaller is not factored.

  Returns:
    The dimension of the rows, which is the shorter one, and that of the
    columns; None for a parameter that keeps full second moments.
  """
  # Stable, so that of equal dimensions the first is that of the rows.
  dims = sorted(axes_lib.layer_dims(axes), key=lambda i: shape[i])
  if len(dims) < 2 or shape[dims[-2]] < min_dim_size_to_factor:
    return None
  return dims[-2], dims[-1]


def factored_axes(
  kind: str, axes: Axes, shape: tuple[int, ...], moment_shape: tuple[int, ...]
) -> Axes | None:
  """Returns the axes of a factored second moment.

  Args:
    kind: one of MOMENTS.
    axes: of the parameter.
    shape: of the parameter.
    moment_shape: of the moment. Of the three kinds, those that a parameter does
      not use are placeholders of shape (1,).

  Returns:
    The axes of rows or columns; None for anything else.
  """
  dims = factored_dims(axes, shape, min_dim_size_to_factor=1)
  if dims is None or kind not in ('v_row', 'v_col'):
    return None
  averaged = dims[1] if kind == 'v_row' else dims[0]
  kept = [i for i, _ in enumerate(shape) if i != averaged]
  if moment_shape != tuple(shape[i] for i in kept):
    return None
  return tuple(axes[i] for i in kept)


def scale_by_factored_rms(
  axes: ParamAxes, decay_rate: float, min_dim_size_to_factor: int
) -> optax.GradientTransformation:
  """Divides gradients by the root of their second moments, factored by layer.

  Args:
    axes: of the parameters.
    decay_rate: see `adafactor`.
    min_dim_size_to_factor: see `factored_dims`.
  """

  def zeros(axes: Axes, param: jax.Array) -> dict[str, jax.Array]:
    shape, dtype = param.shape, param.dtype
    moments = {kind: jnp.zeros((1,), dtype) for kind in MOMENTS}
    dims = factored_dims(axes, shape, min_dim_size_to_factor)
    if dims is None:
      return moments | {'v': jnp.zeros(shape, dtype)}
    row, column = dims
    without = lambda dim: (*shape[:dim], *shape[dim + 1 :])
    return moments | {
      'v_row': jnp.zeros(without(column), dtype),
      'v_col': jnp.zeros(without(row), dtype),
    }

  def init(params: PyTree) -> optax.FactoredState:
    moments = axes_lib.tree_map(zeros, axes, params)
    return _to_state(jnp.zeros((), jnp.int32), params, moments)

  def update(grads, state, params):
    # 0 in the first step, which takes the second moment of its gradient.
    decay = 1.0 - jnp.asarray(state.count + 1, jnp.float32) ** -decay_rate
    mix = lambda old, new: (decay * old + (1.0 - decay) * new).astype(old.dtype)

    def one(axes: Axes, grad, v_row, v_col, v):
      squares = jnp.square(grad) + _EPSILON
      dims = factored_dims(axes, grad.shape, min_dim_size_to_factor)
      if dims is None:
        v = mix(v, squares)
        return {
          'update': grad * v**-0.5,
          'v': v,
          'v_row': v_row,
          'v_col': v_col,
        }
      row, column = dims
      v_row = mix(v_row, jnp.mean(squares, axis=column))
      v_col = mix(v_col, jnp.mean(squares, axis=row))
      rows = jnp.expand_dims(v_row, column)
      columns = jnp.expand_dims(v_col, row)
      # The mean of the rows' moments is that of the columns': of the layer.
      row_factor = (rows / jnp.mean(rows, axis=row, keepdims=True)) ** -0.5
      scaled = grad * row_factor * columns**-0.5
      return {'update': scaled, 'v': v, 'v_row': v_row, 'v_col': v_col}

    results = axes_lib.tree_map(
      one, axes, grads, state.v_row, state.v_col, state.v
    )
    updates = jax.tree.map(lambda _, r: r['update'], grads, results)
    count = optax.safe_increment(state.count)
    return updates, _to_state(count, grads, results)

  return optax.GradientTransformation(init, update)


def clip_by_rms(
  axes: ParamAxes, threshold: float
) -> optax.GradientTransformation:
  """Bounds the root mean square of each layer's update of a parameter."""

  def clip(axes: Axes, update: jax.Array) -> jax.Array:
    return update / jnp.maximum(1.0, _rms(axes, update) / threshold)

  return optax.stateless(
    lambda updates, params: axes_lib.tree_map(clip, axes, updates)
  )


def scale_by_param_rms(axes: ParamAxes) -> optax.GradientTransformation:
  """Multiplies updates by the root mean square of each layer's parameter."""

  def scale(axes: Axes, update: jax.Array, param: jax.Array) -> jax.Array:
    return update * jnp.maximum(_rms(axes, param), _MIN_SCALE)

  return optax.stateless(
    lambda updates, params: axes_lib.tree_map(scale, axes, updates, params)
  )


def _rms(axes: Axes, x: jax.Array) -> jax.Array:
  """Root mean square of each layer, with all axes kept."""
  mean = jnp.mean(jnp.square(x), axis=axes_lib.layer_dims(axes), keepdims=True)
  return jnp.sqrt(mean)


def _to_state(
  count: jax.Array, like: PyTree, moments: Mapping[str, Any]
) -> optax.FactoredState:
  """Separates a tree of dicts of moments into a tree for each kind."""
  pick = lambda kind: jax.tree.map(lambda _, m: m[kind], like, moments)
  return optax.FactoredState(count, **{kind: pick(kind) for kind in MOMENTS})
