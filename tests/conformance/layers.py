"""The layer matrix: every layer in the settings that implementations get wrong, one small model each."""
import layers_nets
import layers_ops
import layers_sequences
import layers_spatial
import layers_values
from layers_matrix import NAMES

for part in (layers_spatial, layers_values, layers_sequences, layers_nets, layers_ops):
    for group in part.GROUPS:
        group()


def cases():
    return NAMES.values()
