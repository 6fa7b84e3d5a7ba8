# Copyright 2026 The pid_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""PyTorch transformers' T5 with random weights, and the same weights as ours.

An implementation that shares no line with ours: tests compare with it.
"""

import jax
import numpy as np
import torch
import transformers
from transformers import modeling_outputs

from pid_jax.config import T5Config

# T5 1.0, T5 1.1, and one where no size divides another and every relative
# position bucket is within reach of a short text.
T5_1_0 = T5Config(
  vocab_size=128,
  num_tokens=121,
  emb_dim=32,
  num_heads=4,
  head_dim=8,
  num_encoder_layers=2,
  num_decoder_layers=2,
  mlp_dim=64,
  mlp_activations=('relu',),
  logits_via_embedding=True,
)
T5_1_1 = T5Config(
  vocab_size=128,
  num_tokens=121,
  emb_dim=32,
  num_heads=4,
  head_dim=8,
  num_encoder_layers=2,
  num_decoder_layers=2,
  mlp_dim=64,
  mlp_activations=('gelu', 'linear'),
  logits_via_embedding=False,
)
ODD = T5Config(
  vocab_size=97,
  num_tokens=89,
  emb_dim=22,
  num_heads=3,
  head_dim=5,
  num_encoder_layers=3,
  num_decoder_layers=2,
  mlp_dim=37,
  mlp_activations=('gelu', 'linear'),
  logits_via_embedding=False,
  relpos_num_buckets=10,
  relpos_max_distance=23,
)
CONFIGS = {'t5_1_0': T5_1_0, 't5_1_1': T5_1_1, 'odd': ODD}


def random_model(config: T5Config, seed: int, eos_gain: float = 1.0):
  """Returns a T5ForConditionalGeneration in eval mode, with random weights.

  Args:
    config: ours.
    seed: of the weights.
    eos_gain: factor of the head's row for EOS; larger ends outputs early.
  """
  torch.manual_seed(seed)
  gated = len(config.mlp_activations) > 1
  model = transformers.T5ForConditionalGeneration(
    transformers.T5Config(
      vocab_size=config.vocab_size,
      d_model=config.emb_dim,
      d_kv=config.head_dim,
      d_ff=config.mlp_dim,
      num_layers=config.num_encoder_layers,
      num_decoder_layers=config.num_decoder_layers,
      num_heads=config.num_heads,
      relative_attention_num_buckets=config.relpos_num_buckets,
      relative_attention_max_distance=config.relpos_max_distance,
      layer_norm_epsilon=config.layer_norm_epsilon,
      feed_forward_proj='gated-gelu' if gated else 'relu',
      tie_word_embeddings=config.logits_via_embedding,
      decoder_start_token_id=0,
      attn_implementation='eager',
    )
  )
  assert model.config.dense_act_fn == ('gelu_new' if gated else 'relu')
  assert model.config.scale_decoder_outputs == config.logits_via_embedding
  if not config.logits_via_embedding:
    # This version of transformers ties the head whatever the configuration
    # says, and unties it only when a checkpoint holds two matrices.
    model.lm_head.weight = torch.nn.Parameter(
      torch.randn(config.vocab_size, config.emb_dim)
    )
  with torch.no_grad():
    for name, weight in model.named_parameters():
      if 'layer_norm' in name:
        weight.mul_(1 + 0.2 * torch.randn_like(weight))
      elif 'relative_attention_bias' in name:
        weight.copy_(2 * torch.randn_like(weight))
    if config.logits_via_embedding:
      # Else the newest token, still in the residual stream, is the likeliest
      # next one, for ever.
      norm = model.decoder.final_layer_norm.weight
      norm.copy_(8 * torch.randn_like(norm))
      for name, weight in model.decoder.named_parameters():
        if name.endswith('.q.weight'):
          weight.mul_(3)
    model.lm_head.weight[1] *= eos_gain
  return model.eval()


def params_of(model, config: T5Config):
  """Returns the weights of `model` as parameters of our Transformer."""
  weights = {k: v.detach().numpy() for k, v in model.state_dict().items()}
  params = {'token_embedder': {'embedding': weights['shared.weight']}}
  blocks = {
    'encoder': (
      ('SelfAttention', 'attention', 'pre_attention_layer_norm'),
      ('DenseReluDense', 'mlp', 'pre_mlp_layer_norm'),
    ),
    'decoder': (
      ('SelfAttention', 'self_attention', 'pre_self_attention_layer_norm'),
      (
        'EncDecAttention',
        'encoder_decoder_attention',
        'pre_cross_attention_layer_norm',
      ),
      ('DenseReluDense', 'mlp', 'pre_mlp_layer_norm'),
    ),
  }
  kernels = {'q': 'query', 'k': 'key', 'v': 'value', 'o': 'out'}
  for stack, parts in blocks.items():
    bias = f'{stack}.block.0.layer.0.SelfAttention.relative_attention_bias'
    tree = {
      'relpos_bias': {'rel_embedding': weights[f'{bias}.weight'].T},
      f'{stack}_norm': {'scale': weights[f'{stack}.final_layer_norm.weight']},
    }
    num_layers = getattr(config, f'num_{stack}_layers')
    layers = []
    for i in range(num_layers):
      layer = {}
      for j, (theirs, ours, norm) in enumerate(parts):
        prefix = f'{stack}.block.{i}.layer.{j}'
        layer[norm] = {'scale': weights[f'{prefix}.layer_norm.weight']}
        layer[ours] = {
          kernels.get(name, name): {
            'kernel': weights[f'{prefix}.{theirs}.{name}.weight'].T
          }
          for name in ('q', 'k', 'v', 'o', 'wi', 'wi_0', 'wi_1', 'wo')
          if f'{prefix}.{theirs}.{name}.weight' in weights
        }
      layers.append(layer)
    if config.scan_layers:
      tree[stack] = jax.tree.map(lambda *x: np.stack(x, axis=1), *layers)
    else:
      tree.update({f'layers_{i}': layer for i, layer in enumerate(layers)})
    params[stack] = tree
  if not config.logits_via_embedding:
    head = {'kernel': weights['lm_head.weight'].T}
    params['decoder']['logits_dense'] = head
  return jax.tree.map(np.ascontiguousarray, params)


def encode(model, tokens) -> np.ndarray:
  """Encodes one input, a list of ids, to float32 [1, S, E]."""
  with torch.no_grad():
    return model.encoder(input_ids=torch.tensor([tokens])).last_hidden_state


def greedy(model, config, tokens, prompt, max_new_tokens, min_new_tokens=0):
  """Runs transformers' generate on one input and one prompt, unpadded.

  Returns:
    The new ids, EOS included, and their summed log-probability.
  """
  forbidden = [0, *range(config.num_tokens, config.vocab_size)]
  out = model.generate(
    encoder_outputs=modeling_outputs.BaseModelOutput(encode(model, tokens)),
    attention_mask=torch.ones(1, len(tokens), dtype=torch.long),
    decoder_input_ids=torch.tensor([[0, *prompt]]),
    max_new_tokens=max_new_tokens,
    min_new_tokens=min_new_tokens or None,
    do_sample=False,
    suppress_tokens=forbidden,
    return_dict_in_generate=True,
    output_logits=True,
  )
  new = out.sequences[0, 1 + len(prompt) :].tolist()
  log_probs = [
    logits[0].log_softmax(-1)[token].item()
    for logits, token in zip(out.logits, new, strict=True)
  ]
  return new, sum(log_probs)


def beam_search(model, config, tokens, prompt, max_new_tokens, beam_size):
  """Runs transformers' beam search on one input and one prompt, unpadded.

  Returns:
    The new ids of the best beam, EOS included, and their log-probability: no
    length penalty.
  """
  out = model.generate(
    encoder_outputs=modeling_outputs.BaseModelOutput(encode(model, tokens)),
    attention_mask=torch.ones(1, len(tokens), dtype=torch.long),
    decoder_input_ids=torch.tensor([[0, *prompt]]),
    max_new_tokens=max_new_tokens,
    do_sample=False,
    num_beams=beam_size,
    length_penalty=0.0,
    early_stopping=False,
    suppress_tokens=[0, *range(config.num_tokens, config.vocab_size)],
    return_dict_in_generate=True,
    output_scores=True,
  )
  new = out.sequences[0, 1 + len(prompt) :].tolist()
  while new and new[-1] == 0:
    new.pop()
  return new, out.sequences_scores[0].item()
