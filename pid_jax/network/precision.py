# Copyright 2026 The pid_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""How exactly products of float32 numbers are computed.

XLA rounds the operands of such a product on GPUs and TPUs unless it is told not
to; docs/weights.md says to how many bits, for each value of
`T5Config.matmul_precision`. Sums are float32 everywhere, and products of
bfloat16 or int8 numbers exact: the setting does not concern them.

A context says it for all products that are traced in it, and their gradients. A
`jax.custom_vjp` is the exception: its backward pass is traced elsewhere, and
must enter the context of its forward pass again (`current`).
"""

from collections.abc import Callable
import contextlib
import functools
from typing import Any

import jax

from pid_jax import config as config_lib


def scope(
  config: config_lib.T5Config,
) -> contextlib.AbstractContextManager[Any]:
  """Returns the context in which a model's products are to be traced."""
  precision = config.matmul_precision
  if precision == 'auto':
    precision = config.dtype
  return jax.default_matmul_precision(precision)


def current() -> str | None:
  """Returns what `jax.default_matmul_precision` takes to enter the context."""
  return jax.config.jax_default_matmul_precision


def as_configured(method: Callable[..., Any]) -> Callable[..., Any]:
  """Decorates a method of a module with a `config`: runs it in its `scope`."""

  @functools.wraps(method)
  def wrapped(self, *args, **kwargs):
    with scope(self.config):
      return method(self, *args, **kwargs)

  return wrapped
