"""Config files: for every stage exactly the values that its output depends on.

A change in config.yaml changes some of these files, and only the stages that read them run again.
"""


rule stage_config:
    output:
        str(PATHS.stage_config("{name}")),
    log:
        str(PATHS.log("config/{name}")),
    conda:
        "../../environment.yml"
    params:
        text=config_text,
    shell:
        "printf '%s' {params.text:q} > {output:q} 2> {log:q}"
