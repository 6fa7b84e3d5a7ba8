# Copyright 2026 The pid_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""Loss, prediction and scores over a network: T5X's model protocol.

A trainer knows nothing of tokens, and a network nothing of losses; this object
connects them. It has the methods of T5X's models (`loss_fn`,
`eval_fn`, `predict_batch`, `score_batch`, `get_initial_variables`), without
T5X, for three kinds of batches: packed PiD rows, PiD inputs with all their
prompts for inference, and the text-to-text batches of any encoder-decoder (PiE
and joint), which have one empty prompt for each input.

Letters: B inputs, S input tokens, U subtasks, P prompt tokens, T target tokens,
L packed decoder tokens, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Mapping
import copy
from typing import Any

from clu import metrics as clu_metrics
import flax
from flax import linen as nn
import jax
import jax.numpy as jnp

from pid_jax import checks
from pid_jax import decoding
from pid_jax import errors
from pid_jax import network

Batch = Mapping[str, jax.Array]
Metrics = dict[str, clu_metrics.Metric]
PyTree = Any

TRUNCATED = '_truncated'  # Ends the names of counters of truncated texts.

LOSS_NORMALIZING_FACTORS = (
  'NUM_REAL_TARGET_TOKENS',
  'NUM_TOTAL_TARGET_TOKENS',
  'AVERAGE_PER_SEQUENCE',
)


@flax.struct.dataclass
class Count(clu_metrics.Metric):
  """A number that adds up over batches.

  Attributes:
    total: float32 scalar (exact to 2**24 within one reporting interval).
  """

  total: jax.Array

  @classmethod
  def empty(cls) -> Count:
    return cls(total=jnp.zeros((), jnp.float32))

  def merge(self, other: Count) -> Count:
    return type(self)(total=self.total + other.total)

  def compute(self) -> jax.Array:
    return self.total


def cross_entropy(
  logits: jax.Array,
  targets: jax.Array,
  *,
  label_smoothing: float = 0.0,
  z_loss: float = 0.0,
) -> tuple[jax.Array, jax.Array]:
  """Cross entropy of each token, with T5X's label smoothing and z-loss.

  The smoothed targets put 1 - label_smoothing on the right id and share the
  rest among all others; their entropy is subtracted, so that the best possible
  loss is 0. The z-loss is z_loss * log(Z)^2 and is part of the loss.

  Args:
    logits: float32 [..., V].
    targets: int32 [...].
    label_smoothing: from 0 to below 1.
    z_loss: coefficient.

  Returns:
    The loss and the z-loss within it, float32 [...].
  """
  log_z = jax.nn.logsumexp(logits, axis=-1)
  target_logits = _select(logits, targets)
  loss = log_z - target_logits
  if label_smoothing:
    num_others = logits.shape[-1] - 1
    confidence = 1.0 - label_smoothing
    low = label_smoothing / num_others
    others = num_others * log_z - (jnp.sum(logits, axis=-1) - target_logits)
    entropy = -(
      confidence * jnp.log(confidence) + num_others * low * jnp.log(low + 1e-20)
    )
    loss = confidence * loss + low * others - entropy
  log_z_loss = z_loss * jnp.square(log_z)
  return loss + log_z_loss, log_z_loss


def _select(logits: jax.Array, ids: jax.Array) -> jax.Array:
  """logits[..., ids] of [..., V] and [...].

  A masked sum rather than a gather: it fuses into other reductions, stays local
  when V is sharded, and has a cheap gradient.
  """
  positions = jax.lax.broadcasted_iota(ids.dtype, logits.shape, logits.ndim - 1)
  return jnp.sum(jnp.where(positions == ids[..., None], logits, 0), axis=-1)


