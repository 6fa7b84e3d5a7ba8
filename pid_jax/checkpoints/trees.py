# Copyright 2026 The pid_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""Trees of arrays as items of orbax's checkpoints, with checksums.

Saves as orbax's own handler does, so that orbax reads it too, and adds the
checksums before the item appears under its name: in the background, and of many
processes in the first. Restores through `tensorstore_io`, which compares them.
"""

import dataclasses
from typing import Any

from etils import epath
import jax
import orbax.checkpoint as ocp

from pid_jax.checkpoints import tensors as tensors_lib
from pid_jax.checkpoints import tensorstore_io

PyTree = Any


class TreeHandler(ocp.StandardCheckpointHandler):
  """Saves and restores one tree."""

  def finalize(self, directory: epath.Path) -> None:
    super().finalize(directory)
    tensorstore_io.write_checksums(directory)

  def restore(self, directory: epath.Path, args: 'TreeRestore') -> PyTree:
    """Returns the tree, read into the shards that `args.item` wants.

    Raises:
      UserError: the item is damaged. Shapes are not compared, see
        `native.check_saved`.
    """
    wanted = tensors_lib.flatten(args.item)
    arrays = tensors_lib.read_to_devices(
      tensorstore_io.open_tree(directory), wanted
    )
    treedef = jax.tree.structure(args.item)
    return treedef.unflatten([arrays[name] for name in wanted])


@ocp.args.register_with_handler(TreeHandler, for_save=True)
@dataclasses.dataclass
class TreeSave(ocp.args.StandardSave):
  """A tree of arrays to save."""


@ocp.args.register_with_handler(TreeHandler, for_restore=True)
@dataclasses.dataclass
class TreeRestore(ocp.args.CheckpointArgs):
  """The tree to restore, of ShapeDtypeStructs with formats."""

  item: PyTree
