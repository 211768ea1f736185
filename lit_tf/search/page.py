"""The answer to a question as one HTML file, which needs no other file and no network."""

import base64
import os
import pathlib
import urllib.parse
from collections.abc import Sequence

from lit_tf import files
from lit_tf.errors import extra
from lit_tf.files import printable
from lit_tf.search.query import Found

with extra("search"):
    import jinja2

_TEMPLATE = pathlib.Path(__file__).with_name("page.html")


def write_page(path, question: str, found: Sequence[Found], pictures: int, model: str) -> None:
    """Writes a page of thumbnails, the best first, found among `pictures` by what `model` names."""
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined)
    template = environment.from_string(_TEMPLATE.read_text(encoding="utf-8"))
    cards = [_card(i, picture) for i, picture in enumerate(found, 1)]
    about = {"question": question, "pictures": pictures, "model": model}
    about["has_match"] = any(picture.match is not None for picture in found)
    text = template.render(found=cards, **about)
    with files.replacing(path) as file:
        file.write(text.encode("utf-8", "backslashreplace"))


def _card(rank, picture):
    data = base64.b64encode(picture.thumbnail).decode()
    return {
        "rank": rank,
        "image": f"data:image/jpeg;base64,{data}",
        "link": "file://" + urllib.parse.quote(os.fsencode(picture.path)),
        "name": printable(os.path.basename(picture.path)),
        "folder": printable(os.path.dirname(picture.path)),
        "score": f"{picture.score:.3f}",
        "match": None if picture.match is None else f"{100 * picture.match:.1f} %",
        "taken": picture.taken and picture.taken.replace("T", " "),
        "pixels": f"{picture.width} x {picture.height}",
    }