class EncoderDecoderModel:
  """A network with its vocabularies, its loss and its sampler."""

  def __init__(
    self,
    module: nn.Module,
    input_vocabulary: Any = None,
    output_vocabulary: Any = None,
    *,
    label_smoothing: float = 0.0,
    z_loss: float = 0.0,
    loss_normalizing_factor: float | str | None = 'NUM_REAL_TARGET_TOKENS',
    sampler: Any = None,
  ):
    """Holds the parts; allocates nothing.

    Args:
      module: a `pid_jax.network.Transformer`.
      input_vocabulary: SeqIO's, of the inputs and prompts; None takes it from
        the task.
      output_vocabulary: SeqIO's, of the targets; None takes it from the task.
      label_smoothing: see `cross_entropy`.
      z_loss: see `cross_entropy`.
      loss_normalizing_factor: what the sum of token losses is divided by. A
        number, None (nothing), or T5X's names: 'NUM_REAL_TARGET_TOKENS' (the
        sum of the loss weights), 'NUM_TOTAL_TARGET_TOKENS' (padding included),
        'AVERAGE_PER_SEQUENCE' (each subtask weighs the same, however long).
      sampler: how `predict_batch` picks tokens; `decoding.Greedy()` if None.

    Raises:
      UserError: a value of another type or out of its range.
    """
    if not isinstance(module, nn.Module):
      raise errors.UserError(
        'module must be a network, such as @network.Transformer(); got '
        f'{checks.shown(module)}.'
      )
    checks.number('label_smoothing', label_smoothing, 0.0, below=1.0)
    checks.number('z_loss', z_loss, 0.0, 1e6)
    if isinstance(loss_normalizing_factor, str):
      loss_normalizing_factor = loss_normalizing_factor.upper()
      checks.one_of(
        'loss_normalizing_factor, if no number or None,',
        loss_normalizing_factor,
        LOSS_NORMALIZING_FACTORS,
      )
    elif loss_normalizing_factor is not None:
      checks.number(
        'loss_normalizing_factor', loss_normalizing_factor, above=0.0, most=1e30
      )
    self.module = module
    self.input_vocabulary = input_vocabulary
    self.output_vocabulary = output_vocabulary
    self.label_smoothing = label_smoothing
    self.z_loss = z_loss
    self.loss_normalizing_factor = loss_normalizing_factor
    self.sampler = sampler

  def with_config(self, config: network.T5Config) -> EncoderDecoderModel:
    """Returns the same loss and decoding over a network of another shape."""
    model = copy.copy(self)
    model.module = self.module.clone(config=config)
    return model

  @property
  def param_axes(self) -> network.ParamAxes:
    """Logical axes of the network's parameters: path -> axes."""
    return network.param_axes(self.module)

  def get_initial_variables(
    self,
    rng: jax.Array,
    input_shapes: Mapping[str, tuple[int, ...]] | None = None,
    input_types: Mapping[str, Any] | None = None,
  ) -> dict[str, PyTree]:
    """Initialises the network.

    Args:
      rng: a key.
      input_shapes: of the batch's 'encoder_input_tokens' and
        'decoder_input_tokens'. Parameters do not depend on them: None will do.
      input_types: unused, part of T5X's protocol.

    Returns:
      {'params': float32 nested dict, 'params_axes': their logical axes}.
    """
    del input_types
    shapes = input_shapes or {}
    encoder_shape = tuple(shapes.get('encoder_input_tokens', (1, 8)))
    decoder_shape = tuple(shapes.get('decoder_input_tokens', (1, 8)))
    variables = network.initialize(
      self.module,
      rng,
      jnp.ones(encoder_shape, jnp.int32),
      jnp.ones(decoder_shape, jnp.int32),
    )
    return dict(flax.core.unfreeze(variables))

  def loss_weights(self, batch: Batch) -> tuple[jax.Array, jax.Array | float]:
    """Weight of each target token, and what the summed loss is divided by.

    Args:
      batch: features of a training batch.

    Returns:
      float32 [B, L] and a scalar.
    """
    weights = batch.get('decoder_loss_weights')
    if weights is None:
      weights = (batch['decoder_target_tokens'] > 0).astype(jnp.float32)
    factor = self.loss_normalizing_factor
    if factor == 'NUM_REAL_TARGET_TOKENS':
      return weights, jnp.maximum(jnp.sum(weights), 1)
    if factor == 'NUM_TOTAL_TARGET_TOKENS':
      return weights, float(weights.size)
    if factor == 'AVERAGE_PER_SEQUENCE':
      per_subtask = _sum_per_id(_subtask_ids(batch), weights)
      weights = weights / jnp.maximum(per_subtask, 1e-9)
      return weights, jnp.maximum(jnp.sum(weights), 1)
    return weights, 1.0 if factor is None else float(factor)

  def loss_fn(
    self,
    params: PyTree,
    batch: Batch,
    dropout_rng: jax.Array | None,
    normalizer: jax.Array | float | None = None,
  ) -> tuple[jax.Array, Metrics]:
    """The training loss of a batch.

    Args:
      params: of the network.
      batch: packed PiD or text-to-text features, int32 [B, S] and [B, L].
      dropout_rng: a key; None switches dropout off.
      normalizer: divides the sum of token losses. None takes that of this batch
        (see `loss_weights`); a step over microbatches passes that of the whole
        batch, so that the result does not depend on how it is cut.

    Returns:
      loss: float32 scalar.
      metrics: 'loss', 'z_loss' and 'accuracy' per target token, and counts of
        examples, subtasks, tokens and padding.
    """
    weights, batch_normalizer = self.loss_weights(batch)
    logits = self.logits(params, batch, dropout_rng)
    targets = batch['decoder_target_tokens']
    token_loss, token_z_loss = cross_entropy(
      logits,
      targets,
      label_smoothing=self.label_smoothing,
      z_loss=self.z_loss,
    )
    loss_sum = jnp.sum(token_loss * weights)
    loss = loss_sum / (batch_normalizer if normalizer is None else normalizer)

    weight_sum = jnp.sum(weights)
    # Not argmax: on a CPU that took seven times as long as all the rest here,
    # and compiled for a TPU v5e it adds 3 % to the cycles of a whole gradient
    # of T5 1.1 base (two layers to a stack).
    is_best = _select(logits, targets) >= jnp.max(logits, axis=-1)
    correct = jnp.sum(is_best * weights)
    average = clu_metrics.Average
    metrics = {
      'loss': average(loss_sum, weight_sum),
      'z_loss': average(jnp.sum(token_z_loss * weights), weight_sum),
      'accuracy': average(correct, weight_sum),
    }
    return loss, metrics | batch_counts(batch)

  def eval_fn(self, params: PyTree, batch: Batch) -> tuple[jax.Array, Metrics]:
    """`loss_fn` without dropout."""
    return self.loss_fn(params, batch, dropout_rng=None)

  def predict_batch(
    self,
    params: PyTree,
    batch: Batch,
    rng: jax.Array | None = None,
  ) -> jax.Array:
    """Generates the outputs of a batch; see `predict_batch_with_aux`."""
    return self.predict_batch_with_aux(params, batch, rng)[0]

  def predict_batch_with_aux(
    self,
    params: PyTree,
    batch: Batch,
    rng: jax.Array | None = None,
  ) -> tuple[jax.Array, dict[str, jax.Array]]:
    """Generates the outputs of a batch and their log-probabilities.

    Args:
      params: of the network.
      batch: int32 'encoder_input_tokens' [B, S], and of a task with prompts
        'decoder_prompt_tokens' [B, U, P]. As many tokens are generated as
        'decoder_target_tokens' [B, U, T] or [B, T] has room for.
      rng: a key for samplers that draw.

    Returns:
      int32 tokens, 0 after EOS: [B, U, T] with prompts, else [B, T].
      {'scores': float32 log-probabilities [B, U] or [B]}.
    """
    inputs, prompts, has_prompts = _inputs_and_prompts(batch)
    generated = decoding.generate(
      self.module,
      params,
      inputs,
      prompts,
      max_new_tokens=batch['decoder_target_tokens'].shape[-1],
      sampler=self.sampler or decoding.GREEDY,
      rng=rng,
    )
    tokens, scores = generated.tokens, generated.log_probs
    if not has_prompts:
      tokens, scores = tokens[:, 0], scores[:, 0]
    return tokens, {'scores': scores}

  def score_batch(self, params: PyTree, batch: Batch) -> jax.Array:
    """Log-probability of the targets of a batch, without label smoothing.

    Args:
      params: of the network.
      batch: with prompts ('decoder_prompt_tokens' [B, U, P] and
        'decoder_target_tokens' [B, U, T]) or text-to-text, unpacked, whose
        'decoder_loss_weights' [B, T], if it has them, weigh its tokens.

    Returns:
      float32 [B, U] with prompts, else [B]: sums over the tokens of a target,
      its EOS included.
    """
    inputs, prompts, has_prompts = _inputs_and_prompts(batch)
    targets = batch['decoder_target_tokens']
    scored = decoding.score(
      self.module,
      params,
      inputs,
      prompts,
      targets if has_prompts else targets[:, None],
    )
    if has_prompts:
      return scored.log_probs
    scores = scored.token_log_probs[:, 0]
    return jnp.sum(scores * batch.get('decoder_loss_weights', 1.0), axis=-1)

  def logits(
    self, params: PyTree, batch: Batch, dropout_rng: jax.Array | None
  ) -> jax.Array:
    """Returns the logits of the decoder's tokens, each given those before.

    Args:
      params: of the network.
      batch: packed PiD or text-to-text features, int32 [B, S] and [B, L].
      dropout_rng: a key; None switches dropout off.

    Returns:
      float32 [B, L, V].
    """
    features = (
      'encoder_segment_ids',
      'decoder_segment_ids',
      'encoder_positions',
      'decoder_positions',
      'decoder_subtask_ids',
    )
    return self.module.apply(
      {'params': params},
      batch['encoder_input_tokens'],
      batch['decoder_input_tokens'],
      batch['decoder_target_tokens'],
      **{name: batch[name] for name in features if name in batch},
      enable_dropout=dropout_rng is not None,
      rngs=None if dropout_rng is None else {'dropout': dropout_rng},
    )


