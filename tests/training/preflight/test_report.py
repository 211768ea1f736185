"""What is said of a compiled program, and what is counted by hand; no compiler needed."""

import dataclasses
import os
import pathlib
import pickle
import types

import pytest

from lit_tf.cli import main
from lit_tf.config import BertConfig, LitConfig, ViTConfig
from lit_tf.errors import TrainingError
from lit_tf.training.preflight import cli, compiler, flops, report
from lit_tf.training.preflight.chips import parse_topology

B16 = LitConfig(
    ViTConfig(16, 224, 768, 12, 12, 3072), BertConfig(30522, 768, 12, 12, 3072, out_dim=768)
)


def test_flops_of_published_towers_are_the_published_ones():
    # "Training data-efficient image transformers", arXiv:2012.12877, table 5: 17.6 G
    # multiply-accumulates for ViT-B, here without what the last block need not do for patches.
    last_block_saves = 2 * 196 * (2 * 768**2 + 2 * 197 * 768 + 2 * 768 * 3072)
    assert flops.image_tower(B16) + last_block_saves == pytest.approx(2 * 17.6e9, rel=0.01)
    # 12 layers of 12 width^2 weights, two FLOPs a weight and token, attention apart.
    assert flops.blocks(16, 768, 12, 3072) == pytest.approx(2 * 16 * 12 * 12 * 768**2, rel=0.09)


@pytest.mark.parametrize("pool", ["cls", "attention"])
def test_benchmarks_count_the_products_that_a_tower_computes(pool, monkeypatch):
    monkeypatch.syspath_prepend(pathlib.Path(__file__).parents[3] / "benchmarks")
    import towers

    image = dataclasses.replace(B16.image, pool=pool)
    tokens = image.grid**2 + (pool == "cls")
    made = towers.flops(towers.products(image, 1, tokens))
    assert made == flops.image_tower(LitConfig(image=image, text=None))
    assert towers.flops(towers.products(B16.text, 1, 16)) == flops.text_tower(B16)


def test_attention_pooling_costs_less_than_a_block_and_its_query_nothing():
    image = dataclasses.replace(B16.image, pool="attention")
    pooled = flops.image_tower(LitConfig(image=image, text=None))
    # 196 patches through 12 whole blocks; then keys, values, one token's attention and MLP.
    block = 2 * 196 * (4 * 768**2 + 2 * 196 * 768 + 2 * 768 * 3072)
    pooling = 2 * (2 * 196 * 768**2 + 2 * 196 * 768 + 768**2 + 2 * 768 * 3072)
    assert pooled == 2 * 196 * 3 * 16**2 * 768 + 12 * block + pooling
    assert pooling < 0.2 * block


def test_a_locked_tower_costs_a_third_and_stored_embeddings_nothing():
    tower, text = flops.image_tower(B16), flops.text_tower(B16)

    def step(**kwargs):
        return flops.train_step(B16, 64, **{"lock_image": True, **kwargs}) // 64

    assert step(lock_image=False) - step() == 2 * tower
    assert step() - step(precomputed_images=True) == tower
    # Text tower and logits, forward and twice that backward; logits from both sides.
    logits = 2 * 2 * 64 * B16.embedding_dim
    assert step(precomputed_images=True) == 3 * (text + logits)


@pytest.mark.parametrize("name", ["v4:4x4", "v5e:2x2x2", "v9:2x2", "v5e", "v5e:0x4", "v4:2x2x4 "])
def test_topologies_that_do_not_exist_are_refused_with_an_example(name):
    with pytest.raises(TrainingError, match="v4:2x2|v5e:2x2"):
        parse_topology(name)


@pytest.mark.parametrize(
    ("message", "needed", "available"),
    [
        ("Ran out of memory in memory space hbm. Used 40.25G of 30.75G hbm.", 40.25, 30.75),
        ("the total memory required for HLO temporaries (0.19T) exceeds available HBM (15.75G)."
         , 0.19 * 1024, 15.75),
    ],
)  # fmt: skip
def test_lack_of_memory_is_told_in_numbers(message, needed, available):
    error = compiler.compiler_error(message, "compiler")
    assert isinstance(error, compiler.DoesNotFit)
    assert error.needed == pytest.approx(needed * 2**30)
    assert error.available == pytest.approx(available * 2**30)


