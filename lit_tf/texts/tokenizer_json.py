"""A sentencepiece model rebuilt from a `tokenizer.json`, where that is all there is."""

import base64
import os
import re

from lit_tf import files
from lit_tf.errors import DataError, TokenizerError
from lit_tf.texts import tokenizers

_BYTE_PIECE = re.compile("<0x[0-9A-F]{2}>")
_MAX_BYTES = 256 << 20  # Gemma's takes 34 MB
# Steps before the vocabulary that do not change ids, or that the rebuilt model does itself.
_KNOWN_STEPS = (
    *("Lowercase", "Strip", "Precompiled", "Metaspace", "WhitespaceSplit"),
    ("Replace", {"String": " "}),
    ("Replace", {"Regex": " {2,}"}),
    ("Split", {"String": " "}),
)


def sentencepiece_model(path: str | os.PathLike) -> bytes:
    """Returns the serialized sentencepiece model with the ids of a `tokenizer.json`.

    It is T5's unigram model or Gemma's BPE model with byte fallback; anything else is refused.
    """
    try:
        size = os.path.getsize(path)
        if size > _MAX_BYTES:
            raise TokenizerError(f"{path}: {size:,} bytes; expected at most {_MAX_BYTES:,}")
        with open(path, "rb") as file:
            data = files.parse_object(file.read(), path)
        return _Rebuilt(data).model().SerializeToString()
    except (OSError, DataError) as e:
        raise TokenizerError(str(e)) from None
    except (TypeError, KeyError, ValueError, AttributeError, IndexError, OverflowError) as e:
        raise TokenizerError(f"{path}: not a tokenizer.json that can be used: {e!r}") from None
    except TokenizerError as e:
        raise TokenizerError(f"{path}: {e}") from None


class _Rebuilt:
    """One tokenizer.json on its way to a sentencepiece model."""

    def __init__(self, data):
        self.json, self.spec = data, data["model"]
        self.is_bpe = self.spec["type"] == "BPE"
        if self.spec["type"] not in ("BPE", "Unigram"):
            raise TokenizerError(f"a {self.spec['type']!r:.40} model; expected BPE or Unigram")
        if bool(self.spec.get("byte_fallback")) != self.is_bpe:
            raise TokenizerError("expected BPE with byte fallback, or Unigram without")

    def model(self):
        model = tokenizers.sentencepiece_message()()
        self._normalizer(model.normalizer)
        pieces = self._pieces()
        special = {t["content"]: bool(t["special"]) for t in self.json.get("added_tokens") or ()}
        unknown = self.spec["unk_token"] if self.is_bpe else pieces[self.spec["unk_id"]][0]
        for piece, score in pieces:
            if piece == unknown:
                kind = tokenizers.UNKNOWN
            elif self.is_bpe and _BYTE_PIECE.fullmatch(piece):
                kind = tokenizers.BYTE
            elif special.get(piece) or piece in ("<pad>", "</s>"):
                kind = tokenizers.CONTROL
            else:
                kind = tokenizers.USER_DEFINED if piece in special else tokenizers.NORMAL
            model.pieces.add(piece=piece, score=score, type=kind)
        names = {piece for piece, _ in pieces}
        model.trainer.model_type = tokenizers.BPE if self.is_bpe else tokenizers.UNIGRAM
        model.trainer.byte_fallback = self.is_bpe
        model.trainer.unk_piece = unknown
        model.trainer.eos_piece = "<eos>" if "<eos>" in names else "</s>"
        return model

    def _pieces(self):
        """Returns (piece, score) in the order of ids, tokens that were added included."""
        vocab = self.spec["vocab"]
        if self.is_bpe:
            places: dict[str, int] = {}
            for place, merge in enumerate(self.spec["merges"]):
                left, right = merge.split(" ") if isinstance(merge, str) else merge
                places.setdefault(left + right, place)
            last = len(places) + 1
            found = {i: (piece, -float(places.get(piece, last))) for piece, i in vocab.items()}
        else:
            found = {i: (piece, float(score)) for i, (piece, score) in enumerate(vocab)}
        for token in self.json.get("added_tokens") or ():
            found.setdefault(token["id"], (token["content"], 0.0))
            if found[token["id"]][0] != token["content"]:
                raise TokenizerError(f"two pieces have id {token['id']}")
        if sorted(found) != list(range(len(found))):
            raise TokenizerError("the ids of the pieces are not 0, 1, 2, ...")
        return [found[i] for i in range(len(found))]

    def _normalizer(self, normalizer):
        steps = [*_steps(self.json.get("normalizer")), *_steps(self.json.get("pre_tokenizer"))]
        for step in steps:
            kind = step["type"]
            if kind not in _KNOWN_STEPS and (kind, step.get("pattern")) not in _KNOWN_STEPS:
                raise TokenizerError(f"an unknown step before the vocabulary: {step!r:.80}")
            if kind == "Precompiled":
                charsmap = base64.b64decode(step["precompiled_charsmap"], validate=True)
                normalizer.precompiled_charsmap = charsmap
        normalizer.name = "identity" if self.is_bpe else "nmt_nfkc"
        normalizer.add_dummy_prefix = normalizer.remove_extra_whitespaces = not self.is_bpe


def _steps(step):
    if step is None:
        return []
    if step["type"] == "Sequence":
        inner = step.get("normalizers") or step.get("pretokenizers") or []
        return [single for one in inner for single in _steps(one)]
    return [step]
