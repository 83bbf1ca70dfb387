"""Whether a model fits the features that it is made for, and how large it is: sizes alone."""

from mmqsa.config.model import ModelConfig

MAX_PARAMETERS = 250_000_000  # 20 times the paper's model; Adam keeps three more numbers for each


def fault_of(config: ModelConfig, num_patches: int, feature_dim: int) -> str:
    """Why a model cannot read N patches of D = ``feature_dim`` features; empty where it can.

    >>> fault_of(ModelConfig(), num_patches=400, feature_dim=384)
    ''
    """
    slots, masking = config.slots, config.masking
    if masking.strategy != "none" and round(masking.ratio * num_patches) >= num_patches:
        works = (num_patches - 1) / num_patches
        return (
            f"masking.ratio: {masking.ratio} of {num_patches} patches leaves no patch; lower it "
            f"to {int(works * 100) / 100}"
        )
    if slots.reads == "block" and feature_dim % slots.num_heads:
        return (
            f"slots.reads: {slots.num_heads} heads cannot share out {feature_dim} features by "
            "block; set slots.num_heads to the number of cached blocks"
        )
    if slots.start == "clustering":
        dim = feature_dim // (slots.num_heads if slots.reads == "block" else 1)
        if slots.slot_dim != dim:
            return (
                f"slots.slot_dim: slots.start: clustering needs {dim}, the feature dim, not "
                f"{slots.slot_dim}"
            )
        if slots.encoder_dim < 2 * dim:
            return (
                f"slots.encoder_dim: slots.start: clustering needs at least {2 * dim}, twice the "
                f"feature dim, not {slots.encoder_dim}"
            )
    return ""


def too_large(config: ModelConfig, num_patches: int, feature_dim: int) -> str:
    """Why a model is too large to be trained; empty where it is not."""
    count = num_parameters(config, num_patches, feature_dim)
    if count <= MAX_PARAMETERS:
        return ""
    return (
        f"slots, decoder: a model of {count:,} parameters, more than {MAX_PARAMETERS:,}; lower "
        "slots.slot_dim, slots.mlp_dim, slots.encoder_dim or decoder.hidden_dim"
    )


def num_parameters(config: ModelConfig, num_patches: int, feature_dim: int) -> int:
    """How many numbers a training learns.

    >>> num_parameters(ModelConfig(), num_patches=400, feature_dim=384)
    15178753
    """
    slots, dim = config.slots, feature_dim
    readers = 1
    if slots.reads == "block":
        readers, dim = slots.num_heads, feature_dim // slots.num_heads
    encoder = _linear(dim, slots.encoder_dim) + _linear(slots.encoder_dim, dim)
    shared = 2 * dim + 2 * dim * slots.slot_dim  # the input norm, keys and values
    own = {"learned": 2, "fixed": 0, "queries": slots.num_slots}[slots.initialisation]
    head = (
        (own + 4) * slots.slot_dim  # the start, and two norms
        + slots.slot_dim**2
        + 2 * (3 * slots.slot_dim**2 + 3 * slots.slot_dim)  # the GRU
        + _linear(slots.slot_dim, slots.mlp_dim)
        + _linear(slots.mlp_dim, slots.slot_dim)
    )
    attention = readers * (encoder + shared) + slots.num_heads * head
    return attention + _decoder(config, num_patches, feature_dim)


def _decoder(config: ModelConfig, num_patches: int, feature_dim: int) -> int:
    decoder, slot_dim, width = config.decoder, config.slots.slot_dim, config.decoder.hidden_dim
    if decoder.kind == "transformer":
        block = 6 * width + 8 * width**2 + _linear(width, 4 * width) + _linear(4 * width, width)
        ends = _linear(feature_dim, width) + _linear(width, feature_dim)
        starts = (decoder.orders + num_patches) * width
        return decoder.layers * block + ends + starts + slot_dim * width + 4 * width
    hidden = (decoder.layers - 1) * _linear(width, width)
    ends = _linear(slot_dim, width) + _linear(width, 1) + _linear(width, feature_dim)
    return num_patches * slot_dim + hidden + ends


def _linear(inputs: int, outputs: int) -> int:
    return inputs * outputs + outputs
