# Copyright 2026 The pid_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""Token ids in, results out: all prediction of this package runs here.

An `Engine` holds a network, its parameters and the mesh that they are on. It
knows nothing of texts: `PromptInDecoder` and the evaluations give it ids
(`batching.TokenRequest`) and get ids (`Output`).

It decodes in two ways. `generate` and `score` take all requests of a job, which
`jobs` runs in batches of like length: one program encodes a batch, another
decodes it, and `planning` chooses which are compiled. `slots.Slots` takes
requests as they come, and starts new ones while others are decoded.

On a mesh whose 'data' and 'fsdp' axes split the batch, each device gets its
rows. In a run of several processes, all call the engine with the same requests,
and each gets all results.

Letters as in `batching`; T generated tokens.
"""

from collections.abc import Callable
from collections.abc import Hashable
from collections.abc import Sequence
import copy
import functools
import logging
from typing import Any
import weakref

from flax import linen as nn
import jax
import numpy as np

from pid_jax import decoding
from pid_jax import network
from pid_jax import partitioning
from pid_jax.decoding import constraints
from pid_jax.decoding import prefill
from pid_jax.decoding import slots as slots_lib
from pid_jax.decoding.loop import Output
from pid_jax.inference import batching
from pid_jax.inference import jobs
from pid_jax.inference import memory
from pid_jax.inference import options as options_lib
from pid_jax.inference import partial_results as partial_results_lib
from pid_jax.inference import planning
from pid_jax.inference import programs as programs_lib

logger = logging.getLogger('pid_jax.inference')


def trimmed(output: Output, max_new_tokens: int) -> Output:
  """Cuts off the tokens that a program may hold and an output may not."""
  return output._replace(tokens=output.tokens[..., :max_new_tokens])


def scores(output: Output, normalize: bool) -> np.ndarray:
  """Returns one of the two kinds of log-probabilities, float32 [U]."""
  return output.normalized_log_probs if normalize else output.log_probs


def _functions(
  module: nn.Module, partitioner: partitioning.Partitioner | None
) -> dict[str, jax.stages.Wrapped]:
  """Jits what programs are made of: functions of the parameters and more.

  They are new function objects, so that what JAX keeps of them is freed with
  the engines.
  """
  replicated = cross = {}
  if partitioner is not None:
    replicated = {'out_shardings': partitioner.replicated}
    cross = {
      'out_shardings': jax.eval_shape(
        lambda: module.init_cache(1, 1)
      ).map_with_axes(lambda _, names: partitioner.sharding(*names))
    }
  settings = {'static_argnames': 'settings'}
  return {
    'encode': jax.jit(
      functools.partial(_encode, module), static_argnames='length', **cross
    ),
    'generate': jax.jit(
      functools.partial(_generate, module),
      static_argnames=(
        'max_new_tokens', 'sampler', 'prompt_lookup', 'beam_size',
        'num_compactions', 'packed_prompt_length',
      ),
      **replicated,
    ),
    'score': jax.jit(
      functools.partial(_score, module),
      static_argnames='packed_prompt_length',
      **replicated,
    ),
    'init_slots': jax.jit(
      lambda params, settings, **sizes: slots_lib.init(
        settings, params, **sizes
      ),
      static_argnames=(
        'settings', 'num_slots', 'num_rows', 'input_length', 'prompt_length',
      ),
    ),
    # Slots are updated in place.
    'insert': jax.jit(
      lambda params, state, *arrays, settings, **limits: slots_lib.insert(
        settings, params, state, *arrays, **limits
      ),
      donate_argnums=1,
      **settings,
    ),
    'generate_step': jax.jit(
      lambda params, state, settings, **limits: slots_lib.generate_step(
        settings, params, state, **limits
      ),
      donate_argnums=1,
      **settings,
    ),
  }  # fmt: skip


# Engines of equal networks on equal meshes share what was compiled.
_programs: weakref.WeakValueDictionary[Hashable, programs_lib.Programs] = (
  weakref.WeakValueDictionary()
)


def _encode(
  module: nn.Module,
  params: Any,
  encoder_input_tokens: jax.Array,
  *,
  length: int,
) -> network.KVCache:
  """Encodes inputs, and pads their keys and values to a length."""
  cross = prefill.encode(module, params, encoder_input_tokens)
  return cross.pad(right=length - cross.length)


def _generate(
  module: nn.Module,
  params: Any,
  cross: network.KVCache,
  batch: dict[str, jax.Array],
  tries: constraints.Tries | None,
  limits: dict[str, jax.Array],
  *,
  max_new_tokens: int,
  sampler: decoding.Sampler,
  prompt_lookup: decoding.PromptLookup | None,
  beam_size: int | None,
  num_compactions: int,
  packed_prompt_length: int | None,
) -> Output:
  """Generates for a batch: [B, U, T], [B, U], [B, U]."""
  arguments = module, params, batch['encoder_input_tokens']
  arguments += (batch['prompt_tokens'],)
  common = dict(
    cross=cross,
    max_new_tokens=max_new_tokens,
    min_new_tokens=limits['min_new_tokens'],
    token_limit=limits['token_limit'],
    row_mask=batch['row_mask'],
    tries=tries,
    roots=None if tries is None else batch['roots'],
    packed_prompt_length=packed_prompt_length,
  )
  if beam_size is not None:
    generated = decoding.beam_search(
      *arguments,
      beam_size=beam_size,
      length_penalty=limits['length_penalty'],
      **common,
    ).best()
  else:
    generated = decoding.generate(
      *arguments,
      sampler=sampler,
      prompt_lookup=prompt_lookup,
      rng=jax.random.wrap_key_data(limits['key_data']),
      sequence_ids=batch['request_ids'],
      num_compactions=num_compactions,
      **common,
    )
  return Output(
    generated.tokens, generated.log_probs, generated.normalized_log_probs
  )


def _score(
  module: nn.Module,
  params: Any,
  cross: network.KVCache,
  batch: dict[str, jax.Array],
  *,
  packed_prompt_length: int | None,
) -> tuple[jax.Array]:
  """Scores the targets of a batch: float32 [B, U, K]."""
  scored = decoding.score_choices(
    module,
    params,
    batch['encoder_input_tokens'],
    batch['prompt_tokens'],
    batch['target_tokens'],
    cross=cross,
    row_mask=batch['row_mask'],
    packed_prompt_length=packed_prompt_length,
  )
  return (scored.log_probs,)


def _compiling(kind: str, key: Sequence[Hashable]) -> str:
  """Says what is compiled, and whether that is kept."""
  shape = next((x for x in key if isinstance(x, tuple)), ())
  sizes = ''
  if len(shape) == 6:
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
    shapes: of the programs that decode; what pays is added. May be replaced.
    programs: what is compiled, shared by engines of equal networks.
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
    self._used: set[Hashable] = set()
    key: Hashable = module
    if partitioner is not None:
      key = module, partitioner.mesh, tuple(partitioner.logical_axis_rules)
    programs = _programs.get(key)
    if programs is None:
      programs = programs_lib.Programs(
        _functions(module, partitioner), partitioner
      )
      _programs[key] = programs
    self.programs = programs

  @property
  def num_programs(self) -> int:
    """Number of programs used so far."""
    return len(self._used)

  def program(
    self, kind: str, key: Hashable, *args: Any, **kwargs: Any
  ) -> programs_lib.Program:
    """Returns a program of the parameters, and starts compiling a new one.

    Args:
      kind: of program, such as 'generate'.
      key: of its shapes and options, a tuple.
      *args: see `programs.Programs.start`; behind the parameters.
      **kwargs: see there.

    Raises:
      UserError: there is not enough memory.
    """
    self._used.add((kind, key))
    return self.programs.start(
      kind,
      (key, self._form),
      self.params,
      *args,
      announcement=_compiling(kind, key),
      **kwargs,
    )

  def find_program(
    self, kind: str, key: Hashable
  ) -> programs_lib.Program | None:
    """Returns a program that was started, or None."""
    return self.programs.find(kind, (key, self._form))

  @functools.cached_property
  def _form(self) -> int:
    return self.programs.form(self.params)

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
    other.__dict__.pop('_form', None)
    return other

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
    results = self._run(
      _Generation(self, options, self._replicate(tries)), requests, batch_size,
      shapes, progress, before_batch, partial_results, roots,
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
    results = self._run(
      _Scoring(self), requests, batch_size, shapes, progress, before_batch
    )
    return [scores for (scores,) in results]

  def _run(
    self,
    kind: '_Kind',
    requests: Sequence[batching.TokenRequest],
    batch_size: int,
    shapes: batching.Shapes | None,
    progress: Callable[[int], None] | None,
    before_batch: Callable[[], None] | None,
    partial_results: partial_results_lib.PartialResults | None = None,
    roots: Sequence[Sequence[int]] | None = None,
  ) -> list[tuple[np.ndarray, ...]]:
    """Runs a job; see `generate`."""
    if self.partitioner is not None:
      self.partitioner.check_batch_size(batch_size)
    shapes = shapes or self.shapes
    job = jobs.Job(requests, batching.make_groups(requests, batch_size), roots)
    budget = self.budget(kind.options)
    for group in range(len(job.groups)):
      needed = job.needed(group)
      budget.check(
        needed, planning.packed_length(needed, job.prompt_tokens(group))
      )
    planner = planning.Planner(
      shapes, kind.costs, kind.is_started, budget, kind.max_compactions
    )
    platform = self.programs.platform

    def start(piece: jobs.Piece) -> tuple[jax.Array, ...]:
      if before_batch is not None:
        before_batch()
      return kind.start(piece)

    results = jobs.run(
      job,
      start,
      lambda groups: jobs.schedule(
        job,
        groups,
        batch_size,
        shapes.buckets,
        planner,
        kind.programs,
        in_order=self.is_shared,
        ahead=platform.compiles_ahead,
      ),
      finish=kind.finish,
      progress=progress,
      partial_results=partial_results,
    )
    logger.debug('%s', self.programs.summary())
    return results

  @property
  def is_shared(self) -> bool:
    """Whether processes share the mesh: they must run the same programs."""
    return self.partitioner is not None and not (
      self.partitioner.replicated.is_fully_addressable
    )

  def cross_spec(self, num_inputs: int, length: int) -> network.KVCache:
    """Returns the form of encoded inputs, as ShapeDtypeStructs."""
    cache = jax.eval_shape(lambda: self.module.init_cache(num_inputs, length))
    return cache.map_with_axes(
      lambda x, names: jax.ShapeDtypeStruct(
        x.shape,
        x.dtype,
        sharding=self.partitioner and self.partitioner.sharding(*names),
      )
    )

  def spec(self, arrays: dict[str, np.ndarray]) -> dict[str, Any]:
    """Returns the form of a batch's arrays, as ShapeDtypeStructs."""
    sharding = self.partitioner and self.partitioner.batch_sharding
    return {
      name: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding)
      for name, x in arrays.items()
    }

  def put(self, arrays: dict[str, np.ndarray]) -> dict[str, Any]:
    """Moves a batch's arrays to the devices: rows to those that use them."""
    if self.partitioner is None:
      return arrays
    size = len(next(iter(arrays.values())))
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


