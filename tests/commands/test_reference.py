"""colorgan colorize --reference."""

import numpy as np
import pytest
from PIL import Image

from colorgan_jax import inference, make_reference, read_photo
from colorgan_jax.lab import rgb_to_lab
from colorgan_jax.params import load_params

pytestmark = pytest.mark.usefixtures("private_compilation_cache", "empty_folder")


@pytest.fixture
def reference():
    """A photo and, as gray.png, its lightness."""
    ramp = np.tile(np.linspace(60, 200, 48), (32, 1))
    rgb = np.stack([ramp, ramp / 2, ramp / 3], axis=-1).astype(np.uint8)
    Image.fromarray(rgb).save("color.png")
    L = np.asarray(rgb_to_lab(rgb / np.float32(255)))[..., 0]
    Image.fromarray((2.55 * L).astype(np.uint8)).save("gray.png")


def test_a_photo_takes_over_the_colors_of_another(colorize, params, reference):
    status, lines, errors = colorize("gray.png", "--reference", "color.png")
    assert (status, errors) == (0, [])
    made = read_photo(lines[0]).pixels
    expected = inference.colorize(
        load_params(params),
        rgb_to_lab(
            read_photo("gray.png").pixels[..., None].repeat(3, -1) / np.float32(255)
        )[..., 0],
        reference=make_reference(read_photo("color.png")),
    )
    np.testing.assert_allclose(made, 255 * expected, atol=1.01)
    middle = made[16, 24].astype(int)
    assert middle[0] > middle[1] + 20 > middle[2] + 20
    # Without it, or with another one, it is another result.
    Image.fromarray(read_photo("color.png").pixels[..., ::-1]).save("blue.png")
    for words in ([], ["--reference", "blue.png"]):
        assert "-" in colorize("gray.png", *words)[1][0]
    assert colorize("gray.png", "--reference", "color.png")[1] == []


@pytest.mark.parametrize(
    ("path", "message"),
    [("gray.png", "gray.png has no colors"), ("none.png", "none.png")],
)
def test_what_is_no_reference_is_refused(colorize, reference, path, message):
    status, lines, errors = colorize("color.png", "--reference", path)
    assert status != 0 and lines == [] and message in errors[0]
