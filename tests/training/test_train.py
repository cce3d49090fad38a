"""Whole training runs: what they write, what they refuse."""

import json
import shlex
import shutil
import warnings
from pathlib import Path

import jax
import numpy as np
import pytest
from ml_collections import ConfigDict
from PIL import Image
from tiny_run import latest_step, read_metrics, tiny_config

from colorgan_jax import colorize, load_params
from colorgan_jax.errors import ColorganError, DataError, NonFiniteError, TrainingError
from colorgan_jax.params import load_training
from colorgan_jax.training import metric_log
from colorgan_jax.training.checkpoint import Checkpoints
from colorgan_jax.training.data import load_photos, mean_ab
from colorgan_jax.training.lock import locked
from colorgan_jax.training.results import print_report
from colorgan_jax.training.run_config import check_workdir, write_config
from colorgan_jax.training.schedules import learning_rate
from colorgan_jax.training.train import new_state, train
from colorgan_jax.weights import efficientnet as pretrained
from configs import pix2pix

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """The work directory of a run that came to its end, and what it printed."""
    workdir = tmp_path_factory.mktemp("finished")
    with pytest.MonkeyPatch.context() as patch:
        lines = []
        patch.setattr("builtins.print", lambda *words: lines.append(" ".join(words)))
        assert train(tiny_config(epochs=2, validate_every_steps=19), workdir) is None
    return workdir, lines


@pytest.fixture
def copied(finished, tmp_path):
    """A work directory like the finished run's, to be changed."""
    return Path(shutil.copytree(finished[0], tmp_path / "run"))


def test_a_run_leaves_metrics_pictures_and_parameters(finished):
    workdir, lines = finished
    rows = read_metrics(workdir)
    # 157 photos make 19 steps an epoch; losses are written every 5 and at its end.
    assert [float(row["step"]) for row in rows if row["l1_loss"]] == [
        *(5, 10, 15, 19),
        *(20, 25, 30, 35, 38),
    ]
    validations = [row for row in rows if row["validation_psnr"]]
    assert [float(row["epoch"]) for row in validations] == [1, 2]
    for file in ("loss_curves.png", "samples/step_0000038.png"):
        assert Image.open(workdir / file).width > 500
    assert list((workdir / "tensorboard").glob("events*"))
    assert json.loads((workdir / "config.json").read_text())["batch_size"] == 8
    rgb = colorize(load_params(workdir), np.full((20, 30), 50.0))
    assert rgb.shape == (20, 30, 3)
    training = load_training(workdir)
    assert training["step"] == 38 and training["config"]["batch_size"] == 8
    np.testing.assert_allclose(
        training["mean_ab"], mean_ab(load_photos(tiny_config())[0], batch_size=8)
    )
    assert any(line.startswith("23 validation photos") for line in lines)
    assert f"--params {workdir}" in lines[-1]


def test_the_parameters_of_the_best_validation_are_kept(copied):
    psnr = {
        int(float(row["step"])): float(row["validation_psnr"])
        for row in read_metrics(copied)
        if row["validation_psnr"]
    }
    best = max(psnr, key=lambda step: psnr[step])
    assert load_training(copied / "best.safetensors")["step"] == best
    # A worse one, by a learning rate that destroys all, leaves it as it is.
    before = (copied / "best.safetensors").read_bytes()
    config = tiny_config(epochs=3, validate_every_steps=19)
    config.optimizer.learning_rate = 1.0
    assert train(config, copied) is None
    assert load_training(copied)["step"] == 57
    assert (copied / "best.safetensors").read_bytes() == before


@pytest.mark.parametrize("name", ["plain", "my runs #2", "it's"])
def test_the_printed_command_can_be_pasted(name, tmp_path, capsys):
    workdir = tmp_path / name
    print_report({"2 photos": {"generated": 20.0}}, workdir)
    words = shlex.split(capsys.readouterr().out.splitlines()[-1].split(": ", 1)[1])
    assert words[-2:] == ["--params", str(workdir)]


