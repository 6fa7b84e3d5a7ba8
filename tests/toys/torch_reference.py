# Copyright 2026 The pid_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""PyTorch transformers' T5 with our weights.

An implementation that shares no line with ours: tests compare with it.
"""

import jax
import numpy as np
import torch
import transformers
from transformers import modeling_outputs

from pid_jax.config import T5Config


def from_params(config: T5Config, params):
  """Returns our parameters as a T5ForConditionalGeneration in eval mode."""
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
    model.lm_head.weight = torch.nn.Parameter(model.lm_head.weight.clone())
  model.load_state_dict(
    {k: torch.tensor(v) for k, v in _state_dict(config, params).items()}
  )
  return model.eval()


# Of a block of each stack: their name, ours, and that of the norm before it.
_PARTS = {
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
_KERNELS = {'query': 'q', 'key': 'k', 'value': 'v', 'out': 'o'}


def _state_dict(config: T5Config, params) -> dict[str, np.ndarray]:
  embedding = params['token_embedder']['embedding']
  weights = {
    f'{name}.weight': embedding
    for name in ('shared', 'encoder.embed_tokens', 'decoder.embed_tokens')
  }
  weights['lm_head.weight'] = (
    embedding
    if config.logits_via_embedding
    else params['decoder']['logits_dense']['kernel'].T
  )
  for stack, parts in _PARTS.items():
    tree, block = params[stack], f'{stack}.block'
    norm = tree[f'{stack}_norm']['scale']
    weights[f'{stack}.final_layer_norm.weight'] = norm
    bias = f'{block}.0.layer.0.SelfAttention.relative_attention_bias.weight'
    weights[bias] = tree['relpos_bias']['rel_embedding'].T
    for i in range(getattr(config, f'num_{stack}_layers')):
      if config.scan_layers:
        layer = jax.tree.map(lambda x, i=i: x[:, i], tree[stack])
      else:
        layer = tree[f'layers_{i}']
      for j, (theirs, ours, norm) in enumerate(parts):
        prefix = f'{block}.{i}.layer.{j}'
        weights[f'{prefix}.layer_norm.weight'] = layer[norm]['scale']
        for name, leaves in layer[ours].items():
          name = _KERNELS.get(name, name)
          weights[f'{prefix}.{theirs}.{name}.weight'] = leaves['kernel'].T
  return weights


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
