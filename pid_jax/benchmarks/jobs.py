# Copyright 2026 The pid_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""What is timed: shapes, contenders, and the ratios that we want to reach.

Adding a way of our own to decode is adding a `Variant`: a form of the weights,
and keyword arguments of `decoding.generate`.
"""

from collections.abc import Mapping
from collections.abc import Sequence
import dataclasses
from typing import Any

from pid_jax import decoding
from pid_jax import errors


@dataclasses.dataclass(frozen=True)
class Variant:
  """A way of ours to do a job.

  Attributes:
    name: of the contender.
    layout: 'pid', 'pie' or 'joint'.
    param_dtype: of the weights, see `network.weights`.
    options: further keyword arguments of `decoding.generate`.
    pool: keyword arguments of `streaming.PoolSize`, to decode the inputs as a
      stream; None: in batches.
    sizes: fields of the job in which it differs: other prompts to the inputs.
  """

  name: str
  layout: str = 'pid'
  param_dtype: str = 'float32'
  options: Mapping[str, Any] = dataclasses.field(default_factory=dict)
  pool: Mapping[str, int] | None = None
  sizes: Mapping[str, int] = dataclasses.field(default_factory=dict)


PID = Variant('pid')
PIE = Variant('pie', 'pie')
JOINT = Variant('joint', 'joint')
BFLOAT16 = Variant('pid_bfloat16', param_dtype='bfloat16')
INT8 = Variant('pid_int8', param_dtype='int8')
LOOKUP = Variant('pid_lookup', options={'lookup': decoding.PromptLookup()})
LOCKSTEP = Variant('pid_lockstep', options={'num_compactions': 0})
# As `PromptInDecoder.stream` does unless told otherwise.
STREAM = Variant(
  'pid_stream', pool={'batch_size': 8, 'num_slots': 16, 'num_rows': 8}
)

# Names of peers, as in `peers`.
TRANSFORMERS_PIE = 'transformers_pie'
TRANSFORMERS_TILED = 'transformers_tiled'
CTRANSLATE2_FLOAT32 = 'ctranslate2_float32_pie'
CTRANSLATE2_INT8 = 'ctranslate2_int8_pie'


@dataclasses.dataclass(frozen=True)
class Job:
  """One shape of work.

  Attributes:
    name: of the job.
    summary: what it stands for.
    num_inputs: B.
    input_length: S.
    num_prompts: U.
    prompt_length: P.
    new_tokens: T, at most.
    variants: ours; the first is the reference that all are compared with.
    peers: names of theirs.
    targets: by contender, how many times as long as the reference it should
      take at least.
    weights: 'random' or 'planted'; see `models`.
    lengths: 'exact', T tokens in every row, or 'skewed' or 'uneven', see
      `models`.
    copied_run: where not 0, every other run of so many output tokens stands in
      the input.
    batch_size: inputs that `decoding.generate` gets at a time; None: all.
    all_phases: time the phases of all variants, not of `stepwise` alone.
  """

  name: str
  summary: str
  num_inputs: int = 1
  input_length: int = 512
  num_prompts: int = 30
  prompt_length: int = 8
  new_tokens: int = 8
  variants: tuple[Variant, ...] = (PID, PIE, JOINT)
  peers: tuple[str, ...] = ()
  targets: Mapping[str, float] = dataclasses.field(default_factory=dict)
  weights: str = 'random'
  lengths: str = 'exact'
  copied_run: int = 0
  batch_size: int | None = None
  all_phases: bool = False

  def of(self, variant: Variant) -> 'Job':
    """The job as a variant does it."""
    return dataclasses.replace(self, **variant.sizes)

  @property
  def stepwise(self) -> str:
    """The variant of PiD that takes a step for each token, without drafts.

    Its work is what the machine's floor is computed for (as if all inputs were
    one batch).
    """
    return next(
      v.name
      for v in self.variants
      if v.layout == 'pid' and not v.options.get('lookup') and not v.pool
    )

  @property
  def sizes(self) -> dict[str, int]:
    """Arguments of `costs.generate`."""
    return {
      'num_inputs': self.num_inputs,
      'input_length': self.input_length,
      'num_prompts': self.num_prompts,
      'prompt_length': self.prompt_length,
      'new_tokens': self.new_tokens,
    }


# At most so many times the machine's floor may the reference take, in any job.
FLOOR_TARGET = 1.4

_ALL_VARIANTS = (PID, PIE, JOINT, BFLOAT16, INT8)
_ALL_PEERS = (
  TRANSFORMERS_TILED,
  CTRANSLATE2_FLOAT32,
  CTRANSLATE2_INT8,
  TRANSFORMERS_PIE,
)

JOBS = {
  job.name: job
  for job in (
    Job(
      'dst',
      'a dialogue; 30 slots, 8 tokens each',
      variants=_ALL_VARIANTS,
      peers=_ALL_PEERS,
      targets={
        TRANSFORMERS_PIE: 20,
        TRANSFORMERS_TILED: 4,
        CTRANSLATE2_FLOAT32: 13,
        CTRANSLATE2_INT8: 8,
      },
    ),
    Job(
      'qa',
      'a paragraph; 6 questions, 16 tokens each',
      num_prompts=6,
      prompt_length=16,
      new_tokens=16,
      variants=_ALL_VARIANTS,
      peers=_ALL_PEERS,
      targets={
        TRANSFORMERS_PIE: 4.5,
        TRANSFORMERS_TILED: 2,
        CTRANSLATE2_INT8: 2,
      },
    ),
    Job(
      'notes',
      'a conversation; 4 sections of 200 tokens, half of them copied from it',
      input_length=1600,
      num_prompts=4,
      new_tokens=200,
      variants=(LOOKUP, PID),
      peers=(TRANSFORMERS_TILED, CTRANSLATE2_INT8),
      targets={TRANSFORMERS_TILED: 3, CTRANSLATE2_INT8: 1.2, PID.name: 1.8},
      weights='planted',
      copied_run=20,
    ),
    Job(
      'skewed',
      '8 dialogues; 30 slots, 4 of 5 end after 2 tokens, others after 4 to 24',
      num_inputs=8,
      new_tokens=24,
      variants=(PID, LOCKSTEP),
      targets={LOCKSTEP.name: 1.6},
      weights='planted',
      lengths='skewed',
    ),
    Job(
      'stream',
      '24 texts; 6 prompts, 4 to 48 tokens each, alike within a text',
      num_inputs=24,
      input_length=256,
      num_prompts=6,
      new_tokens=48,
      variants=(STREAM, PID),
      weights='planted',
      lengths='uneven',
      batch_size=8,
    ),
  )
}

_SWEPT = Job(
  'sweep', 'dst, one size varied', peers=(TRANSFORMERS_TILED, CTRANSLATE2_INT8)
)
SWEEPS = {
  'U': ('num_prompts', (1, 2, 4, 8, 16, 30)),
  'S': ('input_length', (128, 256, 512, 1024)),
  'T': ('new_tokens', (2, 8, 32)),
  'B': ('num_inputs', (1, 2, 4)),
}


def swept(letter: str) -> list[Job]:
  """Returns the jobs of a sweep, smallest first.

  Args:
    letter: a key of `SWEEPS`.
  """
  field, values = SWEEPS[letter]
  jobs = []
  for value in values:
    sizes = {'num_prompts': 8} if letter in 'TB' else {}
    sizes[field] = value
    jobs.append(
      dataclasses.replace(_SWEPT, name=f'sweep_{letter}_{value}', **sizes)
    )
  return jobs


def choose(names: Sequence[str], letters: str) -> tuple[list[Job], list[Job]]:
  """Reads what a user asked for.

  Args:
    names: of jobs; none means all, or none if there are letters.
    letters: of sweeps, such as 'U,S'.

  Returns:
    Jobs, and the points of sweeps.

  Raises:
    UserError: no job or sweep has that name.
  """
  letters = [letter for letter in letters.upper().split(',') if letter]
  for name in names:
    if name not in JOBS:
      raise errors.unknown('job', name, JOBS)
  for letter in letters:
    if letter not in SWEEPS:
      raise errors.unknown('sweep', letter, SWEEPS)
  names = names or ([] if letters else JOBS)
  points = [job for letter in letters for job in swept(letter)]
  return [JOBS[name] for name in dict.fromkeys(names)], points
