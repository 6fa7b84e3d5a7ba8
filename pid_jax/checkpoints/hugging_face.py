# Copyright 2026 The pid_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""Hugging Face's folders of T5 models: config.json, weights, tokenizer.

Reads safetensors (one file, or several with an index) and pytorch_model.bin
(the same, with `weights_only=True`, so that nothing in it is executed). Writes
what `transformers.T5ForConditionalGeneration.from_pretrained` reads.

Three things tell a tied head from an untied one, and they may disagree.
transformers 4 wrote `tie_word_embeddings`, transformers 5 writes true there for
every T5 and adds `scale_decoder_outputs`, and `lm_head.weight` may be
in the file of a tied model. The rule here, which is what transformers computes:
logits are scaled if `scale_decoder_outputs`, or else `tie_word_embeddings`,
says so; the head is `lm_head.weight`, or else the embedding. Scaled logits of
an untied head are no T5, and refused.
"""

from collections.abc import Mapping
from typing import Any

from etils import epath

from pid_jax import checks
from pid_jax import config as config_lib
from pid_jax import errors
from pid_jax import strict_json
from pid_jax.checkpoints import lazy_checkpoint
from pid_jax.checkpoints import names
from pid_jax.checkpoints import native
from pid_jax.checkpoints import tensors as tensors_lib
from pid_jax.checkpoints import tokenizers
from pid_jax.checkpoints import weight_files
from pid_jax.checkpoints.tensors import Tensor

CONFIG_FILE = 'config.json'

_MODEL_TYPES = ('t5', 'mt5')
# Their feed_forward_proj, and what it is here.
_ACTIVATIONS = {
  'relu': ('relu',),
  'silu': ('silu',),
  'gelu_new': ('gelu',),
  'gated-gelu': ('gelu', 'linear'),
  'gated-gelu_new': ('gelu', 'linear'),
  'gated-relu': ('relu', 'linear'),
  'gated-silu': ('silu', 'linear'),
}
# Fields of config.json that are numbers, and what they are here.
_SHAPE = {
  'vocab_size': 'vocab_size',
  'd_model': 'emb_dim',
  'num_heads': 'num_heads',
  'd_kv': 'head_dim',
  'd_ff': 'mlp_dim',
  'num_layers': 'num_encoder_layers',
  'num_decoder_layers': 'num_decoder_layers',
  'dropout_rate': 'dropout_rate',
  'relative_attention_num_buckets': 'relpos_num_buckets',
  'relative_attention_max_distance': 'relpos_max_distance',
  'layer_norm_epsilon': 'layer_norm_epsilon',
}
# transformers' own, of fields that old files lack.
_DEFAULTS = {
  'num_layers': 6,
  'num_decoder_layers': None,  # As num_layers.
  'dropout_rate': 0.1,
  'relative_attention_num_buckets': 32,
  'relative_attention_max_distance': 128,
  'layer_norm_epsilon': 1e-6,
}
# Special tokens, which cannot be others.
_TOKENS = {'pad_token_id': 0, 'eos_token_id': 1, 'decoder_start_token_id': 0}
# Left in old checkpoints, and used by nothing.
_UNUSED = (
  'decoder.block.0.layer.1.EncDecAttention.relative_attention_bias.weight',
)
_COPIES = ('encoder.embed_tokens.weight', 'decoder.embed_tokens.weight')
_WEIGHT_DTYPES = ('float32', 'bfloat16', 'float16')


def matches(path: epath.Path) -> bool:
  """Whether a folder looks like a model of Hugging Face's."""
  return (path / CONFIG_FILE).exists()


