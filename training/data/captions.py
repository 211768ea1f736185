"""Which captions a sample of a tar has.

A text member is one caption, unparsed. In a JSON member, a string is one caption, and a list of
strings is several captions of one image. Any other value is not a caption, and is named.
"""

import json


def sample_captions(data: dict[str, bytes], names) -> tuple[list[bytes], str]:
    """Returns (captions in UTF-8, ""), or ([], the reason in words) if a sample has none.

    `data` is {extension: bytes}. The first of `names` that the sample has counts: an extension, or
    "json/NAME" for a field of the JSON member.
    """
    for name in names:
        extension, _, key = name.partition("/")
        if extension not in data:
            continue
        if extension != "json":
            return [data[extension]], ""
        try:
            value = json.loads(data[extension])
        except (ValueError, RecursionError):
            return [], f"{extension} cannot be read as JSON"
        for part in key.split("/") if key else ():
            if not isinstance(value, dict) or part not in value:
                return [], f"{name} is missing"
            value = value[part]
        texts = value if isinstance(value, list) else [value]
        if not texts or not all(isinstance(text, str) for text in texts):
            return [], f"{name} is {json.dumps(value):.40}; expected a text or a list of texts"
        return [text.encode("utf-8", "replace") for text in texts], ""
    return [], ""
