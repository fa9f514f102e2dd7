"""Pairs of runs as the pipeline measures them: random weights, updates that share their large entries."""

import json

import numpy as np
import torch
from safetensors.torch import save_file

from rlscape.catalogue import ARMS, first_run, runs_of
from rlscape.catalogue.grids import FOOTPRINT
from rlscape.files import write_json, write_parquet
from rlscape.geometry.measure import measure_update
from rlscape.geometry.pairs import ComparedRun, compare_runs
from rlscape.models.config import DecoderConfig
from rlscape.models.interventions import INTERVENTION_FILE, Gauge
from rlscape.models.weight_files import WEIGHTS
from rlscape.paths import results_dir
from rlscape.settings.measurement import GeometrySettings, Intervention, LayerEdit
from rlscape.settings.scale import Config

SETTINGS = GeometrySettings(rank_fraction=0.25, null_draws=2)
INTERVENTION = Intervention(
    edits=(LayerEdit(depth=20 / 36, rotate=True, permute=True), LayerEdit(depth=25 / 36, rotate=True))
)
LAYERS, HIDDEN, HEADS, KV_HEADS, HEAD_DIM = 3, 16, 4, 2, 8
ARCHITECTURE = {
    "model_type": "qwen3",
    "vocab_size": 23,
    "hidden_size": HIDDEN,
    "intermediate_size": 24,
    "num_hidden_layers": LAYERS,
    "num_attention_heads": HEADS,
    "num_key_value_heads": KV_HEADS,
    "head_dim": HEAD_DIM,
    "rms_norm_eps": 1e-6,
    "rope_parameters": {"rope_theta": 1e4},
    "max_position_embeddings": 64,
}
SHAPES = {
    "self_attn.q_proj": (HEADS * HEAD_DIM, HIDDEN),
    "self_attn.k_proj": (KV_HEADS * HEAD_DIM, HIDDEN),
    "self_attn.v_proj": (KV_HEADS * HEAD_DIM, HIDDEN),
    "self_attn.o_proj": (HIDDEN, HEADS * HEAD_DIM),
    "mlp.gate_proj": (24, HIDDEN),
    "mlp.up_proj": (24, HIDDEN),
    "mlp.down_proj": (HIDDEN, 24),
}


def draw(scale: float, power: int, generator: torch.Generator) -> dict[str, torch.Tensor]:
    """Values of every matrix, float64."""
    return {
        f"model.layers.{layer}.{module}.weight": scale
        * torch.randn(shape, generator=generator, dtype=torch.float64) ** power
        for layer in range(LAYERS)
        for module, shape in SHAPES.items()
    }


def write_pair_results(config: Config, sgd: bool = False) -> None:
    """Both groups' pairs and stripes, and the footprint runs' masks; the arms' seeds are those of ``config``.

    An intervened run's update is what it would be on the base, mapped.
    """
    root = results_dir(config)
    random = torch.Generator().manual_seed(0)
    gauge = Gauge.of(INTERVENTION, DecoderConfig.parse(ARCHITECTURE))
    weights = {name: w.bfloat16().float() for name, w in draw(0.03, 1, random).items()}
    shared = draw(3e-5, 3, random)
    bases = {"deep": weights, "deep_gauge": {name: w.bfloat16().float() for name, w in gauge.apply(weights).items()}}
    for base, state in bases.items():
        (root / "bases" / base).mkdir(parents=True, exist_ok=True)
        save_file(state, root / "bases" / base / WEIGHTS)
        write_json(root / "bases" / base / "config.json", ARCHITECTURE)
    write_json(root / "bases/deep_gauge" / INTERVENTION_FILE, {"settings": json.loads(INTERVENTION.model_dump_json())})

    intervened = ["rlvr", "rlvr_intervened", *(["rlvr_sgd", "rlvr_intervened_sgd"] if sgd else [])]
    groups = {
        "footprint": [first_run(config, arm) for arm in (*FOOTPRINT, "rlvr", "sft")],
        "intervened": runs_of(config, intervened),
    }
    for group, runs in groups.items():
        compared = []
        for run in runs:
            changed = ARMS[run.rpartition("-s")[0]].intervention is not None
            base, model = root / "bases" / ("deep_gauge" if changed else "deep"), root / "runs" / run / "model"
            update = draw(3e-5, 1, random)
            if not run.startswith("sft"):
                update = {name: own + shared[name] for name, own in update.items()}
            update = gauge.apply(update) if changed else update
            model.mkdir(parents=True, exist_ok=True)
            save_file({name: (w + update[name]).float() for name, w in bases[base.name].items()}, model / WEIGHTS)
            original = root / "bases/deep" if changed else None
            compared.append(ComparedRun(run=run, base=base, model=model, original=original))
            if run.startswith("footprint"):
                masks = measure_update(base, model, SETTINGS, random).masks
                (root / "geometry" / run).mkdir(parents=True, exist_ok=True)
                np.savez_compressed(root / "geometry" / run / "masks.npz", **masks)
        measured = compare_runs(compared, SETTINGS, random)
        write_parquet(root / "geometry" / f"pairs_{group}.parquet", measured.pairs)
        write_parquet(root / "geometry" / f"stripes_{group}.parquet", measured.stripes)
