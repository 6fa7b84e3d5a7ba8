# Copyright 2026 The pid_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""The generated dialogues: deterministic, held out, and worth learning."""

import hashlib
import re

import pytest
import sentencepiece
import seqio

from pid_jax.subtasks import slot_strings
from pid_jax.tasks import bookings
from pid_jax.tasks.bookings import ontology
from pid_jax.tasks.bookings import rule
from pid_jax.tasks.bookings import simulator
from pid_jax.tasks.bookings import train_vocabulary


def _turns(level, split, number):
  return [
    turn
    for index in range(number)
    for turn in simulator.simulate(level, split, 0, index)
  ]


def test_ontology_is_large_enough():
  assert len(ontology.DOMAINS) >= 5
  assert len(ontology.SLOTS) == len(set(ontology.PROMPTS)) == 30


def test_generation_is_the_same_on_every_machine():
  text = '\n'.join(
    f'{turn.history} {sorted(turn.state.items())}'
    for level in simulator.LEVELS
    for turn in _turns(level, 'train', 50)
  )
  digest = hashlib.sha256(text.encode()).hexdigest()[:16]
  assert digest == 'b5798ec8478986f6', 'Results were measured on other data.'


@pytest.mark.parametrize('level', simulator.LEVELS)
def test_last_mention_rule_stays_below_one_half(level, record_property):
  turns = _turns(level, 'test', 250)
  right = sum(rule.predict(turn.history) == turn.state for turn in turns)
  accuracy = right / len(turns)
  record_property('joint_goal_accuracy', accuracy)
  # A rule that gets nothing right would be no measure either.
  assert 0.25 < accuracy < 0.5


def test_rule_solves_what_a_last_mention_can_solve():
  history = (
    'user: i am looking for a cheap restaurant in the north. '
    'system: what day would you like? user: monday please. '
    'system: sure, what else? user: i also need a train from ely to '
    'norwich leaving after 09:15 for four people.'
  )
  assert rule.predict(history) == {
    ('restaurant', 'price'): 'cheap',
    ('restaurant', 'area'): 'north',
    ('restaurant', 'day'): 'monday',
    ('train', 'departure'): 'ely',
    ('train', 'destination'): 'norwich',
    ('train', 'leave'): '09:15',
    ('train', 'people'): '4',
  }


def test_open_values_of_splits_are_disjoint():
  pools = {split: ontology.Pools.of(split) for split in ontology.SPLITS}
  for field in ('names', 'streets', 'times'):
    values = [set(getattr(pools[split], field)) for split in ontology.SPLITS]
    assert all(values)
    assert sum(map(len, values)) == len(set.union(*values))


def test_test_dialogues_hold_values_never_seen_in_training():
  words = lambda text: ' '.join(['', *re.findall(r'\w+', text), ''])
  turns = _turns('bookings', 'train', 400)
  seen = words(' '.join(turn.history for turn in turns))
  unseen = total = 0
  for turn in _turns('bookings', 'test', 100):
    for (domain, slot), value in turn.state.items():
      kind = ontology.DOMAINS[domain][slot]
      if kind in ('name', 'street', 'time') and value != ontology.DONTCARE:
        total += 1
        unseen += words(value) not in seen
  assert total > 500
  assert unseen == total


@pytest.mark.parametrize(
  'level, most_domains, most_words',
  [('bookings_short', 2, 70), ('bookings', 4, 150)],
)
def test_levels_are_as_documented(level, most_domains, most_words):
  turns = _turns(level, 'train', 400)
  assert max(len(turn.history.split()) for turn in turns) <= most_words
  domains = [len({domain for domain, _ in turn.state}) for turn in turns]
  assert max(domains) == most_domains
  happened = {name for turn in turns for name in turn.phenomena}
  assert happened == {
    'accepted', 'refused', 'changed', 'withdrawn', 'dontcare', 'indirect',
    'distractor',
  }  # fmt: skip


def test_state_follows_the_dialogue():
  """Values of the state are in the text, or are implied by it."""
  words = {v: k for k, v in ontology.NUMBER_WORDS.items()}
  for turn in _turns('bookings', 'validation', 100):
    for (domain, slot), value in turn.state.items():
      kind = ontology.DOMAINS[domain][slot]
      if kind in ('name', 'street', 'town', 'time', 'day', 'sight'):
        said = 'movie theatre' if value == 'cinema' else value
        either = rf'\b({value}|{said}|any|matter|care|preference|whatever)\b'
        assert re.search(either, turn.history), (domain, slot, turn)
      else:
        assert value in (
          *ontology.CLOSED[kind],
          *words.values(),
          ontology.DONTCARE,
        )


@pytest.mark.skipif(
  sentencepiece.__version__ < '0.2.3', reason='its trainer aborts on this text'
)
def test_vocabulary_is_what_the_script_makes_and_spells_everything():
  shipped = sentencepiece.SentencePieceProcessor(
    model_file=bookings.VOCABULARY_FILE
  )
  made = sentencepiece.SentencePieceProcessor(
    model_proto=train_vocabulary.train()
  )
  pieces = lambda model: [
    model.id_to_piece(i) for i in range(model.get_piece_size())
  ]
  assert pieces(shipped) == pieces(made)
  assert (shipped.pad_id(), shipped.eos_id(), shipped.unk_id()) == (0, 1, 2)
  for level in simulator.LEVELS:
    for turn in _turns(level, 'test', 100):
      ids = shipped.encode(turn.history)
      assert shipped.unk_id() not in ids
      assert shipped.decode(ids) == turn.history


def test_task_serves_the_turns_of_the_simulator():
  task = seqio.get_mixture_or_task('bookings_short')
  first = next(
    task.source.get_dataset('validation', shuffle=False).as_numpy_iterator()
  )
  turn = simulator.simulate('bookings_short', 'validation', bookings.SEED, 0)[0]
  assert first['inputs'].decode() == turn.history
  targets = dict(zip(ontology.SLOTS, first['targets'], strict=True))
  filled = {k: v.decode() for k, v in targets.items() if v != b'none'}
  assert filled == turn.state


def test_domains_are_the_same_states_as_slots():
  slots = list(bookings.examples('bookings', 'test', 3))
  domains = list(bookings.domain_examples('bookings', 'test', 3))
  assert len(slots) == len(domains) > 6
  for of_slots, of_domains in zip(slots, domains, strict=True):
    for same in ('example_id', 'inputs'):
      assert of_slots[same] == of_domains[same]
    assert of_domains['prompts'] == list(ontology.DOMAINS)
    state = {
      f'{domain}-{slot}': value
      for domain, text in zip(
        of_domains['subtasks'], of_domains['targets'], strict=True
      )
      for slot, value in slot_strings.parse_slots(text)[0].items()
    }
    filled = zip(of_slots['subtasks'], of_slots['targets'], strict=True)
    assert state == {name: value for name, value in filled if value != 'none'}
  # Either's metrics count one wrong slot of one turn.
  count, wrong = len(domains), domains[-1]['targets'].copy()
  wrong[0] = slot_strings.format_slots(
    {**slot_strings.parse_slots(wrong[0])[0], 'area': 'nowhere'}
  )
  predictions = [e['targets'] for e in domains[:-1]] + [wrong]
  task = seqio.TaskRegistry.get('bookings_domain')
  (metric_fn,) = task.metric_fns
  figures = metric_fn(domains, predictions)
  assert figures['joint_goal_accuracy'] == pytest.approx(1 - 1 / count)
  assert figures['slot_accuracy'] == pytest.approx(1 - 1 / (30 * count))
