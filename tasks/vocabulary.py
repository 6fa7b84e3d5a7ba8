# Copyright 2026 The pid_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""The vocabulary of all tasks on real data: T5's, looked for when first used.

T5's default has 32,000 SentencePiece pieces and 100 extra ids, and lies in a
public bucket. Tasks are registered on machines that cannot reach it, or whose
user has a copy; so nothing is looked for at import or registration. At first
use, the model file is, in this order:
  what gin binds:  pid_jax.tasks.vocabulary.model_file.path = 'spiece.model'
  what the environment variable PID_JAX_VOCABULARY names
  PUBLIC_FILE, fetched once and kept in ~/.cache/pid_jax

It is fetched by HTTPS: TensorFlow's file system for gs:// looks for credentials
first, and where there are none it retries for minutes before it reads.
"""

from __future__ import annotations

import functools
import os
from typing import Any

from etils import epath
import gin
import seqio
import tensorflow as tf

from pid_jax import errors
from pid_jax.tasks import web

# Beside it lies cc_all.32000.100extra, with the extra ids among its own pieces.
PUBLIC_FILE = 'gs://t5-data/vocabs/cc_all.32000/sentencepiece.model'
EXTRA_IDS = 100
# For text with lines, and between the targets of the joint layout where any
# punctuation may be text. Span corruption of 512 tokens numbers some 26 spans,
# so that pre-training gave these no meaning.
NEWLINE = '<extra_id_99>'
SEPARATOR = ' <extra_id_98> '
ENVIRONMENT = 'PID_JAX_VOCABULARY'

_URL = PUBLIC_FILE.replace('gs://', 'https://storage.googleapis.com/')
_KEPT = 'pid_jax/t5.cc_all.32000.model'  # In the user's cache.


@gin.configurable(module='pid_jax.tasks.vocabulary')
def model_file(path: str | None = None) -> str:
  """Returns the path of the SentencePiece model.

  Args:
    path: what gin binds, or None.

  Raises:
    UserError: the file is missing, or the public one cannot be fetched.
  """
  path = path or os.environ.get(ENVIRONMENT)
  if path is None:
    return _public_file()
  if not tf.io.gfile.exists(path):
    raise errors.UserError(
      f'the vocabulary {path}, named by gin or by {ENVIRONMENT}, is missing'
    )
  return path


class LazyVocabulary(seqio.SentencePieceVocabulary):
  """A SentencePiece vocabulary whose file is found when it is first needed.

  It pickles as what it is, not as where the file was: a worker of Beam looks
  for itself. All instances are equal, so that features of different tasks mix.
  """

  def __init__(self):
    super().__init__('', extra_ids=EXTRA_IDS)
    del self._sentencepiece_model_file  # The property below takes its place.

  def __reduce__(self):
    return (LazyVocabulary, ())

  def __eq__(self, other: Any) -> bool:
    return isinstance(other, LazyVocabulary)

  def __hash__(self) -> int:
    return hash(LazyVocabulary)

  def __str__(self) -> str:
    return f'LazyVocabulary(extra_ids={EXTRA_IDS})'

  __repr__ = __str__

  @functools.cached_property
  def _sentencepiece_model_file(self) -> str:
    return model_file()


def default() -> seqio.SentencePieceVocabulary:
  """Returns the vocabulary to register tasks with."""
  return LazyVocabulary()


def _public_file() -> str:
  home = os.environ.get('XDG_CACHE_HOME') or os.path.expanduser('~/.cache')
  kept = epath.Path(home) / _KEPT
  if not kept.exists():
    content = _fetch()
    kept.parent.mkdir(parents=True, exist_ok=True)
    whole = kept.parent / f'{kept.name}.{os.getpid()}'  # Others may fetch too.
    whole.write_bytes(content)
    whole.replace(kept)
  return str(kept)


def _fetch() -> bytes:
  try:
    return web.read(_URL)
  except OSError as e:
    raise errors.UserError(
      f"cannot fetch T5's vocabulary {e}. Copy it to this machine (T5 on "
      f'Hugging Face has it as spiece.model) and set {ENVIRONMENT} to its path'
    ) from e
