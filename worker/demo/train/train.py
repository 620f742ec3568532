#!/usr/bin/env python3
"""Trains the demo model.

    train.py vae --minutes 3 --assets A --state S
    train.py joint --minutes 6 --of 12 --assets A --state S --out O
    train.py all --vae-minutes 3 --minutes 12 --assets A --state S --out O
    train.py probe --assets A --state S

`vae` trains the autoencoder. `joint` trains the text encoder and the transformer, and writes
the checkpoint to O/model, with the log and its plot. `all` runs both stages, or the second
alone if the first is done.
`--minutes` limits this call and `--of` the whole stage: repeat `joint` with the same S until
the stage is finished.
If S holds no state, `joint --init MODEL` continues from a written checkpoint.
`probe` measures the speed of each part of the training in about a minute and a half.
"""

import argparse
import os
import random
import shutil
import sys
from pathlib import Path

import tomllib

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

HERE = Path(__file__).parent


def read_config(smoke: bool) -> dict:
    """config.toml, with the values of smoke.toml over it if `smoke`."""
    config = tomllib.loads((HERE / "config.toml").read_text("utf-8"))
    if smoke:
        for name, table in tomllib.loads((HERE / "smoke.toml").read_text("utf-8")).items():
            config[name] |= table
    return config


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", choices=("vae", "joint", "all", "probe"))
    parser.add_argument("--minutes", type=float, default=3.0)
    parser.add_argument("--vae-minutes", type=float, default=3.0, help="first stage of `all`")
    parser.add_argument("--of", type=float, help="minutes of the whole stage, over all calls")
    parser.add_argument("--deadline", type=float, help="Unix time when training must be over")
    parser.add_argument("--assets", type=Path, required=True, help="folder that fonts.py wrote")
    parser.add_argument("--state", type=Path, required=True, help="folder for resumable state")
    parser.add_argument("--out", type=Path, help="folder for checkpoint, log and plot")
    parser.add_argument("--init", type=Path, help="a checkpoint to start from")
    parser.add_argument(
        "--autoencoder", type=Path, help="a trained one, in place of the stage `vae`"
    )
    parser.add_argument("--no-graphs", action="store_true", help="do not record CUDA graphs")
    parser.add_argument("--no-compile", action="store_true", help="do not compile blocks")
    parser.add_argument("--smoke", action="store_true", help="a tiny model, for a CPU")
    return parser.parse_args()


def main() -> int:
    args = parse()
    args.state.mkdir(parents=True, exist_ok=True)
    # Compiled kernels are kept with the state, so that the next call does not compile them again.
    os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", str(args.state.resolve() / "inductor"))
    import numpy as np
    import torch

    import models as model_parts
    from run import Clock, Log

    config = read_config(args.smoke)
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
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    log = Log(args.state / "log.jsonl")

    models = model_parts.load(args.init, config) if args.init else model_parts.build(config)
    for name in ("transformer", "text_encoder", "vae"):
        part = getattr(models, name).to(device)
        if args.what != "probe":
            print(name, f"{sum(p.numel() for p in part.parameters()) / 1e6:.2f} M parameters")

    if args.what == "probe":
        import probe

        probe.run(models, config, args.assets, device)
        return 0

    import vae_stage

    graphs = not args.no_graphs
    done = args.state / "vae.pt"
    trained = done.exists() or args.init or args.autoencoder
    wanted = args.what == "all" and not trained
    if args.what == "vae" or wanted:
        minutes = args.vae_minutes if args.what == "all" else args.minutes
        clock = Clock(minutes, None)
        vae_stage.train(models.vae, config, args.assets, clock, args.state, log, graphs)
    if args.what == "vae":
        return 0

    import joint_stage
    from plot import plot

    clock = Clock(args.minutes, args.of, deadline=args.deadline)
    if done.exists():
        models.vae.load_state_dict(torch.load(done, weights_only=True))
    elif args.autoencoder:
        model_parts.load_autoencoder(args.autoencoder, models)
    elif not args.init:
        print("no autoencoder: run the stage vae first, or give one", file=sys.stderr)
        return 1
    models.vae.requires_grad_(False).to(memory_format=torch.channels_last)
    state = {"step": 0, "seconds": 0.0}
    if resuming := (args.state / "joint.pt").exists():
        state = torch.load(args.state / "joint.pt", map_location=device, weights_only=True)
        clock.before = state["seconds"]
    # A resumed run must not repeat the posters, noise and order of the first.
    seed = config["seed"] + state["step"]
    torch.manual_seed(seed)
    joint = joint_stage.Joint(
        models, config, args.assets, device, seed, graphs, not args.no_compile
    )
    if resuming:
        joint.restore(state)
    joint_stage.train(joint, clock, args.state, log)
    if args.out:
        args.out.mkdir(parents=True, exist_ok=True)
        model_parts.export(args.out / "model", joint.averaged())
        shutil.copyfile(args.state / "log.jsonl", args.out / "log.jsonl")
        plot(args.state / "log.jsonl", args.out / "training.png")
    return 0


if __name__ == "__main__":
    sys.exit(main())
