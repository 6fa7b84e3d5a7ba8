# Copyright 2026 The pid_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""Arrays in files, read lazily, straight into the shards of a mesh.

A model of many gigabytes must get from a file to its devices without being in
memory twice. So a checkpoint is opened as a dict of `Tensor`s, which know their
shapes, and nothing is read before all shapes have been compared. Transposing a
kernel, taking a layer out of a stack, or stacking layers makes another
`Tensor`; the work is done in small blocks while the bytes are read, in the
memory of the result.
"""

from collections.abc import Callable
from collections.abc import Mapping
from collections.abc import Sequence
from concurrent import futures
import dataclasses
import os
import threading
from typing import Any

from etils import epath
import jax
import jax.numpy as jnp
import numpy as np

from pid_jax import config
from pid_jax import errors

PyTree = Any
Box = tuple[slice, ...]  # One slice with start and stop for each axis.

DTYPES = {
  'float32': np.dtype(np.float32),
  'bfloat16': np.dtype(jnp.bfloat16),
}

_BLOCK_BYTES = 1 << 20  # What a thread reads at once: a part of its cache.
_STRIP_ROWS = 16  # Rows transposed at once: they stay in the first cache.
_NUM_THREADS = 4

_scratch = threading.local()


@dataclasses.dataclass(frozen=True)
class Tensor:
  """One array of a checkpoint.

  Attributes:
    name: what it is called there, for messages.
    shape: of the array.
    dtype: of its numbers there.
    read_into: fills an array of the shape of a box, of any dtype and strides,
      with that part of the tensor; may be called from several threads.
  """

  name: str
  shape: tuple[int, ...]
  dtype: np.dtype
  read_into: Callable[[np.ndarray, Box], None]

  @property
  def whole(self) -> Box:
    return tuple(slice(0, size) for size in self.shape)

  def read(self, box: Box | None = None, dtype: Any = None) -> np.ndarray:
    """Returns a part, or all, as a new array in C order."""
    box = self.whole if box is None else box
    out = _empty([s.stop - s.start for s in box], np.dtype(dtype or self.dtype))
    self.read_into(out, box)
    return out


def of_array(name: str, array: Any) -> Tensor:
  """A tensor that is in memory: a NumPy array, or an addressable JAX one."""

  def read_into(out: np.ndarray, box: Box) -> None:
    _copy(out, np.asarray(array)[box])

  return Tensor(name, tuple(array.shape), np.dtype(array.dtype), read_into)


def of_file(
  name: str,
  path: epath.Path,
  offset: int,
  shape: tuple[int, ...],
  dtype: np.dtype,
) -> Tensor:
  """A tensor whose bytes are in C order somewhere in a file.

  The file is read, not mapped: mapped pages would count as memory of this
  process for as long as the file is open.
  """
  rest = shape[1:]
  row_bytes = int(np.prod(rest, dtype=np.int64)) * dtype.itemsize

  def read_into(out: np.ndarray, box: Box) -> None:
    if not shape:
      out[()] = np.frombuffer(_pread(path, offset, dtype.itemsize), dtype)[0]
      return
    step = max(1, _BLOCK_BYTES // max(1, row_bytes))
    for start in range(box[0].start, box[0].stop, step):
      stop = min(start + step, box[0].stop)
      content = _pread(
        path, offset + start * row_bytes, (stop - start) * row_bytes
      )
      block = np.frombuffer(content, dtype).reshape(stop - start, *rest)
      first = start - box[0].start
      part = out[first : first + stop - start]
      _copy(part, block[(slice(None), *box[1:])])

  return Tensor(name, shape, dtype, read_into)


def transposed(tensor: Tensor) -> Tensor:
  """The tensor with its axes in reverse order."""

  def read_into(out: np.ndarray, box: Box) -> None:
    tensor.read_into(out.T, box[::-1])

  return dataclasses.replace(
    tensor, shape=tensor.shape[::-1], read_into=read_into
  )


def layer(tensor: Tensor, index: int, axis: int) -> Tensor:
  """Slice `index` of a tensor along an axis, without that axis."""

  def read_into(out: np.ndarray, box: Box) -> None:
    full = (*box[:axis], slice(index, index + 1), *box[axis:])
    tensor.read_into(np.expand_dims(out, axis), full)

  return dataclasses.replace(
    tensor,
    name=f'{tensor.name}[{":, " * axis}{index}]',
    shape=(*tensor.shape[:axis], *tensor.shape[axis + 1 :]),
    read_into=read_into,
  )


def stacked(layers: Sequence[Tensor], axis: int) -> Tensor:
  """Tensors of one shape, stacked along a new axis."""

  def read_into(out: np.ndarray, box: Box) -> None:
    within = (*box[:axis], *box[axis + 1 :])
    for i in range(box[axis].start, box[axis].stop):
      index = (slice(None),) * axis + (i - box[axis].start,)
      layers[i].read_into(out[index], within)

  first = layers[0]
  shape = (*first.shape[:axis], len(layers), *first.shape[axis:])
  return dataclasses.replace(first, shape=shape, read_into=read_into)


def reshaped(tensor: Tensor, shape: tuple[int, ...]) -> Tensor:
  """The numbers of a tensor in the same order, in another shape."""

  def read_into(out: np.ndarray, box: Box) -> None:
    _copy(out, tensor.read().reshape(shape)[box])

  return dataclasses.replace(tensor, shape=shape, read_into=read_into)


def equal(a: Tensor, b: Tensor) -> bool:
  """Whether two tensors hold the same numbers, bit by bit."""
  if a.shape != b.shape or a.dtype != b.dtype:
    return False
  row_bytes = int(np.prod(a.shape[1:], dtype=np.int64)) * a.dtype.itemsize
  step = max(1, _BLOCK_BYTES // max(1, row_bytes))
  for start in range(0, a.shape[0], step):
    rows = slice(start, min(start + step, a.shape[0]))
    box = (rows, *a.whole[1:])
    if a.read(box).tobytes() != b.read(box).tobytes():
      return False
  return True


def read_to_devices(
  sources: Mapping[str, Tensor],
  wanted: Mapping[str, jax.ShapeDtypeStruct],
  check: Callable[[str, np.ndarray], None] = lambda name, part: None,
) -> dict[str, jax.Array]:
  """Reads tensors to the devices that are to hold them, and no more of them.

  Args:
    sources: name -> tensor of the wanted shape.
    wanted: name -> shape, dtype and format.
    check: called with a name and the part that was read of it; may raise.

  Returns:
    name -> array. Each process has read the part that its devices hold.
  """

  def one(name: str) -> jax.Array:
    struct, source = wanted[name], sources[name]
    indices = struct.sharding.addressable_devices_indices_map(struct.shape)
    boxes = [
      tuple(
        slice(*s.indices(n)[:2])
        for s, n in zip(index, struct.shape, strict=True)
      )
      for index in indices.values()
    ]
    around = tuple(
      slice(min(s.start for s in axis), max(s.stop for s in axis))
      for axis in zip(*boxes, strict=True)
    )
    part = source.read(around, struct.dtype)
    check(name, part)

    def shard(index: Box) -> np.ndarray:
      inside = tuple(
        slice(s.indices(n)[0] - a.start, s.indices(n)[1] - a.start)
        for s, n, a in zip(index, struct.shape, around, strict=True)
      )
      return part[inside]

    return jax.make_array_from_callback(struct.shape, struct.format, shard)

  # The largest first, so that no thread is left with one at the end.
  names = sorted(
    wanted, key=lambda n: -np.prod(wanted[n].shape, dtype=np.int64)
  )
  with futures.ThreadPoolExecutor(_NUM_THREADS) as pool:
    return dict(zip(names, pool.map(one, names), strict=True))


def read_all(
  sources: Mapping[str, Tensor], dtype: np.dtype
) -> dict[str, np.ndarray]:
  """Reads tensors as NumPy arrays of one dtype."""
  with futures.ThreadPoolExecutor(_NUM_THREADS) as pool:
    arrays = pool.map(lambda tensor: tensor.read(dtype=dtype), sources.values())
    return dict(zip(sources, arrays, strict=True))


def is_finite(array: np.ndarray) -> bool:
  """Whether no number of a float32 or bfloat16 array is NaN or infinite."""
  if array.dtype == DTYPES['bfloat16']:  # NumPy adds these slowly.
    return not (array.view(np.uint16) & 0x7F80 == 0x7F80).any()
  with np.errstate(over='ignore', invalid='ignore'):
    return bool(np.isfinite(array.sum())) or bool(np.isfinite(array).all())


def flatten(tree: PyTree) -> dict[str, Any]:
  """Nested dicts (and lists) to 'a/b/c' -> leaf."""
  return {
    jax.tree_util.keystr(path, simple=True, separator='/'): leaf
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree)
  }


def parse_dtype(name: str) -> np.dtype:
  """Returns the dtype of weights by name.

  Raises:
    UserError: neither 'float32' nor 'bfloat16'.
  """
  return DTYPES[config.check_dtype('the dtype of weights', name)]


def _pread(path: epath.Path, offset: int, count: int) -> bytes | memoryview:
  """Reads bytes of a file; local, or gs://.

  Returns:
    The bytes; valid until this thread calls again.

  Raises:
    UserError: the file ends before.
  """
  if '://' in os.fspath(path):
    with path.open('rb') as f:
      f.seek(offset)
      content = f.read(count)
    done = len(content)
  else:
    # New memory for each block would cost more than reading it.
    if len(getattr(_scratch, 'buffer', b'')) < count:
      _scratch.buffer = bytearray(count)
    content, done = memoryview(_scratch.buffer)[:count], 0
    descriptor = os.open(path, os.O_RDONLY)
    try:
      while done < count:
        got = os.preadv(descriptor, [content[done:]], offset + done)
        if not got:
          break
        done += got
    finally:
      os.close(descriptor)
  if done < count:
    raise errors.UserError(f'{path} ends too early: it was cut, or changed.')
  return content


def _copy(out: np.ndarray, values: np.ndarray) -> None:
  """Copies with a change of dtype, fast where `out` is a transposed view."""
  if out.ndim < 2 or out.flags.c_contiguous:
    out[...] = values
    return
  if out.dtype == values.dtype == DTYPES['bfloat16']:
    out, values = out.view(np.uint16), values.view(np.uint16)
  for start in range(0, len(out), _STRIP_ROWS):
    strip = slice(start, start + _STRIP_ROWS)
    # Changing the dtype is fast on rows, transposing on strips.
    out[strip] = values[strip].astype(out.dtype, order='C', copy=False)


def _empty(shape: Sequence[int], dtype: np.dtype) -> np.ndarray:
  """An array that JAX's CPU back end uses without a copy."""
  size = int(np.prod(shape, dtype=np.int64)) * dtype.itemsize
  raw = np.empty(size + 64, np.uint8)
  start = -raw.ctypes.data % 64
  return raw[start : start + size].view(dtype).reshape(shape)
