# Copyright 2026 The pid_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""Converts the features of a multi-prompt task to those of a PiD model.

Training reads packed rows, where no subtask is padded to the length of another.
Inference reads one input per row with a matrix of prompts, since
`seqio.Evaluator` and T5X expect one prediction per example.
"""

from __future__ import annotations

from collections.abc import Mapping
import copy
import functools

import seqio
import tensorflow as tf

from pid_jax import checks
from pid_jax.subtasks import packing

_MAX_INT = 2**31 - 1
_Spec = seqio.FeatureConverter.FeatureSpec


class PromptInDecoderFeatureConverter(seqio.FeatureConverter):
  """Packs subtasks for training, or pads them for inference.

  Task feature lengths: `inputs` S, `prompts` P, `targets` T (with EOS) and
  `subtasks` U; and for packing `decoder` L, the length of a decoder row (not a
  feature of the task). Several inputs may share a row of S and L tokens.

  With pack=True, each row has
    encoder_input_tokens   int32 [S]
    encoder_segment_ids    int32 [S], input of the row: 1, 2, ...; 0: padding
    encoder_positions      int32 [S], restart at 0 for each input
    decoder_input_tokens   int32 [L], per subtask: start, prompt, target
    decoder_target_tokens  int32 [L], per subtask: prompt, target, EOS
    decoder_segment_ids    int32 [L], input of the row; 0: padding
    decoder_subtask_ids    int32 [L], 1, 2, ... through the row; 0: padding
    decoder_positions      int32 [L], restart at 0 for each subtask
    decoder_loss_weights   float32 [L], 0 on prompts and padding, else the
                           subtask's weight
    inputs_truncated       int32, number of truncated inputs in the row
    targets_truncated      int32, number of truncated targets in the row
    inputs_repeated        int32, number of inputs whose first subtasks are in
                           another row, since all of them exceed L

  Two subtasks of one input, inputs [7 8 1], prompts [5] and [6 4], targets
  [9 1] and [3 1], alone in a row of S = 4, L = 8:
    encoder_input_tokens   7 8 1 0
    encoder_segment_ids    1 1 1 0
    encoder_positions      0 1 2 0
    decoder_input_tokens   0 5 9 | 0 6 4 3 | 0
    decoder_target_tokens  5 9 1 | 6 4 3 1 | 0
    decoder_segment_ids    1 1 1 | 1 1 1 1 | 0
    decoder_subtask_ids    1 1 1 | 2 2 2 2 | 0
    decoder_positions      0 1 2 | 0 1 2 3 | 0
    decoder_loss_weights   0 1 1 | 0 0 1 1 | 0

  With pack=False, each input has
    encoder_input_tokens   int32 [S]
    decoder_prompt_tokens  int32 [U, P]; a row of zeros is padding
    decoder_target_tokens  int32 [U, T]
    inputs_truncated       int32, 1 if the input was truncated
    targets_truncated      int32, number of its targets that were truncated
  """

  TASK_FEATURES = {
    'inputs': _Spec(dtype=tf.int32),
    'inputs_truncated': _Spec(dtype=tf.int32),
    'prompts': _Spec(dtype=tf.int32, rank=2, sequence_dim=1),
    'subtask_weights': _Spec(dtype=tf.float32),
    'subtasks': _Spec(dtype=tf.int32),
    'targets': _Spec(dtype=tf.int32, rank=2, sequence_dim=1),
  }
  PACKING_FEATURE_DTYPES = {}

  def __init__(
    self,
    pack: bool = True,
    use_custom_packing_ops: bool = False,
    apply_length_check: bool = False,
    bos_id: int = 0,
    *,
    eos_id: int = 1,
    window: int = 128,
    max_inputs_per_row: int | None = None,
    max_empty_subtasks: int | None = None,
  ):
    """Configures the converter.

    Args:
      pack: packed rows for training, or padded matrices for inference.
      use_custom_packing_ops: ignored; T5X passes it.
      apply_length_check: whether SeqIO checks the lengths of each example. That
        takes a fifth of the time, and the preprocessors of `register` have
        already checked them, with better messages.
      bos_id: the decoder's start token.
      eos_id: the last token of a target that was not truncated.
      window: the number of consecutive inputs that are packed together. A
        larger window fills rows better; no example moves further than this.
      max_inputs_per_row: 1 packs only subtasks of the same input into a row;
        None sets no limit.
      max_empty_subtasks: train on at most this many of an input's subtasks with
        the task's `empty_target`, sampled each time; None trains on all. Only
        for pack=True.

    Raises:
      UserError: a value of another type or out of its range.
    """
    del use_custom_packing_ops
    name = 'PromptInDecoderFeatureConverter.{}'.format
    checks.boolean(name('pack'), pack)
    checks.boolean(name('apply_length_check'), apply_length_check)
    checks.integer(name('bos_id'), bos_id, 0, _MAX_INT)
    checks.integer(name('eos_id'), eos_id, 0, _MAX_INT)
    checks.integer(name('window'), window, 1, 2**20)
    if max_inputs_per_row is not None:
      checks.integer(
        name('max_inputs_per_row'), max_inputs_per_row, 1, _MAX_INT
      )
    if max_empty_subtasks is not None:
      checks.integer(
        name('max_empty_subtasks'), max_empty_subtasks, 0, _MAX_INT
      )
    super().__init__(
      pack=pack,
      use_custom_packing_ops=True,
      apply_length_check=apply_length_check,
      bos_id=bos_id,
    )
    self._eos_id = eos_id
    self.window = window
    self._max_inputs_per_row = max_inputs_per_row
    self._max_empty_subtasks = max_empty_subtasks
    self._decoder_length = None

  @property
  def MODEL_FEATURES(self) -> Mapping[str, _Spec]:
    """Rank and dtype of each feature of an example; see the class."""
    counter = _Spec(dtype=tf.int32, rank=0)
    if not self.pack:
      return {
        'encoder_input_tokens': _Spec(dtype=tf.int32),
        'decoder_prompt_tokens': _Spec(dtype=tf.int32, rank=2, sequence_dim=1),
        'decoder_target_tokens': _Spec(dtype=tf.int32, rank=2, sequence_dim=1),
        'inputs_truncated': counter,
        'targets_truncated': counter,
      }
    row = _Spec(dtype=tf.int32)
    return {
      'encoder_input_tokens': row,
      'encoder_segment_ids': row,
      'encoder_positions': row,
      'decoder_input_tokens': row,
      'decoder_target_tokens': row,
      'decoder_segment_ids': row,
      'decoder_subtask_ids': row,
      'decoder_positions': row,
      'decoder_loss_weights': _Spec(dtype=tf.float32),
      'inputs_truncated': counter,
      'targets_truncated': counter,
      'inputs_repeated': counter,
    }

  def __call__(
    self, ds: tf.data.Dataset, task_feature_lengths: Mapping[str, int]
  ) -> tf.data.Dataset:
    """Converts `ds`; see base class.

    The base class expects exactly one length per task feature. `decoder` is not
    a feature, and the lengths of `subtask_weights` and `inputs_truncated`
    follow from the others: this removes the former and adds the latter.

    Args:
      ds: of multi-prompt features.
      task_feature_lengths: S, P, T, U and L; see the class.

    Returns:
      The dataset of model features, of static shapes.
    """
    lengths = dict(task_feature_lengths)
    converter = copy.copy(self)
    converter._decoder_length = lengths.pop('decoder', None)
    if self.pack and converter._decoder_length is None:
      raise ValueError(
        "packing needs the length of a decoder row: add 'decoder' to the task "
        f'feature lengths. Got {dict(task_feature_lengths)}.'
      )
    lengths.setdefault('subtask_weights', lengths.get('subtasks'))
    lengths.setdefault('inputs_truncated', 1)
    return super(PromptInDecoderFeatureConverter, converter).__call__(
      ds, lengths
    )

  def _convert_features(
    self, ds: tf.data.Dataset, task_feature_lengths: Mapping[str, int]
  ) -> tf.data.Dataset:
    """See base class."""
    lengths = {**task_feature_lengths, 'decoder': self._decoder_length}
    convert = self.pack_window if self.pack else self._pad_example
    convert = functools.partial(convert, lengths=lengths)
    convert = tf.autograph.experimental.do_not_convert(convert)
    # Drop other features, such as strings.
    ds = ds.map(
      tf.autograph.experimental.do_not_convert(
        lambda example: {k: example[k] for k in self.TASK_FEATURES}
      )
    )
    if self.pack:
      ds = ds.padded_batch(self.window)
    ds = ds.map(convert, num_parallel_calls=tf.data.AUTOTUNE)
    return ds.unbatch() if self.pack else ds

  def pack_window(
    self, window: Mapping[str, tf.Tensor], lengths: Mapping[str, int]
  ) -> dict[str, tf.Tensor]:
    """Packs the examples of one window.

    Args:
      window: TASK_FEATURES of W examples, padded with 0.
      lengths: S as `inputs` and L as `decoder`.

    Returns:
      The model's features, with a leading dimension of rows.
    """
    return packing.pack_window(
      window,
      encoder_length=lengths['inputs'],
      decoder_length=lengths['decoder'],
      max_inputs_per_row=self._max_inputs_per_row or self.window,
      max_empty_subtasks=self._max_empty_subtasks,
      bos_id=self.bos_id,
      eos_id=self._eos_id,
    )

  def _pad_example(
    self, example: Mapping[str, tf.Tensor], lengths: Mapping[str, int]
  ) -> dict[str, tf.Tensor]:
    """Pads one example to the lengths."""
    prompts, targets = example['prompts'], example['targets']
    has_eos = tf.reduce_any(targets == self._eos_id, axis=-1)
    num_subtasks = lengths['subtasks']
    return {
      'encoder_input_tokens': _pad(example['inputs'], [lengths['inputs']]),
      'decoder_prompt_tokens': _pad(
        prompts, [num_subtasks, lengths['prompts']]
      ),
      'decoder_target_tokens': _pad(
        targets, [num_subtasks, lengths['targets']]
      ),
      'inputs_truncated': example['inputs_truncated'][0],
      'targets_truncated': tf.math.count_nonzero(~has_eos, dtype=tf.int32),
    }

  def get_model_feature_lengths(
    self, task_feature_lengths: Mapping[str, int]
  ) -> Mapping[str, int]:
    """Returns the length of each model feature; that of a counter is 1."""
    lengths = {
      'encoder': task_feature_lengths['inputs'],
      'decoder': self._decoder_length or task_feature_lengths.get('decoder'),
    }
    by_name = {
      name: lengths.get(name.split('_')[0], 1) for name in self.MODEL_FEATURES
    }
    if not self.pack:
      by_name['decoder_prompt_tokens'] = task_feature_lengths['prompts']
      by_name['decoder_target_tokens'] = task_feature_lengths['targets']
    return by_name


def _pad(values: tf.Tensor, shape: list[int]) -> tf.Tensor:
  """Pads with 0 to a static shape."""
  missing = tf.constant(shape) - tf.shape(values)
  padded = tf.pad(values, tf.stack([tf.zeros_like(missing), missing], axis=1))
  return tf.ensure_shape(padded, shape)
