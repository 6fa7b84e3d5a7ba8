# Copyright 2026 The pid_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""Settings that make compiled programs start sooner and run faster.

They concern the whole process. Commands call all of them, before anything is
compiled; the library calls `use_cache` when it needs its first program.
"""

import ctypes
import glob
import os
import sys
import warnings

from etils import epath

from pid_jax import files
from pid_jax import progress

# Parameters of glibc's mallopt (malloc.h).
_M_TRIM_THRESHOLD = -1
_M_MMAP_THRESHOLD = -3
_M_ARENA_MAX = -8
# Of the cache.
_MOST_BYTES = 2 * 10**9
# Single operations compile faster, and would fill it with small files.
_LEAST_SECONDS = 0.1


def use_cache() -> None:
  """Keeps compiled programs in ~/.cache/pid_jax from one run to the next.

  At most 2 GB of them, those used last; on GPUs with the tuning results of
  their products. A folder that the user has chosen for JAX is left as it is:
  JAX_COMPILATION_CACHE_DIR names it; empty, it switches the cache off. There is
  none without a home folder that can be written to.
  """
  if 'JAX_COMPILATION_CACHE_DIR' in os.environ:
    return  # JAX reads it.
  import jax  # Not above: `keep_memory` must run before JAX starts threads.

  folder = files.cache_folder()
  if (
    folder is None
    or jax.config.jax_compilation_cache_dir is not None
    or not jax.config.jax_enable_compilation_cache
  ):
    return
  folder = folder / 'compiled'
  try:
    is_new = not folder.exists()
    folder.mkdir(parents=True, exist_ok=True)
    _delete_unfinished(folder)
  except OSError:
    return  # A home that is read-only is no mistake.
  if is_new:
    progress.write_line(
      f'pid_jax: keeps compiled programs in {folder}, at most '
      f'{_MOST_BYTES / 1e9:.0f} GB; '
      "JAX_COMPILATION_CACHE_DIR='' switches it off"
    )
  # It is of use where it can be, as while there is room on the disk.
  warnings.filterwarnings('ignore', message='Error .* compilation cache entry')
  jax.config.update('jax_compilation_cache_max_size', _MOST_BYTES)
  jax.config.update(
    'jax_persistent_cache_min_compile_time_secs', _LEAST_SECONDS
  )
  jax.config.update('jax_compilation_cache_dir', str(folder))
  # JAX would not look again, had it compiled anything.
  from jax.experimental.compilation_cache import compilation_cache

  compilation_cache.reset_cache()


def _delete_unfinished(folder: epath.Path) -> None:
  """Deletes entries without a time of use, which JAX writes last.

  A full disk leaves such, the end of a process, and a cache without a bound.
  JAX would add nothing to a bounded one that holds any.
  """
  for entry in folder.glob('*-cache'):
    used = entry.with_name(entry.name.removesuffix('-cache') + '-atime')
    if not used.exists():
      entry.unlink(missing_ok=True)


def keep_memory() -> None:
  """Keeps the memory of one step for the next, where the CPU computes.

  XLA allocates the buffers of a program each time that it runs, and glibc
  returns large blocks to the system at once: page faults took a third of the
  processor time of training a small model (2 cores: 200 ms a step, 130 ms with
  this). Has no effect where there is an accelerator, another C library, or a
  MALLOC_ARENA_MAX in the environment.
  """
  accelerators = ('/dev/nvidia[0-9]*', '/dev/accel*', '/dev/vfio/[0-9]*')
  if (
    not sys.platform.startswith('linux')
    or 'MALLOC_ARENA_MAX' in os.environ
    or any(map(glob.glob, accelerators))
  ):
    return
  mallopt = getattr(ctypes.CDLL(None), 'mallopt', None)
  if mallopt is None:
    return
  # One arena, since those of threads cannot hold large blocks; blocks below
  # 1 GB are allocated from it; its end is given back when 2 GB are free.
  mallopt(_M_ARENA_MAX, 1)
  mallopt(_M_MMAP_THRESHOLD, 1 << 30)
  mallopt(_M_TRIM_THRESHOLD, (1 << 31) - 1)


def release_memory() -> None:
  """Gives the heap's free memory back to the system, where glibc can.

  `keep_memory` keeps up to 2 GB of it for the next step. For a process that
  then runs other programs.
  """
  if sys.platform.startswith('linux'):
    malloc_trim = getattr(ctypes.CDLL(None), 'malloc_trim', None)
    if malloc_trim is not None:
      malloc_trim(0)
