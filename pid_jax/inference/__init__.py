# Copyright 2026 The pid_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""Trained models for users: strings in, strings out; files in, files out.

    model            PromptInDecoder, the user's API
    arguments        texts as users give them, read into lists and checked
    text             a user's Request as ids, the outputs as a Response
    options          DecodingOptions, the same for every way to an answer
    batching         requests of ids, and batches of few shapes
    memory           whether a batch fits, by arithmetic
    engine           ids in, results out: programs, batches, meshes
    slots            requests that begin while others are decoded
    stream           a stream of requests over slots
    predict_file     files, over partial_results
    evaluate_file    metrics of a file; results, where they go

Every call takes texts (`text`) through `engine` to texts again; the evaluations
of `trainer` enter at the engine, with ids.
"""

from pid_jax.inference.batching import Shapes
from pid_jax.inference.evaluate_file import evaluate_file
from pid_jax.inference.model import PromptInDecoder
from pid_jax.inference.options import DecodingOptions
from pid_jax.inference.predict_file import answer_file
from pid_jax.inference.text import Request
from pid_jax.inference.text import Response
