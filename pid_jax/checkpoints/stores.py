# Copyright 2026 The pid_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""Arrays that orbax or T5X wrote, read one by one through TensorStore.

Orbax restores whole trees into the layout that they were saved in. Models must
also be read from other layouts (layers stacked or not, other names), straight
to the right shards: so the arrays are opened one by one. What is in the files
is found out from orbax's metadata.
"""

from collections.abc import Mapping
import functools
import json
import os
from typing import Any

from etils import epath
import numpy as np
import orbax.checkpoint as ocp
import tensorstore as ts

from pid_jax import errors
from pid_jax.checkpoints import tensors as tensors_lib


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
    tree = ocp.PyTreeCheckpointHandler().metadata(path).tree
  except (OSError, ValueError, KeyError, TypeError) as e:
    raise errors.UserError(f'{path} is damaged: {_first_line(e)}.') from e
  if not tree:
    raise errors.UserError(f'{path} is no checkpoint of orbax, or not whole.')
  is_one_file = (path / 'manifest.ocdbt').exists()
  own = _own_metadata(path)
  driver = 'zarr3' if own.get('use_zarr3') else 'zarr'
  omits_zeros = not own.get('store_array_data_equal_to_fill_value')
  found = {}
  for name, leaf in tensors_lib.flatten(tree).items():
    if getattr(leaf, 'shape', None) is None:
      continue  # A number, a string, or an empty dict.
    file = name.replace('/', '.')
    if is_one_file:
      base = {'driver': 'ocdbt', 'base': _kvstore(path), 'path': f'{file}/'}
    else:
      base = _kvstore(path / file)
    spec = {'driver': driver, 'kvstore': base}
    if driver == 'zarr':
      spec['fill_missing_data_reads'] = omits_zeros
    found[name] = open_array(name, spec, tuple(leaf.shape), leaf.dtype)
  return found


def open_array(
  name: str, spec: Mapping[str, Any], shape: tuple[int, ...], dtype: Any
) -> tensors_lib.Tensor:
  """A tensor that TensorStore reads.

  Args:
    name: for messages.
    spec: TensorStore's, with an absolute path.
    shape: that the array is said to have.
    dtype: that it is said to have.

  Raises:
    UserError: while reading: the array is damaged, or not as it is said to be.
  """

  @functools.cache
  def opened() -> ts.TensorStore:
    store = ts.open(dict(spec), open=True, read=True, context=_context())
    store = store.result()
    if tuple(store.shape) != shape:
      raise ValueError(f'it is {tuple(store.shape)}, not {shape}')
    return store

  def read_into(out: np.ndarray, box: tensors_lib.Box) -> None:
    try:
      out[...] = opened()[box].read().result()
    except ValueError as e:
      raise errors.UserError(
        f'{name} in {spec["kvstore"]} is damaged: {_first_line(e)}.'
      ) from e

  return tensors_lib.Tensor(name, shape, np.dtype(dtype), read_into)


def zarr_spec(path: epath.Path, *, omits_zeros: bool) -> dict[str, Any]:
  """TensorStore's spec of a zarr array in a folder of its own.

  Args:
    path: of the folder.
    omits_zeros: whether a missing file of the array stands for zeros, or means
      that the checkpoint is not whole.
  """
  return {
    'driver': 'zarr',
    'kvstore': _kvstore(path),
    'fill_missing_data_reads': omits_zeros,
  }


def absolute(path: epath.PathLike) -> epath.Path:
  """Makes a path absolute, as orbax demands."""
  path = epath.Path(path)
  if path.is_absolute():  # As gs://... is; Path.absolute would not know.
    return path
  return epath.Path(os.path.abspath(path))


def _kvstore(path: epath.Path) -> dict[str, str]:
  text = os.fspath(path).rstrip('/')
  if text.startswith('gs://'):
    bucket, _, rest = text.removeprefix('gs://').partition('/')
    return {'driver': 'gcs', 'bucket': bucket, 'path': f'{rest}/'}
  return {'driver': 'file', 'path': f'{text}/'}


def _own_metadata(path: epath.Path) -> dict[str, Any]:
  file = path / '_METADATA'
  return json.loads(file.read_text()) if file.exists() else {}


@functools.cache
def _context() -> ts.Context:
  # No cache: what is read once goes to its place and is not wanted again.
  return ts.Context({'cache_pool': {'total_bytes_limit': 0}})


def _first_line(e: Exception) -> str:
  return str(e).strip().split('\n')[0]
