#!/usr/bin/env python3
"""Trains the demo model, stage by stage.

    train.py autoencoder --minutes 4 --assets A --state S
    train.py pretrain --minutes 9 --of 24 --assets A --state S --out O
    train.py finetune --init O/model --minutes 2 --assets A --state S --out P
    train.py prefer | reward, in the same way
    train.py align [--order reward_first], in the same way: these three one after another
    train.py sample --init O/model --lists english chinese --save PICTURES
    train.py probe --assets A --state S

A is the folder that fonts.py wrote, S one for resumable state. `autoencoder` leaves its weights
in S, where `pretrain` finds them. Every other stage writes a checkpoint to O/model, with the log
and its plot.

`--minutes` limits this call and `--of` the whole stage: repeat a command with the same S until the
stage is finished. `pretrain --init MODEL --spent M` continues from a written checkpoint as if M
minutes of the stage had passed, where S is lost. `probe` measures the speed of each part.
`torchrun --standalone --nproc-per-node N train.py pretrain …` divides each batch among N GPUs.
"""

import argparse
import importlib
import os
import random
import shutil
import sys
from pathlib import Path

import tomllib

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

HERE = Path(__file__).parent
LATER_STAGES = {
    "finetune": "finetuning", "prefer": "preference", "reward": "reward", "align": "sequence",
}  # fmt: skip
"""Commands of the stages after pre-training, and their modules and configuration files."""


def read_config(what: str, smoke: bool) -> dict:
    """config.toml, with the tables of the stages that have a file of their own, and the values of
    smoke.toml over them if `smoke`."""
    config = tomllib.loads((HERE / "config.toml").read_text("utf-8"))
    names = LATER_STAGES.values() if what == "align" else [LATER_STAGES.get(what)]
    for name in filter(None, names):
        config[name] = tomllib.loads((HERE / "stages" / f"{name}.toml").read_text("utf-8"))
    if smoke:
        for name, table in tomllib.loads((HERE / "smoke.toml").read_text("utf-8")).items():
            if name in config:
                config[name] |= table
    return config


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "what", choices=("autoencoder", "pretrain", *LATER_STAGES, "sample", "probe")
    )
    parser.add_argument("--minutes", type=float, default=3.0)
    parser.add_argument("--of", type=float, help="minutes of the whole stage, over all calls")
    parser.add_argument("--spent", type=float, default=0.0, help="minutes of it before `--init`")
    parser.add_argument("--deadline", type=float, help="Unix time when training must be over")
    parser.add_argument("--assets", type=Path, help="folder that fonts.py wrote")
    parser.add_argument("--state", type=Path, help="folder for resumable state")
    parser.add_argument("--out", type=Path, help="folder for checkpoint, log and plot")
    parser.add_argument("--init", type=Path, help="a checkpoint to start from")
    parser.add_argument("--autoencoder", type=Path, help="one trained before, as a folder")
    parser.add_argument("--no-graphs", action="store_true", help="do not record CUDA graphs")
    parser.add_argument("--no-compile", action="store_true", help="do not compile blocks")
    parser.add_argument("--smoke", action="store_true", help="a tiny model, for a CPU")
    parser.add_argument("--order", help="of `align`: one of those in stages/sequence.toml")
    parser.add_argument("--lists", nargs="+", default=[], help="of `sample`: held-out lists")
    parser.add_argument("--save", type=Path, help="of `sample`: folder for the pictures")
    args = parser.parse_args()
    needed = ("init", "save") if args.what == "sample" else ("assets", "state")
    if missing := [f"--{name}" for name in needed if getattr(args, name) is None]:
        parser.error(f"{args.what} needs {' and '.join(missing)}")
    args.state = args.state or args.save
    return args


