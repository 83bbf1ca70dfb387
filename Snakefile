# The workflow is in workflow/. With this file `snakemake` finds it, and the profiles beside it.
include: "workflow/Snakefile"


workflow.default_target = "all"  # an included file does not set it
