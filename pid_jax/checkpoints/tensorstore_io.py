# Copyright 2026 The pid_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""Arrays that orbax or T5X wrote, read one by one through TensorStore.

Orbax restores whole trees into the layout that they were saved in. Models must
also be read from other layouts (layers stacked or not, other names), straight
into their shards, so the arrays are opened one by one. Orbax's JSON file
`_METADATA` lists them.
"""

from collections.abc import Mapping
import functools
import json
import os
from typing import Any

from etils import epath
import numpy as np
import tensorstore as ts

from pid_jax import errors
from pid_jax import files
from pid_jax.checkpoints import tensors as tensors_lib

# Kinds of leaves that orbax stores as arrays.
_ARRAYS = ('jax.Array', 'np.ndarray', 'scalar')


def open_tree(path: epath.PathLike) -> dict[str, tensors_lib.Tensor]:
  """Opens a tree of arrays that orbax saved.

  Args:
    path: of the item, such as MODEL_DIR/checkpoints/100/params.

  Returns:
    'a/b/c' -> tensor, unread.

  Raises:
    UserError: there is none, or it is damaged.
  """
  path = absolute(path)
  if not path.is_dir():
    raise errors.UserError(f'There is no checkpoint at {path}.')
  try:
    metadata = json.loads((path / '_METADATA').read_text())
    leaves = [
      [str(key['key']) for key in leaf['key_metadata']]
      for leaf in metadata['tree_metadata'].values()
      if leaf['value_metadata']['value_type'] in _ARRAYS
    ]
  except FileNotFoundError as e:
    raise errors.UserError(
      f'{path} has no _METADATA: it is no checkpoint of orbax, or incomplete.'
    ) from e
  except (ValueError, KeyError, TypeError, AttributeError) as e:
    raise errors.UserError(f'{path}/_METADATA is damaged: {e}.') from e
  is_one_file = (path / 'manifest.ocdbt').exists()
  specs = {}
  for keys in leaves:
    file = '.'.join(keys)
    spec = {'driver': 'zarr', 'kvstore': _kvstore(path / file)}
    if is_one_file:
      base = {'driver': 'ocdbt', 'base': _kvstore(path), 'path': f'{file}/'}
      spec['kvstore'] = base
    if metadata.get('use_zarr3'):
      spec['driver'] = 'zarr3'
    else:
      spec['fill_missing_data_reads'] = not metadata.get(
        'store_array_data_equal_to_fill_value'
      )
    specs['/'.join(keys)] = spec
  return open_arrays(specs)


def open_arrays(
  specs: Mapping[str, Mapping[str, Any]],
) -> dict[str, tensors_lib.Tensor]:
  """Opens arrays through TensorStore; reads their shapes alone.

  Args:
    specs: name -> TensorStore's spec, with an absolute path.

  Raises:
    UserError: an array is not there or damaged; also while reading.
  """
  opening = {
    name: ts.open(dict(spec), open=True, read=True, context=_context())
    for name, spec in specs.items()
  }
  found, faults = {}, []
  for name, future in opening.items():
    try:
      found[name] = _of_store(name, future.result())
    except (ValueError, OSError) as e:
      faults.append(f'{name} ({_first_line(e)})')
  if faults:
    more = f' and {len(faults) - 1} more' if len(faults) > 1 else ''
    raise errors.UserError(
      f'The checkpoint is damaged or incomplete: {faults[0]}{more}.'
    )
  return found


def _of_store(name: str, store: ts.TensorStore) -> tensors_lib.Tensor:
  def read_into(out: np.ndarray, box: tensors_lib.Box) -> None:
    try:
      out[...] = store[box].read().result()
    except (ValueError, OSError) as e:
      raise errors.UserError(f'{name} is damaged: {_first_line(e)}.') from e

  dtype = store.dtype.numpy_dtype
  return tensors_lib.Tensor(name, tuple(store.shape), dtype, read_into)


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
  return str(e).strip().split('\n')[0]
