# Copyright 2026 The pid_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""The benchmark measures what it says: the same work, in turns, checked.

No test looks at a duration.
"""

import dataclasses
import functools
import importlib.util
import inspect
import json
import math

import jax
import numpy as np
import pytest

from pid_jax import benchmark
from pid_jax import cli
from pid_jax import decoding
from pid_jax import errors
from pid_jax import inference
from pid_jax.config import T5Config
from pid_jax.experiments import baselines
from pid_jax.experiments import benchmark_report as report
from pid_jax.experiments import benchmarking
from pid_jax.experiments import figures
from pid_jax.experiments import layouts
from pid_jax.experiments import profiling
from pid_jax.experiments import synthetic
from pid_jax.experiments import timer
from pid_jax.experiments import variants
from pid_jax.experiments import workloads
from pid_jax.viewer import figures as renderer

# Ids from 500 on are padding, as in real vocabularies.
CONFIG = T5Config(
  vocab_size=512,
  num_tokens=500,
  emb_dim=64,
  num_heads=4,
  head_dim=16,
  num_encoder_layers=1,
  num_decoder_layers=1,
  mlp_dim=96,
  mlp_activations=('gelu', 'linear'),
)
SMALL = dict(input_length=64, num_prompts=3, prompt_length=4, new_tokens=6)
DST = workloads.JOBS['dst'].with_sizes(**SMALL)
NOTES = dataclasses.replace(
  workloads.JOBS['notes'].with_sizes(**{**SMALL, 'input_length': 128}),
  copied_run=2,
)
RAGGED = dataclasses.replace(
  workloads.JOBS['multiwoz'].with_sizes(**{**SMALL, 'prompt_length': 7}),
  prompt_lengths=(1, 7, 2),
)
SKEWED = workloads.JOBS['skewed'].with_sizes(
  **{**SMALL, 'num_inputs': 2, 'num_prompts': 20, 'new_tokens': 12}
)
STREAM = dataclasses.replace(
  workloads.JOBS['stream'].with_sizes(
    **{**SMALL, 'num_inputs': 5, 'new_tokens': 12}
  ),
  batch_size=2,
)


@pytest.fixture(autouse=True)
def _no_pauses(monkeypatch):
  monkeypatch.setattr(timer, 'PAUSE', 0.0)


@functools.cache
def _decoder(weights):
  params = synthetic.make_params(CONFIG, weights)
  return variants.Decoder(CONFIG, jax.device_put(params))


# --- Weights and token ids ---


def test_layouts_decode_what_their_sizes_say():
  inputs = np.arange(10).reshape(2, 5)
  prompts = 100 + np.arange(12).reshape(2, 3, 2)
  sizes = layouts.Sizes(2, 5, 3, 2, 4)
  for layout in layouts.LAYOUTS:
    encoded, read = layouts.to_layout(layout, inputs, prompts)
    own = sizes.of(layout)
    assert encoded.shape == (own.num_inputs, own.input_length)
    wanted = own.num_inputs, own.num_prompts, own.prompt_length
    assert read.shape == wanted
    assert own.rows * own.new_tokens == sizes.rows * sizes.new_tokens
  encoded, _ = layouts.to_layout('pie', inputs, prompts)
  assert encoded[4].tolist() == [108, 109, 5, 6, 7, 8, 9]
  prompts[:, 1, 1] = 0
  encoded, _ = layouts.to_layout('pie', inputs, prompts)
  assert encoded[4].tolist() == [108, 5, 6, 7, 8, 9, 0]


def test_synthetic_models_have_the_shapes_of_any_other():
  shapes = lambda weights: jax.tree.map(np.shape, _decoder(weights).params)
  assert shapes('synthetic') == shapes('random')


def test_lengths_are_skewed_as_said_and_generated():
  batch = synthetic.make_batch(CONFIG, SKEWED)
  assert np.all(np.sum(batch.lengths == 2, axis=1) == 16)  # 80 % of 20 rows.
  assert batch.lengths.max() == 12
  assert set(batch.lengths[batch.lengths != 2]) <= set(range(4, 13))
  decoder = _decoder('synthetic')
  for variant in SKEWED.variants:
    tokens = decoder.generator(variant, SKEWED, batch)()
    np.testing.assert_array_equal(tokens, batch.outputs)
    np.testing.assert_array_equal(np.sum(tokens != 0, axis=-1), batch.lengths)
    last = np.take_along_axis(tokens, batch.lengths[..., None] - 1, axis=-1)
    assert np.all(last == 1)


def test_lengths_are_uneven_as_said_and_generated():
  batch = synthetic.make_batch(CONFIG, STREAM)
  longest = batch.lengths.max(axis=1)
  assert longest.max() == 12 and longest.min() >= 4
  assert len(set(longest)) > 2  # Inputs differ,
  assert np.all(2 * batch.lengths >= longest[:, None])  # and their rows less.
  small = {'batch_size': 2, 'num_slots': 3, 'num_rows': 2}
  for variant in (
    workloads.PID,
    dataclasses.replace(workloads.STREAM, capacity=small),
  ):
    tokens = _decoder('synthetic').generator(variant, STREAM, batch)()
    np.testing.assert_array_equal(tokens, batch.outputs)


def test_the_stream_is_that_of_inference():
  parameters = inspect.signature(inference.PromptInDecoder.stream).parameters
  defaults = {
    name: parameters[name].default for name in workloads.STREAM.capacity
  }
  assert workloads.STREAM.capacity == defaults


def test_half_of_the_notes_stands_in_the_input():
  batch = synthetic.make_batch(CONFIG, NOTES)
  text = batch.inputs[0].tolist()
  for output in batch.outputs[0].tolist():
    for start, is_copied in ((0, True), (2, False), (4, True)):
      run = output[start : start + 2]
      found = any(text[i : i + 2] == run for i in range(len(text)))
      assert found == is_copied
      assert is_copied or not set(run) & set(text)
  for variant in NOTES.variants:
    tokens = _decoder('synthetic').generator(variant, NOTES, batch)()
    np.testing.assert_array_equal(tokens, batch.outputs)


def test_drafts_of_the_copied_half_are_kept():
  job = dataclasses.replace(
    NOTES.with_sizes(input_length=128, new_tokens=60, num_prompts=2),
    copied_run=20,
  )
  batch, decoder = synthetic.make_batch(CONFIG, job), _decoder('synthetic')

  def num_steps(lookup):
    generate = jax.jit(functools.partial(
      decoding.generate, decoder.module,
      max_new_tokens=60, min_new_tokens=60, prompt_lookup=lookup,
    ))  # fmt: skip
    return generate(decoder.params, batch.inputs, batch.prompts).num_steps

  # Two runs of 20 are copied, one is not. One step finds a copied run; three
  # passes read 9, 9 and 1 more of it (a draft of 8 and the token after it; what
  # is left), the last with the first of the 20 others, which take 19 steps.
  assert 2 * (1 + 3) + 19 <= num_steps(decoding.PromptLookup()) < 40


def test_full_size_jobs_fit_the_model():
  config = T5Config(size='t5_1_1_small')
  for job in workloads.JOBS.values():
    batch, sizes = synthetic.make_batch(config, job), job.sizes
    shape = (sizes.num_inputs, sizes.num_prompts, sizes.prompt_length)
    assert batch.prompts.shape == shape
    lengths = job.prompt_lengths or [sizes.prompt_length] * sizes.num_prompts
    assert np.all(np.count_nonzero(batch.prompts, axis=2) == lengths)
    assert batch.inputs.shape == (sizes.num_inputs, sizes.input_length)
    assert batch.inputs.min() > 0
    if job.name == 'notes':
      pairs = zip(batch.outputs, batch.inputs, strict=True)
      found = np.stack([np.isin(output, text) for output, text in pairs])
      assert found.mean() == 0.5
    if job.name == 'skewed':
      assert np.mean(batch.lengths == 2) == 0.8


# --- Baselines ---


@pytest.mark.parametrize(
  'name, job',
  [
    *((name, RAGGED) for name in baselines._NEEDS),
    (workloads.TRANSFORMERS_TILED, NOTES),
    (workloads.CTRANSLATE2_INT8, NOTES),
  ],
  ids=lambda x: getattr(x, 'weights', x),
)
def test_baselines_generate_the_same_tokens(name, job, tmp_path):
  if baselines.missing(name):
    pytest.skip(f'not installed: {", ".join(baselines.missing(name))}')
  weights, num_inputs = job.weights, job.sizes.num_inputs
  batch = synthetic.make_batch(CONFIG, job)
  decoder = _decoder(weights)
  theirs = baselines.Baselines(CONFIG, decoder.params, tmp_path).run(
    name, job, batch
  )()
  assert theirs.shape == (num_inputs, 3, 6)
  layout = workloads.PID if name.endswith('_tiled') else workloads.PIE
  mine = decoder.generator(layout, job, batch)()
  if weights == 'synthetic':
    expected = synthetic.countdown_from_start(CONFIG.num_tokens, 6)
    if layout is workloads.PIE:
      np.testing.assert_array_equal(mine, np.broadcast_to(expected, mine.shape))
  if name != workloads.CTRANSLATE2_INT8 or weights == 'synthetic':
    np.testing.assert_array_equal(theirs, mine)


def test_what_is_missing_is_named(monkeypatch):
  find = lambda name: None if name == 'ctranslate2' else object()
  monkeypatch.setattr(importlib.util, 'find_spec', find)
  assert baselines.missing(workloads.CTRANSLATE2_INT8) == ['ctranslate2']
  assert not baselines.missing(workloads.TRANSFORMERS_PIE)


# --- The report and the command ---


@pytest.fixture(scope='module')
def written(tmp_path_factory):
  """A report of a small job and of a sweep's point, without baselines."""
  folder = tmp_path_factory.mktemp('benchmark')
  report.check_folder(folder)
  variants = (workloads.PID, workloads.PIE, workloads.INT8)
  job = dataclasses.replace(DST, variants=variants)
  point = dataclasses.replace(
    job.with_sizes(num_prompts=1), name='sweep_U_1', variants=(workloads.PID,)
  )
  kept = []
  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(timer, 'PAUSE', 0.0)
    patch.setattr(baselines, 'missing', lambda name: ['ctranslate2'])
    for results in benchmarking.run(
      [job],
      [point],
      CONFIG,
      settings=benchmarking.Settings(1, 0.0),
      sweep_settings=benchmarking.Settings(1, 0.0),
    ):
      report.write(results, None, 'the command', folder)
      kept.append(json.loads((folder / report.FILE).read_text()))
  # A run that is stopped has kept whole reports of what was done.
  assert [len(one['sweeps']) for one in kept] == [0, 1]
  with pytest.raises(errors.UserError, match='exists'):
    report.check_folder(folder)
  return kept[-1]


