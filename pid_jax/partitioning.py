# Copyright 2026 The pid_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""Which device holds which piece of an array.

The network names the axes of its parameters once ('embed', 'joined_kv', ...);
here those names meet a mesh of devices. The rules are T5X's, so that a
configuration tuned there means the same here. Everything else (the trainer,
evaluation, checkpoints) asks a `Partitioner` and never builds a sharding.
"""

from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence
import contextlib
import dataclasses
import functools
import math
from typing import Any

import flax
from flax.linen import partitioning as flax_partitioning
import jax
import numpy as np

from pid_jax import errors

PyTree = Any
LogicalAxisRules = Sequence[tuple[str, str | None]]

DATA_AXIS = 'data'
MODEL_AXIS = 'model'


def standard_logical_axis_rules(
  activation_partitioning_dims: int = 1,
  parameter_partitioning_dims: int = 1,
  additional_rules: LogicalAxisRules = (),
) -> LogicalAxisRules:
  """T5X's standard table of logical axis -> mesh axis.

  Args:
    activation_partitioning_dims: 2 splits the embedding axis of activations
      over 'model' too.
    parameter_partitioning_dims: 2 splits the embedding axis of parameters and
      optimizer state over 'data' too (fully sharded parameters).
    additional_rules: appended to the table.

  Returns:
    A sequence of (logical axis, mesh axis or None), first match wins.

  Raises:
    UserError: when either number is neither 1 nor 2.
  """
  for dims in (activation_partitioning_dims, parameter_partitioning_dims):
    if dims not in (1, 2):
      raise errors.UserError(
        'activation_partitioning_dims and parameter_partitioning_dims must be '
        f'1 or 2, got {dims}.'
      )
  rules = [
    ('batch', DATA_AXIS),
    ('vocab', MODEL_AXIS),
    ('mlp', MODEL_AXIS),
    ('heads', MODEL_AXIS),
    ('joined_kv', MODEL_AXIS),
    ('kv', None),
  ]
  if activation_partitioning_dims == 2:
    rules.append(('embed', MODEL_AXIS))
  if parameter_partitioning_dims == 2:
    rules.append(('embed', DATA_AXIS))
  rules += [
    ('embed', None),
    ('relpos_buckets', None),
    ('length', None),
    ('layers', None),
    ('stack', None),
    ('mlp_activations', None),
  ]
  return tuple(rules) + tuple(additional_rules)


@dataclasses.dataclass(frozen=True)
class Partitioner:
  """A ('data', 'model') mesh over all devices and the rules of its use.

  Attributes:
    num_partitions: devices that share one copy of the parameters (the size of
      the 'model' axis); the others of the mesh form the 'data' axis.
    logical_axis_rules: see `standard_logical_axis_rules`.
    devices: defaults to all devices of all processes.
  """

  num_partitions: int = 1
  logical_axis_rules: LogicalAxisRules = dataclasses.field(
    default_factory=standard_logical_axis_rules
  )
  devices: Sequence[jax.Device] | None = None

  @functools.cached_property
  def mesh(self) -> jax.sharding.Mesh:
    devices = self.devices or jax.devices()
    if len(devices) % self.num_partitions:
      raise errors.UserError(
        f'{len(devices)} devices cannot be split into groups of '
        f'num_partitions={self.num_partitions}; choose a divisor of '
        f'{len(devices)}.'
      )
    grid = np.asarray(devices).reshape(-1, self.num_partitions)
    return jax.sharding.Mesh(grid, (DATA_AXIS, MODEL_AXIS))

  @property
  def num_data_shards(self) -> int:
    return self.mesh.shape[DATA_AXIS]

  @property
  def replicated(self) -> jax.sharding.NamedSharding:
    return jax.sharding.NamedSharding(self.mesh, jax.sharding.PartitionSpec())

  @property
  def batch_sharding(self) -> jax.sharding.NamedSharding:
    """Splits the first axis of every array of a batch over 'data'."""
    spec = jax.sharding.PartitionSpec(DATA_AXIS)
    return jax.sharding.NamedSharding(self.mesh, spec)

  @contextlib.contextmanager
  def scope(self) -> Iterator[None]:
    """Trace and run model code under this: names resolve to this mesh."""
    # Before jax.set_mesh came, a mesh was its own context.
    mesh = jax.set_mesh(self.mesh) if hasattr(jax, 'set_mesh') else self.mesh
    with (
      mesh,
      flax_partitioning.axis_rules(tuple(self.logical_axis_rules)),
    ):
      yield

  def check_batch_size(self, batch_size: int, num_microbatches: int = 1):
    """Raises UserError unless the mesh and the microbatches divide a batch."""
    pieces = self.num_data_shards * num_microbatches
    if batch_size % pieces:
      mesh = ', '.join(f'{k}={v}' for k, v in self.mesh.shape.items())
      micro = f' x {num_microbatches} microbatches' * (num_microbatches > 1)
      raise errors.UserError(
        f'The global batch of {batch_size} is not divisible by {pieces}: the '
        f'mesh has {self.num_data_shards} data shards{micro} ({mesh} over '
        f'{self.mesh.size} devices). Choose a multiple of {pieces}, or '
        'another Partitioner.num_partitions.'
      )

  def rows_of_processes(self, batch_size: int) -> dict[int, np.ndarray]:
    """Returns which rows of a batch of B each process holds, in rising order.

    Processes that share a row of the mesh hold the same ones.
    """
    if batch_size in self._known_rows:
      return self._known_rows[batch_size]
    rows: dict[int, set[int]] = {}
    places = self.batch_sharding.devices_indices_map((batch_size,))
    for device, (index,) in places.items():
      own = rows.setdefault(device.process_index, set())
      own.update(range(*index.indices(batch_size)))
    known = {process: np.array(sorted(own)) for process, own in rows.items()}
    self._known_rows[batch_size] = known
    return known

  @functools.cached_property
  def _known_rows(self) -> dict[int, dict[int, np.ndarray]]:
    return {}

  def put_batch(
    self, batch: Mapping[str, np.ndarray], batch_size: int | None = None
  ) -> dict[str, jax.Array]:
    """Moves this process's rows of a batch to its devices.

    Args:
      batch: arrays [b, ...], the same b rows for every feature: those of
        `rows_of_processes`.
      batch_size: B; None in a run of one process, which holds all rows.

    Returns:
      Global arrays [B, ...] with `batch_sharding`. Returns at once; the copy
      itself may still be running.
    """
    if jax.process_count() == 1:
      return jax.device_put(dict(batch), self.batch_sharding)
    rows = self.rows_of_processes(batch_size)[jax.process_index()]

    def put(value):
      def part(index):
        first, stop, _ = index[0].indices(batch_size)
        start = np.searchsorted(rows, first)
        return value[start : start + stop - first]

      return jax.make_array_from_callback(
        (batch_size, *value.shape[1:]), self.batch_sharding, part
      )

    return {name: put(value) for name, value in batch.items()}

  def param_shardings(self, params: PyTree, params_axes: PyTree) -> PyTree:
    """Shardings of the parameters by their logical axes.

    Args:
      params: nested dict of arrays or ShapeDtypeStructs.
      params_axes: Flax's 'params_axes' collection beside them; an empty one
        replicates everything.

    Returns:
      The tree of `params` with a NamedSharding at each leaf.

    Raises:
      UserError: naming the parameters whose shape the mesh does not divide.
    """
    if not params_axes:
      return jax.tree.map(lambda _: self.replicated, params)
    names = flax.core.unfreeze(flax_partitioning.get_axis_names(params_axes))
    is_names = lambda x: isinstance(x, jax.sharding.PartitionSpec)
    specs = jax.tree.map(
      lambda x: flax_partitioning.logical_to_mesh_axes(
        tuple(x), tuple(self.logical_axis_rules)
      ),
      names,
      is_leaf=is_names,
    )
    faults = []

    def to_sharding(path, leaf, spec):
      for size, axis in zip(leaf.shape, spec, strict=False):
        axes = axis if isinstance(axis, tuple) else (axis,)
        parts = math.prod(self.mesh.shape[a] for a in axes if a)
        if size % parts:
          name = jax.tree_util.keystr(path, simple=True, separator='/')
          faults.append(f'{name} {leaf.shape} by {parts} over {axis!r}')
      return jax.sharding.NamedSharding(self.mesh, spec)

    shardings = jax.tree_util.tree_map_with_path(to_sharding, params, specs)
    if faults:
      raise errors.UserError(
        f'The mesh {dict(self.mesh.shape)} does not divide: '
        + '; '.join(faults)
        + '. Choose a smaller Partitioner.num_partitions.'
      )
    return shardings

  def state_shardings(self, state: PyTree, param_shardings: PyTree) -> PyTree:
    """Shardings of a train state: each leaf as the parameter it belongs to.

    A leaf belongs to the parameter whose path ends its own path (Adam's
    `mu/encoder/...` to `encoder/...`) and takes its sharding if the ranks
    agree. Everything else, counters and Adafactor's factored rows and columns
    among them, is small and replicated.

    Args:
      state: any pytree of ShapeDtypeStructs or arrays.
      param_shardings: from `param_shardings`, a nested dict.

    Returns:
      The tree of `state` with a NamedSharding at each leaf.
    """
    by_path = {
      tuple(_key_name(k) for k in path): sharding
      for path, sharding in jax.tree_util.tree_leaves_with_path(param_shardings)
    }

    def to_sharding(path, leaf):
      names = tuple(_key_name(k) for k in path)
      for start in range(len(names)):
        sharding = by_path.get(names[start:])
        if sharding is not None and _fits(leaf.shape, sharding):
          return sharding
      return self.replicated

    return jax.tree_util.tree_map_with_path(to_sharding, state)


def _key_name(key) -> str:
  return jax.tree_util.keystr((key,), simple=True)


def _fits(shape: tuple[int, ...], sharding: jax.sharding.NamedSharding) -> bool:
  """Whether the sharding splits exactly these dimensions into whole parts."""
  if len(shape) != len(sharding.spec):
    return not sharding.spec  # A replicated sharding fits every shape.
  try:
    sharding.shard_shape(shape)
  except ValueError:
    return False
  return True
