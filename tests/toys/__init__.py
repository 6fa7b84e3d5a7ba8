# Copyright 2026 The pid_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""What tests are made of: small models, vocabularies, tasks and references."""
