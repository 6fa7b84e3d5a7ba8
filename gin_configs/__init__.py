# Copyright 2026 The pid_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""What to launch: gin files of models, tasks and runs.

A package only so that the commands find its files wherever it is installed:
`--gin_file=runs/quickstart.gin` needs no search path.
"""
