"""What others have published for the measures of the scorecard, where, and what differs."""

from colorgan_jax.evaluation.drawn_hints import PEER_PSNR

_DDCOLOR = "[DDColor](https://arxiv.org/abs/2212.11613), table 1"
_SIGGRAPH17 = (
    "[siggraph17](https://arxiv.org/abs/1705.02999), figure 6: 1,000 photos of ImageNet at"
    " 256x256, points of 6x6 pixels"
)
_COLORMNET = (
    "[ColorMNet](https://arxiv.org/abs/2404.06251), table 2, as others quote it"
)
_OPENVINO = "[OpenVINO's models](https://github.com/openvinotoolkit/open_model_zoo)"


def _gain(points: int) -> str:
    return f"+{PEER_PSNR[points] - PEER_PSNR[0]:.2f} dB"


# By the name of the measure. Each figure was read in the source that it names, but for
# those of ColorMNet, which were read where others quote them.
PEERS: dict[str, str] = {
    "PSNR": "DeOldify 24.19, ColorFormer 23.91, DDColor-tiny 23.45, InstColorization 23.38,"
    f" DDColor-large 22.85, CIC 22.73 dB ({_DDCOLOR}: 5,000 other photos of COCO at 256x256,"
    " by networks trained on ImageNet)",
    "LPIPS": "none found by AlexNet on COCO",
    "colorfulness": "DeOldify 25.0, InstColorization 27.5, CIC 33.8, ColorFormer 36.3, both"
    " DDColors 38.5, real photos 38.2 (the same table)",
    "Fréchet distance": "by Inception, which is FID, another measure: CIC 27.9, DeOldify 13.9,"
    " DDColor-large 5.2 (the same table)",
    "1 hint, gain": f"{_gain(1)} ({_SIGGRAPH17})",
    "5 hints, gain": f"{_gain(5)} (the same curve)",
    "10 hints, gain": f"{_gain(10)} (the same curve)",
    "20 hints, gain": f"{_gain(20)} (the same curve)",
    "bleeding": "none found",
    "flicker": "another measure, the change of the colors' histograms (CDC): 0.0038 to 0.0043"
    f" for four methods that are given the first frame in color ({_COLORMNET}: DAVIS)",
    "`colorgan colorize PHOTO`": "the network alone, DDColor-tiny at 512x512 on 24 threads:"
    " 0.55 s for the first photo ([OpenVINO's notebook]"
    "(https://docs.openvino.ai/2024/notebooks/ddcolor-image-colorization-with-output.html))",
    "`colorgan video FILM`, 250 frames of 1280x720": "14 frames a second and 1.9 GB of GPU"
    f" memory at 960x536 on an RTX A6000 ({_COLORMNET})",
    "weights": "millions of parameters: CIC 32.2, DeOldify 63.6, DDColor-tiny 55.0, -large"
    f" 227.9 ({_DDCOLOR}); files: CIC 128.9 MB, siggraph17 136.8 MB ({_OPENVINO})",
}
