"""Configs: big_vision's grammar, overrides, and what is refused before anything is compiled."""

import dataclasses
import json

import pytest

from lit_tf.errors import ConfigError
from lit_tf.training.config import (
    TrainConfig,
    check_batch,
    load_config,
    parse_arguments,
    parse_sizes,
)


def test_arguments_of_the_reference():
    config = load_config("lit_coco.py:txt=bert_base,img=B/16_2,img_head,init=LiT-B16B.npz,res=384")
    assert config.model.init == "LiT-B16B.npz"
    assert config.model.image == "B/16"
    assert config.model.image_head is True
    assert config.model.resolution == 384
    assert (config.batch_size, config.steps, config.optimizer.warmup_steps(config.steps)) == (
        4096,
        5000,
        150,
    )
    assert load_config("lit_coco:batch_size=512,token_len=32").batch_size == 512
    assert load_config("lit_coco:runlocal").batch_size < 100


def test_bert_large_takes_adafactor_and_siglit_the_sigmoid_loss():
    assert load_config("lit_coco").optimizer.name == "adam"
    assert load_config("lit_coco:img=L/16,txt=bert_large").optimizer.name == "adafactor"
    config = load_config("siglit_coco:img=L/16")
    assert (config.loss.name, config.model.bias) == ("sigmoid", -2.71)


def test_lit_coco_takes_any_published_tower_at_its_own_resolution_and_length():
    config = load_config("siglit_coco:txt=bert_base,img=SigLIP2-B16-384").model
    assert config.image == config.image_init == "SigLIP2-B16-384"
    assert (config.resolution, config.token_length, config.locking) == (384, 16, "LU")
    config = load_config("lit_coco:img=SigLIP2 So400m/14 224,txt=SigLIP2-B16-256,locking=UU").model
    assert (config.text_init, config.token_length) == ("SigLIP2-B16-256", 64)
    assert (config.resolution, config.locking) == (224, "UU")
    config = load_config("siglit_coco:txt=B,vocab=my.model,img=LiT-L16L").model
    assert (config.text, config.text_init, config.vocab) == ("B", None, "my.model")
    assert (config.token_length, config.locking) == (64, "Lu")
    assert load_config("lit_coco:img=SigLIP2-B16-256,res=512").model.resolution == 512
    config = load_config("lit_coco:img=google/siglip-base-patch16-384,txt=bert_base").model
    assert (config.image_init, config.resolution) == ("google/siglip-base-patch16-384", 384)
    for argument in ("img=SigLIP2-B16-255", "txt=none.npz"):
        with pytest.raises(ConfigError, match="published model"):
            load_config(f"lit_coco:{argument}")


def test_overrides_take_the_type_of_their_field():
    config = load_config(
        "lit_coco",
        ["optimizer.lr=3e-4", "data.augment=", "eval.zero_shot=a,b", "optimizer.warmup=none"],
    )
    assert config.optimizer.lr == 3e-4
    assert config.data.augment == ""
    assert config.eval.zero_shot == ("a", "b")
    assert config.optimizer.warmup is None


@pytest.mark.parametrize(
    "text", ["1e3", "007", "42", "True", "[a]", "(1, 2)", "1or", "0x" + "f" * 5000]
)
def test_text_fields_keep_the_words_that_were_typed(text, recwarn):
    config = load_config("lit_coco", [f"data.source={text}", f"data.data_dir={text}"])
    assert config.data.source == config.data.data_dir == text
    assert not [w for w in recwarn if issubclass(w.category, SyntaxWarning)]
    assert load_config("lit_coco", ["data.data_dir=none"]).data.data_dir is None
    assert load_config("lit_coco", ["data.source='none'"]).data.source == "none"


def test_dict_round_trip_through_json():
    config = load_config("siglit_coco")
    assert TrainConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config


