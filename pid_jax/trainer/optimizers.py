# Copyright 2026 The pid_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""The optimizers, each with T5's defaults, all with clipping of gradients.

All raise UserError for an argument of another type or out of its range.

An `Optimizer` is configured before the model exists (gin calls its factory).
Its `make` takes the logical axes of the model's parameters, from
`network.param_axes`, so that each layer is optimized separately, also where the
parameters of all layers are stacked (`scan_layers`).
"""

from collections.abc import Callable
from collections.abc import Mapping
import dataclasses
import math
import re
from typing import Any

import jax
import optax

from pid_jax import adafactor as adafactor_lib
from pid_jax import checks
from pid_jax import errors
from pid_jax.network import axes as axes_lib
from pid_jax.network.axes import ParamAxes
from pid_jax.trainer import schedules

PyTree = Any
Schedule = Callable[[jax.Array | int], jax.Array | float]


@dataclasses.dataclass(frozen=True)
class Optimizer:
  """An optimizer for any model, and the schedule inside it.

  Attributes:
    make: returns optax's transformation for parameters with the given axes.
    learning_rate: the schedule, for the logs.
    settings: 'name' and the arguments that made it, for the record of a run;
      empty: not known.
  """

  make: Callable[[ParamAxes], optax.GradientTransformationExtraArgs]
  learning_rate: Schedule
  settings: Mapping[str, Any] = dataclasses.field(default_factory=dict)


def _optimizer(make: Callable[..., Optimizer]) -> Callable[..., Optimizer]:
  """Decorates the functions below, which return an `Optimizer`."""
  return schedules.with_settings(
    make, lambda made, found: dataclasses.replace(made, settings=found)
  )


@_optimizer
def adafactor(
  learning_rate: Schedule | float,
  *,
  decay_rate: float = 0.8,
  clipping_threshold: float | None = 1.0,
  multiply_by_parameter_scale: bool = True,
  min_dim_size_to_factor: int = adafactor_lib.MIN_DIM_SIZE_TO_FACTOR,
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
    min_dim_size_to_factor: kernels with a smaller dimension keep full second
      moments.
    beta1: decay of a first moment; None keeps none.
    weight_decay: per step, not multiplied by the learning rate; of kernels and
      embeddings alone.
    max_grad_norm: clips the global norm of the gradient; None does not.
  """
  schedule = _as_schedule(learning_rate)
  checks.number('adafactor.decay_rate', decay_rate, above=0.0, most=1.0)
  _positive('adafactor.clipping_threshold', clipping_threshold)
  checks.boolean(
    'adafactor.multiply_by_parameter_scale', multiply_by_parameter_scale
  )
  checks.integer(
    'adafactor.min_dim_size_to_factor', min_dim_size_to_factor, least=1
  )
  if beta1 is not None:
    checks.number('adafactor.beta1', beta1, 0.0, below=1.0)
  if weight_decay is not None:
    checks.number('adafactor.weight_decay', weight_decay, 0.0, below=1.0)

  def make(axes: ParamAxes) -> optax.GradientTransformation:
    return adafactor_lib.adafactor(
      axes,
      schedule,
      decay_rate=decay_rate,
      clipping_threshold=clipping_threshold,
      multiply_by_parameter_scale=multiply_by_parameter_scale,
      min_dim_size_to_factor=min_dim_size_to_factor,
      beta1=beta1,
      weight_decay=weight_decay,
    )

  return _finish(make, schedule, max_grad_norm)


