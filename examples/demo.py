"""`make demo`: the product on the small model that ships with it, in about a minute.

Every line that begins with $ is a command that works as it stands. Pictures, exports, the tuned
model and the log of all commands are left in demo_output/.
"""

import contextlib
import io
import json
import pathlib
import shutil
import subprocess
import sys
import tarfile

import demo_tools
import numpy as np
import PIL.Image
from demo_tools import BIN, EXAMPLES, LOG, OUT, REFERENCE, failed, logged, table, title

import lit_tf
from lit_tf import zero_shot
from lit_tf.plots import heat_map
from lit_tf.training.digits import captions, render

CHECKPOINT = "LiT-digits"
STEPS, BATCH, TRAINING_IMAGES = 200, 64, 3000
TEMPLATES = ("{}", "a photo of {}", "a note that shows {}", "{} written by hand")


def check_small_fixture():
    """Compares a small checkpoint with what the published JAX code answers on it."""
    module, name = demo_tools.fixtures(), "lit_bert_tiny"
    path = OUT / f"{name}.npz"
    np.savez(path, **module.SMALL[name]())
    shutil.copy(REFERENCE / "vocab.txt", path.with_suffix(".txt"))
    model = lit_tf.load(path)
    title(1, f"The published JAX code's numbers ({path}, {model.count_params():,} made-up weights)")
    with np.load(REFERENCE / "expected" / "towers.npz") as expected:
        equal = demo_tools.compare_numbers(
            [
                ("tokens", model.tokenize(module.TEXTS), expected["bert_tokens"], 0),
                *(
                    (what, found, expected[f"{name}/{key}"], 1e-6)
                    for what, key, found in (
                        ("image embeddings", "zimg", model.encode_image(module.images())),
                        ("text embeddings", "ztxt", model.encode_text(module.TEXTS)),
                    )
                ),
            ]
        )
    paths = demo_tools.photographs()
    zimg = model.encode_image(paths)
    names = " and ".join(str(path) for path in paths)
    print(f"   {names}: embedded, {zimg.shape[1]} numbers each, of length 1")
    return equal and bool(np.allclose(np.linalg.norm(zimg, axis=1), 1, atol=1e-6))


def draw(pairs, split, rng, augment=False):
    """Draws real handwritten digits; returns images and the names of their inks and papers."""
    left, right = (render.choose_digits(pairs[:, side], split, rng) for side in (0, 1))
    inks = rng.integers(len(render.INKS), size=len(pairs))
    papers = rng.integers(len(render.PAPERS), size=len(pairs))
    pixels = [
        render.draw(*(a[i : i + 500] for a in (left, right, inks, papers)), rng, augment=augment)
        for i in range(0, len(pairs), 500)
    ]
    names = list(render.INKS), list(render.PAPERS)
    return np.concatenate(pixels), [names[0][i] for i in inks], [names[1][i] for i in papers]


def unseen(pairs):
    """Returns which pairs are in no caption that anything here was trained on."""
    return np.array([tuple(pair) in captions.UNSEEN_PAIRS for pair in pairs.tolist()])


def read_handwriting(model):
    """Shows which text fits which image, in a table and as a heat map."""
    title(2, f"LiT-digits reads handwriting ({model.count_params():,} weights, in the package)")
    pairs = np.array([(3, 7), (5, 9), (1, 0), (8, 7), (1, 7), (7, 1), (4, 4), (2, 6)])
    rng = np.random.default_rng(5)
    left, right = (render.choose_digits(pairs[:, side], "test", rng) for side in (0, 1))
    inks = np.arange(len(pairs)) % len(render.INKS)
    pixels = render.draw(left, right, inks, inks % len(render.PAPERS), rng)
    ink_names = [list(render.INKS)[i] for i in inks]
    texts = [f"the number {a}{b} in {ink}" for (a, b), ink in zip(pairs, ink_names, strict=True)]
    zimg, ztxt = model.encode_image(pixels), model.encode_text(texts)
    logits = model.logits(zimg, ztxt).numpy()
    probabilities = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    rows = [
        ("image of", "best of these eight texts", "probability", "pair in a caption when trained")
    ]
    for pair, row, new in zip(pairs, probabilities, unseen(pairs), strict=True):
        name, best = "{}{}".format(*pair), f'"{texts[row.argmax()]}"'
        rows.append((name, best, f"{100 * row.max():.1f} %", "never" if new else "yes"))
    table(rows, left=(0, 1))
    right = (probabilities.argmax(axis=1) == np.arange(len(pairs))).sum()
    picture = OUT / "digits.png"
    heading = "LiT-digits: cosine similarity, the best text framed"
    heat_map(picture, zimg @ ztxt.T, list(pixels), texts, heading)
    print(f"   {right} of {len(pairs)} right. Picture: {picture}")


