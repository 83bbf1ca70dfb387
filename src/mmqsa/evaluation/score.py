"""Scores of other code's predictions, beside the controls on the same images."""

import re
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from mmqsa.atomic import claimed, write_together
from mmqsa.config.base import validated
from mmqsa.config.evaluation import ControlsConfig
from mmqsa.config.files import quoted
from mmqsa.config.methods import MethodRecord, read_methods
from mmqsa.config.tables import METRICS, NAME
from mmqsa.data.geometry import Geometry
from mmqsa.data.upright import Upright, notice_untold
from mmqsa.errors import InputError
from mmqsa.evaluation.comparable import check_comparable
from mmqsa.evaluation.controls import score_controls
from mmqsa.evaluation.frames import Frame, Placement
from mmqsa.evaluation.label_map_file import PREDICTION, temporary_label_maps
from mmqsa.evaluation.labelled_images import LabelledFolder, LabelledImages
from mmqsa.evaluation.prediction_files import Prediction, Predictions
from mmqsa.evaluation.scoring import Scorer
from mmqsa.paths import COMPRESSED, Paths, beside, label_maps_path
from mmqsa.progress import notice, progress_bar
from mmqsa.reporting.metrics_file import REFERENCE, read_table
from mmqsa.reporting.statistics import over_seeds

__all__ = ["Score", "Summary", "method_record", "score_predictions"]

MANY = 50  # slots of an image, from which on a label map looks like a picture
NAMES = [*REFERENCE, "eval_seed"]


@dataclass(frozen=True)
class Summary:
    """One metric of a method over its seeds, and the best control, in percent."""

    protocol: str
    metric: str
    values: list[float]
    mean: float
    sd: float | None
    n_images: int
    control: str | None = None
    control_value: float | None = None


@dataclass(frozen=True)
class Score:
    """What `score_predictions` found and wrote."""

    record: MethodRecord
    image_set: str
    num_images: int
    num_slots: int
    files: list[Path]
    rows: list[Summary]

    def of(self, protocols: Sequence[str]) -> "Score":
        """The same with the rows of some protocols."""
        return replace(self, rows=[row for row in self.rows if row.protocol in protocols])

    def data(self) -> dict[str, Any]:
        """As plain data, for JSON."""
        metrics = [vars(row) for row in self.rows]
        files = [str(path) for path in self.files]
        shared = {name: getattr(self, name) for name in ("image_set", "num_images", "num_slots")}
        return self.record.model_dump(mode="json") | shared | {"metrics": metrics, "files": files}

    def text(self) -> str:
        """As a Markdown table."""
        table = pd.DataFrame(
            {
                "protocol": row.protocol,
                "metric": METRICS[row.metric],
                self.record.title: _printed(row.mean, row.sd),
                "best control": _printed(row.control_value),
                "which": row.control or "",
                "images": row.n_images,
            }
            for row in self.rows
        )
        align = ("left", "left", "right", "right", "left", "right")
        return table.to_markdown(index=False, disable_numparse=True, colalign=align)


def _printed(mean: float | None, sd: float | None = None) -> str:
    text = "–" if mean is None else f"{mean:.1f}"
    return text if sd is None else f"{text} ± {sd:.1f}"


def method_record(paths: Paths, name: str, **given: str | int | None) -> MethodRecord:
    """The record of a method: the one that is there, or a new one of what is ``given``.

    None is not given; a new one's title is then its name. Raises InputError where the record that
    is there says otherwise, the title is another method's, or another was scored at another size.
    """
    if not re.fullmatch(NAME, name):
        raise InputError(
            f"--name {quoted(name)}: is part of file names; use letters and digits, with - _ . "
            "between them (the --title may be any text)"
        )
    known = read_methods(paths, again=name)
    told = {key: value for key, value in given.items() if value}
    record = known.get(name)
    if record is None:
        record = validated(MethodRecord, {"title": name, "name": name} | told, f"--name {name}")
    for key, value in told.items():
        unknown = key == "image_size" and record.image_size is None
        if (there := getattr(record, key)) != value and not unknown:
            if key == "image_size":
                raise InputError(
                    f"{paths.methods / f'{name}.yaml'}: image_size: is {there}, and labels are of "
                    f"{value} px here; give a --config with backbone.image_size {there}, choose "
                    "another --name, or correct that file"
                )
            option = {"kind": "supervised"}.get(key, key)
            raise InputError(
                f"{paths.methods / f'{name}.yaml'}: {key}: is {quoted(there)}, not "
                f"{quoted(value)}; edit that file, leave out --{option}, or choose another --name"
            )
    for other in known.values():
        if other.title == record.title and other.name != name:
            raise InputError(
                f"--title {quoted(record.title)}: is that of {other.name}; choose another"
            )
        size, others = record.image_size, other.image_size
        if size and others and size != others:
            raise InputError(
                f"{paths.results}: {other.name} is scored at {others} px, not {size}; choose "
                "another --results, or another --config"
            )
    return record


