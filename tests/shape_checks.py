# Copyright 2026 The pid_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""The type checker of shape annotations, which conftest.py switches on.

`jaxtyping` calls it for every function of pid_jax.network and pid_jax.decoding,
and for the constructors of their dataclasses.
"""

import functools

import beartype
import jax
import numpy as np

# NumPy arrays count as the JAX arrays that they become.
_CONF = beartype.BeartypeConf(
  hint_overrides=beartype.FrozenDict({np.ndarray: np.ndarray | jax.Array})
)


def typechecked(function):
  """Checks arguments and results against annotations, by beartype.

  Constructors are checked only where all fields are JAX arrays: JAX rebuilds
  dataclasses with whatever `jax.tree.map` gives it, such as shardings.
  Functions without arrays check the values of users themselves.

  Args:
    function: a stub with the signature to check, made by jaxtyping.

  Returns:
    The function to call instead.
  """
  annotations = function.__annotations__.values()
  if not any('jaxtyping' in repr(x) for x in annotations):
    return function
  checked = beartype.beartype(function, conf=_CONF)

  @functools.wraps(function)
  def check(*args, **kwargs):
    if function.__name__ == '__init__' and not _are_arrays((args[1:], kwargs)):
      return function(*args, **kwargs)
    return checked(
      *map(_as_jax, args), **{k: _as_jax(v) for k, v in kwargs.items()}
    )

  return check


def _are_arrays(tree) -> bool:
  leaves = jax.tree.leaves(tree)
  return bool(leaves) and all(isinstance(leaf, jax.Array) for leaf in leaves)


def _as_jax(x):
  # `jnp.asarray` would compile a program for each shape.
  return jax.device_put(x) if isinstance(x, np.ndarray | np.generic) else x
