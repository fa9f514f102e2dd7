# Figures and tables: one rule, one module per figure under src/rlscape/figures/.


rule plot_figure:
    input:
        results=results_of_figure,
    output:
        svg=report(
            "<figures>/{paper}/{stem}.svg",
            caption="../report/figure.rst",
            category=lambda wildcards: PAPERS[wildcards.paper],
            labels=lambda wildcards: {"figure": wildcards.stem},
        ),
        png="<figures>/{paper}/{stem}.png",
        csv="<figures>/{paper}/{stem}.csv",
    log:
        "<logs>/plot_figure/{paper}_{stem}.log",
    benchmark:
        "<benchmarks>/plot_figure/{paper}_{stem}.tsv"
    wildcard_constraints:
        paper=one_of(PAPERS),
        stem=one_of(sorted({figure.stem for figure in FIGURES})),
    threads: 1
    resources:
        mem_mb=1000,
        runtime="10m",
    params:
        code=code_of_figure,
        target=lambda wildcards: figure_at(wildcards).target,
        arms=lambda wildcards: describe_arms(arms_of(CONFIG, figure_at(wildcards))),
        settings=settings_of_figure,
        stem=without_suffix_of("svg"),
    message:
        "Plot {wildcards.paper}/{wildcards.stem}"
    shell:
        "python -m rlscape.pipeline.plot_figure --target {params.target} --settings {params.settings:q}"
        " --output-stem {params.stem:q} > {log:q} 2>&1"
