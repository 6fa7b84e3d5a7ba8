# Copyright 2026 The pid_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""One parameter and its names: ours and T5X's, and those of transformers.

Between formats, a model is a dict from *plain names* to tensors. A plain name
is that of T5X's minimal network, one for each layer:

    token_embedder/embedding                            [V, E]
    encoder/relpos_bias/rel_embedding                   [H, buckets]
    encoder/layers_I/pre_attention_layer_norm/scale     [E]
    encoder/layers_I/attention/{query,key,value}/kernel [E, H * D]
    encoder/layers_I/attention/out/kernel               [H * D, E]
    encoder/layers_I/mlp/{wi_0,wi_1,wo}/kernel          ('wi' when not gated)
    decoder/...                                         likewise
    decoder/logits_dense/kernel                         [E, V], if not tied

Scanned layers stack the same tensors on axis 1 under `encoder/encoder/...`.
T5X's scalable network also splits attention kernels into heads there, [E, N, H,
D] and [H, N, D, E], and has a bias in every layer, `.../relpos_bias` under the
name of the layer; `T5Config.relpos_bias_per_layer` says so here.

transformers keeps kernels transposed, counts layers as blocks, and keeps the
shared bias in block 0.
"""

from collections.abc import Mapping
import re

from pid_jax import config as config_lib
from pid_jax import errors
from pid_jax.checkpoints import tensors as tensors_lib
from pid_jax.checkpoints.tensors import Tensor

STACKS = ('encoder', 'decoder')
EMBEDDING = 'token_embedder/embedding'
HEAD = 'decoder/logits_dense/kernel'

_ATTENTIONS = {
  'encoder': ('attention',),
  'decoder': ('self_attention', 'encoder_decoder_attention'),
}
_NORMS = {
  'encoder': ('pre_attention_layer_norm', 'pre_mlp_layer_norm'),
  'decoder': (
    'pre_self_attention_layer_norm',
    'pre_cross_attention_layer_norm',
    'pre_mlp_layer_norm',
  ),
}
# The parts of a block in transformers, in order, as (theirs, ours).
_SUBLAYERS = {
  'encoder': (('SelfAttention', 'attention'), ('DenseReluDense', 'mlp')),
  'decoder': (
    ('SelfAttention', 'self_attention'),
    ('EncDecAttention', 'encoder_decoder_attention'),
    ('DenseReluDense', 'mlp'),
  ),
}
_KERNELS = {
  'q': 'query',
  'k': 'key',
  'v': 'value',
  'o': 'out',
  **{name: name for name in ('wi', 'wi_0', 'wi_1', 'wo')},
}


def plain_shapes(config: config_lib.T5Config) -> dict[str, tuple[int, ...]]:
  """Returns every plain name of a model with its shape."""
  embed, joined = config.emb_dim, config.num_heads * config.head_dim
  bias = (config.num_heads, config.relpos_num_buckets)
  shapes = {EMBEDDING: (config.vocab_size, embed)}
  for stack in STACKS:
    if not config.relpos_bias_per_layer:
      shapes[f'{stack}/relpos_bias/rel_embedding'] = bias
    for i in range(getattr(config, f'num_{stack}_layers')):
      layer = f'{stack}/layers_{i}'
      if config.relpos_bias_per_layer:
        shapes[f'{layer}/relpos_bias/rel_embedding'] = bias
      for norm in _NORMS[stack]:
        shapes[f'{layer}/{norm}/scale'] = (embed,)
      for attention in _ATTENTIONS[stack]:
        for kernel in ('query', 'key', 'value'):
          shapes[f'{layer}/{attention}/{kernel}/kernel'] = (embed, joined)
        shapes[f'{layer}/{attention}/out/kernel'] = (joined, embed)
      count = len(config.mlp_activations)
      for wi in [f'wi_{j}' for j in range(count)] if count > 1 else ['wi']:
        shapes[f'{layer}/mlp/{wi}/kernel'] = (embed, config.mlp_dim)
      shapes[f'{layer}/mlp/wo/kernel'] = (config.mlp_dim, embed)
    shapes[f'{stack}/{stack}_norm/scale'] = (embed,)
  if not config.logits_via_embedding:
    shapes[HEAD] = (embed, config.vocab_size)
  return shapes


def to_plain(stored: Mapping[str, Tensor]) -> dict[str, Tensor]:
  """Takes stacks of layers apart, and joins the heads of T5X's kernels.

  Args:
    stored: by the names of a parameter tree of ours or of T5X's, stacked or
      not; what fits neither is kept as it is.
  """
  plain = {}
  for name, tensor in stored.items():
    match = re.fullmatch(r'(encoder|decoder)/\1/(.+)', name)
    if match is None or len(tensor.shape) < 2:
      plain[name] = _join_heads(name, tensor)
      continue
    for i in range(tensor.shape[1]):
      layer_name = f'{match[1]}/layers_{i}/{match[2]}'
      layer = tensors_lib.layer(tensor, i)
      plain[layer_name] = _join_heads(layer_name, layer)
  return plain


def from_plain(
  plain: Mapping[str, Tensor],
  *,
  scanned: bool,
  relpos_bias_per_layer: bool,
  split_heads: int | None = None,
) -> dict[str, Tensor]:
  """Arranges a whole model as a parameter tree of ours or of T5X's.

  Args:
    plain: every tensor of the model.
    scanned: whether layers are stacked.
    relpos_bias_per_layer: whether each layer has a bias. A shared one is
      repeated; several are shared only if they are the same.
    split_heads: None, or the number of heads, to split attention kernels into
      heads as T5X's scalable network does.

  Raises:
    UserError: the layers' biases differ, and one is to be shared.
  """
  plain = arrange_biases(plain, relpos_bias_per_layer)
  groups: dict[str, dict[int, Tensor]] = {}
  arranged = {}
  for name, tensor in plain.items():
    if split_heads is not None:
      tensor = _split_heads(name, tensor, split_heads)
    match = re.fullmatch(r'(encoder|decoder)/layers_(\d+)/(.+)', name)
    if match is None or not scanned:
      arranged[name] = tensor
    else:
      stack_name = f'{match[1]}/{match[1]}/{match[3]}'
      groups.setdefault(stack_name, {})[int(match[2])] = tensor
  for name, layers in groups.items():
    arranged[name] = tensors_lib.stacked([layers[i] for i in sorted(layers)])
  return arranged


def arrange_biases(
  plain: Mapping[str, Tensor], per_layer: bool
) -> dict[str, Tensor]:
  """Repeats a shared bias for each layer, or shares those of all layers."""
  arranged = dict(plain)
  for stack in STACKS:
    shared = f'{stack}/relpos_bias/rel_embedding'
    own = {
      name: tensor
      for name, tensor in plain.items()
      if re.fullmatch(rf'{stack}/layers_\d+/relpos_bias/rel_embedding', name)
    }
    if per_layer and shared in arranged:
      bias = arranged.pop(shared)
      for i in range(num_layers(plain, stack)):
        arranged[f'{stack}/layers_{i}/relpos_bias/rel_embedding'] = bias
    elif not per_layer and own:
      first, *others = own.values()
      if not all(tensors_lib.equal(first, other) for other in others):
        raise errors.UserError(
          f'the {stack} has a relative position bias in each layer '
          f'({first.name}, ...), and they differ: the model needs '
          'T5Config.relpos_bias_per_layer = True, and only T5X has a format '
          'for it besides ours.'
        )
      for name in own:
        del arranged[name]
      arranged[shared] = first
  return arranged


def num_layers(plain: Mapping[str, object], stack: str) -> int:
  """Returns how many layers of a stack have a name in `plain`."""
  found = (re.match(rf'{stack}/layers_(\d+)/', name) for name in plain)
  return max((int(match[1]) + 1 for match in found if match), default=0)


def to_hugging_face(name: str) -> str:
  """Returns transformers' name for a plain name."""
  if name == EMBEDDING:
    return 'shared.weight'
  if name == HEAD:
    return 'lm_head.weight'
  stack, *parts = name.split('/')
  if parts[-1] == 'rel_embedding':
    return (
      f'{stack}.block.0.layer.0.SelfAttention.relative_attention_bias.weight'
    )
  if parts[0] == f'{stack}_norm':
    return f'{stack}.final_layer_norm.weight'
  index, part = parts[0].removeprefix('layers_'), parts[1]
  if part in _NORMS[stack]:
    sublayer = _NORMS[stack].index(part)
    return f'{stack}.block.{index}.layer.{sublayer}.layer_norm.weight'
  sublayer, theirs = next(
    (i, theirs)
    for i, (theirs, ours) in enumerate(_SUBLAYERS[stack])
    if ours == part
  )
  if theirs != 'DenseReluDense':
    kernel = next(k for k, v in _KERNELS.items() if v == parts[2])
  else:
    kernel = parts[2]
  return f'{stack}.block.{index}.layer.{sublayer}.{theirs}.{kernel}.weight'


