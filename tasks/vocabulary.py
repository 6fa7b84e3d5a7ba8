# Copyright 2026 The pid_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""The vocabulary of all tasks on real data: T5's, looked for when first used.

T5's default has 32,000 SentencePiece pieces and 100 extra ids, and lies in a
public bucket. Tasks are registered on machines that cannot reach it, or whose
user has a copy; so nothing is looked for at import or registration. At first
use, the model file is, in this order:
  what gin binds:  pid_jax.tasks.vocabulary.model_file.path = 'spiece.model'
  what the environment variable PID_JAX_VOCABULARY names
  PUBLIC_FILE
"""

from __future__ import annotations

import functools
import os
import re
from typing import Any
import urllib.error
import urllib.request

import gin
import seqio
import tensorflow as tf

from pid_jax import errors

PUBLIC_FILE = 'gs://t5-data/vocabs/cc_all.32000.100extra/sentencepiece.model'
EXTRA_IDS = 100
ENVIRONMENT = 'PID_JAX_VOCABULARY'

_SECONDS = 10  # To answer one request that asks whether the bucket is there.


@gin.configurable(module='pid_jax.tasks.vocabulary')
def model_file(path: str | None = None) -> str:
  """Returns the path of the SentencePiece model.

  Args:
    path: what gin binds, or None.

  Raises:
    UserError: the file is missing, or the public one cannot be reached.
  """
  path = path or os.environ.get(ENVIRONMENT) or PUBLIC_FILE
  if path == PUBLIC_FILE:
    _check_reachable()
  elif not tf.io.gfile.exists(path):
    raise errors.UserError(
      f'the vocabulary {path} is missing; {ENVIRONMENT} or gin names it'
    )
  return path


class LazyVocabulary(seqio.SentencePieceVocabulary):
  """A SentencePiece vocabulary whose file is found when it is first needed.

  It pickles as what it is, not as where the file was: a worker of Beam looks
  for itself. All instances are equal, so that features of different tasks mix.
  """

  def __init__(self):
    super().__init__('', extra_ids=EXTRA_IDS)
    del self._sentencepiece_model_file  # So that no code reads it unresolved.

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


def _check_reachable() -> None:
  """Asks for the public file once; a file system would ask for minutes."""
  bucket, _, name = PUBLIC_FILE.removeprefix('gs://').partition('/')
  url = f'https://storage.googleapis.com/{bucket}/{name}'
  request = urllib.request.Request(url, method='HEAD')
  try:
    with urllib.request.urlopen(request, timeout=_SECONDS):
      pass
  except (OSError, urllib.error.URLError) as e:
    raise errors.UserError(
      f"cannot reach T5's vocabulary {PUBLIC_FILE} "
      f'({re.sub("[<>]", "", str(e))}): copy it to this machine (T5 on Hugging '
      f'Face has it as spiece.model) and set {ENVIRONMENT} to its path'
    ) from e
