"""Settings files: for every stage just what its outcome depends on.

A change in config.yaml changes the text of some of these files, and only the stages that read them
run again. No job reads the whole config.
"""


rule settings:
    output:
        f"{RESULTS}/settings/{{name}}.yaml",
    log:
        f"{RESULTS}/logs/settings/{{name}}.log",
    conda:
        "../../environment.yml"
    params:
        text=settings_text,
    shell:
        "printf '%s' {params.text:q} > {output} 2> {log}"