def test_gray_and_random_score_what_arithmetic_says(finished):
    workdir, _ = finished
    row = [row for row in read_metrics(workdir) if row["validation_psnr"]][-1]
    # Independently: scikit-image's Lab, its PSNR, and its photos.
    from skimage.color import lab2rgb, rgb2lab
    from skimage.metrics import peak_signal_noise_ratio

    _, validation = load_photos(tiny_config())
    noise = np.random.default_rng(0)
    scores = {"gray": [], "random": []}
    for pixels in validation.load(np.arange(len(validation))):
        L = rgb2lab(pixels)[..., :1]
        for name, ab in (
            ("gray", np.zeros((32, 32, 2))),
            ("random", noise.uniform(-110, 110, (32, 32, 2))),
        ):
            with warnings.catch_warnings(action="ignore"):  # Of colors out of gamut.
                rgb = lab2rgb(np.concatenate([L, ab], axis=-1))
            scores[name].append(
                peak_signal_noise_ratio(pixels / 255, rgb, data_range=1)
            )
    for name, tolerance in (("gray", 0.02), ("random", 0.1)):
        np.testing.assert_allclose(
            float(row[f"validation_psnr_{name}"]),
            np.mean(scores[name]),
            atol=tolerance,
        )


def test_a_finished_run_ends_again_at_once(finished):
    workdir, _ = finished
    before = read_metrics(workdir)
    # As if the earlier call had been killed right after its last checkpoint.
    (workdir / "params.safetensors").unlink()
    assert train(tiny_config(epochs=2, validate_every_steps=19), workdir) is None
    assert read_metrics(workdir) == before
    assert load_params(workdir)


def test_a_loss_that_is_not_finite_stops_the_run(finished, tmp_path):
    workdir, _ = finished
    step = latest_step(workdir)
    config = tiny_config(epochs=4, **{"optimizer.learning_rate": 1e30})
    with pytest.raises(NonFiniteError, match=r"at step \d+.*learning_rate"):
        train(config, workdir)
    assert latest_step(workdir) == step


def test_other_batches_are_refused_by_name(finished):
    """They would give the steps so far another meaning: other epochs, other photos."""
    workdir, _ = finished
    before = (workdir / "config.json").read_text()
    with pytest.raises(TrainingError, match=r"batches of 8: .*--config.batch_size=8"):
        train(tiny_config(epochs=3, batch_size=16), workdir)
    assert (workdir / "config.json").read_text() == before


def test_fewer_epochs_than_were_taken_are_refused(copied):
    before = (copied / "config.json").read_text()
    with pytest.raises(
        TrainingError, match=r"run of 2 epochs, and --config.epochs is 1"
    ):
        train(tiny_config(epochs=1), copied)
    assert (copied / "config.json").read_text() == before


def test_another_seed_is_refused(copied):
    """It would be neither of the two runs."""
    with pytest.raises(TrainingError, match=r"seed is 1, .* with seed 0"):
        train(tiny_config(epochs=3, seed=1), copied)


def test_two_runs_do_not_write_into_one_folder(copied):
    pytest.importorskip("fcntl")
    with (
        locked(copied),
        pytest.raises(TrainingError, match=r"Another run is writing into"),
    ):
        train(tiny_config(epochs=3), copied)
    assert latest_step(copied) == 38
    with locked(copied):  # The run that was refused has not left it locked.
        pass


@pytest.mark.slow
def test_before_the_first_checkpoint_anything_may_change(tmp_path, monkeypatch):
    """As where the first step did not fit into the memory of the device."""

    def fail(*_, **__):
        raise MemoryError

    with monkeypatch.context() as patch, pytest.raises(MemoryError):
        patch.setattr(metric_log.MetricLog, "add_step", fail)
        train(tiny_config(epochs=1), tmp_path)
    config = tiny_config(
        epochs=1, batch_size=16, time_limit_minutes=1e-6, **{"generator.filters": 2}
    )
    assert train(config, tmp_path) == "the time limit"