def write_pairs(rng):
    """Writes images with captions as img2dataset does, and test images in one folder per class."""
    pairs = np.array(captions.SEEN_PAIRS)
    pairs = pairs[rng.integers(len(pairs), size=TRAINING_IMAGES)]
    pixels, inks, papers = draw(pairs, "train", rng, augment=True)
    folder = OUT / "pairs"
    folder.mkdir()
    with tarfile.open(folder / "00000.tar", "w") as archive:
        for i, (image, *description) in enumerate(
            zip(pixels, pairs.tolist(), inks, papers, strict=True)
        ):
            (left, right), ink, paper = description
            caption = captions.training_caption(left, right, ink, paper, rng)
            for suffix, data in (("png", png(image)), ("txt", caption.encode())):
                member = tarfile.TarInfo(f"{i:06d}.{suffix}")
                member.size = len(data)
                archive.addfile(member, io.BytesIO(data))
    calibration = OUT / "calibration"
    calibration.mkdir()
    for i, image in enumerate(pixels[:40]):
        (calibration / f"{i}.png").write_bytes(png(image))

    pairs = np.repeat([(a, b) for a in range(10) for b in range(10)], 5, axis=0)
    pixels = draw(pairs, "test", rng)[0]
    for i, (image, pair) in enumerate(zip(pixels, pairs.tolist(), strict=True)):
        folder = OUT / "test" / class_name(*pair)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{i}.png").write_bytes(png(image))
    (OUT / "templates.txt").write_text("\n".join(TEMPLATES) + "\n", encoding="utf-8")
    return pixels, pairs


def class_name(left, right):
    """Returns what a pair is called: "a three and a seven"."""
    filled = captions.fields(left, right)
    return f"{filled['a']} and {filled['b']}"


def png(pixels):
    """Returns an image as PNG bytes."""
    data = io.BytesIO()
    PIL.Image.fromarray(pixels).save(data, "png", compress_level=1)
    return data.getvalue()


def tuning_commands():
    """Returns the arguments of `lit-tf` that embed the images and then tune a text tower."""
    embeddings = ["precompute", f"{OUT}/embeddings", "--config", "digits", "--shards", "1"]
    return [*embeddings, "--set", f"data.source={OUT}/pairs"], [
        *("train", "--config", f"digits:steps={STEPS},batch_size={BATCH}"),
        *("--set", f"data.source={OUT}/embeddings", "--set", f"eval.zero_shot={OUT}/test"),
        *("--set", f"eval.templates={OUT}/templates.txt", "--set", "eval.every=50"),
        *("--set", "steps_per_loop=10", "--workdir", str(OUT / "tuning")),
    ]


@contextlib.contextmanager
def tuning_in_background():
    """Runs its commands in a process of their own, which ends with the demo at the latest."""
    code = "import json, sys; from lit_tf.cli import main"
    code += "; sys.exit(any(map(main, json.loads(sys.argv[1]))))"  # the second after the first's 0
    words = [sys.executable, "-c", code, json.dumps(tuning_commands())]
    with open(LOG, "a", encoding="utf-8") as log:
        process = subprocess.Popen(words, stdout=log, stderr=log)
    try:
        yield process
    finally:
        if process.poll() is None:
            process.terminate()
            process.wait()


