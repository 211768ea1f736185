"""tfds builders of this project; importing this module makes `tfds.load("digit_pairs")` work."""

from .digit_pairs import DigitPairs
