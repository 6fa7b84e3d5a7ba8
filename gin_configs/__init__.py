# Copyright 2026 The pid_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""What to launch: gin files of models, tasks and runs.

Packages only so that gin finds the files wherever they are installed. The
commands know them by short names (`--gin_file=runs/quickstart.gin`); a gin file
includes them by whole ones ('pid_jax/gin_configs/runs/train_base.gin').
"""
