"""Masked multi-query slot attention: encoder, slot attention, decoder, matching, each usable alone.

Works on tensors and knows no files. ``MaskedSlotModel`` puts the parts together.
"""

from mmqsa.model.decoder import SpatialBroadcastDecoder
from mmqsa.model.encoder import PatchEncoder
from mmqsa.model.head_per_block import HeadPerBlock
from mmqsa.model.learned_similarity import LearnedSimilarity
from mmqsa.model.masked_slot_model import Draws, HeadOutputs, MaskedSlotModel, ModelOutput
from mmqsa.model.masking import visible_patches
from mmqsa.model.matching import align, match, merge, reorder
from mmqsa.model.merging import Merging, consensus, join_alike
from mmqsa.model.slot_attention import SlotAttention
from mmqsa.model.slot_fusion import SlotFusion
from mmqsa.model.transformer_decoder import TransformerDecoder

__all__ = [
    "Draws",
    "HeadOutputs",
    "HeadPerBlock",
    "LearnedSimilarity",
    "MaskedSlotModel",
    "Merging",
    "ModelOutput",
    "PatchEncoder",
    "SlotAttention",
    "SlotFusion",
    "SpatialBroadcastDecoder",
    "TransformerDecoder",
    "align",
    "consensus",
    "join_alike",
    "match",
    "merge",
    "reorder",
    "visible_patches",
]
