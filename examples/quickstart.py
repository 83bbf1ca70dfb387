# %% [markdown]
# # Quickstart: photographs in, masks out
#
# We go from photographs to the masks of their objects, on a CPU and without a download:
#
# 1. make photographs: synthetic scenes, whose true objects are known,
# 2. compute **features** of them with a frozen vision transformer (ViT),
# 3. **train** a slot attention model on the features, without any label,
# 4. **segment** photographs with it, and look at masks and boxes,
# 5. **score** it beside a simple baseline and a control that looks at no image.
#
# The ViT here has random weights, so that nothing is downloaded, and the training is short. Use it
# to learn the steps; do not judge the method by it.

# %%
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import torch
from matplotlib import color_sequences
from matplotlib.patches import Rectangle

import mmqsa
from mmqsa.config import Config
from mmqsa.data import VocFolder, write_scenes
from mmqsa.evaluation.baselines import kmeans
from mmqsa.evaluation.controls import fixed_controls
from mmqsa.evaluation.protocols import DESCRIPTIONS
from mmqsa.evaluation.scoring import Scorer, label_maps
from mmqsa.features import FeatureCache
from mmqsa.features.extract import extract
from mmqsa.training import Run, train

folder = Path("quickstart")  # all that is made here goes into it
cpu = torch.device("cpu")

# %% [markdown]
# ## 1. Knobs and photographs
#
# `Config` holds every knob. What we do not name has the paper's value; a misspelt name is an error.
# Compared with the paper all sizes are small, and `start: clustering` lets a short training begin
# from something useful: soft k-means.

# %%
config = Config.model_validate(
    {
        "dataset": {
            "kind": "scenes",
            "name": "scenes",
            "train_split": "train",
            "scenes": {"train": 96, "val": 24, "side": 160},
        },
        "backbone": {
            "name": "vit_tiny_patch16_224",
            "pretrained": False,  # random weights
            "image_size": 160,  # 10 x 10 patches of 16 px
            "feature": "token",
            "blocks": [0],  # of random weights, the first block tells materials apart best
        },
        "masking": {"score": "principal-component", "ratio": 0.3},
        "slots": {
            "num_slots": 5,
            "num_heads": 2,
            "slot_dim": 192,
            "mlp_dim": 192,
            "encoder_dim": 384,
            "start": "clustering",
        },
        "decoder": {"hidden_dim": 256, "patches_per_step": 48},
        "training": {
            "steps": 150,
            "batch_size": 8,
            "learning_rate": 1e-3,
            "log_every": 50,
            "schedule": {"kind": "cosine", "warmup_steps": 20},
        },
    }
)
write_scenes(config.dataset.scenes, folder / "scenes")
scenes = VocFolder.find(folder / "scenes")
train_ids, val_ids = scenes.ids("train"), scenes.ids("val")
print(len(train_ids), "scenes to train on,", len(val_ids), "to test on")

# %% [markdown]
# A scene has one to four objects on dark ground. The labels are for the score at the end; the
# training never sees them. White pixels are *void*: the outlines, which no metric counts.

# %%
shown = val_ids[:4]


def draw_row(axes, images, title):
    """Images side by side, with a title at the left."""
    for axis, image in zip(axes, images, strict=True):
        axis.imshow(image, interpolation="nearest")
        axis.set(xticks=[], yticks=[])
    axes[0].set_ylabel(title)


def coloured(labels):
    """A label map as colours: 0 is black, void white."""
    colours = np.vstack([[0, 0, 0], color_sequences["tab10"], [1, 1, 1]])
    return colours[np.where(labels == 255, 11, labels)]


photographs = [scenes.image(name) for name in shown]
objects = [
    scenes.instances(name, image.size) for name, image in zip(shown, photographs, strict=True)
]
figure, axes = plt.subplots(2, 4, figsize=(8, 4), layout="constrained")
draw_row(axes[0], photographs, "photograph")
draw_row(axes[1], [coloured(labels) for labels in objects], "true objects")
figure.savefig(folder / "scenes.png")

# %% [markdown]
# ## 2. Features
#
# A frozen ViT turns each image into one feature vector per patch. They are computed once and kept
# in a file: a *feature cache*. (N patches, D numbers each.)

# %%
for split in ("train", "val"):
    extract(scenes, split, config, folder / f"{split}.h5", cpu)
train_cache, val_cache = FeatureCache(folder / "train.h5"), FeatureCache(folder / "val.h5")
num_images, num_patches, feature_dim = train_cache.features.shape
print(f"{num_images} images, N = {num_patches} patches, D = {feature_dim} features")

# %% [markdown]
# ## 3. Training
#
# The model hides a part of the patches, explains the others by a few *slots*, and reconstructs all
# features from these. A slot that wants to reconstruct well had better stand for one thing.

