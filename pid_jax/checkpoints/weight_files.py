# Copyright 2026 The pid_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""The weights in a Hugging Face folder: one file, or parts and an index."""

from collections.abc import Callable
from collections.abc import Mapping
import json
import math
import os
from typing import Any

from etils import epath

from pid_jax import checks
from pid_jax import errors
from pid_jax import files as files_lib
from pid_jax import strict_json
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
# Weights of other kinds: pattern -> what wrote them.
_OTHERS = {
  'tf_model.h5': 'TensorFlow',
  'tf_model-*.h5': 'TensorFlow',
  'saved_model.pb': 'TensorFlow',
  'flax_model*.msgpack': 'Flax',
  '*.onnx': 'ONNX',
  'onnx/*.onnx': 'ONNX',
  '*.gguf': 'GGUF',
  'rust_model.ot': 'Rust',
  'openvino_*.xml': 'OpenVINO',
  'adapter_model.*': 'PEFT',
}
# transformers' own default.
SHARD_BYTES = 5 * 10**9


def check_kind(path: epath.Path) -> None:
  """Raises UserError if a folder holds an adapter, which is no whole model."""
  if (path / 'adapter_config.json').exists():
    raise errors.UserError(
      f'{path} is an adapter of PEFT, which changes the weights of another '
      'model. Merge the two first, in Python: '
      'peft.AutoPeftModelForSeq2SeqLM.from_pretrained(DIR)'
      '.merge_and_unload().save_pretrained(NEW_DIR); its tokenizer belongs '
      'beside it.'
    )


def describe_others(path: epath.Path) -> str:
  """Names weights in a folder that are of a kind which is not read, or ''."""
  found = []
  for pattern, kind in _OTHERS.items():
    found += [f'{p.name} ({kind})' for p in sorted(path.glob(pattern))[:2]]
  if not found:
    return ''
  return (
    f' It holds {", ".join(found)}, which cannot be read: get the safetensors '
    'of the model, or save them with the library that wrote these.'
  )


def open_weights(path: epath.Path) -> dict[str, Tensor]:
  """Opens the weights of a folder, none of which are read.

  Raises:
    UserError: there are none, or they are damaged or incomplete.
  """
  for name, open_file in WEIGHTS.items():
    if _is_there(path / name):
      return open_file(path / name)
    index = path / f'{name}.index.json'
    if _is_there(index):
      return _open_shards(index, open_file)
  raise errors.UserError(
    f'{path} has none of {", ".join(WEIGHTS)}, nor an index of their parts.'
    f'{describe_others(path)}'
  )


def _is_there(file: epath.Path) -> bool:
  """Whether a name is taken, also by a link to what is not there."""
  return os.path.lexists(file) or file.exists()


def _open_shards(
  index: epath.Path, open_file: Callable[[epath.Path], dict[str, Tensor]]
) -> dict[str, Tensor]:
  """Opens the files that an index names, and holds it to what they hold."""
  content = strict_json.read_object(index, 'the index of weights')
  files = content.get('weight_map')
  if not isinstance(files, dict) or not files:
    raise errors.UserError(f'{index} is damaged: it has no weight_map.')
  for file in files.values():
    # A link may lead out of the folder, as in Hugging Face's cache; a name not.
    is_name = isinstance(file, str) and file == epath.Path(file).name
    if not is_name or file in ('', '.', '..') or '\0' in file:
      raise errors.UserError(
        f'{index} names a file outside its folder: {checks.shown(file)}'
      )
  with files_lib.explained(f'cannot read a file that {index} names'):
    missing = [
      checks.shown(file)
      for file in sorted(set(files.values()))
      if not (index.parent / file).exists()
    ]
  if missing:
    raise errors.UserError(
      f'{index} names {len(missing)} files that are not there: '
      f'{", ".join(missing[:8])}. Download them again.'
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


def write_json(path: epath.Path, content: Mapping[str, Any]) -> None:
  """Writes a JSON object."""
  path.write_text(json.dumps(content, indent=2) + '\n')
