# Copyright 2026 The pid_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""A trained model as a function from strings to strings.

    model = pid_jax.PromptInDecoder.from_pretrained('/tmp/model')
    model.generate(
      inputs=['i need a cheap hotel for two nights', 'a taxi to the museum'],
      prompts=[['hotel price', 'hotel stay'], ['taxi destination']],
      max_new_tokens=16,
    )
    # [['cheap', '2'], ['the museum']]

Inputs and prompts may differ in number and length from call to call: they are
grouped and padded to few shapes (`batching`), each of which is compiled
once (`num_programs` counts them). Needs neither TensorFlow nor SeqIO.
"""

from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Iterator
from collections.abc import Sequence

import jax
import numpy as np

from pid_jax import decoding
from pid_jax import errors
from pid_jax.decoding import loop
from pid_jax.inference import batching
from pid_jax.inference import choices as choices_lib
from pid_jax.inference import engine as engine_lib
from pid_jax.inference import options
from pid_jax.inference import partial_results as parts_lib
from pid_jax.inference import pipeline
from pid_jax.inference import runner
from pid_jax.inference import stream as stream_lib
from pid_jax.inference import text as texts_lib

Texts = list[list[str]]
Scores = list[list[float]]


class PromptInDecoder(runner.Runner):
  """Answers many prompts about each input, which is encoded once.

  Attributes:
    config: shape of the network.
    vocabulary: of inputs, prompts and outputs.
    task: what the model was trained on: 'name', 'layout', 'feature_lengths'.
    layout: 'pid', or 'pie' for a model trained with its prompts in the encoder
      (it answers just the same, but encodes the input once per prompt).
    max_input_tokens: where inputs are cut, EOS included, or None: nowhere. By
      default the length that the model was trained with; positions are
      relative, so a longer one works too.
    long_inputs: what becomes of a longer input: 'keep_start', 'keep_end' (of a
      dialogue: the latest turns) or 'error'. By default as in training. A
      warning tells of inputs that were cut; prompts never are.
    newline: the sentinel that newlines are written as, in texts and outputs, or
      None: they are left to the vocabulary. As in training.
    shapes: of batches, each of which is compiled once; how many are allowed
      (`shapes.max_shapes`), and which there are so far (`shapes.known`).
  """

  def generate(
    self,
    inputs: Sequence[str],
    prompts: Sequence[Sequence[str]],
    max_new_tokens: int = 32,
    *,
    choices: Sequence[Sequence[Sequence[str] | None]] | None = None,
    min_new_tokens: int = 0,
    return_scores: bool = False,
    normalize_scores: bool = False,
    sampler: decoding.Sampler | None = None,
    seed: int = 0,
    lookup: decoding.PromptLookup | None = None,
    beam_size: int | None = None,
    length_penalty: float = 0.6,
    batch_size: int = 16,
    progress: Callable[[int], None] | None = None,
    parts: parts_lib.Parts | None = None,
  ) -> Texts | tuple[Texts, Scores]:
    """Answers the prompts of each input.

    Args:
      inputs: N strings.
      prompts: for each input its prompts, at least one, none of them empty.
      max_new_tokens: where an output is cut, EOS included.
      choices: for each prompt None, or the strings of which its output is one,
        thousands if need be. Each token is chosen among those that continue one
        of them; it may so miss the likeliest string, which `choose` does not.
      min_new_tokens: tokens before which no output without choices may end.
      return_scores: whether to return log-probabilities, too.
      normalize_scores: whether those of prompts with choices are taken among
        the tokens that these leave, step by step: so `decoding.Sample()` draws
        the strings. `choose` divides the probabilities of whole strings.
      sampler: chooses the tokens; None: decoding.Greedy().
      seed: of samplers that draw. The outputs of an input depend on the seed
        and on the input's place in `inputs`, not on how inputs are batched.
      lookup: draft tokens from the input and the prompt, for outputs that copy
        from them: decoding.PromptLookup(). The outputs are the same, sooner.
      beam_size: search for the output of the highest score with so many beams;
        None: no search, the sampler chooses token by token.
      length_penalty: of that search, see decoding.beam_search: 0 scores outputs
        by their probability alone, more favours longer ones.
      batch_size: encoded inputs that are decoded together, at most.
      progress: called now and then with the number of prompts answered so far.
      parts: a folder of results, to go on with a job that was stopped, and for
        processes to share it; None: this process does all, now.

    Returns:
      For each input the list of its outputs, in order. With `return_scores` a
      pair of that and, in the same form, the natural logarithms of the
      probabilities that the model gives these outputs (-0.1 is near certain).

    Raises:
      UserError: inputs and prompts do not match, a prompt is empty, a text
        holds `newline`, an input is too long and `long_inputs` is 'error',
        beams are asked for together with a sampler or lookup, or a prompt has
        no choices, one twice, too long, or not to be written.
    """
    options.check(max_new_tokens, sampler, lookup, beam_size)
    texts_lib.check(inputs, prompts)
    tries, roots = choices_lib.build(
      prompts,
      choices,
      encode=self.write,
      decode=self.read,
      max_new_tokens=max_new_tokens,
    )

    def run(batch: batching.Batch) -> tuple[jax.Array, ...]:
      generated = self.run(
        batch,
        max_new_tokens,
        min_new_tokens=min_new_tokens,
        sampler=sampler or decoding.GREEDY,
        seed=seed,
        lookup=lookup,
        beam_size=beam_size,
        length_penalty=length_penalty,
        tries=tries,
      )
      if normalize_scores:
        return generated.tokens, generated.normalized_log_probs
      return generated.tokens, generated.log_probs

    batches = self.lay_out(inputs, prompts, roots=roots, batch_size=batch_size)
    rows = pipeline.run_ahead(run, batches, progress, parts)
    texts = [self.read(tokens) for tokens, _ in rows]
    if not return_scores:
      return texts_lib.split(texts, prompts)
    scores = [float(score) for _, score in rows]
    return texts_lib.split(texts, prompts), texts_lib.split(scores, prompts)

  def stream(
    self,
    requests: Iterable[stream_lib.Request | None],
    max_new_tokens: int = 32,
    *,
    min_new_tokens: int = 0,
    normalize_scores: bool = False,
    sampler: decoding.Sampler | None = None,
    seed: int = 0,
    lookup: decoding.PromptLookup | None = None,
    in_order: bool = True,
    batch_size: int = 8,
    num_places: int = 16,
    num_rows: int = 8,
    max_input_tokens: int | None = None,
    max_prompt_tokens: int = 64,
    warm_up: bool = False,
  ) -> Iterator[stream_lib.Response]:
    """Answers requests one by one, decoding others meanwhile.

    New requests begin as soon as others have ended, not when a whole batch has.
    The outputs are those of `generate`. A request that cannot be answered (an
    empty input or prompt, no prompts, a prompt that is too long, choices that
    cannot be) gets a response that says why, and the others go on.

    Args:
      requests: read as they are needed, a few batches ahead, so they may come
        from anywhere and never end. None among them means that no other is
        there yet: those that are do not wait for it.
      max_new_tokens: as in `generate`, like what follows.
      min_new_tokens: tokens before which no output without choices may end.
      normalize_scores: whether scores are taken among what choices leave.
      sampler: chooses the tokens; None: decoding.Greedy().
      seed: of samplers that draw; a request's number in the stream counts, too.
      lookup: draft tokens from the input and the prompt.
      in_order: whether responses come in the order of their requests, or each
        as soon as it is there.
      batch_size: requests that begin together, at most.
      num_places: requests that are decoded together, at least `batch_size`.
        Memory for the keys and values of so many inputs of the full length is
        taken at once.
      num_rows: prompts of a request that are decoded together with those of
        others; while more of its outputs have not ended, its batch goes first.
      max_input_tokens: where inputs are cut, EOS included; None: as the model's
        attribute of that name says.
      max_prompt_tokens: the longest prompt that there can be.
      warm_up: compile the programs for all `shapes.known` first, so that no
        request waits for that; those for choices when the first ones come.

    Returns:
      An iterator over the responses, one for each request.

    Raises:
      UserError: numbers that cannot be, or max_input_tokens is None and the
        model has none.
    """
    max_input_tokens = max_input_tokens or self.max_input_tokens
    if max_input_tokens is None:
      raise errors.UserError(
        'The model does not say how long inputs may be: give max_input_tokens.'
      )
    options.check(max_new_tokens, sampler, lookup, None)
    is_pid = self.layout == 'pid'
    engine = self.open_stream(
      loop.Settings(
        self._module, max_new_tokens, sampler or decoding.GREEDY, lookup
      ),
      engine_lib.PoolSize.rounded_up(
        batch_size=batch_size,
        num_places=num_places,
        num_rows=num_rows if is_pid else 1,
        input_length=max_input_tokens,
        prompt_length=max_prompt_tokens if is_pid else 0,
      ),
      min_new_tokens=min_new_tokens,
      seed=seed,
    )
    if warm_up:
      engine.warm_up()
    answers = stream_lib.Answers(
      requests,
      engine,
      stream_lib.Layout(
        self, max_new_tokens, max_input_tokens, max_prompt_tokens
      ),
      in_order=in_order,
      normalize_scores=normalize_scores,
    )
    return iter(answers)

  def score(
    self,
    inputs: Sequence[str],
    prompts: Sequence[Sequence[str]],
    targets: Sequence[Sequence[str]],
    *,
    batch_size: int = 16,
    progress: Callable[[int], None] | None = None,
  ) -> Scores:
    """Returns the log-probabilities of given outputs.

    Args:
      inputs: N strings.
      prompts: as in `generate`.
      targets: for each prompt one output; it is scored with its EOS.
      batch_size: encoded inputs that are scored together, at most.
      progress: called now and then with the number of prompts done so far.

    Returns:
      For each input the natural logarithms of the probabilities of its targets.

    Raises:
      UserError: as in `generate`, or targets and prompts do not match.
    """
    texts_lib.check(inputs, prompts, targets)
    alone = [[[text] for text in own] for own in targets]
    rows = self._score_choices(inputs, prompts, alone, batch_size, progress)
    return texts_lib.split([float(row[0]) for row in rows], prompts)

  def choose(
    self,
    inputs: Sequence[str],
    prompts: Sequence[Sequence[str]],
    choices: Sequence[Sequence[Sequence[str]]],
    *,
    batch_size: int = 16,
    progress: Callable[[int], None] | None = None,
  ) -> tuple[Texts, list[list[list[float]]]]:
    """Answers each prompt with the likeliest of given strings.

    All choices of a prompt are scored in one pass, so the answer is the
    likeliest one for certain, however it begins.

    Args:
      inputs: N strings.
      prompts: as in `generate`.
      choices: for each prompt the strings to choose from, at least one, all
        different. Prompts may differ in their number.
      batch_size: encoded inputs that are scored together, at most.
      progress: called now and then with the number of prompts done so far.

    Returns:
      For each input the list of its answers; and in the same form, for each
      prompt the probabilities of its choices, in their order: those that the
      model gives them (EOS included), divided by their sum.

    Raises:
      UserError: as in `generate`, or a prompt has no choices, or one twice.
    """
    rows = self._score_choices(inputs, prompts, choices, batch_size, progress)
    answers, probabilities = choices_lib.compare(choices, rows)
    return (
      texts_lib.split(answers, prompts),
      texts_lib.split(probabilities, prompts),
    )

  def _score_choices(
    self,
    inputs: Sequence[str],
    prompts: Sequence[Sequence[str]],
    choices: Sequence[Sequence[Sequence[str]]],
    batch_size: int,
    progress: Callable[[int], None] | None,
  ) -> list[np.ndarray]:
    """Returns, for every prompt in order, the log-probabilities [K]."""

    def run(batch: batching.Batch) -> tuple[jax.Array, ...]:
      self._programs.add(('score', batch.shape))
      with self._scope():
        scored = self._score(
          self._module,
          self._params,
          batch.encoder_input_tokens,
          batch.prompt_tokens,
          batch.target_tokens,
          row_mask=batch.row_mask,
        )
      return (scored.log_probs,)

    batches = self.lay_out(inputs, prompts, choices, batch_size=batch_size)
    rows = pipeline.run_ahead(run, batches, progress)
    flat = [own for lists in choices for own in lists]
    return [row[: len(own)] for own, (row,) in zip(flat, rows, strict=True)]
