# Copyright 2026 The pid_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""Logical axes of the parameters: what each axis of a parameter means.

A kernel of one layer is ('embed', 'mlp'); with `scan_layers` the kernels of all
layers are one array, ('embed', 'layers', 'mlp'). Rank and shape cannot tell
these apart, so nothing else in the package looks at them: partitioning,
optimizers, checkpoints and quantization all read the table that `param_axes`
makes of a network.

The network declares the axes where it declares its parameters, by Flax's
`param_with_axes` and `scan_with_axes`, with T5X's names.
"""

from collections.abc import Callable
from collections.abc import Mapping
from collections.abc import Sequence
import enum
import functools
from typing import Any

import flax
from flax import linen as nn
from flax.linen import partitioning as nn_partitioning
import jax
import jax.numpy as jnp

PyTree = Any
Axes = tuple[str, ...]
# 'encoder/layers_0/mlp/wo/kernel' -> ('mlp', 'embed').
ParamAxes = Mapping[str, Axes]

# The axis along which scanned layers are stacked, and where it is: T5X's.
LAYERS = 'layers'
STACK_AXIS = 1


class Role(enum.Enum):
  """What a parameter does in the network."""

  EMBEDDING = 'embedding'  # Looked up, a row for each token.
  HEAD = 'head'  # Maps the last hidden states to logits.
  KERNEL = 'kernel'  # Multiplied with activations inside a layer.
  SCALE = 'scale'  # One factor for each feature.
  POSITION_BIAS = 'position_bias'  # Added to the logits of attention.


def abstract_params(module: nn.Module) -> PyTree:
  """Returns the shapes and dtypes of a network's parameters.

  Args:
    module: a `pid_jax.network.Transformer`.

  Returns:
    The nested dict of the 'params' collection, of ShapeDtypeStructs.
  """
  return flax.core.unfreeze(_abstract_variables(module)['params'])


def param_axes(module: nn.Module) -> dict[str, Axes]:
  """Returns the logical axes of a network's parameters.

  Args:
    module: a `pid_jax.network.Transformer`.

  Returns:
    Path -> axes, one entry for each parameter.

  Raises:
    ValueError: a parameter does not declare its axes.
  """
  return variables_axes(_abstract_variables(module))


def variables_axes(variables: Mapping[str, Any]) -> dict[str, Axes]:
  """As `param_axes`, of the variables that a module's `init` returned.

  Args:
    variables: with the collections 'params' and 'params_axes'.
  """
  names = nn_partitioning.get_axis_names(variables.get('params_axes', {}))
  declared = {
    path_name(path): tuple(axes)
    for path, axes in jax.tree_util.tree_leaves_with_path(
      flax.core.unfreeze(names),
      is_leaf=lambda x: isinstance(x, jax.sharding.PartitionSpec),
    )
  }
  table = {}
  for path, leaf in jax.tree_util.tree_leaves_with_path(variables['params']):
    name = path_name(path)
    if len(declared.get(name, ())) != len(leaf.shape):
      raise ValueError(
        f'{name} of shape {leaf.shape} has the logical axes '
        f'{declared.get(name)}: declare one for each of its axes, with '
        'flax.linen.partitioning.param_with_axes.'
      )
    table[name] = declared[name]
  return table


@functools.lru_cache(maxsize=64)
def _abstract_variables(module: nn.Module) -> Mapping[str, Any]:
  # Parameters do not depend on the shape of the inputs. Nothing is allocated,
  # the key included: it would be put on the mesh of the caller's scope.
  key = jax.eval_shape(jax.random.key, 0)
  tokens = jax.ShapeDtypeStruct((1, 8), jnp.int32)
  init = functools.partial(module.init, enable_dropout=False)
  return jax.eval_shape(init, key, tokens, tokens)


def path_name(path: Sequence[Any]) -> str:
  """Returns 'a/b/c' for a path of `jax.tree_util`."""
  return jax.tree_util.keystr(path, simple=True, separator='/')


def tree_map(
  fn: Callable[..., Any], axes: ParamAxes, tree: PyTree, *rest: PyTree
) -> PyTree:
  """Maps `fn(axes, leaf, *leaves)` over a tree of parameters, or trees like it.

  Args:
    fn: gets the axes of a parameter, then its leaf of each tree.
    axes: of the parameters.
    tree: nested dict, as the 'params' collection or a part of it.
    *rest: trees of the same structure, or with subtrees for its leaves.

  Returns:
    A tree of the structure of `tree`.
  """
  return jax.tree_util.tree_map_with_path(
    lambda path, *leaves: fn(axes[path_name(path)], *leaves), tree, *rest
  )


def role(axes: Axes) -> Role:
  """Tells from its axes what a parameter does."""
  of_layer = without_layers(axes)
  if 'relpos_buckets' in of_layer:
    return Role.POSITION_BIAS
  if of_layer[0] == 'vocab':
    return Role.EMBEDDING
  if of_layer[-1] == 'vocab':
    return Role.HEAD
  return Role.KERNEL if len(of_layer) > 1 else Role.SCALE


def without_layers(axes: Axes) -> Axes:
  """Axes of one layer's part of a parameter, or of the whole if not stacked."""
  return tuple(axis for axis in axes if axis != LAYERS)


def with_layers(axes: Axes) -> Axes:
  """Axes of the parameters of all layers, stacked."""
  return (*axes[:STACK_AXIS], LAYERS, *axes[STACK_AXIS:])


def layer_dims(axes: Axes) -> tuple[int, ...]:
  """Positions of the axes that belong to one layer: all but 'layers'."""
  return tuple(i for i, axis in enumerate(axes) if axis != LAYERS)


def input_dim(axes: Axes) -> int:
  """Position of a kernel's (or head's) axis that a product sums over."""
  return layer_dims(axes)[0]


def output_dim(axes: Axes) -> int:
  """Position of a kernel's (or head's) axis that a product leaves."""
  return layer_dims(axes)[-1]


def transpose(x: jax.Array, axes: Axes, wanted: Axes) -> jax.Array:
  """Reorders the axes of an array from `axes` to `wanted`."""
  return jnp.transpose(x, [axes.index(axis) for axis in wanted])
