"""The page's patches are big_vision's, and a NaFlex model answers there as it does here."""

import numpy as np
import PIL.Image
import pytest

import lit_tf
from lit_tf.export import web
from lit_tf.export.web import runtime as web_runtime

from .helpers import as_base64, fetched, numbers

CUT = """async ({pictures, patch, most}) => {
  const { cut } = await import(PAGE + "patches.js");
  return pictures.map(([width, height, data]) => {
    const rgba = Uint8Array.from(atob(data), (c) => c.charCodeAt(0));
    const rows = (top, count) => rgba.subarray(top * width * 4, (top + count) * width * 4);
    const found = Object.entries(cut({ width, height, rows }, patch, most));
    return Object.fromEntries(found.map(([name, [data, shape]]) => [name, [[...data], shape]]));
  });
}"""
SIZES = """async (cases) => {
  const { targetGrid } = await import(PAGE + "patches.js");
  return cases.map((given) => targetGrid(...given));
}"""


@pytest.fixture(scope="module")
def images(reference):
    return [reference("naflex")[f"image_{i}"] for i in range(5)]


@pytest.mark.parametrize("length", [36, 144])
def test_patches_are_big_visions(site, scripts, images, reference, length):
    want, page = reference("naflex"), scripts(site)
    opaque = [np.pad(image, ((0, 0), (0, 0), (0, 1)), constant_values=255) for image in images]
    pictures = [[x.shape[1], x.shape[0], as_base64(x.tobytes())] for x in opaque]
    found = page.evaluate(CUT, {"pictures": pictures, "patch": 8, "most": length})
    for i, given in enumerate(found):
        arrays = {name: np.reshape(data, shape)[0] for name, (data, shape) in given.items()}
        np.testing.assert_allclose(arrays["patches"], want[f"{length}/patches"][i], atol=1e-5)
        np.testing.assert_array_equal(arrays["mask"], want[f"{length}/type"][i])
        np.testing.assert_array_equal(arrays["coordinates"][:, 0], want[f"{length}/yidx"][i])
        np.testing.assert_array_equal(arrays["coordinates"][:, 1], want[f"{length}/xidx"][i])
    cases = want["sizes/hwPL"]
    grids = np.array(page.evaluate(SIZES, cases.tolist()))
    np.testing.assert_array_equal(grids * cases[:, 2:3], want["sizes/result"])


@pytest.mark.full
def test_a_page_answers_as_the_model(naflex_file, images, tmp_path, serve, visit):
    fetched(web_runtime.CORE, web_runtime.UTILS, web_runtime.SENTENCEPIECE)
    model, texts = lit_tf.load(naflex_file), ["a cat", "two dogs"]
    for i, image in enumerate(images[:3]):
        PIL.Image.fromarray(image).save(tmp_path / f"{i}.png")
    pictures = sorted(tmp_path.glob("*.png"))
    how = {"quantization": "none", "max_patches": 36, "images": pictures, "texts": texts}
    web(model, tmp_path / "site", **how)
    page = visit(serve(tmp_path / "site").address).page
    for i, path in enumerate(pictures):
        if i:
            page.get_by_label(f"Try {path.name}").click()
        page.locator(".cards .best").nth(i).wait_for()
    zimg = model.encode_image(pictures, max_patches=36)
    match = 100 / (1 + np.exp(-model.logits(zimg, model.encode_text(texts)).numpy()))
    found = np.reshape(numbers(page, ".cards ol b"), (3, 2))[::-1]  # the newest card comes first
    labels = np.reshape(page.locator(".cards ol span").all_inner_texts(), (3, 2))[::-1]
    for row, names, expected in zip(found, labels, match, strict=True):
        order = [texts.index(name) for name in names]
        np.testing.assert_allclose(row, expected[order], atol=0.06)
    assert "at most 36 patches" in page.locator("body").text_content()
