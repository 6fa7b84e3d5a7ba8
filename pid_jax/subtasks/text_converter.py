# Copyright 2026 The pid_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""SeqIO's text-to-text converter, which also counts what was truncated.

The preprocessors record truncation in `inputs_truncated` and
`targets_truncated`, and `seqio.EncDecFeatureConverter` drops both features.
Packing them as further sequences would slow SeqIO's packing down; here a high
bit of the first token carries them at no cost.
"""

from __future__ import annotations

from collections.abc import Mapping

import seqio
import tensorflow as tf

from pid_jax.subtasks import tf_devices

tf_devices.hide_gpus()

_Spec = seqio.FeatureConverter.FeatureSpec

_MARK = 1 << 30  # Above all token ids; added to the first token if truncated.


class TextToTextFeatureConverter(seqio.EncDecFeatureConverter):
  """`seqio.EncDecFeatureConverter` for the layouts pie and joint.

  Its features are the base class's and, packed or not,
    inputs_truncated   int32, number of truncated inputs in the row
    targets_truncated  int32, number of truncated targets in the row
  """

  # Task feature -> the model feature whose sequences were truncated.
  COUNTERS = {
    'inputs_truncated': 'encoder_input_tokens',
    'targets_truncated': 'decoder_target_tokens',
  }
  MODEL_FEATURES = {
    **seqio.EncDecFeatureConverter.MODEL_FEATURES,
    **dict.fromkeys(COUNTERS, _Spec(dtype=tf.int32, rank=0)),
  }

  def __call__(
    self, ds: tf.data.Dataset, task_feature_lengths: Mapping[str, int]
  ) -> tf.data.Dataset:
    """Converts `ds`; see base class.

    Args:
      ds: of `inputs`, `targets` and the counters of the layouts pie and joint.
      task_feature_lengths: of `inputs` and `targets`.
    """
    plain = seqio.EncDecFeatureConverter(pack=self.pack, bos_id=self.bos_id)
    ds = ds.map(_mark, num_parallel_calls=tf.data.AUTOTUNE)
    ds = plain(ds, task_feature_lengths)
    return ds.map(_count, num_parallel_calls=tf.data.AUTOTUNE)

  def get_model_feature_lengths(
    self, task_feature_lengths: Mapping[str, int]
  ) -> Mapping[str, int]:
    """Returns the length of each model feature; that of a counter is 1."""
    lengths = super().get_model_feature_lengths(task_feature_lengths)
    return {**lengths, **dict.fromkeys(self.COUNTERS, 1)}


@tf.autograph.experimental.do_not_convert
def _mark(example: Mapping[str, tf.Tensor]) -> dict[str, tf.Tensor]:
  def mark(tokens, is_truncated):
    tokens = tf.cast(tokens, tf.int32)
    return tf.concat([tokens[:1] + _MARK * is_truncated, tokens[1:]], axis=0)

  return {
    'inputs': mark(example['inputs'], example['inputs_truncated']),
    'targets': mark(example['targets'], example['targets_truncated']),
  }


@tf.autograph.experimental.do_not_convert
def _count(row: Mapping[str, tf.Tensor]) -> dict[str, tf.Tensor]:
  counts = {
    name: tf.math.count_nonzero(row[feature] >= _MARK, dtype=tf.int32)
    for name, feature in TextToTextFeatureConverter.COUNTERS.items()
  }
  # The decoder's inputs, its shifted targets, have marks too.
  tokens = {
    name: tf.where(value >= _MARK, value - _MARK, value)
    for name, value in row.items()
    if name.endswith('_tokens')
  }
  return {**row, **tokens, **counts}
