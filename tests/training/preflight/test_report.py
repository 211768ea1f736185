"""What is read off a compiled program, and what is counted by hand; no compiler needed."""

import dataclasses
import json
import os
import pickle

import pytest

from lit_tf.cli import main
from lit_tf.config import BertConfig, LitConfig, ViTConfig
from lit_tf.errors import TrainingError
from lit_tf.training.preflight import cli, compiler, flops, libtpu_compile, report
from lit_tf.training.preflight.chips import CHIPS, parse_topology
from lit_tf.training.preflight.hlo import Program

HLO = """HloModule m, is_scheduled=true

%add (x: f32[], y: f32[]) -> f32[] {
  %x = f32[] parameter(0)
  %y = f32[] parameter(1)
  ROOT %sum = f32[] add(%x, %y)
}

%fused (p0: f32[8,16], p1: f32[16,4]) -> f32[8,4] {
  %p0 = f32[8,16]{1,0} parameter(0)
  %p1 = f32[16,4]{1,0} parameter(1)
  ROOT %conv = f32[8,4]{1,0} convolution(%p0, %p1), dim_labels=bf_io->bf, metadata={op_name="tower_2/block_7_1/mlp/MatMul"}
}

%condition (c: (s32[], f32[8,4])) -> pred[] {
  %c = (s32[], f32[8,4]{1,0}) parameter(0)
  %bound = s32[] constant(5)
  %i = s32[] get-tuple-element(%c), index=0
  ROOT %lt = pred[] compare(%i, %bound), direction=LT
}

%body (b: (s32[], f32[8,4])) -> (s32[], f32[8,4]) {
  %b = (s32[], f32[8,4]{1,0}) parameter(0)
  %inner = f32[8,4]{0,1} copy(%b), metadata={op_name="loop/copy"}, backend_config={"window_config":{"estimated_cycles":"10"}}
  ROOT %next = (s32[], f32[8,4]{1,0}) tuple(%inner)
}

ENTRY %main (a: f32[8,16], k: f32[16,4]) -> f32[8,4] {
  %a = f32[8,16]{1,0:T(8,128)} parameter(0)
  %k = f32[16,4]{1,0:T(8,128)} parameter(1)
  %fusion.1 = f32[8,4]{1,0:T(8,128)} fusion(%a, %k), kind=kOutput, calls=%fused, metadata={op_name="tower_2/block_7_1/mlp/MatMul"}, backend_config={"window_config":{"estimated_cycles":"700"}}
  %fusion.2 = f32[8,4]{1,0:T(8,128)} fusion(%a, %k), kind=kOutput, calls=%fused, metadata={op_name="tower_2/block_8_1/mlp/MatMul"}, backend_config={"window_config":{"estimated_cycles":"300"}}
  %all-reduce.1 = (f32[8,4]{1,0}, bf16[2]{0}) all-reduce(%fusion.1, %fusion.2), replica_groups={{0,1}}, to_apply=%add
  %copy-start.1 = (f32[8,16]{1,0:T(8,128)S(1)}, f32[8,16]{1,0:T(8,128)}, u32[]{:S(2)}) copy-start(%a)
  %slice-start.1 = ((f32[16,4]{1,0:T(8,128)}), f32[8,4]{1,0:T(8,128)S(1)}, s32[]{:S(2)}) slice-start(%k), slice={[0:8], [0:4]}
  %init = (s32[], f32[8,4]{1,0}) tuple(%all-reduce.1)
  ROOT %while.1 = (s32[], f32[8,4]{1,0}) while(%init), condition=%condition, body=%body
}
"""  # noqa: E501

B16 = LitConfig(
    ViTConfig(16, 224, 768, 12, 12, 3072), BertConfig(30522, 768, 12, 12, 3072, out_dim=768)
)