@pytest.mark.parametrize(
    ("spec", "overrides", "message"),
    [
        ("lit_cocoa", [], "did you mean 'lit_coco'"),
        ("siglit_coco:img=siglip2-b16-256", [], "did you mean 'SigLIP2-B16-256'"),
        ("siglit_coco:txt=siglip2_b16_naflexx", [], "did you mean 'SigLIP2-B16-NaFlex'"),
        ("lit_coco:image=B/16", [], "unknown config argument 'image'"),
        ("lit_coco:res=big", [], "expected int"),
        ("lit_coco", ["optimizer.learning_rate=1"], "unknown config key 'optimizer.learning_rate'"),
        ("lit_coco", ["optimiser.lr=1"], "did you mean 'optimizer.lr'"),
        ("lit_coco", ["optimizer=adam"], "is a group"),
        ("lit_coco", ["steps=many"], "expected int"),
        ("lit_coco", ["steps"], "not of the form key=value"),
        ("lit_coco", ["steps=100"], "warmup of 100 steps does not fit"),
        ("lit_coco", ["model.locking=uL"], "model.locking"),
        ("lit_coco:locking=", [], "model.locking is ''"),
        ("lit_coco:locking=L", [], "model.locking is 'L'"),
        ("digits:locking=", [], "model.locking is ''"),
        ("lit_coco", ["model.bias=1.0"], "softmax loss cannot train it"),
        ("lit_coco", ["checkpoint_every=75"], "not a multiple of steps_per_loop"),
        ("lit_coco", ["dtype=float16"], "expected one of bfloat16, float32"),
    ],
)
def test_what_cannot_work_is_refused_by_name(spec, overrides, message):
    with pytest.raises(ConfigError, match=message):
        load_config(spec, overrides)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("optimizer.lr=" + "-" * 5000, "optimizer.lr is '---.*; expected float"),
        ("optimizer.lr=" + "-" * 5000 + "1", "expected float"),
        ("optimizer.lr=" + "9" * 400, "expected float"),
        ("optimizer.lr=" + "9" * 5000, "expected float"),
        ("optimizer.lr=0x" + "f" * 5000, "expected float"),
        ("optimizer.lr=1e999", "expected float"),
        ("optimizer.lr=-1e999", "expected float"),
        ("optimizer.lr=nan", "expected float"),
        ("optimizer.lr=1j", "expected float"),
        ("optimizer.lr=True", "expected float"),
        ("optimizer.lr=" + "(" * 5000, "expected float"),
        ("optimizer.lr=" + "[" * 90 + "]" * 90, "expected float"),
        ("optimizer.lr={[]: 1}", "expected float"),
        ("steps=" + "9" * 400, "expected int"),
        ("steps=1e3", "expected int"),
        ("steps=...", "expected int"),
        ("steps=b'1'", "expected int"),
        ("eval.zero_shot=" + "9" * 400, "expected texts joined by commas"),
        ("-" * 5000, "not of the form key=value"),
        ("optimizer.lr." + "x." * 5000 + "=1", "unknown config key"),
    ],
)
def test_odd_literals_are_refused_in_one_short_line(override, message):
    with pytest.raises(ConfigError, match=message) as error:
        load_config("lit_coco", [override])
    assert len(str(error.value)) < 300


@pytest.mark.parametrize("size", ["9" * 5000, "\N{SUPERSCRIPT TWO}", "-1", "1.5", "", "1e3"])
def test_odd_sizes_of_towers_are_refused(size):
    with pytest.raises(ConfigError, match="expected NAME=INTEGER"):
        parse_sizes(f"width={size}", ["width"])


def test_batches_that_replicas_cannot_share_are_refused():
    config = load_config("lit_coco:batch_size=100")
    check_batch(config, 4)
    with pytest.raises(ConfigError, match="100 is not divisible by 8 replicas"):
        check_batch(config, 8)
    config = dataclasses.replace(config, loss=dataclasses.replace(config.loss, chunk=15))
    with pytest.raises(ConfigError, match="loss.chunk 15 does not divide"):
        check_batch(config, 4)


def test_a_bare_name_is_a_boolean():
    args = parse_arguments("flag,n=3,x=1", flag=False, n=1, x=0.5, text="a")
    assert (args.flag, args.n, args.x, args.text) == (True, 3, 1.0, "a")
    assert isinstance(args.x, float)


OWN = """
import dataclasses

from lit_tf.training.config import TrainConfig, parse_arguments
{imports}

@dataclasses.dataclass
class Sizes:
    steps: int = STEPS

def get_config({parameter}):
    return {returned}
"""


def write_own(folder, imports="STEPS = 300", parameter="argument=''", returned=None):
    folder.mkdir(exist_ok=True)
    returned = returned or "TrainConfig(steps=parse_arguments(argument, n=Sizes().steps).n)"
    text = OWN.format(imports=imports, parameter=parameter, returned=returned)
    (folder / "mine.v2.py").write_text(text)
    return str(folder / "mine.v2.py")


def test_files_of_ones_own(tmp_path):
    path = write_own(tmp_path)
    assert load_config(path).steps == 300 and load_config(f"{path}:n=400").steps == 400
    path = write_own(tmp_path, parameter="", returned="TrainConfig(steps=Sizes().steps)")
    assert load_config(path).steps == 300
    with pytest.raises(ConfigError, match="get_config takes no argument, found 'n=4'"):
        load_config(f"{path}:n=4")


