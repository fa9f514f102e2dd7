# What pilots choose: learning rates, and controls in which effects show.


rule choose_pilots:
    input:
        results_of_choices(),
    output:
        "<results>/pilots.csv",
    log:
        "<logs>/choose_pilots.log",
    benchmark:
        "<benchmarks>/choose_pilots.tsv"
    threads: 1
    resources:
        mem_mb=1000,
        runtime="10m",
    params:
        code=code("pipeline.choose_pilots"),
        choices=[choice.model_dump_json() for choice in choices_of(CONFIG)],
        settings=lambda wildcards: CONFIG.model_dump_json(),
    message:
        "Choose arms by what pilots show"
    shell:
        "python -m rlscape.pipeline.choose_pilots --settings {params.settings:q} --output {output:q} > {log:q} 2>&1"
