# Copyright 2026 The pid_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""Prepares the data sets of tests/fixtures, for the tests of their tasks."""

import contextlib

import pytest
import seqio
import tensorflow_datasets as tfds

from pid_jax.tasks import bookings


def prepare(builder_class, data_dir, manual_dir=None):
  """Prepares a data set as the command `data` does; returns its builder."""
  builder = builder_class(data_dir=str(data_dir))
  builder.download_and_prepare(
    download_config=tfds.download.DownloadConfig(
      manual_dir=manual_dir and str(manual_dir),
      compute_stats=tfds.download.ComputeStatsMode.SKIP,
      try_download_gcs=False,
    )
  )
  return builder


@contextlib.contextmanager
def folder(data_dir):
  """Within it, tasks look for data there, and have a small vocabulary."""
  with pytest.MonkeyPatch.context() as patch:
    patch.setenv('PID_JAX_VOCABULARY', bookings.VOCABULARY_FILE)
    seqio.set_tfds_data_dir_override(str(data_dir))
    yield str(data_dir)
    seqio.set_tfds_data_dir_override(None)
