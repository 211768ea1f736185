"""What `config.json` and `open_clip_config.json` say of a SigLIP, compared with its tensors."""

import math
import re
from collections.abc import Mapping

from lit_tf.checkpoints.shapes import IMG_BLOCK, TXT_BLOCK
from lit_tf.errors import CheckpointError

# Defaults in this file are those of transformers' SiglipTextConfig and SiglipVisionConfig.
# `siglip2` is NaFlex; every SigLIP 2 of a fixed resolution is a `siglip`.
_WHOLE = ("siglip", "siglip2")
_LONE = {f"{whole}_{t}_model": f"{t}_model." for whole in _WHOLE for t in ("vision", "text")}
_WHAT = "lit_tf reads SigLIP and SigLIP 2"
# Heads of timm's models, which no file says.
_TIMM_HEADS = {"vit_base_": 12, "vit_large_": 16, "vit_so400m_": 16, "vit_giantopt_": 16}
# {field: what lit_tf computes}
_COMPUTED = {
    "hidden_act": ("gelu_pytorch_tanh", "gelu_new"),
    "layer_norm_eps": (1e-6,),
    "num_channels": (3,),
    "vision_use_head": (True,),
}


class Configuration:
    """One configuration of either layout; `image` and `text` are {field: value} of the towers."""

    def __init__(self, source: str, config: Mapping, layout: str):
        """Refuses what is not a SigLIP, by name."""
        self.source, self._prefix, self.naflex = source, "", False
        self._own = config.get("lit_tf")
        read = self._open_clip if layout == "open_clip" else self._huggingface
        self.image, self.text = read(config)

    def _fault(self, text):
        return CheckpointError(f"{self.source}: {text}")

    def _huggingface(self, config):
        """Returns (image, text) of config.json."""
        kind = config.get("model_type")
        if config.get("class_name") == "SigLIPBackbone":
            raise self._fault("a checkpoint of KerasHub; Hugging Face has it as .safetensors too")
        if kind not in (*_WHOLE, *_LONE):
            what = f"a model of type {kind!r:.80}" if kind else "a config.json without model_type"
            raise self._fault(f"{what}; {_WHAT}")
        if "quantization_config" in config:
            raise self._fault("a quantized model (quantization_config); take its float file")
        self._prefix = _LONE.get(kind, "")
        towers = [config, config]
        self.naflex = kind.startswith("siglip2")
        if kind in _WHOLE:
            towers = [config.get("vision_config", {}), config.get("text_config", {})]
        for tower in towers:
            if not isinstance(tower, dict):
                raise self._fault(f"config.json: a tower is {tower!r:.80}, expected an object")
            for field, allowed in _COMPUTED.items():
                if field in tower and tower[field] not in allowed:
                    why = " (False: no pooling)" if field == "vision_use_head" else ""
                    found = f"{field} is {tower[field]!r:.80}"
                    raise self._fault(f"{found}; lit_tf computes {allowed[0]}{why}")
        return towers

    def _open_clip(self, config):
        """Returns (image, text) of open_clip_config.json, in Hugging Face's words."""
        model = config.get("model_cfg")
        image = model.get("vision_cfg") if isinstance(model, dict) else None
        text = model.get("text_cfg") if isinstance(model, dict) else None
        if not isinstance(image, dict) or not isinstance(text, dict):
            raise self._fault("open_clip_config.json: expected model_cfg with two towers")
        name = image.get("timm_model_name")
        found = (
            *(image.get("timm_pool"), image.get("timm_proj") or "none"),
            *(text.get("pool_type"), text.get("no_causal_mask")),
        )
        known = re.match(r"vit_.*_siglip_(?!.*(gap_|naflex))", str(name))
        if not known or found != ("map", "none", "last", True):
            raise self._fault(f"open_clip's model of {name!r:.80} {found!r:.200}; {_WHAT}")
        heads = next((h for start, h in _TIMM_HEADS.items() if name.startswith(start)), None)
        if heads is None:
            raise self._fault(f"{name!r:.80}'s heads are in no file; known: {list(_TIMM_HEADS)}")
        return (
            {"num_attention_heads": heads, "image_size": image.get("image_size")},
            {
                "num_attention_heads": text.get("heads"),
                "hidden_size": text.get("width"),
                "num_hidden_layers": text.get("layers"),
                "vocab_size": text.get("vocab_size"),
                "max_position_embeddings": text.get("context_length"),
                "projection_size": model.get("embed_dim"),
            },
        )

    def with_prefixes(self, keys) -> dict[str, str]:
        """Returns {name with its tower's prefix: name in the file}, without what is ignored.

        transformers 5 writes a lone tower without `vision_model.` or `text_model.`, 4 with it.
        """
        used = [k for k in keys if not re.search(r"embeddings\.position_ids$|^classifier\.", k)]
        prefix = "" if any(k.startswith(self._prefix) for k in used) else self._prefix
        return {prefix + k: k for k in used}

    def heads(self, tower: str) -> int:
        """Returns the number of heads of the tower `img` or `txt`."""
        config = self.image if tower == "img" else self.text
        return self._positive("num_attention_heads", config.get("num_attention_heads", 12))

    def _positive(self, field, value):
        if type(value) is not int or not 0 < value < 1 << 31:
            raise self._fault(f"{field} is {value!r:.80}, expected a positive integer")
        return value

    def image_size(self) -> int:
        """Returns the side of the images in pixels."""
        side = self.image.get("image_size", 224)
        if isinstance(side, list) and len(side) == 2 and side[0] == side[1]:
            side = side[0]
        return self._positive("image_size", side)

    def check_sizes(self, shapes: Mapping[str, tuple[int, ...]], depths) -> None:
        """Refuses a configuration that states another size than the canonical shapes show."""
        image_depth, text_depth = depths
        if image_depth is not None:
            *patch_area, width = shapes["img/embedding/kernel"]
            patch = math.isqrt(math.prod(patch_area) // 3)
            patches = math.prod(shapes["img/pos_embedding"][:-1])
            side = None if self.naflex else self.image_size()
            if side is not None and (side // patch) ** 2 != patches:
                raise self._fault(
                    f"image_size {side} has {side // patch} patches of {patch} along a side, but "
                    f"the position embedding has {patches} rows"
                )
            found = {"hidden_size": width, "num_hidden_layers": image_depth, "patch_size": patch}
            if self.naflex:
                found["num_patches"] = patches
            if image_depth:
                found["intermediate_size"] = shapes[f"{IMG_BLOCK}0/MlpBlock_0/Dense_0/bias"][0]
            self._compare({"num_patches": 256, **self.image}, found)
        if text_depth is not None:
            vocab, width = shapes["txt/Embed_0/embedding"]
            found = {
                "hidden_size": width,
                "num_hidden_layers": text_depth,
                "vocab_size": vocab,
                "max_position_embeddings": shapes["txt/pos_embedding"][1],
                "projection_size": shapes.get("txt/head/bias", (width,))[0],
            }
            if text_depth:
                found["intermediate_size"] = shapes[f"{TXT_BLOCK}0/MlpBlock_0/Dense_0/bias"][0]
            self._compare(self.text, found)

    def _compare(self, stated, found):
        for field, value in found.items():
            if stated.get(field) not in (None, value):
                raise self._fault(f"config {field} is {stated[field]!r:.80}, the tensors' {value}")

    def stated(self, depths) -> dict:
        """Returns {field: value} as `record.FIELDS` has it; all published models lower-case."""
        square = depths[0] is not None and not self.naflex
        own = self._own if isinstance(self._own, dict) else {}  # what `save_huggingface` adds
        stated = {k: own[k] for k in ("preprocessing", "resample") if k in own}
        stated |= {"image.image_size": self.image_size()} if square else {}
        return {"lowercase": True, **stated}
