# Copyright 2026 The pid_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""TODSum: a summary of a dialogue for each of its domains.

`todsum_domain` reads a whole dialogue, with one subtask per domain whose target
is the part of the summary on that domain. reader.py documents the data and how
to get it, domains.py the assignment of sentences to domains, consistency.py the
factual metric. An example has a subtask for each domain in the state or the
summary, in the order in which the dialogue first mentions them; if the summary
does not, the target is `none`. ROUGE is computed by domain, and of the whole
summary: all domains, in that order.

`todsum_domain_gold_state` appends the gold state to the dialogue, as an upper
bound that no system can reach. Predicted states by gin:
  from pid_jax.tasks import todsum
  MIXTURE_OR_TASK_NAME = @todsum.register()
  todsum.register:
    name = 'todsum_domain_my_state'
    states = 'states.jsonl'
whose lines are {"id": "PMUL1635.json", "state": {"hotel": {"area": "east"}}}.
"""

from __future__ import annotations

from collections.abc import Iterable
from collections.abc import Iterator
from collections.abc import Mapping
import functools
from typing import Any

from etils import epath

from pid_jax import errors
from pid_jax import strict_json
from pid_jax import subtasks
from pid_jax.subtasks import metrics
from pid_jax.tasks import prepared
from pid_jax.tasks import records
from pid_jax.tasks import vocabulary
from pid_jax.tasks.todsum import consistency
from pid_jax.tasks.todsum import domains
from pid_jax.tasks.todsum import reader

NONE = 'none'
GOLD = 'gold'
_SPEAKERS = ('user', 'system')


States = Mapping[str, Mapping[str, Mapping[str, str]]]


def examples(
  record: prepared.Record, states: str | None = None
) -> Iterator[dict[str, Any]]:
  """Yields the decomposable example of a dialogue.

  Args:
    record: of reader.Todsum.
    states: None, GOLD, or the path of a file; see `register`.
  """
  state = record['state']
  dialogue = ' '.join(
    f'{_SPEAKERS[i % 2]}: {text}' for i, text in enumerate(record['utterances'])
  )
  inputs = dialogue
  if states == GOLD:
    slots = zip(state['domain'], state['slot'], state['value'], strict=True)
    inputs = f'{dialogue} state: {_state_text(slots)}'
  elif states is not None:
    found = _read_states(states).get(record['dialogue_id'])
    if found is None:
      raise errors.UserError(
        f'{states} has no state of the dialogue {record["dialogue_id"]}'
      )
    slots = ((d, s, v) for d in found for s, v in found[d].items())
    inputs = f'{dialogue} state: {_state_text(slots)}'

  sentences = {domain: [] for domain in state['domain']}
  for domain, sentence in zip(
    record['sentence_domains'], record['sentences'], strict=True
  ):
    sentences.setdefault(domain, []).append(sentence)
  names = domains.by_first_mention(sentences, dialogue)
  yield {
    'example_id': record['dialogue_id'],
    'inputs': inputs,
    'subtasks': names,
    'prompts': [f'summary of the {name}:' for name in names],
    'targets': [' '.join(sentences[name]) or NONE for name in names],
    # For the factual metric.
    **{f'state_{k}': state[k] for k in ('domain', 'kind', 'slot', 'value')},
  }


@subtasks.register_once
def register(
  name: str = 'todsum_domain',
  *,
  states: str | None = None,
) -> None:
  """Registers the task `name`, with `name`_pie and `name`_joint.

  Args:
    name: of the task.
    states: to append to the dialogue: None, none; GOLD, the gold state; or the
      path of JSON lines with a predicted state of each dialogue, `id` and
      `state` (domain -> values of its filled slots).
  """
  subtasks.register(
    name,
    source=prepared.PreparedDataSource(
      name, reader.Todsum, functools.partial(examples, states=states)
    ),
    vocabulary=vocabulary.default(),
    metric_fns=[
      functools.partial(
        metrics.rouge, ascii_words=True, empty_target=NONE, by_subtask=True
      ),
      functools.partial(
        metrics.rouge_of_whole, ascii_words=True, empty_target=NONE
      ),
      consistency.slot_consistency,
    ],
    empty_target=NONE,
    joint_separator=vocabulary.SEPARATOR,
    long_inputs='keep_end',
  )


def _state_text(slots: Iterable[tuple[str, str, str]]) -> str:
  return ', '.join(f'{domain} {slot} {value}' for domain, slot, value in slots)


@functools.cache
def _read_states(path: str) -> States:
  states, report = {}, records.ReadReport()
  for number, _, parsed in strict_json.read_lines(path, 'the states'):
    with report.reading(epath.Path(path), f'line {number}'):
      states[parsed['id']] = {
        domain: {slot: str(value) for slot, value in slots.items()}
        for domain, slots in parsed['state'].items()
      }
  return states


register('todsum_domain')
register('todsum_domain_gold_state', states=GOLD)