def open_checkpoint(path: epath.PathLike) -> lazy_checkpoint.LazyCheckpoint:
  """Opens a folder; reads no weights but a head that may be tied.

  Raises:
    UserError: no T5, or a damaged or incomplete folder.
  """
  path = epath.Path(path)
  file = path / CONFIG_FILE
  weight_files.check_kind(path)
  fields = strict_json.read_object(file, 'the configuration', allow_nan=True)
  try:
    config, tied = read_config(fields)
    extra = _read_extra(fields.get('pid_jax') or {})
  except errors.UserError as e:
    raise errors.UserError(f'{file}: {e}') from e
  stored = weight_files.open_weights(path)
  odd = {t.dtype.name for t in stored.values()} - set(_WEIGHT_DTYPES)
  if odd:
    raise errors.UserError(
      f'{path} holds weights of type {", ".join(sorted(odd))}; those of a T5 '
      f'are one of {_WEIGHT_DTYPES}. Quantised models cannot be read.'
    )
  stored = {k: v for k, v in stored.items() if k not in _UNUSED}
  _join_copies(stored, path)
  config = _choose_head(config, tied, stored, path)
  known = {names.to_hugging_face(k): k for k in names.plain_shapes(config)}
  plain = {}
  for there, tensor in stored.items():
    name = known.get(there, there)
    transpose = names.is_transposed(name)
    plain[name] = tensors_lib.transposed(tensor) if transpose else tensor
  return lazy_checkpoint.LazyCheckpoint(
    path=str(path),
    config=_with_written_fields(config, extra['model']),
    tensors=plain,
    task=extra['task'],
    step=extra['step'],
    name_there=names.to_hugging_face,
    read_vocabulary=lambda: tokenizers.read(path, config.vocab_size),
  )


def read_config(fields: Mapping[str, Any]) -> tuple[config_lib.T5Config, bool]:
  """Translates transformers' T5Config.

  Args:
    fields: of config.json.

  Returns:
    Its configuration, with `logits_via_embedding` where logits are to be
    scaled; and whether config.json calls the head tied.

  Raises:
    UserError: it describes another model than T5, or a field is not what it
      may be.
  """
  if 'model_type' not in fields:
    raise errors.UserError(
      'it has no model_type, so it is not of a model of Hugging Face; and no '
      f'{native.CHECKPOINTS}/STEP lies beside it, as in a MODEL_DIR.'
    )
  checks.one_of('model_type', fields['model_type'], _MODEL_TYPES)
  activation = checks.one_of(
    'feed_forward_proj',
    fields.get('feed_forward_proj', 'relu'),
    tuple(_ACTIVATIONS),
  )
  for name, value in _TOKENS.items():
    if fields.get(name) is not None:
      checks.one_of(name, fields[name], (value,))
  tied = True
  if fields.get('tie_word_embeddings') is not None:
    tied = checks.boolean('tie_word_embeddings', fields['tie_word_embeddings'])
  scaled = checks.boolean(
    'scale_decoder_outputs', fields.get('scale_decoder_outputs', tied)
  )
  missing = [k for k in _SHAPE if k not in {**_DEFAULTS, **fields}]
  if missing:
    raise errors.UserError(f'it lacks {", ".join(missing)}.')
  fields = {**_DEFAULTS, **fields}
  if fields.get('num_decoder_layers') is None:
    fields['num_decoder_layers'] = fields['num_layers']
  config = config_lib.T5Config(
    mlp_activations=_ACTIVATIONS[activation],
    logits_via_embedding=scaled,
    **{
      here: config_lib.check_field(here, fields[there], there)
      for there, here in _SHAPE.items()
    },
  )
  return config, tied


def config_fields(config: config_lib.T5Config) -> dict[str, Any]:
  """Returns the fields of a transformers.T5Config of the same network.

  Raises:
    UserError: transformers has no such model.
  """
  known = {v: k for k, v in reversed(_ACTIVATIONS.items())}
  if config.mlp_activations not in known:
    raise errors.UserError(
      'transformers has no T5 with mlp_activations = '
      f'{config.mlp_activations}; it has {tuple(known)}.'
    )
  return {
    'vocab_size': config.vocab_size,
    'd_model': config.emb_dim,
    'd_kv': config.head_dim,
    'd_ff': config.mlp_dim,
    'num_layers': config.num_encoder_layers,
    'num_decoder_layers': config.num_decoder_layers,
    'num_heads': config.num_heads,
    'feed_forward_proj': known[config.mlp_activations],
    'tie_word_embeddings': config.logits_via_embedding,
    'relative_attention_num_buckets': config.relpos_num_buckets,
    'relative_attention_max_distance': config.relpos_max_distance,
    'layer_norm_epsilon': config.layer_norm_epsilon,
    'dropout_rate': config.dropout_rate,
    'is_encoder_decoder': True,
    'use_cache': True,
    **_TOKENS,
  }


def write_config(
  model: lazy_checkpoint.LazyCheckpoint, dtype: str
) -> dict[str, Any]:
  """Returns transformers' config.json of a model.

  Raises:
    UserError: transformers has no such model.
  """
  return {
    'architectures': ['T5ForConditionalGeneration'],
    'model_type': 't5',
    **config_fields(model.config),
    'torch_dtype': dtype,
    # What transformers has no field for. It keeps and ignores this.
    'pid_jax': {
      'model': model.config.to_dict(),
      'task': dict(model.task),
      'step': model.step,
    },
  }


