# Copyright 2026 The pid_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""A checkpoint of any format whose weights have not been read.

Each format has a module that opens its checkpoints as a `LazyCheckpoint` and
writes one. So a conversion is `write_checkpoint(open_checkpoint(source))`, and
a model's parameters are restored from all formats by one function.
"""

import collections
from collections.abc import Callable
from collections.abc import Collection
from collections.abc import Mapping
import dataclasses
import hashlib
import os
from typing import Any

from etils import epath
from flax import traverse_util
import numpy as np

from pid_jax import checks
from pid_jax import config as config_lib
from pid_jax import errors
from pid_jax import files
from pid_jax.checkpoints import names
from pid_jax.checkpoints import tensors as tensors_lib
from pid_jax.checkpoints.tensors import Tensor
from pid_jax.vocabulary import AnyVocabulary

PyTree = Any

SET_CONFIG = 'Set the T5Config that it was trained with.'
_ONE_PLACE = (
  'Its configuration and its weights are of different models: get both from '
  'one place.'
)
_MAX_LISTED = 3  # Of each kind of fault.
# The fields of T5Config that axes of parameters have for sizes.
_AXES = {
  'vocab': 'vocab_size',
  'embed': 'emb_dim',
  'heads': 'num_heads',
  'joined_kv': 'num_heads * head_dim',
  'mlp': 'mlp_dim',
  'relpos_buckets': 'relpos_num_buckets',
}


@dataclasses.dataclass(frozen=True)
class LazyCheckpoint:
  """What a checkpoint holds.

  Attributes:
    path: of the checkpoint, for messages.
    config: shape of the model.
    tensors: plain name (see names.py) -> tensor, unread. Those that are no
      parameters of the model are among them, under their stored names.
    task: what the model was trained on, as in MODEL_DIR/config.json, or empty.
    step: the number of updates that made it, or 0 where that is unknown.
    assumed: fields of `config` that the format does not store, and that have
      T5's values: the user's configuration takes precedence.
    name_there: what the format calls a plain name, for messages.
    read_vocabulary: returns the vocabulary, or None if the checkpoint has none.
      Raises UserError if it cannot be read exactly; weights load even then.
    format: 'native', 't5x' or 'hugging_face', where it is known.
    moments: of Adafactor, 'v', 'v_row' or 'v_col', then a slash and a plain
      name -> tensor; of models whose layers are not stacked; or empty.
  """

  path: str
  config: config_lib.T5Config
  tensors: Mapping[str, Tensor]
  task: Mapping[str, Any] = dataclasses.field(default_factory=dict)
  step: int = 0
  assumed: tuple[str, ...] = ()
  name_there: Callable[[str], str] = lambda name: name
  read_vocabulary: Callable[[], AnyVocabulary | None] = lambda: None
  format: str = ''
  moments: Mapping[str, Tensor] = dataclasses.field(default_factory=dict)

  def __post_init__(self):
    """Checks the step, which becomes the name of a folder."""
    checks.integer(f'{self.path}: step', self.step, 0)

  def configured(self, **fields: Any) -> 'LazyCheckpoint':
    """Returns the checkpoint as a model with other `config.FREE_FIELDS`."""
    config = dataclasses.replace(self.config, **fields)
    return dataclasses.replace(self, config=config)

  @property
  def is_bfloat16(self) -> bool:
    """Whether all weights in the file are bfloat16."""
    half = tensors_lib.DTYPES['bfloat16']
    return all(tensor.dtype == half for tensor in self.tensors.values())

  def describe(self) -> str:
    """Says in a line which weights these are."""
    parts = [
      *([f'step {self.step}'] if self.step else []),
      f'{self.config.num_parameters:,} parameters',
      f'layout {self.task.get("layout", "not known")}',
    ]
    return f'{self.path} ({", ".join(parts)})'

  def fingerprint(self) -> str:
    """Hash of file names, sizes and times: changes if the files are replaced.

    File systems may keep whole seconds: two versions within one second and of
    the same sizes have the same fingerprint.
    """
    path = epath.Path(self.path)
    found = sorted(path.iterdir()) if path.is_dir() else [path]
    described = [(os.fspath(file), *files.stat(file)) for file in found]
    return hashlib.sha256(repr(described).encode()).hexdigest()[:16]

  def check(self, config: config_lib.T5Config | None = None) -> None:
    """Compares the checkpoint with a model.

    Args:
      config: of the model; None: the checkpoint's own.

    Raises:
      UserError: naming the fields that differ, or else what is missing,
        unexpected or of another shape, with both names, at most three of each
        kind.
    """
    config = config or self.config
    self.fitted(config)
    check_same_function(self.config, config, self.path, self.assumed)

  def fitted(self, config: config_lib.T5Config) -> dict[str, Tensor]:
    """Returns the tensors of a model, unread but for position biases.

    Args:
      config: of the model.

    Returns:
      Plain name -> tensor.

    Raises:
      UserError: see `check`.
    """
    remedy = SET_CONFIG if config.differences(self.config) else _ONE_PLACE
    faults = _differing_sizes(self.tensors, config)
    if faults:
      raise errors.UserError(
        f'The checkpoint {self.path} does not fit the model: '
        f'{"; ".join(faults)}. {remedy}'
      )
    saved = names.arrange_biases(self.tensors, config.relpos_bias_per_layer)
    check_shapes(
      {name: tensor.shape for name, tensor in saved.items()},
      names.plain_shapes(config),
      self.path,
      {name: tensor.name for name, tensor in saved.items()},
      self.name_there,
      remedy,
    )
    return saved

  def restore(self, config: config_lib.T5Config, wanted: PyTree) -> PyTree:
    """Reads the parameters straight into the shards of a network's.

    Args:
      config: of the network; with scanned layers or not, whatever the
        checkpoint has.
      wanted: its parameters, a nested dict of ShapeDtypeStructs with formats.

    Returns:
      The same with arrays, cast to the wanted dtype.

    Raises:
      UserError: see `check`, and nothing has been allocated by then; or a
        parameter is damaged, or not finite.
    """
    sources = names.from_plain(self.fitted(config), config)
    flat = tensors_lib.flatten(wanted)

    def check(name: str, part: np.ndarray) -> None:
      if not tensors_lib.is_finite(part):
        raise errors.UserError(
          f'The checkpoint {self.path} holds NaN or infinity in '
          f'{sources[name].name}: its training diverged, or a file is damaged. '
          'Use another step of the model, or another copy.'
        )

    arrays = tensors_lib.read_to_devices(sources, flat, check)
    return traverse_util.unflatten_dict(arrays, sep='/')


def check_shapes(
  saved: Mapping[str, tuple[int, ...]],
  wanted: Mapping[str, tuple[int, ...]],
  where: str,
  saved_names: Mapping[str, str] | None = None,
  name_there: Callable[[str], str] = lambda name: name,
  remedy: str = SET_CONFIG,
) -> None:
  """Compares a checkpoint's shapes with the model's.

  Args:
    saved: name -> shape.
    wanted: name -> shape.
    where: names the checkpoint in the message.
    saved_names: name -> what the checkpoint calls it, where that differs.
    name_there: what the checkpoint would call a name.
    remedy: ends the message.

  Raises:
    UserError: naming parameters that differ, at most three of each kind.
  """

  def both(name, there):
    name, there = (
      x if x.isprintable() and len(x) < 100 else checks.shown(x)
      for x in (name, there)
    )
    return name if there == name else f'{name} ({there} there)'

  saved_names = saved_names or {}
  faults = [
    _list_some(
      'of another shape',
      [
        f'{both(k, saved_names.get(k, k))} is {saved[k]} there, {shape} here'
        for k, shape in wanted.items()
        if k in saved and saved[k] != shape
      ],
    ),
    _list_some(
      'missing there',
      [both(k, name_there(k)) for k in wanted if k not in saved],
    ),
    _list_some(
      'unknown here',
      [both(k, saved_names.get(k, k)) for k in saved if k not in wanted],
    ),
  ]
  faults = [fault for fault in faults if fault]
  if faults:
    raise errors.UserError(
      f'The checkpoint {where} does not fit the model: {". ".join(faults)}. '
      f'{remedy}'
    )


# Fields of T5Config that no shape shows, and that change what is computed.
FUNCTION_FIELDS = (
  'mlp_activations',
  'relpos_max_distance',
  'layer_norm_epsilon',
)


def check_same_function(
  saved: config_lib.T5Config,
  wanted: config_lib.T5Config,
  where: str,
  assumed: Collection[str] = (),
) -> None:
  """Raises UserError where equal shapes would compute something else.

  Args:
    saved: of the checkpoint.
    wanted: of the model.
    where: names the checkpoint in the message.
    assumed: fields of `saved` that may be wrong, see `LazyCheckpoint`.
  """
  faults = [
    f'{name} is {getattr(saved, name)!r} there, {getattr(wanted, name)!r} here'
    for name in FUNCTION_FIELDS
    if name not in assumed and getattr(saved, name) != getattr(wanted, name)
  ]
  if faults:
    raise errors.UserError(
      f'The checkpoint {where} is of another model: {"; ".join(faults)}. Set '
      'the T5Config that it was trained with.'
    )


def _list_some(what: str, items: list[str]) -> str:
  if not items:
    return ''
  more = len(items) - _MAX_LISTED
  more = f' and {more} more' if more > 0 else ''
  return f'{len(items)} {what}: {", ".join(items[:_MAX_LISTED])}{more}'


def _differing_sizes(
  tensors: Mapping[str, Tensor], config: config_lib.T5Config
) -> list[str]:
  """Describes the sizes in which tensors and a configuration differ.

  Args:
    tensors: plain name -> tensor.
    config: of the model.

  Returns:
    'FIELD is N there, M here' for each; empty also where no field explains it.
  """
  plain = dataclasses.replace(config, scan_layers=False)
  here, axes = names.plain_shapes(plain), names.param_axes(plain)
  found: dict[str, tuple[int, int]] = {}
  for stack in names.STACKS:
    field = f'num_{stack}_layers'
    found[field] = names.num_layers(tensors, stack), getattr(config, field)
  sizes = collections.defaultdict(set)
  for name, tensor in tensors.items():
    if len(tensor.shape) == len(here.get(name, ())):
      for axis, *both in zip(axes[name], tensor.shape, here[name], strict=True):
        sizes[_AXES.get(axis, axis)].add(tuple(both))
  if any(len(pairs) > 1 for pairs in sizes.values()):
    return []  # Not one size of a model, but a broken parameter.
  found.update((field, pair) for field, (pair,) in sizes.items())
  found = {k: pair for k, pair in found.items() if 0 < pair[0] != pair[1]}
  return [f'{k} is {there} there, {m} here' for k, (there, m) in found.items()]
