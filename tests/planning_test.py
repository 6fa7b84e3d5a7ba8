# Copyright 2026 The pid_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""Programs are chosen by cost: against brute force, by hand and over jobs."""

import dataclasses
import itertools

import numpy as np
import pytest

from pid_jax import platforms
from pid_jax.config import T5Config
from pid_jax.inference import batching
from pid_jax.inference import planning

CONFIG = T5Config(
  vocab_size=640,
  emb_dim=128,
  num_heads=4,
  head_dim=32,
  num_encoder_layers=3,
  num_decoder_layers=2,
  mlp_dim=512,
  mlp_activations=('relu',),
)
CPU = dataclasses.replace(
  platforms.of(),
  flops_per_second=1e11,
  seconds_per_part=0.75,
  seconds_per_layer=0.1,
)


class World:
  """Programs that are compiled as soon as a plan needs them."""

  def __init__(self, shapes=None, max_compactions=0, **costs):
    self.started = set()
    self.costs = planning.Costs(CONFIG, CPU, **{'max_new_tokens': 16, **costs})
    self.shapes = shapes or batching.Shapes()
    self.planner = planning.Planner(
      self.shapes,
      self.costs,
      self.started.__contains__,
      max_compactions=max_compactions,
    )

  def run(self, counts, batch_size=16):
    """Plans and compiles; returns the seconds of running and of compiling."""
    plan = self.planner.plan(_needs(counts), batch_size)
    plan = {
      need if need in counts else need.shape: option
      for need, option in plan.items()
    }
    names = {name for o in plan.values() for name in o.programs}
    new = names - self.started
    self.started |= new
    running = sum(
      count
      * -(-_shape(shape)[0] // plan[shape].shape[0])
      * self.costs.run_seconds(plan[shape])
      for shape, count in counts.items()
    )
    return plan, running, sum(map(self.costs.compile_seconds, new))


def _shape(need):
  return need.shape if isinstance(need, planning.Need) else need


def _needs(counts):
  """Shapes stand for prompts that are all as long as the longest."""
  return {
    need
    if isinstance(need, planning.Need)
    else planning.Need.rounded(need, need[2] * need[3]): count
    for need, count in counts.items()
  }


def _lengths(counts, size=16):
  return {(size, s, 4, 8, 0, 0): n for s, n in counts.items()}


def _best(world, counts):
  """Seconds of the best choice of options, by trying all."""
  counts = _needs(counts)
  options = list(world.planner.options(counts, 16))
  seconds = {o: world.costs.run_seconds(o) for o in options}
  best = np.inf
  for size in (1, 2, 3):
    for chosen in itertools.combinations(options, size):
      names = {name for option in chosen for name in option.programs}
      usable = [o for o in options if names.issuperset(o.programs)]
      total = sum(map(world.costs.compile_seconds, names))
      for need, count in counts.items():
        total += count * min(
          (
            seconds[o] * -(-need.shape[0] // o.shape[0])
            for o in usable
            if _is_served(need, o)
          ),
          default=np.inf,
        )
      best = min(best, total)
  return best


def _is_served(need, option):
  """Whether there is a place for each token of a batch."""
  shape, length = option.shape, option.packed_length
  return (
    batching.holds(shape[1:], need.shape[1:])
    and need.shape[1] <= option.input_length <= shape[1]
    and (length is None or need.prompt_tokens + shape[2] <= length)
  )


@pytest.mark.parametrize('prompt', [8, 48])
@pytest.mark.parametrize('scale', [1, 30, 1000])
@pytest.mark.parametrize('seed', range(3))
def test_plans_cost_no_more_than_the_best_of_three_options(scale, seed, prompt):
  rng, tokens = np.random.default_rng(seed), np.random.default_rng(seed)
  counts = {}
  for _ in range(3):
    shape = (
      int(rng.choice([4, 16])),
      int(rng.choice([32, 64, 128, 256])),
      int(rng.choice([2, 8])),
      *(prompt, 0, 0),
    )
    count = int(rng.integers(1, 4)) * scale
    least = int(tokens.integers(prompt, shape[2] * prompt + 1))
    need = planning.Need.rounded(shape, least)
    assert least <= need.prompt_tokens <= shape[2] * prompt
    counts[need] = count
  world = World()
  best = _best(world, counts)
  plan, running, compiling = world.run(counts)
  assert set(plan) == set(counts)
  assert all(_is_served(need, option) for need, option in plan.items())
  assert running + compiling <= best * 1.02


def test_prompts_are_packed_where_that_pays():
  """30 prompts of 10 tokens in the mean and 48 at most."""
  shape = (16, 64, 30, 48, 0, 0)
  short, long = (planning.Need.rounded(shape, n) for n in (300, 700))
  padded = planning.Option(shape, 64)
  world = World()
  # The padded tokens are 30 * 49; 2 of their eighths hold 30 + 300.
  for need, length in ((short, 367), (long, 735)):
    plan, _, _ = World().run({need: 1000})
    assert plan[need] == dataclasses.replace(padded, packed_length=length)
  # A larger one serves: no program for a few more.
  world.run({long: 1000})
  plan, _, compiling = world.run({short: 1})
  assert compiling == 0
  assert plan[short].packed_length == 735
  # One text does not pay for a program that others may not fit into.
  one = planning.Need.rounded((1, *shape[1:]), 300)
  assert World().run({one: 1})[0][one].packed_length is None


@pytest.mark.parametrize('seed', range(5))
def test_no_job_gets_a_program_that_its_prompts_do_not_fit_into(seed):
  """Jobs one after another, whatever was compiled for those before."""
  rng = np.random.default_rng(seed)
  world = World(batching.Shapes(max_shapes=3))
  for _ in range(12):
    counts = {}
    for _ in range(rng.integers(1, 5)):
      prompts, prompt = rng.choice([1, 2, 6, 32]), rng.choice([4, 16, 96])
      size, length = rng.choice([1, 8, 16]), rng.choice([16, 128])
      shape = tuple(map(int, (size, length, prompts, prompt, 0, 0)))
      tokens = int(rng.integers(prompt, prompts * prompt + 1))
      need = planning.Need.rounded(shape, tokens)
      counts[need] = int(rng.choice([1, 100, 5000]))
    plan, _, _ = world.run(counts)
    assert set(plan) == set(counts)
    assert all(_is_served(need, option) for need, option in plan.items())


def test_a_few_texts_take_two_programs_and_many_take_more():
  few, many = _lengths({32: 1, 256: 1}), _lengths({32: 3000, 256: 3000})
  world = World()
  world.run(few)
  assert len(world.started) == 2
  world.run(many)
  assert len(world.started) > 3
  started = set(world.started)
  # All is there: nothing is compiled for fewer.
  assert world.run(few)[2] == 0
  assert world.started == started


def test_one_giant_does_not_make_all_others_slow():
  giant = (1, 16, 100_000, 4, 0, 0)
  counts = {giant: 1, (16, 256, 4, 8, 0, 0): 10}
  plan, running, _ = World().run(counts)
  assert plan[giant].shape[:2] == (1, 16)
  assert plan[16, 256, 4, 8, 0, 0].shape == (16, 256, 4, 8, 0, 0)


def test_a_batch_is_cut_for_a_small_program_and_padded_for_a_large_one():
  world = World()
  one, many = _lengths({128: 1}, size=1), _lengths({128: 1})
  world.run(one)
  plan, _, compiling = world.run(many)
  assert compiling == 0
  assert {option.shape[0] for option in plan.values()} == {1}
  # Hundreds of batches of a second each pay for a program.
  plan, _, compiling = world.run(_lengths({128: 400}))
  assert compiling > 0
  other = World()
  other.run(many)
  plan, _, compiling = other.run(one)
  assert compiling == 0
  assert {option.shape[0] for option in plan.values()} == {16}


@pytest.mark.parametrize('num_jobs', [1, 10, 100, 1000])
def test_jobs_cost_not_much_more_than_with_foresight(num_jobs):
  """One text at a time, when a program for 16 long ones is there."""
  world, job = World(), _lengths({32: 1}, size=1)
  world.run(_lengths({256: 1}))
  started, spent, compiled_at = set(world.started), 0.0, []
  for n in range(num_jobs):
    _, running, compiling = world.run(job)
    spent += running + compiling
    compiled_at += [n] * (compiling > 0)
  assert spent <= 3 * min(
    num_jobs * world.costs.run_seconds(option)
    + sum(
      world.costs.compile_seconds(name)
      for name in set(option.programs) - started
    )
    for option in world.planner.options(_needs(job), 16)
  )
  assert 0 not in compiled_at
  assert len(compiled_at) == {1: 0, 10: 1}.get(num_jobs, len(compiled_at)) <= 3


def test_pinned_shapes_are_all_that_is_used():
  shape = (8, 256, 8, 16, 0, 0)
  world = World(batching.Shapes(1, [shape]))
  plan, _, _ = world.run(_lengths({32: 5000, 256: 5000}))
  assert {(o.shape, o.input_length) for o in plan.values()} == {(shape, 256)}
  # One that it does not hold is added.
  plan, _, _ = world.run(_lengths({512: 1}))
  assert {option.shape[1] for option in plan.values()} == {512}


def test_every_batch_is_a_multiple_of_the_mesh():
  world = World(batching.Shapes(batch_multiple=4))
  world.run({(4, 32, 4, 8, 0, 0): 1, (12, 64, 4, 8, 0, 0): 500})
  assert all(shape[0] % 4 == 0 for shape in world.shapes.known)
  # A known shape that is none serves no batch, and keeps out no other.
  world = World(batching.Shapes(1, [(3, 64, 4, 8, 0, 0)], batch_multiple=2))
  needed = (4, 32, 4, 8, 0, 0)
  assert world.run({needed: 1})[0][needed].shape == needed


def test_kinds_of_requests_are_kept_apart():
  counts = {
    (4, 32, 2, 0, 0, 0): 1,
    (4, 32, 2, 8, 0, 0): 1,
    (4, 32, 2, 8, 2, 4): 1,
  }
  plan, _, _ = World(max_new_tokens=0).run(counts)
  for needed, option in plan.items():
    assert [x == 0 for x in needed] == [x == 0 for x in option.shape]


def test_narrower_loops_are_compiled_where_they_pay():
  counts = _lengths({128: 50})
  assert not any(
    option.num_compactions
    for option in World(max_compactions=2).run(counts)[0].values()
  )
  world = World(max_compactions=2, max_new_tokens=256)
  world.costs.measured.left = 0.4
  plan, _, _ = world.run(_lengths({128: 500}))
  assert {option.num_compactions for option in plan.values()} == {2}
  # Nor where there are too few sequences to halve.
  plan, _, _ = world.run(_lengths({128: 500}, size=1), batch_size=1)
  assert {option.num_compactions for option in plan.values()} == {0}


def test_lengths_of_outputs_say_what_compaction_leaves():
  """By hand: 8 inputs of 8 prompts, one of which is long."""
  lengths = np.full((8, 8), 2)
  lengths[:, 0] = 10
  measured = planning.Measurements()
  measured.add_lengths(lengths, 20)
  # 8 rows for 2 steps, and 2 of each input for 8 more.
  assert measured.left == pytest.approx((8 * 2 + 2 * 8) / (8 * 10))
  assert measured.steps == 0.5


def test_measurements_correct_estimates():
  costs = World().costs
  option = planning.Option((16, 128, 4, 8, 0, 0), 128)
  seconds = costs.run_seconds(option)
  costs.measured.add('run', 3.0, 1.0)
  costs.measured.add('compile', 1.0, 2.0)
  assert costs.run_seconds(option) == pytest.approx(3 * seconds)
  assert costs.run_seconds(option, corrected=False) == seconds
  name = option.programs[1]
  assert costs.compile_seconds(name) == pytest.approx(
    costs.compile_seconds(name, corrected=False) / 2
  )
