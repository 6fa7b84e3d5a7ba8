# Copyright 2026 The pid_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""Prompt-in-decoder T5 for JAX: encode once, answer many prompts.

The package is lazy (PEP 562): a name costs its own imports when it is first
used, so that `import pid_jax` is instant and prediction loads no TensorFlow.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
  from pid_jax.config import T5Config
  from pid_jax.errors import UserError
  from pid_jax.inference import PromptInDecoder
  from pid_jax.vocabulary import Vocabulary

__version__ = '0.1.0'

_HOMES = {
  'PromptInDecoder': 'pid_jax.inference',
  'T5Config': 'pid_jax.config',
  'UserError': 'pid_jax.errors',
  'Vocabulary': 'pid_jax.vocabulary',
}
_MODULES = (
  'checkpoints',
  'config',
  'decoding',
  'errors',
  'inference',
  'model',
  'network',
  'partitioning',
  'subtasks',
  'trainer',
  'vocabulary',
)

__all__ = ['PromptInDecoder', 'T5Config', 'UserError', 'Vocabulary']


def __getattr__(name: str) -> Any:
  if name in _HOMES:
    value = getattr(importlib.import_module(_HOMES[name]), name)
  elif name in _MODULES:
    value = importlib.import_module(f'{__name__}.{name}')
  else:
    raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
  globals()[name] = value
  return value


def __dir__() -> list[str]:
  return sorted({*globals(), *_HOMES, *_MODULES})