def from_hugging_face(name: str) -> str | None:
  """Returns the plain name for transformers' name; None: there is none."""
  if name == 'shared.weight':
    return EMBEDDING
  if name == 'lm_head.weight':
    return HEAD
  stack, _, rest = name.partition('.')
  if stack not in STACKS:
    return None
  if rest == 'final_layer_norm.weight':
    return f'{stack}/{stack}_norm/scale'
  if rest == 'block.0.layer.0.SelfAttention.relative_attention_bias.weight':
    return f'{stack}/relpos_bias/rel_embedding'
  match = re.fullmatch(r'block\.(\d+)\.layer\.(\d)\.(.+)\.weight', rest)
  if match is None or int(match[2]) >= len(_SUBLAYERS[stack]):
    return None
  layer, (theirs, ours) = (
    f'{stack}/layers_{match[1]}',
    _SUBLAYERS[stack][int(match[2])],
  )
  if match[3] == 'layer_norm':
    return f'{layer}/{_NORMS[stack][int(match[2])]}/scale'
  part, _, kernel = match[3].partition('.')
  if part != theirs or kernel not in _KERNELS:
    return None
  return f'{layer}/{ours}/{_KERNELS[kernel]}/kernel'


def is_transposed(name: str) -> bool:
  """Whether transformers keeps what has this plain name transposed."""
  return name.endswith(('/kernel', '/rel_embedding'))


def _attention_kernel(name: str) -> str | None:
  match = re.search(r'attention/(query|key|value|out)/kernel$', name)
  return match and match[1]


def _join_heads(name: str, tensor: Tensor) -> Tensor:
  """[E, H, D] -> [E, H * D], and [H, D, E] -> [H * D, E] for `out`."""
  kernel = _attention_kernel(name)
  if kernel is None or len(tensor.shape) != 3:
    return tensor
  a, b, c = tensor.shape
  return tensors_lib.reshaped(
    tensor, (a * b, c) if kernel == 'out' else (a, b * c)
  )


def _split_heads(name: str, tensor: Tensor, num_heads: int) -> Tensor:
  """Undoes `_join_heads`."""
  kernel = _attention_kernel(name)
  if kernel is None:
    return tensor
  a, b = tensor.shape
  return tensors_lib.reshaped(
    tensor,
    (num_heads, a // num_heads, b)
    if kernel == 'out'
    else (a, num_heads, b // num_heads),
  )
