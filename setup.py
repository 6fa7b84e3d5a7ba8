# Copyright 2026 The pid_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""Installs pid_jax; `tasks/` and `gin_configs/` become parts of the package.

They lie at the root, where a user looks for them, and are imported as
`pid_jax.tasks` and `pid_jax.gin_configs`, so that they collide with nothing.

Prediction needs little and installs wherever JAX does. Training needs SeqIO
and TensorFlow, which come along where all of them have wheels; elsewhere the
extra `train` asks for them, to be built from source.
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

# The lower bounds are the oldest that pass the tests; the lock files hold the
# newest. JAX 0.10.2 is the last one for Python 3.11.
_PREDICT = [
  'absl-py>=2.1',
  'etils[epath]>=1.12',
  'filelock>=3.16',  # Bounds JAX's cache of compiled programs.
  'flax>=0.12.8',
  'gin-config>=0.5',
  'jax>=0.10.2',
  'jaxtyping>=0.3.2',
  'numpy>=1.26',
  'optax>=0.2.8',
  'orbax-checkpoint>=0.12.8',
  # SentencePiece 0.2.3 needs protobuf 7.36 without saying so.
  'sentencepiece>=0.2.3',
  'protobuf>=7.36.1',
  'regex>=2024.5.15',
  'tensorstore>=0.1.71',
  'tqdm>=4.66',
]
_TRAIN = [
  'clu>=0.0.12',
  'rouge-score>=0.1.2',
  'seqio>=0.0.20',
  'tensorboard>=2.20',
  'tensorflow>=2.21',
  'tensorflow-datasets>=4.9.9',
  'tensorflow-text>=2.21',
]
# SeqIO needs editdistance (no wheel for Python 3.13: pip compiles it, where
# there is a C++ compiler) and tensorflow-text (none for Windows, and none that
# is recent for Intel Macs).
_WHERE_WHEELS_EXIST = (
  "python_version < '3.13' and"
  " (sys_platform == 'linux' or platform_machine == 'arm64')"
)
_FIGURES = 'matplotlib>=3.8'
_TEST = [
  'beartype>=0.20',  # Checks the shapes that jaxtyping annotates.
  'dill>=0.3.8',  # tensorflow_datasets.testing needs it without saying so.
  'hypothesis>=6.100',
  _FIGURES,
  'pytest>=8.2',
  'pytest-xdist>=3.6',
  'ruff==0.17.6',  # one formatter for all
  # The reference that the numerics are tested against.
  'torch==2.13.0',
  'transformers>=4.45',
]
# What the experiments draw with, and compare with. The libraries of the
# baselines are in no lock file: commands run without, and say what is missing.
_EXPERIMENTS = [
  'ctranslate2>=4.5',
  _FIGURES,
  'torch>=2.4',
  'transformers>=4.45',
]

setuptools.setup(
  name='pid_jax',
  version=_VERSION,
  description='Prompt-in-decoder T5 for JAX: encode once, answer many prompts.',
  long_description=(_ROOT / 'README.md').read_text(),
  long_description_content_type='text/markdown',
  author='The pid_jax Authors',
  license='Apache-2.0',
  license_files=['LICENSE'],
  python_requires='>=3.11,<3.14',
  packages=[
    *setuptools.find_packages(include=['pid_jax', 'pid_jax.*']),
    *[
      f'pid_jax.{name}'
      for name in setuptools.find_packages(include=['gin_configs*', 'tasks*'])
    ],
  ],
  package_dir={
    'pid_jax.gin_configs': 'gin_configs',
    'pid_jax.tasks': 'tasks',
  },
  package_data={
    'pid_jax.viewer': ['assets/*'],
    'pid_jax.gin_configs': ['**/*.gin'],
    'pid_jax.tasks': ['**/*.model', '**/*.vocab', '**/*.jsonl', '**/*.tsv'],
  },
  install_requires=[
    *_PREDICT,
    *[f'{package}; {_WHERE_WHEELS_EXIST}' for package in _TRAIN],
  ],
  extras_require={
    'train': _TRAIN,
    'test': _TEST,
    'experiments': _EXPERIMENTS,
    'benchmark': _EXPERIMENTS,  # Its former name.
    'cuda12': ['jax[cuda12]'],
    'cuda13': ['jax[cuda13]'],
    # libtpu: for running on TPUs, and for compiling for them without one.
    'tpu': ['jax[tpu]'],
  },
  classifiers=[
    'Development Status :: 4 - Beta',
    'Intended Audience :: Developers',
    'Intended Audience :: Science/Research',
    'Operating System :: MacOS',
    'Operating System :: POSIX :: Linux',
    'Programming Language :: Python :: 3.11',
    'Programming Language :: Python :: 3.12',
    'Programming Language :: Python :: 3.13',
    'Topic :: Scientific/Engineering :: Artificial Intelligence',
  ],
)
