# Copyright 2026 The pid_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""The safetensors file format, read with distrust and written in a stream.

A file is the length of its header (8 bytes, little endian), the header, JSON
that gives each tensor's dtype, shape and offset, and the tensors' bytes.
Nothing in it is ever executed. Everything that the header claims is checked
against the size of the file before any of it is believed.

https://github.com/huggingface/safetensors describes the format.
"""

from collections.abc import Mapping
import json
import math
import os
import struct
from typing import Any

from etils import epath
import jax.numpy as jnp
import numpy as np

from pid_jax import checks
from pid_jax import errors
from pid_jax import files
from pid_jax import strict_json
from pid_jax.checkpoints import tensors as tensors_lib

DTYPES = {
  'F64': np.dtype('<f8'),
  'F32': np.dtype('<f4'),
  'F16': np.dtype('<f2'),
  'BF16': np.dtype(jnp.bfloat16),
  'I64': np.dtype('<i8'),
  'I32': np.dtype('<i4'),
  'I16': np.dtype('<i2'),
  'I8': np.dtype('i1'),
  'U8': np.dtype('u1'),
  'BOOL': np.dtype('?'),
}
_NAMES = {dtype: name for name, dtype in DTYPES.items()}
_MAX_HEADER = 100_000_000  # As in the reference implementation.


def open_file(path: epath.PathLike) -> dict[str, tensors_lib.Tensor]:
  """Reads the header of a file.

  Args:
    path: local, or gs://.

  Returns:
    name -> tensor, unread.

  Raises:
    UserError: the header is damaged, or does not agree with the file.
  """
  path = files.check_regular(path, 'the weights')
  with files.explained(f'cannot read {path}'):
    size, _ = files.stat(path)
    with path.open('rb') as f:
      start = f.read(8)
      length = struct.unpack('<Q', start)[0] if len(start) == 8 else None
      if length is None or length > min(_MAX_HEADER, size - 8):
        raise _damaged(path, 'the header is longer than the file')
      content = f.read(length)
  try:
    header = strict_json.parse(content, 'the header')
    if not isinstance(header, dict):
      raise errors.UserError(f'the header is {strict_json.kind(header)}')
    header.pop('__metadata__', None)
    entries = sorted(
      (_parse(name, entry) for name, entry in header.items()),
      key=lambda entry: entry[3:],
    )
  except errors.UserError as e:
    raise _damaged(path, str(e).rstrip('.')) from e
  end = 0
  for name, dtype, shape, first, last in entries:
    if first != end or last - first != math.prod(shape) * dtype.itemsize:
      raise _damaged(
        path,
        f'{checks.shown(name)} is said to be {dtype} '
        f'{checks.shown(list(shape))} in bytes {first} to {last} of the data, '
        f'which begin at {end}',
      )
    end = last
  if 8 + length + end != size:
    raise _damaged(
      path, f'its tensors end at byte {8 + length + end}, the file at {size}'
    )
  return {
    name: tensors_lib.of_file(name, path, 8 + length + first, shape, dtype)
    for name, dtype, shape, first, _ in entries
  }


def write_file(
  path: epath.PathLike,
  sources: Mapping[str, tensors_lib.Tensor],
  dtype: np.dtype,
) -> None:
  """Writes tensors in one dtype, one after another.

  Args:
    path: local, or gs://. An existing file is overwritten.
    sources: name -> tensor.
    dtype: of all numbers in the file.
  """
  header: dict[str, Any] = {'__metadata__': {'format': 'pt'}}
  end = 0
  for name, tensor in sources.items():
    count = math.prod(tensor.shape) * dtype.itemsize
    header[name] = {
      'dtype': _NAMES[dtype],
      'shape': list(tensor.shape),
      'data_offsets': [end, end + count],
    }
    end += count
  content = json.dumps(header, separators=(',', ':')).encode()
  content += b' ' * (-len(content) % 8)
  with epath.Path(path).open('wb') as f:
    f.write(struct.pack('<Q', len(content)) + content)
    for tensor in sources.values():
      f.write(memoryview(tensor.read(dtype=dtype).reshape(-1).view(np.uint8)))
    f.flush()
    if '://' not in os.fspath(path):
      os.fsync(f.fileno())


def _parse(name: str, entry: Any) -> tuple[Any, ...]:
  """Returns name, dtype, shape, start and end of a tensor, checked."""
  where = checks.shown(name)
  if not isinstance(entry, dict):
    raise errors.UserError(f'{where} is {strict_json.kind(entry)}')
  kind = checks.one_of(f'the dtype of {where}', entry.get('dtype'), [*DTYPES])
  shape, offsets = entry.get('shape'), entry.get('data_offsets')
  if not isinstance(shape, list) or not isinstance(offsets, list):
    raise errors.UserError(f'{where} has no list for its shape or its offsets')
  if len(offsets) != 2:
    raise errors.UserError(f'{where} has {len(offsets)} offsets')
  for number in (*shape, *offsets):
    checks.integer(f'a size or offset of {where}', number, 0)
  return name, DTYPES[kind], tuple(shape), *offsets


def _damaged(path: epath.Path, what: str) -> errors.UserError:
  return errors.UserError(
    f'{path} is damaged or no safetensors file: {what}. Download it again.'
  )