def accuracy(model, zimg, pairs):
    """Returns zero-shot accuracy among all 100 pairs: of captioned ones and of the others."""
    names = [class_name(a, b) for a in range(10) for b in range(10)]
    classes = zero_shot.class_embeddings(model.encode_text, names, TEMPLATES)
    right = zero_shot.predict(zimg, classes) == pairs @ [10, 1]
    new = unseen(pairs)
    return right[~new].mean(), right[new].mean()


def untuned():
    """Returns the model that the trainer starts from: the locked tower and a random text tower."""
    from lit_tf.training.config import load_config
    from lit_tf.training.towers import build_model

    return build_model(load_config("digits"))


def scalars(folder, name):
    """Returns (steps, values) of one of TensorBoard's scalars."""
    import tensorflow as tf
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(folder), {"tensors": 0}).Reload()
    found = events.Tensors(name)
    return [e.step for e in found], [float(tf.make_ndarray(e.tensor_proto)) for e in found]


def plot_tuning(path, before):
    """Draws loss and accuracy over the steps, from TensorBoard's events."""
    from matplotlib import figure

    drawing = figure.Figure(figsize=(8, 3), layout="constrained")
    loss, right = drawing.subplots(1, 2)
    loss.plot(*scalars(OUT / "tuning" / "train", "loss"), color="tab:red")
    loss.set(title=f"contrastive loss (chance: {np.log(BATCH):.1f})", xlabel="step", ylim=(0, None))
    steps, values = scalars(OUT / "tuning" / "eval", "zero_shot/test/accuracy")
    right.plot([0, *steps], [100 * before, *(100 * v for v in values)], "o-", color="tab:blue")
    right.set(title="zero-shot accuracy among 100 pairs, %", xlabel="step", ylim=(0, 100))
    for axes in (loss, right):
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(alpha=0.3)
    drawing.savefig(path, dpi=120)


def measure_tuning(process, shipped, pixels, pairs):
    """Waits for the trainer; returns accuracies before it, after it, and of the shipped model."""
    with logged():
        zimg = shipped.encode_image(pixels, batch_size=250)  # the same for all: the tower is locked
        before, reached = accuracy(untuned(), zimg, pairs), accuracy(shipped, zimg, pairs)
        if process.wait():
            failed("lit-tf precompute, or lit-tf train,")
        return before, accuracy(lit_tf.load(OUT / "tuning" / "final.npz"), zimg, pairs), reached


def report_tuning(measured, pairs):
    """Prints and draws what `measure_tuning` returned; returns whether anything was learned."""
    before, after, _ = measured
    title(4, f"Tuning: a text tower from scratch, {STEPS} steps against the locked image tower")
    for words in tuning_commands():
        print(f"   $ lit-tf {demo_tools.shell(*words)}", flush=True)
    new = unseen(pairs)
    rows = [("zero-shot accuracy among all 100", "images", "before", "after", "LiT-digits")]
    for name, count, *values in zip(
        ("80 pairs that captions name", "20 pairs that no caption names"),
        ((~new).sum(), new.sum()),
        *measured,
        strict=True,
    ):
        rows.append((name, str(count), *(f"{100 * value:.1f} %" for value in values)))
    table(rows)
    picture = OUT / "tuning.png"
    plot_tuning(picture, np.average(before, weights=((~new).sum(), new.sum())))
    print(f"   Picture: {picture}. Events: {BIN}tensorboard --logdir {OUT / 'tuning'}")
    return after[0] > 20 / 100  # chance is 1 in 100


