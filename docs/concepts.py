"""The pictures and numbers of docs/concepts, of one run on the demo's synthetic scenes.

    python docs/concepts.py FOLDER     # scenes, features and a run go there: 10 to 15 minutes

Scenes are chosen by rank or by a rule, never by hand. Numbers go into the pages between
``<!-- NAME -->`` and ``<!-- /NAME -->``.
"""

import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import torch
from PIL import Image, ImageOps

from mmqsa.config.choices import MatchingName
from mmqsa.data.geometry import VOID
from mmqsa.data.layouts import open_folder
from mmqsa.evaluation.comparison import GroundTruth
from mmqsa.evaluation.controls import fitted_controls, fixed_controls, object_boxes
from mmqsa.evaluation.draws import image_draws
from mmqsa.evaluation.metrics import image_metrics
from mmqsa.evaluation.pictures import darkened, draw_box, object_labels, overlay
from mmqsa.evaluation.premise import Premise, measure_premise
from mmqsa.evaluation.scoring import label_maps
from mmqsa.features.cache import FeatureCache
from mmqsa.model.masked_slot_model import HeadOutputs
from mmqsa.model.matching import align, cosine, match, reorder
from mmqsa.reporting.style import bare, style
from mmqsa.training.run import Run

PAGES = Path(__file__).parent / "concepts"
ROOT = PAGES.parents[1]
CONFIG = ROOT / "docs/tutorial.yaml"
WIDTH = 7.5  # inches
METRICS = {"corloc": "CorLoc", "miou_with_background": "mIoU (with bg)", "mbo_c": "mBO^c"}
CONTROLS = ("one slot", "centre square", "3x3 blocks", "best fixed box", "5 fixed boxes")


@dataclass
class Scene:
    """One scene of val: what there is to see, and what the run makes of it."""

    image: np.ndarray
    classes: np.ndarray
    instances: np.ndarray
    features: torch.Tensor
    outputs: HeadOutputs
    reference: torch.Tensor
    index: int
    name: str


