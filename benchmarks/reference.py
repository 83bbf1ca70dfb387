"""A plain reading of the paper, to hold the project's speed and results against.

Written from the formulas, one operation after the other, in the way that the released code goes
about it: every head in every step, keys and values for every patch, an MLP on every pair of slot
and patch, one scipy call per image and head, a mask per pixel and slot. Nothing in the project uses
it but the benchmark and the tests that hold the two equal.

Names: B batch, P patches, D feature width, H heads, K slots, W slot width, S side in px.
"""

import h5py
import numpy as np
import torch
import torch.nn.functional as F
from scipy.optimize import linear_sum_assignment
from sklearn.metrics import adjusted_rand_score
from torch import Tensor, nn

from mmqsa.data.geometry import VOID
from mmqsa.model.masked_slot_model import MaskedSlotModel
from mmqsa.model.slot_attention import EPSILON, SlotHead
from mmqsa.model.transformer_decoder import TransformerDecoder


class PlainModel(nn.Module):
    """The model of ``MaskedSlotModel``, with the same weights and the plain formulas."""

    def __init__(self, model: MaskedSlotModel):
        """Shares the weights of ``model``: deep-copy it first to train the two apart."""
        super().__init__()
        self.model = model
        decoder = model.decoder
        if isinstance(decoder, TransformerDecoder):
            return
        features, alpha = decoder.to_features, decoder.to_mask
        last = nn.Linear(features.in_features, features.out_features + 1)
        with torch.no_grad():
            last.weight.copy_(torch.cat([features.weight, alpha.weight]))
            last.bias.copy_(torch.cat([features.bias, alpha.bias]))
        self.last = last

    def loss(
        self,
        keys: Tensor,
        head: int,
        noise: Tensor,
        ratio: float = 0.7,
        patches: Tensor | None = None,
    ) -> Tensor:
        """Keys (B, N, D), noise (H, B, K, D_slot) -> mean squared error through one head of all.

        ``patches``: indices of those that are decoded; None: all.
        """
        features, target = self.masked(keys, ratio)
        slots, _ = self.heads(features, noise)
        if isinstance(self.model.decoder, TransformerDecoder):
            return F.mse_loss(plain_transformer(self.model.decoder, slots[head], target), target)
        reconstruction, _ = self.decode(slots[head], patches)
        return F.mse_loss(reconstruction, target if patches is None else target[:, patches])

    def masked(self, keys: Tensor, ratio: float) -> tuple[Tensor, Tensor]:
        """Keys (B, N, D) -> encoded features with background masking, and the unmasked target."""
        target = (keys.float() - self.model.feature_mean) * self.model.feature_scale
        hide = keys.float().mean(dim=-1).topk(round(ratio * keys.shape[1]), dim=1).indices
        keep = torch.ones(keys.shape[:2], device=keys.device).scatter(1, hide, 0.0)
        return self.model.encoder(target * keep[..., None]), target

    def heads(self, features: Tensor, noise: Tensor) -> tuple[list[Tensor], list[Tensor]]:
        """Features (B, N, D) -> per head slots (B, K, D_slot) and attention (B, K, N)."""
        attention = self.model.slot_attention
        inputs = attention.norm_input(features)
        keys, values = attention.to_key(inputs), attention.to_value(inputs)
        found = [
            self._head(own, keys, values, drawn)
            for own, drawn in zip(attention.heads, noise, strict=True)
        ]
        slots, attentions = zip(*found, strict=True)
        return list(slots), list(attentions)

    def _head(self, own: SlotHead, keys: Tensor, values: Tensor, noise: Tensor):
        attention = self.model.slot_attention
        slots = own.mean + own.log_std.exp() * noise
        for _ in range(attention.iterations):
            logits = own.to_query(own.norm_slots(slots)) @ keys.mT / attention.slot_dim**0.5
            weights = logits.softmax(dim=1)
            mean = (weights + EPSILON) / (weights + EPSILON).sum(dim=2, keepdim=True)
            flat = own.gru((mean @ values).flatten(0, 1), slots.flatten(0, 1)).view_as(slots)
            slots = flat + own.mlp(own.norm_mlp(flat))
        return slots, weights

    def decode(self, slots: Tensor, patches: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Slots (B, K, D_slot) -> reconstruction (B, N, D), masks (B, K, N); N patches of all."""
        decoder = self.model.decoder
        position = decoder.position if patches is None else decoder.position[..., patches, :]
        hidden = slots[:, :, None] + position
        for layer in (decoder.first, *decoder.hidden):
            hidden = F.relu(layer(hidden))
        decoded = self.last(hidden)
        masks = decoded[..., -1].softmax(dim=1)
        return (masks[..., None] * decoded[..., :-1]).sum(dim=1), masks

    @torch.no_grad()
    def merged(self, keys: Tensor, noise: Tensor, reference: Tensor) -> Tensor:
        """Keys (B, N, D), reference head (B,) -> Hungarian-merged slots (B, K, D_slot)."""
        target = (keys.float() - self.model.feature_mean) * self.model.feature_scale
        slots, _ = self.heads(self.model.encoder(target), noise)
        return plain_merge(torch.stack(slots, dim=1), reference)


def plain_transformer(decoder: TransformerDecoder, slots: Tensor, features: Tensor) -> Tensor:
    """Slots (B, K, D_slot), features (B, N, D) -> reconstruction (B, N, D), row by row.

    Every product of queries and keys is there, and later patches are masked out of it.
    """
    later = torch.ones(features.shape[1], features.shape[1], device=slots.device).triu(1).bool()
    shifted = decoder.from_features(features)[:, :-1]
    start = decoder.start[0].expand(len(slots), 1, -1)
    hidden = torch.cat([start, shifted], dim=1) + decoder.position
    slots = decoder.from_slots(slots)
    for block in decoder.blocks:
        own = block.to_self(block.norms[0](hidden)).chunk(3, dim=-1)
        hidden = hidden + block.from_self(_attended(*own, block.heads, later))
        query = block.to_queries(block.norms[1](hidden))
        from_slots = block.to_slots(slots).chunk(2, dim=-1)
        hidden = hidden + block.from_slots(_attended(query, *from_slots, block.heads))
        hidden = hidden + block.from_mlp(F.relu(block.to_mlp(block.norms[2](hidden))))
    reconstruction: Tensor = decoder.to_features(decoder.norm(hidden))
    return reconstruction


def _attended(
    query: Tensor, key: Tensor, value: Tensor, heads: int, hidden: Tensor | None = None
) -> Tensor:
    """Queries (B, N, C), keys and values (B, M, C) -> (B, N, C), head after head."""
    found = []
    parts = (one.chunk(heads, dim=-1) for one in (query, key, value))
    for own, others, values in zip(*parts, strict=True):
        logits = own @ others.mT / own.shape[-1] ** 0.5
        if hidden is not None:
            logits = logits.masked_fill(hidden, -torch.inf)
        found.append(logits.softmax(dim=-1) @ values)
    return torch.cat(found, dim=-1)


def plain_merge(slots: Tensor, reference: Tensor) -> Tensor:
    """Slots (B, H, K, D_slot), reference head (B,) -> mean of matched heads (B, K, D_slot)."""
    merged = []
    for own, chosen in zip(slots, reference.tolist(), strict=True):
        matched = []
        for head in own:
            similarity = F.cosine_similarity(own[chosen][:, None], head[None], dim=-1)
            matched.append(head[plain_assignment(similarity)])
        merged.append(torch.stack(matched).mean(dim=0))
    return torch.stack(merged)


def plain_assignment(similarity: Tensor) -> Tensor:
    """Similarity (K, K), reference slots in rows -> the best column of each (K,)."""
    order = linear_sum_assignment(similarity.cpu().numpy(), maximize=True)[1]
    return torch.as_tensor(order, device=similarity.device)


def plain_label_maps(masks: Tensor, side: int) -> np.ndarray:
    """Masks (B, K, N) -> (B, S, S) uint8: K full-size maps, then their argmax."""
    grid = round(masks.shape[-1] ** 0.5)
    square = masks.unflatten(-1, (grid, grid))
    full = F.interpolate(square, size=(side, side), mode="bilinear", align_corners=False)
    return full.argmax(dim=1).to(torch.uint8).cpu().numpy()


def plain_metrics(prediction: np.ndarray, classes: np.ndarray, instances: np.ndarray) -> dict:
    """Metrics of one image from one boolean mask per segment, as ``image_metrics`` names them."""
    values = {
        ("paper", "corloc"): _corloc(prediction, classes, _boxes(prediction, classes)),
        ("paper", "corloc_one_box"): _corloc(prediction, classes, _boxes(prediction, classes)[:1]),
        ("paper", "miou_with_background"): _matched(_overlaps(prediction, classes, 0)),
        ("paper", "mbo_c"): _best(_overlaps(prediction, classes, 1)),
    }
    inside = (instances != VOID) & (instances > 0)
    ari = adjusted_rand_score(instances[inside], prediction[inside]) if inside.any() else np.nan
    objects = _overlaps(prediction, instances, 1)
    values["dinosaur", "fg_ari"] = ari
    values["dinosaur", "mbo_i"], values["dinosaur", "miou"] = _best(objects), _matched(objects)
    values["dinosaur", "mbo_c"] = values["paper", "mbo_c"]
    return values


def _overlaps(prediction: np.ndarray, truth: np.ndarray, first: int) -> np.ndarray:
    valid = truth != VOID
    labels = [label for label in np.unique(truth[valid]) if label >= first]
    table = np.zeros((len(labels), int(prediction.max()) + 1))
    for row, label in enumerate(labels):
        for column in range(table.shape[1]):
            own, other = (truth == label) & valid, (prediction == column) & valid
            table[row, column] = (own & other).sum() / max((own | other).sum(), 1)
    return table


def _best(overlap: np.ndarray) -> float:
    return float(overlap.max(axis=1).mean()) if len(overlap) else float("nan")


def _matched(overlap: np.ndarray) -> float:
    if not len(overlap):
        return float("nan")
    return float(overlap[linear_sum_assignment(overlap, maximize=True)].sum() / len(overlap))


def _boxes(prediction: np.ndarray, classes: np.ndarray) -> list[tuple]:
    """One of each slot, first that of the largest but for the one that has most of the border."""
    valid = classes != VOID
    inner = np.zeros_like(valid)
    inner[1:-1, 1:-1] = True
    slots = np.unique(prediction[valid])
    border = np.bincount(prediction[~inner]).argmax()
    ranked = sorted(slots, key=lambda slot: -(((prediction == slot) & valid).sum()))
    ranked = [slot for slot in ranked if slot != border] + [
        slot for slot in ranked if slot == border
    ]
    return [_box((prediction == slot) & valid) for slot in ranked]


def _corloc(prediction: np.ndarray, classes: np.ndarray, found: list[tuple]) -> float:
    valid = classes != VOID
    truth = [_box((classes == label) & valid) for label in np.unique(classes[valid]) if label]
    if not truth:
        return float("nan")
    return float(any(_box_iou(one, other) > 0.5 for one in found for other in truth))


def _box(mask: np.ndarray) -> tuple[int, int, int, int]:
    y, x = np.nonzero(mask)
    return x.min(), y.min(), x.max() + 1, y.max() + 1


def _box_iou(one: tuple, other: tuple) -> float:
    width = min(one[2], other[2]) - max(one[0], other[0])
    height = min(one[3], other[3]) - max(one[1], other[1])
    overlap = max(width, 0) * max(height, 0)
    areas = sum((box[2] - box[0]) * (box[3] - box[1]) for box in (one, other))
    return overlap / (areas - overlap)


def plain_keys(network: nn.Module, images: Tensor, width: int) -> Tensor:
    """Images (B, 3, S, S) -> keys (B, N, D): the whole network, and a hook on its last block."""
    caught = []
    hook = network.blocks[-1].attn.qkv.register_forward_hook(lambda *found: caught.append(found[2]))
    network(images)
    hook.remove()
    return caught[0][:, network.num_prefix_tokens :, width : 2 * width]


def write_chunked(path: str, keys: np.ndarray) -> None:
    """Keys (num_images, N, D) in an HDF5 file with one chunk per image, as is usual for images."""
    with h5py.File(path, "w") as file:
        file.create_dataset("features", data=keys, chunks=(1, *keys.shape[1:]))
