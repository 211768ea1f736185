"""Wording of the notes on what an evaluation left out."""


def counted(number: int, word: str) -> str:
    """Returns "1 image" or "1,234 images"."""
    return f"{number:,} {word}" + ("s" if number != 1 else "")


def some(names: list[str], count: int | None = None) -> str:
    """Returns the first three names, and how many more there are."""
    count = len(names) if count is None else count
    return ", ".join(names[:3]) + (f" and {count - 3} more" if count > 3 else "")
