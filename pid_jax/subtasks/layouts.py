# Copyright 2026 The pid_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""SeqIO preprocessors that lay a decomposable example out for a model.

All layouts share `tokenize`, which runs before SeqIO's offline cache. What
comes after the cache depends on the feature lengths of the run:

  multi-prompt (`NAME`), one example per input:
    inputs            int32 [s], ends in EOS
    prompts           int32 [u, p], rows padded with 0
    targets           int32 [u, t], rows end in EOS, padded with 0
    subtasks          int32 [u], 0, or a random number > 0 where the target is
                      the empty one: the order in which to drop such subtasks
    subtask_weights   float32 [u], weight of each subtask in the loss
    inputs_truncated  int32 [1], 1 if inputs were cut
  prompt-in-encoder (`NAME_pie`), one example per subtask:
    inputs            int32 [s], the prompt, then the input, then EOS
    targets           int32 [t], ends in EOS
  joint (`NAME_joint`), one example per input:
    inputs            int32 [s], as in multi-prompt
    targets           int32 [t], all targets with a separator between them

SeqIO would cut what is longer than its feature length without a word. Here
inputs are cut on a side of one's choice, targets at their end (losing EOS, so
that a model never learns to stop there), both leave a trace, and prompts are
never cut: an example whose prompts do not fit ends the run with its name.
"""

from collections.abc import Mapping

import seqio
import tensorflow as tf

from pid_jax.subtasks import messages

# Features of a decomposable example, with their ranks; all are strings.
EXAMPLE_RANKS = {
  'example_id': 0,
  'inputs': 0,
  'prompts': 1,
  'subtasks': 1,
  'targets': 1,
}

Example = Mapping[str, tf.Tensor]
Lengths = Mapping[str, int] | None


def tokenize(
  dataset: tf.data.Dataset,
  *,
  task: str,
  vocabulary: seqio.Vocabulary,
  empty_target: str | None,
) -> tf.data.Dataset:
  """Encodes the strings of decomposable examples; the last step of the cache.

  Args:
    dataset: of decomposable examples; features besides those of EXAMPLE_RANKS
      (and float32 [U] `subtask_weights`) pass through.
    task: name of the task, for messages.
    vocabulary: of inputs, prompts and targets.
    empty_target: a target that says "nothing here", or None.

  Returns:
    A dataset with, for each k of inputs, prompts, targets and subtasks, the
    string(s) `k_pretokenized`, and with
      inputs                int32 [s]
      prompts, targets      int32 [n], the tokens of all U strings in a row
                            (SeqIO's cache cannot hold ragged matrices)
      prompts_row_lengths, targets_row_lengths  int32 [U]
      subtasks              int32 [U], 1 where the target is `empty_target`
      subtask_weights       float32 [U]
  """
  _check_spec(dataset.element_spec, task)

  def encode(example: Example) -> Example:
    example = dict(example)
    strings = {k: example.pop(k) for k in EXAMPLE_RANKS if k != 'example_id'}
    num_subtasks = tf.size(strings['prompts'])
    _check_example(example, strings, task)

    # One call of the tokenizer costs far more than one string.
    together = [strings['prompts'], strings['targets'], [strings['inputs']]]
    tokens = vocabulary.encode_tf(tf.concat(together, axis=0))
    flat = tokens.values
    lengths = tf.cast(tokens.row_lengths(), tf.int32)
    sizes = [num_subtasks, num_subtasks, 1]
    prompt_lengths, target_lengths, _ = tf.split(lengths, sizes)
    ends = tf.cumsum(
      [tf.reduce_sum(prompt_lengths), tf.reduce_sum(target_lengths)]
    )

    if empty_target is None:
      is_empty = tf.zeros([num_subtasks], tf.int32)
    else:
      is_empty = tf.cast(strings['targets'] == empty_target, tf.int32)
    weights = example.pop('subtask_weights', tf.ones([num_subtasks]))
    return {
      **example,
      **{f'{k}_pretokenized': v for k, v in strings.items()},
      'inputs': flat[ends[1] :],
      'prompts': flat[: ends[0]],
      'prompts_row_lengths': prompt_lengths,
      'targets': flat[ends[0] : ends[1]],
      'targets_row_lengths': target_lengths,
      'subtasks': is_empty,
      'subtask_weights': weights,
    }

  return dataset.map(encode, num_parallel_calls=tf.data.AUTOTUNE)


@seqio.map_over_dataset(num_seeds=1)
def draw(example: Example, seed: tf.Tensor) -> Example:
  """Gives each subtask with an empty target a random place in the queue.

  Args:
    example: with `subtasks` int32 [U], 1 where the target is empty.
    seed: int64 [2], from SeqIO.

  Returns:
    The example with `subtasks` int32 [U] drawn from 1 to 2**31 - 1 where it
    was 1; the feature converter drops the highest ones if it is told to.
  """
  numbers = tf.random.stateless_uniform(
    tf.shape(example['subtasks']), seed, 1, tf.int32.max, tf.int32
  )
  return {**example, 'subtasks': numbers * example['subtasks']}


def multi_prompt(
  dataset: tf.data.Dataset,
  sequence_length: Lengths = None,
  *,
  task: str,
  vocabulary: seqio.Vocabulary,
  long_inputs: str,
) -> tf.data.Dataset:
  """Lays tokenised examples out as one row of features per input.

  Args:
    dataset: from `tokenize`.
    sequence_length: S, P, T, U and L as `inputs`, `prompts`, `targets`,
      `subtasks` and `decoder`; a key that is absent sets no limit.
    task: name of the task, for messages.
    vocabulary: gives the EOS id.
    long_inputs: 'keep_start', 'keep_end' or 'error'.

  Returns:
    A dataset of the features that the module's docstring lists.
  """
  limits = messages.Limits.of(sequence_length)

  def lay_out(example: Example) -> Example:
    example = dict(example)
    prompt_lengths = example.pop('prompts_row_lengths')
    target_lengths = example.pop('targets_row_lengths') + 1
    messages.check_multi_prompt(
      task, example, prompt_lengths, target_lengths, limits
    )
    inputs, cut = _fit_inputs(example, limits.inputs, task, long_inputs)
    example['inputs'] = _with_eos(inputs, vocabulary)
    example['inputs_truncated'] = tf.cast([cut], tf.int32)
    example['prompts'] = _rows(example['prompts'], prompt_lengths)
    targets = _rows(example['targets'], target_lengths - 1)
    targets = _rows_with_eos(targets, target_lengths - 1, vocabulary)
    example['targets'] = targets[:, : limits.targets]
    return example

  return dataset.map(lay_out, num_parallel_calls=tf.data.AUTOTUNE)


def _check_spec(spec: Mapping[str, tf.TensorSpec], task: str):
  """Raises if the source and its preprocessors give no decomposable example."""
  for key, rank in EXAMPLE_RANKS.items():
    want = f'a string tensor of rank {rank}'
    if key not in spec:
      raise ValueError(
        f'examples of task {task!r} lack {key!r} ({want}). Got {sorted(spec)}.'
      )
    if spec[key].dtype != tf.string or spec[key].shape.rank != rank:
      raise ValueError(
        f'{key!r} of task {task!r} must be {want}. Got {spec[key]}.'
      )


def _check_example(example: Example, strings: Example, task: str):
  size = tf.size(strings['prompts'])
  messages.require(
    (size > 0)
    & (tf.size(strings['targets']) == size)
    & (tf.size(strings['subtasks']) == size),
    lambda: [
      'task ', task, ', example ', example['example_id'], ': has ',
      size, ' prompts, ', tf.size(strings['targets']), ' targets and ',
      tf.size(strings['subtasks']), ' subtask names; it needs as many of each, '
      'and at least one',
    ],
  )  # fmt: skip


def _fit_inputs(
  example: Example, limit: int | None, task: str, long_inputs: str
) -> tuple[tf.Tensor, tf.Tensor]:
  """Cuts inputs to `limit` - 1 tokens; returns them and whether any was cut."""
  inputs = example['inputs']
  if limit is None:
    return inputs, tf.constant(False)
  size = tf.size(inputs)
  cut = size > limit - 1
  if long_inputs == 'error':
    messages.require(
      ~cut,
      lambda: [
        'task ', task, ', example ', example['example_id'], ': the input has ',
        size + 1, ' tokens with EOS, more than the feature length inputs = ',
        str(limit), '; raise it, or let inputs be cut (long_inputs)',
      ],
    )  # fmt: skip
  elif long_inputs == 'keep_end':
    inputs = inputs[tf.maximum(0, size - (limit - 1)) :]
  return inputs[: limit - 1], cut


def _with_eos(tokens: tf.Tensor, vocabulary: seqio.Vocabulary) -> tf.Tensor:
  return tf.pad(tokens, [[0, 1]], constant_values=vocabulary.eos_id)


def _rows(flat: tf.Tensor, lengths: tf.Tensor) -> tf.Tensor:
  """[n], [U] -> [U, max(lengths)], padded with 0."""
  rows = tf.RaggedTensor.from_row_lengths(flat, lengths, validate=False)
  return rows.to_tensor()


def _rows_with_eos(
  rows: tf.Tensor, lengths: tf.Tensor, vocabulary: seqio.Vocabulary
) -> tf.Tensor:
  """[U, t], [U] -> [U, t + 1], each row with EOS behind its last token."""
  rows = tf.pad(rows, [[0, 0], [0, 1]])
  return rows + vocabulary.eos_id * tf.one_hot(
    lengths, tf.shape(rows)[1], dtype=tf.int32
  )
