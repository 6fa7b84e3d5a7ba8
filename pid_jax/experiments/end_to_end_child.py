# Copyright 2026 The pid_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""A process that answers a file of texts with one library, as its users would.

`end_to_end` runs this file as a script, so that it imports nothing but what the
library needs:

  python end_to_end_child.py CONTENDER MODEL QUESTIONS ANSWERS

QUESTIONS are lines of JSON, as for `pid_jax.predict`. ANSWERS gets a JSON
object: 'answers', a list of texts for each line; 'clock', by name of a phase
the seconds since the epoch at which it ended; and 'programs', the number of
compiled programs and the seconds that they took, or null.

Each contender has batches of texts of similar length, of as many rows as suit
it best on two cores of a Zen 5, and PyTorch its threads by default: one a core.
"""

from collections.abc import Callable
from collections.abc import Iterator
from collections.abc import Sequence
import dataclasses
import json
import os
import sys
import time
from typing import Any

MAX_NEW_TOKENS = 32

# Rows (pairs of a text and a prompt) that other libraries decode together. Of
# 16, 32, 64 and 128 the best, or as good: CTranslate2 takes 2.4 s for 1,000
# texts in float32 and 1.7 s in int8, with 64 rows 2.7 and 2.4 s.
_NUM_ROWS = 32

Clock = dict[str, float]
Questions = Sequence[dict[str, Any]]
Answers = list[list[str]]
# Answers questions with the model in a folder; see `main`.
Contender = Callable[
  [str, Questions, Clock], tuple[Answers, dict[str, float] | None]
]


def main(contender: str, model: str, questions: str, answers: str) -> None:
  """Answers all questions, and writes down when each phase ended."""
  clock = {'start': time.time()}
  with open(questions, encoding='utf-8') as f:
    read = [json.loads(line) for line in f]
  written, programs = _CONTENDERS[contender](model, read, clock)
  clock['rest'] = time.time()
  result = {'answers': written, 'clock': clock, 'programs': programs}
  with open(answers, 'w', encoding='utf-8') as f:
    json.dump(result, f)


def _pid_jax(model: str, questions: Questions, clock: Clock):
  import pid_jax

  load = pid_jax.PromptInDecoder.from_pretrained
  clock['import'] = time.time()
  decoder = load(model)
  clock['load'] = time.time()
  answers = decoder.generate(
    [question['inputs'] for question in questions],
    [_prompts(question) for question in questions],
    MAX_NEW_TOKENS,
    progress=lambda _: clock.setdefault('first', time.time()),
  )
  return answers, _programs(decoder)


def _programs(decoder) -> dict[str, float]:
  """What was compiled, or read from the cache, and the seconds of each part."""
  return dataclasses.asdict(decoder.engine.programs.summary())


def _load_transformers(model: str, clock: Clock):
  import torch
  from transformers import AutoTokenizer
  from transformers import T5ForConditionalGeneration

  clock['import'] = time.time()
  tokenizer = AutoTokenizer.from_pretrained(model)
  loaded = T5ForConditionalGeneration.from_pretrained(model).eval()
  clock['load'] = time.time()
  return torch, tokenizer, loaded


def _transformers_pie(model: str, questions: Questions, clock: Clock):
  torch, tokenizer, loaded = _load_transformers(model, clock)
  texts, starts = _pie_rows(questions)
  ids = tokenizer(texts)['input_ids']
  starts = tokenizer(starts, add_special_tokens=False)['input_ids']
  outputs: list[str] = [''] * len(texts)
  with torch.inference_mode():
    for batch in _batches(ids, _NUM_ROWS):
      padded = tokenizer.pad(
        {'input_ids': [ids[i] for i in batch]}, return_tensors='pt'
      )
      begun = torch.tensor([[0, *starts[i]] for i in batch])
      tokens = loaded.generate(
        **padded, decoder_input_ids=begun, max_new_tokens=MAX_NEW_TOKENS
      )
      _keep(outputs, batch, tokens[:, begun.shape[1] :], tokenizer)
      clock.setdefault('first', time.time())
  return _of_rows(outputs, questions), None


def _transformers_tiled(model: str, questions: Questions, clock: Clock):
  torch, tokenizer, loaded = _load_transformers(model, clock)
  from transformers.modeling_outputs import BaseModelOutput

  ids = tokenizer([question['inputs'] for question in questions])['input_ids']
  prompts = [
    tokenizer(_prompts(question), add_special_tokens=False)['input_ids']
    for question in questions
  ]
  answers: Answers = [[] for _ in questions]
  size = _NUM_ROWS // max(map(len, prompts))
  with torch.inference_mode():
    for batch in _batches(ids, size):
      padded = tokenizer.pad(
        {'input_ids': [ids[i] for i in batch]}, return_tensors='pt'
      )
      encoded = loaded.encoder(**padded).last_hidden_state
      row_of = [j for j, i in enumerate(batch) for _ in prompts[i]]
      begun = tokenizer.pad(
        {'input_ids': [[0, *prompt] for i in batch for prompt in prompts[i]]},
        padding_side='left',
        return_tensors='pt',
      )
      tokens = loaded.generate(
        encoder_outputs=BaseModelOutput(encoded[row_of]),
        attention_mask=padded['attention_mask'][row_of],
        decoder_input_ids=begun['input_ids'],
        decoder_attention_mask=begun['attention_mask'],
        max_new_tokens=MAX_NEW_TOKENS,
      )
      texts = tokenizer.batch_decode(
        tokens[:, begun['input_ids'].shape[1] :], skip_special_tokens=True
      )
      for j, text in zip(row_of, texts, strict=True):
        answers[batch[j]].append(text)
      clock.setdefault('first', time.time())
  return answers, None


def _ctranslate2(compute_type: str) -> Contender:
  def run(model: str, questions: Questions, clock: Clock):
    import ctranslate2
    import sentencepiece

    clock['import'] = time.time()
    tokenizer = sentencepiece.SentencePieceProcessor()
    tokenizer.Load(os.path.join(model, 'spiece.model'))
    # A thread for each batch is faster than several threads for one.
    translator = ctranslate2.Translator(
      model,
      compute_type=compute_type,
      inter_threads=len(os.sched_getaffinity(0)),
      intra_threads=1,
    )
    clock['load'] = time.time()
    texts, starts = _pie_rows(questions)
    starts = tokenizer.Encode(starts, out_type=str)
    results = translator.translate_batch(  # Sorts by length.
      [[*row, '</s>'] for row in tokenizer.Encode(texts, out_type=str)],
      starts,
      beam_size=1,
      max_batch_size=_NUM_ROWS,
      max_decoding_length=MAX_NEW_TOKENS,
      max_input_length=0,
      asynchronous=True,
    )
    outputs = []
    for result, start in zip(results, starts, strict=True):
      outputs.append(result.result().hypotheses[0][len(start) :])
      clock.setdefault('first', time.time())
    return _of_rows(tokenizer.DecodePieces(outputs), questions), None

  return run


_CONTENDERS: dict[str, Contender] = {
  'pid_jax': _pid_jax,
  'transformers_pie': _transformers_pie,
  'transformers_tiled': _transformers_tiled,
  'ctranslate2_float32_pie': _ctranslate2('float32'),
  'ctranslate2_int8_pie': _ctranslate2('int8'),
}


def _prompts(question: dict[str, Any]) -> list[str]:
  return [subtask['prompt'] for subtask in question['subtasks']]


def _pie_rows(questions: Questions) -> tuple[list[str], list[str]]:
  """Texts for the encoder, each with a prompt, and the first word of outputs.

  The last word of a prompt decides how long the output is. An encoder does not
  pass it on in a model that was not trained, so it begins the output.
  """
  rows = [(q['inputs'], prompt) for q in questions for prompt in _prompts(q)]
  texts = [f'{prompt} {inputs}' for inputs, prompt in rows]
  return texts, [prompt.split()[-1] for _, prompt in rows]


def _batches(ids: Sequence[Sequence[int]], size: int) -> Iterator[list[int]]:
  """Yields indices, the shortest first, `size` at a time."""
  order = sorted(range(len(ids)), key=lambda i: len(ids[i]))
  for start in range(0, len(order), size):
    yield order[start : start + size]


def _keep(outputs: list[str], batch, tokens, tokenizer) -> None:
  texts = tokenizer.batch_decode(tokens, skip_special_tokens=True)
  for i, text in zip(batch, texts, strict=True):
    outputs[i] = text


def _of_rows(outputs: Sequence[str], questions: Questions) -> Answers:
  """Gives each question the outputs of its rows."""
  left = iter(outputs)
  return [[next(left) for _ in question['subtasks']] for question in questions]


if __name__ == '__main__':
  main(*sys.argv[1:])