def test_other_networks_are_refused_by_name(finished):
    workdir, _ = finished
    before = (workdir / "config.json").read_text()
    with pytest.raises(TrainingError, match=r"generator.filters 4 -> 8"):
        train(tiny_config(**{"generator.filters": 8}), workdir)
    assert (workdir / "config.json").read_text() == before


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("batch_size", 1, "BatchNorm"),
        ("batch_size", 7, "multiple of the 2 devices"),
        ("image_size", 48, "power of two"),
        ("image_size", 16, "32"),
        ("validate_every_steps", 0, "1 or more"),
        ("compute_dtype", "float16", "float32 or bfloat16"),
        ("generator.encoder", "resnet", "unet or efficientnet"),
        ("generator.frozen_blocks", 4, "unet it must be 0"),
        ("optimizer.decay_epochs", 10.5, "from 0 to the 10 epochs"),
        ("data.smallest_crop", 0.0, "more than 0 and at most 1"),
        ("loss.adversarial_from_epoch", -1.0, "0 or more"),
        ("generator.maximum_filters", -1, "0 or more"),
        ("seed", -1, "from 0 to 4294967295"),
        ("seed", 2**32, "from 0 to 4294967295"),
        ("epochs", -1, "1 or more"),
        ("generator.filters", 0, "1 or more"),
        ("generator.dropout", 1.0, "from 0 to below 1"),
        ("discriminator.filters", 0, "1 or more"),
        ("discriminator.halvings", 4, "is 4: .* 64 pixels"),
        ("optimizer.learning_rate", 0.0, "more than 0"),
        ("optimizer.learning_rate", float("nan"), "a number"),
        ("optimizer.learning_rate", float("inf"), "a number"),
        ("optimizer.beta1", 1.0, "from 0 to below 1"),
        ("optimizer.beta2", -0.1, "from 0 to below 1"),
        ("loss.l1_weight", -1.0, "0 or more"),
        ("loss.adversarial_weight", -1.0, "0 or more"),
        ("ema_decay", 1.0, "from 0 to below 1"),
        ("data.train_photos", -1, "0 or more"),
        ("data.validation_photos", 0, "1 or more"),
        ("data.minimum_color", 256.0, "from 0 to 255"),
        ("data.memory_gigabytes", -1.0, "0 or more"),
        ("log_every_steps", 0, "1 or more"),
        ("checkpoint_every_minutes", -1.0, "0 or more"),
        ("keep_checkpoints", 0, "1 or more"),
        ("time_limit_minutes", -1.0, "0 or more"),
    ],
)
def test_impossible_values_are_refused(name, value, message, tmp_path):
    with pytest.raises(TrainingError, match=rf"--config.{name}.*{message}"):
        train(tiny_config(**{name: value}), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_each_value_must_be_there_and_no_other(tmp_path):
    for room, values in [(None, pix2pix.get_config()), *pix2pix.get_config().items()]:
        for name in values if isinstance(values, ConfigDict) else ():
            config = pix2pix.get_config()
            with config.unlocked():
                del (config[room] if room else config)[name]
            with pytest.raises(TrainingError, match=rf"no ([a-z]+\.)?{name}"):
                train(config, tmp_path / "run")
    config = pix2pix.get_config()
    config.data.minimum_colour = 4.0  # That of version 0.1.
    with pytest.raises(TrainingError, match=r"data\.minimum_colour, which is no value"):
        train(config, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_pretrained_encoder_needs_its_package_before_photos(tmp_path, monkeypatch):
    monkeypatch.setattr(pretrained, "is_available", lambda: False)
    config = tiny_config(
        **{
            "generator.encoder": "efficientnet",
            "data.source": str(tmp_path / "nothing"),
        }
    )
    with pytest.raises(
        TrainingError, match=r"generator.encoder is efficientnet.*pip install"
    ):
        train(config, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_pretrained_encoder_is_loaded_once_and_released_as_it_is(
    tmp_path, monkeypatch
):
    encoder = pretrained.efficientnet_encoder()
    config = tiny_config(
        **{
            "generator.encoder": "efficientnet",
            "generator.frozen_blocks": len(encoder),
            "time_limit_minutes": 1e-6,
        }
    )
    assert train(config, tmp_path) == "the time limit"
    monkeypatch.setattr(pretrained, "efficientnet_encoder", pytest.fail)
    monkeypatch.setattr(pretrained, "is_available", lambda: False)
    assert train(config, tmp_path) == "the time limit"
    assert latest_step(tmp_path) == 2
    params = load_params(tmp_path)
    for block in encoder.values():
        for name, layer in block.items():
            jax.tree.map(np.testing.assert_array_equal, params[name], layer)
    assert colorize(params, np.full((20, 30), 50.0)).shape == (20, 30, 3)


def test_a_run_goes_on_from_parameters(finished, tmp_path):
    """Without BatchNorm: what no step has changed is what it was given."""
    values = {"initial_params": str(finished[0]), "generator.dropout": 0.0}
    config = tiny_config(**values, time_limit_minutes=1e-6)
    config.optimizer.learning_rate = 1e-4
    assert train(config, tmp_path / "run") == "the time limit"
    given, after = load_params(finished[0]), load_params(tmp_path / "run")
    moved = jax.tree.map(lambda a, b: float(np.abs(a - b).max()), given, after)
    # One step of Adam moves each by the learning rate at most, and many by about it; the
    # average of that step follows most of the way.
    assert 2e-5 < np.median(jax.tree.leaves(moved))
    assert max(jax.tree.leaves(moved)) < 1.01e-4
    # It resumes, but not as a run with BatchNorm.
    assert train(config, tmp_path / "run") == "the time limit"
    assert latest_step(tmp_path / "run") == 2
    with pytest.raises(TrainingError, match=r"initial_params .* -> None"):
        train(tiny_config(), tmp_path / "run")


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("generator.filters", 8, r"another generator .* generator\.filters=4,"),
        ("image_size", 64, "image_size=32,"),
        ("initial_params", "nowhere", "nowhere does not exist"),
    ],
)
def test_parameters_that_do_not_fit_are_refused_first(
    finished, tmp_path, name, value, message
):
    config = tiny_config(**{"initial_params": str(finished[0]), name: value})
    with pytest.raises(ColorganError, match=message):
        train(config, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_the_learning_rate_falls_in_the_last_epochs():
    values = {"optimizer.learning_rate": 4e-4, "epochs": 10}
    assert learning_rate(tiny_config(**values), 8) == 4e-4
    config = tiny_config(**values, **{"optimizer.decay_epochs": 2.5})
    # 80 steps, the last 20 of them on a line that would reach 0 at the 81st.
    steps = np.array([59, 60, 61, 70, 79])
    expected = [4e-4, 4e-4, 3.8e-4, 2e-4, 2e-5]
    rates = [learning_rate(config, 8)(step) for step in steps]
    np.testing.assert_allclose(rates, expected, rtol=1e-5)
    # The same for a discriminator that takes its first step as the run takes its 50th.
    rates = [learning_rate(config, 8, first_step=49)(step) for step in steps - 49]
    np.testing.assert_allclose(rates, expected, rtol=1e-5)


@pytest.mark.slow
def test_both_networks_have_the_same_learning_rate_at_every_step(tmp_path):
    """A discriminator that takes the run's last step only has its learning rate."""
    values = {"epochs": 1, "optimizer.decay_epochs": 1.0}
    config = tiny_config(**values, **{"loss.adversarial_from_epoch": 18 / 19})
    before = jax.jit(lambda: new_state(config, steps_per_epoch=19))()
    assert train(config, tmp_path) is None
    with Checkpoints(tmp_path) as saved:
        after = saved.restore(
            jax.eval_shape(jax.jit(lambda: new_state(config, steps_per_epoch=19)))
        )
    moved = jax.tree.map(
        lambda a, b: float(np.abs(a - b).max()),
        before.discriminator.params,
        after.discriminator.params,
    )
    # Adam's first step moves parameters by the learning rate: here a 19th of 2e-4.
    np.testing.assert_allclose(max(jax.tree.leaves(moved)), 2e-4 / 19, rtol=0.02)


def test_a_zero_that_means_none_is_no_change(copied, caplog):
    values = {"generator.maximum_filters": 0, "data.train_photos": 0}
    check_workdir(copied, tiny_config(epochs=2, time_limit_minutes=0, **values))
    assert "maximum_filters" not in caplog.text
    assert "train_photos" not in caplog.text
    assert "time_limit" not in caplog.text


def test_a_run_whose_batches_an_earlier_version_drew_is_refused(copied):
    """It would go on with photos that it had already seen in the epoch."""
    photos = json.loads((copied / "photos.json").read_text())
    del photos["order"]
    (copied / "photos.json").write_text(json.dumps(photos))
    before = {file: file.read_bytes() for file in copied.rglob("*") if file.is_file()}
    with pytest.raises(TrainingError, match=r"earlier version .* another --workdir"):
        train(tiny_config(epochs=3, validate_every_steps=19), copied)
    assert before == {
        file: file.read_bytes() for file in copied.rglob("*") if file.is_file()
    }


def test_sources_are_compared_by_their_names(copied, caplog):
    """A string, a tuple and what JSON makes of it are alike, and no news."""
    config = tiny_config(epochs=2, validate_every_steps=19)
    config.data.source = ("skimage",)
    check_workdir(copied, config)
    config.data.source = ("a", "b")
    write_config(copied, config)
    check_workdir(copied, config)
    assert "data.source" not in caplog.text
    config.data.source = ("a", "c")
    check_workdir(copied, config)
    assert "the last start: data.source a, b -> a, c." in caplog.text
    caplog.clear()
    check_workdir(copied, tiny_config(**{"data.validation_photos": 7}))
    assert "-> 7, without effect: the run keeps its photos." in caplog.text


@pytest.mark.parametrize("name", ["config.json", "photos.json"])
def test_a_damaged_or_missing_record_is_one_sentence(name, copied):
    (copied / name).write_text('{"seed": 0, ')
    with pytest.raises(TrainingError, match=rf"{name} is damaged"):
        train(tiny_config(epochs=3), copied)
    (copied / name).unlink()
    with pytest.raises(TrainingError, match=rf"{name} is missing"):
        train(tiny_config(epochs=3), copied)


def test_a_run_keeps_its_photos_when_its_folder_grows(tmp_path, caplog):
    """A photo whose name sorts first would change the draw of all others."""
    folder = tmp_path / "photos"
    folder.mkdir()
    random = np.random.default_rng(0)
    for number in range(30):
        pixels = random.integers(0, 256, (32, 32, 3), np.uint8)
        Image.fromarray(pixels).save(folder / f"{number:02}.png")
    values = {"data.source": str(folder), "data.validation_photos": 12}
    workdir = tmp_path / "run"
    assert train(tiny_config(epochs=1, **values), workdir) is None
    photos = json.loads((workdir / "photos.json").read_text())
    assert len(photos["training"]) == 18
    assert len(photos["validation"]) == 12

    shutil.copy(folder / "00.png", folder / "!.png")
    assert train(tiny_config(epochs=2, **values), workdir) is None
    assert "New photos" in caplog.text
    assert json.loads((workdir / "photos.json").read_text()) == photos
    # Gray scores the same on the same photos, and differently on others.
    first, last = (
        row["validation_psnr_gray"]
        for row in read_metrics(workdir)
        if row["validation_psnr_gray"]
    )
    assert first == last


def test_a_run_without_photos_leaves_nothing_behind(tmp_path):
    config = tiny_config(**{"data.source": str(tmp_path)})
    with pytest.raises(DataError, match="0 usable photos"):
        train(config, tmp_path / "run")
    assert not (tmp_path / "run").exists()
