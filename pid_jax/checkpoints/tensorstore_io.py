# Copyright 2026 The pid_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""Arrays that orbax or T5X wrote, read one by one through TensorStore.

Orbax restores whole trees into the layout that they were saved in. Models must
also be read from other layouts (layers stacked or not, other names), straight
into their shards, so the arrays are opened one by one. Orbax's JSON file
`_METADATA` lists them.

Orbax's arrays have no checksums: a flipped byte would give other numbers in
silence. So a tree that is complete is read back once, by `write_checksums`, and
the CRC-32 of every chunk is written beside it; each chunk that `open_tree`'s
tensors read is compared. What is compared are numbers, not files, so it costs
no second reading, and each process compares what it reads.
"""

from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence
import functools
import itertools
import json
import os
from typing import Any
import zlib

from etils import epath
import numpy as np
import tensorstore as ts

from pid_jax import errors
from pid_jax import files
from pid_jax import strict_json
from pid_jax.checkpoints import tensors as tensors_lib

CHECKSUMS_FILE = 'checksums.json'
_METADATA_FILE = '_METADATA'

# Kinds of leaves that orbax stores as arrays.
_ARRAYS = ('jax.Array', 'np.ndarray', 'scalar')
# Whatever TensorStore raises for a file that was changed.
_ERRORS = (ValueError, OSError, RuntimeError, NotImplementedError, MemoryError)


def open_tree(path: epath.PathLike) -> dict[str, tensors_lib.Tensor]:
  """Opens a tree of arrays that orbax saved.

  Args:
    path: of the item, such as MODEL_DIR/checkpoints/100/params.

  Returns:
    'a/b/c' -> tensor, unread. Reading it compares its checksums, where the tree
    has some.

  Raises:
    UserError: there is none, or it is damaged.
  """
  path = absolute(path)
  specs = _read_specs(path)
  recorded = _read_checksums(path / CHECKSUMS_FILE)
  return open_arrays(specs, path, recorded)


def write_checksums(path: epath.PathLike) -> None:
  """Reads a whole tree that orbax saved, and writes its checksums beside it.

  Args:
    path: of the item, complete; local, or gs://.

  Raises:
    UserError: an array cannot be read back.
  """
  path = absolute(path)
  found = {}
  for name, store in _open_stores(_read_specs(path), path).items():
    try:
      found[name] = [
        _checksum(store[box].read().result()) for box in _chunks(store)
      ]
    except _ERRORS as e:
      raise damaged(path, f'{name}: {_first_line(e)}') from e
  content = json.dumps({'crc32': found}, indent=1) + '\n'
  files.write(path / CHECKSUMS_FILE, content.encode())


def _read_specs(path: epath.Path) -> dict[str, dict[str, Any]]:
  """Returns 'a/b/c' -> TensorStore's spec, as the tree's metadata say."""
  if not path.is_dir():
    raise errors.UserError(f'There is no checkpoint at {path}.')
  check_regular(path)
  file = path / _METADATA_FILE
  if not file.exists():
    raise errors.UserError(
      f'{path} has no {_METADATA_FILE}: it is no checkpoint of orbax, or '
      'incomplete.'
    )
  try:
    metadata = strict_json.read_object(file, 'the metadata', allow_nan=True)
    leaves = [
      [str(key['key']) for key in leaf['key_metadata']]
      for leaf in metadata['tree_metadata'].values()
      if leaf['value_metadata']['value_type'] in _ARRAYS
    ]
  except errors.UserError as e:
    raise damaged(path, str(e)) from e
  except (KeyError, TypeError, AttributeError) as e:
    raise damaged(file, f'{type(e).__name__}: {e}') from e
  is_one_file = (path / 'manifest.ocdbt').exists()
  specs = {}
  for keys in leaves:
    name = '.'.join(keys)
    if '/' in name or name in ('', '.', '..'):  # It would lead elsewhere.
      raise damaged(file, f'an array cannot have the name {name[:60]!r}')
    spec = {'driver': 'zarr', 'kvstore': _kvstore(path / name)}
    if is_one_file:
      base = {'driver': 'ocdbt', 'base': _kvstore(path), 'path': f'{name}/'}
      spec['kvstore'] = base
    if metadata.get('use_zarr3'):
      spec['driver'] = 'zarr3'
    else:
      spec['fill_missing_data_reads'] = not metadata.get(
        'store_array_data_equal_to_fill_value'
      )
    specs['/'.join(keys)] = spec
  return specs


def check_regular(path: epath.Path) -> None:
  """Raises UserError for a FIFO or device in a folder, which may never end."""
  if files.is_remote(path):
    return
  for folder, _, file_names in os.walk(path):
    for name in file_names:
      files.check_regular(os.path.join(folder, name), 'the file')


def _read_checksums(file: epath.Path) -> dict[str, list[str]] | None:
  """Returns name -> checksums of its chunks; None: of a tree without any."""
  if not file.exists():  # Of orbax, T5X, or our versions before this file.
    return None
  try:
    content = strict_json.read_object(file, 'the checksums')
  except errors.UserError as e:
    raise damaged(file, str(e)) from e
  found = content.get('crc32')
  if not isinstance(found, dict) or not all(
    isinstance(values, list) for values in found.values()
  ):
    raise damaged(file, 'it has no list "crc32" for each array')
  return found


def open_arrays(
  specs: Mapping[str, Mapping[str, Any]],
  where: epath.PathLike,
  checksums: Mapping[str, Sequence[str]] | None = None,
) -> dict[str, tensors_lib.Tensor]:
  """Opens arrays through TensorStore; reads their shapes alone.

  Args:
    specs: name -> TensorStore's spec, with an absolute path.
    where: the checkpoint is, for messages.
    checksums: name -> those of all chunks; None: nothing is compared.

  Raises:
    UserError: an array is not there or damaged; also while reading.
  """
  found = {}
  for name, store in _open_stores(specs, where).items():
    recorded = None
    if checksums is not None:
      recorded = checksums.get(name, ())
      if len(recorded) != sum(1 for _ in _chunks(store)):
        raise damaged(where, f'{name} has other chunks than {CHECKSUMS_FILE}')
    found[name] = _of_store(name, store, where, recorded)
  return found


def _open_stores(
  specs: Mapping[str, Mapping[str, Any]], where: epath.PathLike
) -> dict[str, ts.TensorStore]:
  found, faults = {}, []
  try:
    opening = {
      name: ts.open(dict(spec), open=True, read=True, context=_context())
      for name, spec in specs.items()
    }
  except _ERRORS as e:
    raise damaged(where, _first_line(e)) from e
  for name, future in opening.items():
    try:
      found[name] = future.result()
    except _ERRORS as e:
      faults.append(f'{name} ({_first_line(e)})')
  if faults:
    more = f' and {len(faults) - 1} more' if len(faults) > 1 else ''
    raise damaged(where, f'incomplete, or unreadable: {faults[0]}{more}')
  return found


def _of_store(
  name: str,
  store: ts.TensorStore,
  where: epath.PathLike,
  checksums: Sequence[str] | None,
) -> tensors_lib.Tensor:
  compared = set()  # Chunks; of stacked layers, each is read for every layer.

  def read(out: np.ndarray, box: tensors_lib.Box) -> None:
    if checksums is None:
      out[...] = store[box].read().result()
      return
    reading = [
      (i, chunk, store[chunk].read())
      for i, chunk in enumerate(_chunks(store))
      if all(
        c.start < b.stop and b.start < c.stop
        for c, b in zip(chunk, box, strict=True)
      )
    ]
    for i, chunk, future in reading:
      part = future.result()
      if i not in compared:
        if _checksum(part) != checksums[i]:
          raise damaged(where, f'the checksum of {name} differs')
        compared.add(i)
      common = [
        slice(max(c.start, b.start), min(c.stop, b.stop))
        for c, b in zip(chunk, box, strict=True)
      ]
      out[_shifted(common, box)] = part[_shifted(common, chunk)]

  def read_into(out: np.ndarray, box: tensors_lib.Box) -> None:
    try:
      read(out, box)
    except errors.UserError:
      raise
    except _ERRORS as e:
      raise damaged(where, f'{name}: {_first_line(e)}') from e

  dtype = store.dtype.numpy_dtype
  return tensors_lib.Tensor(name, tuple(store.shape), dtype, read_into)


def _chunks(store: ts.TensorStore) -> Iterator[tensors_lib.Box]:
  """Yields the box of each stored chunk, in C order."""
  sizes = store.chunk_layout.read_chunk.shape if store.rank else ()
  return itertools.product(
    *(
      [slice(i, min(i + size, n)) for i in range(0, n, size)]
      for n, size in zip(store.shape, sizes, strict=True)
    )
  )


def _shifted(box: Sequence[slice], origin: tensors_lib.Box) -> tensors_lib.Box:
  """Returns a box relative to the start of another."""
  return tuple(
    slice(s.start - o.start, s.stop - o.start)
    for s, o in zip(box, origin, strict=True)
  )


def _checksum(array: np.ndarray) -> str:
  content = np.ascontiguousarray(array).reshape(-1).view(np.uint8)
  return f'{zlib.crc32(content):08x}'


def damaged(where: epath.PathLike, reason: str) -> errors.UserError:
  """Returns the error for a checkpoint whose files were cut or changed."""
  return errors.UserError(
    f'{where} is damaged: {reason}. Use another step of the model, or another '
    'copy of its folder.'
  )


def zarr_spec(path: epath.Path, *, omits_zeros: bool) -> dict[str, Any]:
  """Returns TensorStore's spec of a zarr array.

  Args:
    path: of the array's folder.
    omits_zeros: whether a missing file of the array stands for zeros, or means
      that the checkpoint is incomplete.
  """
  return {
    'driver': 'zarr',
    'kvstore': _kvstore(path),
    'fill_missing_data_reads': omits_zeros,
  }


def absolute(path: epath.PathLike) -> epath.Path:
  """Makes a path absolute, as orbax demands."""
  return files.absolute(path)


def _kvstore(path: epath.Path) -> dict[str, str]:
  text = os.fspath(path).rstrip('/')
  if text.startswith('gs://'):
    bucket, _, rest = text.removeprefix('gs://').partition('/')
    return {'driver': 'gcs', 'bucket': bucket, 'path': f'{rest}/'}
  return {'driver': 'file', 'path': f'{text}/'}


@functools.cache
def _context() -> ts.Context:
  # No cache: each array is read once.
  return ts.Context({'cache_pool': {'total_bytes_limit': 0}})


def _first_line(e: Exception) -> str:
  line = str(e).strip().split('\n')[0]
  return line if len(line) <= 160 else f'{line[:157]}...'
