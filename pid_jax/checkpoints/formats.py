# Copyright 2026 The pid_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""Loading, saving and converting, whatever the format."""

from collections.abc import Iterable
from collections.abc import Mapping
import contextlib
import dataclasses
import logging
import os
from typing import Any

from etils import epath
import jax
import jax.numpy as jnp

from pid_jax import checks
from pid_jax import config as config_lib
from pid_jax import errors
from pid_jax import files
from pid_jax import network
from pid_jax import partitioning
from pid_jax import platforms
from pid_jax import scratch
from pid_jax import vocabulary as vocabulary_lib
from pid_jax.checkpoints import hugging_face
from pid_jax.checkpoints import lazy_checkpoint
from pid_jax.checkpoints import names
from pid_jax.checkpoints import native
from pid_jax.checkpoints import t5x
from pid_jax.checkpoints import tensors as tensors_lib
from pid_jax.checkpoints import tokenizers
from pid_jax.checkpoints import weight_files
from pid_jax.network import quantization

PyTree = Any

logger = logging.getLogger(__name__)

# In the order in which they are tried.
FORMATS = {'t5x': t5x, 'native': native, 'hugging_face': hugging_face}
_ALIASES = {'ours': 'native'}


@dataclasses.dataclass(frozen=True)
class Pretrained:
  """A trained model in memory.

  Attributes:
    config: shape of the network.
    params: nested dict, as the network's 'params' collection; float32 unless
      asked for otherwise.
    vocabulary: of inputs, prompts and targets; None where there was none.
    task: what it was trained on: 'name', 'layout', 'long_inputs',
      'feature_lengths', and 'newline' if a sentinel stood for newlines. Empty
      where the checkpoint does not say.
    step: the number of updates that made these parameters; 0 where the
      checkpoint does not say.
  """

  config: config_lib.T5Config
  params: PyTree
  vocabulary: vocabulary_lib.AnyVocabulary | None
  task: Mapping[str, Any]
  step: int


def open_checkpoint(
  path: epath.PathLike,
  step: int | str | None = None,
  *,
  format: str | None = None,
) -> lazy_checkpoint.LazyCheckpoint:
  """Opens a checkpoint of any format; reads no weights.

  Args:
    path: a MODEL_DIR of pid_jax or of T5X, or one of its checkpoints, or a
      folder of Hugging Face's.
    step: of a MODEL_DIR: a number or 'last' (or, of pid_jax, 'best').
    format: a key of `FORMATS`; None: detected.

  Raises:
    UserError: no such checkpoint, of no known format, or damaged.
  """
  path = files.path(path, 'the checkpoint')
  if isinstance(step, str):
    checks.one_of('step', step, ('best', 'last'))
  elif step is not None:
    step = checks.integer('step', step, 0, native.MAX_STEP)
  with files.explained(f'cannot read {path}'):
    if not path.is_dir():
      is_file = path.exists()
      raise errors.UserError(
        f'{path} is a file; give the folder that it is in.'
        if is_file
        else f'{path} does not exist; give the folder of a checkpoint.'
      )
    known = [name for name, m in FORMATS.items() if m.matches(path)]
  if format is None:
    if not known:
      weight_files.check_kind(path)
      raise errors.UserError(
        f'{path} is no checkpoint of a known format: it holds neither '
        f'{native.CHECKPOINTS}/STEP (native) nor {t5x.PREFIX}STEP (T5X) nor '
        f'{hugging_face.CONFIG_FILE} (Hugging Face).'
        f'{weight_files.describe_others(path)}'
      )
    format = known[0]
  format = _find_format(format)
  if format == 'hugging_face':
    if step is not None:
      raise errors.UserError(
        f'{path} is a folder of Hugging Face, which has no steps to choose.'
      )
    opened = hugging_face.open_checkpoint(path)
  else:
    opened = FORMATS[format].open_checkpoint(path, step)
  return dataclasses.replace(opened, format=format)


def choose_vocabulary(
  model: lazy_checkpoint.LazyCheckpoint,
  given: vocabulary_lib.AnyVocabulary | None = None,
  texts: Iterable[str] = (),
) -> vocabulary_lib.AnyVocabulary | None:
  """Returns the vocabulary of a checkpoint, or else the one given for it.

  Args:
    model: the checkpoint.
    given: the vocabulary to use, which must encode texts as that of the
      checkpoint. Where the latter's tokenizer is one that cannot be read
      exactly, they cannot be compared, and a warning says so.
    texts: to compare on, see `vocabulary.first_difference`.

  Returns:
    `given`, if there is one; None: the checkpoint has none either.

  Raises:
    UserError: they differ, `given` has more ids than the model embeds, or the
      checkpoint's vocabulary cannot be read and no other is given.
  """
  if given is None:
    return model.read_vocabulary()
  try:
    own = model.read_vocabulary()
  except tokenizers.InexactTokenizerError as e:
    logger.warning('The vocabulary %s is used unchecked: %s', given, e)
    own = None
  if own is not None:
    path = own.path if isinstance(own, vocabulary_lib.Vocabulary) else None
    remedy = (
      'Use its own (VOCABULARY, --vocabulary): a model reads ids, and learned '
      f'those of {own}.'
    )
    if path is not None and path.name == tokenizers.JSON_FILE:
      remedy = (
        f'Use its own: python -m pid_jax.convert writes it as '
        f'{native.VOCABULARY_FILE}.'
      )
    vocabulary_lib.check_same_ids(
      own, given, f'the vocabulary {given}', remedy, texts
    )
  with_num_tokens(model.config, given)  # Checks its size.
  return given