class Scenes:
    """The run and its caches; scenes by their index in val."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.run = Run.load(folder / "run")
        self.val, self.train = FeatureCache(folder / "val.h5"), FeatureCache(folder / "train.h5")
        self.photographs = open_folder(folder / "scenes")

    @torch.inference_mode()
    def scene(self, index: int) -> Scene:
        """With all heads of the run, on the noise of evaluation seed 0."""
        cache, name = self.val, self.val.ids[index]
        assert cache.classes is not None and cache.instances is not None
        features = torch.from_numpy(cache.features[index : index + 1])
        noise, reference = image_draws(self.run.model, [name])
        outputs = self.run.model.run_heads(features, noise)
        return Scene(
            cache.square(self.photographs.image(name)),
            cache.classes[index],
            cache.instances[index],
            features,
            outputs,
            reference,
            index,
            name,
        )

    def merged(self, scene: Scene, matching: MatchingName = "hungarian") -> np.ndarray:
        """The attention masks of the merged heads as a label map (S, S)."""
        with torch.inference_mode():
            masks = self.run.model.merge_heads(
                scene.outputs, matching, ["attention"], scene.reference
            )
        return label_maps(masks["attention"], self.val.side)[0]

    def score(self, scene: Scene, prediction: np.ndarray) -> dict[tuple[str, str], float]:
        """Every metric of every protocol, 0..1."""
        return image_metrics(prediction, GroundTruth(scene.classes, scene.instances))

    def by_rank(self, *quantiles: float) -> list[Scene]:
        """Scenes with at least two objects at these quantiles of mBO^c, 0 the worst."""
        table = pd.read_csv(next((self.folder / "metrics").glob("*-val-per_image.csv.gz")))
        table = table[(table["matching"] == "hungarian") & (table["mask_source"] == "attention")]
        assert self.val.instances is not None
        several = [len(np.unique(maps)) > 3 for maps in self.val.instances]  # with 0 and void
        table = table[table["image_id"].isin(np.array(self.val.ids)[several])]
        ranked = table.sort_values(["paper/mbo_c", "image_id"])["image_id"].tolist()
        picked = [ranked[round(quantile * (len(ranked) - 1))] for quantile in quantiles]
        return [self.scene(self.val.ids.index(name)) for name in picked]


def prepare(folder: Path) -> None:
    """Scenes, caches, a run and its metrics, by the commands that a reader would use."""

    def mmqsa(*words: object) -> None:
        subprocess.run(
            [sys.executable, "-m", "mmqsa", *map(str, words), "--config", CONFIG], check=True
        )

    mmqsa("scenes", "--out", folder / "scenes")
    splits = {"train": "", "val": "", "val-released": "released"}
    for name, variant in splits.items():
        split = ("--split", name.partition("-")[0], "--variant", variant)
        mmqsa("extract", "--data", folder / "scenes", *split, "--out", folder / f"{name}.h5")
    train, val = folder / "train.h5", folder / "val.h5"
    if not (folder / "run").exists():
        mmqsa("train", "--features", train, "--out", folder / "run")
    ways = [word for name in ("hungarian", "none", "unaligned") for word in ("--matching", name)]
    for name in ("val", "val-released"):
        features = ("--features", folder / f"{name}.h5", "--out", folder / "metrics")
        mmqsa("evaluate", "--run", folder / "run", *features, *ways)
    fitted = ("--features", val, "--train", train, "--out", folder / "controls")
    mmqsa("controls", *fitted)
    mmqsa("baseline", "--method", "kmeans", "--method", "oracle", *fitted)


def panels(rows: int, columns: int, stretch: float = 1.0) -> tuple[plt.Figure, np.ndarray]:
    """Square panels that fill the width, each ``stretch`` times as high as wide."""
    size = (WIDTH, WIDTH / columns * rows * stretch)
    figure, axes = plt.subplots(
        rows, columns, figsize=size, squeeze=False, gridspec_kw={"wspace": 0.04, "hspace": 0.04}
    )
    bare(axes)
    return figure, axes


def truth(axis: plt.Axes, scene: Scene, labels: np.ndarray) -> None:
    """Labels over the greyed scene, in the first colours; void as background."""
    shown = np.searchsorted([0, *object_labels(labels)], np.where(labels == VOID, 0, labels))
    overlay(axis, scene.image, shown, [], background=0)


def overview(scenes: Scenes) -> plt.Figure:
    """The method in one row: the median scene."""
    (scene,) = scenes.by_rank(0.5)
    run, grid = scenes.run, scenes.val.grid
    with torch.inference_mode():
        inputs = run.model.standardised(scene.features)
        visible = run.model.visible_patches(scene.features, inputs)[0].numpy()
    _, _, directions = torch.linalg.svd(inputs[0] - inputs[0].mean(0), full_matrices=False)
    colours = (inputs[0] - inputs[0].mean(0)) @ directions[:3].T
    colours = (colours - colours.amin(0)) / (colours.amax(0) - colours.amin(0))
    heads = label_maps(scene.outputs.attention[0], scenes.val.side)
    figure, axes = panels(1, 6, 1.25)
    titles = ["photograph", "patch features", "left visible", "one head", "heads merged", "truth"]
    for axis, title in zip(axes[0], titles, strict=True):
        axis.set_title(title, pad=4)
    axes[0][0].imshow(scene.image)
    axes[0][1].imshow(colours.reshape(grid, grid, 3), interpolation="nearest")
    axes[0][2].imshow(darkened(scene.image, visible, grid))
    overlay(axes[0][3], scene.image, heads[0], [])
    overlay(axes[0][4], scene.image, scenes.merged(scene), [])
    truth(axes[0][5], scene, scene.classes)
    return figure


def masking(scenes: Scenes) -> plt.Figure:
    """Two scenes: both scores, and what each hides."""
    premise = measure_premise(scenes.val, scenes.train)
    write("masking", premise_table(premise))
    figure, axes = panels(2, 5)
    grid = scenes.val.grid
    kept = round((1 - scenes.run.config.masking.ratio) * grid * grid)
    titles = [
        "photograph",
        "mean of features",
        "left visible",
        "principal component",
        "left visible",
    ]
    for axis, title in zip(axes[0], titles, strict=True):
        axis.set_title(title, pad=4)
    for row, scene in zip(axes, scenes.by_rank(0.75, 0.25), strict=True):
        row[0].imshow(scene.image)
        for place, score in ((1, "mean"), (3, "principal-component")):
            values = premise.scores[score][scene.index]
            row[place].imshow(values.reshape(grid, grid), cmap="cividis", interpolation="nearest")
            visible = np.argsort(values)[:kept]
            row[place + 1].imshow(darkened(scene.image, visible, grid))
    return figure


def premise_table(premise: Premise) -> str:
    """What both scores know of the scenes."""
    rows = premise.table(ratio=0.7).round(2)
    lines = [
        f"| {row['score']} | {row['auc_per_image']:.2f} | {row['background_shows']:.0f} % "
        f"| {row['background_hides']:.0f} % |"
        for _, row in rows.iterrows()
    ]
    head = "| score | area under the ROC curve | object in what stays | object in what is hidden |"
    return "\n".join([head, "|---|--:|--:|--:|", *lines])


def heads(scenes: Scenes) -> plt.Figure:
    """One scene: every head before and after matching, and what averaging makes of both."""
    (scene,) = scenes.by_rank(0.9)
    side, reference = scenes.val.side, int(scene.reference)
    order = align(scene.outputs.slots, scene.reference, "hungarian")
    before = label_maps(scene.outputs.attention[0], side)
    after = label_maps(reorder(scene.outputs.attention, order)[0], side)
    figure, axes = panels(2, 5, 1.05)
    merged = scenes.merged(scene, "unaligned"), scenes.merged(scene)
    for row, maps, mean in zip(axes, (before, after), merged, strict=True):
        for axis, labels in zip(row, (*maps, mean), strict=True):
            overlay(axis, scene.image, labels, [])
    names = [f"head {index + 1}" for index in range(len(before))]
    names[reference] += " (reference)"
    for axis, name in zip(axes[0], [*names, "mean of heads"], strict=True):
        axis.set_title(name, pad=4)
    axes[0][0].set_ylabel("as they come")
    axes[1][0].set_ylabel("matched")
    write("heads", merge_table(scenes))
    return figure


def merge_table(scenes: Scenes) -> str:
    """All scenes of val, by what is done with the heads."""
    names = {
        "none": "one head, drawn for each image",
        "unaligned": "mean of heads that are not matched",
        "hungarian": "mean of matched heads",
    }
    table = metrics(scenes.folder / "metrics", "-val.csv")
    table = table[table["mask_source"] == "attention"].set_index("matching")
    return lines("merge", [(text, table.loc[name]) for name, text in names.items()])


def metrics(folder: Path, suffix: str, protocol: str = "paper") -> pd.DataFrame:
    """The means of one kind of file, a column for each metric."""
    table = pd.concat(map(pd.read_csv, sorted(folder.glob(f"*{suffix}"))))
    table = table[table["protocol"] == protocol]
    keys = [name for name in table.columns if name not in ("metric", "value", "n_images")]
    return table.pivot_table(index=keys, columns="metric", values="value").reset_index()


def lines(title: str, rows: list[tuple[str, pd.Series]]) -> str:
    """A table of the paper's metrics."""
    head = f"| {title} | " + " | ".join(METRICS.values()) + " |\n|---" + "|--:" * 3 + "|"
    cells = [" | ".join(f"{row[name]:.1f}" for name in METRICS) for _, row in rows]
    return "\n".join(
        [head, *(f"| {text} | {cell} |" for (text, _), cell in zip(rows, cells, strict=True))]
    )


