# Copyright 2026 The pid_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""FLOPs and bytes that PiD, PiE and joint need, in training and inference.

A product of [m, k] and [k, n] is 2 m k n FLOPs. Only matrix products count: all
else (norms, softmax, activations) is a few per cent, and depends on how it is
written. Bytes are those that must come from or go to memory at least once, if
nothing is kept from one phase to the next: weights, keys and values, caches;
not activations, which a good program keeps close.

Letters: B inputs, S input tokens, U prompts, P prompt tokens, T generated
tokens, R rows, Q tokens of a row in one pass, C positions of its cache, L
packed decoder tokens; E emb_dim, A = num_heads * head_dim, F mlp_dim, V
vocab_size, N layers, G matrices into the feed-forward block (2 when gated).
"""

from collections.abc import Sequence
import dataclasses

from pid_jax import config as config_lib
from pid_jax.experiments import layouts

# The phases of generating, in the order in which they run.
PHASES = ('encode', 'prefill', 'steps')

_WEIGHT_BYTES = 4  # Parameters are float32, whatever the activations are.
_ITEM_BYTES = {'float32': 4, 'bfloat16': 2}


@dataclasses.dataclass(frozen=True)
class Work:
  """What a program must do.

  Attributes:
    flops: of matrix products; a multiplication and an addition are two.
    bytes: to be read from and written to memory.
  """

  flops: float = 0.0
  bytes: float = 0.0

  def __add__(self, other: 'Work') -> 'Work':
    return Work(self.flops + other.flops, self.bytes + other.bytes)

  def seconds(self, flop_rate: float, bandwidth: float) -> float:
    """The time of a program that overlaps computing and reading perfectly.

    Args:
      flop_rate: FLOP/s.
      bandwidth: bytes/s.
    """
    return max(self.flops / flop_rate, self.bytes / bandwidth)


@dataclasses.dataclass(frozen=True)
class Phases:
  """Generation, phase by phase.

  Attributes:
    encode: the encoder, and the projection of what it returns to the keys and
      values of all layers' cross-attention.
    prefill: the first pass of the decoder: start token and prompts.
    steps: the passes that read one more token of each row that is left.
  """

  encode: Work
  prefill: Work
  steps: tuple[Work, ...]

  @property
  def total(self) -> Work:
    return sum(self.steps, self.encode + self.prefill)

  def flops(self) -> dict[str, float]:
    """FLOPs by phase."""
    return {
      phase: sum(work.flops for work in works)
      for phase, works in self._works().items()
    }

  def seconds(self, flop_rate: float, bandwidth: float) -> dict[str, float]:
    """The least seconds of each phase; its programs run one after another.

    Args:
      flop_rate: FLOP/s.
      bandwidth: bytes/s.
    """
    return {
      phase: sum(work.seconds(flop_rate, bandwidth) for work in works)
      for phase, works in self._works().items()
    }

  def _works(self) -> dict[str, tuple[Work, ...]]:
    works = (self.encode,), (self.prefill,), self.steps
    return dict(zip(PHASES, works, strict=True))


def encode(config: config_lib.T5Config, batch: int, length: int) -> Work:
  """Encodes [B, S] and projects it for the decoder's cross-attention.

  Each of B S tokens meets, in each encoder layer, four projections of E A
  weights, G + 1 of E F, and S keys and S values of A numbers; then two more
  projections of E A in each decoder layer:

      2 B S (N_enc (4 E A + (G + 1) E F + 2 S A) + N_dec 2 E A)

  Read: these weights, and B S rows of the embedding. Written: the keys and
  values, N_dec x 2 [B, S, A].
  """
  attention, mlp = _attention_weights(config), _mlp_weights(config)
  layer = attention + mlp
  cross = config.num_decoder_layers * attention / 2
  tokens = batch * length
  flops = 2 * tokens * (config.num_encoder_layers * layer + cross)
  flops += config.num_encoder_layers * 4 * tokens * length * _joined_kv(config)
  weights = config.num_encoder_layers * layer + cross
  return Work(
    flops,
    _WEIGHT_BYTES * (weights + tokens * config.emb_dim)
    + _cross_bytes(config, batch, length),
  )


def decode(
  config: config_lib.T5Config,
  *,
  batch: int,
  length: int,
  rows: int,
  queries: int,
  cache_length: int,
  num_logits: int = 1,
) -> Work:
  """Reads Q tokens in each of R rows, against C positions and S input tokens.

  Each of R Q tokens meets, in each layer, four projections of self-attention
  and two of cross-attention (queries and output; keys and values exist),
  G + 1 of the feed-forward block, C positions of its row (those that the mask
  hides are multiplied too) and S of its input; and R num_logits tokens meet the
  head:

      2 R Q N (6 E A + (G + 1) E F + 2 (C + S) A) + 2 R num_logits E V

  Read: these weights, the keys and values of B inputs (once for all rows of an
  input), the caches; written: Q positions of each cache.

  Args:
    config: of the model.
    batch: B.
    length: S.
    rows: R, over all inputs.
    queries: Q.
    cache_length: C.
    num_logits: tokens of each row whose logits are computed.
  """
  joined_kv, layers = _joined_kv(config), config.num_decoder_layers
  layer = 1.5 * _attention_weights(config) + _mlp_weights(config)
  head = config.emb_dim * config.vocab_size
  tokens = rows * queries
  flops = (
    2 * tokens * layers * (layer + 2 * (cache_length + length) * joined_kv)
  )
  flops += 2 * rows * num_logits * head
  item = _ITEM_BYTES[config.dtype]
  cache = item * layers * 2 * rows * (cache_length + queries) * joined_kv
  return Work(
    flops,
    _WEIGHT_BYTES * (layers * layer + head + tokens * config.emb_dim)
    + _cross_bytes(config, batch, length)
    + cache,
  )


def generate(
  config: config_lib.T5Config,
  layout: str,
  sizes: layouts.Sizes,
  rows_left: Sequence[int] | None = None,
  prompt_lengths: Sequence[int] = (),
) -> Phases:
  """Costs of answering U prompts to each of B inputs, T tokens each.

  `layouts` says what each layout encodes and decodes. The first pass reads the
  start token and the prompt and gives the first token, so there is one step
  less than tokens. The cache of each step holds all positions that the last
  step needs.

  Args:
    config: of the model.
    layout: 'pid', 'pie' or 'joint'.
    sizes: of the job, the same for all layouts.
    rows_left: rows that each step must run on, of pid and pie; None: all.
    prompt_lengths: tokens of each of the U prompts of an input; empty: all have
      P. Those of pid are then read without padding, one after another in a row
      of their input.
  """
  decoded_sizes = sizes.of(layout)
  batch, length, cache_length = (
    decoded_sizes.num_inputs,
    decoded_sizes.input_length,
    decoded_sizes.cache_length,
  )
  if rows_left is None:
    rows_left = [decoded_sizes.rows] * (decoded_sizes.new_tokens - 1)

  def decoded(rows: int, queries: int, **of_prefill: int) -> Work:
    return decode(
      config,
      batch=batch,
      length=length,
      rows=rows,
      queries=queries,
      **{'cache_length': cache_length, **of_prefill},
    )

  if prompt_lengths and layout == 'pid':
    prefill = decoded(
      batch,
      sizes.num_prompts + sum(prompt_lengths),
      # What a token of the longest prompt may attend to.
      cache_length=sizes.prompt_length + 1,
      num_logits=sizes.num_prompts,
    )
  else:
    prefill = decoded(decoded_sizes.rows, decoded_sizes.prompt_length + 1)
  return Phases(
    encode(config, batch, length),
    prefill,
    tuple(decoded(rows, 1) for rows in rows_left),
  )


def train_step(
  config: config_lib.T5Config, batch: int, length: int, packed_length: int
) -> Work:
  """Forward, backward and update for [B, S] inputs and [B, L] decoder rows.

  The rows may be packed ones of PiD, or padded ones of PiE and joint: masks
  save no product. The forward pass is `encode` plus `decode` of B rows with L
  queries against L positions, all logits wanted. The backward pass has two
  products for each of the forward pass (a gradient for either factor): three
  times the FLOPs. What `remat_policy` recomputes comes on top: 'minimal' the
  products of queries, keys and values; 'full' all of each layer but its last
  product, whose result the backward pass does not ask for.

  Parameters are read forward, backward and by the update, which writes them;
  gradients are written and read: six times their bytes, without the optimizer's
  state.
  """
  forward = encode(config, batch, length) + decode(
    config,
    batch=batch,
    length=length,
    rows=batch,
    queries=packed_length,
    cache_length=packed_length,
    num_logits=packed_length,
  )
  encoded = batch * length * config.num_encoder_layers
  decoded = batch * packed_length * config.num_decoder_layers
  recomputed = 0.0
  if config.remat_policy == 'minimal':
    pairs = encoded * length + decoded * (packed_length + length)
    recomputed = 4 * pairs * _joined_kv(config)
  elif config.remat_policy == 'full':
    head = 2 * batch * packed_length * config.emb_dim * config.vocab_size
    last = 2 * (encoded + decoded) * config.emb_dim * config.mlp_dim
    recomputed = forward.flops - head - last
  return Work(
    3 * forward.flops + recomputed, 6 * _WEIGHT_BYTES * num_weights(config)
  )


def num_weights(config: config_lib.T5Config) -> int:
  """Weights of all matrices; norms and position biases left out."""
  attention, mlp = _attention_weights(config), _mlp_weights(config)
  embeddings = 1 if config.logits_via_embedding else 2
  return (
    config.num_encoder_layers * (attention + mlp)
    + config.num_decoder_layers * (2 * attention + mlp)
    + embeddings * config.emb_dim * config.vocab_size
  )


def _joined_kv(config: config_lib.T5Config) -> int:
  return config.num_heads * config.head_dim


def _attention_weights(config: config_lib.T5Config) -> int:
  return 4 * config.emb_dim * _joined_kv(config)


def _mlp_weights(config: config_lib.T5Config) -> int:
  return (len(config.mlp_activations) + 1) * config.emb_dim * config.mlp_dim


def _cross_bytes(config: config_lib.T5Config, batch: int, length: int) -> int:
  """Keys and values of B inputs for all layers of the decoder."""
  numbers = 2 * batch * length * _joined_kv(config)
  return _ITEM_BYTES[config.dtype] * config.num_decoder_layers * numbers
