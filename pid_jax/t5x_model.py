# Copyright 2026 The pid_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""The PiD model as T5X's train, eval and infer take it.

T5X provides the loop, the optimizer, the partitioner and the checkpoints. This
module adds PiD: how a batch is made from a task, how packed rows are read, and
how a batch of prompts is decoded and scored. The loss is T5X's. It normalises
as `model.EncoderDecoderModel` does, because the loss weights and positions of a
packed row say where each subtask begins and what it weighs.

The gin files of gin_configs/t5x put it together. This is the one module that
imports t5x, which is not on PyPI: docs/t5x.md says where to get it.
"""

from collections.abc import Callable
from collections.abc import Mapping
from typing import Any

from clu import metric_writers
import flax
import jax
import seqio

from pid_jax import config as config_lib
from pid_jax import decoding
from pid_jax import errors
from pid_jax import model as model_lib
from pid_jax import network
from pid_jax import subtasks
from pid_jax import trainer
from pid_jax.trainer import data
from pid_jax.trainer import setup

try:
  from t5x import gin_utils
  from t5x import models
  from t5x import optimizers
except ImportError as e:
  raise ImportError(
    f'pid_jax.t5x_model needs T5X, which cannot be imported ({e}). It is not '
    'on PyPI: get it from https://github.com/google-research/t5x, as '
    'docs/t5x.md shows. Without it, train with python -m pid_jax.train.'
  ) from e

PyTree = Any


class PromptInDecoderModel(models.EncoderDecoderModel):
  """T5X's model protocol over pid_jax's network and decoding."""

  FEATURE_CONVERTER_CLS = subtasks.PromptInDecoderFeatureConverter

  def __init__(
    self,
    module: network.Transformer,
    input_vocabulary: seqio.Vocabulary,
    output_vocabulary: seqio.Vocabulary,
    optimizer_def: optimizers.OptimizerDefType,
    *,
    feature_converter_cls: Callable[..., seqio.FeatureConverter] | None = None,
    label_smoothing: float = 0.0,
    z_loss: float = 0.0,
    loss_normalizing_factor: float | str | None = 'NUM_REAL_TARGET_TOKENS',
    sampler: decoding.Sampler | None = None,
    num_partitions: int = 1,
  ):
    """Holds the parts; allocates nothing.

    Args:
      module: the network.
      input_vocabulary: of inputs and prompts.
      output_vocabulary: of targets.
      optimizer_def: T5X's.
      feature_converter_cls: (pack=..., use_custom_packing_ops=...) -> a
        converter; None takes `subtasks.PromptInDecoderFeatureConverter`.
      label_smoothing: see `model.cross_entropy`.
      z_loss: see `model.cross_entropy`.
      loss_normalizing_factor: see `model.EncoderDecoderModel`. T5X applies it
        to each microbatch by itself; with None, a sum, the update does not
        depend on their number.
      sampler: picks the tokens in prediction; None is greedy.
      num_partitions: T5X's partitioner's, devices that share the parameters.

    Raises:
      UserError: the devices cannot share the parameters evenly.
    """
    _check_divides(module.config, num_partitions)
    super().__init__(
      module=module,
      input_vocabulary=input_vocabulary,
      output_vocabulary=output_vocabulary,
      optimizer_def=optimizer_def,
      feature_converter_cls=feature_converter_cls,
      label_smoothing=label_smoothing,
      z_loss=z_loss,
      loss_normalizing_factor=loss_normalizing_factor,
    )
    self._model = model_lib.EncoderDecoderModel(
      module,
      input_vocabulary,
      output_vocabulary,
      label_smoothing=label_smoothing,
      z_loss=z_loss,
      loss_normalizing_factor=loss_normalizing_factor,
      sampler=sampler,
    )

  def get_initial_variables(
    self,
    rng: jax.Array,
    input_shapes: Mapping[str, tuple[int, ...]],
    input_types: Mapping[str, Any] | None = None,
  ) -> flax.core.FrozenDict:
    """Initialises the network.

    Args:
      rng: a key.
      input_shapes: unused; inference batches have no decoder inputs, and
        parameters do not depend on any.
      input_types: unused.

    Returns:
      {'params': float32 nested dict, 'params_axes': their logical axes}.
    """
    del input_shapes, input_types
    return flax.core.freeze(self._model.get_initial_variables(rng))

  def loss_fn(
    self,
    params: PyTree,
    batch: model_lib.Batch,
    dropout_rng: jax.Array | None,
  ) -> tuple[jax.Array, model_lib.Metrics]:
    """T5X's loss and metrics, and counts of what the batch holds.

    Args:
      params: of the network.
      batch: packed PiD rows.
      dropout_rng: a key; None switches dropout off.

    Returns:
      float32 scalar, and metrics.
    """
    loss, metrics = super().loss_fn(params, batch, dropout_rng)
    return loss, {**metrics, **model_lib.batch_counts(batch)}

  def _compute_logits(
    self,
    params: PyTree,
    batch: model_lib.Batch,
    dropout_rng: jax.Array | None = None,
  ) -> jax.Array:
    return self._model.logits(params, batch, dropout_rng)

  def predict_batch_with_aux(
    self,
    params: PyTree,
    batch: model_lib.Batch,
    rng: jax.Array | None = None,
  ) -> tuple[jax.Array, dict[str, jax.Array]]:
    """See `model.EncoderDecoderModel.predict_batch_with_aux`."""
    return self._model.predict_batch_with_aux(params, batch, rng)

  def score_batch(self, params: PyTree, batch: model_lib.Batch) -> jax.Array:
    """See `model.EncoderDecoderModel.score_batch`."""
    return self._model.score_batch(params, batch)


def _check_divides(config: config_lib.T5Config, num_partitions: int) -> None:
  """Raises UserError unless the model axis divides what it is to split."""
  faults = [
    f'{name}={getattr(config, name)}'
    for name in ('num_heads', 'mlp_dim', 'vocab_size')
    if getattr(config, name) % num_partitions
  ]
  if faults:
    raise errors.UserError(
      f'NUM_PARTITIONS is {num_partitions}, which does not divide '
      f'{" and ".join(faults)} of the model. Choose a divisor.'
    )


def task_vocabulary(mixture_or_task_name: str) -> seqio.Vocabulary:
  """The vocabulary of a task's targets, so that model and task agree.

  Args:
    mixture_or_task_name: registered with SeqIO.

  Raises:
    UserError: no such task.
  """
  task = data.get_task(mixture_or_task_name)
  return task.output_features['targets'].vocabulary


def summarize_config(
  model_dir: str,
  summary_writer: metric_writers.MetricWriter | None,
  step: int,
  *,
  model: PromptInDecoderModel,
  mixture_or_task_name: str,
  task_feature_lengths: Mapping[str, int],
) -> None:
  """Writes config.gin, as T5X does, and what pid_jax's commands need besides.

  With config.json and the vocabulary in MODEL_DIR, `pid_jax.predict`,
  `evaluate`, `convert` and `PromptInDecoder.from_pretrained` take T5X's
  MODEL_DIR as it is.

  Args:
    model_dir: of the run.
    summary_writer: T5X's, or None.
    step: of the summary.
    model: whose network it is.
    mixture_or_task_name: what it is trained on.
    task_feature_lengths: feature -> greatest number of tokens.

  Raises:
    UserError: the vocabulary does not fit the model.
  """
  gin_utils.summarize_gin_config(model_dir, summary_writer, step)
  setup.describe(
    model,
    model_dir,
    trainer.DatasetConfig(mixture_or_task_name, task_feature_lengths),
    trainer.CheckpointConfig(),
  )
