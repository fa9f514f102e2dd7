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


rule plot_pilots:
    input:
        choices="<results>/pilots.csv",
    output:
        svg="<figures>/pilots.svg",
        png="<figures>/pilots.png",
        csv="<figures>/pilots.csv",
    log:
        "<logs>/plot_pilots.log",
    benchmark:
        "<benchmarks>/plot_pilots.tsv"
    threads: 1
    resources:
        mem_mb=1000,
        runtime="10m",
    params:
        code=code("pipeline.plot_figure", "figures.pilots"),
        settings=lambda wildcards: CONFIG.model_dump_json(),
        stem=without_suffix_of("svg"),
    message:
        "Plot what pilots chose"
    shell:
        "python -m rlscape.pipeline.plot_figure --target pilots --settings {params.settings:q}"
        " --output-stem {params.stem:q} > {log:q} 2>&1"
