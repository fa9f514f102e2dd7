# Notebooks read results and never train; they are in git without outputs and executed here.


rule execute_notebook:
    input:
        notebook=in_repository("notebooks", "{notebook}.ipynb"),
        claims="<results>/claims.csv",
        summary="<results>/fits/arms.parquet" if SCALERL_ARMS else [],
        results=results_of_scale(),
    output:
        "<results>/notebooks/{notebook}.ipynb",
    log:
        "<logs>/execute_notebook/{notebook}.log",
    benchmark:
        "<benchmarks>/execute_notebook/{notebook}.tsv"
    threads: 1
    resources:
        mem_mb=1000,
        runtime="10m",
    params:
        arms=lambda wildcards: describe_arms(CONFIG.seeds),
        figures=lambda wildcards: describe_figures(),
        code=code("pipeline.execute_notebook", "figures.registry", *FIGURE_MODULES),
        settings=lambda wildcards: CONFIG.model_dump_json(),
    message:
        "Execute notebooks/{wildcards.notebook}.ipynb"
    shell:
        "python -m rlscape.pipeline.execute_notebook --notebook {input.notebook:q} --settings {params.settings:q}"
        " --output {output:q} > {log:q} 2>&1"
