# Copyright 2026 The pid_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""SeqIO tasks: one module per family of data sets.

Importing a module registers its tasks; gin files and commands name the module
that they need. The library itself never imports any of them.
"""
