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
import json
from typing import Any

from etils import epath

from pid_jax import config as config_lib
from pid_jax import errors
from pid_jax.checkpoints import lazy_checkpoint
from pid_jax.checkpoints import names
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
# Left in old checkpoints, and used by nothing.
_UNUSED = (
  'decoder.block.0.layer.1.EncDecAttention.relative_attention_bias.weight',
)
_COPIES = ('encoder.embed_tokens.weight', 'decoder.embed_tokens.weight')
_WEIGHT_DTYPES = ('float32', 'bfloat16', 'float16')


def matches(path: epath.Path) -> bool:
  """Whether a folder looks like a model of Hugging Face's."""
  try:
    return 'model_type' in json.loads((path / CONFIG_FILE).read_text())
  except (OSError, ValueError, TypeError):
    return False


def open_checkpoint(path: epath.PathLike) -> lazy_checkpoint.LazyCheckpoint:
  """Opens a folder; reads no weights but a head that may be tied.

  Raises:
    UserError: no T5, or a damaged or incomplete folder.
  """
  path = epath.Path(path)
  fields = weight_files.read_json(path / CONFIG_FILE)
  stored = weight_files.open_weights(path)
  config, tied = read_config(fields, path / CONFIG_FILE)
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
  extra = _extra(fields, path / CONFIG_FILE)
  config = _with_written_fields(config, extra)
  return lazy_checkpoint.LazyCheckpoint(
    path=str(path),
    config=config,
    tensors=plain,
    task=extra['task'],
    step=extra['step'],
    name_there=names.to_hugging_face,
    read_vocabulary=lambda: tokenizers.read(path, config.vocab_size),
  )


def read_config(
  fields: Mapping[str, Any], where: epath.PathLike
) -> tuple[config_lib.T5Config, bool]:
  """Translates transformers' T5Config.

  Args:
    fields: of config.json.
    where: its path, for messages.

  Returns:
    Its configuration, with `logits_via_embedding` where logits are to be
    scaled; and whether config.json calls the head tied.

  Raises:
    UserError: it describes another model than T5.
  """
  if fields.get('model_type') not in _MODEL_TYPES:
    raise errors.UserError(
      f'{where} is of a model of type {fields.get("model_type")!r}; only '
      f'{_MODEL_TYPES} can be read.'
    )
  activation = fields.get('feed_forward_proj', 'relu')
  if activation not in _ACTIVATIONS:
    raise errors.UserError(
      f'{where} has feed_forward_proj = {activation!r}; known are '
      f'{tuple(_ACTIVATIONS)}.'
    )
  for name, value in (
    ('pad_token_id', 0),
    ('eos_token_id', 1),
    ('decoder_start_token_id', 0),
  ):
    if fields.get(name) not in (None, value):
      raise errors.UserError(
        f'{where} has {name} = {fields[name]!r}, and T5 has {value}.'
      )
  tied = fields.get('tie_word_embeddings') is not False
  num_layers = fields.get('num_layers', 6)
  try:
    config = config_lib.T5Config(
      vocab_size=fields['vocab_size'],
      emb_dim=fields['d_model'],
      num_heads=fields['num_heads'],
      head_dim=fields['d_kv'],
      mlp_dim=fields['d_ff'],
      num_encoder_layers=num_layers,
      num_decoder_layers=fields.get('num_decoder_layers') or num_layers,
      mlp_activations=_ACTIVATIONS[activation],
      dropout_rate=fields.get('dropout_rate', 0.1),
      logits_via_embedding=fields.get('scale_decoder_outputs', tied),
      relpos_num_buckets=fields.get('relative_attention_num_buckets', 32),
      relpos_max_distance=fields.get('relative_attention_max_distance', 128),
      layer_norm_epsilon=fields.get('layer_norm_epsilon', 1e-6),
    )
  except KeyError as e:
    raise errors.UserError(f'{where} lacks {e.args[0]!r}.') from e
  return config, tied


def write_config(
  model: lazy_checkpoint.LazyCheckpoint, dtype: str
) -> dict[str, Any]:
  """Returns transformers' config.json of a model.

  Raises:
    UserError: transformers has no such model.
  """
  config = model.config
  known = {v: k for k, v in reversed(_ACTIVATIONS.items())}
  if config.mlp_activations not in known:
    raise errors.UserError(
      'transformers has no T5 with mlp_activations = '
      f'{config.mlp_activations}; it has {tuple(known)}.'
    )
  return {
    'architectures': ['T5ForConditionalGeneration'],
    'model_type': 't5',
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
    'pad_token_id': 0,
    'eos_token_id': 1,
    'decoder_start_token_id': 0,
    'torch_dtype': dtype,
    # What transformers has no field for. It keeps and ignores this.
    'pid_jax': {
      'model': config.to_dict(),
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
    {
      'decoder_start_token_id': 0,
      'eos_token_id': 1,
      'pad_token_id': 0,
    },
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


def _extra(fields: Mapping[str, Any], where: epath.Path) -> dict[str, Any]:
  """Returns what `write_config` adds for pid_jax: 'step', 'task', 'model'."""
  extra = fields.get('pid_jax') or {}
  if not isinstance(extra, Mapping):
    raise errors.UserError(
      f'{where} has pid_jax = {extra!r}; it must be an object.'
    )
  extra = {'step': 0, 'task': {}, **extra}
  step, task = extra['step'], extra['task']
  # The step names a folder where the checkpoint is converted.
  if not isinstance(step, int) or isinstance(step, bool) or step < 0:
    raise errors.UserError(
      f'{where} has pid_jax.step = {step!r}; it must be an integer from 0 on.'
    )
  if not isinstance(task, Mapping):
    raise errors.UserError(
      f'{where} has pid_jax.task = {task!r}; it must be an object.'
    )
  return extra


def _with_written_fields(
  config: config_lib.T5Config, extra: Mapping[str, Any]
) -> config_lib.T5Config:
  """Adds the fields under 'pid_jax', unless the others were changed since."""
  try:
    written = config_lib.T5Config.from_dict(extra['model'])
  except (KeyError, TypeError, ValueError):
    return config
  # What transformers' own fields do not say.
  free = {*config_lib.FREE_FIELDS, 'num_tokens', 'relpos_bias_per_layer'}
  free.remove('dropout_rate')
  as_read = _with(written, **{k: getattr(config, k) for k in free})
  return written if as_read == config else config


def _with(config: config_lib.T5Config, **fields: Any) -> config_lib.T5Config:
  return config_lib.T5Config(**{**config.to_dict(), **fields})