def write_checkpoint(
  folder: epath.PathLike,
  model: lazy_checkpoint.LazyCheckpoint,
  *,
  dtype: str = 'float32',
  shard_bytes: int = weight_files.SHARD_BYTES,
) -> None:
  """Writes a model into a folder that exists and is empty.

  Args:
    folder: receives config.json, generation_config.json, model.safetensors (or
      shards and their index) and the tokenizer, if the model has a vocabulary.
    model: read tensor by tensor, as it is written.
    dtype: 'float32' or 'bfloat16', of the weights on disk.
    shard_bytes: no file of weights is larger, but for single tensors that are.

  Raises:
    UserError: transformers has no such model.
  """
  folder = epath.Path(folder)
  config = write_config(model, dtype)
  vocabulary = model.read_vocabulary()
  # Biases that are the same in all layers are one here.
  plain = model.fitted(_with(model.config, relpos_bias_per_layer=False))
  sources = {
    names.to_hugging_face(name): tensors_lib.transposed(tensor)
    if names.is_transposed(name)
    else tensor
    for name, tensor in plain.items()
  }
  weight_files.write_json(folder / CONFIG_FILE, config)
  weight_files.write_json(
    folder / 'generation_config.json',
    _TOKENS,
  )
  if vocabulary is not None:
    tokenizers.write(folder, vocabulary)
  weight_files.write_weights(folder, sources, dtype, shard_bytes)


def _join_copies(stored: dict[str, Tensor], path: epath.Path) -> None:
  """Leaves one of the names that the embedding goes by."""
  for name in _COPIES:
    if name not in stored:
      continue
    copy = stored.pop(name)
    embedding = stored.setdefault('shared.weight', copy)
    if embedding is not copy and not tensors_lib.equal(embedding, copy):
      raise errors.UserError(
        f'{path}: {name} is not the embedding {embedding.name}. T5 has one for '
        'both stacks.'
      )


def _choose_head(
  config: config_lib.T5Config,
  tied: bool,
  stored: dict[str, Tensor],
  path: epath.Path,
) -> config_lib.T5Config:
  """Settles what the head is, in `stored` too; see the module."""
  head, embedding = stored.get('lm_head.weight'), stored.get('shared.weight')
  if not config.logits_via_embedding:  # Logits are not scaled.
    if head is None and tied and embedding is not None:
      stored['lm_head.weight'] = embedding
    return config
  if head is not None:
    if embedding is None or not tensors_lib.equal(head, embedding):
      raise errors.UserError(
        f'{path} says that the head is the embedding (tie_word_embeddings or '
        'scale_decoder_outputs in config.json), but lm_head.weight and '
        'shared.weight differ. Set tie_word_embeddings to false if the model '
        'was trained with an untied head; else delete lm_head.weight.'
      )
    del stored['lm_head.weight']
  return config


def _read_extra(extra: Any) -> dict[str, Any]:
  """Checks what `write_config` adds for pid_jax: 'step', 'task', 'model'."""
  checks.mapping('pid_jax', extra)
  known = {'step': 0, 'task': {}, 'model': None}
  for name in extra:
    if name not in known:
      raise errors.unknown('field of pid_jax', name, known)
  extra = {**known, **extra}
  # The step names a folder where the checkpoint is converted.
  checks.integer('pid_jax.step', extra['step'], 0, native.MAX_STEP)
  native.check_task(extra['task'])
  if extra['model'] is not None:
    extra['model'] = config_lib.T5Config.from_dict(extra['model'])
  return extra


def _with_written_fields(
  config: config_lib.T5Config, written: config_lib.T5Config | None
) -> config_lib.T5Config:
  """Adds the fields under 'pid_jax', unless the others were changed since."""
  if written is None:
    return config
  # What transformers' own fields do not say.
  free = {*config_lib.FREE_FIELDS, 'num_tokens', 'relpos_bias_per_layer'}
  free.remove('dropout_rate')
  as_read = _with(written, **{k: getattr(config, k) for k in free})
  return written if as_read == config else config


def _with(config: config_lib.T5Config, **fields: Any) -> config_lib.T5Config:
  return config_lib.T5Config(**{**config.to_dict(), **fields})
