# Copyright 2026 The pid_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""Strict numerics and a quiet start for the whole suite.

Arrays never broadcast across ranks unasked: most mask bugs begin that way.
Programs compile in a hurry here, which changes no result; tests that look at
the programs themselves compile as users do (see `xla_options`).
Tests that need several devices start processes of their own, since the number
of devices is fixed when JAX starts.
"""

import gc
import importlib.util
import os
import sys

import xla_options

os.environ.setdefault('JAX_PLATFORMS', 'cpu')
os.environ.setdefault('TF_CPP_MIN_LOG_LEVEL', '3')
if 'PYTEST_XDIST_WORKER' not in os.environ:  # Workers inherit them.
  flags = xla_options.hurried_flags()
  # What comes later wins.
  os.environ['XLA_FLAGS'] = f'{flags} {os.environ.get("XLA_FLAGS", "")}'
# Commands would keep compiled programs in the user's own cache.
os.environ.setdefault('JAX_COMPILATION_CACHE_DIR', '')

# PyPI's PyTorch brings Triton along, which crashes the process (SIGSEGV)
# when it is loaded after TensorFlow.
if importlib.util.find_spec('triton'):
  importlib.import_module('triton')

import jax
import jaxtyping
import pytest

# Shape annotations are checked in tests, and cost nothing elsewhere.
jaxtyping.install_import_hook(
  ['pid_jax.network', 'pid_jax.decoding'], 'shape_checks.typechecked'
)

jax.config.update('jax_numpy_rank_promotion', 'raise')

_NEEDS = {
  't5x': 't5x',
  'tpu_aot': 'libtpu',
  'gpu_aot': 'jax_cuda13_plugin',
}


def pytest_collection_modifyitems(items):
  """Skips, with the reason, what needs a package that is not installed."""
  for item in items:
    for marker, package in _NEEDS.items():
      if item.get_closest_marker(marker) and not _is_installed(package):
        item.add_marker(pytest.mark.skip(reason=f'{package} is not installed'))


def pytest_collection_finish():
  """Spares two costs of programs and pipelines that are built and run once."""
  # Tracing leaves much garbage; collecting it took a twentieth of the time.
  gc.freeze()  # Modules stay, and no collection looks at them again.
  gc.set_threshold(10_000, 20, 20)
  # Grappler takes half the time of starting a pipeline.
  if tensorflow := sys.modules.get('tensorflow'):
    tensorflow.config.optimizer.set_experimental_options(
      {'disable_meta_optimizer': True}
    )


def _is_installed(package: str) -> bool:
  return importlib.util.find_spec(package) is not None
