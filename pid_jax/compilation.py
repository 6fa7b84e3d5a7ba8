# Copyright 2026 The pid_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""A cache of compiled programs on disk, so that a second start is quick."""

import os
import pathlib

import jax


def use_cache() -> None:
  """Keeps compiled programs in ~/.cache/pid_jax from one run to the next.

  JAX_COMPILATION_CACHE_DIR names another folder; empty, it switches the cache
  off. Must run before anything is compiled.
  """
  if 'JAX_COMPILATION_CACHE_DIR' in os.environ:
    return  # JAX reads it.
  home = os.environ.get('XDG_CACHE_HOME') or pathlib.Path.home() / '.cache'
  folder = pathlib.Path(home) / 'pid_jax' / 'compiled'
  jax.config.update('jax_compilation_cache_dir', str(folder))
