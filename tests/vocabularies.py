"""Sentencepiece models that differ from those of the reference."""

import pytest


def spm_bytes(data, pieces=(), **trainer):
    """Returns a sentencepiece model's file with more pieces and another trainer specification."""
    model_pb2 = pytest.importorskip("sentencepiece.sentencepiece_model_pb2")
    model = model_pb2.ModelProto.FromString(data)
    for piece in pieces:
        model.pieces.add(piece=piece, score=0, type=model.SentencePiece.USER_DEFINED)
    for name, value in trainer.items():
        setattr(model.trainer_spec, name, value)
    return model.SerializeToString()
