# Copyright 2026 The pid_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""Tasks: what runs/finetune.gin trains on, one file a task."""