def test_narrow_weights_are_compared_with_float32(written):
  decoder = _decoder('random')
  batch = synthetic.make_batch(CONFIG, DST)
  exact, int8 = (
    decoder.generator(variant, DST, batch)()
    for variant in (workloads.PID, workloads.INT8)
  )
  rows = written['jobs'][0]['contenders']
  assert rows['pid_int8']['equal_tokens'] == np.mean(exact == int8) > 0.5
  assert rows['pid']['equal_tokens'] is rows['pie']['equal_tokens'] is None


def test_programs_are_analysed(written):
  (job,) = written['jobs']
  assert set(job['contenders']) == {'pid', 'pie', 'pid_int8'}
  flops = {
    layout: phases['encode']['compiler_flops']
    for layout, phases in job['work'].items()
  }
  assert flops['pie'] > 2 * flops['pid'] > 0


def test_operations_are_told_apart_by_where_they_come_from():
  text = """
ENTRY %main (a: f32[2], b: f32[2]) -> f32[2] {
  %dot.1 = f32[2]{0} dot(%a, %b), metadata={op_name="jit(f)/Transformer.encode/encoder/layers_0/attention/query/dot_general"}
  %fusion.2 = f32[2]{0} fusion(%a), calls=%c, metadata={op_type="x" op_name="jit(f)/while/body/Transformer.decode_chunk/layers_1/encoder_decoder_attention/reduce_max" source_line=3}
  %dot.3 = f32[2]{0} dot(%a, %b), metadata={op_name="jit(f)/Transformer.decode_chunk/decoder/layers_0/mlp/wi_0/dot_general"}
  %sort.4 = f32[2]{0} sort(%a), metadata={op_name="jit(f)/while/body/sort"}
  %bitcast.5 = f32[2]{0} bitcast(%fusion.2)
  %dot.6 = f32[2]{0} dot(%bitcast.5, %sort.4), lhs_contracting_dims={0}
  ROOT %copy.7 = f32[2]{0} copy(%a)
}
"""  # noqa: E501
  # dot.6 is where its first operand comes from; copy.7 is nobody's.
  events = [('dot.1', 3.0), ('fusion.2', 4.0), ('dot.3', 1.0), ('sort.4', 1.0),
            ('dot.6', 1.0), ('copy.7', 50.0), ('Await', 9.0)]  # fmt: skip
  assert profiling.shares(text, events) == {
    'encode': {'self-attention': 0.3},
    'prefill': {'mlp': 0.1},
    'steps': {'cross-attention': 0.5, 'other': 0.1},
  }