def main() -> int:
    args = parse()
    args.state.mkdir(parents=True, exist_ok=True)
    # Compiled kernels are kept with the state, so that the next call does not compile them again.
    os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", str(args.state.resolve() / "inductor"))
    import numpy as np
    import torch

    from training import models as model_parts
    from training.ranks import Ranks
    from training.run import Clock, Log

    ranks = Ranks()
    if ranks.count > 1 and args.what != "pretrain":
        print(f"{args.what} runs on one GPU: start it without torchrun", file=sys.stderr)
        return 2
    config = read_config(args.what, args.smoke)
    random.seed(config["seed"])
    np.random.seed(config["seed"])
    torch.manual_seed(config["seed"])
    torch.set_float32_matmul_precision("high")
    torch.backends.cudnn.benchmark = True
    torch.backends.cudnn.benchmark_limit = 4
    # cuDNN's attention has produced NaN gradients here; flash attention has not.
    torch.backends.cuda.enable_cudnn_sdp(False)
    # All blocks share one code object, and each of their shapes counts towards its limit.
    torch._dynamo.config.recompile_limit = 64
    device = ranks.device
    log = Log(args.state / "log.jsonl") if ranks.first else lambda **values: None

    models = model_parts.load(args.init, config) if args.init else model_parts.build(config)
    for name in ("transformer", "text_encoder", "vae"):
        part = getattr(models, name).to(device)
        print(name, f"{sum(p.numel() for p in part.parameters()) / 1e6:.2f} M parameters")

    if args.what == "probe":
        from stages import probe

        probe.run(models, config, args.assets, ranks)
        return 0
    if args.what == "sample":
        sample(args, config, models)
        return 0
    clock = Clock(args.minutes, args.of, 60 * args.spent, args.deadline)
    if args.what == "autoencoder":
        from stages import autoencoder

        if args.autoencoder:
            model_parts.load_autoencoder(args.autoencoder, models)
        graphs = not args.no_graphs
        autoencoder.train(models.vae, config, args.assets, clock, args.state, log, graphs)
        return 0
    if args.what == "pretrain":
        trained = pretrain(args, config, models, ranks, clock, log)
        ranks.close()
    else:
        if not args.init:
            print(f"{args.what} continues from a checkpoint: give one by --init", file=sys.stderr)
            return 2
        models.vae.requires_grad_(False).to(memory_format=torch.channels_last)
        if args.order:
            config["sequence"]["order"] = args.order
        stage = importlib.import_module(f"stages.{LATER_STAGES[args.what]}")
        trained = stage.run(models, config, args.assets, device, clock, args.state, log)
    if args.out and ranks.first:
        from training.plot import plot

        args.out.mkdir(parents=True, exist_ok=True)
        model_parts.export(args.out / "model", trained)
        shutil.copyfile(args.state / "log.jsonl", args.out / "log.jsonl")
        plot(args.state / "log.jsonl", args.out / "training.png")
    return 0


def sample(args, config, models):
    """Draws held-out lists, all of them if none is named."""
    from judging import lists
    from stages.sampling import Sampler, save_lists

    settings = config["sampling"]
    sampler = Sampler(models, settings["steps"], settings["guidance"], 100, not args.no_graphs)
    save_lists(sampler, {name: lists.read(name) for name in args.lists or lists.LISTS}, args.save)


def pretrain(args, config, models, ranks, clock, log):
    """Runs the stage from its saved state, a checkpoint, or the start. Returns the models."""
    import torch

    from judging import ppocr
    from judging.scorer import Scorer
    from stages import pretraining
    from stages.measuring import measure
    from training import models as model_parts

    weights = args.state / "autoencoder.pt"
    if weights.exists():
        models.vae.load_state_dict(torch.load(weights, weights_only=True))
    elif args.autoencoder:
        model_parts.load_autoencoder(args.autoencoder, models)
    elif not args.init:
        raise SystemExit("no autoencoder: run `autoencoder` with the same --state, or give one")
    models.vae.requires_grad_(False).to(memory_format=torch.channels_last)
    saved = args.state / "pretraining.pt"
    state = None
    if saved.exists():
        state = torch.load(saved, map_location=ranks.device, weights_only=True)
        clock.before = state["seconds"]
    # A resumed run must not repeat the posters, noise and order of the first.
    seed = config["seed"] + (state["step"] if state else int(clock.before))
    torch.manual_seed(seed)
    stage = pretraining.Pretraining(
        models, config, args.assets, ranks, seed, not args.no_graphs, not args.no_compile
    )
    if state:
        stage.restore(state)
    reads = ranks.first and ppocr.available()
    scorer = Scorer(config["posters"]["workers"]) if reads else None

    def look(shown) -> None:
        """Writes a checkpoint, so that a machine that is lost costs minutes, and draws and reads
        some of the held-out lists, if a reader is installed."""
        if args.out:
            model_parts.export(args.out / "model", shown)
        if scorer:
            table = config["pretraining"]
            measure(shown, config, table, f"step {stage.step}", clock, log, scorer)

    pretraining.train(stage, clock, args.state, log, look)
    if scorer:
        scorer.close()
    return stage.averaged()


if __name__ == "__main__":
    sys.exit(main())
