"""The decoder that a config asks for."""

from mmqsa.config.model import DecoderConfig
from mmqsa.model.decoder import SpatialBroadcastDecoder
from mmqsa.model.transformer_decoder import TransformerDecoder


def make_decoder(
    config: DecoderConfig, num_patches: int, slot_dim: int, feature_dim: int
) -> SpatialBroadcastDecoder | TransformerDecoder:
    """A decoder from slots to N patches with D = ``feature_dim`` features each.

    >>> config = DecoderConfig(kind="transformer", hidden_dim=24, layers=4, orders=9)
    >>> len(make_decoder(config, num_patches=25, slot_dim=16, feature_dim=8).orders)
    9
    """
    sizes = (num_patches, slot_dim, config.hidden_dim, config.layers, feature_dim)
    if config.kind == "transformer":
        return TransformerDecoder(*sizes, config.heads, config.orders)
    return SpatialBroadcastDecoder(*sizes, config.patches_per_step)
