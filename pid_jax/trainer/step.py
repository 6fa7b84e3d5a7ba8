# Copyright 2026 The pid_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""The train state, and one step of training as a pure function.

Master weights are float32 whatever the activations are. All randomness of a
step is drawn from one key folded with the step's number, so that a run resumed
from a checkpoint draws the same numbers.
"""

from collections.abc import Callable
import functools
from typing import Any

from clu import metrics as clu_metrics
import flax
import jax
import jax.numpy as jnp
import optax

from pid_jax import model as model_lib
from pid_jax import partitioning
from pid_jax.network import axes as axes_lib
from pid_jax.network import precision
from pid_jax.trainer import optimizers

PyTree = Any


@flax.struct.dataclass
class TrainState:
  """What a step changes.

  Attributes:
    step: int32 scalar, the number of updates made.
    params: float32 nested dict.
    opt_state: optax's.
    ema_params: float32, exponential moving average of `params`, or None.
  """

  step: jax.Array
  params: PyTree
  opt_state: PyTree
  ema_params: PyTree | None = None

  @property
  def eval_params(self) -> PyTree:
    """The parameters to evaluate and to serve."""
    return self.params if self.ema_params is None else self.ema_params


def initial_state(
  model: model_lib.EncoderDecoderModel,
  optimizer: optimizers.Optimizer,
  rng: jax.Array,
  ema: bool = False,
) -> TrainState:
  """Builds the state before the first step."""
  params = model.get_initial_variables(rng)['params']
  params = jax.tree.map(lambda p: p.astype(jnp.float32), params)
  return state_from_params(model, optimizer, params, ema)


def state_from_params(
  model: model_lib.EncoderDecoderModel,
  optimizer: optimizers.Optimizer,
  params: PyTree,
  ema: bool = False,
) -> TrainState:
  """Builds the state before the first step of training given parameters."""
  transformation = optimizer.make(model.param_axes)
  return TrainState(
    step=jnp.zeros((), jnp.int32),
    params=params,
    opt_state=transformation.init(params),
    # Copies: two leaves of one donated state must not share a buffer.
    ema_params=jax.tree.map(jnp.copy, params) if ema else None,
  )


def abstract_state(
  model: model_lib.EncoderDecoderModel,
  optimizer: optimizers.Optimizer,
  partitioner: partitioning.Partitioner,
  ema: bool = False,
) -> TrainState:
  """Shapes, dtypes and formats of the state; allocates nothing.

  Returns:
    A TrainState of ShapeDtypeStructs with formats.

  Raises:
    UserError: the mesh does not divide the model.
  """
  partitioner.check_model(model.module.config)
  axes = model.param_axes
  params = axes_lib.abstract_params(model.module)
  param_formats = partitioner.formats(params, axes)
  with partitioner.scope():
    state = jax.eval_shape(
      functools.partial(state_from_params, model, optimizer, ema=ema), params
    )
  formats = TrainState(
    step=partitioner.replicated,
    params=param_formats,
    opt_state=partitioner.formats(
      state.opt_state, optimizers.state_axes(state.opt_state, params, axes)
    ),
    ema_params=param_formats if ema else None,
  )
  return jax.tree.map(
    lambda leaf, form: jax.ShapeDtypeStruct(
      leaf.shape, leaf.dtype, sharding=form
    ),
    state,
    formats,
  )


def train_step(
  state: TrainState,
  batch: model_lib.Batch,
  *,
  model: model_lib.EncoderDecoderModel,
  optimizer: optimizers.Optimizer,
  rng: jax.Array,
  num_microbatches: int = 1,
  ema_decay: float | None = None,
) -> tuple[TrainState, dict[str, clu_metrics.Metric]]:
  """One update.

  Args:
    state: before the update.
    batch: features of a training batch, [B, ...].
    model: gives the loss.
    optimizer: gives the update.
    rng: the run's key; folded with the step here.
    num_microbatches: parts that the batch is cut into, whose gradients are
      added; the update is that of the whole batch.
    ema_decay: of the moving average of parameters, if the state holds one.
      Early on it is less, (1 + step) / (10 + step), to forget the beginning.

  Returns:
    The state after the update; metrics to be merged over steps.
  """
  rng = jax.random.fold_in(rng, state.step)
  grads, metrics = gradients(model, state.params, batch, rng, num_microbatches)
  transformation = optimizer.make(model.param_axes)
  with precision.scope(model.module.config):  # Muon multiplies matrices.
    updates, opt_state = transformation.update(
      grads, state.opt_state, state.params
    )
  params = optax.apply_updates(state.params, updates)
  ema_params = state.ema_params
  if ema_params is not None:
    step = state.step.astype(jnp.float32)
    decay = jnp.minimum(ema_decay, (1 + step) / (10 + step))
    ema_params = optax.incremental_update(params, ema_params, 1 - decay)
  metrics['grad_norm'] = _average(_global_norm(grads))
  metrics['learning_rate'] = _average(optimizer.learning_rate(state.step))
  return TrainState(state.step + 1, params, opt_state, ema_params), metrics


def gradients(
  model: model_lib.EncoderDecoderModel,
  params: PyTree,
  batch: model_lib.Batch,
  rng: jax.Array,
  num_microbatches: int = 1,
) -> tuple[PyTree, dict[str, clu_metrics.Metric]]:
  """Gradients of a batch's loss, the batch taken in parts.

  Each part's summed loss is divided by the normalizer of the whole batch, so
  the sum of the parts' gradients is the gradient of the whole.

  Args:
    model: gives the loss.
    params: where.
    batch: features, [B, ...], B a multiple of num_microbatches.
    rng: a key for dropout.
    num_microbatches: the number of parts.

  Returns:
    Gradients as a tree like params, and the metrics of the whole batch.
  """
  grad_fn = jax.grad(model.loss_fn, has_aux=True)
  if num_microbatches == 1:
    return grad_fn(params, batch, rng)
  _, normalizer = model.loss_weights(batch)
  # Round-robin, so that a part spans all data shards as the batch does.
  parts = jax.tree.map(
    lambda x: x.reshape((-1, num_microbatches) + x.shape[1:]).swapaxes(0, 1),
    dict(batch),
  )

  def accumulate(carry, part_and_index):
    part, index = part_and_index
    part_rng = jax.random.fold_in(rng, index)
    grads, metrics = grad_fn(params, part, part_rng, normalizer)
    total_grads, total_metrics = carry
    total_grads = jax.tree.map(jnp.add, total_grads, grads)
    return (total_grads, merge(total_metrics, metrics)), None

  first = jax.tree.map(lambda x: x[0], parts)
  zeros = jax.tree.map(
    lambda x: jnp.zeros(x.shape, x.dtype),
    jax.eval_shape(grad_fn, params, first, rng, normalizer),
  )
  indices = jnp.arange(num_microbatches)
  (grads, metrics), _ = jax.lax.scan(accumulate, zeros, (parts, indices))
  return grads, metrics


def merge(
  a: dict[str, clu_metrics.Metric], b: dict[str, clu_metrics.Metric]
) -> dict[str, clu_metrics.Metric]:
  """Merges metrics of two batches by name."""
  return {name: metric.merge(b[name]) for name, metric in a.items()}


def jit_train_step(
  model: model_lib.EncoderDecoderModel,
  optimizer: optimizers.Optimizer,
  partitioner: partitioning.Partitioner,
  state: TrainState,
  *,
  seed: int,
  num_microbatches: int = 1,
  ema_decay: float | None = None,
) -> Any:
  """The step, jitted over the mesh, with the old state's memory reused.

  To be traced in the partitioner's scope.

  Args:
    model: gives the loss.
    optimizer: gives the update.
    partitioner: gives the mesh.
    state: arrays or ShapeDtypeStructs with formats, as `abstract_state`.
    seed: of all randomness in training.
    num_microbatches: see `train_step`.
    ema_decay: see `train_step`.

  Returns:
    What jax.jit returns of (state, batch) -> (state, metrics).
  """

  def step(state, batch):
    return train_step(
      state,
      batch,
      model=model,
      optimizer=optimizer,
      rng=jax.random.key(seed),
      num_microbatches=num_microbatches,
      ema_decay=ema_decay,
    )

  formats = jax.tree.map(lambda leaf: leaf.format, state)
  return jax.jit(
    step,
    in_shardings=(formats, partitioner.batch_sharding),
    out_shardings=(formats, partitioner.replicated),
    donate_argnums=(0,),
  )


def compile_train_step(
  model: model_lib.EncoderDecoderModel,
  optimizer: optimizers.Optimizer,
  partitioner: partitioning.Partitioner,
  state: TrainState,
  **options: Any,
) -> Callable[..., tuple[TrainState, dict[str, clu_metrics.Metric]]]:
  """Returns (state, batch) -> (state, metrics), compiled when first called.

  Arguments are those of `jit_train_step`.
  """
  jitted = jit_train_step(model, optimizer, partitioner, state, **options)

  def call(state, batch):
    with partitioner.scope():
      return jitted(state, batch)

  return call


def _global_norm(tree: PyTree) -> jax.Array:
  squares = [jnp.sum(jnp.square(leaf)) for leaf in jax.tree.leaves(tree)]
  return jnp.sqrt(sum(squares))


def _average(value: jax.Array) -> clu_metrics.Average:
  return clu_metrics.Average(total=value, count=jnp.ones((), jnp.float32))