class _Kind:
  """How batches of a job are computed: by which programs, and their costs.

  Attributes:
    options: of decoding; None: targets are scored.
    max_compactions: of the programs that decode.
    costs: of its programs and batches.
  """

  def __init__(
    self,
    engine: Engine,
    name: str,
    key: tuple[Hashable, ...],
    options: options_lib.DecodingOptions | None,
    max_compactions: int,
  ):
    """Compiles nothing yet.

    Args:
      engine: of the job.
      name: of the function that decodes.
      key: what its programs depend on, beside their shapes.
      options: see above.
      max_compactions: see above.
    """
    self.options, self.max_compactions = options, max_compactions
    self._engine, self._name, self._key = engine, name, key
    measured = engine.programs.measured
    self.costs = planning.Costs(
      engine.module.config,
      engine.programs.platform,
      engine.partitioner.mesh.size if engine.partitioner else 1,
      options.max_new_tokens if options else 0,
      options and options.beam_size or 1,
      planning.Measurements() if engine.is_shared else measured,
    )
    self._new: list[tuple[planning.ProgramName, programs_lib.Program]] = []

  def _program_key(
    self, name: planning.ProgramName
  ) -> tuple[str, tuple[Hashable, ...]]:
    kind, *sizes = name
    if kind == 'encode':
      return kind, tuple(sizes)
    return self._name, (*sizes, *self._key)

  def is_started(self, name: planning.ProgramName) -> bool:
    """Whether a program is compiled, or is being compiled."""
    return self._engine.find_program(*self._program_key(name)) is not None

  def programs(
    self, option: planning.Option
  ) -> tuple[programs_lib.Program, programs_lib.Program]:
    """Starts the programs of an option: that which encodes, and the other."""
    return tuple(self._start(name, option) for name in option.programs)

  def _start(
    self, name: planning.ProgramName, option: planning.Option
  ) -> programs_lib.Program:
    engine, (kind, key) = self._engine, self._program_key(name)
    if engine.find_program(kind, key) is not None:
      return engine.program(kind, key)
    size, length = option.shape[:2]
    arrays = vars(batching.pad([], range(size), option.shape))
    if kind == 'encode':
      tokens = arrays['encoder_input_tokens'][:, : option.input_length]
      args = engine.spec({'tokens': tokens}).values()
      program = engine.program(kind, key, *args, length=length)
    else:
      args = engine.cross_spec(size, length), engine.spec(arrays)
      args, static = self._arguments(args, option)
      program = engine.program(kind, key, *args, **static)
    self._new.append((name, program))
    return program

  def _arguments(
    self, args: tuple[Any, ...], option: planning.Option
  ) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Returns what follows the parameters, and what is static."""
    return args, {'packed_prompt_length': option.packed_length}

  def start(self, piece: jobs.Piece) -> tuple[jax.Array, ...]:
    """Starts a batch, without waiting for its results."""
    engine, option = self._engine, piece.option
    encode, decode = self.programs(option)
    arrays = vars(piece.batch)
    tokens = arrays['encoder_input_tokens'][:, : option.input_length]
    cross = encode(engine.params, *engine.put({'tokens': tokens}).values())
    args, _ = self._arguments((cross, engine.put(arrays)), option)
    return decode(engine.params, *args)

  def finish(
    self, piece: jobs.Piece, results: jobs.Arrays, seconds: float
  ) -> None:
    """Learns from a batch, and from programs that are compiled now."""
    programs = self._engine.programs
    programs.running_seconds += seconds
    if self._engine.is_shared:
      return
    measured, is_compiling = programs.measured, False
    for name, program in self._new:
      if not program.is_ready:
        is_compiling = True
      elif not program.was_kept:
        measured.add(
          'compile',
          program.tracing_seconds + program.compiling_seconds,
          self.costs.compile_seconds(name, corrected=False),
        )
    self._new = [x for x in self._new if not x[1].is_ready]
    # The first run of a program takes longer, and so do all beside a compiler.
    pair = self._name, self._key, piece.option
    if pair in measured.known and not is_compiling:
      estimated = self.costs.run_seconds(piece.option, corrected=False)
      measured.add('run', seconds, estimated)
    measured.known.add(pair)
    if self.options is not None:
      measured.add_lengths(
        np.count_nonzero(results[0], axis=2), self.options.max_new_tokens
      )


class _Generation(_Kind):
  """Batches that are generated."""

  def __init__(
    self,
    engine: Engine,
    options: options_lib.DecodingOptions,
    tries: constraints.Tries | None,
  ):
    """Takes the options, and the table of the roots of all batches or None."""
    self._static = {
      name: getattr(options, name)
      for name in ('sampler', 'prompt_lookup', 'beam_size')
    }
    length = batching.output_length(options.max_new_tokens)
    self._static['max_new_tokens'] = length
    self._tries = tries
    self._limits = {
      'key_data': _key_data(options.seed),
      'min_new_tokens': np.int32(options.min_new_tokens),
      'token_limit': np.int32(options.max_new_tokens),
      'length_penalty': np.float32(options.length_penalty),
    }
    table = None if tries is None else tries.tokens.size
    is_search = options.beam_size is not None
    super().__init__(
      engine,
      'generate',
      (table, *self._static.values()),
      options,
      0 if is_search else engine.programs.platform.num_compactions,
    )

  def _arguments(self, args, option):
    args, static = super()._arguments(args, option)
    return (*args, self._tries, self._limits), {
      **self._static,
      **static,
      'num_compactions': option.num_compactions,
    }


class _Scoring(_Kind):
  """Batches whose targets are scored."""

  def __init__(self, engine: Engine):
    super().__init__(engine, 'score', (), None, 0)


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