def test_a_program_costs_what_its_operations_do_as_often_as_they_run():
    program = Program(HLO)
    assert program.cycles == 700 + 300 + 5 * 10
    assert program.cycles_of("copy") == 50
    assert program.collectives() == [("all-reduce", 1, 8 * 4 * 4 + 2 * 2)]
    assert program.slowest(1) == [("tower/block/mlp/MatMul [fusion]", 2, 1000)]
    tile = 8 * 128 * 4  # what either copy is padded to
    assert program.counted_copies == (4 + 3) * tile
    flops = 2 * 8 * 4 * 16  # of each of the two products
    assert program.roofline(flops, float("inf")) == (2, 0)
    assert program.roofline(float("inf"), tile)[1] == 2
    assert program.float32_products() == [("tower/block/mlp/MatMul", 2)]


def test_the_two_halves_of_a_shared_update_cost_what_one_all_reduce_does():
    program = Program("""HloModule m
%all-reduce-scatter.1 (p: f32[1024,1024]) -> f32[128,1024] {
  %p = f32[1024,1024]{1,0} parameter(0)
  ROOT %r = f32[1024,1024]{1,0} all-reduce(%p), to_apply=%add
}

%all-gather.1 (p: f32[1024,1024]) -> f32[1024,1024] {
  %p = f32[1024,1024]{1,0} parameter(0)
  ROOT %r = f32[1024,1024]{1,0} all-reduce(%p), to_apply=%add
}

ENTRY %main (p: f32[1024,1024]) -> f32[1024,1024] {
  %p = f32[1024,1024]{1,0} parameter(0)
  %s = f32[128,1024]{1,0} fusion(%p), kind=kCustom, calls=%all-reduce-scatter.1
  ROOT %g = f32[1024,1024]{1,0} fusion(%s), kind=kCustom, calls=%all-gather.1
}
""")
    size = 4 << 20
    assert program.collectives() == [("reduce-scatter", 1, size), ("all-gather", 1, size)]
    topology = parse_topology("v5e:2x4")
    compiled = compiler.Compiled(
        arguments=0, outputs=0, temporaries=0, code=0, flops=0, roofline_seconds=1.0,
        copies_seconds=0.0, bytes_accessed=0, program=program, compile_seconds=1.0,
    )  # fmt: skip
    made = report.make_report("name", topology, 8, compiled, sizes={}, model_flops=1)
    assert made.collective_seconds == pytest.approx(topology.all_reduce_seconds(size))


def test_flops_of_published_towers_are_the_published_ones():
    # "Training data-efficient image transformers", arXiv:2012.12877, table 5: 17.6 G
    # multiply-accumulates for ViT-B, here without what the last block need not do for patches.
    last_block_saves = 2 * 196 * (2 * 768**2 + 2 * 197 * 768 + 2 * 768 * 3072)
    assert flops.image_tower(B16) + last_block_saves == pytest.approx(2 * 17.6e9, rel=0.01)
    # 12 layers of 12 width^2 weights, two FLOPs a weight and token, attention apart.
    assert flops.blocks(16, 768, 12, 3072) == pytest.approx(2 * 16 * 12 * 12 * 768**2, rel=0.09)


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


def test_published_peaks_imply_the_known_clocks():
    # 1.05 GHz is in "TPU v4", arXiv:2304.01433, table 4.
    assert CHIPS["v4"].clock == pytest.approx(1.05e9, rel=0.01)


@pytest.mark.parametrize("name", ["v4:4x4", "v5e:2x2x2", "v9:2x2", "v5e", "v5e:0x4", "v4:2x2x4 "])
def test_topologies_that_do_not_exist_are_refused_with_an_example(name):
    with pytest.raises(TrainingError, match="v4:2x2|v5e:2x2"):
        parse_topology(name)


def test_an_all_reduce_sends_every_byte_nearly_twice_over_the_links():
    assert parse_topology("v5e:1x1").all_reduce_seconds(10**9) == 0
    seconds = parse_topology("v5e:1x8").all_reduce_seconds(10**9)
    assert seconds == pytest.approx(2 * 7 / 8 * 1e9 / 45e9)


