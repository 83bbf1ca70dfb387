import pytest
import torch

from mmqsa.errors import InputError
from mmqsa.model.encoder import PatchEncoder


def test_it_starts_as_the_identity_when_asked():
    torch.manual_seed(0)
    encoder, features = PatchEncoder(6, hidden_dim=15), torch.randn(2, 9, 6)
    assert not torch.allclose(encoder(features), features, atol=0.1)
    encoder.start_as_identity()
    torch.testing.assert_close(encoder(features), features)


def test_too_few_hidden_units_for_the_identity_are_refused():
    with pytest.raises(InputError, match=r"slots\.encoder_dim: .* at least 12, .* not 11"):
        PatchEncoder(6, hidden_dim=11).start_as_identity()