def _inputs_and_prompts(batch: Batch) -> tuple[jax.Array, jax.Array, bool]:
  """Returns inputs, prompts, and whether the batch has prompts.

  Each input of a text-to-text batch gets one empty prompt.
  """
  inputs = batch['encoder_input_tokens']
  prompts = batch.get('decoder_prompt_tokens')
  if prompts is not None:
    return inputs, prompts, True
  return inputs, jnp.zeros((inputs.shape[0], 1, 0), jnp.int32), False


def batch_counts(batch: Batch) -> Metrics:
  """Counts what a training batch holds.

  Args:
    batch: features of a training batch, and counters int32 [B] such as
      'inputs_truncated'.

  Returns:
    Counts of examples, subtasks, target tokens (those with a loss) and all
    real tokens; averages with the share of padding; one count for each counter.
  """
  count = lambda x: Count(jnp.sum(x, dtype=jnp.float32))
  encoder, decoder = batch['encoder_input_tokens'], _subtask_ids(batch)
  examples = batch.get('encoder_segment_ids')
  if examples is None:
    examples = encoder > 0
  num_real = jnp.sum(encoder > 0) + jnp.sum(decoder > 0)
  metrics = {
    'examples': count(jnp.max(examples, axis=-1)),
    'subtasks': count(jnp.max(decoder, axis=-1)),
    'tokens': count(num_real),
    'padding_share/encoder': _share(encoder == 0),
    'padding_share/decoder': _share(decoder == 0),
  }
  counters = {k: count(v) for k, v in batch.items() if k.endswith(TRUNCATED)}
  return metrics | counters


def _share(mask: jax.Array) -> clu_metrics.Average:
  return clu_metrics.Average(
    total=jnp.sum(mask, dtype=jnp.float32), count=jnp.float32(mask.size)
  )


def _subtask_ids(batch: Batch) -> jax.Array:
  """int32 [B, L]: which target a decoder token belongs to; 0 is padding."""
  for name in ('decoder_subtask_ids', 'decoder_segment_ids'):
    if name in batch:
      return batch[name]
  return (batch['decoder_target_tokens'] > 0).astype(jnp.int32)


def _sum_per_id(ids: jax.Array, values: jax.Array) -> jax.Array:
  """[B, L]: for each position the sum of the row's values with its id."""
  same = ids[:, :, None] == ids[:, None, :]
  return jnp.sum(same * values[:, None, :], axis=-1)
