# Copyright 2026 The pid_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""Weights that PyTorch pickled, read by PyTorch, as data alone.

A pickle can run any code. `weights_only=True` makes PyTorch refuse all but
tensors, so these files need PyTorch to be read; safetensors need nothing.
"""

import os

from etils import epath
import jax.numpy as jnp
import numpy as np

from pid_jax import errors
from pid_jax import files
from pid_jax.checkpoints import tensors as tensors_lib


def open_file(path: epath.PathLike) -> dict[str, tensors_lib.Tensor]:
  """Maps a file into memory; pages come in as they are read.

  Args:
    path: local.

  Returns:
    name -> tensor, unread.

  Raises:
    UserError: PyTorch is not installed, the file is damaged, or it holds more
      than tensors.
  """
  path = files.check_regular(path, 'the weights')
  try:
    import torch
  except ImportError as e:
    raise errors.UserError(
      f'{path} needs PyTorch to be read: install torch, or get the '
      'model.safetensors of the model, which needs nothing.'
    ) from e
  if '://' in os.fspath(path):
    raise errors.UserError(f'{path} is not local: copy it here first.')
  try:
    state = _load(torch, path)
    tensors = {name: _tensor(torch, name, x) for name, x in state.items()}
  except Exception as e:  # Whatever a damaged file makes PyTorch raise.
    # PyTorch's own words advise to switch weights_only off, which runs code.
    reason = str(e).strip().split('\n')[0][:160]
    is_told = reason and 'weights' not in reason.lower()
    raise errors.UserError(
      f'{path} is damaged, or holds more than tensors'
      f'{f" ({reason})" if is_told else ""}; what is not a tensor is never '
      'loaded, since it could run code. Download it again, or get the '
      'model.safetensors of the model.'
    ) from e
  return tensors


def _load(torch, path: epath.Path):
  try:
    return torch.load(path, map_location='cpu', weights_only=True, mmap=True)
  except RuntimeError as e:
    if 'mmap can only be used' not in str(e):  # A file of before PyTorch 1.6.
      raise
    return torch.load(path, map_location='cpu', weights_only=True)


def _tensor(torch, name: str, tensor) -> tensors_lib.Tensor:
  if not isinstance(tensor, torch.Tensor) or not isinstance(name, str):
    raise TypeError(f'{name} is no tensor')
  if tensor.dtype == torch.bfloat16:  # NumPy has no such type.
    array = tensor.view(torch.int16).numpy().view(jnp.bfloat16)
  else:
    array = tensor.detach().numpy()
  return tensors_lib.of_array(name, np.asarray(array))
