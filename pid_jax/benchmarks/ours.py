# Copyright 2026 The pid_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""Our own contenders: the three layouts, their phases, and their programs."""

from collections.abc import Callable
import dataclasses
import functools
from typing import Any

import jax
import numpy as np

from pid_jax import config as config_lib
from pid_jax import decoding
from pid_jax import network
from pid_jax import partitioning
from pid_jax.benchmarks import jobs
from pid_jax.benchmarks import models
from pid_jax.benchmarks import profiling
from pid_jax.decoding import phases
from pid_jax.decoding import prefill as grid_lib
from pid_jax.inference import batching
from pid_jax.inference import engine as engine_lib
from pid_jax.inference import options
from pid_jax.inference import slots
from pid_jax.programs import lowering
from pid_jax.subtasks import prompt_in_encoder as pie


@dataclasses.dataclass(frozen=True)
class Engine:
  """A network with its parameters.

  Attributes:
    config: of the network.
    params: its parameters in float32, where it computes.
  """

  config: config_lib.T5Config
  params: Any

  @property
  def module(self) -> network.Transformer:
    return network.Transformer(self.config)

  def generator(
    self, variant: jobs.Variant, job: jobs.Job, batch: models.Batch
  ) -> Callable[[], np.ndarray]:
    """Returns a function that does a job, compiled when it is first called.

    The function returns int32 [B, U, T]; of joint [B, 1, U * T].
    """
    inputs, prompts, new_tokens = lay_out(variant.layout, job, batch)
    params = self.params
    if variant.param_dtype != 'float32':
      params = network.cast_params(params, variant.param_dtype)
    if variant.pool:
      engine = engine_lib.Engine(self.module, params)
      return lambda: _stream(engine, new_tokens, variant.pool, inputs, prompts)
    generate = self._generate(variant, job, new_tokens)
    shape = (job.num_inputs, -1, new_tokens)
    size = job.batch_size or len(inputs)
    starts = range(0, len(inputs), size)

    def run():
      batches = [
        generate(params, inputs[i : i + size], prompts[i : i + size])
        for i in starts
      ]
      return np.concatenate(batches).reshape(shape)

    return run

  def _generate(
    self, variant: jobs.Variant, job: jobs.Job, new_tokens: int
  ) -> Any:
    """Returns the jitted program of a batch: int32 [B, U, T] tokens."""
    exact = job.lengths == 'exact'
    options = {
      'max_new_tokens': new_tokens,
      'min_new_tokens': new_tokens if exact else 0,
      **variant.options,
    }
    return jax.jit(
      lambda params, inputs, prompts: (
        decoding.generate(
          self.module, params, inputs, prompts, **options
        ).tokens
      )
    )

  def profile(self, job: jobs.Job, batch: models.Batch) -> dict | None:
    """Where the time of `job.stepwise` goes, see `profiling.profile`."""
    (variant,) = (v for v in job.variants if v.name == job.stepwise)
    inputs, prompts, new_tokens = lay_out('pid', job, batch)
    args = self.params, inputs[: job.batch_size], prompts[: job.batch_size]
    program = self._generate(variant, job, new_tokens).lower(*args).compile()
    run = lambda: jax.block_until_ready(program(*args))
    run()
    return profiling.profile(program, run)

  def phases(
    self, variant: jobs.Variant, job: jobs.Job, batch: models.Batch
  ) -> dict[str, Callable[[], Any]]:
    """Returns functions that stop after encode, and after prefill."""
    inputs, prompts, new_tokens = lay_out(variant.layout, job, batch)
    slots = prompts.shape[2] + new_tokens
    wait = jax.block_until_ready
    return {
      'encode': lambda: wait(_encode(self.module, self.params, inputs)),
      'encode_and_prefill': lambda: wait(
        _prefill(self.module, self.params, inputs, prompts, slots)
      ),
    }


_encode = jax.jit(phases.encode, static_argnums=0)
_prefill = jax.jit(grid_lib.prefill, static_argnums=(0, 4))


def _stream(engine, new_tokens, pool, inputs, prompts) -> np.ndarray:
  """Decodes inputs [B, S] with prompts [B, U, P] as a stream; [B, U, T]."""
  stream = slots.Slots(
    engine,
    options.DecodingOptions(new_tokens),
    slots.Capacity.rounded_up(
      **pool, input_length=inputs.shape[1], prompt_length=prompts.shape[2]
    ),
  )
  for i, (text, own) in enumerate(zip(inputs, prompts, strict=True)):
    stream.submit(i, i, batching.TokenRequest(text, own))
  shape = (*prompts.shape[:2], new_tokens)
  tokens = np.zeros(shape, np.int32)
  while not stream.is_idle:
    stream.begin()
    for finished in stream.finish():
      tokens[finished.key] = finished.output.tokens
  return tokens


def lay_out(
  layout: str, job: jobs.Job, batch: models.Batch
) -> tuple[np.ndarray, np.ndarray, int]:
  """Returns inputs, prompts and number of tokens of a layout.

  pid: [B, S], [B, U, P], T. pie: [B U, P + S], each prompt before its input,
  and prompts of no token. joint: [B, S], one prompt of no token, U T tokens.
  """
  if layout == 'pid':
    return batch.inputs, batch.prompts, job.new_tokens
  if layout == 'pie':
    rows = job.num_inputs * job.num_prompts
    prompts = batch.prompts.reshape(rows, job.prompt_length)
    inputs = np.repeat(batch.inputs, job.num_prompts, axis=0)
    inputs = pie.join(
      prompts, inputs, concatenate=functools.partial(np.concatenate, axis=1)
    )
    return inputs, np.zeros((rows, 1, 0), np.int32), job.new_tokens
  none = np.zeros((job.num_inputs, 1, 0), np.int32)
  return batch.inputs, none, job.num_prompts * job.new_tokens


def compiled_phases(
  config: config_lib.T5Config,
  layout: str,
  job: jobs.Job,
  device: Any = None,
) -> dict[str, Any]:
  """Compiles encode, prefill and step of a layout, each by itself.

  Args:
    config: of the model.
    layout: 'pid', 'pie' or 'joint'.
    job: gives the shapes.
    device: to compile for, which may exist in name only; None: the default.

  Returns:
    Compiled programs by phase; nothing is allocated.
  """
  batch, length = job.num_inputs, job.input_length
  prompts, prompt, new_tokens = (
    job.num_prompts, job.prompt_length, job.new_tokens
  )  # fmt: skip
  if layout == 'pie':
    batch, prompts = batch * prompts, 1
    length, prompt = length + prompt, 0
  elif layout == 'joint':
    prompts, prompt, new_tokens = 1, 0, prompts * new_tokens
  programs = lowering.decode_programs(
    config,
    partitioning.Partitioner(devices=[device or jax.devices()[0]]),
    lowering.Sizes(batch, prompts, length, prompt, new_tokens),
  )
  return {program.name: program.compile() for program in programs}
