# Copyright 2026 The pid_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""The optimizers, each with T5's defaults, all with clipping of gradients.

They are optax's; what is added is a name for the learning rate, so that it can
be shown in the logs, and the same order of arguments everywhere.
"""

from collections.abc import Callable
from collections.abc import Mapping
import dataclasses
import re
from typing import Any

import jax
import optax

from pid_jax.trainer import schedules

PyTree = Any


@dataclasses.dataclass(frozen=True)
class Optimizer:
  """A gradient transformation and the schedule inside it.

  Attributes:
    transformation: optax's.
    learning_rate: the schedule, for the logs.
  """

  transformation: optax.GradientTransformationExtraArgs
  learning_rate: schedules.Schedule


def adafactor(
  learning_rate: schedules.Schedule | float,
  *,
  decay_rate: float = 0.8,
  clipping_threshold: float | None = 1.0,
  multiply_by_parameter_scale: bool = True,
  min_dim_size_to_factor: int = 128,
  beta1: float | None = None,
  weight_decay: float | None = None,
  max_grad_norm: float | None = None,
) -> Optimizer:
  """T5's: second moments factored into rows and columns, no first moment.

  Arguments have the names of T5X's Adafactor. With
  `multiply_by_parameter_scale` the learning rate is relative to each
  parameter's root mean square: T5 fine-tunes at a constant 1e-3.

  Args:
    learning_rate: a schedule, or a number for a constant one.
    decay_rate: second moments decay as 1 - (step + 1) ** -decay_rate.
    clipping_threshold: bound on the root mean square of each update.
    multiply_by_parameter_scale: see above.
    min_dim_size_to_factor: kernels with a smaller second dimension keep full
      second moments.
    beta1: decay of a first moment; None keeps none.
    weight_decay: per step, not multiplied by the learning rate.
    max_grad_norm: clips the global norm of the gradient; None does not.
  """
  schedule = _as_schedule(learning_rate)
  transformation = optax.adafactor(
    learning_rate=schedule,
    min_dim_size_to_factor=min_dim_size_to_factor,
    decay_rate=decay_rate,
    multiply_by_parameter_scale=multiply_by_parameter_scale,
    clipping_threshold=clipping_threshold,
    momentum=beta1,
    weight_decay_rate=weight_decay,
  )
  return _finish(transformation, schedule, max_grad_norm)


def adamw(
  learning_rate: schedules.Schedule | float,
  *,
  beta1: float = 0.9,
  beta2: float = 0.999,
  eps: float = 1e-8,
  weight_decay: float = 0.0,
  nesterov: bool = False,
  max_grad_norm: float | None = 1.0,
  multipliers: Mapping[str, float] | None = None,
) -> Optimizer:
  """Adam with decoupled weight decay on matrices (not on norms' scales).

  Adam moves every number by about the learning rate in each step, whatever its
  size. Relative position biases, which act in units, need many more steps at
  that pace than kernels, whose numbers are hundredths; Adafactor's parameter
  scale evens this out, and so do multipliers.

  Args:
    learning_rate: a schedule, or a number for a constant one.
    beta1: decay of the first moment.
    beta2: decay of the second moment.
    eps: added to the root of the second moment.
    weight_decay: multiplied by the learning rate.
    nesterov: whether to use Nesterov momentum.
    max_grad_norm: clips the global norm of the gradient; None does not.
    multipliers: from a regular expression to the factor by which the learning
      rate of parameters is multiplied whose path, such as
      'encoder/relpos_bias/rel_embedding', it matches somewhere.
  """
  schedule = _as_schedule(learning_rate)
  transformation = optax.adamw(
    schedule,
    b1=beta1,
    b2=beta2,
    eps=eps,
    weight_decay=weight_decay,
    mask=_matrices,
    nesterov=nesterov,
  )
  return _finish(transformation, schedule, max_grad_norm, multipliers)


def muon(
  learning_rate: schedules.Schedule | float,
  *,
  beta: float = 0.95,
  ns_steps: int = 5,
  weight_decay: float = 0.0,
  consistent_rms: float | None = 0.2,
  adam_beta1: float = 0.9,
  adam_beta2: float = 0.999,
  max_grad_norm: float | None = 1.0,
  multipliers: Mapping[str, float] | None = None,
) -> Optimizer:
  """Muon (optax.contrib) for kernels; Adam for embeddings and vectors.

  With `consistent_rms` the updates of both have about Adam's size, so that one
  learning rate serves both. `multipliers` are those of `adamw`.
  """
  # Imported here: optax.contrib loads three dozen optimizers.
  from optax import contrib

  schedule = _as_schedule(learning_rate)
  dimensions = contrib.MuonDimensionNumbers(reduction_axis=0, output_axis=1)

  def weight_dimension_numbers(params: PyTree) -> PyTree:
    def choose(path, leaf):
      name = jax.tree_util.keystr(path, simple=True, separator='/')
      is_kernel = name.endswith('kernel') and 'logits_dense' not in name
      return dimensions if is_kernel and leaf.ndim == 2 else None

    return jax.tree_util.tree_map_with_path(choose, params)

  transformation = contrib.muon(
    schedule,
    beta=beta,
    ns_steps=ns_steps,
    weight_decay=weight_decay,
    weight_decay_mask=_matrices,
    consistent_rms=consistent_rms,
    adam_b1=adam_beta1,
    adam_b2=adam_beta2,
    adam_weight_decay=weight_decay,
    muon_weight_dimension_numbers=weight_dimension_numbers,
  )
  return _finish(transformation, schedule, max_grad_norm, multipliers)


def _multiply(multipliers: Mapping[str, float]) -> optax.GradientTransformation:
  """Scales the updates of parameters by their paths."""

  def scale(updates: PyTree, params: PyTree | None = None) -> PyTree:
    del params

    def one(path, update):
      name = jax.tree_util.keystr(path, simple=True, separator='/')
      for pattern, factor in multipliers.items():
        if re.search(pattern, name):
          update = update * factor
      return update

    return jax.tree_util.tree_map_with_path(one, updates)

  return optax.stateless(scale)


def _finish(
  transformation: optax.GradientTransformation,
  schedule: schedules.Schedule,
  max_grad_norm: float | None,
  multipliers: Mapping[str, float] | None = None,
) -> Optimizer:
  parts = [transformation]
  if multipliers:
    parts.append(_multiply(multipliers))
  if max_grad_norm is not None:
    parts.insert(0, optax.clip_by_global_norm(max_grad_norm))
  return Optimizer(optax.chain(*parts), schedule)


def _as_schedule(
  learning_rate: schedules.Schedule | float,
) -> Callable[[Any], Any]:
  if callable(learning_rate):
    return learning_rate
  return schedules.constant(learning_rate)


def _matrices(params: PyTree) -> PyTree:
  return jax.tree.map(lambda p: p.ndim > 1, params)
