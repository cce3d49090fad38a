"""A Hugging Face Space: a page that colorizes photos (README.md says how to deploy it)."""

import dataclasses
from pathlib import Path

import gradio as gr

import colorgan_jax
from colorgan_jax.errors import ColorganError
from colorgan_jax.photos.xmp import add_provenance

# Or load_params("hf://OWNER/NAME") for weights of your own.
PARAMS = colorgan_jax.load_params()

# What browsers show; the results of other photos are PNG.
SHOWN = {".jpg", ".jpeg", ".png", ".webp"}

# In seconds: every so often, files that are so old are deleted. An hour in all.
DELETE_CACHE = (600, 3000)

ABOUT = """
**The colors are guesses**: they are no evidence of what a dress, a flag or a face looked like.
Label a colorized photo as colorized when you show it.

**No photo is kept**: yours and the result are deleted within an hour. The result has the size
and the lightness of your photo and keeps its metadata (EXIF, such as date and place, XMP and
IPTC where the format has room for them); XMP says besides that the colors are generated.
"""


def colorize(photo: str | None, saturation: float) -> str:
    """Colorizes a photo file.

    Args:
      photo: its path in gradio's cache, or None if none was chosen.
      saturation: factor on the colors.

    Returns:
      The path of the result, in the folder of the photo, where gradio deletes it in time.
    """
    if photo is None:
        raise gr.Error("Choose a photo first.", print_exception=False)
    path = Path(photo)
    extension = path.suffix.lower()
    # Another name for another saturation: browsers keep what they have seen.
    name = f"{path.stem}-colorized-{saturation:g}"
    result = path.with_name(name + (extension if extension in SHOWN else ".png"))
    try:
        colored = colorgan_jax.colorize_photo(
            PARAMS, colorgan_jax.read_photo(path, path.name), saturation=saturation
        )
        packet = add_provenance(
            colored.metadata.xmp,
            source=None,
            settings=None,
            version=colorgan_jax.__version__,
        )
        metadata = dataclasses.replace(colored.metadata, xmp=packet)
        colorgan_jax.write_photo(
            result, dataclasses.replace(colored, metadata=metadata)
        )
    except ColorganError as error:
        raise gr.Error(str(error), print_exception=False) from error
    return str(result)


# image_mode=None leaves the file as it was uploaded, with all that it holds.
demo = gr.Interface(
    colorize,
    inputs=[
        gr.Image(type="filepath", image_mode=None, sources=["upload"], label="Photo"),
        gr.Slider(0, 2, value=1, step=0.1, label="Saturation"),
    ],
    outputs=gr.Image(label="Colorized", buttons=["download", "fullscreen"]),
    title="Color for black-and-white photos",
    article=ABOUT,
    submit_btn="Colorize",
    api_name="colorize",
    flagging_mode="never",
    analytics_enabled=False,
    delete_cache=DELETE_CACHE,
)

if __name__ == "__main__":
    demo.launch(max_file_size="50mb", run_history=False)  # No photo in the browser.