def load(
  path: epath.PathLike | lazy_checkpoint.LazyCheckpoint,
  step: int | str | None = None,
  partitioner: partitioning.Partitioner | None = None,
  *,
  format: str | None = None,
  param_dtype: str = 'float32',
) -> Pretrained:
  """Loads a model from a checkpoint of any format.

  Args:
    path: see `open_checkpoint`; or what that returned, and no step.
    step: a number, 'best' (of pid_jax: by the metric that the run named),
      'last', or None for 'best' if there is one, else 'last'.
    partitioner: places the parameters on its mesh; None on the first device.
    format: a key of `FORMATS`; None: detected.
    param_dtype: 'float32' or 'bfloat16', of the parameters in memory.

  Raises:
    UserError: no such checkpoint, step or vocabulary, or parameters that do not
      fit the configuration.
  """
  dtype = tensors_lib.parse_dtype(param_dtype)
  model = path
  if not isinstance(path, lazy_checkpoint.LazyCheckpoint):
    model = open_checkpoint(path, step, format=format)
  vocabulary = model.read_vocabulary()
  config = with_num_tokens(model.config, vocabulary)
  params = model.restore(config, abstract_params(config, partitioner, dtype))
  return Pretrained(config, params, vocabulary, model.task, model.step)


def load_for_inference(
  path: epath.PathLike | lazy_checkpoint.LazyCheckpoint,
  step: int | str | None = None,
  partitioner: partitioning.Partitioner | None = None,
  *,
  param_dtype: str = 'float32',
) -> Pretrained:
  """As `load`, with the parameters in the form in which programs read them.

  That is one of `network.quantize_params`; and where programs of inference loop
  over layers (`platforms`), layers are stacked whatever the checkpoint has.

  Args:
    path: see `load`.
    step: see `load`.
    partitioner: see `load`.
    param_dtype: 'float32', 'bfloat16' or 'int8', see `network.quantization`.

  Raises:
    UserError: see `load`; or no such param_dtype.
  """
  config_lib.check_dtype('param_dtype', param_dtype, config_lib.PARAM_DTYPES)
  # int8 is quantized from float32; bfloat16 is never held as float32.
  read_dtype = 'float32' if param_dtype == 'int8' else param_dtype
  model = path
  if not isinstance(path, lazy_checkpoint.LazyCheckpoint):
    model = open_checkpoint(path, step)
  if platforms.of(partitioner and partitioner.mesh).scan_layers:
    model = model.configured(scan_layers=True)
  loaded = load(model, None, partitioner, param_dtype=read_dtype)
  axes = names.param_axes(loaded.config)
  params = network.quantize_params(loaded.params, axes, param_dtype)
  axes = quantization.quantized_axes(axes, param_dtype)
  partitioner = partitioner or _first_device()
  params = jax.device_put(params, partitioner.formats(params, axes))
  return dataclasses.replace(loaded, params=params)


def save(
  path: epath.PathLike,
  pretrained: Pretrained,
  *,
  format: str = 'native',
  dtype: str = 'float32',
  **options: Any,
) -> None:
  """Writes a model to a new folder, which appears when it is complete.

  Args:
    path: must not exist, or be empty.
    pretrained: what to write; its arrays must be addressable here.
    format: a key of `FORMATS`.
    dtype: 'float32' or 'bfloat16', of the weights on disk.
    **options: of the format's `write_checkpoint`.

  Raises:
    UserError: the folder holds something, or the format cannot hold the model.
  """
  flat = tensors_lib.flatten(pretrained.params)
  for name, leaf in flat.items():
    if isinstance(leaf, jax.Array) and not leaf.is_fully_addressable:
      raise errors.UserError(
        f'{name} is spread over processes: save from one process, after '
        'loading the checkpoint there.'
      )
  stored = {
    name: tensors_lib.of_array(name, leaf) for name, leaf in flat.items()
  }
  model = lazy_checkpoint.LazyCheckpoint(
    path='the model in memory',
    config=pretrained.config,
    tensors=names.to_plain(stored, names.param_axes(pretrained.config)),
    task=pretrained.task,
    step=pretrained.step,
    read_vocabulary=lambda: pretrained.vocabulary,
  )
  _write(path, model, format, dtype, options)