def score_predictions(
    labels: LabelledImages,
    predictions: Sequence[Predictions],
    record: MethodRecord,
    paths: Paths,
    frame: Frame = "photograph",
    controls: ControlsConfig | None = None,
    train: LabelledImages | None = None,
    protocols: Sequence[str] = (),
) -> Score:
    """Score predictions of the images of ``labels`` and write them below ``paths`` as a method's.

    Each of ``predictions`` is a seed of the method. All of them are read and checked before
    anything is written. With ``controls`` they are scored too, unless they are there already;
    ``train`` are labels to fit their fixed boxes to. Raises InputError on a prediction that does
    not fit its image, where other scores of that name are there, which stay, where something is
    scored on other images or labels of that image set, and where the labels allow none of
    ``protocols``.
    """
    scorer = Scorer(labels, single_boxes=True)
    if protocols and not scorer.protocols & {*protocols}:
        raise InputError(
            f"--protocol {protocols[0]}: {labels.path} has no labels for it; expected "
            f"{' or '.join(sorted(scorer.protocols))}"
        )
    placed = _Placed(labels, predictions, frame)
    num_slots = placed.most_slots()
    path = paths.method(labels.name, record.name)
    by_controls = paths.reference(labels.name, "controls")
    if controls is not None and not _missing_controls(by_controls):
        _check_fixed_boxes(by_controls, train)
    made: list[Path] = []
    files = [path, paths.methods / f"{record.name}.yaml"]
    with ExitStack() as stack:
        stack.enter_context(claimed(path))
        writer = None
        if labels.attributes["geometry"] != "native":  # the page shows squares
            files.append(label_maps_path(path))
            writer = stack.enter_context(temporary_label_maps(files[-1], labels.ids))
        for seed, index, found in placed:
            if writer and not seed:
                writer.write(PREDICTION, slice(index, index + 1), found.labels[None])
            scorer.add(
                [index],
                [found.labels],
                boxes=[found.boxes],
                with_objects=seed == 0,
                name=record.name,
                num_slots=num_slots,
                eval_seed=seed,
            )
        check_comparable(paths, record.name, labels, scorer)
        if controls is not None:
            with claimed(by_controls, wait=True):  # another method's score may be making them
                if _missing_controls(by_controls):
                    made.append(_scored_controls(labels, by_controls, controls, train))
        new: dict[Path, bytes | Path] = {files[-1]: writer.close()} if writer else {}
        new |= scorer.files(path, NAMES)
        means = new.pop(path)  # the last: without them the others do not count
        if not files[1].exists():
            new[files[1]] = record.text().encode()
        try:
            write_together(new | {path: means})
        except InputError as error:
            raise InputError(
                f"--name {record.name}: {path.parent} has scores of other predictions by that "
                f"name; remove {path.stem}* there, or choose another --name or --results"
            ) from error
    rows = _summaries(path, by_controls if controls is not None else None)
    return Score(record, labels.name, len(labels.ids), num_slots, files + made, rows)


