# From photographs to the paper's tables. Read config.yaml first; `snakemake -n` prints the plan.
from snakemake.utils import min_version, validate

min_version("9.0")


configfile: "config.yaml"


validate(config, "workflow/schemas/config.schema.yaml", set_default=False)


include: "workflow/rules/common.smk"
include: "workflow/rules/functions.smk"
include: "workflow/rules/resources.smk"
include: "workflow/rules/settings.smk"
include: "workflow/rules/data.smk"
include: "workflow/rules/features.smk"
include: "workflow/rules/training.smk"
include: "workflow/rules/evaluation.smk"
include: "workflow/rules/reporting.smk"


localrules:
    all,
    tables,
    figures,
    settings,
    data,


# One training per GPU on this machine; a cluster's scheduler counts its own.
resource_scopes:
    gpu="local",


rule all:
    default_target: True
    input:
        TABLES,
        FIGURES,
        PREMISE,


rule tables:
    input:
        TABLES,


rule figures:
    input:
        FIGURES,
