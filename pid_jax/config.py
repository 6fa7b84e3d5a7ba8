# Copyright 2026 The pid_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""The shape of a T5 model, and the sizes that the field knows by name.

One frozen dataclass describes every member of the family (T5 1.0, T5 1.1,
LM-adapted, Flan, mT5, ByT5). Its fields carry T5X's names, so that a gin file
written for T5X's `network.T5Config` reads the same here. It is plain data: no
JAX in it, and it goes to and from JSON beside a checkpoint.
"""

from collections.abc import Mapping
import dataclasses
from typing import Any

from pid_jax import errors

DTYPES = ('float32', 'bfloat16')
REMAT_POLICIES = ('none', 'minimal', 'full')
INITIALIZERS = ('t5', 'copy')
ACTIVATIONS = ('linear', 'relu', 'gelu', 'silu', 'swish')


@dataclasses.dataclass(frozen=True)
class T5Config:
  """Hyperparameters of one encoder-decoder.

  Attributes:
    vocab_size: rows of the embedding; a multiple of 128 in released models.
    num_tokens: ids that a vocabulary really has; the rest is padding, which is
      never generated. None means `vocab_size`.
    dtype: of the activations: 'float32' or 'bfloat16'. Parameters are float32.
    emb_dim: width of the residual stream.
    num_heads: attention heads, in every attention of both stacks.
    num_encoder_layers: layers of the encoder.
    num_decoder_layers: layers of the decoder.
    head_dim: width of a head; `num_heads * head_dim` need not be `emb_dim`.
    mlp_dim: hidden width of the feed-forward block.
    mlp_activations: ('relu',) for T5 1.0; ('gelu', 'linear') for the gated
      block of T5 1.1 and later.
    dropout_rate: of every dropout in training.
    logits_via_embedding: whether the output head is the embedding, tied, with
      logits scaled by emb_dim^-0.5 (T5 1.0), or a matrix of its own (T5 1.1).
    relpos_num_buckets: buckets of the relative position bias.
    relpos_max_distance: distance from which all positions share a bucket.
    relpos_bias_per_layer: whether each layer has a relative position bias of
      its own, as in T5X's scalable models, or all layers of a stack share one,
      as in every released T5.
    layer_norm_epsilon: added to the mean square.
    remat_policy: what the backward pass recomputes: 'none', 'minimal' (all but
      matrix products) or 'full' (whole layers).
    scan_layers: compile one layer and loop over it: parameters of all layers
      are stacked on axis 1. For deep models, where compile time matters.
    initializer: 't5', or 'copy': T5's, arranged so that attention begins near
      a solution for copying from the input; for small models trained from
      scratch (see `network.initialize`).
  """

  vocab_size: int
  num_tokens: int | None = None
  dtype: str = 'float32'
  emb_dim: int = 512
  num_heads: int = 8
  num_encoder_layers: int = 6
  num_decoder_layers: int = 6
  head_dim: int = 64
  mlp_dim: int = 2048
  mlp_activations: tuple[str, ...] = ('relu',)
  dropout_rate: float = 0.1
  logits_via_embedding: bool = False
  relpos_num_buckets: int = 32
  relpos_max_distance: int = 128
  relpos_bias_per_layer: bool = False
  layer_norm_epsilon: float = 1e-6
  remat_policy: str = 'none'
  scan_layers: bool = False
  initializer: str = 't5'

  def __post_init__(self):
    object.__setattr__(self, 'mlp_activations', tuple(self.mlp_activations))
    if self.num_tokens is None:
      object.__setattr__(self, 'num_tokens', self.vocab_size)
    _check_choice('dtype', self.dtype, DTYPES)
    _check_choice('remat_policy', self.remat_policy, REMAT_POLICIES)
    _check_choice('initializer', self.initializer, INITIALIZERS)
    for name in self.mlp_activations:
      _check_choice('mlp_activations', name, ACTIVATIONS)
    if self.relpos_max_distance <= self.relpos_num_buckets // 2:
      raise errors.UserError(
        f'T5Config.relpos_max_distance is {self.relpos_max_distance}: it must '
        f'exceed half of relpos_num_buckets={self.relpos_num_buckets}, whose '
        'buckets hold one distance each.'
      )
    if not 0 < self.num_tokens <= self.vocab_size:
      raise errors.UserError(
        f'T5Config.num_tokens is {self.num_tokens}, but the embedding has '
        f'vocab_size={self.vocab_size} rows: raise vocab_size to at least '
        'the size of the vocabulary.'
      )

  def to_dict(self) -> dict[str, Any]:
    """Returns the fields as JSON types."""
    fields = dataclasses.asdict(self)
    fields['mlp_activations'] = list(self.mlp_activations)
    return fields

  @classmethod
  def from_dict(cls, fields: Mapping[str, Any]) -> 'T5Config':
    """Reads what `to_dict` wrote.

    Raises:
      UserError: a field is unknown or missing.
    """
    known = {f.name for f in dataclasses.fields(cls)}
    unknown = sorted(set(fields) - known)
    if unknown or 'vocab_size' not in fields:
      what = f'has unknown fields {unknown}' if unknown else 'lacks vocab_size'
      raise errors.UserError(
        f'The model configuration {what}. Known fields: {sorted(known)}.'
      )
    return cls(**fields)


def _check_choice(name: str, value: Any, choices: tuple[str, ...]) -> None:
  if value not in choices:
    hint = ''
    if value == 'float16':
      hint = ' T5 overflows in float16: use bfloat16.'
    raise errors.UserError(
      f'T5Config.{name} is {value!r}; choose one of {choices}.{hint}'
    )


# Sizes as in T5X's examples/t5/t5_1_1 and mt5 configurations, and ByT5's paper
# (arXiv 2105.13626, table 1), whose encoder is three times the decoder's depth.
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


def _size(layers, emb_dim, heads, mlp_dim, head_dim=64, decoder_layers=None):
  return dict(
    num_encoder_layers=layers,
    num_decoder_layers=decoder_layers or layers,
    emb_dim=emb_dim,
    num_heads=heads,
    head_dim=head_dim,
    mlp_dim=mlp_dim,
  )


_GATED_SIZES = {
  'small': _size(8, 512, 6, 1024),
  'base': _size(12, 768, 12, 2048),
  'large': _size(24, 1024, 16, 2816),
  'xl': _size(24, 2048, 32, 5120),
  'xxl': _size(24, 4096, 64, 10240),
}

NAMED = {
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
}


def named(name: str, **overrides: Any) -> T5Config:
  """Returns a size by name, such as 't5_1_1_base' or 'flan_t5_xl'.

  Args:
    name: a key of `NAMED`.
    **overrides: fields to change, such as `dropout_rate=0.0`.

  Raises:
    UserError: no size has this name.
  """
  if name not in NAMED:
    raise errors.unknown('model size', name, NAMED)
  return T5Config(**{**NAMED[name], **overrides})