class _Placed:
    """Predictions of every seed in the labels' geometry: seed, index of the image, prediction."""

    def __init__(self, labels: LabelledImages, predictions: Sequence[Predictions], frame: Frame):
        self._labels, self._predictions, self._ids = labels, predictions, labels.ids
        native = labels.attributes["geometry"] == "native"  # a cache of these knows sizes as well
        self._sizes_known = native or isinstance(labels, LabelledFolder)
        geometry = Geometry(labels.attributes["geometry"], labels.side)
        self._place = Placement(frame, geometry, self._sizes_known)

    def _photograph(self, index: int) -> Upright | None:
        """A photograph's size, and how EXIF turns it, as far as the labels know."""
        if isinstance(self._labels, LabelledFolder):
            return self._labels.uprights[index]
        return Upright(self._labels.size(index)) if self._sizes_known else None

    def __iter__(self) -> Iterator[tuple[int, int, Prediction]]:
        for index in progress_bar(range(len(self._ids)), desc="score", unit=" images"):
            for seed in range(len(self._predictions)):
                yield seed, index, self._of(seed, index)[1]

    def _of(self, seed: int, index: int) -> tuple[Prediction, Prediction]:
        """As it is in the file, and in the labels' geometry."""
        predictions, image_id = self._predictions[seed], self._ids[index]
        photograph = self._photograph(index)
        found = predictions.of(image_id, photograph.size if photograph else None)
        return found, self._place(found, photograph, f"{predictions.path}: {image_id}")

    def most_slots(self) -> int:
        """The most slots that any image has. Raises InputError on any prediction that is unfit."""
        most, squares, untold = 0, True, dict[str, None]()
        alike = set(range(1, len(self._predictions)))  # seeds that are as the first everywhere
        for index in progress_bar(range(len(self._ids)), desc="check", unit=" images"):
            first = None
            for seed in range(len(self._predictions)):
                found, placed = self._of(seed, index)
                first = first or found
                if not _same(first, found):
                    alike.discard(seed)
                most = max(most, len(np.unique(placed.labels)))
                squares &= found.labels.shape[0] == found.labels.shape[1]
                photograph = self._photograph(index)
                if photograph and not self._place.told(found, photograph):
                    untold[self._ids[index]] = None
        notice_untold(untold, len(self._ids), "predictions")
        if turned := self._labels.attributes.get("exif_turned"):
            notice(
                f"{self._labels.path}: EXIF turns {turned} of {len(self._ids)} photographs, and "
                "predictions count as those of upright ones; if they were made on the stored "
                "pixels, give --data in place of --features, which tells from their sizes"
            )
        if alike:
            raise InputError(
                f"{self._predictions[min(alike)].path}: the same predictions as "
                f"{self._predictions[0].path}; seeds are those of separate trainings, so give "
                "each once"
            )
        if most >= MANY:
            notice(
                f"{self._predictions[0].path}: up to {most} slots in an image; is it a picture, or "
                "was it resized with interpolation?"
            )
        cropped = self._place.frame == "photograph" and self._place.geometry.kind == "crop"
        if squares and cropped and not self._sizes_known:
            raise InputError(
                f"{self._predictions[0].path}: all label maps are squares; use --frame square if "
                "they cover the central squares, or --data in place of --features, which tells"
            )
        return most


def _same(one: Prediction, other: Prediction) -> bool:
    """Whether two predictions of an image have the same slots and the same boxes, or none."""
    if one.boxes is None or other.boxes is None:
        return one.boxes is other.boxes and np.array_equal(one.labels, other.labels)
    return np.array_equal(one.labels, other.labels) and np.array_equal(one.boxes, other.boxes)


def _missing_controls(metrics: Path) -> list[Path]:
    """The files of the controls that are not there: all of them, before the first score."""
    files = [metrics, *(beside(metrics, kind) for kind in COMPRESSED)]
    return [path for path in files if not path.exists()]


def _scored_controls(
    labels: LabelledImages, metrics: Path, controls: ControlsConfig, train: LabelledImages | None
) -> Path:
    """Score the controls; returns their metrics file.

    Raises InputError where some files of theirs are there, and of other controls.
    """
    slots, seeds = controls.slots.num_slots, controls.evaluation.seeds
    missing = _missing_controls(metrics)
    if len(missing) <= len(COMPRESSED):
        notice(f"{missing[0]}: missing; the controls are scored again")
    try:
        return score_controls(labels, metrics.parent, train, slots, seeds)
    except InputError as error:
        raise InputError(
            f"{metrics.parent}: the controls of which some files are missing are others than those "
            "of --train, slots.num_slots and evaluation.seeds here; give the --train and --config "
            f"that they were made with, or remove {metrics.stem}* there"
        ) from error


def _check_fixed_boxes(controls: Path, train: LabelledImages | None) -> None:
    """Raises InputError where the controls that are there lack the fixed boxes asked for."""
    names = set(read_table(controls, "", REFERENCE)["name"])
    if train is not None and "best fixed box" not in names:
        raise InputError(
            f"{controls}: has no fixed boxes; leave out --train, or remove the controls there"
        )


def _summaries(path: Path, controls: Path | None) -> list[Summary]:
    """Every metric that any image has, beside the control that is best in it."""
    keys, rows = ["protocol", "metric"], []
    best: dict[tuple[str, str], pd.Series] = {}
    if controls is not None:
        table = read_table(controls, "", REFERENCE)
        means = table.groupby([*keys, "name"], sort=False)["value"].mean().dropna().reset_index()
        of_best = means.loc[means.groupby(keys)["value"].idxmax()]
        best = {(row["protocol"], row["metric"]): row for _, row in of_best.iterrows()}
    scores = read_table(path, "", REFERENCE).dropna(subset="value")
    for (protocol, metric), group in scores.groupby(keys, sort=False):
        spread, control = over_seeds(group["value"]), best.get((protocol, metric))
        rows.append(
            Summary(
                protocol=protocol,
                metric=metric,
                values=group["value"].tolist(),
                mean=float(spread["mean"]),
                sd=float(spread["sd"]) if "sd" in spread else None,
                n_images=int(group["n_images"].iloc[0]),
                control=None if control is None else str(control["name"]),
                control_value=None if control is None else float(control["value"]),
            )
        )
    return rows
