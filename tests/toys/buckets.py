# Copyright 2026 The pid_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""A bucket that is a folder: gs://NAME/x is FOLDER/NAME/x.

epath reaches buckets through TensorFlow's gfile; the same calls go to local
files here. Other ways to gs://, as os.path, find nothing.
"""

import contextlib
import os
import shutil

import tensorflow as tf

_PREFIX = 'gs://'


@contextlib.contextmanager
def fake(folder, monkeypatch):
  """Within it, buckets are folders of `folder`.

  As in a bucket, folders need not be made before files are written.
  """
  gfile = tf.io.gfile

  def local(path):
    path = os.fspath(path)
    if path.startswith(_PREFIX):
      return os.path.join(folder, path.removeprefix(_PREFIX).rstrip('/'))
    return path

  def redirected(real, num_paths=1):
    def call(*paths, **kwargs):
      return real(*map(local, paths[:num_paths]), *paths[num_paths:], **kwargs)

    return call

  class GFile(gfile.GFile):
    def __init__(self, name, mode='r'):
      if os.fspath(name).startswith(_PREFIX) and mode[0] in 'wa':
        os.makedirs(os.path.dirname(local(name)), exist_ok=True)
      super().__init__(local(name), mode)

  def remote(path):
    return _PREFIX + os.path.relpath(path, folder)

  def glob(pattern):
    found = real_glob(local(pattern))
    return [*map(remote, found)] if pattern.startswith(_PREFIX) else found

  def walk(top, topdown=True, onerror=None):
    for parent, folders, names in real_walk(local(top), topdown, onerror):
      yield (
        remote(parent) if top.startswith(_PREFIX) else parent,
        folders,
        names,
      )

  def rename(src, dst, overwrite=False):
    if os.path.isdir(local(src)) and os.path.isdir(local(dst)):
      raise tf.errors.FailedPreconditionError(None, None, f'{dst} exists')
    os.makedirs(os.path.dirname(local(dst)), exist_ok=True)
    shutil.move(local(src), local(dst))

  real_glob, real_walk = gfile.glob, gfile.walk
  with monkeypatch.context() as patch:
    for name, num_paths in {
      'exists': 1,
      'isdir': 1,
      'listdir': 1,
      'makedirs': 1,
      'mkdir': 1,
      'remove': 1,
      'rmtree': 1,
      'stat': 1,
      'copy': 2,
    }.items():
      patch.setattr(gfile, name, redirected(getattr(gfile, name), num_paths))
    patch.setattr(gfile, 'glob', glob)
    patch.setattr(gfile, 'walk', walk)
    patch.setattr(gfile, 'rename', rename)
    patch.setattr(gfile, 'GFile', GFile)
    yield
