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
checks their types, their ranges, and by counting parameters their sum.
"""

from __future__ import annotations

from collections.abc import Mapping
from collections.abc import Sequence
import dataclasses
from typing import Any

from pid_jax import checks
from pid_jax import errors

DTYPES = ('float32', 'bfloat16')  # Of activations.
PARAM_DTYPES = (*DTYPES, 'int8')  # Of parameters in prediction.
# Of products of float32 numbers.
MATMUL_PRECISIONS = ('auto', 'float32', 'tensorfloat32', 'bfloat16')
REMAT_POLICIES = ('none', 'minimal', 'full')
INITIALIZERS = ('t5', 'copy')
ACTIVATIONS = ('linear', 'relu', 'gelu', 'silu', 'swish')

# Beyond all models that anybody has trained, and within what can be counted:
# larger numbers are mistakes, refused before anything is allocated.
MAX_LAYERS = 1000  # Of a stack.
MAX_DIM = 1 << 20  # Ids, width of a layer, heads.
MAX_PARAMETERS = 10**12
_MAX_DISTANCE = 1 << 30
_MAX_ACTIVATIONS = 8

# How to compute, not what: a run chooses these for any checkpoint. All other
# fields are the checkpoint's.
FREE_FIELDS = (
  'dtype',
  'matmul_precision',
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
    matmul_precision: of products of float32 numbers, which GPUs and TPUs round
      unless told not to: 'float32', 'tensorfloat32' or 'bfloat16', see
      `network.precision`. 'auto': that of `dtype`. So float32 activations
      mean float32 on every platform; with bfloat16 ones the few products of
      float32 numbers that remain, the logits above all, may be as coarse as all
      others.
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
      are stacked on axis 1. For deep models, where compile time matters. None:
      a run of training chooses by the platform of its mesh, see `platforms`;
      else the same as False.
    initializer: 't5', or 'copy': T5's, arranged so that attention begins near
      a solution for copying from the input; for small models trained from
      scratch (see `network.initialize`).

  Raises:
    UserError: a value of another type or out of its range, an unknown `size`,
      no `vocab_size`, or a model beyond `MAX_LAYERS`, `MAX_DIM` or
      `MAX_PARAMETERS`.
  """

  vocab_size: int = _FROM_SIZE
  num_tokens: int = _FROM_SIZE
  dtype: str = 'float32'
  matmul_precision: str = 'auto'
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
  scan_layers: bool | None = False
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
      value = check_field(field.name, value, f'T5Config.{field.name}')
      object.__setattr__(self, field.name, value)
    self._check_together()

  @property
  def num_parameters(self) -> int:
    """Number of parameters, by arithmetic."""
    joined = self.num_heads * self.head_dim
    mlp = (len(self.mlp_activations) + 1) * self.emb_dim * self.mlp_dim
    attention = 4 * self.emb_dim * joined
    bias = self.num_heads * self.relpos_num_buckets

    def stack(num_layers, num_attentions):
      sublayers = num_attentions * attention + mlp
      norms = (num_attentions + 1) * self.emb_dim
      num_biases = num_layers if self.relpos_bias_per_layer else 1
      layers = num_layers * (sublayers + norms)
      return layers + num_biases * bias + self.emb_dim

    num_matrices = 1 if self.logits_via_embedding else 2
    embeddings = num_matrices * self.vocab_size * self.emb_dim
    encoder = stack(self.num_encoder_layers, 1)
    return embeddings + encoder + stack(self.num_decoder_layers, 2)

  def _check_together(self) -> None:
    """Raises UserError for values that exclude each other."""
    checks.integer(
      'T5Config.relpos_max_distance (more than half of relpos_num_buckets='
      f'{self.relpos_num_buckets}, whose buckets hold one distance each)',
      self.relpos_max_distance,
      self.relpos_num_buckets // 2 + 1,
    )
    if self.num_tokens > self.vocab_size:
      raise errors.UserError(
        f'T5Config.num_tokens must be at most vocab_size={self.vocab_size}, '
        'the rows of the embedding; raise vocab_size to at least the size of '
        f'the vocabulary; got {self.num_tokens}.'
      )
    if self.num_parameters > MAX_PARAMETERS:
      sizes = (f'{name}={getattr(self, name)}' for name in _INTEGERS)
      raise errors.UserError(
        f'T5Config must have at most {MAX_PARAMETERS:,} parameters; got '
        f'{self.num_parameters:,}, of {", ".join(sizes)}.'
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
    fields['scan_layers'] = bool(self.scan_layers)  # As the arrays are.
    return fields

  @classmethod
  def from_dict(cls, fields: Mapping[str, Any]) -> T5Config:
    """Reads what `to_dict` wrote.

    Raises:
      UserError: a field is unknown, missing, or not what it may be.
    """
    checks.mapping(
      'the model configuration', fields, 'an object with fields of T5Config'
    )
    known = [field.name for field in dataclasses.fields(cls)]
    for name, value in fields.items():
      if name not in known:
        raise errors.unknown('field of the model configuration', name, known)
      if value is None:
        raise errors.UserError(
          f'The model configuration has no value for {name}: null is none.'
        )
    return cls(**fields)


def check_dtype(name: str, value: Any, choices: Sequence[str] = DTYPES) -> str:
  """Returns the name of a dtype that is one of some.

  Args:
    name: of the setting, for the message.
    value: to check.
    choices: those that there are.

  Raises:
    UserError: it is none of them.
  """
  hint = (
    ' (T5 overflows in float16: use bfloat16)' if value == 'float16' else ''
  )
  return checks.one_of(f'{name}{hint}', value, choices)


def check_field(name: str, value: Any, label: str) -> Any:
  """Returns the value of a field of T5Config as its plain type.

  Args:
    name: of the field.
    value: to check.
    label: calls the value, in the message.

  Raises:
    UserError: it is of another type, or out of range.
  """
  if name in _INTEGERS:
    return checks.integer(label, value, *_INTEGERS[name])
  if name == 'dropout_rate':
    return checks.number(label, value, 0, below=1)
  if name == 'layer_norm_epsilon':
    return checks.number(label, value, above=0, below=1)
  if name == 'dtype':
    return check_dtype(label, value)
  if name in _CHOICES:
    return checks.one_of(label, value, _CHOICES[name])
  if name == 'scan_layers' and value is None:
    return None
  if name != 'mlp_activations':
    return checks.boolean(label, value)
  checks.sequence(label, value, 'a list of strings')
  checks.integer(f'The length of {label}', len(value), 1, _MAX_ACTIVATIONS)
  return tuple(checks.one_of(label, x, ACTIVATIONS) for x in value)


# Least and largest value.
_INTEGERS = {
  'vocab_size': (1, MAX_DIM),
  'num_tokens': (1, MAX_DIM),
  'emb_dim': (1, MAX_DIM),
  'num_heads': (1, MAX_DIM),
  'num_encoder_layers': (1, MAX_LAYERS),
  'num_decoder_layers': (1, MAX_LAYERS),
  'head_dim': (1, MAX_DIM),
  'mlp_dim': (1, MAX_DIM),
  'relpos_num_buckets': (4, MAX_DIM),
  'relpos_max_distance': (1, _MAX_DISTANCE),
}
_CHOICES = {
  'matmul_precision': MATMUL_PRECISIONS,
  'remat_policy': REMAT_POLICIES,
  'initializer': INITIALIZERS,
}


def _shape_of(size: str | T5Config | None) -> dict[str, Any]:
  """Returns the fields of a shape that `size` gives."""
  if isinstance(size, T5Config):
    fields = dataclasses.asdict(size)
    return {k: v for k, v in fields.items() if k not in FREE_FIELDS}
  if size is None:
    return dict(_T5X_DEFAULTS)
  if checks.string('T5Config.size', size) not in SIZES:
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
