# Copyright 2026 The pid_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""A comparison made up of round figures, for tests of its report."""

from toys import training as toy

from pid_jax.experiments import summary as summary_lib

SHAPE = {
  'rows': 2, 'encoder_length': 10, 'decoder_length': 6, 'pairs': 12,
  'encoder_tokens': 48, 'decoder_tokens': 24, 'inputs': 9,
}  # fmt: skip
COSTS_ALONE = {'runs': {}, 'update_seconds': {}, 'untrained': 'no gold'}
GRANULARITY = {
  'inputs': 10, 'prompts': 1, 'targets': 6, 'subtasks': 1, 'decoder': 8
}  # fmt: skip


def job(name: str, seconds: dict[str, float], **sizes) -> dict:
  sizes = {
    'num_inputs': 1, 'input_length': 8, 'num_prompts': 3, 'prompt_length': 2,
    'new_tokens': 4, **sizes,
  }  # fmt: skip
  spread = lambda x: dict.fromkeys(('quartile_1', 'median', 'quartile_3'), x)
  seconds = {'pid': 2.0, **seconds}
  return {
    'name': name,
    'sizes': sizes,
    'reference': 'pid',
    'contenders': {
      arm: {
        'seconds': spread(x),
        'ratio': spread(x / 2),
        'steady': True,
        'sizes': {**sizes, 'num_prompts': 1} if arm == 'coarse' else sizes,
        'phases': {
          'measured': {
            'encode': x / 8, 'prefill': x / 4, 'steps': 5 * x / 8
          },
          'floor': {'encode': x / 16, 'prefill': x / 8, 'steps': 0.0},
        },
      }
      for arm, x in seconds.items()
    },
    'machine': {
      'processor': 'Zx 1', 'cores': 2, 'device': 'cpu',
      'probe': {'flop_rate': 2e11, 'bandwidth': 2.5e10},
    },
  }  # fmt: skip


def place(**more) -> dict:
  """What compilers say of a machine: the formulas' FLOPs and twice the bytes.

  At 16 FLOPs for each byte, `encode` is bound by arithmetic.
  """
  row = lambda intensity: {
    'formula_flops': 1e9, 'formula_bytes': 1e9 / intensity,
    'compiler_flops': 1e9, 'compiler_bytes': 2e9 / intensity,
  }  # fmt: skip
  phases = {'encode': row(16.0), 'prefill': row(4.0), 'step': row(0.5)}
  return {
    'device': 'Some chip', 'dtype': 'float32',
    'layouts': {'pid': phases, 'pie': phases}, **more,
  }  # fmt: skip


def results(**overrides) -> dict:
  """Two runs of each of two layouts, evaluated after updates 3 and 6."""
  found = {
    'task': 'toy',
    'metric': 'f1',
    'untrained': None,
    'runs': {
      f'{arm}-{seed}': {
        'arm': arm,
        'curves': {'f1': [[3, value], [6, value + seed / 10]]},
      }
      for arm, value in (('pid', 0.5), ('pie', 0.6), ('coarse', 0.2))
      for seed in (0, 1)
    },
    'updates': dict.fromkeys(('pid', 'pie', 'coarse'), 3),
    'settings': {
      'equal': 'updates',
      'layouts': ['pid', 'pie'],
      'granularities': {'coarse': GRANULARITY},
    },
    'model': toy.t5_config().to_dict(),
    'shapes': {
      'pid-0-3': SHAPE,
      'pie-0-3': {**SHAPE, 'rows': 4},
      'coarse-0-3': SHAPE,
    },
    'update_seconds': {
      'pid': {'median': 0.5},
      'pie': {'median': 1.25},
      'coarse': {'median': 0.25},
    },
    'inference': {
      one['name']: one
      for one in (
        job('task', {'pie': 9.0, 'coarse': 1.0}),
        job('U=1', {'pie': 1.0}, num_prompts=1),
        job('U=2', {'pie': 4.0}, num_prompts=2),
      )
    },
    'roofline': {
      'here': place(),
      'tpu': place(flop_rate=1e14, bandwidth=1e12),
    },
  }
  return {**found, **overrides}


def report(**overrides) -> dict:
  found = results(**overrides)
  more = {
    'command': 'compare <this>',
    'date': 'today',
    'versions': {'jax': '1'},
  }
  return {**found, **more, 'summary': summary_lib.summarize(found)}
