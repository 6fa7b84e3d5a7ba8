# Copyright 2026 The pid_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""Programs of training and decoding, compiled ahead of time without arrays.

They are the programs of a run on the mesh that it would have: the same
functions, shapes and shardings. The devices may exist in name only; see
`topologies`.

Letters: B inputs, S input tokens, U prompts, P prompt tokens, T generated
tokens, R = B * U rows.
"""

from collections.abc import Callable
from collections.abc import Iterator
from collections.abc import Mapping
import dataclasses
import functools
import math
from typing import Any

import jax
import jax.numpy as jnp

from pid_jax import checkpoints
from pid_jax import config as config_lib
from pid_jax import decoding
from pid_jax import network
from pid_jax import partitioning
from pid_jax import platforms
from pid_jax.decoding import prefill as prefill_lib
from pid_jax.experiments import costs
from pid_jax.experiments import hlo
from pid_jax.experiments import layouts

PyTree = Any


@dataclasses.dataclass(frozen=True)
class Program:
  """A traced program, not compiled yet.

  Attributes:
    name: 'train', 'encode', 'prefill', 'step' or 'generate'.
    traced: by jax.jit.
    partitioner: of its mesh.
    resident: ShapeDtypeStructs of the parameters, and in training of all of the
      state, with their shardings.
    batch_size: B.
    compiler_options: of XLA.
  """

  name: str
  traced: jax.stages.Traced
  partitioner: partitioning.Partitioner
  resident: PyTree
  batch_size: int
  compiler_options: Mapping[str, Any] = dataclasses.field(default_factory=dict)

  def compile(self) -> jax.stages.Compiled:
    """Compiles for the devices of the mesh."""
    with self.partitioner.scope():
      return self.traced.lower().compile(dict(self.compiler_options))

  @property
  def resident_bytes(self) -> int:
    """Bytes of `resident` on one device."""
    return _device_bytes(self.resident)

  @property
  def least_bytes(self) -> int:
    """`resident_bytes`, in training with gradients: no batch needs less."""
    if self.name != 'train':
      return self.resident_bytes
    return self.resident_bytes + _device_bytes(self.resident.params)

  @property
  def flops(self) -> float:
    """FLOPs of all matrix products on all devices together."""
    return count_flops(self.traced.jaxpr.jaxpr)


def decode_programs(
  config: config_lib.T5Config,
  partitioner: partitioning.Partitioner,
  sizes: layouts.Sizes,
  param_dtype: Any = jnp.float32,
) -> Iterator[Program]:
  """Traces the phases of decoding, one after another.

  Args:
    config: of the model.
    partitioner: of the mesh.
    sizes: of the batch, as a layout decodes it (`layouts.Sizes.of`).
    param_dtype: of the parameters in memory.

  Yields:
    'encode', 'prefill' and 'step'.

  Raises:
    UserError: the mesh does not divide the model or the batch.
  """
  partitioner.check_batch_size(sizes.num_inputs)
  platform = platforms.of(partitioner.mesh)
  module = network.Transformer(config)
  params = checkpoints.abstract_params(config, partitioner, param_dtype)
  rows, cache_length = sizes.rows, sizes.cache_length
  ids = lambda *shape: jax.ShapeDtypeStruct(
    shape,
    jnp.int32,
    sharding=partitioner.batch_sharding if shape else partitioner.replicated,
  )

  def place(cache: network.KVCache) -> network.KVCache:
    """Adds the shardings of a cache by its logical axes."""
    return cache.map_with_axes(
      lambda x, names: jax.ShapeDtypeStruct(
        x.shape, x.dtype, sharding=partitioner.sharding(*names)
      )
    )

  inputs = ids(sizes.num_inputs, sizes.input_length)
  encode = functools.partial(prefill_lib.encode, module)
  with partitioner.scope():
    cross = place(jax.eval_shape(encode, params, inputs))
    cache = place(jax.eval_shape(lambda: module.init_cache(rows, cache_length)))
  shardings = lambda tree: jax.tree.map(lambda leaf: leaf.sharding, tree)
  after_step = (partitioner.sharding('batch', 'vocab'), shardings(cache))

  def trace(name: str, phase: Callable[..., Any], *args, **options) -> Program:
    # Parameters that a phase does not use are in memory all the same.
    jitted = jax.jit(phase, keep_unused=True, **options)
    with partitioner.scope():
      traced = jitted.trace(params, *args)
    return Program(
      name,
      traced,
      partitioner,
      params,
      sizes.num_inputs,
      platform.compiler_options,
    )

  yield trace('encode', encode, inputs, out_shardings=shardings(cross))
  yield trace(
    'prefill',
    functools.partial(prefill_lib.prefill, module, cache_length=cache_length),
    *(cross, ids(sizes.num_inputs, sizes.num_prompts, sizes.prompt_length)),
    out_shardings=after_step,
  )
  yield trace(
    'step',
    functools.partial(prefill_lib.decode_chunk, module),
    *(cross, cache, ids(rows, 1), ids()),
    out_shardings=after_step,
    donate_argnums=(2,),
  )


def generate_program(
  config: config_lib.T5Config,
  partitioner: partitioning.Partitioner,
  sizes: layouts.Sizes,
  param_dtype: Any = jnp.float32,
) -> Program:
  """Traces the whole of decoding as prediction runs it, greedily.

  Arguments are those of `decode_programs`.

  Raises:
    UserError: the mesh does not divide the model or the batch.
  """
  partitioner.check_batch_size(sizes.num_inputs)
  platform = platforms.of(partitioner.mesh)
  module = network.Transformer(config)
  params = checkpoints.abstract_params(config, partitioner, param_dtype)
  ids = lambda *shape: jax.ShapeDtypeStruct(
    (sizes.num_inputs, *shape),
    jnp.int32,
    sharding=partitioner.batch_sharding,
  )
  generate = functools.partial(
    decoding.generate,
    module,
    max_new_tokens=sizes.new_tokens,
    num_compactions=platform.num_compactions,
  )
  with partitioner.scope():
    traced = jax.jit(generate, out_shardings=partitioner.replicated).trace(
      params,
      ids(sizes.input_length),
      ids(sizes.num_prompts, sizes.prompt_length),
    )
  return Program(
    'generate',
    traced,
    partitioner,
    params,
    sizes.num_inputs,
    platform.compiler_options,
  )


def compile_phases(
  config: config_lib.T5Config,
  layout: str,
  sizes: layouts.Sizes,
  device: Any = None,
) -> dict[str, dict[str, float | None]]:
  """Compiles encode, prefill and step of a layout; returns what they cost.

  Args:
    config: of the model.
    layout: 'pid', 'pie' or 'joint'.
    sizes: of the job, the same for all layouts.
    device: to compile for, which may exist in name only; None: the default.

  Returns:
    'encode', 'prefill' and 'step' (one step) -> 'formula_flops',
    'formula_bytes', 'compiler_flops', 'compiler_bytes' (None where the compiler
    does not say), 'cycles', the compiler's estimates summed (0 but for TPUs;
    good for ratios of similar programs, no measurement), and 'largest',
    elements of the largest array without an axis of the vocabulary's size.
  """
  by_formula = costs.generate(config, layout, sizes)
  step = by_formula.steps[0] if by_formula.steps else costs.Work()
  formulas = by_formula.encode, by_formula.prefill, step
  partitioner = partitioning.Partitioner(devices=[device or jax.devices()[0]])
  programs = decode_programs(config, partitioner, sizes.of(layout))
  found = {}
  for program, formula in zip(programs, formulas, strict=True):
    compiled = program.compile()
    analysis, text = compiled.cost_analysis() or {}, compiled.as_text()
    found[program.name] = {
      'formula_flops': formula.flops,
      'formula_bytes': formula.bytes,
      'compiler_flops': analysis.get('flops'),
      'compiler_bytes': analysis.get('bytes accessed'),
      'cycles': hlo.summarise(text).cycles if 'cycles' in text else 0,
      'largest': hlo.largest_array(text, config.vocab_size),
    }
  return found


def train_program(
  arguments: Mapping[str, Any], partitioner: partitioning.Partitioner
) -> Program:
  """Traces the train step of a run.

  Args:
    arguments: of `trainer.train`.
    partitioner: of the mesh; replaces that of the run.

  Raises:
    UserError: as `trainer.train` does about mesh, model and batch.
  """
  # Not above: decoding needs none of TensorFlow, which the data brings along.
  from pid_jax.trainer import data
  from pid_jax.trainer import step as step_lib

  cfg = arguments['train_dataset_cfg']
  num_microbatches = arguments.get('num_microbatches', 1)
  partitioner.check_batch_size(cfg.batch_size, num_microbatches)
  model, optimizer = arguments['model'], arguments['optimizer']
  ema_decay = arguments.get('ema_decay')
  state = step_lib.abstract_state(
    model, optimizer, partitioner, ema=ema_decay is not None
  )
  step = step_lib.jit_train_step(
    model,
    optimizer,
    partitioner,
    state,
    seed=arguments.get('random_seed', 0),
    num_microbatches=num_microbatches,
    ema_decay=ema_decay,
  )
  batch = {
    name: jax.ShapeDtypeStruct(
      (cfg.batch_size, *shape), dtype, sharding=partitioner.batch_sharding
    )
    for name, (shape, dtype) in data.row_shapes(cfg).items()
  }
  with partitioner.scope():
    traced = step.trace(state, batch)
  return Program('train', traced, partitioner, state, cfg.batch_size)


def count_flops(jaxpr: Any) -> float:
  """Adds up the FLOPs of matrix products, those in loops as often as they run.

  Args:
    jaxpr: a jax.extend.core.Jaxpr. Loops of unknown length are counted once,
      of branches the costliest.

  Returns:
    FLOPs; a multiplication and an addition are two.
  """
  total = 0.0
  for eqn in jaxpr.eqns:
    name = eqn.primitive.name
    if name == 'dot_general':
      (contracted, _), _ = eqn.params['dimension_numbers']
      shape = eqn.invars[0].aval.shape
      depth = math.prod(shape[axis] for axis in contracted)
      if depth > 1:  # Else it spreads one number; no device multiplies.
        total += 2.0 * depth * math.prod(eqn.outvars[0].aval.shape)
      continue
    inner = [count_flops(sub) for sub in _inner(eqn.params.values())]
    if name == 'scan':
      total += eqn.params['length'] * sum(inner)
    elif name == 'cond':
      total += max(inner)
    else:
      total += sum(inner)
  return total


def _device_bytes(tree: PyTree) -> int:
  return sum(
    math.prod(leaf.sharding.shard_shape(leaf.shape)) * leaf.dtype.itemsize
    for leaf in jax.tree.leaves(tree)
  )


def _inner(values: Any) -> Iterator[Any]:
  """The jaxprs among the parameters of an equation."""
  for value in values:
    if isinstance(value, tuple | list):
      yield from _inner(value)
    elif hasattr(value, 'eqns'):
      yield value
    elif hasattr(value, 'jaxpr'):
      yield value.jaxpr