# %%
train(train_cache, config, seed=0, out=folder / "run", device=cpu, overwrite=True)
history = np.genfromtxt(folder / "run/history.csv", delimiter=",", names=True)
for row in history:
    print(f"step {row['step']:3.0f}: loss {row['loss']:.3f}")

# %% [markdown]
# ## 4. Masks and boxes of photographs
#
# `mmqsa.load` takes the folder of a run, and gives a function from photographs (PIL images of any
# size) to their objects. The slot that covers most of the border is taken for background. With
# `matching="joined"`, slots that show the same thing become one.

# %%
segmenter = mmqsa.load(folder / "run", matching="joined", smallest=0.01)
found = segmenter(photographs, shown)
print("objects found:", [len(result.boxes) for result in found])
print("boxes of the first photograph (x0 y0 x1 y1 in px):")
print(found[0].boxes)


# %%
def overlay(image, labels):
    """The photograph, with its objects tinted."""
    pixels, is_object = np.asarray(image) / 255, labels[..., None] > 0
    return np.where(is_object, 0.4 * pixels + 0.6 * coloured(labels), pixels)


figure, axes = plt.subplots(1, 4, figsize=(8, 2.2), layout="constrained")
draw_row(axes, map(overlay, photographs, [result.labels for result in found]), "objects found")
for axis, result in zip(axes, found, strict=True):
    for number, (x0, y0, x1, y1) in enumerate(result.boxes):
        colour = color_sequences["tab10"][number]
        axis.add_patch(Rectangle((x0, y0), x1 - x0, y1 - y0, fill=False, edgecolor=colour, lw=2))
figure.savefig(folder / "objects.png")

# %% [markdown]
# ## 5. How good is it?
#
# A score means little alone. So we score, on the same images and by the same code,
#
# - the model's masks,
# - **k-means** on the same features, which needs no training,
# - a **control** that looks at no image: one square in the centre.
#
# First the label maps of all test images: which slot each pixel belongs to.

# %%
features = torch.from_numpy(val_cache.features[:])
model = Run.load(folder / "run").model
with torch.inference_mode():
    noise = model.noise(len(features), torch.Generator().manual_seed(0))
    masks = model.segment(features, noise)["attention"]  # (images, slots, patches)
    standardised = model.standardised(features).numpy()
clusters = np.stack([kmeans(image, clusters=5) for image in standardised])
square = fixed_controls(val_cache.side)["centre square"].labels

predictions = {
    "slots": label_maps(masks, val_cache.side),
    "k-means": label_maps(torch.from_numpy(clusters), val_cache.side),
    "centre square": np.stack([square] * len(features)),
}

# %% [markdown]
# A *protocol* says what is compared with what. We print the paper's; 100 would be perfect.
#
# - `miou_with_background`: overlap (IoU) of each class, the background too, with the slot that is
#   matched to it
# - `mbo_c`: overlap of each class with the slot that fits best
# - `corloc`: share of the images where the box of some slot fits the box of an object
# - `corloc_one_box`: the same of one box alone

# %%
scorer = Scorer(val_cache)
for name, labels in predictions.items():
    scorer.add(range(len(labels)), labels, name=name)
means = scorer.metrics(["name"])
print("paper:", DESCRIPTIONS["paper"])
table = means[means["protocol"] == "paper"].pivot(index="name", columns="metric", values="value")
print(table.loc[list(predictions)].round(1).to_string())

# %% [markdown]
# Read such a table from below. What the square reaches, anyone reaches. What k-means reaches is in
# the features. Only what lies above both is due to slot attention and its training. With random
# weights and a training of seconds k-means is often ahead, and that is no secret: mmqsa prints it.
#
# The pictures show why. Features carry the position of a patch, and so both methods cut the ground
# into parts. (Colours of slots and clusters are arbitrary, and none is marked as background.)

# %%
assert val_cache.instances is not None  # scenes have labels; your photographs may have none
squares = [val_cache.square(image) for image in photographs]
figure, axes = plt.subplots(4, 4, figsize=(8, 8), layout="constrained")
draw_row(axes[0], squares, "photograph, cropped")
draw_row(axes[1], [coloured(labels) for labels in val_cache.instances[:4]], "true objects")
for row, name in ((2, "slots"), (3, "k-means")):
    draw_row(axes[row], [coloured(labels + 1) for labels in predictions[name][:4]], name)
figure.savefig(folder / "comparison.png")

# %% [markdown]
# ## Where to go from here
#
# - your own photographs: `segmenter(Image.open("photo.jpg"))`, or on the command line
#   `mmqsa discover --run quickstart/run photo.jpg --out out`
# - features that know something: set `pretrained` to true, and drop `feature`, `blocks`
#   (docs/backbones.md)
# - the paper's tables, from photographs to statistics: `make demo` (README.md)
# - what else can be imported: docs/api.md
