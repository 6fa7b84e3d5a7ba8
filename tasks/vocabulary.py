# Copyright 2026 The pid_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""The vocabulary of all tasks on real data: T5's, opened on first use.

T5's default vocabulary has 32,000 SentencePiece pieces and 100 extra ids, and
is in a public bucket. Tasks are also registered on machines without access to
it, or where the user has a copy; so importing and registering open no file. At
first use, the model file is, in order of precedence:
  the gin binding  pid_jax.tasks.vocabulary.model_file.path = 'spiece.model'
  the value of the environment variable PID_JAX_VOCABULARY
  PUBLIC_FILE, downloaded once and cached in ~/.cache/pid_jax

It is downloaded by HTTPS: TensorFlow's file system for gs:// looks for
credentials first, and retries for minutes if there are none.
"""

from __future__ import annotations

import functools
import logging
import os
from typing import Any

import gin
import seqio

from pid_jax import errors
from pid_jax import files
from pid_jax import vocabulary as vocabulary_lib
from pid_jax.subtasks import registration
from pid_jax.tasks import web

# Its sibling cc_all.32000.100extra has the extra ids among its pieces.
PUBLIC_FILE = 'gs://t5-data/vocabs/cc_all.32000/sentencepiece.model'
EXTRA_IDS = 100
# For texts with newlines, and between the targets of the joint layout where any
# punctuation may occur. Span corruption of 512 tokens uses about 26 sentinels,
# so these have no meaning from pre-training.
NEWLINE = '<extra_id_99>'
SEPARATOR = ' <extra_id_98> '
ENVIRONMENT = 'PID_JAX_VOCABULARY'

_URL = PUBLIC_FILE.replace('gs://', 'https://storage.googleapis.com/')
_CACHED = 't5.cc_all.32000.model'  # In the user's cache folder.

logger = logging.getLogger('pid_jax')


@gin.configurable(module='pid_jax.tasks.vocabulary')
def model_file(path: str | None = None) -> str:
  """Returns the path of the SentencePiece model.

  Args:
    path: bound by gin, or None.

  Raises:
    UserError: the file is no vocabulary of a T5, or the public one cannot be
      downloaded.
  """
  path = path or os.environ.get(ENVIRONMENT)
  if path is None:
    return _public_file()
  try:
    return str(vocabulary_lib.Vocabulary(path, EXTRA_IDS).path)
  except errors.UserError as e:
    raise errors.UserError(f'{e} (given by gin or by {ENVIRONMENT})') from e


class LazyVocabulary(seqio.SentencePieceVocabulary):
  """A SentencePiece vocabulary whose file is found on first use.

  Pickles do not contain the path: a Beam worker finds the file itself. All
  instances are equal, so that features of different tasks can be mixed.
  """

  def __init__(self):
    super().__init__('', extra_ids=EXTRA_IDS)
    del self._sentencepiece_model_file  # Replaced by the property below.

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
  folder = files.cache_folder()
  if folder is None:
    return _temporary_file()
  cached = folder / _CACHED
  if not cached.exists():
    try:
      files.check_folder(folder, "the cache of T5's vocabulary")
    except errors.UserError as e:
      logger.warning('%s: it is downloaded each time', e)
      return _temporary_file()
    content = _download()  # Other processes may do so, too.
    with files.explained(f"cannot keep T5's vocabulary in {folder}"):
      folder.mkdir(parents=True, exist_ok=True)
    files.write(cached, content)
  return str(cached)


@functools.cache
def _temporary_file() -> str:
  """Downloads for this process alone."""
  return registration.model_file(_download())


def _download() -> bytes:
  try:
    return web.fetch(_URL)
  except OSError as e:
    raise errors.UserError(
      f"cannot download T5's vocabulary {e}. Copy it to this machine (T5 on "
      f'Hugging Face has it as spiece.model) and set {ENVIRONMENT} to its path'
    ) from e
