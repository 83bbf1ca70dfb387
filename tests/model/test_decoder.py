import torch
import torch.nn.functional as F

from mmqsa.model.decoder import IMAGES_AT_ONCE, SpatialBroadcastDecoder


def test_it_equals_the_plain_formula():
    torch.manual_seed(0)
    decoder = SpatialBroadcastDecoder(9, slot_dim=8, hidden_dim=16, layers=3, feature_dim=5)
    slots = torch.randn(IMAGES_AT_ONCE + 1, 4, 8)
    hidden = slots[:, :, None] + decoder.position
    for layer in (decoder.first, *decoder.hidden):
        hidden = F.relu(layer(hidden))
    plain_masks = decoder.to_mask(hidden).squeeze(-1).softmax(dim=1)
    plain = (plain_masks[..., None] * decoder.to_features(hidden)).sum(dim=1)
    reconstruction, masks = decoder(slots)
    torch.testing.assert_close(reconstruction, plain, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(masks, plain_masks)
    torch.testing.assert_close(decoder.masks(slots), plain_masks)
    patches = torch.tensor([7, 2])
    torch.testing.assert_close(
        decoder(slots, drawn=patches)[0], plain[:, patches], atol=1e-5, rtol=1e-5
    )
