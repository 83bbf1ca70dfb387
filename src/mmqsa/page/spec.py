"""What a page shows: enough to make it of a results folder without the config."""

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

from pydantic import Field

from mmqsa.config.base import Distinct, Name, OneOrMore, Section, Seed, Text, validated
from mmqsa.config.files import dump_yaml, read_yaml
from mmqsa.config.methods import MethodRecord, read_methods
from mmqsa.config.tables import Label
from mmqsa.config.workflow import Config
from mmqsa.paths import Paths, beside, label_maps_path
from mmqsa.reporting.inputs import figures, references

# Why photographs must not be published; of scenes there are none.
PHOTOGRAPHERS = (
    "The photographs belong to their photographers on Flickr: do not publish this page. To publish "
    "the results, make it without them (photographs: false, under page: in config.yaml)."
)
CONTROLS = "controls"


class PageSpec(Section):
    """The parts of one page."""

    title: Text
    facts: dict[str, Text]
    """what was run, by its heading"""
    image_set: Name
    """the images of the explorer"""
    answer: Name | None
    """the table on the first screen"""
    tables: dict[Name, list[str]]
    """every table, with the kinds of its figures"""
    showcase: Name
    settings: dict[Name, Annotated[list[Seed], Field(min_length=1)]]
    """those whose masks are shown, with the seeds that are"""
    labels: dict[str, Label]
    """printed names of settings and matchings"""
    trained: dict[Name, OneOrMore[Seed]]
    """every setting that is run, with all its seeds"""
    references: Distinct[Name]
    """baselines, and the controls"""
    photographs: bool
    notice: str
    """on passing the photographs on; empty where they may be"""

    @property
    def shown(self) -> Iterator[tuple[str, int]]:
        """Setting and seed of every run whose masks are shown."""
        return ((name, seed) for name, seeds in self.settings.items() for seed in seeds)

    def methods(self, paths: Paths) -> list[MethodRecord]:
        """The methods of other code whose masks are shown: those with label maps."""
        records = read_methods(paths).values()
        metrics = {record.name: paths.method(self.image_set, record.name) for record in records}
        return [one for one in records if label_maps_path(metrics[one.name]).is_file()]

    def files(self, paths: Paths) -> list[Path]:
        """The files below a results folder that the explorer reads, besides the feature cache."""
        other = [record.name for record in self.methods(paths)]
        metrics = [paths.metrics(*run, self.image_set) for run in self.shown]
        metrics += [paths.reference(self.image_set, name) for name in self.references]
        metrics += [paths.method(self.image_set, name) for name in other]
        scores = [beside(path, "per_image") for path in metrics]
        records = [paths.methods / f"{name}.yaml" for name in other]
        return [*map(label_maps_path, metrics), *scores, *records]


def make_spec(config: Config) -> PageSpec:
    """The spec of a config's page."""
    evaluated, page, dataset = (
        config.split_set(config.dataset.eval_split),
        config.page,
        config.dataset,
    )
    tables = {
        name: figures(config, table) for name, table in config.tables.items() if config.rows(table)
    }
    answer = page.answer if page.answer in tables else next(iter(tables), None)
    labels = dict(config.printed_names)
    for table in config.tables.values():  # one that compares matchings has their names
        if table.kind == "metrics" and len(table.matchings) > 1:
            known = {one: table.labels[one] for one in table.matchings if one in table.labels}
            labels = known | labels
    shown = [name for name in page.settings or config.names if name in config.names]
    trained = {name: config.seeds_of(name) for name in config.names}
    training, slots, backbone = config.training, config.slots, config.backbone
    hidden = f", {config.masking.ratio:.0%} of the patches hidden" * (
        config.masking.strategy != "none"
    )
    return PageSpec(
        title=f"{dataset.name}, {backbone.title or backbone.name}",
        facts={
            "Data": f"{dataset.name}, {dataset.eval_split}; trained on {dataset.train_split}",
            "Features": f"{backbone.title or backbone.name}"
            f"{'' if backbone.pretrained else ' with random weights'}, {backbone.feature} of "
            f"{backbone.image_size} px",
            "Model": f"{slots.num_slots} slots, {slots.num_heads} heads{hidden}",
            "Training": f"{training.steps:,} steps of {training.batch_size} images",
        },
        image_set=evaluated.name,
        answer=answer,
        tables=tables,
        showcase=config.showcase,
        settings={name: trained[name][: page.num_seeds] for name in shown},
        labels=labels,
        trained=trained,
        references=references(config, evaluated),
        photographs=page.photographs,
        notice=PHOTOGRAPHERS if page.photographs and dataset.kind != "scenes" else "",
    )


def page_spec(config: Config) -> str:
    """The YAML text of that spec."""
    return dump_yaml(make_spec(config).model_dump(mode="json"))


def load_spec(path: Path) -> PageSpec:
    """Read a spec. Raises InputError that names the file and the key."""
    return validated(PageSpec, read_yaml(path), path)
