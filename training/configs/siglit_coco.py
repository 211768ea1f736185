"""SigLiT on COCO captions: lit_coco with the sigmoid loss (arXiv:2303.15343, section 4.1)."""

from lit_tf.contrastive.config import SIGMOID

from . import lit_coco


def get_config(argument=""):
    """Returns the config; the arguments are `lit_coco`'s."""
    return lit_coco.get_config(argument, loss=SIGMOID, bias=-2.71, name="siglit_coco")
