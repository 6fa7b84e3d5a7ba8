# Copyright 2026 The pid_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""Set-up of a run: checks, the description in MODEL_DIR, the first state.

Mistakes in a configuration are found here, before the first example is read and
anything is compiled.
"""

from collections.abc import Mapping
import dataclasses
import logging
import math
import os
from typing import Any

from etils import epath
import jax
import seqio
import tensorflow as tf

from pid_jax import checkpoints
from pid_jax import checks
from pid_jax import config as config_lib
from pid_jax import errors
from pid_jax import files
from pid_jax import model as model_lib
from pid_jax import partitioning
from pid_jax import platforms
from pid_jax import vocabulary as vocabulary_lib
from pid_jax.inference import options as options_lib
from pid_jax.subtasks import round_trip
from pid_jax.trainer import checkpointer as checkpointer_lib
from pid_jax.trainer import data
from pid_jax.trainer import optimizers
from pid_jax.trainer import schedules
from pid_jax.trainer import step as step_lib


def check_arguments(arguments: Mapping[str, Any]) -> None:
  """Checks the types and ranges of the arguments of `trainer.train`.

  Raises:
    UserError: naming the argument.
  """
  for name, kind, words in (
    ('model', model_lib.EncoderDecoderModel, '@model.EncoderDecoderModel()'),
    ('optimizer', optimizers.Optimizer, '@optimizers.adafactor()'),
    ('train_dataset_cfg', data.DatasetConfig, '@trainer.DatasetConfig()'),
    ('train_eval_dataset_cfg', data.DatasetConfig, None),
    ('infer_eval_dataset_cfg', data.DatasetConfig, None),
    ('checkpoint_cfg', checkpointer_lib.CheckpointConfig, None),
    ('decoding_options', options_lib.DecodingOptions, None),
    ('partitioner', partitioning.Partitioner, None),
  ):
    value = arguments[name]
    if not isinstance(value, kind) and (words or value is not None):
      example = f', such as {words}' if words else ', or None'
      raise errors.UserError(
        f'{name} must be of type {kind.__name__}{example}; got '
        f'{checks.shown(value)}.'
      )
  for name in ('eval_period', 'eval_steps', 'log_period', 'num_microbatches'):
    checks.integer(name, arguments[name], 1)
  total_steps = arguments['total_steps']
  checks.integer(
    'total_steps (TRAIN_STEPS)', total_steps, 1, schedules.MAX_STEPS
  )
  checks.integer('random_seed', arguments['random_seed'], 0, data.MAX_SEED)
  if arguments['ema_decay'] is not None:
    checks.number('ema_decay', arguments['ema_decay'], above=0.0, below=1.0)
  checks.boolean('quiet', arguments['quiet'])


def check_memory(
  shapes: step_lib.TrainState,
  config: config_lib.T5Config,
  dataset_cfg: data.DatasetConfig,
  partitioner: partitioning.Partitioner,
  num_microbatches: int,
) -> None:
  """Refuses by arithmetic what no device can hold; allocates nothing.

  Counts what a step needs at least: the state, the gradients, and the larger of
  the logits and of the attention scores of one layer. What passes may still be
  too large.

  Args:
    shapes: from `step.abstract_state`.
    config: of the network.
    dataset_cfg: of the training, its lengths complete.
    partitioner: gives the mesh.
    num_microbatches: see `trainer.train`.

  Raises:
    UserError: it is more than the memory of a device (of the machine, where the
      CPU computes).
  """

  def num_bytes(tree) -> int:
    return sum(
      math.prod(leaf.sharding.shard_shape(leaf.shape)) * leaf.dtype.itemsize
      for leaf in jax.tree.leaves(tree)
    )

  row = data.row_shapes(dataset_cfg)
  (inputs,), _ = row['encoder_input_tokens']
  (targets,), _ = row['decoder_input_tokens']
  rows = dataset_cfg.batch_size / partitioner.num_data_shards / num_microbatches
  split = partitioner.num_partitions  # Of heads and the vocabulary.
  logits = rows * targets * config.vocab_size / split * 4
  longest = max(inputs**2, targets**2, inputs * targets)
  scores = rows * config.num_heads / split * longest * 2
  state, gradients = num_bytes(shapes), num_bytes(shapes.params)
  needed = state + gradients + max(logits, scores)
  available = _device_memory()
  if needed > available:
    raise errors.UserError(
      f'Training needs more than {needed / 1e9:,.4g} GB on each device, which '
      f'has {available / 1e9:,.4g}: {(state + gradients) / 1e9:,.4g} for the '
      'parameters, their gradients and the optimizer, '
      f'{max(logits, scores) / 1e9:,.4g} for the '
      f'{"logits" if logits > scores else "attention"} of {rows:,.0f} rows of '
      f'{inputs:,} input and {targets:,} decoder tokens. Lower BATCH_SIZE or '
      'TASK_FEATURE_LENGTHS, raise trainer.train.num_microbatches, or take a '
      'smaller model or more devices (NUM_FSDP, NUM_PARTITIONS).'
    )


def _device_memory() -> int:
  """Bytes of a device, or of the machine where the CPU computes."""
  stats = jax.local_devices()[0].memory_stats() or {}
  on_host = os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES')
  return stats.get('bytes_limit', on_host)


def choose_scanning(
  model: model_lib.EncoderDecoderModel,
  partitioner: partitioning.Partitioner,
  model_dir: epath.PathLike | None = None,
) -> model_lib.EncoderDecoderModel:
  """Decides whether a run loops over layers, where its configuration does not.

  Args:
    model: as configured; `scan_layers` None: a run that is resumed keeps the
      form that its state has, and a new one takes that of its platform.
    partitioner: gives the mesh, of devices that may exist in name only.
    model_dir: of the run; None: it is new.
  """
  config = model.module.config
  if config.scan_layers is not None:
    return model
  scan_layers = platforms.of(partitioner.mesh).scan_layers
  if model_dir is not None and checkpoints.steps(model_dir):
    saved = checkpoints.read_config(model_dir)['model']
    scan_layers = config_lib.T5Config.from_dict(saved).scan_layers
  return model.with_config(dataclasses.replace(config, scan_layers=scan_layers))


def find_vocabulary(
  model: model_lib.EncoderDecoderModel, dataset_cfg: data.DatasetConfig
) -> seqio.Vocabulary:
  """Returns the model's vocabulary, or else the task's.

  Raises:
    UserError: an unknown task, or a vocabulary that does not fit the model.
  """
  vocabulary = model.output_vocabulary
  if vocabulary is None:
    task = data.get_task(dataset_cfg.mixture_or_task_name)
    vocabulary = task.output_features['targets'].vocabulary
  try:
    num_ids = vocabulary.vocab_size  # Reads the file.
  except (OSError, tf.errors.OpError) as e:
    path = getattr(vocabulary, 'sentencepiece_model_file', vocabulary)
    raise errors.UserError(f'Cannot read the vocabulary {path}: {e}') from e
  config = model.module.config
  if num_ids > config.num_tokens:
    raise errors.UserError(
      f'The vocabulary of {dataset_cfg.mixture_or_task_name!r} has '
      f'{num_ids} ids, but the model generates only '
      f'{config.num_tokens} and embeds {config.vocab_size}: raise '
      'T5Config.num_tokens and vocab_size, or begin with a checkpoint that was '
      'trained with this vocabulary.'
    )
  return vocabulary


def check_datasets(
  train_cfg: data.DatasetConfig,
  loss_cfg: data.DatasetConfig | None,
  infer_cfg: data.DatasetConfig | None,
) -> None:
  """Checks tasks, splits and packing.

  Prompts are packed into the rows that a loss is computed on; text-to-text rows
  may be packed or not.

  Raises:
    UserError: an unknown task or split, or a wrong value of `pack`.
  """
  for name, cfg, pack in (
    ('train_dataset_cfg', train_cfg, True),
    ('train_eval_dataset_cfg', loss_cfg, True),
    ('infer_eval_dataset_cfg', infer_cfg, False),
  ):
    if cfg is None:
      continue
    task = data.get_task(cfg.mixture_or_task_name)
    data.check_split(task, cfg.split)
    if cfg.pack != pack and (not pack or data.layout(task) == 'pid'):
      raise errors.UserError(f'DatasetConfig.pack of {name} must be {pack}.')


def check_vocabularies(
  model: model_lib.EncoderDecoderModel,
  initial: checkpoints.LazyCheckpoint | None,
  dataset_cfg: data.DatasetConfig,
  *others: data.DatasetConfig | None,
) -> None:
  """Checks that a run has one vocabulary, that of its first weights.

  Args:
    model: the model.
    initial: see `open_initial`; one without a vocabulary takes any.
    dataset_cfg: what is trained on: some of its texts are compared.
    *others: what is evaluated on.

  Raises:
    UserError: texts have other ids than those that the weights were trained
      with, or than in training; or see `find_vocabulary`.
  """
  vocabulary = round_trip.plain_vocabulary(find_vocabulary(model, dataset_cfg))
  name = dataset_cfg.mixture_or_task_name
  if initial is not None and vocabulary is not None:
    texts = round_trip.sample(
      data.get_task(name), dataset_cfg.split, use_cached=dataset_cfg.use_cached
    )
    checkpoints.choose_vocabulary(initial, vocabulary, texts)
  for task in {name, *(cfg.mixture_or_task_name for cfg in others if cfg)}:
    check_task_vocabulary(vocabulary, task)


def check_task_vocabulary(
  own: vocabulary_lib.AnyVocabulary | None, task: str
) -> None:
  """Checks that a task is tokenised with the vocabulary of a model.

  Args:
    own: the model's; None: not known.
    task: name of the task, registered.

  Raises:
    UserError: texts have other ids.
  """
  features = data.get_task(task).output_features
  plain = round_trip.plain_vocabulary(features['targets'].vocabulary)
  if own is None or plain is None:
    return
  vocabulary_lib.check_same_ids(
    own,
    plain,
    f'{plain}, the vocabulary of the task {task!r},',
    'Register the task with that of the model (VOCABULARY, --vocabulary).',
  )


def check_targets(dataset_cfg: data.DatasetConfig) -> None:
  """Raises UserError if a task has no targets to learn from."""
  whole = data.get_task(dataset_cfg.mixture_or_task_name)
  for task in seqio.get_subtasks(whole):
    layout = getattr(task, 'layout', None)
    if layout is not None and not layout.has_targets:
      raise errors.UserError(
        f'{task.name!r} has no targets, so that there is nothing to learn: '
        'give each subtask a "target"'
      )


def warn_of_lost_text(dataset_cfg: data.DatasetConfig) -> None:
  """Warns of characters that the model cannot read or write.

  And of targets that no output can equal. Reads the first examples.
  """
  task = data.get_task(dataset_cfg.mixture_or_task_name)
  counters = round_trip.count(
    task, dataset_cfg.split, use_cached=dataset_cfg.use_cached
  )
  for name, counter in counters.items():
    # What is rewritten as other characters can be read all the same.
    counter.log(
      rewritten=logging.WARNING if name == 'targets' else logging.DEBUG
    )


def describe(
  model: model_lib.EncoderDecoderModel,
  model_dir: epath.PathLike,
  dataset_cfg: data.DatasetConfig,
  checkpoint_cfg: checkpointer_lib.CheckpointConfig,
) -> None:
  """Writes config.json and the vocabulary into MODEL_DIR.

  Raises:
    UserError: MODEL_DIR belongs to another model.
  """
  task = data.get_task(dataset_cfg.mixture_or_task_name)
  vocabulary = find_vocabulary(model, dataset_cfg)
  if jax.process_index() == 0:
    checkpoints.write_config(
      model_dir,
      config=model.module.config,
      task={
        'name': dataset_cfg.mixture_or_task_name,
        **task_layout(task),
        'feature_lengths': dict(dataset_cfg.task_feature_lengths),
      },
      vocabulary=round_trip.plain_vocabulary(vocabulary),
      selection=checkpoint_cfg.selection,
    )


def task_layout(task: seqio.Task | seqio.Mixture) -> dict[str, str]:
  """How inference must arrange inputs and prompts to match the training.

  Args:
    task: that a model is trained on.

  Returns:
    'layout', and where they are known 'long_inputs' and 'newline'.

  Raises:
    UserError: the tasks of a mixture write newlines as different sentinels.
  """
  tasks = task.tasks if isinstance(task, seqio.Mixture) else [task]
  layouts = [getattr(t, 'layout', None) for t in tasks]
  sentinels = {layout.newline for layout in layouts if layout} - {None}
  if len(sentinels) > 1:
    raise errors.UserError(
      f'the tasks of {task.name!r} write newlines as different sentinels '
      f'({", ".join(sorted(sentinels))}): a model can learn one of them'
    )
  newline = {'newline': sentinels.pop()} if sentinels else {}
  if None in layouts:
    return {'layout': data.layout(task), **newline}
  names = {layout.name for layout in layouts}
  if len(names) > 1:  # Of a mixture.
    return {'layout': data.layout(task), **newline}
  ways = {layout.long_inputs for layout in layouts}
  # Where tasks of a mixture keep different ends of an input, no way is right.
  long_inputs = ways.pop() if len(ways) == 1 else 'error'
  return {'layout': names.pop(), 'long_inputs': long_inputs, **newline}


def first_state(
  model: model_lib.EncoderDecoderModel,
  optimizer: optimizers.Optimizer,
  partitioner: partitioning.Partitioner,
  shapes: step_lib.TrainState,
  *,
  seed: int,
  initial: checkpoints.LazyCheckpoint | None = None,
) -> step_lib.TrainState:
  """Makes the state before the first step, sharded from the start.

  Args:
    model: the model.
    optimizer: the optimizer.
    partitioner: gives the mesh.
    shapes: from `step.abstract_state`.
    seed: of the initialisation.
    initial: the checkpoint that gives the parameters, of `open_initial`; None
      initialises them.
  """
  has_ema = shapes.ema_params is not None
  formats = jax.tree.map(lambda leaf: leaf.format, shapes)
  with partitioner.scope():
    if initial is None:
      init = jax.jit(
        lambda rng: step_lib.initial_state(model, optimizer, rng, has_ema),
        out_shardings=formats,
      )
      return init(jax.random.key(seed))
    params = initial.restore(model.module.config, shapes.params)
    init = jax.jit(
      lambda params: step_lib.state_from_params(
        model, optimizer, params, has_ema
      ),
      out_shardings=formats,
      donate_argnums=(0,),
    )
    return init(params)


def open_initial(path: epath.PathLike) -> checkpoints.LazyCheckpoint:
  """Opens the checkpoint to begin with; reads no weights.

  Args:
    path: of any format; of a MODEL_DIR its best checkpoint, or else its last.

  Raises:
    UserError: there is no such checkpoint, or it is damaged.
  """
  path = files.path(path, 'INITIAL_CHECKPOINT_PATH')
  if not path.is_dir():
    raise errors.UserError(
      f'INITIAL_CHECKPOINT_PATH {path} does not exist; give the folder of a '
      "checkpoint (native, T5X's or Hugging Face's), or None to train from "
      'scratch.'
    )
  return checkpoints.open_checkpoint(path)


def checkpoint_config(path: epath.PathLike | None) -> config_lib.T5Config:
  """Returns the configuration of the model that a checkpoint holds.

  Gin files give it to `T5Config.size`: a run that begins with a checkpoint
  need not name the shape of its model.

  Args:
    path: see `open_initial`; None, or empty, is a mistake.

  Raises:
    UserError: there is no path, or no such checkpoint.
  """
  if not path:
    raise errors.UserError(
      'nothing gives the model its shape: give MODEL_SIZE, such as '
      '--gin.MODEL_SIZE="\'t5_1_1_base\'", or INITIAL_CHECKPOINT_PATH, whose '
      'shape it takes'
    )
  return open_initial(path).config


def fit_to_checkpoint(
  model: model_lib.EncoderDecoderModel,
  initial: checkpoints.LazyCheckpoint,
  dataset_cfg: data.DatasetConfig,
) -> model_lib.EncoderDecoderModel:
  """Gives a model the shape of the checkpoint that it begins with.

  What a run chooses freely (`config.FREE_FIELDS`) stays as configured, and so
  does what the checkpoint does not say. Ids that neither knows to be padding
  are padding where the task's vocabulary does not have them.

  Args:
    model: as configured.
    initial: see `open_initial`.
    dataset_cfg: names the task.

  Raises:
    UserError: the checkpoint is not complete, or the vocabulary has more ids
      than it embeds.
  """
  configured, saved = model.module.config, initial.config
  kept = {*config_lib.FREE_FIELDS, *initial.assumed}
  if len(configured.mlp_activations) != len(saved.mlp_activations):
    kept -= {'mlp_activations'}  # Gated or not: shapes tell.
  if configured.relpos_bias_per_layer:
    kept.add('relpos_bias_per_layer')  # Layers begin with the shared bias.
  config = config_lib.T5Config(
    size=saved, **{name: getattr(configured, name) for name in kept}
  )
  if configured.vocab_size == saved.vocab_size:
    num_tokens = min(configured.num_tokens, saved.num_tokens)
    config = dataclasses.replace(config, num_tokens=num_tokens)
  initial.check(config)
  model = model.with_config(config)
  if config.num_tokens == config.vocab_size:
    num_tokens = find_vocabulary(model, dataset_cfg).vocab_size
    config = dataclasses.replace(config, num_tokens=num_tokens)
  return model.with_config(config)


def describe_initial(
  initial: checkpoints.LazyCheckpoint,
  configured: config_lib.T5Config,
  fitted: config_lib.T5Config,
) -> str:
  """Describes which weights a run begins with, and how they change its shape.

  Args:
    initial: see `open_initial`.
    configured: the configuration that the run was given.
    fitted: the one that `fit_to_checkpoint` returned.
  """
  line = (
    f'begins with the weights of {initial.path} ({initial.format}, step '
    f'{initial.step}, {fitted.num_parameters / 1e6:.4g} million parameters)'
  )
  different = configured.differences(fitted)
  if different:
    fields = [f'{k} {new}, not {old}' for k, (old, new) in different.items()]
    more = [f'and {len(fields) - 4} more'] * (len(fields) > 4)
    line += (
      '; the model has its shape, not the configured one: '
      f'{"; ".join(fields[:4] + more)}'
    )
  if initial.assumed:
    fields = (f'{name}={getattr(fitted, name)}' for name in initial.assumed)
    line += f'; the checkpoint does not store {", ".join(fields)}'
  return line
