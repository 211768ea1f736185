"""Which captions a sample of a tar has.

A text member is one caption, unparsed. In a JSON member, a string is one caption, and a list of
strings is several captions of one image. Any other value is not a caption, and is named.
"""

import json

_KINDS = {
    bool: "true or false",
    dict: "an object",
    float: "a number",
    int: "a number",
    type(None): "null",
}


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
            texts = _texts(json.loads(data[extension]), key)
        except _NotCaptionsError as e:
            return [], f"{name} {e}"
        except (ValueError, RecursionError):
            return [], f"{extension} cannot be read as JSON"
        return [text.encode("utf-8", "replace") for text in texts], ""
    return [], ""


class _NotCaptionsError(Exception):
    pass


def _texts(value, key):
    """Returns the strings in the field `key` of parsed JSON, or in all of it for ""."""
    for part in key.split("/") if key else ():
        if not isinstance(value, dict) or part not in value:
            raise _NotCaptionsError("is missing")
        value = value[part]
    texts = value if isinstance(value, list) else [value]
    wrong = [text for text in texts if not isinstance(text, str)]
    if wrong:
        found = _KINDS.get(type(wrong[0]), "a list")
        found = f"a list with {found} in it" if isinstance(value, list) else found
        raise _NotCaptionsError(f"is {found}; expected a string or a list of strings")
    if not texts:
        raise _NotCaptionsError("is an empty list")
    return texts