@pytest.mark.parametrize(
    ("message", "needed", "available"),
    [
        ("Ran out of memory in memory space hbm. Used 40.25G of 30.75G hbm.", 40.25, 30.75),
        ("the total memory required for HLO temporaries (0.19T) exceeds available HBM (15.75G)."
         , 0.19 * 1024, 15.75),
    ],
)  # fmt: skip
def test_lack_of_memory_is_told_in_numbers(message, needed, available):
    error = compiler._failure({"error": message, "kind": "compiler"}, "")
    assert isinstance(error, compiler.DoesNotFit)
    assert error.needed == pytest.approx(needed * 2**30)
    assert error.available == pytest.approx(available * 2**30)


@pytest.mark.parametrize(
    ("line", "products"),
    [
        # A plain product, and one over a window that is all of what it covers.
        ("convolution(%p, %q), dim_labels=bf_io->bf", 8 * 4 * 16),
        ("convolution(%x, %y), window={size=32}, dim_labels=0fb_o0i->bf0", 8 * 4 * 16 * 32),
        # Batches of products: the window meets one of the batch at a time.
        ("convolution(%x, %y), window={size=32 pad=31_31 rhs_reversal=1}, dim_labels=0bf_0oi->0bf",
         8 * 4 * 16),
        ("convolution(%x, %y), window={size=32 stride=31 lhs_dilate=32}, dim_labels=0bf_0oi->0bf",
         8 * 4 * 16),
    ],
)  # fmt: skip
def test_a_product_costs_what_its_result_needs(line, products):
    kernel = {"io": "16,4", "o0i": "4,32,16", "0oi": "32,4,16"}
    labels = line.split("dim_labels=")[1].split("_")[1].split("->")[0]
    program = Program(f"""HloModule m
ENTRY %main (p: f32[8,16]) -> f32[8,4] {{
  %p = f32[8,16]{{1,0}} parameter(0)
  %x = f32[32,8,16]{{2,1,0}} parameter(1)
  %q = f32[{kernel[labels]}] parameter(2)
  %y = f32[{kernel[labels]}] parameter(3)
  ROOT %r = f32[8,4]{{1,0}} {line}
}}
""")
    assert program.operations[-1].flops == 2 * products


def test_an_operation_that_the_compiler_refuses_is_named_with_its_layer():
    stablehlo = """#loc5 = loc("my_layer_1/FFT")
  %2 = stablehlo.fft %1, type =  FFT : (tensor<4xf64>) -> tensor<4xf64> loc(#loc8)
#loc4 = loc("FFT:")
#loc8 = loc(fused[#loc5, #loc4])
"""
    answer = {"error": "INVALID_ARGUMENT: Unexpected operand for FFT: c128[4]", "kind": "compiler"}
    message = str(compiler._failure(answer, stablehlo))
    assert "fft at my_layer_1/FFT" in message and "\n" not in message


def test_another_interface_of_the_compiler_is_told_with_the_versions_that_work(monkeypatch):
    monkeypatch.setattr(compiler.importlib.metadata, "version", lambda name: "99.0")
    answer = {"error": "AttributeError: no DeviceList", "kind": "interface"}
    message = str(compiler._failure(answer, ""))
    assert "libtpu 99.0" in message and "libtpu 0.0.52" in message


def test_a_compiler_without_what_is_called_in_it_is_reported_so(monkeypatch, tmp_path):
    (tmp_path / "jax").mkdir()
    (tmp_path / "jax" / "__init__.py").write_text("")  # of a version that moved everything
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setattr(compiler.importlib.metadata, "version", lambda name: "99.0")
    with pytest.raises(TrainingError, match=r"another interface .*jax 99.0.*known to work: jax 0"):
        compiler.compile_stablehlo("module {}", parse_topology("v4:2x2x1"), replicas=1)


