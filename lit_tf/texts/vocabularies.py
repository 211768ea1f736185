"""What a vocabulary is called: beside a checkpoint, and where it is written."""

import pathlib

_SUFFIXES = {"bert": ".txt", "sentencepiece": ".model"}


def names(stem: str, kind: str | None = None) -> list[str]:
    """Returns the names that the vocabulary of a checkpoint STEM.npz may have, best first."""
    kinds = _SUFFIXES if kind is None else [kind]
    own = [f"{stem}{_SUFFIXES[k]}" for k in kinds]
    return [*own, "vocab.txt"] if "bert" in kinds else own


def suffix(kind: str) -> str:
    """Returns how the names of vocabularies of a kind end."""
    return _SUFFIXES[kind]


def find(folder: pathlib.Path, stem: str, kind: str) -> pathlib.Path | None:
    """Returns the vocabulary of a checkpoint in a folder, or None."""
    return next((folder / n for n in names(stem, kind) if (folder / n).is_file()), None)


def find_huggingface(folder: pathlib.Path) -> pathlib.Path | None:
    """Returns the vocabulary in a folder of Hugging Face's or open_clip's, or None."""
    models = [folder / name for name in ("spiece.model", "tokenizer.model")]
    others = sorted(folder.glob("*.model"))
    models += others if len(others) == 1 else []
    return next((f for f in (*models, folder / "tokenizer.json") if f.is_file()), None)
