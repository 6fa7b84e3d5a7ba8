# Copyright 2026 The pid_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""The shape of a T5 model, and the sizes that the field knows by name.

One frozen dataclass describes every member of the family (T5 1.0, T5 1.1,
LM-adapted, Flan, mT5, ByT5, UL2). Its fields carry T5X's names, so that a gin
file written for T5X's `network.T5Config` reads the same here. Published sizes
stand in `SIZES` and nowhere else:

    T5Config(size='flan_t5_xl', dtype='bfloat16')

It is plain data: it imports no JAX, and is stored as JSON beside a checkpoint.
Whatever the source of the values (gin, a config.json, Python), the dataclass
checks their types and ranges.
"""

from __future__ import annotations

from collections.abc import Mapping
import dataclasses
import numbers
from typing import Any

from pid_jax import errors

DTYPES = ('float32', 'bfloat16')  # Of activations.
PARAM_DTYPES = (*DTYPES, 'int8')  # Of parameters in prediction.
REMAT_POLICIES = ('none', 'minimal', 'full')
INITIALIZERS = ('t5', 'copy')
ACTIVATIONS = ('linear', 'relu', 'gelu', 'silu', 'swish')

# How to compute, not what: a run chooses these for any checkpoint. All other
# fields are the checkpoint's.
FREE_FIELDS = (
  'dtype',
  'dropout_rate',
  'remat_policy',
  'scan_layers',
  'initializer',
)

_FROM_SIZE: Any = None  # What a field defaults to that `size` fills in.


@dataclasses.dataclass(frozen=True)
class T5Config:
  """Hyperparameters of one encoder-decoder.

  Attributes:
    size: of the constructor alone: gives the fields of the shape that are None
      or not given. A key of `SIZES`, or another T5Config, of which all
      but `FREE_FIELDS` is taken. None: those of T5X's own T5Config, which are
      T5 1.0 small's but for the head; `vocab_size` must be given then.
    vocab_size: rows of the embedding; a multiple of 128 in released models.
    num_tokens: ids that the vocabulary has; the rest is padding, which is never
      generated. Where only `vocab_size` is given, the same.
    dtype: of the activations: 'float32' or 'bfloat16'. Parameters are float32.
    emb_dim: width of the residual stream.
    num_heads: attention heads, in every attention of both stacks.
    num_encoder_layers: layers of the encoder.
    num_decoder_layers: layers of the decoder.
    head_dim: width of a head; `num_heads * head_dim` need not be `emb_dim`.
    mlp_dim: hidden width of the feed-forward block.
    mlp_activations: ('relu',) for T5 1.0; ('gelu', 'linear') for the gated
      block of T5 1.1 and later.
    dropout_rate: of every dropout in training; from 0 to below 1.
    logits_via_embedding: whether the output head is the embedding, tied, with
      logits scaled by emb_dim^-0.5 (T5 1.0), or a separate matrix (T5 1.1).
    relpos_num_buckets: buckets of the relative position bias; at least 4.
    relpos_max_distance: distance from which all positions share a bucket.
    relpos_bias_per_layer: whether each layer has its own relative position
      bias, as in T5X's scalable models, or all layers of a stack share one, as
      in every released T5.
    layer_norm_epsilon: added to the mean square.
    remat_policy: what the backward pass recomputes: 'none', 'minimal' (all but
      matrix products) or 'full' (whole layers).
    scan_layers: compile one layer and loop over it: parameters of all layers
      are stacked on axis 1. For deep models, where compile time matters.
    initializer: 't5', or 'copy': T5's, arranged so that attention begins near
      a solution for copying from the input; for small models trained from
      scratch (see `network.initialize`).

  Raises:
    UserError: a value of another type or out of its range, an unknown `size`,
      or no `vocab_size`.
  """

  vocab_size: int = _FROM_SIZE
  num_tokens: int = _FROM_SIZE
  dtype: str = 'float32'
  emb_dim: int = _FROM_SIZE
  num_heads: int = _FROM_SIZE
  num_encoder_layers: int = _FROM_SIZE
  num_decoder_layers: int = _FROM_SIZE
  head_dim: int = _FROM_SIZE
  mlp_dim: int = _FROM_SIZE
  mlp_activations: tuple[str, ...] = _FROM_SIZE
  dropout_rate: float = 0.1
  logits_via_embedding: bool = _FROM_SIZE
  relpos_num_buckets: int = _FROM_SIZE
  relpos_max_distance: int = _FROM_SIZE
  relpos_bias_per_layer: bool = _FROM_SIZE
  layer_norm_epsilon: float = _FROM_SIZE
  remat_policy: str = 'none'
  scan_layers: bool = False
  initializer: str = 't5'
  size: dataclasses.InitVar[str | T5Config | None] = None

  def __post_init__(self, size: str | T5Config | None):
    if size is None and self.vocab_size is None:
      raise errors.UserError(
        'T5Config needs a size, such as t5_1_1_base, or a vocab_size.'
      )
    shape = _shape_of(size)
    for field in dataclasses.fields(self):
      value = getattr(self, field.name)
      if value is None:
        value = shape.get(field.name)
        if field.name == 'num_tokens':
          # Rows beyond the ids of a known size are padding.
          value = min(value or self.vocab_size, self.vocab_size)
      value = _checked(field.name, value, _TYPES[field.type])
      object.__setattr__(self, field.name, value)
    self._check_ranges()

  def _check_ranges(self) -> None:
    for name in _POSITIVE:
      if not getattr(self, name) > 0:
        raise _wrong(name, getattr(self, name), 'more than 0')
    if not 0 <= self.dropout_rate < 1:
      raise _wrong('dropout_rate', self.dropout_rate, 'from 0 to below 1')
    for name, choices in _CHOICES.items():
      values = getattr(self, name)
      for value in values if isinstance(values, tuple) else (values,):
        if value not in choices:
          hint = ''
          if value == 'float16':
            hint = ' (T5 overflows in float16: use bfloat16)'
          raise _wrong(name, value, f'one of {", ".join(choices)}{hint}')
    if not self.mlp_activations:
      raise _wrong('mlp_activations', (), 'at least one name')
    if self.relpos_num_buckets < 4:
      raise _wrong('relpos_num_buckets', self.relpos_num_buckets, 'at least 4')
    if self.relpos_max_distance <= self.relpos_num_buckets // 2:
      raise _wrong(
        'relpos_max_distance',
        self.relpos_max_distance,
        f'more than half of relpos_num_buckets={self.relpos_num_buckets}, '
        'whose buckets hold one distance each',
      )
    if self.num_tokens > self.vocab_size:
      raise _wrong(
        'num_tokens',
        self.num_tokens,
        f'at most vocab_size={self.vocab_size}, the rows of the embedding: '
        'raise vocab_size to at least the size of the vocabulary',
      )

  def differences(self, other: T5Config) -> dict[str, tuple[Any, Any]]:
    """Returns the fields of the shape, and so of a checkpoint, that differ.

    `FREE_FIELDS` do not count, and neither does `num_tokens`: it says what the
    vocabulary has, which a checkpoint may not know.

    Args:
      other: to compare with.

    Returns:
      name -> (value here, value there), in the order of the fields.
    """
    return {
      field.name: (getattr(self, field.name), getattr(other, field.name))
      for field in dataclasses.fields(self)
      if field.name not in (*FREE_FIELDS, 'num_tokens')
      and getattr(self, field.name) != getattr(other, field.name)
    }

  def to_dict(self) -> dict[str, Any]:
    """Returns the fields as JSON types."""
    fields = dataclasses.asdict(self)
    fields['mlp_activations'] = list(self.mlp_activations)
    return fields

  @classmethod
  def from_dict(cls, fields: Mapping[str, Any]) -> T5Config:
    """Reads what `to_dict` wrote.

    Raises:
      UserError: a field is unknown, missing, or not what it may be.
    """
    if not isinstance(fields, Mapping):
      raise errors.UserError(
        f'The model configuration is {fields!r}; it must be an object with the '
        'fields of T5Config.'
      )
    known = [field.name for field in dataclasses.fields(cls)]
    unknown = sorted(set(fields) - set(known))
    if unknown:
      raise errors.UserError(
        f'The model configuration has unknown fields {unknown}. Known fields: '
        f'{known}.'
      )
    missing = sorted(name for name, value in fields.items() if value is None)
    if missing:
      raise errors.UserError(
        f'The model configuration has no value for {missing}: null is none.'
      )
    return cls(**fields)


_TYPES = {
  'int': (numbers.Integral, int, 'an integer'),
  'float': (numbers.Real, float, 'a number'),
  'bool': (bool, bool, 'true or false'),
  'str': (str, str, 'a string'),
  'tuple[str, ...]': ((list, tuple), tuple, 'a list of strings'),
}
_POSITIVE = (
  'vocab_size',
  'num_tokens',
  'emb_dim',
  'num_heads',
  'num_encoder_layers',
  'num_decoder_layers',
  'head_dim',
  'mlp_dim',
  'layer_norm_epsilon',
)
_CHOICES = {
  'dtype': DTYPES,
  'remat_policy': REMAT_POLICIES,
  'initializer': INITIALIZERS,
  'mlp_activations': ACTIVATIONS,
}


def _checked(name: str, value: Any, kind: tuple[Any, Any, str]) -> Any:
  """Returns a value as the plain type of its field."""
  accepted, plain, words = kind
  is_bool = isinstance(value, bool)
  if not isinstance(value, accepted) or is_bool != (plain is bool):
    raise _wrong(name, value, words)
  return plain(value)


def _wrong(name: str, value: Any, allowed: str) -> errors.UserError:
  return errors.UserError(
    f'T5Config.{name} is {value!r}; it must be {allowed}.'
  )


def _shape_of(size: str | T5Config | None) -> dict[str, Any]:
  """Returns the fields of a shape that `size` gives."""
  if isinstance(size, T5Config):
    fields = dataclasses.asdict(size)
    return {k: v for k, v in fields.items() if k not in FREE_FIELDS}
  if size is None:
    return dict(_T5X_DEFAULTS)
  if size not in SIZES:
    raise errors.unknown('model size', size, SIZES)
  return {**_T5X_DEFAULTS, **SIZES[size]}


# Of each released family, what its sizes share; as in T5X's examples/t5.
_T5_1_0 = dict(
  vocab_size=32128,
  num_tokens=32100,
  mlp_activations=('relu',),
  logits_via_embedding=True,
)
_T5_1_1 = dict(
  vocab_size=32128,
  num_tokens=32100,
  mlp_activations=('gelu', 'linear'),
  logits_via_embedding=False,
)
_MT5 = dict(_T5_1_1, vocab_size=250112, num_tokens=250100)
_BYT5 = dict(_T5_1_1, vocab_size=384, num_tokens=384)
# Whose config.json leaves tie_word_embeddings at transformers' default, true.
_UL2 = dict(_T5_1_0, mlp_activations=('silu', 'linear'))


def _size(layers, emb_dim, heads, mlp_dim, head_dim=64, decoder_layers=None):
  return dict(
    num_encoder_layers=layers,
    num_decoder_layers=decoder_layers or layers,
    emb_dim=emb_dim,
    num_heads=heads,
    head_dim=head_dim,
    mlp_dim=mlp_dim,
  )


_T5X_DEFAULTS = dict(
  _size(6, 512, 8, 2048),
  mlp_activations=('relu',),
  logits_via_embedding=False,
  relpos_num_buckets=32,
  relpos_max_distance=128,
  relpos_bias_per_layer=False,
  layer_norm_epsilon=1e-6,
)
_GATED_SIZES = {
  'small': _size(8, 512, 6, 1024),
  'base': _size(12, 768, 12, 2048),
  'large': _size(24, 1024, 16, 2816),
  'xl': _size(24, 2048, 32, 5120),
  'xxl': _size(24, 4096, 64, 10240),
}
# For the CPU, from scratch; about 2 million parameters.
_TINY = dict(
  _size(3, 128, 4, 512, head_dim=32, decoder_layers=2),
  mlp_activations=('relu',),
  logits_via_embedding=True,
)

# ByT5's encoders have three times the layers of its decoders (arXiv 2105.13626,
# table 1). Flan's and the LM-adapted models have the shapes of T5 1.1.
SIZES: Mapping[str, Mapping[str, Any]] = {
  't5_small': {**_T5_1_0, **_size(6, 512, 8, 2048)},
  't5_base': {**_T5_1_0, **_size(12, 768, 12, 3072)},
  't5_large': {**_T5_1_0, **_size(24, 1024, 16, 4096)},
  't5_3b': {**_T5_1_0, **_size(24, 1024, 32, 16384, head_dim=128)},
  't5_11b': {**_T5_1_0, **_size(24, 1024, 128, 65536, head_dim=128)},
  **{f't5_1_1_{k}': {**_T5_1_1, **v} for k, v in _GATED_SIZES.items()},
  **{f'flan_t5_{k}': {**_T5_1_1, **v} for k, v in _GATED_SIZES.items()},
  **{f'mt5_{k}': {**_MT5, **v} for k, v in _GATED_SIZES.items()},
  'byt5_small': {**_BYT5, **_size(12, 1472, 6, 3584, decoder_layers=4)},
  'byt5_base': {**_BYT5, **_size(18, 1536, 12, 3968, decoder_layers=6)},
  'byt5_large': {**_BYT5, **_size(36, 1536, 16, 3840, decoder_layers=12)},
  'byt5_xl': {**_BYT5, **_size(36, 2560, 32, 6720, decoder_layers=12)},
  'byt5_xxl': {**_BYT5, **_size(36, 4672, 64, 12352, decoder_layers=12)},
  'ul2': {**_UL2, **_size(32, 4096, 16, 16384, head_dim=256)},
  'flan_ul2': {**_UL2, **_size(32, 4096, 16, 16384, head_dim=256)},
  'tiny': {**_TINY, 'vocab_size': 1024},  # Of no vocabulary in particular.
  # With the vocabulary of the generated dialogues, tasks/bookings.
  'quickstart': {**_TINY, 'vocab_size': 640, 'num_tokens': 612},
}
