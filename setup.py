# Copyright 2026 The pid_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""Installs pid_jax; `tasks/` and `gin_configs/` become parts of the package.

They lie at the root, where a user looks for them, and are imported as
`pid_jax.tasks` and `pid_jax.gin_configs`, so that they collide with nothing.
"""

import pathlib
import re

import setuptools

_ROOT = pathlib.Path(__file__).parent
_VERSION = re.search(
  r"^__version__ = '(.+)'$",
  (_ROOT / 'pid_jax/__init__.py').read_text(),
  re.MULTILINE,
)[1]

setuptools.setup(
  name='pid_jax',
  version=_VERSION,
  python_requires='>=3.10,<3.14',
  packages=[
    *setuptools.find_packages(include=['pid_jax', 'pid_jax.*']),
    'pid_jax.gin_configs',
    'pid_jax.tasks',
  ],
  package_dir={
    'pid_jax.gin_configs': 'gin_configs',
    'pid_jax.tasks': 'tasks',
  },
  package_data={
    'pid_jax.gin_configs': ['**/*.gin'],
    'pid_jax.tasks': ['**/*.model', '**/*.jsonl'],
  },
)
