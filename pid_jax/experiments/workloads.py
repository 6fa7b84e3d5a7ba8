# Copyright 2026 The pid_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""What is timed: jobs with their sizes and contenders, and sweeps.

Adding a way to decode with this library is adding a `Variant`: a type of the
weights, and keyword arguments of `decoding.generate`.
"""

from __future__ import annotations

from collections.abc import Mapping
from collections.abc import Sequence
import dataclasses
from typing import Any

from pid_jax import decoding
from pid_jax import errors
from pid_jax.experiments.layouts import Sizes


@dataclasses.dataclass(frozen=True)
class Variant:
  """A way of this library to do a job.

  Attributes:
    name: of the contender.
    layout: 'pid', 'pie' or 'joint'.
    param_dtype: of the weights, see `network.quantization`.
    options: further keyword arguments of `decoding.generate`.
    capacity: keyword arguments of `slots.Capacity.rounded_up`, to decode the
      inputs as a stream; None: in batches.
    sizes: fields of `Sizes` that differ from the job's, such as other prompts
      to the same inputs.
  """

  name: str
  layout: str = 'pid'
  param_dtype: str = 'float32'
  options: Mapping[str, Any] = dataclasses.field(default_factory=dict)
  capacity: Mapping[str, int] | None = None
  sizes: Mapping[str, int] = dataclasses.field(default_factory=dict)


PID = Variant('pid')
PIE = Variant('pie', 'pie')
JOINT = Variant('joint', 'joint')
BFLOAT16 = Variant('pid_bfloat16', param_dtype='bfloat16')
INT8 = Variant('pid_int8', param_dtype='int8')
LOOKUP = Variant(
  'pid_lookup', options={'prompt_lookup': decoding.PromptLookup()}
)
PADDED = Variant('pid_padded', options={'packed_prompt_length': None})
LOCKSTEP = Variant('pid_lockstep', options={'num_compactions': 0})
# The defaults of `PromptInDecoder.stream`.
STREAM = Variant(
  'pid_stream', capacity={'batch_size': 8, 'num_slots': 16, 'num_rows': 8}
)

# Names of baselines, as in `baselines`.
TRANSFORMERS_PIE = 'transformers_pie'
TRANSFORMERS_TILED = 'transformers_tiled'
TRANSFORMERS_COMPILED = 'transformers_compiled_tiled'
CTRANSLATE2_FLOAT32 = 'ctranslate2_float32_pie'
CTRANSLATE2_INT8 = 'ctranslate2_int8_pie'


@dataclasses.dataclass(frozen=True)
class Job:
  """One shape of work.

  Attributes:
    name: of the job.
    summary: what it stands for.
    sizes: of its inputs, prompts and outputs.
    variants: of this library; the first is the reference that all are compared
      with.
    baselines: names of other libraries' contenders.
    weights: 'random' or 'synthetic'; see `synthetic`.
    prompt_lengths: tokens of each of the U prompts of an input, with random
      weights; empty: all have P.
    lengths: 'exact', T tokens in every row; 'skewed' or 'uneven', see
      `synthetic`.
    copied_run: n, where every other run of n output tokens stands in the
      input; 0: none does.
    batch_size: inputs that `decoding.generate` gets at a time; None: all.
    all_phases: time the phases of all variants, not of `stepwise` alone.
  """

  name: str
  summary: str
  sizes: Sizes = Sizes()
  variants: tuple[Variant, ...] = (PID, PIE, JOINT)
  baselines: tuple[str, ...] = ()
  weights: str = 'random'
  prompt_lengths: tuple[int, ...] = ()
  lengths: str = 'exact'
  copied_run: int = 0
  batch_size: int | None = None
  all_phases: bool = False

  def with_sizes(self, **sizes: int) -> Job:
    """Returns the job with other sizes; of fewer prompts, the first."""
    changed = dataclasses.replace(self.sizes, **sizes)
    lengths = self.prompt_lengths[: changed.num_prompts]
    return dataclasses.replace(self, sizes=changed, prompt_lengths=lengths)

  def of(self, variant: Variant) -> Job:
    """Returns the job as a variant does it."""
    return self.with_sizes(**variant.sizes)

  @property
  def stepwise(self) -> Variant:
    """The variant of PiD that takes a step for each token, without drafts.

    The machine's floor is computed for its work (as if all inputs were one
    batch).
    """
    return next(
      v
      for v in self.variants
      if v.layout == 'pid'
      and not v.options.get('prompt_lookup')
      and not v.capacity
    )


_ALL_VARIANTS = (PID, PIE, JOINT, BFLOAT16, INT8)
_ALL_BASELINES = (
  TRANSFORMERS_TILED,
  CTRANSLATE2_FLOAT32,
  CTRANSLATE2_INT8,
  TRANSFORMERS_PIE,
)

# Tokens of the prompts of MultiWOZ's 30 slots with their values, as
# `multiwoz24_slot` has them, in a SentencePiece unigram vocabulary of 30,000
# pieces (ALBERT's, version 2): T5's, a bit longer, is not at hand everywhere.
_MULTIWOZ_PROMPTS = (
  *(19, 15, 15, 22, 26, 20, 22, 18, 13, 8, 10, 25, 10, 12, 20),
  *(12, 38, 22, 8, 23, 27, 10, 5, 19, 8, 22, 10, 7, 7, 12),
)

JOBS = {
  job.name: job
  for job in (
    Job(
      'dst',
      'a dialogue; 30 slots, 8 tokens each',
      variants=_ALL_VARIANTS,
      baselines=_ALL_BASELINES,
    ),
    Job(
      'qa',
      'a paragraph; 6 questions, 16 tokens each',
      Sizes(num_prompts=6, prompt_length=16, new_tokens=16),
      variants=_ALL_VARIANTS,
      baselines=_ALL_BASELINES,
    ),
    Job(
      'multiwoz',
      '4 dialogues; 30 slots with their values, of 5 to 38 tokens',
      Sizes(
        num_inputs=4,
        input_length=256,
        num_prompts=len(_MULTIWOZ_PROMPTS),
        prompt_length=max(_MULTIWOZ_PROMPTS),
      ),
      variants=(PID, PADDED, PIE),
      baselines=(TRANSFORMERS_TILED, TRANSFORMERS_PIE),
      prompt_lengths=_MULTIWOZ_PROMPTS,
      all_phases=True,
    ),
    Job(
      'notes',
      'a conversation; 4 sections of 200 tokens, half of them copied from it',
      Sizes(input_length=1600, num_prompts=4, new_tokens=200),
      variants=(LOOKUP, PID),
      baselines=(TRANSFORMERS_TILED, CTRANSLATE2_INT8),
      weights='synthetic',
      copied_run=20,
    ),
    Job(
      'skewed',
      '8 dialogues; 30 slots, 4 of 5 end after 2 tokens, others after 4 to 24',
      Sizes(num_inputs=8, new_tokens=24),
      variants=(PID, LOCKSTEP),
      weights='synthetic',
      lengths='skewed',
    ),
    Job(
      'stream',
      '24 texts; 6 prompts, 4 to 48 tokens each, similar within a text',
      Sizes(num_inputs=24, input_length=256, num_prompts=6, new_tokens=48),
      variants=(STREAM, PID),
      weights='synthetic',
      lengths='uneven',
      batch_size=8,
    ),
  )
}

_SWEPT = Job(
  'sweep',
  'dst, one size varied',
  baselines=(TRANSFORMERS_TILED, CTRANSLATE2_INT8),
)


@dataclasses.dataclass(frozen=True)
class Sweep:
  """One size that is varied.

  Attributes:
    field: of `Sizes`.
    label: of an axis.
    values: from least to greatest.
    further: greater values, for the smaller models of a comparison.
  """

  field: str
  label: str
  values: tuple[int, ...]
  further: tuple[int, ...] = ()


SWEEPS = {
  'U': Sweep(
    'num_prompts', 'prompts to an input, U', (1, 2, 4, 8, 16, 32), (64,)
  ),
  'S': Sweep(
    'input_length', 'tokens of an input, S', (128, 256, 512, 1024), (2048,)
  ),
  'T': Sweep('new_tokens', 'generated tokens, T', (2, 8, 32)),
  'B': Sweep('num_inputs', 'inputs at a time, B', (1, 2, 4), (8,)),
}


def read_sweeps(letters: str) -> list[str]:
  """Returns the keys of `SWEEPS` in a text such as 'u,S'.

  Raises:
    UserError: a letter stands for no sweep.
  """
  found = [letter for letter in letters.upper().split(',') if letter]
  for letter in found:
    if letter not in SWEEPS:
      raise errors.unknown('sweep', letter, SWEEPS)
  return found


def swept(letter: str) -> list[Job]:
  """Returns the benchmark's jobs of a sweep, smallest first.

  Args:
    letter: a key of `SWEEPS`.
  """
  job = _SWEPT.with_sizes(num_prompts=8) if letter in 'TB' else _SWEPT
  sweep = SWEEPS[letter]
  return [
    dataclasses.replace(
      job.with_sizes(**{sweep.field: value}), name=f'sweep_{letter}_{value}'
    )
    for value in sweep.values
  ]


def choose(
  names: Sequence[str], letters: str, counts: Sequence[int] = ()
) -> tuple[list[Job], list[Job]]:
  """Reads what a user asked for.

  Args:
    names: of jobs; none means all, or none if something else is asked for.
    letters: of sweeps, such as 'U,S'.
    counts: of texts that whole processes answer.

  Returns:
    Jobs, and the points of sweeps.

  Raises:
    UserError: no job or sweep has that name.
  """
  for name in names:
    if name not in JOBS:
      raise errors.unknown('job', name, JOBS)
  points = [job for letter in read_sweeps(letters) for job in swept(letter)]
  names = names or ([] if points or counts else JOBS)
  return [JOBS[name] for name in dict.fromkeys(names)], points