def test_another_refusal_is_one_line():
    error = compiler.compiler_error("INVALID_ARGUMENT: operand\nfor FFT", "compiler")
    assert not isinstance(error, compiler.DoesNotFit)
    assert str(error).endswith("refuses the program: INVALID_ARGUMENT: operand for FFT")


def test_a_compiler_without_what_is_called_in_it_is_reported_so(monkeypatch, tmp_path):
    (tmp_path / "jax").mkdir()
    (tmp_path / "jax" / "__init__.py").write_text("")  # of a version that moved everything
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with pytest.raises(TrainingError, match=r"another interface .*lit_tf\[tpu-preflight\]"):
        compiler.compile_stablehlo("module {}", parse_topology("v4:2x2x1"))


def test_reports_are_words_rows_and_json():
    topology = parse_topology("v4:2x2x4")
    compiled = compiler.Compiled(
        arguments=3 << 30, outputs=0, temporaries=2 << 30, code=1 << 20, flops=275e12 * 0.04,
        bytes_accessed=1228e9 * 0.05, seconds=9.0,
    )  # fmt: skip
    sizes = {"parameters": 1 << 30, "optimizer": 1 << 30}
    program = types.SimpleNamespace(sizes=sizes, model_flops=16 * 275e12 * 0.03)
    made = report.make_report("name", topology, 4096, program, compiled)
    assert made.fits and made.memory["inputs"] == 1 << 30
    assert made.flops_seconds == pytest.approx(0.04)
    assert made.roofline_seconds == made.bytes_seconds == pytest.approx(0.05)
    assert made.roofline_mfu == pytest.approx(0.6)
    assert pickle.loads(pickle.dumps(made)) == made  # on its way from another process
    text = report.as_text(made)
    assert "FITS" in text and "60.0%" in text and "50.00 ms" in text
    lacking = compiler.DoesNotFit(40 << 30, 30 << 30)
    refused = report.make_report("name", topology, 4096, program, lacking)
    assert "DOES NOT FIT: 1.33 times" in report.as_text(refused)
    assert "| 50 ms | 60% |" in report.markdown_row(report.as_row(made))


def test_no_estimate_does_less_than_the_model_needs():
    # The compiler counts the body of a loop once, as in a step in chunks.
    topology = parse_topology("v5e:2x2")
    compiled = compiler.Compiled(0, 0, 0, 0, flops=1e9, bytes_accessed=1e6, seconds=1.0)
    program = types.SimpleNamespace(sizes={}, model_flops=4 * 10**12)
    made = report.make_report("name", topology, 8, program, compiled)
    assert made.flops_seconds == pytest.approx(1e12 / 197e12) and made.roofline_mfu == 1


def test_a_table_survives_what_one_of_its_programs_fails_by(monkeypatch, capsys):
    def preflight(spec, topology, *args):
        printed.append(capsys.readouterr().out)
        if spec == "digits":
            raise TrainingError("the TPU compiler refuses\nthe program | here")
        program = types.SimpleNamespace(sizes={}, model_flops=1)
        lacking = compiler.DoesNotFit(40 << 30, 30 << 30)
        return report.make_report(spec, parse_topology(topology), 4096, program, lacking)

    printed = []
    monkeypatch.setattr(compiler, "check_installed", lambda: None)
    monkeypatch.setattr(cli, "preflight", preflight)
    monkeypatch.setattr(cli, "run_apart", lambda function, *a: function(*a))
    command = ["tpu-preflight", "--config", "digits", "big", "--topology", "v5e:2x4"]
    assert main(command) == cli.FAILED
    printed.append(capsys.readouterr().out)
    assert "refuses the program / here" in printed[1]  # as it comes, not when all is done
    assert "does not fit" in printed[2] and "40.0 of 30.0 GiB" in printed[2]
    assert len({line.count("|") for line in "".join(printed).splitlines()}) == 1
    assert main([*command[:2], "big", "--topology", "v5e:2x4"]) == cli.DOES_NOT_FIT


def test_a_program_compiled_apart_returns_or_fails_as_here():
    assert cli.run_apart(os.path.basename, "a/b") == "b"
    assert cli.run_apart(os.getpid) != os.getpid()
    with pytest.raises(TrainingError, match="no topology 'nonsense'"):
        cli.run_apart(parse_topology, "nonsense")
    with pytest.raises(TrainingError, match="ended without an answer"):
        cli.run_apart(os._exit, 9)
    fits_not = compiler.DoesNotFit(40 << 30, 30 << 30)
    assert pickle.loads(pickle.dumps(fits_not)).needed == 40 << 30
