# Curve fits: what is measured on finished learning curves.


rule fit_curve:
    input:
        metrics="<results>/runs/{run}/metrics.parquet",
        base_evaluation=base_evaluation_of_run,
    output:
        forecast="<results>/forecasts/{run}{other}.json",
        fit="<results>/fits/{run}{other}.json",
    log:
        "<logs>/fit_curve/{run}{other}.log",
    benchmark:
        "<benchmarks>/fit_curve/{run}{other}.tsv"
    wildcard_constraints:
        run=r"[a-z0-9_]+-s\d+",
        other=r"(_[a-z0-9_]+)?",
    threads: 1
    resources:
        mem_mb=1000,
        runtime="30m",
    params:
        code=code("pipeline.fit_curve"),
        task=task_of_curve,
        prefix=lambda wildcards: column_prefix(wildcards.other[1:]) if wildcards.other else "",
        settings=lambda wildcards: CONFIG.fit.model_dump_json(),
    message:
        "Forecast {wildcards.run} ({params.task}) from the first part of its compute, then fit all of it"
    shell:
        "python -m rlscape.pipeline.fit_curve --metrics {input.metrics:q}"
        " --base-evaluation {input.base_evaluation:q} --task {params.task} --prefix={params.prefix:q}"
        " --settings {params.settings:q} --forecast {output.forecast:q} --output {output.fit:q} > {log:q} 2>&1"


rule summarise_fits:
    input:
        fits=expand("<results>/fits/{run}.json", run=runs_of(CONFIG, SCALERL_ARMS)),
        metrics=expand("<results>/runs/{run}/metrics.parquet", run=runs_of(CONFIG, SCALERL_ARMS)),
    output:
        "<results>/fits/arms.parquet",
    log:
        "<logs>/summarise_fits.log",
    benchmark:
        "<benchmarks>/summarise_fits.tsv"
    threads: 1
    resources:
        mem_mb=1000,
        runtime="30m",
    params:
        code=code("pipeline.summarise_fits"),
        settings=lambda wildcards: CONFIG.fit.model_dump_json(),
        reference="--reference-arm scalerl" if "scalerl" in CONFIG.seeds else "",
    message:
        "Summarise the fits of each arm over its seeds"
    shell:
        "python -m rlscape.pipeline.summarise_fits --fits {input.fits:q} --metrics {input.metrics:q}"
        " {params.reference} --settings {params.settings:q} --output {output:q} > {log:q} 2>&1"
