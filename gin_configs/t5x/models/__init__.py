# Copyright 2026 The pid_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""Models for T5X: those of ../../models, in T5X's model protocol."""
