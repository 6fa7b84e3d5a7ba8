# Copyright 2026 The pid_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""Programs compiled for TPUs that one does not have, and what they tell."""