def matching(scenes: Scenes) -> plt.Figure:
    """The first scene in which greedy and Hungarian matching pick other pairs."""
    for index in range(len(scenes.val.ids)):
        scene = scenes.scene(index)
        slots = scene.outputs.slots[0]
        for second in range(1, len(slots)):
            pair = slots[second : second + 1], slots[:1]
            best, greedy = (match(*pair, way)[0] for way in ("hungarian", "greedy"))
            if (best != greedy).any():
                return _pairs(scenes, scene, second, best.numpy(), greedy.numpy())
    raise SystemExit("no scene in which the two differ")


def _pairs(
    scenes: Scenes, scene: Scene, second: int, best: np.ndarray, greedy: np.ndarray
) -> plt.Figure:
    """The cosine similarity of two heads' slots, their attention beside it, and both choices."""
    grid, count = scenes.val.grid, len(best)
    first_slots, other_slots = scene.outputs.slots[0, 0], scene.outputs.slots[0, second]
    similarity = cosine(first_slots, other_slots).numpy()
    figure = plt.figure(figsize=(WIDTH, WIDTH * 0.56))
    outer = figure.add_gridspec(1, 2, width_ratios=[0.3, 1], wspace=0.1)
    axis = figure.add_subplot(outer[0])
    axis.imshow(scene.image)
    axis.set_title("photograph", pad=4)
    bare(np.array([axis]))
    table = outer[1].subgridspec(count + 1, count + 1, wspace=0.06, hspace=0.06)
    small, large = similarity.min(), similarity.max()
    for row in range(count):
        for column in range(count):
            cell = figure.add_subplot(table[row + 1, column + 1])
            value = similarity[row, column]
            cell.imshow([[value]], cmap="cividis", vmin=small, vmax=large)
            light = (value - small) / (large - small) > 0.6
            cell.text(0, 0, f"{value:.2f}", ha="center", va="center", color="k" if light else "w")
            bare(np.array([cell]))
            for chosen, colour, pad in ((best, "#d1495b", 0), (greedy, "white", 5)):
                if chosen[row] == column:
                    _frame(cell, colour, pad, dashed=chosen is greedy)
    for index in range(count):
        for place, head, label in (
            (table[index + 1, 0], 0, f"slot {index + 1}"),
            (table[0, index + 1], second, f"slot {index + 1}"),
        ):
            cell = figure.add_subplot(place)
            masks = scene.outputs.attention[0, head, index].reshape(grid, grid)
            cell.imshow(masks, cmap="magma", vmin=0, vmax=1, interpolation="nearest")
            bare(np.array([cell]))
            if head:
                cell.set_title(label, fontsize=7, pad=3)
            else:
                cell.set_ylabel(label, fontsize=7)
    corner = figure.add_subplot(table[0, 0])
    corner.axis("off")
    corner.text(0.95, 0.75, f"head {second + 1} →", ha="right", va="center", fontsize=8)
    corner.text(0.5, 0.2, "head 1 ↓", ha="center", va="center", fontsize=8)
    totals = [similarity[np.arange(count), chosen].sum() for chosen in (best, greedy)]
    write(
        "matching",
        "| matching | sum of the chosen cosines |\n|---|--:|\n"
        f"| Hungarian (red) | {totals[0]:.2f} |\n| greedy (white, dashed) | {totals[1]:.2f} |",
    )
    return figure