def test_all_phases_and_parts_are_found_in_a_real_profile(written):
  assert all(row['profile'] is None for row in written['sweeps'])
  profile = written['jobs'][0]['profile']
  decoder = {'self-attention', 'cross-attention', 'mlp', 'logits', 'other'}
  assert set(profile) == {'encode', 'prefill', 'steps'}
  assert set(profile['encode']) == {'self-attention', 'mlp', 'other'}
  assert set(profile['steps']) == decoder >= set(profile['prefill'])
  assert math.isclose(sum(sum(p.values()) for p in profile.values()), 1.0)
  lines = report.table(written).splitlines()
  (line,) = [line for line in lines if '%' in line and ' steps ' in line]
  assert line.startswith('dst           encode ')


def test_table_says_who_wins_and_what_was_missed(written):
  changed = json.loads(json.dumps(written))
  rows = changed['jobs'][0]['contenders']
  for row in rows.values():
    row['steady'] = True
  rows['pie']['ratio'].update(median=0.5)
  rows['joint'] = json.loads(json.dumps(rows['pie']))
  rows['joint'].update(steady=False, equal_tokens=0.25)
  rows['joint']['ratio'].update(median=2.0)
  lines = report.table(changed).splitlines()
  (pie,) = [line for line in lines if line.startswith('dst           pie ')]
  (joint,) = [line for line in lines if line.startswith('dst           joint')]
  assert 'FASTER than pid' in pie and 'UNSURE' not in pie
  assert '25.0 % of tokens equal; UNSURE' in joint and 'FASTER' not in joint
  assert lines[-1] == f'install them with: {renderer.INSTALL}'
  assert 'ctranslate2_int8_pie: not run, needs ctranslate2' in lines


