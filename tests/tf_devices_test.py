# Copyright 2026 The pid_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""TensorFlow never holds the memory of a GPU."""

import tensorflow as tf

from pid_jax.subtasks import tf_devices


def test_gpus_are_hidden_before_tensorflow_starts(monkeypatch):
  visible = {'CPU': ['cpu:0'], 'GPU': ['gpu:0', 'gpu:1']}
  monkeypatch.setattr(
    tf.config,
    'set_visible_devices',
    lambda devices, kind: visible.update({kind: devices}),
  )
  assert tf_devices.hide_gpus()
  assert visible == {'CPU': ['cpu:0'], 'GPU': []}


def test_a_tensorflow_that_has_started_keeps_its_gpus(monkeypatch, caplog):
  def refuse(*_):
    raise RuntimeError('Visible devices cannot be modified')

  monkeypatch.setattr(tf.config, 'set_visible_devices', refuse)
  monkeypatch.setattr(tf_devices.logging.getLogger('pid_jax'), 'propagate', 1)
  assert not tf_devices.hide_gpus()
  assert 'may hold the memory of the GPUs' in caplog.text


def test_none_is_visible_here():
  tf.constant(1)  # Starts it.
  assert tf.config.get_visible_devices('GPU') == []
  assert tf_devices.hide_gpus()  # Changes nothing.
