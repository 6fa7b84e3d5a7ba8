# Copyright 2026 The pid_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""Other libraries, doing the same work on the same weights and token ids.

Each baseline greedily generates as many tokens as this library, and no padding.
`transformers_pie` and CTranslate2 read [prompt; input] once per prompt, which
is what these libraries offer. `transformers_tiled` encodes the input once,
gives `generate` that encoding expanded over the prompts, and puts the prompts
into the decoder: PiD, as far as it goes there; `transformers_compiled_tiled`
does so with a static cache, for which it compiles the steps by torch.compile on
GPUs. CTranslate2 has no way to share an encoding. All run in this process, in
turns with the others, on all cores, and with the allocator's settings of the
commands (`compilation.keep_memory`); transformers on GPUs, too.
"""

from collections.abc import Callable
import importlib.util
import logging
import pathlib
import warnings

import numpy as np

from pid_jax import checkpoints
from pid_jax import config as config_lib
from pid_jax.experiments import layouts
from pid_jax.experiments import machine
from pid_jax.experiments import synthetic
from pid_jax.experiments import workloads

Run = Callable[[], np.ndarray]
EXPORTED = 'hugging_face'  # Folder of the model in Hugging Face's format.

_NEEDS = {
  workloads.TRANSFORMERS_PIE: ('torch', 'transformers'),
  workloads.TRANSFORMERS_TILED: ('torch', 'transformers'),
  workloads.TRANSFORMERS_COMPILED: ('torch', 'transformers'),
  workloads.CTRANSLATE2_FLOAT32: ('ctranslate2', 'torch', 'transformers'),
  workloads.CTRANSLATE2_INT8: ('ctranslate2', 'torch', 'transformers'),
}


def missing(name: str) -> list[str]:
  """Returns the packages that a baseline needs and that are not installed."""
  return [p for p in _NEEDS[name] if importlib.util.find_spec(p) is None]


class Baselines:
  """The weights of a model in the formats of the libraries.

  They are written and read when they are first needed.
  """

  def __init__(
    self,
    config: config_lib.T5Config,
    params,
    folder: pathlib.Path,
    device: str = 'cpu',
    dtype: str = 'float32',
  ):
    """Holds the model.

    Args:
      config: of the model.
      params: nested dict of arrays.
      folder: to write into; may be removed once all runs are made. If it holds
        `EXPORTED`, that is the model.
      device: PyTorch's, for transformers: 'cpu' or 'cuda'.
      dtype: of transformers' weights and activations.
    """
    self._device, self._dtype = device, dtype
    self._pretrained = checkpoints.Pretrained(config, params, None, {}, 0)
    self._config = config
    self._exported = folder / EXPORTED
    self._converted = folder / 'ctranslate2'
    self._torch_model = None

  def run(self, name: str, job: workloads.Job, batch: synthetic.Batch) -> Run:
    """Returns the function that does a job, and returns int [B, U, T].

    Args:
      name: of the baseline.
      job: CTranslate2's with rows of an exact length.
      batch: its token ids.
    """
    if name == workloads.TRANSFORMERS_PIE:
      return self._transformers(job, batch, tiled=False)
    if name == workloads.TRANSFORMERS_TILED:
      return self._transformers(job, batch, tiled=True)
    if name == workloads.TRANSFORMERS_COMPILED:
      return self._transformers(
        job, batch, tiled=True, cache_implementation='static'
      )
    assert job.lengths == 'exact', 'CTranslate2 is given one length'
    compute_type = 'int8' if name == workloads.CTRANSLATE2_INT8 else 'float32'
    return self._ctranslate2(job, batch, compute_type)

  def _export(self) -> str:
    if not self._exported.exists():
      checkpoints.save(self._exported, self._pretrained, format='hugging_face')
    return str(self._exported)

  def _load_torch(self):
    import torch
    import transformers

    torch.set_num_threads(machine.num_cores())
    if self._torch_model is None:
      transformers.utils.logging.disable_progress_bar()
      transformers.utils.logging.set_verbosity_error()
      self._torch_model = (
        transformers.T5ForConditionalGeneration.from_pretrained(
          self._export(),
          local_files_only=True,
          dtype=getattr(torch, self._dtype),
        )
        .to(self._device)
        .eval()
      )
    return torch, self._torch_model

  @property
  def attention(self) -> str:
    """How transformers computes attention, such as 'sdpa'."""
    _, model = self._load_torch()
    return model.config._attn_implementation

  def _transformers(self, job, batch, tiled, **further) -> Run:
    torch, model = self._load_torch()
    from transformers import modeling_outputs

    layout = 'pid' if tiled else 'pie'
    inputs, prompts = layouts.to_layout(layout, batch.inputs, batch.prompts)
    new_tokens, rows = job.sizes.new_tokens, job.sizes.rows
    inputs = torch.from_numpy(inputs).long().to(self._device)
    starts = np.zeros((rows, 1), np.int64)
    starts = np.concatenate([starts, prompts.reshape(rows, -1)], axis=1)
    starts = torch.from_numpy(starts).to(self._device)
    mask = torch.ones(
      rows, inputs.shape[1], dtype=torch.long, device=self._device
    )
    options = dict(
      max_new_tokens=new_tokens,
      min_new_tokens=new_tokens if job.lengths == 'exact' else None,
      do_sample=False,
      num_beams=1,
      suppress_tokens=[0, *range(*self._padded_ids)],
      **further,
    )

    @torch.inference_mode()
    def run():
      encoded = model.encoder(input_ids=inputs).last_hidden_state
      if tiled:
        # [B, S, E] -> [B U, S, E]
        encoded = encoded.repeat_interleave(job.sizes.num_prompts, dim=0)
      tokens = model.generate(
        encoder_outputs=modeling_outputs.BaseModelOutput(encoded),
        attention_mask=mask,
        decoder_input_ids=starts,
        **options,
      )
      generated = tokens[:, starts.shape[1] :].cpu().numpy()
      missing = new_tokens - generated.shape[1]  # If all rows end before.
      generated = np.pad(generated, ((0, 0), (0, missing)))
      return generated.reshape(*batch.lengths.shape, -1)

    return run

  def _convert(self) -> str:
    if self._converted.exists():
      return str(self._converted)
    with warnings.catch_warnings():
      warnings.simplefilter('ignore')
      from ctranslate2.converters import transformers as converters

    class Tokenizer:
      """What the converter asks a tokenizer for: tokens are ids, as text."""

      pad_token, eos_token, unk_token = '0', '1', '2'
      size = self._config.vocab_size

      def get_vocab(self):
        return {str(i): i for i in range(self.size)}

      def convert_ids_to_tokens(self, i):
        return str(i)

    class Converter(converters.TransformersConverter):
      """Needs no tokenizer on disk."""

      def load_tokenizer(self, *unused_args, **unused_kwargs):
        return Tokenizer()

    logging.getLogger('transformers').setLevel(logging.ERROR)
    Converter(self._export()).convert(str(self._converted))
    return str(self._converted)

  def _ctranslate2(self, job, batch, compute_type) -> Run:
    import ctranslate2

    self._load_torch()  # Before the converter, which would be noisy otherwise.
    translator = ctranslate2.Translator(
      self._convert(),
      device='cpu',
      compute_type=compute_type,
      inter_threads=1,
      intra_threads=machine.num_cores(),
    )
    inputs, _ = layouts.to_layout('pie', batch.inputs, batch.prompts)
    new_tokens = job.sizes.new_tokens
    texts = [[str(i) for i in row] for row in inputs]
    forbidden = [[str(i)] for i in (0, *range(*self._padded_ids))]

    def run():
      results = translator.translate_batch(
        texts,
        beam_size=1,
        min_decoding_length=new_tokens,
        max_decoding_length=new_tokens,
        max_input_length=0,
        suppress_sequences=forbidden,
      )
      ids = [[int(i) for i in r.hypotheses[0]] for r in results]
      return np.array(ids).reshape(*batch.lengths.shape, -1)

    return run

  @property
  def _padded_ids(self) -> tuple[int, int]:
    """Ids beyond the vocabulary: first, and last + 1."""
    return self._config.num_tokens, self._config.vocab_size
