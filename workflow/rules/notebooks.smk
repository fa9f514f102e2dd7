# Notebooks read results and never train; they are in git without outputs and executed here.


rule execute_notebook:
    input:
        notebook=in_repository("notebooks", "{notebook}.ipynb"),
        claims="<results>/claims.csv",
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
        code=code("cli.notebook", "figures.registry", *FIGURE_MODULES),
        settings=lambda wildcards: CONFIG.model_dump_json(),
    message:
        "Execute notebooks/{wildcards.notebook}.ipynb"
    shell:
        "python -m rlscape.cli.notebook --notebook {input.notebook:q} --settings {params.settings:q}"
        " --output {output:q} > {log:q} 2>&1"