def _frame(axis: plt.Axes, colour: str, pad: int, dashed: bool) -> None:
    width = 0.44 - pad / 60
    axis.add_patch(
        plt.Rectangle(
            (-width, -width),
            2 * width,
            2 * width,
            fill=False,
            edgecolor=colour,
            linewidth=2.2 if not dashed else 1.4,
            linestyle=(0, (3, 2)) if dashed else "-",
        )
    )


def protocols(scenes: Scenes) -> plt.Figure:
    """One prediction, and the labels that each protocol compares it with."""
    downwards = (scenes.by_rank(quantile)[0] for quantile in np.linspace(0.9, 0, 97))
    scene = next(
        scene
        for scene in downwards
        if len(object_labels(scene.classes)) < len(object_labels(scene.instances))
    )
    prediction = scenes.merged(scene)
    figure, axes = panels(1, 6, 1.25)
    titles = ["photograph", "prediction", "classes, boxes", "instances", "void", "released"]
    for axis, title in zip(axes[0], titles, strict=True):
        axis.set_title(title, pad=4)
    axes[0][0].imshow(scene.image)
    overlay(axes[0][1], scene.image, prediction, [])
    truth(axes[0][2], scene, scene.classes)
    for label in object_labels(scene.classes):
        draw_box(axes[0][2], scene.classes == label, "black")
    truth(axes[0][3], scene, scene.instances)
    axes[0][4].imshow(np.where((scene.classes == VOID)[..., None], 255, scene.image // 2))
    released = FeatureCache(scenes.folder / "val-released.h5")
    misaligned = released.square(scenes.photographs.image(scene.name))
    assert released.classes is not None
    truth(axes[0][5], replace(scene, image=misaligned), released.classes[scene.index])
    score = scenes.score(scene, prediction)
    shown = {
        "CorLoc": "corloc",
        "CorLoc (one box)": "corloc_one_box",
        "mIoU (with bg)": "miou_with_background",
        "mBO^c": "mbo_c",
        "mBO^i": "mbo_i",
        "mIoU (instances)": "miou",
        "FG-ARI": "fg_ari",
    }
    rows = ["| protocol | " + " | ".join(shown) + " |", "|---" + "|--:" * len(shown) + "|"]
    for protocol in ("paper", "dinosaur", "spot"):
        values = [score.get((protocol, name)) for name in shown.values()]
        cells = ["" if value is None else f"{100 * value:.1f}" for value in values]
        rows.append(f"| `{protocol}` | " + " | ".join(cells) + " |")
    write("scene", "\n".join(rows))
    aligned, squashed = [
        metrics(scenes.folder / "metrics", f"-{name}.csv", protocol).query(
            "matching == 'hungarian' and mask_source == 'attention'"
        )
        for name, protocol in (("val", "paper"), ("val-released", "released"))
    ]
    rows_of_all = [
        ("`paper`: image and labels in one geometry", aligned.iloc[0]),
        ("`released`: labels squashed, image cropped", squashed.iloc[0]),
    ]
    write("released", lines("protocol", rows_of_all))
    return figure


def controls(scenes: Scenes) -> plt.Figure:
    """Predictions that look at no image, on the median scene, beside the run's."""
    (scene,) = scenes.by_rank(0.5)
    side = scenes.val.side
    known = fixed_controls(side) | fitted_controls(object_boxes(scenes.train), side, 5)
    shown = [(name, known[name]) for name in CONTROLS]
    figure, axes = panels(1, len(shown) + 1, 1.35)
    maps = [(name, control.labels) for name, control in shown]
    for axis, (name, labels) in zip(
        axes[0], [*maps, ("the run", scenes.merged(scene))], strict=True
    ):
        overlay(axis, scene.image, labels, [])
        value = scenes.score(scene, labels)["paper", "mbo_c"]
        axis.set_title(name, pad=4)
        axis.set_xlabel(f"mBO$^c$ {100 * value:.0f}", fontsize=8)
    write("controls", control_table(scenes))
    return figure


def control_table(scenes: Scenes) -> str:
    """All scenes of val: controls, k-means, the ceiling and the run."""
    known = pd.concat(
        metrics(path.parent, path.name)
        for path in sorted((scenes.folder / "controls").glob("*.csv"))
    )
    known = known.groupby("name")[list(METRICS)].mean()
    run = metrics(scenes.folder / "metrics", "-val.csv").set_index(["matching", "mask_source"])
    best = known[known.index.str.contains("k-means")]["mbo_c"].idxmax()
    oracle = known.index[known.index.str.contains("oracle")][0]
    rows = [(name, known.loc[name]) for name in (*CONTROLS, best, oracle)]
    rows.insert(len(CONTROLS), ("the run, attention masks", run.loc["hungarian", "attention"]))
    return lines("prediction", rows)


def tutorial(scenes: Scenes) -> plt.Figure:
    """What `mmqsa discover` draws of the first scenes of val, by its options."""
    names = scenes.val.ids[:4]
    figure, axes = panels(3, len(names))
    for row, options in zip(axes, ("", "--matching joined", "--no-refine"), strict=True):
        out = scenes.folder / f"out{options.replace(' ', '')}"
        shutil.rmtree(out, ignore_errors=True)
        photographs = [scenes.photographs.image_path(name) for name in names]
        words = ["discover", "--run", scenes.folder / "run", *photographs, "--out", out]
        subprocess.run(
            [sys.executable, "-m", "mmqsa", *map(str, words), *options.split()], check=True
        )
        for axis, name in zip(row, names, strict=True):
            with Image.open(out / "overlays" / f"{name}.jpg") as overlaid:
                axis.imshow(ImageOps.fit(overlaid, (300, 300)))
        row[0].set_ylabel(options or "no option", fontsize=8)
    return figure


def write(name: str, table: str) -> None:
    """Put a table into the page that has its marks."""
    for page in PAGES.glob("*.md"):
        text = page.read_text(encoding="utf-8")
        new = re.sub(
            rf"(<!-- {name} -->\n).*?(<!-- /{name} -->)",
            lambda marks: f"{marks[1]}\n{table}\n\n{marks[2]}",
            text,
            flags=re.DOTALL,
        )
        if new != text:
            page.write_text(new, encoding="utf-8")
    print(f"{name}\n{table}\n")


PICTURES: list[Callable[[Scenes], plt.Figure]] = [
    *(overview, masking, heads, matching, protocols, controls, tutorial)
]


def main(folder: Path) -> None:
    """Write every picture, as WebP, and every table."""
    prepare(folder)
    scenes = Scenes(folder)
    for draw in PICTURES:
        with style():
            figure = draw(scenes)
            path = PAGES / f"{draw.__name__}.webp"
            figure.savefig(path, dpi=240, pil_kwargs={"quality": 82})
            plt.close(figure)
        print(f"{path}: {path.stat().st_size // 1000} kB")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
