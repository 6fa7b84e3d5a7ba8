# Copyright 2026 The pid_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""Token ids in, results out: all prediction of this package runs here.

An `Engine` holds a network, its parameters and the mesh that they are on. It
knows nothing of texts: `PromptInDecoder` and the evaluations give it ids
(`batching.TokenRequest`) and get ids (`Output`).

It decodes in two ways. `generate` and `score` take all requests of a job, batch
them by length, and start a batch before the results of the one before are read,
so that the device works while the host does. `slots.Slots` takes requests as
they come, and starts new ones while others are decoded.

On a mesh whose 'data' and 'fsdp' axes split the batch, each device gets its
rows. In a run of several processes, all call the engine with the same requests,
and each gets all results.

Letters as in `batching`; T generated tokens.
"""

from collections.abc import Callable
from collections.abc import Hashable
from collections.abc import Iterable
from collections.abc import Iterator
from collections.abc import Sequence
import contextlib
import copy
import functools
import itertools
from typing import Any
import weakref

from flax import linen as nn
import jax
import numpy as np

from pid_jax import decoding
from pid_jax import distributed
from pid_jax import partitioning
from pid_jax import progress as progress_lib
from pid_jax.decoding import constraints
from pid_jax.decoding import slots as slots_lib
from pid_jax.decoding.loop import Output
from pid_jax.inference import batching
from pid_jax.inference import memory
from pid_jax.inference import options as options_lib
from pid_jax.inference import partial_results as partial_results_lib


def trimmed(output: Output, max_new_tokens: int) -> Output:
  """Cuts off the tokens that a program may hold and an output may not."""
  return output._replace(tokens=output.tokens[..., :max_new_tokens])


def scores(output: Output, normalize: bool) -> np.ndarray:
  """Returns one of the two kinds of log-probabilities, float32 [U]."""
  return output.normalized_log_probs if normalize else output.log_probs


class _Programs:
  """The jitted programs of a network on a mesh.

  Each wraps a new function object, so that what was compiled is freed with this
  object.
  """

  def __init__(
    self, module: nn.Module, out_sharding: jax.sharding.Sharding | None
  ):
    out = {} if out_sharding is None else {'out_shardings': out_sharding}
    self.generate = jax.jit(
      functools.partial(_generate, module),
      static_argnames=(
        'max_new_tokens', 'sampler', 'prompt_lookup', 'beam_size'
      ),
      **out,
    )  # fmt: skip
    self.score = jax.jit(functools.partial(_score, module), **out)
    # Slots are updated in place.
    self.init_slots = jax.jit(
      functools.partial(slots_lib.init),
      static_argnums=0,
      static_argnames=(
        'num_slots', 'num_rows', 'input_length', 'prompt_length'
      ),
    )  # fmt: skip
    self.insert = jax.jit(
      functools.partial(slots_lib.insert), static_argnums=0, donate_argnums=2
    )
    self.generate_step = jax.jit(
      functools.partial(slots_lib.generate_step),
      static_argnums=0,
      donate_argnums=2,
    )


# Engines of equal networks on equal meshes share what was compiled.
_programs: weakref.WeakValueDictionary[Hashable, _Programs] = (
  weakref.WeakValueDictionary()
)


def _generate(
  module: nn.Module,
  params: Any,
  batch: dict[str, jax.Array],
  tries: constraints.Tries | None,
  *,
  key_data: jax.Array,
  min_new_tokens: jax.Array,
  token_limit: jax.Array,
  length_penalty: jax.Array,
  max_new_tokens: int,
  sampler: decoding.Sampler,
  prompt_lookup: decoding.PromptLookup | None,
  beam_size: int | None,
) -> Output:
  """Generates for a batch: [B, U, T], [B, U], [B, U]."""
  arguments = module, params, batch['encoder_input_tokens']
  arguments += (batch['prompt_tokens'],)
  limits = dict(
    max_new_tokens=max_new_tokens,
    min_new_tokens=min_new_tokens,
    token_limit=token_limit,
    row_mask=batch['row_mask'],
    tries=tries,
    roots=None if tries is None else batch['roots'],
  )
  if beam_size is not None:
    generated = decoding.beam_search(
      *arguments, beam_size=beam_size, length_penalty=length_penalty, **limits
    ).best()
  else:
    generated = decoding.generate(
      *arguments,
      sampler=sampler,
      prompt_lookup=prompt_lookup,
      rng=jax.random.wrap_key_data(key_data),
      sequence_ids=batch['request_ids'],
      **limits,
    )
  return Output(
    generated.tokens, generated.log_probs, generated.normalized_log_probs
  )


def _score(
  module: nn.Module, params: Any, batch: dict[str, jax.Array]
) -> tuple[jax.Array]:
  """Scores the targets of a batch: float32 [B, U, K]."""
  scored = decoding.score_choices(
    module,
    params,
    batch['encoder_input_tokens'],
    batch['prompt_tokens'],
    batch['target_tokens'],
    row_mask=batch['row_mask'],
  )
  return (scored.log_probs,)


def _compiling(kind: str, key: Sequence[Hashable]) -> str:
  """Says what is compiled, and whether that is kept."""
  shape = next((x for x in key if isinstance(x, tuple)), ())
  sizes = ''
  if shape:
    inputs, length, prompts, prompt, targets, target = shape
    sizes = f' for {inputs} x {length} tokens of inputs'
    sizes += f', each with {prompts} x {prompt} of prompts'
    sizes += f', each with {targets} x {target} of targets' * (targets > 0)
  folder = jax.config.jax_compilation_cache_dir
  kept = (
    f'kept in {folder} for the next start'
    if folder
    else 'JAX_COMPILATION_CACHE_DIR=FOLDER keeps it for the next start'
  )
  return (
    f'pid_jax: compiling {kind!r}{sizes}; this can take a minute, once ({kept})'
  )


class Engine:
  """Decodes token ids with a network, on one device or a mesh.

  Attributes:
    module: the network, one that `decoding` can run.
    params: its parameters, on the devices.
    partitioner: of the mesh that they are on, or None: one device.
    shapes: of batches, each of which is compiled once; up to eight, as they are
      needed. May be replaced.
    programs: what is compiled; for `slots`.
  """

  def __init__(
    self,
    module: nn.Module,
    params: Any,
    partitioner: partitioning.Partitioner | None = None,
  ):
    """Compiles nothing yet.

    Args:
      module: the network.
      params: its parameters, placed as the partitioner says; None if
        `with_params` is to give them.
      partitioner: of the mesh, or None: one device.
    """
    self.module, self.params, self.partitioner = module, params, partitioner
    self.shapes = batching.Shapes(
      batch_multiple=partitioner.num_data_shards if partitioner else 1
    )
    self._compiled: set[Hashable] = set()
    key: Hashable = module
    if partitioner is not None:
      key = module, partitioner.mesh, tuple(partitioner.logical_axis_rules)
    programs = _programs.get(key)
    if programs is None:
      programs = _Programs(module, partitioner and partitioner.replicated)
      _programs[key] = programs
    self.programs = programs

  @property
  def num_programs(self) -> int:
    """Number of programs used so far, one for each shape."""
    return len(self._compiled)

  @contextlib.contextmanager
  def running(self, kind: str, *key: Hashable) -> Iterator[None]:
    """Context of running a program: on the mesh, counted if it is new.

    A new one is compiled, which is said if it takes long.

    Args:
      kind: of program, such as 'generate'.
      key: of its shapes and options.

    Raises:
      UserError: there is not enough memory.
    """
    program = kind, *key
    is_known = program in self._compiled
    said = contextlib.nullcontext()
    if not is_known:
      said = progress_lib.announced(_compiling(kind, key))
    with self.scope(), said, memory.explained():
      yield
    self._compiled.add(program)

  def budget(
    self, options: options_lib.DecodingOptions | None = None
  ) -> memory.Budget:
    """Returns what memory there is for batches.

    Args:
      options: of decoding, with max_new_tokens; None: targets are scored.
    """
    sizes = {}
    if options is not None:
      lookup = options.prompt_lookup
      sizes = dict(
        max_new_tokens=batching.output_length(options.max_new_tokens),
        beam_size=options.beam_size,
        num_draft_tokens=lookup.max_draft_tokens if lookup else 0,
      )
    num_devices = self.partitioner.mesh.size if self.partitioner else 1
    return memory.Budget(
      self.module.config, self.params, num_devices=num_devices, **sizes
    )

  def with_params(self, params: Any) -> 'Engine':
    """Returns this engine with other parameters; the rest is shared."""
    other = copy.copy(self)
    other.params = params
    return other

  def scope(self) -> contextlib.AbstractContextManager[None]:
    """Context of compiling and running: logical axes resolve to the mesh."""
    if self.partitioner is None:
      return contextlib.nullcontext()
    return self.partitioner.scope()

  def generate(
    self,
    requests: Sequence[batching.TokenRequest],
    options: options_lib.DecodingOptions,
    *,
    batch_size: int = 16,
    shapes: batching.Shapes | None = None,
    progress: Callable[[int], None] | None = None,
    before_batch: Callable[[], None] | None = None,
    partial_results: partial_results_lib.PartialResults | None = None,
  ) -> list[Output]:
    """Generates the outputs of all requests.

    Args:
      requests: in any order. A request's index seeds what it draws.
      options: of decoding, with max_new_tokens.
      batch_size: requests that are decoded together, at most; on a mesh, a
        multiple of its data shards.
      shapes: of batches; None: the engine's.
      progress: called from time to time with the number of prompts answered.
      before_batch: called before each batch is started; may raise.
      partial_results: where results are stored, so that none is computed twice
        and processes share the work, each on its devices. None: nowhere; all
        processes compute all batches together.

    Returns:
      An Output for each request.

    Raises:
      UserError: batch_size is out of range or not divisible by the mesh, or
        there is not enough memory.
    """
    tries, roots = _tries(requests)
    start = functools.partial(
      self.start, options=options, tries=self._replicate(tries)
    )
    results = self._run(
      start, requests, self.budget(options), batch_size, shapes, progress,
      before_batch, partial_results, roots,
    )  # fmt: skip
    return [trimmed(Output(*x), options.max_new_tokens) for x in results]

  def score(
    self,
    requests: Sequence[batching.TokenRequest],
    *,
    batch_size: int = 16,
    shapes: batching.Shapes | None = None,
    progress: Callable[[int], None] | None = None,
    before_batch: Callable[[], None] | None = None,
  ) -> list[np.ndarray]:
    """Scores the targets of all requests.

    Args:
      requests: with targets.
      batch_size: see `generate`, like all that follow.
      shapes: of batches, or None.
      progress: called from time to time, or None.
      before_batch: called before each batch, or None.

    Returns:
      For each request float32 [U, K], natural logarithms of the probabilities
      of its targets; 0 where a prompt has fewer.
    """

    def start(batch: batching.Batch) -> tuple[jax.Array, ...]:
      with self.running('score', batch.shape):
        return self.programs.score(self.params, self._put(batch))

    results = self._run(
      start, requests, self.budget(), batch_size, shapes, progress, before_batch
    )
    return [scores for (scores,) in results]

  def start(
    self,
    batch: batching.Batch,
    options: options_lib.DecodingOptions,
    tries: constraints.Tries | None = None,
  ) -> Output:
    """Starts a batch, without waiting for its results.

    Args:
      batch: of any requests.
      options: of decoding, with max_new_tokens.
      tries: the table of the batch's roots, or None: all rows are free.

    Returns:
      Output of arrays on the devices: [B, U, T], [B, U] and [B, U], with T the
      bucket of max_new_tokens: tokens beyond those are 0.
    """
    static = {
      name: getattr(options, name)
      for name in ('sampler', 'prompt_lookup', 'beam_size')
    }
    static['max_new_tokens'] = batching.output_length(options.max_new_tokens)
    table = None if tries is None else tries.tokens.size
    with self.running('generate', batch.shape, table, *static.values()):
      return self.programs.generate(
        self.params,
        self._put(batch),
        tries,
        key_data=_key_data(options.seed),
        min_new_tokens=np.int32(options.min_new_tokens),
        token_limit=np.int32(options.max_new_tokens),
        length_penalty=np.float32(options.length_penalty),
        **static,
      )

  def _run(
    self,
    start: Callable[[batching.Batch], tuple[jax.Array, ...]],
    requests: Sequence[batching.TokenRequest],
    budget: memory.Budget,
    batch_size: int,
    shapes: batching.Shapes | None,
    progress: Callable[[int], None] | None,
    before_batch: Callable[[], None] | None,
    partial_results: partial_results_lib.PartialResults | None = None,
    roots: Sequence[Sequence[int]] | None = None,
  ) -> list[tuple[np.ndarray, ...]]:
    """Batches the requests and runs them; see `generate`."""
    if self.partitioner is not None:
      self.partitioner.check_batch_size(batch_size)
    batches = batching.make_batches(
      requests, batch_size, shapes or self.shapes, roots, budget
    )

    def start_next(batch: batching.Batch) -> tuple[jax.Array, ...]:
      if before_batch is not None:
        before_batch()
      return start(batch)

    return run_ahead(start_next, batches, progress, partial_results)

  def _put(self, batch: batching.Batch) -> dict[str, Any]:
    """Moves a batch to the devices: its rows to those that compute them."""
    arrays = dict(vars(batch))
    if self.partitioner is None:
      return arrays
    size = len(batch.request_ids)
    rows = self.partitioner.local_rows(size)
    return self.partitioner.put_batch(
      {name: x[rows] for name, x in arrays.items()}, size
    )

  def _replicate(
    self, tries: constraints.Tries | None
  ) -> constraints.Tries | None:
    """Copies a table to all devices."""
    if tries is None or self.partitioner is None:
      return tries
    return jax.tree.map(
      lambda x: jax.make_array_from_callback(
        x.shape, self.partitioner.replicated, np.asarray(x).__getitem__
      ),
      tries,
    )


@functools.lru_cache
def _key_data(seed: int) -> np.ndarray:
  """The data of a random key; kept, as reading it would wait for a batch."""
  return np.asarray(jax.random.key_data(jax.random.key(seed)))


def _tries(
  requests: Sequence[batching.TokenRequest],
) -> tuple[constraints.Tries | None, list[list[int]] | None]:
  """Makes one table of the choices of all requests.

  Returns:
    The table, and for each request the roots of its rows; or None twice where
    nothing is constrained.
  """
  # Most prompts have the same choices each time: the same object, or an equal
  # one.
  root_of_object: dict[int, int] = {}
  root_of_set: dict[batching.TokenSequences, int] = {}

  def root(strings: batching.TokenSequences | None) -> int:
    if strings is None:
      return constraints.FREE
    if id(strings) not in root_of_object:
      new = constraints.root(len(root_of_set))
      root_of_object[id(strings)] = root_of_set.setdefault(strings, new)
    return root_of_object[id(strings)]

  roots = [[root(x) for x in request.choices] for request in requests]
  if not root_of_set:
    return None, None
  return constraints.build(list(root_of_set)), roots


def run_ahead(
  start: Callable[[batching.Batch], tuple[jax.Array, ...]],
  batches: Iterable[batching.Batch],
  progress: Callable[[int], None] | None = None,
  partial_results: partial_results_lib.PartialResults | None = None,
) -> list[tuple[np.ndarray, ...]]:
  """Starts each batch before the results of the one before are read.

  So the device works while the host reads, and makes the next batch.

  Args:
    start: starts the work on a batch; returns arrays [B, U, ...].
    batches: of `batching.make_batches`; the same ones in all processes.
    progress: called with the number of prompts done so far, or None.
    partial_results: see `Engine.generate`.

  Returns:
    For each request, in order, its part of the results, [U, ...].
  """
  if partial_results is None:
    return batching.unbatch(_results(start, batches, progress))
  batches = list(batches)
  left = [k for k in range(len(batches)) if k not in partial_results.known]
  mine = left[distributed.process_index() :: distributed.process_count()]
  results = _results(start, [batches[k] for k in mine], progress)
  try:
    for k, (_, arrays) in zip(mine, results, strict=True):
      partial_results.add(k, arrays)
  finally:  # Also of a job that is interrupted.
    partial_results.write()
  known = partial_results.gather(len(batches))
  return batching.unbatch((b, known[k]) for k, b in enumerate(batches))


def _results(
  start: Callable[[batching.Batch], tuple[jax.Array, ...]],
  batches: Iterable[batching.Batch],
  progress: Callable[[int], None] | None,
) -> Iterator[tuple[batching.Batch, tuple[np.ndarray, ...]]]:
  """Yields the batches with their results."""
  ahead, num_done = None, 0
  for batch in itertools.chain(batches, [None]):
    before, ahead = ahead, None if batch is None else (batch, start(batch))
    if before is not None:
      with memory.explained():
        arrays = jax.device_get(before[1])
      yield before[0], arrays
      num_done += int(before[0].row_mask.sum())
      if progress is not None:
        progress(num_done)