@pytest.mark.parametrize("imports", ["from near import STEPS", "from .near import STEPS"])
def test_a_file_imports_its_own_neighbours(tmp_path, imports):
    for steps in (300, 500):  # of the same name in two folders
        path = write_own(tmp_path / str(steps), imports)
        (tmp_path / str(steps) / "near.py").write_text(f"STEPS = {steps}")
        assert load_config(path).steps == steps
    path = write_own(tmp_path, "from . import lit_coco\nSTEPS = lit_coco.get_config().steps")
    assert load_config(path).steps == 5000  # a shipped one
    (tmp_path / "lit_coco.py").write_text(
        "get_config = lambda: __import__('types').SimpleNamespace(steps=7000)"
    )
    assert load_config(path).steps == 7000  # unless it has a copy beside it


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"returned": "{'steps': 3}"},
            r"mine.v2.py:11: get_config returns a dict; expected a lit_tf",
        ),
        ({"returned": "TrainConfig(step=3)"}, r"mine.v2.py:12: TypeError: .*'step'"),
        ({"returned": "TrainConfig(steps='many')"}, "steps is 'many'; expected int"),
        ({"returned": "TrainConfig(steps=("}, r"mine.v2.py:12: SyntaxError: "),
        ({"imports": "STEPS = undefined"}, r"mine.v2.py:5: NameError: name 'undefined'"),
        ({"imports": "import nowhere\nSTEPS = 1"}, r"mine.v2.py:5: ModuleNotFoundError: .*nowhere"),
        ({"imports": "from near import STEPS"}, r"near.py:2: ZeroDivisionError: "),
        ({"parameter": "a, b"}, "mine.v2.py: TypeError: .*'b'"),
    ],
)
def test_a_mistake_in_a_file_is_named_with_its_line(tmp_path, change, message):
    (tmp_path / "near.py").write_text("\nSTEPS = 1 / 0\n")
    with pytest.raises(ConfigError, match=message):
        load_config(write_own(tmp_path, **change))


def test_a_file_without_get_config_is_refused(tmp_path):
    (tmp_path / "empty.py").write_text("")
    with pytest.raises(ConfigError, match="empty.py: .*no attribute 'get_config'"):
        load_config(str(tmp_path / "empty.py"))


@pytest.mark.parametrize(
    ("setting", "expected"),
    [
        *(("optimizer.clip=-1", "at least 0"), ("optimizer.warmup=-5", "at least 0")),
        *(("optimizer.lr=-0.001", "at least 0"), ("optimizer.weight_decay=-0.5", "at least 0")),
        *(("loss.chunk=-8", "at least 0"), ("loss.cache_chunk=-1", "at least 0")),
        *(("data.shuffle_buffer=0", "at least 1"), ("data.max_bad_share=-1", "0 to 1")),
        *(("data.max_bad_share=1.5", "0 to 1"), ("data.max_example_bytes=0", "at least 1")),
        *(("seed=-1", "0 to 2"), ("seed=2147483648", "0 to 2"), ("model.dropout=1.0", "0 to 0.99")),
        *(("model.temperature=0", "1e-06 to 1e"), ("model.resolution=0", "at least 1")),
        *(("model.token_length=-1", "at least 1"), ("eval.every=-50", "at least 0")),
        *(("eval.batch_size=0", "at least 1"), ("steps=0", "at least 1")),
        *(("keep_checkpoints=0", "at least 1"), ("checkpoint_every=-50", "at least 1")),
        ("batch_size=1", "at least 2"),
    ],
)
def test_numbers_have_ranges(setting, expected):
    with pytest.raises(
        ConfigError, match=f"^{setting.split('=')[0]} is .*; expected {expected}|^batch_size is 1"
    ):
        load_config("lit_coco", [setting])


def test_every_number_has_a_range_and_zero_stays_where_it_means_something():
    def numbers(part, prefix=""):
        for field in dataclasses.fields(part):
            value = getattr(part, field.name)
            if dataclasses.is_dataclass(value):
                yield from numbers(value, f"{prefix}{field.name}.")
            elif type(value) in (int, float) and "range" not in field.metadata:
                yield prefix + field.name

    assert not list(numbers(TrainConfig()))
    zero = "optimizer.clip lr weight_decay warmup".replace(" ", " optimizer.").split()
    zero += ["loss.chunk", "loss.cache_chunk", "data.max_bad_share", "seed", "eval.every"]
    load_config("lit_coco", [f"{name}=0" for name in [*zero, "model.dropout"]])


def test_a_config_is_checked_once_all_settings_are_in():
    config = load_config("lit_coco:steps=4", ["optimizer.warmup=1"])
    assert config.optimizer.warmup == 1 and config.steps == 4
    with pytest.raises(ConfigError, match="warmup of 100 steps does not fit"):
        load_config("lit_coco:steps=4")