def convert(
  source: epath.PathLike,
  target: epath.PathLike,
  *,
  source_format: str | None = None,
  target_format: str = 'native',
  step: int | str | None = None,
  dtype: str | None = None,
  vocabulary: vocabulary_lib.AnyVocabulary | None = None,
  with_vocabulary: bool = True,
  with_optimizer: bool = False,
) -> lazy_checkpoint.LazyCheckpoint:
  """Writes a checkpoint in another format, to a folder that is then complete.

  Args:
    source: see `open_checkpoint`.
    target: must not exist, or be empty.
    source_format: a key of `FORMATS`; None: detected.
    target_format: a key of `FORMATS`.
    step: of a source with several.
    dtype: 'float32' or 'bfloat16', of the weights on disk; None: as in the
      source, float32 if in doubt.
    vocabulary: for a source that has none, see `choose_vocabulary`.
    with_vocabulary: False writes the weights alone.
    with_optimizer: whether to convert the moments of Adafactor too, between
      the native format and T5X's.

  Returns:
    The source.

  Raises:
    UserError: the source is damaged or unknown, the target holds something, or
      its format cannot hold the model. There is no target then.
  """
  target_format = _find_format(target_format)
  if dtype is not None:
    tensors_lib.parse_dtype(dtype)
  model = open_checkpoint(source, step, format=source_format)
  found = choose_vocabulary(model, vocabulary) if with_vocabulary else None
  model = dataclasses.replace(
    model,
    config=with_num_tokens(model.config, found),
    read_vocabulary=lambda: found,
  )
  model.check()
  if dtype is None:
    dtype = 'bfloat16' if model.is_bfloat16 else 'float32'
  options = {}
  if with_optimizer:
    if target_format == 'hugging_face':
      raise errors.UserError(
        "Hugging Face's format cannot hold the optimizer's state."
      )
    options['with_optimizer'] = True
  _write(target, model, target_format, dtype, options)
  return model


def abstract_params(
  config: config_lib.T5Config,
  partitioner: partitioning.Partitioner | None = None,
  dtype: Any = jnp.float32,
) -> PyTree:
  """Shapes, dtypes and formats of a network's parameters."""
  partitioner = partitioner or _first_device()
  partitioner.check_model(config)
  params = names.abstract_params(config)
  return jax.tree.map(
    lambda leaf, form: jax.ShapeDtypeStruct(leaf.shape, dtype, sharding=form),
    params,
    partitioner.formats(params, names.param_axes(config)),
  )


def _first_device() -> partitioning.Partitioner:
  return partitioning.Partitioner(devices=jax.local_devices()[:1])


def with_num_tokens(
  config: config_lib.T5Config,
  vocabulary: vocabulary_lib.AnyVocabulary | None,
) -> config_lib.T5Config:
  """Forbids ids that a vocabulary does not have, where all were allowed.

  Raises:
    UserError: the vocabulary has more ids than the model embeds.
  """
  if vocabulary is None:
    return config
  if vocabulary.size > config.vocab_size:
    raise errors.UserError(
      f'The vocabulary {vocabulary} has {vocabulary.size:,} ids, '
      f'{vocabulary.extra_ids} of them sentinels (extra_ids), but the model '
      f'embeds {config.vocab_size:,}: it belongs to another model, or has '
      'fewer sentinels.'
    )
  if config.num_tokens < config.vocab_size:
    return config
  return dataclasses.replace(config, num_tokens=vocabulary.size)


def _find_format(name: str) -> str:
  """Returns a key of `FORMATS`; raises UserError for an unknown name."""
  name = _ALIASES.get(checks.string('the format', name), name)
  if name not in FORMATS:
    raise errors.unknown('checkpoint format', name, FORMATS)
  return name


def _write(
  path: epath.PathLike,
  model: lazy_checkpoint.LazyCheckpoint,
  format: str,
  dtype: str,
  options: Mapping[str, Any],
) -> None:
  """Writes to a folder beside the target, and renames it when complete."""
  format = _find_format(format)
  tensors_lib.parse_dtype(dtype)
  target = files.real(files.path(path, 'the target'))
  work = scratch.ScratchFolder(target, '.incomplete', 'new', 'target')
  with files.explained(f'cannot write {target}'):
    work.sweep()
    _check_new(target)
    missing = [p for p in target.parents if not p.exists()]
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
      with work:
        work.clear()
        new = work.path / 'new'
        try:
          new.mkdir()
          FORMATS[format].write_checkpoint(new, model, dtype=dtype, **options)
          _check_new(target)
          if target.exists():
            target.rmdir()
          new.rename(target)
        finally:
          work.remove()
    finally:
      for folder in missing:  # But for those that the target is in.
        if not files.is_remote(folder):
          with contextlib.suppress(OSError):
            os.rmdir(folder)


def _check_new(target: epath.Path) -> None:
  if not files.is_remote(target):
    with contextlib.suppress(FileNotFoundError):
      os.stat(target)  # Raises if there cannot be such a path.
  if target.exists() and (not target.is_dir() or any(target.iterdir())):
    raise errors.UserError(f'{target} exists already: choose another folder.')