def test_plots_are_drawn(written, tmp_path):
  if not renderer.is_installed():
    pytest.skip('not installed: matplotlib')
  (point,) = written['sweeps']
  another = {
    **point,
    'name': 'sweep_U_2',
    'sizes': {**point['sizes'], 'num_prompts': 2},
  }
  drawn = figures.of_benchmark({**written, 'sweeps': [point, another]})
  names = figures.write(drawn, tmp_path)
  assert names == [
    'latency.svg', 'latency.png', 'speed_up_over_U.svg', 'speed_up_over_U.png',
  ]  # fmt: skip
  assert all((tmp_path / name).stat().st_size > 1000 for name in names)


@pytest.mark.parametrize(
  'flags, message',
  [
    (['--job=dts'], "unknown job 'dts'; did you mean dst?"),
    (['--sweep=U,X'], "unknown sweep 'X'"),
    (['--size=t5_1_1_smal'], "unknown model size 't5_1_1_smal'"),
  ],
)
def test_mistakes_are_told_at_once(flags, message, tmp_path, capsys):
  with pytest.raises(SystemExit) as e:
    cli.run(
      benchmark.main, benchmark.__doc__, benchmark.add_flags,
      argv=[*flags, f'--output={tmp_path / "new"}'],
    )  # fmt: skip
  assert e.value.code == 2
  assert message in capsys.readouterr().err
  assert not (tmp_path / 'new').exists()


def test_the_floor_is_that_of_work_without_drafts():
  assert workloads.JOBS['notes'].variants[0] is workloads.LOOKUP
  assert {job.stepwise.name for job in workloads.JOBS.values()} == {'pid'}


def test_sweeps_run_alone_or_beside_jobs():
  chosen, points = workloads.choose([], 'u,T')
  assert not chosen
  assert [p.sizes.num_prompts for p in points[:6]] == [1, 2, 4, 8, 16, 32]
  assert {p.sizes.new_tokens for p in points[6:]} == {2, 8, 32}
  chosen, points = workloads.choose([], '')
  assert [j.name for j in chosen] == list(workloads.JOBS) and not points
  assert [j.name for j in workloads.choose(['qa'], 'B')[0]] == ['qa']


# --- TPUs ---


@pytest.mark.slow
@pytest.mark.tpu_aot
def test_tpu_programs_hold_no_copy_per_prompt():
  result = benchmarking.analyse_tpu()
  pid, pie = result['layouts']['pid'], result['layouts']['pie']
  assert max(phase['largest'] for phase in pid.values()) < result['tiled']
  assert max(phase['largest'] for phase in pie.values()) >= result['tiled']
  assert pie['encode']['compiler_flops'] > 25 * pid['encode']['compiler_flops']
  assert pie['encode']['cycles'] > 10 * pid['encode']['cycles']