def test_reports_are_words_rows_and_json():
    topology = parse_topology("v4:2x2x4")
    compiled = compiler.Compiled(
        arguments=3 << 30, outputs=0, temporaries=2 << 30, code=1 << 20, flops=1e12,
        roofline_seconds=0.05, copies_seconds=0.02, bytes_accessed=1e9, program=Program(HLO),
        compile_seconds=9.0,
    )  # fmt: skip
    made = report.make_report(
        "name", topology, 4096, compiled,
        sizes={"parameters": 1 << 30, "optimizer": 1 << 30}, model_flops=16 * 275e12 * 0.03,
    )  # fmt: skip
    assert made.fits and made.roofline_mfu == pytest.approx(0.6)
    assert made.overlapped_mfu == pytest.approx(1.0)
    assert made.memory["inputs"] == 1 << 30
    assert json.loads(json.dumps(made.to_dict())) == dataclasses.asdict(made)
    assert pickle.loads(pickle.dumps(made)) == made  # on its way from another process
    text = report.as_text(made)
    assert "FITS" in text and "60.0%" in text and "all-reduce" in text
    refused = report.does_not_fit(
        "name", topology, 4096, compiler.DoesNotFit(40 << 30, 30 << 30), sizes={}, model_flops=1
    )
    assert "DOES NOT FIT: 1.33 times" in report.as_text(refused)
    table = report.as_markdown([made, refused]).splitlines()
    assert len({line.count("|") for line in table}) == 1 and "does not fit" in table[-1]
    no_cycles = dataclasses.replace(
        compiled, program=Program(HLO.replace("estimated_cycles", "cycles"))
    )
    made = report.make_report("name", topology, 4096, no_cycles, sizes={}, model_flops=1e12)
    assert made.schedule_seconds is None and made.collective_seconds > 0
    assert "no schedule" in report.as_text(made)
    assert report.as_row(made)[-2].endswith("/ - ms")


def test_a_program_that_jaxlib_cannot_parse_is_read_from_the_compilers_own_file(tmp_path):
    class Executable:
        def hlo_modules(self):
            raise RuntimeError("async-update instruction should have 1 operands but sees 3")

    with pytest.raises(RuntimeError, match="async-update"):
        libtpu_compile._program(Executable(), tmp_path)
    (tmp_path / "module_0000.step.before_optimizations.txt").write_text("HloModule before")
    (tmp_path / "module_0000.step.after_optimizations.txt").write_text("HloModule after")
    assert libtpu_compile._program(Executable(), tmp_path) == "HloModule after"


def test_the_table_of_shipped_configs_survives_what_one_of_them_fails_by(monkeypatch, capsys):
    def preflight(spec, topology, *args, **kwargs):
        printed.append(capsys.readouterr().out)
        if spec == "digits":
            raise TrainingError("the TPU compiler refuses\nthe program | here")
        return report.does_not_fit(
            spec, parse_topology(topology), 4096, compiler.DoesNotFit(40 << 30, 30 << 30),
            sizes={}, model_flops=1,
        )  # fmt: skip

    printed = []
    monkeypatch.setattr(compiler, "check_installed", lambda: None)
    monkeypatch.setattr(cli, "SHIPPED", (("digits", ("v4:2x2x1",)), ("big", ("v5e:2x4",))))
    monkeypatch.setattr(cli, "preflight", preflight)
    monkeypatch.setattr(cli, "run_apart", lambda function, *a, **k: function(*a, **k))
    assert main(["tpu-preflight", "--shipped"]) == cli.FAILED
    printed.append(capsys.readouterr().out)
    assert "refuses the program / here" in printed[1]  # as it comes, not when all is done
    assert "does not fit" in printed[2] and "40.0 of 30.0 GiB" in printed[2]
    assert len({line.count("|") for line in "".join(printed).splitlines()}) == 1


def test_a_program_compiled_apart_returns_or_fails_as_here():
    assert cli.run_apart(os.path.basename, "a/b") == "b"
    assert cli.run_apart(os.getpid) != os.getpid()
    with pytest.raises(TrainingError, match="unknown topology 'nonsense'"):
        cli.run_apart(parse_topology, "nonsense")
    with pytest.raises(TrainingError, match="ended without an answer"):
        cli.run_apart(os._exit, 9)
    fits_not = compiler.DoesNotFit(40 << 30, 30 << 30)
    assert str(pickle.loads(pickle.dumps(fits_not))) == str(fits_not)
