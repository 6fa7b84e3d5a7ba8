# Copyright 2026 The pid_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""The weights in a Hugging Face folder: one file, or parts and an index."""

from collections.abc import Callable
from collections.abc import Mapping
import json
import math
from typing import Any

from etils import epath

from pid_jax import errors
from pid_jax.checkpoints import safetensors
from pid_jax.checkpoints import tensors as tensors_lib
from pid_jax.checkpoints import torch_files
from pid_jax.checkpoints.tensors import Tensor

SAFETENSORS = 'model.safetensors'
# What is looked for, in this order.
WEIGHTS = {
  SAFETENSORS: safetensors.open_file,
  'pytorch_model.bin': torch_files.open_file,
}
# transformers' own default.
SHARD_BYTES = 5 * 10**9


def open_weights(path: epath.Path) -> dict[str, Tensor]:
  """Opens the weights of a folder, none of which are read.

  Raises:
    UserError: there are none, or they are damaged or incomplete.
  """
  for name, open_file in WEIGHTS.items():
    if (path / name).exists():
      return open_file(path / name)
    index = path / f'{name}.index.json'
    if index.exists():
      return _open_shards(index, open_file)
  raise errors.UserError(
    f'{path} has none of {", ".join(WEIGHTS)}, nor an index of their parts. '
    'TensorFlow and Flax weights (tf_model.h5, flax_model.msgpack) are not '
    'read.'
  )


def _open_shards(
  index: epath.Path, open_file: Callable[[epath.Path], dict[str, Tensor]]
) -> dict[str, Tensor]:
  """Opens the files that an index names, and holds it to what they hold."""
  files = read_json(index).get('weight_map')
  if not isinstance(files, dict) or not files:
    raise errors.UserError(f'{index} is damaged: it has no weight_map.')
  for file in files.values():
    # A link may lead out of the folder, as in Hugging Face's cache; a name not.
    if file in ('', '.', '..') or file != epath.Path(str(file)).name:
      raise errors.UserError(f'{index} names a file outside its folder: {file}')
  missing = [
    file
    for file in sorted(set(files.values()))
    if not (index.parent / file).exists()
  ]
  if missing:
    raise errors.UserError(
      f'{index} names files that are not there: {", ".join(missing)}.'
    )
  found = {}
  for file in sorted(set(files.values())):
    for name, tensor in open_file(index.parent / file).items():
      if files.get(name) != file:
        raise errors.UserError(
          f'{index} does not say that {name} is in {file}: it belongs to other '
          'files.'
        )
      found[name] = tensor
  missing = sorted(set(files) - set(found))
  if missing:
    raise errors.UserError(
      f'{index} names tensors that its files lack: {", ".join(missing[:8])}.'
    )
  return found


def write_weights(
  folder: epath.Path,
  sources: Mapping[str, Tensor],
  dtype: str,
  shard_bytes: int,
) -> None:
  """Writes tensors as safetensors, with an index where one file is too small.

  Args:
    folder: where to.
    sources: name -> tensor.
    dtype: 'float32' or 'bfloat16'.
    shard_bytes: no file is larger, but for single tensors that are.
  """
  numbers = tensors_lib.parse_dtype(dtype)
  shards: list[dict[str, Tensor]] = [{}]
  size = 0
  for name, tensor in sources.items():
    count = math.prod(tensor.shape) * numbers.itemsize
    if shards[-1] and size + count > shard_bytes:
      shards.append({})
      size = 0
    shards[-1][name] = tensor
    size += count
  if len(shards) == 1:
    safetensors.write_file(folder / SAFETENSORS, shards[0], numbers)
    return
  stem = SAFETENSORS.removesuffix('.safetensors')
  index: dict[str, str] = {}
  for i, shard in enumerate(shards, start=1):
    file = f'{stem}-{i:05d}-of-{len(shards):05d}.safetensors'
    safetensors.write_file(folder / file, shard, numbers)
    index.update(dict.fromkeys(shard, file))
  total = sum(math.prod(t.shape) for t in sources.values()) * numbers.itemsize
  write_json(
    folder / f'{SAFETENSORS}.index.json',
    {'metadata': {'total_size': total}, 'weight_map': index},
  )


def read_json(path: epath.Path) -> dict[str, Any]:
  """Reads a JSON object.

  Raises:
    UserError: there is none, or it is damaged.
  """
  try:
    content = json.loads(path.read_text())
  except (OSError, ValueError, RecursionError) as e:
    raise errors.UserError(f'cannot read {path}: {e}.') from e
  if not isinstance(content, dict):
    raise errors.UserError(f'{path} is damaged: it holds no JSON object.')
  return content


def write_json(path: epath.Path, content: Mapping[str, Any]) -> None:
  """Writes a JSON object."""
  path.write_text(json.dumps(content, indent=2) + '\n')
