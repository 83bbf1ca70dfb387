"""The functions behind the rules' inputs and params."""

BY_ROOT = {dataset.root: dataset for dataset in CONFIG.datasets.values()}


def settings_text(wildcards):
    """What stands in a settings file: what its readers depend on, and nothing else."""
    folder, _, name = wildcards.name.rpartition("/")
    if folder == "tables":
        return table_spec(CONFIG, name)
    if folder == "runs":
        return dump_yaml(CONFIG.setting(name).for_stage("run"))
    if folder:  # of one of the data sets
        dataset = CONFIG.datasets[folder.removeprefix("data/")]
        return dump_yaml(CONFIG.model_copy(update={"dataset": dataset}).for_stage(name))
    return dump_yaml(CONFIG.for_stage(name))


def data_stage(dataset):
    """The stage that provides a data set."""
    return "scenes" if dataset.kind == "scenes" else "download"


def evaluated_cache(wildcards):
    """The feature cache that a run or a control is scored on."""
    return cache(IMAGE_SETS[wildcards.image_set])


def evaluated_identity(wildcards):
    """What that cache was made with."""
    return identity(IMAGE_SETS[wildcards.image_set])


def run_files(setting, *files):
    """The given files of every seed's run of a setting."""
    return [
        f"{RESULTS}/runs/{setting}/seed{seed}/{file}"
        for seed in CONFIG.seeds
        for file in files
    ]


def table_files(table, *files):
    """The given files of every run in a table, those of settings that are not run left out."""
    return [path for name in CONFIG.rows(table) for path in run_files(name, *files)]


def table_sets(table):
    """All image sets of a table."""
    return list(chain(*CONFIG.image_sets(table).values()))


def table_metrics(wildcards):
    """The metrics of all runs in a table, on all of its image sets."""
    table = CONFIG.tables[wildcards.table]
    if table.kind in ("compute", "provenance"):
        return []
    suffix = "-sweep" if table.kind == "sweep" else ""
    names = [f"metrics/{image_set.name}{suffix}.csv" for image_set in table_sets(table)]
    found = table_files(table, *names)
    if table.kind == "diagnosis":  # of the first setting what its heads do as well
        names = [
            f"metrics/{image_set.name}-agreement.csv" for image_set in table_sets(table)
        ]
        found += [
            path for name in CONFIG.rows(table)[:1] for path in run_files(name, *names)
        ]
    return found


def table_references(wildcards):
    """Controls and other methods on all image sets of a table that shows them."""
    table = CONFIG.tables[wildcards.table]
    shown = [] if table.references == "none" else table_sets(table)
    return [path for image_set in shown for path in references(image_set)]


def references(image_set):
    """The metrics of controls and other methods on an image set."""
    kinds = ["controls", *CONFIG.evaluation.baselines]
    if image_set.variant == "squash" and "oracle" in kinds:
        kinds.remove("oracle")  # of label maps; these images are scored by boxes
    return [f"{RESULTS}/controls/{image_set.name}-{kind}.csv" for kind in kinds]


def table_runs(wildcards):
    """The records of the trainings of all runs in a table."""
    table = CONFIG.tables[wildcards.table]
    return table_files(table, "history.csv", "provenance.json", "settings.yaml")


def table_labels(wildcards):
    """What a table is called in the report."""
    # One label alone: of two the report makes switches, and breaks where a combination is missing.
    return {"table": CONFIG.tables[wildcards.table].caption}


def table_theme(wildcards):
    """Where a table stands in the report."""
    kind = CONFIG.tables[wildcards.table].kind
    return {
        "claims": "Verdicts",
        "diagnosis": "Verdicts",
        "comparisons": "Verdicts",
        "compute": "Runs",
        "provenance": "Runs",
    }.get(kind, "Metrics")


def figure_labels(wildcards):
    """What a figure is called in the report."""
    return {"figure": f"{wildcards.table}: {wildcards.kind}"}


def gallery_labels(wildcards):
    """What a gallery is called in the report."""
    return {"figure": wildcards.gallery}


def data_settings(wildcards):
    """The settings of the stage that provides the data set below a root."""
    dataset = BY_ROOT[wildcards.root]
    own = CONFIG.model_copy(update={"dataset": dataset})
    return dump_yaml(own.for_stage(data_stage(dataset)))


def stage_of_root(wildcards):
    """The stage that provides the data set below a root."""
    return data_stage(BY_ROOT[wildcards.root])


def receipt(wildcards):
    """What says that the photographs are there."""
    return f"{CONFIG.datasets[wildcards.dataset].root}/receipt.json"


def split(wildcards):
    """The split of the image set that a cache is called after."""
    return ImageSet.parse(wildcards.file, wildcards.dataset).split


def variant(wildcards):
    """How its images are changed, as an option."""
    changed = ImageSet.parse(wildcards.file, wildcards.dataset).variant
    return f"--variant {changed}" if changed else ""


def learned_similarity(wildcards):
    """The learned similarity of a run, where some table prints its matching."""
    return (
        f"{RESULTS}/runs/{wildcards.setting}/seed{wildcards.seed}/similarity.safetensors"
        if "learned" in printed("matchings", CONFIG.matching.strategies, wildcards)
        else []
    )


def printed(what, known, wildcards):
    """Of the known matchings or mask sources, those that some table prints of these scores."""
    tables = CONFIG.tables_with(wildcards.setting, IMAGE_SETS[wildcards.image_set])
    wanted = {name for table in tables for name in getattr(table, what)}
    return [name for name in known if name in wanted] or known[:1]


def printed_options(wildcards):
    """The same as options of the stage."""
    matchings = printed("matchings", CONFIG.matching.strategies, wildcards)
    sources = printed("mask_sources", CONFIG.evaluation.mask_sources, wildcards)
    return " ".join(
        [f"--matching {name}" for name in matchings]
        + [f"--mask-source {name}" for name in sources]
    )


def _can_fit(wildcards):
    """Whether the training cache's labels fit the images."""
    return IMAGE_SETS[wildcards.image_set].variant == TRAIN_SET.variant


def fitting_cache(wildcards):
    """The training cache, for controls that are fitted."""
    return ancient(TRAIN_CACHE) if _can_fit(wildcards) else []


def fitting_identity(wildcards):
    """What that cache was made with."""
    return TRAIN_IDENTITY if _can_fit(wildcards) else []


def fitting_option(wildcards, input):
    """The same as an option of the stage."""
    return f"--train {input.train}" if input.train else ""
