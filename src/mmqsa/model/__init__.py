"""Masked multi-query slot attention: encoder, slot attention, decoder, matching, each usable alone.

Works on tensors and knows no files. ``MaskedSlotModel`` puts the parts together.
"""

from mmqsa.model.decoder import SpatialBroadcastDecoder
from mmqsa.model.encoder import PatchEncoder
from mmqsa.model.learned_similarity import LearnedSimilarity
from mmqsa.model.masked_slot_model import Draws, HeadOutputs, MaskedSlotModel, ModelOutput
from mmqsa.model.masking import visible_patches
from mmqsa.model.matching import align, match, merge, reorder
from mmqsa.model.slot_attention import SlotAttention

__all__ = [
    "Draws",
    "HeadOutputs",
    "LearnedSimilarity",
    "MaskedSlotModel",
    "ModelOutput",
    "PatchEncoder",
    "SlotAttention",
    "SpatialBroadcastDecoder",
    "align",
    "match",
    "merge",
    "reorder",
    "visible_patches",
]
