# Copyright 2026 The pid_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""Phrases of the generated booking dialogues.

`{v}` is a value, `{slot}` and `{domain}` are words for them. Each phrase has
exactly one meaning, which the simulator applies to the state.
"""

# Beginnings of a request for a domain, and nouns for it.
OPENINGS = (
    'i am looking for {np}', 'i need {np}', 'can you find me {np}',
    'please find {np}', 'i want to book {np}', 'could you get me {np}',
    'hello, i would like {np}', 'hi, help me find {np}',
)  # fmt: skip
SWITCHES = (
    'i also need {np}', 'next, find me {np}', 'i would also like {np}',
    'can you also get me {np}', 'and now {np} please', 'besides, i want {np}',
)  # fmt: skip
NOUNS = {
  'restaurant': ('restaurant', 'place to eat', 'place for dinner'),
  'hotel': ('room', 'place to stay', 'place to sleep'),
  'train': ('train', 'train ticket', 'seat on a train'),
  'taxi': ('taxi', 'cab', 'ride in a taxi'),
  'attraction': ('attraction', 'place to visit', 'sight to see'),
}

# Alternative words for values.
SYNONYMS = {
  'cheap': ('cheap', 'cheap', 'budget', 'low cost'),
  'moderate': ('moderate', 'moderate', 'mid priced'),
  'expensive': ('expensive', 'expensive', 'high end'),
  'centre': ('centre', 'centre', 'middle'),
  'vegetarian': ('vegetarian', 'meat free'),
  'cinema': ('cinema', 'movie theatre'),
  'guesthouse': ('guesthouse', 'guest house'),
}
# Phrases that add a value to a request, by slot.
FRAGMENTS = {
    'food': ('serving {v} food', 'with {v} food', 'that has {v} dishes'),
    'area': ('in the {v}', 'in the {v} of town', 'around the {v}'),
    'price': ('in the {v} price range', 'that is {v}', 'with {v} prices'),
    'name': ('called {v}', 'named {v}', 'with the name {v}'),
    'day': ('on {v}', 'for {v}', 'this {v}'),
    'time': ('at {v}', 'at {v} sharp', 'with a table at {v}'),
    'people': ('for {v} people', 'for a party of {v}', 'for {v} of us'),
    'stars': ('with {v} stars', 'rated {v} stars', 'that has {v} stars'),
    'nights': ('for {v} nights', 'staying {v} nights', 'over {v} nights'),
    'departure': ('from {v}', 'leaving from {v}', 'starting at {v}'),
    'destination': ('to {v}', 'going to {v}', 'that takes us to {v}'),
    'leave': ('leaving after {v}', 'departing at {v}', 'that leaves at {v}'),
    'arrive': ('arriving by {v}', 'to be there by {v}', 'getting in by {v}'),
    'type': ('that is a {v}', 'which must be a {v}'),
}  # fmt: skip
YES_NO_FRAGMENTS = {
  ('parking', 'yes'): ('with parking', 'with free parking', 'with a car park'),
  ('parking', 'no'): ('without parking', 'where i need no parking'),
  ('internet', 'yes'): ('with wifi', 'with free wifi', 'with internet'),
  ('internet', 'no'): ('without wifi', 'where i need no internet'),
}
# References to a value of another domain, by slot; `{domain}` is its name.
INDIRECT = {
  'day': ('on the same day as the {domain}', 'the day of the {domain}'),
  'people': (
    'for the same people as the {domain}',
    'for as many people as the {domain}',
  ),
  'area': ('in the same area as the {domain}', 'near the {domain}'),
  'price': ('in the same price range as the {domain}',),
  'departure': ('from the {domain}', 'picking us up at the {domain}'),
  'destination': ('to the {domain}', 'that takes us to the {domain}'),
  'arrive': ('in time for the {domain} booking',),
}
DONTCARE = {
  'area': ('in any area', 'in whatever part of town'),
  'price': ('at any price', 'whatever it costs'),
  'food': ('with any kind of food',),
  'day': ('on any day', 'no matter which day'),
  'stars': ('with any number of stars',),
  'leave': ('leaving at any time',),
  'arrive': ('arriving at any time',),
  'type': ('of any type',),
  'time': ('at any time',),
}
FOLLOW_UPS = (
    'it should be {f}', 'i want it {f}', '{f} please', 'make it {f}',
    'i would like one {f}', 'preferably {f}', '{f}',
)  # fmt: skip

SLOT_WORDS = {
    'food': ('food', 'kind of food'), 'area': ('area', 'part of town'),
    'price': ('price', 'price range'), 'name': ('name', 'name of the place'),
    'day': ('day', 'date'), 'time': ('time', 'hour'),
    'people': ('number of people', 'size of the group'),
    'stars': ('star rating', 'number of stars'),
    'nights': ('number of nights', 'length of stay'),
    'departure': ('departure', 'starting point'),
    'destination': ('destination', 'place to go'),
    'leave': ('departure time', 'time to leave'),
    'arrive': ('arrival time', 'time to arrive'),
    'type': ('type', 'type of place'),
    'parking': ('parking', 'car park'), 'internet': ('internet', 'wifi'),
}  # fmt: skip
REQUESTS = (
    'what {slot} would you like?', 'which {slot} do you want?',
    'do you have a {slot} in mind?', 'sure. what about the {slot}?',
    'okay, and the {slot}?',
)  # fmt: skip
YES_NO_REQUESTS = (
    'do you need {slot}?', 'is {slot} required?', 'should it have {slot}?',
)  # fmt: skip
ANSWERS = (
    '{v}', '{v} please', '{v} would be good', 'let us say {v}', 'i prefer {v}',
    '{v}, i think', 'it should be {v}',
)  # fmt: skip
ANSWERS_DONTCARE = (
    'any', 'it does not matter', 'i have no preference', 'anything is fine',
    'i do not care', 'whatever you find',
)  # fmt: skip
ANSWERS_UNSURE = (
    'i do not know yet', 'let us leave that open', 'skip that for now',
    'i will tell you later',
)  # fmt: skip
ANSWERS_YES = ('yes', 'yes please', 'yes, i need it', 'sure')
ANSWERS_NO = ('no', 'no need', 'no, thanks', 'not needed')

PROMPTS_FOR_MORE = (
    'okay. anything else?', 'sure, what else?', 'noted. is there more?',
    'there are {n} options. any other wishes?', 'i found {n} of them.',
    'your reference is {code}. what else?', 'done. can i help with more?',
)  # fmt: skip
ANSWERS_NO_MORE = (
    'what is the phone number?', 'can i have the postcode?', 'thank you',
    'how long does it take?', 'what does it cost?', 'is it far from here?',
)  # fmt: skip

OFFERS = (
  'how about {name}? it is {price} and in the {area}.',
  'i recommend {name}, a {price} place in the {area}.',
  '{name} in the {area} has {price} prices. shall i book it?',
  'there is {name}. it opens at {time}. is that okay?',
)
ACCEPTS = (
    'yes, that sounds good', 'great, i will take it', 'perfect, book it',
    'yes please', 'okay, that works', 'sounds lovely',
)  # fmt: skip
REFUSES = (
    'no, something else please', 'i do not like that one', 'not that one',
    'no, what else is there?', 'hmm, do you have another one?',
)  # fmt: skip
CHOICES = (
    'there are {a} and {b}. which one?', 'you can have {a} or {b}.',
    'i have two: {a} and {b}.',
)  # fmt: skip
FIRST = ('the first one', 'the former', 'i will take the first', '{a} please')
SECOND = (
  'the second one',
  'the latter',
  'i will take the second',
  '{b} please',
)
NEITHER = ('neither of them', 'none of those', 'i like neither')

ALTERNATIVES = (
  'sorry, nothing {old}. would it work {new}?',
  'i have nothing {old}, but something {new}. is that okay?',
  'nothing is free {old}. how about {new}?',
)
KEEPS = (
    'no, keep it as it is', 'no, it must stay as i said',
    'no, please look again',
)  # fmt: skip
COUNTERS = ('no, but {f} would work', 'no, rather {f}', 'then better {f}')

CHANGES = (
    'actually, {f} instead', 'sorry, i meant {f}', 'wait, make that {f}',
    'i changed my mind: {f}',
)  # fmt: skip
CHANGES_ELSEWHERE = (
    'for the {domain}, make it {f} instead', 'please change the {domain}: {f}',
    'about the {domain}: it should be {f} after all',
)  # fmt: skip
WITHDRAWALS = (
    'forget the {slot}', 'drop the {slot}', 'leave the {slot} open for now',
    'ignore what i said about the {slot}',
)  # fmt: skip
LOOSENINGS = (
  'any {slot} is fine after all',
  'the {slot} does not matter any more',
)
OF_DOMAIN = ('{text} of the {domain}', 'about the {domain}: {text}')

# Mentions that are no wishes, which a last-mention rule takes for wishes.
DISTRACTORS = {
  'area': ('my sister lives in the {v}', 'we were in the {v} last year'),
  'food': ('last time we had {v} food', 'my friend loves {v} food'),
  'day': ('i called you on {v} already', 'it rained all {v}'),
  'time': ('i have been up since {v}', 'my meeting ended at {v}'),
  'name': ('people say {v} is awful', 'do not send us to {v} again'),
  'town': ('i grew up in {v}', 'my aunt lives in {v}'),
  'price': ('my last trip was {v}', 'others always go for {v} places'),
  'people': ('i have {v} cousins', 'our group was {v} people last time'),
  'street': ('my office is on {v}', 'we used to live on {v}'),
}
