"""The TPU compiler itself, by way of the command. Needs the extra `tpu-preflight`."""

import importlib.util
import json

import pytest

from lit_tf.cli import main

if importlib.util.find_spec("libtpu") is None or importlib.util.find_spec("jax") is None:
    pytest.skip(
        "the TPU compiler is not installed: pip install 'lit_tf[tpu-preflight]'",
        allow_module_level=True,
    )

CONFIG = """
from lit_tf.training.config import *


def get_config(argument=""):
    args = parse_arguments(argument, batch_size=4096, big=False)
    tiny = dict(
        image="patch_size=8,width=64,depth=2,num_heads=2,mlp_dim=128",
        text="bert:vocab_size=50,width=64,depth=2,num_heads=1,mlp_dim=128,max_length=16",
        resolution=32,
    )
    return TrainConfig(
        model=ModelConfig(**({} if args.big else tiny)), batch_size=args.batch_size
    )
"""


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    path = tmp_path_factory.mktemp("preflight") / "config.py"
    path.write_text(CONFIG)
    return str(path)


def test_a_step_compiles_for_eight_chips_and_is_told_in_numbers(config, capsys):
    argv = ["tpu-preflight", "--config", f"{config}:batch_size=1024", "--topology", "v5e:2x4"]
    assert main([*argv, "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["fits"] and report["chips"] == 8
    assert 0 < report["memory"]["total"] < report["memory"]["chip"]
    assert 0 < report["flops_seconds"] <= report["roofline_seconds"] < 1
    assert 0 < report["bytes_seconds"] <= report["roofline_seconds"]
    assert report["program_flops"] > 0.9 * report["model_flops"] / 8


@pytest.mark.full
def test_a_table_says_what_fits_and_what_does_not(config, capsys):
    # 262,144 need 522 GiB; of millions the compiler takes many minutes to say so.
    configs = [f"{config}:batch_size=64", f"{config}:batch_size=262144"]
    assert main(["tpu-preflight", "--config", *configs, "--topology", "v5e:1x1"]) == 3
    fits, too_much = capsys.readouterr().out.splitlines()[2:]
    assert "does not fit" in too_much and "does not fit" not in fits


@pytest.mark.full
def test_b16_and_bert_base_fit_at_4096_on_sixteen_v4_chips_and_use_them(config, capsys):
    argv = ["tpu-preflight", "--config", f"{config}:big", "--topology", "v4:2x2x4", "--json"]
    assert main(argv) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["memory"]["total"] < 8 << 30
    assert report["roofline_mfu"] > 0.4