@_optimizer
def adamw(
  learning_rate: Schedule | float,
  *,
  beta1: float = 0.9,
  beta2: float = 0.999,
  eps: float = 1e-8,
  weight_decay: float = 0.0,
  nesterov: bool = False,
  max_grad_norm: float | None = 1.0,
  multipliers: Mapping[str, float] | None = None,
) -> Optimizer:
  """Adam with decoupled weight decay of kernels and embeddings.

  Scales of norms and relative position biases do not decay.

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
  checks.number('adamw.beta1', beta1, 0.0, below=1.0)
  checks.number('adamw.beta2', beta2, 0.0, below=1.0)
  checks.number('adamw.eps', eps, above=0.0, most=1.0)
  checks.number('adamw.weight_decay', weight_decay, 0.0, most=1e6)
  checks.boolean('adamw.nesterov', nesterov)

  def make(axes: ParamAxes) -> optax.GradientTransformation:
    return optax.adamw(
      schedule,
      b1=beta1,
      b2=beta2,
      eps=eps,
      weight_decay=weight_decay,
      mask=lambda params: adafactor_lib.decayed(axes, params),
      nesterov=nesterov,
    )

  return _finish(make, schedule, max_grad_norm, multipliers)


@_optimizer
def muon(
  learning_rate: Schedule | float,
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
  """Muon (optax.contrib) for kernels of layers, Adam for everything else.

  Adam is for embeddings, an untied head, scales of norms and relative position
  biases. With `consistent_rms` the updates of both have about Adam's size, so
  that one learning rate serves both. `multipliers` are those of `adamw`, and
  so is what `weight_decay` applies to.
  """
  # Imported here: optax.contrib loads three dozen optimizers.
  from optax import contrib

  schedule = _as_schedule(learning_rate)
  checks.number('muon.beta', beta, 0.0, below=1.0)
  checks.integer('muon.ns_steps', ns_steps, 1, 100)
  checks.number('muon.weight_decay', weight_decay, 0.0, most=1e6)
  _positive('muon.consistent_rms', consistent_rms)
  checks.number('muon.adam_beta1', adam_beta1, 0.0, below=1.0)
  checks.number('muon.adam_beta2', adam_beta2, 0.0, below=1.0)

  def make(axes: ParamAxes) -> optax.GradientTransformation:
    is_kernel = lambda a: axes_lib.role(a) is axes_lib.Role.KERNEL

    def labels(params: PyTree) -> PyTree:
      return axes_lib.tree_map(
        lambda a, _: 'muon' if is_kernel(a) else 'adam', axes, params
      )

    def dimension_numbers(kernels: PyTree) -> PyTree:
      # Other dimensions, that of stacked layers, are optax's batch.
      return axes_lib.tree_map(
        lambda a, _: contrib.MuonDimensionNumbers(
          axes_lib.input_dim(a), axes_lib.output_dim(a)
        ),
        axes,
        kernels,
      )

    mask = lambda params: adafactor_lib.decayed(axes, params)
    # As `contrib.muon`, which would decay all that it leaves to Adam. The state
    # has the structure of that one's.
    return optax.partition(
      {
        'muon': optax.chain(
          contrib.scale_by_muon(
            ns_steps=ns_steps,
            beta=beta,
            weight_dimension_numbers=dimension_numbers,
          ),
          _scale_by_shape(axes, consistent_rms),
          optax.add_decayed_weights(weight_decay, mask),
          optax.scale_by_learning_rate(schedule),
        ),
        'adam': optax.chain(
          optax.scale_by_adam(adam_beta1, adam_beta2, nesterov=True),
          adafactor_lib.decay_weights(axes, weight_decay),
          optax.scale_by_learning_rate(schedule),
        ),
      },
      labels,
    )

  return _finish(make, schedule, max_grad_norm, multipliers)


def state_axes(
  opt_state: PyTree, params: PyTree, axes: ParamAxes
) -> dict[str, axes_lib.Axes]:
  """Returns the logical axes of an optimizer's state.

  Args:
    opt_state: of any optax transformation, arrays or ShapeDtypeStructs.
    params: that it belongs to, nested dict.
    axes: of the parameters.

  Returns:
    Path -> axes, of the moments. Counters and placeholders have no entry.
  """
  shapes = {
    axes_lib.path_name(path): leaf.shape
    for path, leaf in jax.tree_util.tree_leaves_with_path(params)
  }
  table = {}
  for path, leaf in jax.tree_util.tree_leaves_with_path(opt_state):
    # A state holds trees like the parameters': 'mu', 'v_row' and others.
    for start in range(1, len(path)):
      param = axes_lib.path_name(path[start:])
      if param not in axes:
        continue
      found = axes[param]
      if leaf.shape != shapes[param]:
        kind = axes_lib.path_name(path[start - 1 : start])
        found = adafactor_lib.factored_axes(
          kind, axes[param], shapes[param], leaf.shape
        )
      if found is not None:
        table[axes_lib.path_name(path)] = found
      break
  return table


def _scale_by_shape(
  axes: ParamAxes, consistent_rms: float | None
) -> optax.GradientTransformation:
  """Gives orthogonal updates of kernels [in, out] their size.

  Args:
    axes: of the parameters.
    consistent_rms: the root mean square of each update (arXiv 2502.16982, with
      0.2 for that of Adam's); None keeps the size of hidden states when widths
      change (as in the first Muon).
  """

  def scale(axes: axes_lib.Axes, update: jax.Array) -> jax.Array:
    fan_in = update.shape[axes_lib.input_dim(axes)]
    fan_out = update.shape[axes_lib.output_dim(axes)]
    if consistent_rms is None:
      return math.sqrt(max(1, fan_out / fan_in)) * update
    return math.sqrt(max(fan_in, fan_out)) * consistent_rms * update

  return optax.stateless(
    lambda updates, params: axes_lib.tree_map(scale, axes, updates)
  )


def _multiply(multipliers: Mapping[str, float]) -> optax.GradientTransformation:
  """Scales the updates of parameters by their paths."""

  def scale(updates: PyTree, params: PyTree | None = None) -> PyTree:
    del params

    def one(path, update):
      name = axes_lib.path_name(path)
      for pattern, factor in multipliers.items():
        if re.search(pattern, name):
          update = update * factor
      return update

    return jax.tree_util.tree_map_with_path(one, updates)

  return optax.stateless(scale)


def _finish(
  make: Callable[[ParamAxes], optax.GradientTransformation],
  schedule: Schedule,
  max_grad_norm: float | None,
  multipliers: Mapping[str, float] | None = None,
) -> Optimizer:
  """Adds what all optimizers have in common; checks its values."""
  _positive('max_grad_norm', max_grad_norm)
  checks.mapping(
    'multipliers',
    {} if multipliers is None else multipliers,
    'a dictionary from a regular expression to a factor',
  )
  for pattern, factor in (multipliers or {}).items():
    checks.number(f'multipliers[{checks.shown(pattern)}]', factor, 0.0, 1e6)
    try:
      re.compile(checks.string('a key of multipliers', pattern))
    except re.error as e:
      raise errors.UserError(
        f'multipliers: {checks.shown(pattern)} is no regular expression: {e}.'
      ) from e

  def make_all(axes: ParamAxes) -> optax.GradientTransformationExtraArgs:
    parts = [make(axes)]
    if multipliers:
      parts.append(_multiply(multipliers))
    if max_grad_norm is not None:
      parts.insert(0, optax.clip_by_global_norm(max_grad_norm))
    return optax.chain(*parts)

  return Optimizer(make_all, schedule)


def _as_schedule(learning_rate: Schedule | float) -> Schedule:
  if callable(learning_rate):
    return learning_rate
  return schedules.constant(learning_rate)


def _positive(name: str, value: float | None) -> None:
  """Checks a number that is above 0, or None."""
  if value is not None:
    checks.number(name, value, above=0.0, most=1e30)
