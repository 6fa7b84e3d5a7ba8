# Copyright 2026 The pid_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""Reads the text of an optimised program: what runs how often, what it moves.

The compiler's totals count the body of a loop once, however often it runs.
So the program's text is walked as the device runs it: from the entry into the
bodies of loops, times the number of their turns.

Collectives need care. An asynchronous one is a pair, `all-gather-start` and
`all-gather-done`, and on TPUs it may be spread over many fusions, even in loops
further in, which all name one channel: it is counted once, where it runs least
often. One instruction may also carry many arrays.
"""

from collections.abc import Iterator
from collections.abc import Mapping
import dataclasses
import functools
import itertools
import math
import re
from typing import NamedTuple

COLLECTIVES = (
  'all-gather',
  'all-reduce',
  'reduce-scatter',
  'all-to-all',
  'collective-permute',
)
_BITS = {'pred': 8, 's4': 4, 'u4': 4, 'bf16': 16}
_SHAPE = re.compile(r'\b([a-z][a-z0-9]*)\[([\d,]*)\](?:\{([^}]*)\})?')
_NAME = re.compile(r'%[\w.\-]+')
_HEAD = re.compile(r'^(?:ENTRY )?(%[\w.\-]+) .*\{$')
_LINE = re.compile(r'^\s+(?:ROOT )?(%[\w.\-]+) = ')
_TURNS = re.compile(r'"known_trip_count":\{"n":"(\d+)"')
_CYCLES = re.compile(r'"estimated_cycles":"?(\d+)')
_CHANNEL = re.compile(r'channel_id=(\d+)')
# How the text names a GPU's products: libraries, and kernels of Triton.
_LIBRARIES = {'__cublas$': 'cuBLAS', '__triton': 'Triton'}
_TARGET = re.compile(
  r'custom_call_target="([^"]*)"|"fusion_backend_config":\{"kind":"([^"]*)"'
)
# Instructions that name data but do not move it.
_FREE = (
  'after-all bitcast constant get-tuple-element iota parameter '
  'partition-id replica-id tuple'
).split()

_CONTROL = ('while', 'call', 'conditional')


@dataclasses.dataclass(frozen=True)
class Array:
  """An array in a program's text.

  Attributes:
    shape: its axes.
    num_bytes: of its numbers, without the padding of a TPU's tiles.
    on_chip: whether it lives in memory of the processor itself.
  """

  shape: tuple[int, ...]
  num_bytes: int
  on_chip: bool


@dataclasses.dataclass(frozen=True)
class Instruction:
  """One line of a computation.

  Attributes:
    name: with its '%'.
    opcode: such as 'fusion'.
    arrays: what it returns.
    operands: names.
    attributes: the rest of the line.
    is_root: whether it is what its computation returns.
  """

  name: str
  opcode: str
  arrays: tuple[Array, ...]
  operands: tuple[str, ...]
  attributes: str
  is_root: bool

  def called(self, attribute: str) -> str | None:
    """Returns the computation that an attribute names, such as 'body'."""
    found = re.search(rf'\b{attribute}=(%[\w.\-]+)', self.attributes)
    return found and found[1]


@dataclasses.dataclass(frozen=True)
class Collective:
  """All collectives of a kind.

  Attributes:
    count: how many run.
    num_bytes: of what they return to one device, summed; of 'reduce-scatter',
      what they take.
  """

  count: int
  num_bytes: int

  def __add__(self, other: 'Collective') -> 'Collective':
    return Collective(
      self.count + other.count, self.num_bytes + other.num_bytes
    )


class Product(NamedTuple):
  """A matrix product of a GPU's program; equal ones are tuned once.

  Attributes:
    library: 'cuBLAS', 'Triton', or 'XLA' for what neither multiplies.
    operands: what is multiplied, and a bias that is added.
    result: the product.
  """

  library: str
  operands: tuple[Array, ...]
  result: Array


@dataclasses.dataclass(frozen=True)
class Summary:
  """What one run of a program does on one device.

  Attributes:
    collectives: by kind.
    num_bytes: read from and written to memory, what stays on the chip left out.
    cycles: the compiler's estimates, summed; 0 where it makes none.
    num_unknown_loops: loops whose turns the text does not tell; their bodies
      are counted once.
    num_kernels: instructions that a GPU runs as kernels or copies.
    num_launches: the same, as often as they run.
    products: the matrix products of a GPU's program.
  """

  collectives: Mapping[str, Collective]
  num_bytes: int
  cycles: int
  num_unknown_loops: int
  num_kernels: int = 0
  num_launches: int = 0
  products: tuple[Product, ...] = ()


def summarise(text: str) -> Summary:
  """Adds up what a program does.

  Args:
    text: of an optimised program, `compiled.as_text()`.

  Returns:
    Its summary.
  """
  return _Program(text).summarise()


def largest_array(text: str, vocab_size: int) -> int:
  """Returns the elements of the largest array of a program.

  Args:
    text: as of `summarise`.
    vocab_size: arrays with an axis of this size are left out: the embedding
      and the logits.
  """
  computations, _ = parse(text)
  return max(
    math.prod(array.shape)
    for instruction in itertools.chain.from_iterable(computations.values())
    for array in instruction.arrays
    if vocab_size not in array.shape
  )


def parse(text: str) -> tuple[dict[str, list[Instruction]], str]:
  """Reads the text of an optimised program.

  Returns:
    The instructions by computation, operands before what they serve; and the
    name of the computation that the program begins with.
  """
  computations: dict[str, list[Instruction]] = {}
  lines: list[Instruction] = []
  entry = ''
  for line in text.splitlines():
    head = _HEAD.match(line)
    if head:
      lines = computations[head[1]] = []
      entry = head[1] if line.startswith('ENTRY') else entry
      continue
    name = _LINE.match(line)
    if name:
      lines.append(_parse_line(line, name))
  return computations, entry


def parse_arrays(text: str) -> tuple[Array, ...]:
  """Returns the arrays of a type, such as '(f32[2,3]{1,0}, s32[])'."""
  arrays = []
  for dtype, shape, layout in _SHAPE.findall(text):
    digits = re.search(r'\d+', dtype)  # As in f32, and f8e4m3.
    bits = _BITS.get(dtype) or int(digits[0] if digits else 0)
    axes = tuple(int(n) for n in shape.split(',') if n)
    # Memory spaces other than 0 are named in the layout: S(1).
    on_chip = re.search(r'S\([1-9]', layout) is not None
    arrays.append(Array(axes, math.prod(axes) * bits // 8, on_chip))
  return tuple(arrays)


class _Program:
  """The computations of a program, and the walk through them."""

  def __init__(self, text: str):
    self._computations, self._entry = parse(text)
    self._num_unknown_loops = 0
    # (kind, channel) -> times, bytes.
    self._channels: dict[tuple[str, str], tuple[int, int]] = {}

  def summarise(self) -> Summary:
    num_bytes = cycles = num_kernels = num_launches = 0
    products: list[Product] = []
    for name, times in self._runs(self._entry, 1):
      known = {i.name: i for i in self._computations[name]}
      for instruction in known.values():
        estimate = _CYCLES.search(instruction.attributes)
        cycles += times * int(estimate[1] if estimate else 0)
        num_bytes += times * self._moved(instruction, known)
        if _is_launched(instruction):
          num_kernels += 1
          num_launches += times
          products += self._products(instruction, known)
    collectives: dict[str, Collective] = {}
    for (kind, _), (times, size) in self._channels.items():
      before = collectives.get(kind, Collective(0, 0))
      collectives[kind] = before + Collective(times, times * size)
    return Summary(
      collectives,
      num_bytes,
      cycles,
      self._num_unknown_loops,
      num_kernels,
      num_launches,
      tuple(products),
    )

  def _products(
    self, instruction: Instruction, known: Mapping[str, Instruction]
  ) -> Iterator[Product]:
    """Yields what an instruction multiplies: one product, if any."""
    target = _TARGET.search(instruction.attributes)
    target = (target[1] or target[2]) if target else ''
    library = next(
      (v for k, v in _LIBRARIES.items() if target.startswith(k)), None
    )
    inside = [instruction]
    if instruction.opcode == 'fusion':
      inside = self._computations[instruction.called('calls')]
    if library is None or library == 'Triton':
      if not any(i.opcode == 'dot' for i in inside):
        return  # Triton's kernels are not all products.
    operands = (known[name].arrays for name in instruction.operands)
    yield Product(
      library or 'XLA',
      tuple(itertools.chain.from_iterable(operands)),
      instruction.arrays[0],
    )

  def _runs(self, name: str, times: int) -> Iterator[tuple[str, int]]:
    """Yields each computation that runs by itself, and how often."""
    yield name, times
    for instruction in self._computations[name]:
      self._note_collectives(instruction, name, times)
      if instruction.opcode == 'while':
        turns = self._turns(instruction)
        yield from self._runs(instruction.called('body'), times * turns)
      elif instruction.opcode == 'call':
        yield from self._runs(instruction.called('to_apply'), times)
      elif instruction.opcode == 'conditional':
        for branch in _branches(instruction):
          yield from self._runs(branch, times)

  def _turns(self, loop: Instruction) -> int:
    """How often a loop's body runs: counted up from 0, as JAX's scans are."""
    known = _TURNS.search(loop.attributes)
    if known:
      return int(known[1])
    lines = self._computations[loop.called('condition')]
    constants = {
      i.name: re.match(r'(\d+)\)', i.attributes)
      for i in lines
      if i.opcode == 'constant'
    }
    for i in lines:
      if i.is_root and i.opcode == 'compare' and 'direction=LT' in i.attributes:
        bound = constants.get(i.operands[-1])
        if bound:
          return int(bound[1])
    self._num_unknown_loops += 1
    return 1

  def _note_collectives(
    self, instruction: Instruction, where: str, times: int
  ) -> None:
    """Notes a collective, or those inside a fusion or an asynchronous call."""
    kind = instruction.opcode.removesuffix('-start')
    if kind in COLLECTIVES:
      arrays = instruction.arrays
      if instruction.opcode.endswith('-start') and kind != 'all-reduce':
        # (what it takes, what it returns, flags)
        arrays = [a for a in arrays if a.num_bytes > 4]
        arrays = arrays[len(arrays) // 2 :]
      sizes = [a.num_bytes for a in arrays]
      if kind == 'reduce-scatter':
        sizes = [s * _group_size(instruction.attributes) for s in sizes]
      channel = _CHANNEL.search(instruction.attributes)
      key = kind, channel[1] if channel else where + instruction.name
      before = self._channels.get(key, (times, 0))
      self._channels[key] = min(times, before[0]), max(sum(sizes), before[1])
    elif instruction.opcode in ('fusion', 'async-start'):
      inside = instruction.called('calls')
      for i in self._computations.get(inside, ()):
        self._note_collectives(i, inside, times)

  def _moved(
    self, instruction: Instruction, known: Mapping[str, Instruction]
  ) -> int:
    """Bytes that an instruction reads from and writes to memory."""
    opcode = instruction.opcode
    if opcode in (*_FREE, *_CONTROL):
      return 0
    if opcode.endswith(('-done', '-update')):
      return 0  # Counted at the start.
    results = _in_memory(instruction.arrays)
    if '"__cublas$' in instruction.attributes:
      results = _in_memory(instruction.arrays[:1])  # The other is scratch.
    operands = [
      known[name].arrays for name in instruction.operands if name in known
    ]
    if opcode.endswith('-start'):  # Returns what it takes, too.
      return results
    if opcode in ('dynamic-slice', 'slice', 'gather'):
      return 2 * results
    if opcode == 'dynamic-update-slice':
      return 2 * _in_memory(operands[1])
    if opcode != 'fusion':
      return results + sum(map(_in_memory, operands))
    read, written = self._parts(instruction.called('calls'))
    reads = (
      min(_in_memory(arrays), read.get(i, math.inf))
      for i, arrays in enumerate(operands)
    )
    return sum(reads) + min(results, written)

  @functools.cache  # noqa: B019 - as short-lived as the program.
  def _parts(self, name: str) -> tuple[dict[int, int], float]:
    """What a fusion reads and writes where it slices, and not the whole.

    Returns:
      By number, bytes of those parameters of which slices alone are used; and
      the bytes written, infinite unless that is an update in place.
    """
    lines = self._computations[name]
    users: dict[str, list[Instruction]] = {}
    for i in lines:
      for operand in i.operands:
        users.setdefault(operand, []).append(i)
    known = {i.name: i for i in lines}
    size = lambda name: sum(a.num_bytes for a in known[name].arrays)
    read, written = {}, math.inf
    for i in lines:
      if i.opcode == 'parameter':
        number = int(re.match(r'(\d+)\)', i.attributes)[1])
        uses = users.get(i.name, [])
        slices = [u for u in uses if u.operands[0] == i.name]
        if uses and all(u.opcode in ('dynamic-slice', 'slice') for u in slices):
          if len(slices) == len(uses):
            read[number] = sum(size(u.name) for u in uses)
        elif [u.opcode for u in uses] == ['dynamic-update-slice']:
          read[number] = 0 if slices else size(i.name)
      if i.is_root and i.opcode == 'dynamic-update-slice':
        written = size(i.operands[1])
    return read, written


def _is_launched(instruction: Instruction) -> bool:
  """Whether a GPU runs an instruction itself."""
  return instruction.opcode not in (*_FREE, *_CONTROL) and not (
    instruction.opcode.endswith(('-done', '-update'))
  )


def _in_memory(arrays: tuple[Array, ...]) -> int:
  return sum(a.num_bytes for a in arrays if not a.on_chip)


def _branches(instruction: Instruction) -> list[str]:
  branches = re.search(
    r'branch_computations=\{([^}]*)\}', instruction.attributes
  )
  if branches:
    return _NAME.findall(branches[1])
  names = map(instruction.called, ('true_computation', 'false_computation'))
  return [name for name in names if name]


def _group_size(attributes: str) -> int:
  """Devices that take part in one group of a collective."""
  listed = re.search(r'replica_groups=\{\{([\d,]*)\}', attributes)
  if listed:
    return listed[1].count(',') + 1
  shape = re.search(r'replica_groups=\[\d+,(\d+)\]', attributes)
  if shape:
    return int(shape[1])
  axes = re.search(r'replica_groups=mesh\[([^\]]*)\].*?\{([^}]*)\}', attributes)
  sizes = dict(re.findall(r"'(\w+)'=(\d+)", axes[1]))
  return math.prod(int(sizes[axis]) for axis in re.findall(r'\w+', axes[2]))


def _parse_line(line: str, name: re.Match) -> Instruction:
  start = name.end()
  if line[start] == '(':
    end = _closing(line, start) + 1
  else:
    end = line.index(' ', start)
  opening = line.index('(', end)
  closing = _closing(line, opening)
  opcode = line[end:opening].strip()
  # The number of a parameter and the value of a constant stand as operands do.
  literal = opcode in ('parameter', 'constant')
  return Instruction(
    name=name[1],
    opcode=opcode,
    arrays=parse_arrays(line[start:end]),
    operands=tuple(_NAME.findall(line, opening, closing)),
    attributes=line[opening + 1 if literal else closing + 1 :],
    is_root=line.lstrip().startswith('ROOT'),
  )


def _closing(text: str, opening: int) -> int:
  """The place of the parenthesis that closes the one at `opening`."""
  depth = 0
  for match in re.compile(r'[()]').finditer(text, opening):
    depth += 1 if match[0] == '(' else -1
    if depth == 0:
      return match.start()
  raise ValueError(f'unbalanced: {text[opening : opening + 80]}')
