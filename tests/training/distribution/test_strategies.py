"""Which strategy `auto` takes, and what it says of it."""

import types

import pytest
import tensorflow as tf

from lit_tf.training.distribution import strategies


def machine(root, devices, vendors):
    for device in devices:
        path = root / "dev" / device
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    for number, vendor in enumerate(vendors):
        folder = root / "sys/bus/pci/devices" / f"0000:00:{number:02d}.0"
        folder.mkdir(parents=True)
        (folder / "vendor").write_text(f"{vendor}\n")
    return root


@pytest.mark.parametrize(
    ("devices", "vendors", "expected"),
    [
        (["accel0"], [], True),
        (["vfio/0", "vfio/vfio"], ["0x8086", "0x1ae0"], True),
        (["vfio/0", "vfio/vfio"], ["0x8086", "0x10de"], False),  # somebody else's device
        ([], ["0x8086", "0x1ae0"], False),  # Google's network card
        ([], [], False),
    ],
)
def test_tpus_are_found_by_either_driver(devices, vendors, expected, tmp_path):
    assert strategies._on_tpu_vm(machine(tmp_path, devices, vendors)) == expected


def test_a_strategy_is_described_by_kind_and_replicas(capsys):
    made = strategies.of_arguments(types.SimpleNamespace(strategy="one_device", tpu=None))
    assert isinstance(made, tf.distribute.OneDeviceStrategy)
    assert capsys.readouterr().err == "strategy: OneDeviceStrategy, 1 replica\n"