def write_pictures(folder, pairs, inks, rng):
    """Writes pictures of handwritten pairs, named by what they show and a running number."""
    folder.mkdir(parents=True, exist_ok=True)
    left, right = (render.choose_digits(pairs[:, side], "test", rng) for side in (0, 1))
    papers = rng.integers(len(render.PAPERS), size=len(pairs))
    names = [list(render.INKS)[ink] for ink in inks]
    pixels = render.draw(left, right, inks, papers, rng)
    for i, ((a, b), name, image) in enumerate(zip(pairs, names, pixels, strict=True)):
        (folder / f"{a}{b}-{name}-{i:03d}.png").write_bytes(png(image))


def search_pictures(model):
    """Indexes pictures, finds one by words, adds more; returns whether it is as it should be."""
    title(5, "Search: an index of 500 pictures, asked in words, that grows")
    rng = np.random.default_rng(7)
    pictures, db, page = OUT / "pictures", OUT / "pictures.lance", OUT / "found.html"
    pairs = np.repeat([(a, b) for a in range(10) for b in range(10)], 5, axis=0)
    write_pictures(pictures, pairs, (np.arange(500) % 5 + pairs @ [10, 1]) % 8, rng)
    question = "the number 37 in red"
    index_it = ("index", CHECKPOINT, pictures, "--db", db, "--batch-size", 100)
    demo_tools.command(*index_it, show=True)
    before = lit_tf.search.open(db, model).text(question, top=3)
    red = np.full(50, list(render.INKS).index("red"))
    write_pictures(pictures / "more", np.repeat([(3, 7)], 50, axis=0), red, rng)
    demo_tools.command(*index_it, show=True)
    demo_tools.command("search", db, question, "--top", 24, "--html", page)
    after = lit_tf.search.open(db, model).text(question, top=3)
    rows = [(f'"{question}"', "score, 500 pictures", "score, 550 pictures")]
    for rank, (old, new) in enumerate(zip(before, after, strict=True), 1):
        cells = (f"{pathlib.Path(f.path).name} {f.score:.3f}" for f in (old, new))
        rows.append((f"{rank}.", *cells))
    table(rows)
    print(f"   Page of thumbnails: {page}")
    try:
        demo_tools.browse(db, question, OUT / "browse.png")
        print(f"   Picture of {BIN}lit-tf browse: {OUT / 'browse.png'}")
    except (ImportError, FileNotFoundError) as error:
        print(f"   No picture of lit-tf browse: {error}")
    return pathlib.Path(before[0].path).name.startswith("37-red") and all(
        pathlib.Path(found.path).name.startswith("37-red") for found in after
    )


def digits():
    """The demo on LiT-digits; returns what held."""
    pixels, pairs = write_pairs(np.random.default_rng(0))
    with tuning_in_background() as tuning:
        equal = check_small_fixture()
        model = lit_tf.load(CHECKPOINT)
        read_handwriting(model)

        title(3, "One checkpoint, three runtimes (the tuning of part 4 runs in the background)")
        quantization = "int8"
        calibration = ["--calibration", f"{OUT}/calibration/*.png"]
        served, device = demo_tools.export(CHECKPOINT, quantization, calibration)
        image = EXAMPLES / "images" / "37.png"
        print(f"   Which of the numbers 00 to 99 is {image.name}? In a process each:")
        texts = [f"the number {n:02d}" for n in range(100)]
        asked = demo_tools.ask(model, CHECKPOINT, served, device, image, texts)
        measured = measure_tuning(tuning, model, pixels, pairs)  # while the three answer
        same = demo_tools.compare_answers(asked, quantization, texts)
        learned = report_tuning(measured, pairs)
    found = search_pictures(model)
    title(6, "A web page that runs the model in its visitors' browsers, and uploads nothing")
    texts = ["the number 37", "a four and a one", "80 in pink ink", "blue ink"]
    demo_tools.web_page(CHECKPOINT, sorted((EXAMPLES / "images").glob("*.png")), texts)
    return {
        "the numbers of the JAX code": equal,
        "runtimes agree": same,
        "tuning learned": learned,
        "search": found,
    }


if __name__ == "__main__":
    sys.exit(demo_tools.run(digits))
