# Copyright 2026 The pid_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""Decoding by this library: the programs of a job's variants."""

from __future__ import annotations

from collections.abc import Callable
import dataclasses
import functools
from typing import Any, NamedTuple

import jax
import numpy as np

from pid_jax import config as config_lib
from pid_jax import decoding
from pid_jax import network
from pid_jax import platforms
from pid_jax.decoding import prefill as prefill_lib
from pid_jax.experiments import layouts
from pid_jax.experiments import profiling
from pid_jax.experiments import synthetic
from pid_jax.experiments import workloads
from pid_jax.inference import batching
from pid_jax.inference import engine as engine_lib
from pid_jax.inference import options
from pid_jax.inference import slots

# Programs that are timed beside the whole, to tell its phases apart.
PARTS = ('encode', 'encode_and_prefill')


@dataclasses.dataclass(frozen=True)
class Decoder:
  """A network with its parameters.

  Attributes:
    config: of the network.
    params: its parameters, where it computes; in float32 where variants name
      another type.
  """

  config: config_lib.T5Config
  params: Any

  @property
  def module(self) -> network.Transformer:
    return network.Transformer(self.config)

  def generator(
    self,
    variant: workloads.Variant,
    job: workloads.Job,
    batch: synthetic.Batch,
  ) -> Callable[[], np.ndarray]:
    """Returns a function that does a job, compiled when it is first called.

    The function returns int32 [B, U, T]; of joint [B, 1, U * T].
    """
    sizes = job.sizes
    inputs, prompts = _to_layout(variant, batch)
    params = self.params
    if variant.param_dtype != 'float32':
      axes = network.param_axes(self.module)
      params = network.quantize_params(params, axes, variant.param_dtype)
    new_tokens = sizes.of(variant.layout).new_tokens
    if variant.capacity:
      engine = engine_lib.Engine(self.module, params)
      return lambda: _stream(
        engine, new_tokens, variant.capacity, inputs, prompts
      )
    module, options = self.module, _options(variant, job)
    generate = _programs().generate
    size = job.batch_size or len(inputs)
    starts = range(0, len(inputs), size)

    def run():
      batches = [
        generate(
          module, options, params, inputs[i : i + size], prompts[i : i + size]
        )
        for i in starts
      ]
      tokens = np.concatenate(batches)
      return tokens.reshape(sizes.num_inputs, -1, new_tokens)

    return run

  def parts(
    self,
    variant: workloads.Variant,
    job: workloads.Job,
    batch: synthetic.Batch,
  ) -> tuple[Callable[[], Any], ...]:
    """Returns a function for each of `PARTS`."""
    inputs, prompts = _to_layout(variant, batch)
    cache_length = job.sizes.of(variant.layout).cache_length
    module, params, wait = self.module, self.params, jax.block_until_ready
    programs = _programs()
    return (
      lambda: wait(programs.encode(module, params, inputs)),
      lambda: wait(
        programs.encode_and_prefill(
          module, params, inputs, prompts, cache_length
        )
      ),
    )

  def compile(
    self, job: workloads.Job, batch: synthetic.Batch
  ) -> tuple[Any, Callable[[], Any]]:
    """Returns the program of `job.stepwise`, and a function that runs it."""
    inputs, prompts = _to_layout(job.stepwise, batch)
    args = self.params, inputs[: job.batch_size], prompts[: job.batch_size]
    args = jax.device_put(args)
    generate = _programs().generate
    options = _options(job.stepwise, job)
    program = generate.lower(self.module, options, *args).compile()
    return program, lambda: jax.block_until_ready(program(*args))

  def profile(
    self, job: workloads.Job, batch: synthetic.Batch
  ) -> dict[str, dict[str, float]]:
    """Returns the shares of time of `job.stepwise`; see `profiling.profile`."""
    program, run = self.compile(job, batch)
    run()
    return profiling.profile(program, run)


def _generate(module, options, params, inputs, prompts):
  """Decodes a batch; int32 [B, U, T] tokens."""
  generated = decoding.generate(
    module, params, inputs, prompts, **dict(options)
  )
  return generated.tokens


def _encode_and_prefill(module, params, inputs, prompts, cache_length):
  encoded = prefill_lib.encode(module, params, inputs)
  return prefill_lib.prefill(module, params, encoded, prompts, cache_length)


class _Programs(NamedTuple):
  generate: Callable[..., jax.Array]
  encode: Callable[..., Any]
  encode_and_prefill: Callable[..., Any]


@functools.cache
def _programs() -> _Programs:
  """Jitted for JAX's default device."""
  options = dict(platforms.of().compiler_options)
  jit = functools.partial(jax.jit, compiler_options=options or None)
  return _Programs(
    jit(_generate, static_argnums=(0, 1)),
    jit(prefill_lib.encode, static_argnums=0),
    jit(_encode_and_prefill, static_argnums=(0, 4)),
  )


def _options(
  variant: workloads.Variant, job: workloads.Job
) -> tuple[tuple[str, Any], ...]:
  """Names and values of the keyword arguments of `decoding.generate`."""
  new_tokens = job.sizes.of(variant.layout).new_tokens
  options = {
    'max_new_tokens': new_tokens,
    'min_new_tokens': new_tokens if job.lengths == 'exact' else 0,
    'num_compactions': platforms.of().num_compactions,
    **variant.options,
  }
  return tuple(options.items())


def _to_layout(
  variant: workloads.Variant, batch: synthetic.Batch
) -> tuple[np.ndarray, np.ndarray]:
  return layouts.to_layout(variant.layout, batch.inputs, batch.prompts)


def _stream(engine, new_tokens, capacity, inputs, prompts) -> np.ndarray:
  """Decodes inputs [B, S] with prompts [B, U, P] as a stream; [B, U, T]."""
  stream = slots.Slots(
    engine,
    options.DecodingOptions(new_tokens),
    slots.Capacity.rounded_up(
      **capacity, input_length=inputs.shape[1], prompt_length=prompts.shape[2]
    ),
  )
  for i, request in enumerate(zip(inputs, prompts, strict=True)):
    stream.submit(i, i, batching.TokenRequest(*request))
  tokens = np.zeros((*prompts.shape[:2], new_tokens), np.int32)
  while not stream.is_idle:
    stream.begin()
    for finished in stream.finish():
      tokens[finished.key] = finished.output.tokens
  return tokens
