# Copyright 2026 The pid_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""Which programs a job compiles: those that save more seconds than they take.

A batch needs two programs: one encodes its inputs, and pads their keys and
values to the length of the other, which decodes. Any program that is large
enough serves, so a job could do with one of each; further ones save padding, or
steps of sequences that have ended, and each takes seconds to compile. `plan`
chooses. Seconds are estimated from FLOPs (`Costs`) and the figures of the
platform, and corrected by what was measured in this process (`Measurements`).

What a program would have saved in earlier jobs counts as well: who asks for one
text at a time gets a program for one text when waiting for it would have paid
(the rule of ski rental, which never costs more than twice the best choice).

Letters as in `batching`: a shape is (B, S, U, P, K, T).
"""

import collections
from collections.abc import Callable
from collections.abc import Hashable
from collections.abc import Iterable
from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence
import dataclasses
import itertools
from typing import Any

import numpy as np

from pid_jax import platforms
from pid_jax.config import T5Config
from pid_jax.decoding import generation
from pid_jax.decoding import prefill
from pid_jax.inference import batching

# ('encode', B, S, S of the decoding program) or ('decode', shape, compactions,
# packed length).
ProgramName = tuple[Any, ...]

# FLOPs of attention take longer than those of weights: its products are narrow,
# and softmax has none. (Two Zen 5 cores, 16 inputs of 128 and 256 tokens.)
_ATTENTION = 3
# Making a batch, starting it and reading its results.
_SECONDS_PER_BATCH = 1e-3
# Compiling for packed prompts counts as this much more: longer prompts of the
# same shape may need another program, where one for padded prompts serves all.
_PACKED = 1.1
# Batches have as many tokens as this part of the limit, and this part of their
# sequences' steps is left by compaction, before any was measured.
_STEPS, _LEFT = 0.5, 0.8
# Candidates no larger than a batch needs, the costliest first: mixtures of all
# lengths have hundreds, of which few get a program.
_MOST_CANDIDATES = 24
_MOST_LOSSES = 256
# Seconds that stand for a batch that nothing holds.
_IMPOSSIBLE = 1e9


@dataclasses.dataclass(frozen=True, order=True)
class Need:
  """The least that a batch needs.

  Attributes:
    shape: of buckets.
    prompt_tokens: of all prompts of an input, without start tokens.
  """

  shape: batching.Shape
  prompt_tokens: int

  @classmethod
  def rounded(cls, shape: batching.Shape, prompt_tokens: int) -> 'Need':
    """Rounds tokens up to what the best program of the shape has room for."""
    prompts, prompt = shape[2:4]
    length = packed_length(shape, prompt_tokens)
    return cls(shape, prompts * prompt if length is None else length - prompts)


def packed_length(shape: batching.Shape, prompt_tokens: int) -> int | None:
  """Returns the L of a program of a shape, see `prefill.prefill`.

  Args:
    shape: of the program; rows without a prompt have a start token as well.
    prompt_tokens: as in `Need`.

  Returns:
    The least that holds these tokens; None: prompts are padded.
  """
  lengths = prefill.packed_lengths(*shape[2:4])
  needed = shape[2] + prompt_tokens
  return next((length for length in lengths if length >= needed), None)


@dataclasses.dataclass(frozen=True)
class Option:
  """A way to compute a batch.

  Attributes:
    shape: of the program that decodes.
    input_length: to which inputs are padded when they are encoded, at most S.
    num_compactions: see `decoding.generate`.
    packed_length: L of packed prompts, see there; None: they are padded.
  """

  shape: batching.Shape
  input_length: int
  num_compactions: int = 0
  packed_length: int | None = None

  @property
  def programs(self) -> tuple[ProgramName, ProgramName]:
    """The two programs that it needs."""
    size, length = self.shape[:2]
    return (
      ('encode', size, self.input_length, length),
      ('decode', self.shape, self.num_compactions, self.packed_length),
    )


class Measurements:
  """What the programs of a network took, against what was estimated.

  Attributes:
    run_ratio: seconds measured per second estimated, of batches.
    compile_ratio: the same of compiling.
    steps: steps of a batch, as a part of the most that it may take.
    left: of the steps of sequences, the part that two compactions leave.
    known: programs that ran a batch, as their jobs name them.
  """

  def __init__(self):
    """Nothing is measured yet."""
    self.run_ratio = self.compile_ratio = 1.0
    self.steps, self.left = _STEPS, _LEFT
    self.known: set[Hashable] = set()
    self._sums = {name: np.zeros(2) for name in ('run', 'compile')}
    self._lengths = np.zeros(4)

  def add(self, kind: str, measured: float, estimated: float) -> None:
    """Adds seconds of a batch ('run') or program ('compile')."""
    self._sums[kind] += measured, estimated
    ratio = self._sums[kind][0] / self._sums[kind][1]
    setattr(self, f'{kind}_ratio', float(np.clip(ratio, 0.01, 100.0)))

  def add_lengths(self, lengths: np.ndarray, limit: int) -> None:
    """Adds the numbers of tokens of a batch's outputs.

    Args:
      lengths: int [B, U], 0 where there is none.
      limit: the most that there may be.
    """
    if not lengths.size or not limit:
      return
    width, steps = lengths.shape[1], lengths.max()
    left, since = 0, 0
    widths = generation.narrower_widths(*lengths.shape, 2)
    # A loop ends when no input has more unfinished sequences than the next has.
    falling = -np.sort(-lengths, axis=1)
    for now, after in zip([width, *widths], [*widths, 0], strict=True):
      until = falling[:, after].max() if after else steps
      left += now * (until - since)
      since = until
    self._lengths += steps, limit, left, width * steps
    steps, limit, left, all_steps = self._lengths
    self.steps = float(steps / limit)
    if all_steps:
      self.left = float(left / all_steps)


@dataclasses.dataclass(frozen=True)
class Costs:
  """Estimates seconds of running and of compiling.

  Attributes:
    config: of the network.
    platform: of its devices.
    num_devices: that share a batch.
    max_new_tokens: the limit of outputs; 0: targets are scored.
    num_beams: of each prompt.
    measured: corrects the estimates.
  """

  config: T5Config
  platform: platforms.Platform
  num_devices: int = 1
  max_new_tokens: int = 0
  num_beams: int = 1
  measured: Measurements = dataclasses.field(default_factory=Measurements)

  def run_seconds(self, option: Option, *, corrected: bool = True) -> float:
    """Estimates the time of one batch.

    Args:
      option: how it is computed.
      corrected: by what was measured.
    """
    config = self.config
    size, length, prompts, prompt, targets, target = option.shape
    width = config.num_heads * config.head_dim
    attention = 4 * config.emb_dim * width
    mlp = (1 + len(config.mlp_activations)) * config.emb_dim * config.mlp_dim
    # Two FLOPs for each weight, and four for each query, key and dimension.
    pair = 4 * _ATTENTION * width
    token = 2 * (attention + mlp) + pair * option.input_length
    inputs = size * option.input_length
    flops = inputs * config.num_encoder_layers * token
    flops += inputs * config.num_decoder_layers * attention
    rows, read = size * prompts, 1 + prompt
    weights = 2 * (attention * 3 // 2 + mlp)
    token = config.num_decoder_layers * (weights + pair * (length + read))
    if option.packed_length is None:
      flops += rows * read * token
    else:  # Blocks of `read` tokens see the block before as well.
      context = length + min(2 * read, option.packed_length)
      flops += (
        size
        * option.packed_length
        * config.num_decoder_layers
        * (weights + pair * context)
      )
    token += 2 * config.emb_dim * config.vocab_size
    if self.max_new_tokens:
      rows *= self.num_beams
      if option.num_compactions:
        rows *= self.measured.left
      steps = max(self.measured.steps * self.max_new_tokens - 1, 0)
      flops += steps * max(rows, generation.FEW_SEQUENCES) * token
    else:
      flops += rows * targets * target * token
    rate = self.platform.flops_per_second * self.num_devices
    seconds = flops / rate + _SECONDS_PER_BATCH
    return seconds * self.measured.run_ratio if corrected else seconds

  def compile_seconds(
    self, name: ProgramName, *, corrected: bool = True
  ) -> float:
    """Estimates the time of tracing and compiling a program."""
    config, platform = self.config, self.platform
    if name[0] == 'encode':
      parts, layers = 0.5, config.num_encoder_layers / 2
    else:
      parts, layers = 2 + name[2], config.num_decoder_layers
    layers = 1 if config.scan_layers else layers
    if name[0] == 'decode':
      layers *= parts
    seconds = (
      parts * platform.seconds_per_part + layers * platform.seconds_per_layer
    )
    if name[0] == 'decode' and name[3] is not None:
      seconds *= _PACKED
    return seconds * self.measured.compile_ratio if corrected else seconds


class Planner:
  """Chooses options for the batches of one job after another."""

  def __init__(
    self,
    shapes: batching.Shapes,
    costs: Costs,
    is_started: Callable[[ProgramName], bool],
    budget: batching.Budget | None = None,
    max_compactions: int = 0,
  ):
    """Makes no plan yet.

    Args:
      shapes: that are known; what is chosen is added.
      costs: of programs and batches.
      is_started: whether a program is compiled, or will be in any case.
      budget: of memory, or None: any.
      max_compactions: of programs that decode.
    """
    self._shapes, self._costs, self._budget = shapes, costs, budget
    self._is_started = is_started
    self._max_compactions = max_compactions

  def plan(
    self,
    counts: Mapping[Need, int],
    batch_size: int,
    is_new: bool = True,
  ) -> dict[Need, Option]:
    """Chooses how to compute batches.

    Args:
      counts: how many batches have a need.
      batch_size: the greatest B.
      is_new: whether it is a job's first plan, not one for what is left of it.

    Returns:
      The option for each of these needs.
    """
    table = _Table(self, counts, batch_size)
    chosen = table.search()
    plan = table.assign(chosen)
    if is_new:
      savings = table.savings(table.best(table.free(chosen)))
      self._add_losses(table.options, savings, has_new=bool(chosen))
    chosen = set(plan.values())
    self._shapes.known.update(option.shape for option in chosen)
    self._shapes.input_lengths.update(option.input_length for option in chosen)
    return plan

  def _add_losses(
    self, options: Sequence[Option], seconds: np.ndarray, has_new: bool
  ) -> None:
    """Adds what a job loses; with a new program, others save less than before.

    Args:
      options: that the job could use.
      seconds: that each would save.
      has_new: whether it has one, so that what earlier jobs lost is forgotten.
    """
    lost = {} if has_new else self._shapes.lost_seconds
    for option, more in zip(options, seconds, strict=True):
      if more > 0:
        lost[option] = lost.get(option, 0.0) + float(more)
    greatest = sorted(lost, key=lost.get, reverse=True)[:_MOST_LOSSES]
    self._shapes.lost_seconds = {option: lost[option] for option in greatest}

  def options(
    self, counts: Mapping[Need, int], batch_size: int
  ) -> Iterator[Option]:
    """Yields all options that may be chosen."""
    shapes = {
      shape
      for shape in self._shapes.within(batch_size)
      if shape[0] % self._shapes.batch_multiple == 0
    }
    lengths = self._shapes.input_lengths | {shape[1] for shape in shapes}
    is_full = len(shapes) >= self._shapes.max_shapes
    needed = collections.Counter()
    for need, count in counts.items():
      needed[need.shape] += count
    served = [x for x in needed if any(_holds(shape, x) for shape in shapes)]
    if not is_full or len(served) < len(needed):
      by_weight = lambda x: (
        -needed[x] * self._costs.run_seconds(Option(x, x[1]))
      )
      rest = needed if not is_full else set(needed) - set(served)
      wanted = sorted(rest, key=by_weight)
      lengths |= {shape[1] for shape in needed}
      shapes |= {
        shape
        for shape in (*wanted[:_MOST_CANDIDATES], *_joins(needed))
        if shape in needed
        or self._budget is None
        or self._budget.fits(shape, _packed_length_for_all(shape, counts))
      }
      # Each batch has an option.
      shapes |= {x for x in wanted if not any(_holds(y, x) for y in shapes)}
    for shape in sorted(shapes):
      if not any(_holds(shape, x) for x in needed):
        continue
      widths = generation.narrower_widths(
        shape[0], shape[2], self._max_compactions
      )
      for compactions in sorted({0, len(widths)}):
        for packed in self._packed_lengths(shape, compactions, counts):
          for length in sorted(x for x in lengths if x <= shape[1]):
            yield Option(shape, length, compactions, packed)

  def _packed_lengths(
    self, shape: batching.Shape, compactions: int, needs: Iterable[Need]
  ) -> list[int | None]:
    """Returns those of programs that are there, or worth one of their own."""
    chosen = {_packed_length_for_all(shape, needs)}
    chosen |= {
      packed_length(shape, need.prompt_tokens)
      for need in needs
      if need.shape == shape
    }
    return [None] + [
      length
      for length in sorted(set(prefill.packed_lengths(*shape[2:4])))
      if length in chosen
      or self._is_started(('decode', shape, compactions, length))
    ]


class _Table:
  """Costs of all options for all batches of a job."""

  def __init__(
    self,
    planner: Planner,
    counts: Mapping[Need, int],
    batch_size: int,
  ):
    self.needed = sorted(counts)
    self.options = list(planner.options(counts, batch_size))
    costs, shapes = planner._costs, planner._shapes
    self._weights = np.array([counts[x] for x in self.needed], float)
    seconds = np.array([costs.run_seconds(x) for x in self.options])
    sizes = np.array([x.shape[0] for x in self.needed])
    cuts = np.array([-(-sizes // x.shape[0]) for x in self.options])
    # [options, needs]: of one batch each.
    self._seconds = np.where(
      _serves(self.options, self.needed), seconds[:, None] * cuts, np.inf
    )
    self._saved = np.empty_like(self._seconds)
    pairs = [option.programs for option in self.options]
    names = list(dict.fromkeys(itertools.chain(*pairs)))
    numbers = {name: n for n, name in enumerate(names)}
    # [options, 2]: numbers of programs.
    self._programs = np.array([[numbers[x] for x in pair] for pair in pairs])
    self._started = np.array([planner._is_started(x) for x in names], bool)
    prices = np.array([costs.compile_seconds(x) for x in names])
    self._prices = np.where(self._started, 0.0, prices)
    lost = shapes.lost_seconds
    credit = np.array([lost.get(x, 0.0) for x in self.options])
    self._credit = np.where(self.free(frozenset()), 0.0, credit)
    self._room = max(shapes.max_shapes - len(shapes.within(batch_size)), 0)
    self._known = set(shapes.known)

  def free(self, chosen: frozenset[int]) -> np.ndarray:
    """Which options need no further program: bool [options]."""
    there = self._started.copy()
    there[self._programs[list(chosen)]] = True
    return there[self._programs].all(axis=1)

  def best(self, free: np.ndarray) -> np.ndarray:
    """Seconds of one batch of each need by the best free option."""
    return self._seconds[free].min(axis=0, initial=np.inf)

  def savings(self, now: np.ndarray) -> np.ndarray:
    """Seconds of the job that each option saves, given those of each batch."""
    now = np.minimum(now, _IMPOSSIBLE)
    saved = np.subtract(now, self._seconds, out=self._saved)
    return np.maximum(saved, 0.0, out=saved) @ self._weights

  def price(self, chosen: frozenset[int]) -> float:
    """Seconds of compiling, less those that earlier jobs lost."""
    seconds = self._prices[np.unique(self._programs[list(chosen)])].sum()
    # Two options may have been missed by the same batches.
    return seconds - max((self._credit[i] for i in chosen), default=0.0)

  def total(self, chosen: frozenset[int]) -> float:
    """Seconds of the job with the programs of some options compiled."""
    now = np.minimum(self.best(self.free(chosen)), _IMPOSSIBLE)
    return float(now @ self._weights) + self.price(chosen)

  def fits(self, chosen: frozenset[int]) -> bool:
    """Whether there may be as many shapes."""
    new = {self.options[i].shape for i in chosen} - self._known
    return len(new) <= self._room

  def search(self) -> frozenset[int]:
    """Adds, drops and swaps options for as long as that saves seconds."""
    chosen, total = frozenset(), self.total(frozenset())
    for _ in range(64):
      moves = []
      for without in (None, *chosen):
        kept = chosen - {without}
        if without is not None:
          moves.append(kept)
        savings = self.savings(self.best(self.free(kept)))
        prices = self._prices.copy()
        prices[self._programs[list(kept)]] = 0.0
        gains = savings - prices[self._programs].sum(axis=1) + self._credit
        # An option with a shape too many is taken where nothing else holds.
        order = np.argsort(-gains, kind='stable')
        moves += [kept | {int(i)} for i in order[:4] if gains[i] > 0]
      allowed = [
        x
        for x in moves
        if self.fits(x) or not np.isfinite(self.best(self.free(chosen))).all()
      ]
      totals = [self.total(x) for x in allowed]
      if not totals or min(totals) >= total - 1e-9:
        break
      total = min(totals)
      chosen = allowed[totals.index(total)]
    return chosen

  def assign(self, chosen: frozenset[int]) -> dict[Need, Option]:
    """Returns the best free option for each need."""
    free = np.flatnonzero(self.free(chosen))
    best = free[self._seconds[free].argmin(axis=0)]
    return {
      need: self.options[i] for need, i in zip(self.needed, best, strict=True)
    }


def _serves(options: Sequence[Option], needs: Sequence[Need]) -> np.ndarray:
  """Returns whether options serve batches, cut to their B: bool [o, n]."""
  shapes = np.array([x.shape for x in options])[:, None]
  needed = np.array([x.shape for x in needs])
  lengths = np.array([x.input_length for x in options])[:, None]
  tokens = np.array([x.prompt_tokens for x in needs])
  room = [
    np.inf if x.packed_length is None else x.packed_length - x.shape[2]
    for x in options
  ]
  return (
    ((shapes == 0) == (needed == 0)).all(axis=2)
    & (shapes >= needed)[:, :, 1:].all(axis=2)
    & (lengths >= needed[:, 1])
    & (np.array(room)[:, None] >= tokens)
  )


def _holds(shape: batching.Shape, needed: batching.Shape) -> bool:
  """Whether a program serves a batch, cut to its B: one of the same kind."""
  return batching.is_same_kind(shape, needed) and batching.holds(
    shape[1:], needed[1:]
  )


def _packed_length_for_all(
  shape: batching.Shape, needs: Iterable[Need]
) -> int | None:
  """Returns L for all batches that a shape serves."""
  return packed_length(
    shape,
    max((x.prompt_tokens for x in needs if _holds(shape, x.shape)), default=0),
  )


def _joins(shapes: Iterable[batching.Shape]) -> set[batching.Shape]:
  """Returns shapes that hold all others up to some S, or some U."""
  joins = set()
  kinds = {tuple(size == 0 for size in shape): shape for shape in shapes}
  for kind in kinds.values():
    of_kind = [x for x in shapes if batching.is_same_kind(x, kind)]
    for axis in (1, 2):
      for most in {shape[axis] for shape in of_kind}:
        smaller = [shape for shape in of_kind if shape[axis] <= most]
        joins.add(tuple(map(max, zip(*smaller, strict=True))))
  return joins
