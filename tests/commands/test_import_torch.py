"""colorgan import-torch: from a file of PyTorch to colors, and what it refuses."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from colorgan_jax.__main__ import main
from colorgan_jax.params import load_params, load_training
from colorgan_jax.weights.pix2pix import load_pix2pix

FILE = Path(__file__).parents[1] / "golden" / "latest_net_G.pth"

pytestmark = pytest.mark.usefixtures("empty_folder", "private_compilation_cache")


def import_torch(*words):
    return main(["import-torch", *map(str, words)])


def test_what_it_writes_colorizes(capsys):
    assert import_torch(FILE, "--output", "a.safetensors") == 0
    assert capsys.readouterr().out == "a.safetensors\n"
    assert load_training("a.safetensors") == {"imported_from": FILE.name}
    written, read = load_params("a.safetensors"), load_pix2pix(FILE)
    assert written.keys() == read.keys()
    for name, layer in read.items():
        for array, values in layer.items():
            np.testing.assert_array_equal(written[name][array], values)

    Image.linear_gradient("L").save("old.png")
    assert main(["colorize", "old.png", "--params", "a.safetensors"]) == 0
    colors = np.asarray(Image.open("colorized/old.png").convert("RGB"), int)
    assert np.ptp(colors, axis=-1).max() > 20


def test_nothing_is_replaced_unless_asked_for(capsys):
    output = Path("a.safetensors")
    output.write_bytes(b"mine")
    assert import_torch(FILE, "--output", output) == 1
    assert "--overwrite" in capsys.readouterr().err
    assert output.read_bytes() == b"mine"
    assert import_torch(FILE, "--output", output, "--overwrite") == 0
    assert load_params(output)


@pytest.mark.parametrize(
    ("file", "output", "message"),
    [
        ("none.pth", "a", "none.pth cannot be used: it does not exist."),
        (__file__, "a", "it is not a file of torch.save."),
        (FILE, "none/a", "none/a cannot be written: No such file"),
        (FILE, "a" * 300, "cannot be written: File name too long"),
    ],
    ids=["missing", "another", "no folder", "long name"],
)
def test_what_cannot_be_done_is_one_sentence(file, output, message, capsys):
    assert import_torch(file, "--output", output) == 1
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1 and error.count("cannot be") == 1
    assert not list(Path().iterdir())
