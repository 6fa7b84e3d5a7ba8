# Copyright 2026 The pid_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""Runs: what `python -m t5x.train`, `t5x.eval` and `t5x.infer` take."""
