# Copyright 2026 The pid_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""A user's strings reach the model as SeqIO's examples do in evaluation."""

import numpy as np
import pytest
import seqio

from pid_jax import inference
from pid_jax import subtasks
from pid_jax.config import T5Config
from pid_jax.inference import engine
from pid_jax.tasks import bookings
from pid_jax.vocabulary import Vocabulary

NUM_EXAMPLES = 6
LENGTHS = {'inputs': 40, 'prompts': 16, 'targets': 16, 'subtasks': 30}


@pytest.mark.parametrize('layout', ['pid', 'pie'])
def test_inference_lays_out_what_evaluation_does(layout, monkeypatch):
  task = 'bookings_short' if layout == 'pid' else 'bookings_short_pie'
  seqio_vocabulary = (
    seqio.get_mixture_or_task(task).output_features['inputs'].vocabulary
  )
  vocabulary = Vocabulary(seqio_vocabulary.sentencepiece_model_file)
  model = inference.PromptInDecoder(
    T5Config(vocab_size=vocabulary.size),
    {},  # Nothing is computed.
    vocabulary,
    {
      'layout': layout,
      'long_inputs': seqio.get_mixture_or_task(task).layout.long_inputs,
      'feature_lengths': LENGTHS,
    },
  )
  requests = []

  def generate(given, *unused_args, **unused_kwargs):
    requests.extend(given)
    none = np.zeros((1, 0), np.int32), np.zeros(1), np.zeros(1)
    return [engine.Output(*none)] * len(given)

  monkeypatch.setattr(model.engine, 'generate', generate)
  examples = list(bookings.examples('bookings_short', 'test', 8))[:NUM_EXAMPLES]
  prompts = [example['prompts'] for example in examples]
  results = model.generate(
    [e['inputs'] for e in examples], prompts, return_results=True
  )
  assert any(result.truncated for result in results), 'both must cut the same'

  if layout == 'pid':
    converter = subtasks.PromptInDecoderFeatureConverter(pack=False)
    lengths, count = LENGTHS, NUM_EXAMPLES
  else:
    converter = seqio.EncDecFeatureConverter(pack=False)
    lengths = {k: LENGTHS[k] for k in ('inputs', 'targets')}
    count = sum(map(len, prompts))
  dataset = seqio.get_dataset(
    task, lengths, converter, dataset_split='test', shuffle=False
  )
  for i, expected in enumerate(dataset.take(count).as_numpy_iterator()):
    assert requests[i].inputs == _real(expected['encoder_input_tokens'])
    if layout == 'pid':
      assert requests[i].prompts == [
        _real(row) for row in expected['decoder_prompt_tokens'] if row.any()
      ]
    else:
      assert requests[i].prompts == [()]


def _real(tokens):
  return np.trim_zeros(tokens, 'b').tolist()
