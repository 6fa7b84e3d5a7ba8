# Copyright 2026 The pid_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""Folders and files that are no checkpoint: what is found is named."""

import pytest

from pid_jax import errors
from pid_jax import files

LFS = (
  'version https://git-lfs.github.com/spec/v1\n'
  f'oid sha256:{"0" * 64}\nsize 791656\n'
)


def test_a_pointer_of_git_lfs_is_no_file(tmp_path):
  path = tmp_path / 'spiece.model'
  path.write_text(LFS)
  with pytest.raises(errors.UserError, match='git lfs pull'):
    files.read_bytes(path, 'the vocabulary')
  path.write_text('version 2 of my notes\n')
  assert files.read_bytes(path, 'the vocabulary').startswith(b'version 2')
