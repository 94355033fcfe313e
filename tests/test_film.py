"""Films: every frame continues those before it; killed and resumed to the byte."""

import itertools
import json
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import knobs_for, network_of, problem_for, run_command, script

from nst_jax import config, stylize, stylize_film
from nst_jax.config.experiment import Pixels
from nst_jax.errors import UserError
from nst_jax.losses.arguments import Temporal
from nst_jax.losses.objective import breakdown, objective, temporal_distance
from nst_jax.optimize.step import chunk
from nst_jax.pictures import clips, images
from nst_jax.runs import films
from nst_jax.transfer import frames, prepare
from nst_jax.transfer.cache import Cache
from nst_jax.transfer.frames import Frame

pytestmark = pytest.mark.usefixtures("quickly_compiled")

# Few and shallow layers, and few steps: the weights of the film's own term are what is tested.
QUICK = {
    "style": str(config.PICTURES / "starry.jpg"),
    "image_size": 64,
    "steps": 4,
    "convolution": "direct",
    "style_layers": "relu1_1, relu2_1",
    "content_layers": "relu2_2",
    "film.steps": 3,
}


@pytest.fixture(scope="module")
def scene():
    return script("make_clip").scene(5, 48, 64, 0)


@pytest.fixture(scope="module")
def clip(scene, tmp_path_factory):
    """A folder of numbered pictures."""
    folder = tmp_path_factory.mktemp("clip")
    for k, frame in enumerate(scene.frames):
        images.write(folder / f"{k}.png", frame)
    return folder


def film_of(first, **settings):
    c = config.default()
    c.update_from_flattened_dict(QUICK | settings)
    return frames.prepared(config.parse(c, Pixels(first, "clip")), Cache())


def test_the_temporal_loss_by_hand():
    image = jnp.zeros((1, 2, 3))
    target = Temporal(jnp.full((1, 2, 3), 0.5), jnp.array([[1.0, 0.2]]))
    assert temporal_distance(image, target) == pytest.approx((1 + 0.2) * 3 * 0.25 / 6)
    gradient = jax.grad(temporal_distance)(image, target)
    np.testing.assert_allclose(gradient[0, :, 0], [-1 / 6, -0.2 / 6], rtol=1e-6)


def test_the_temporal_loss_is_a_term_of_the_objective(vgg19, pixels):
    network = network_of(vgg19, ("relu1_1",))
    image, content, style = pixels(20, 18), pixels(20, 18), pixels(16, 16)
    problem = problem_for(network, content, style, knobs_for({"relu1_1": 1.0}, {"relu1_1": 1.0}))
    assert "temporal" not in breakdown(image, network, problem)
    target = Temporal(pixels(20, 18), jnp.full((20, 18), 0.5))
    held = problem._replace(
        targets=problem.targets._replace(temporal=target),
        knobs=problem.knobs._replace(temporal=7.0),
    )
    more = objective(image, network, held) - objective(image, network, problem)
    assert more == pytest.approx(7 * float(temporal_distance(image, target)), rel=1e-3)


PYRAMID = {"pyramid.min_size": 32, "pyramid.factor": 2.0, "pyramid.first_steps": 3}


@pytest.mark.slow
@pytest.mark.parametrize("settings", [{}, PYRAMID, {"optimizer.name": "lbfgs"} | PYRAMID], ids=len)
def test_a_film_of_one_frame_is_a_still_picture(settings, scene):
    first = scene.frames[0]
    own = frames.paint_frame(film := film_of(first, **settings), frames.fitted(film, first))
    quick = QUICK | settings
    still = {key: value for key, value in quick.items() if not key.startswith("film.")}
    style = still.pop("style")
    expected = stylize(frames.fitted(film, first), style, **still)
    np.testing.assert_array_equal(own.painting, frames.rounded(expected))
    assert own.known == 0


@pytest.mark.parametrize("settings", [{}, PYRAMID], ids=["one size", "two sizes"])
def test_all_frames_run_one_program(settings, scene):
    """The first frame, one that goes on, one with other numbers before it, and a pass back."""
    film = film_of(scene.frames[0], **settings)
    sources = [frames.fitted(film, frame) for frame in scene.frames]
    first = frames.paint_frame(film, sources[0])
    known = Frame(sources[0], first.painting)
    frames.paint_frame(film, sources[1], [known])
    programs = chunk._cache_size()
    second = frames.paint_frame(film, sources[1], [known])
    frames.paint_frame(film, sources[2], [Frame(sources[1], second.painting), known])
    frames.paint_frame(film, sources[1], [known], second.painting)
    assert chunk._cache_size() == programs


@pytest.mark.slow
def test_frames_follow_the_motion_and_the_brightness(scene):
    """Far better than frames by themselves, with which nothing holds them together."""
    film = film_of(scene.frames[0], **{"film.temporal_weight": 1e9, "steps": 12, "film.steps": 6})
    sources = [frames.fitted(film, frame) for frame in scene.frames]
    held = [Frame(sources[0], frames.paint_frame(film, sources[0]).painting)]
    alone = [held[0]]
    for source in sources[1:]:
        painted = frames.paint_frame(film, source, held[::-1][:2])
        assert painted.known > 0.6
        held.append(Frame(source, painted.painting))
        alone.append(Frame(source, frames.paint_frame(film, source).painting))
    errors = [
        frames.warp_error(itertools.starmap(frames.flicker, itertools.pairwise(way)))
        for way in (held, alone)
    ]
    assert errors[0] < 0.6 * errors[1]
    ratios = [one.painting.mean() / one.source.mean() for one in held]
    np.testing.assert_allclose(ratios, ratios[0], rtol=0.005)


def test_a_clip_that_stands_still_stays_the_same_picture(scene):
    film = film_of(scene.frames[0], **{"film.temporal_weight": 1e10})
    source = frames.fitted(film, scene.frames[0])
    before = frames.paint_frame(film, source).painting
    for _ in range(2):
        now = frames.paint_frame(film, source, [Frame(source, before)]).painting
        assert np.sqrt(np.mean(np.square(now - before))) < 0.02
        before = now


def test_coarse_to_fine_keeps_what_is_known_and_helps_what_is_not(scene):
    """Where nothing else pulls, known pixels stay; of the others, the small size is the start."""
    source = scene.frames[0]
    free = {"film.temporal_weight": 0.0, "film.hold_brightness": False, "optimizer.name": "sgd"}
    film = film_of(source, **(PYRAMID | free | {"film.learning_rate": 1e-30}))
    source = frames.fitted(film, source)
    known = np.full_like(source, 0.5)
    found = np.zeros(source.shape[:2], bool)
    found[:, :32] = True
    start = np.where(found[..., None], known, source)
    sized = [prepare.at_scale(film.pictures, scale) for scale in film.experiment.scales]
    problems = [
        frames._problem(film, problem, one, start, found)
        for problem, one in zip(film.problems, sized, strict=True)
    ]
    painting, _ = frames._continued(film, start, sized, problems)
    np.testing.assert_allclose(painting[:, :28], 0.5, atol=1e-3)
    small = images.resize(start, sized[0].shape, "lanczos")
    expected = jax.image.resize(small, source.shape, "cubic")
    np.testing.assert_allclose(painting[:, 40:], expected[:, 40:], atol=1e-3)


def test_recomputed_content_targets_are_those_of_the_frame(scene):
    """In tiles, which compute them from what the picture is at the input of a section."""
    keys = {"image_size": 96, "tile": 80, "rematerialize": True, "content_layers": "relu2_1"}
    film = film_of(scene.frames[0], **keys)
    first, other = (frames.fitted(film, scene.frames[k]) for k in (0, 4))
    (problem,), (scale,) = film.problems, film.experiment.scales
    sized = prepare.at_scale(film.pictures, scale)
    assert problem.targets.inputs
    known = np.zeros(other.shape[:2], bool)
    for source in (first, other):
        one = frames._problem(film, problem, sized._replace(content=source), source, known)
        (given,) = one.targets.inputs.values()
        halo = (given.shape[1] - source.shape[1]) // 2
        inside = given[halo : halo + len(source), halo : halo + source.shape[1]]
        np.testing.assert_allclose(inside, source, atol=1e-6)


def test_another_scene_begins_anew(scene):
    film = film_of(scene.frames[0])
    other = frames.fitted(film, script("make_clip").scene(1, 48, 64, 7).frames[0])
    source = frames.fitted(film, scene.frames[0])
    known = Frame(source, frames.paint_frame(film, source).painting)
    fresh, after = frames.paint_frame(film, other), frames.paint_frame(film, other, [known])
    assert after.known == 0
    np.testing.assert_array_equal(after.painting, fresh.painting)


def test_what_comes_out_again_keeps_its_strokes(scene):
    """What the square covers in the frame before is taken from an earlier one."""
    sources = [np.float32(frame) for frame in scene.frames]
    marked = [Frame(source, np.full_like(source, k / 8)) for k, source in enumerate(sources)]
    _, found, _ = frames.carried_over(sources[4], [marked[3]])
    picture, more, nearest = frames.carried_over(sources[4], [marked[3], marked[0]])
    assert nearest is marked[3]
    assert more.sum() > found.sum()
    np.testing.assert_allclose(picture[found], 3 / 8, atol=1e-6)
    np.testing.assert_allclose(picture[more & ~found], 0, atol=1e-6)
    assert not picture[~more].any()


def test_held_has_the_brightness_that_is_wanted(rng):
    picture = np.float32(rng.random((8, 9, 3)))
    for wanted in (0.3, 0.5, 0.65):
        assert frames.held(picture, wanted).mean() == pytest.approx(wanted, abs=0.01)
    assert not frames.held(np.zeros((2, 2, 3), np.float32), 0.5).any()


def test_the_warp_error_leaves_out_cuts():
    nan = float("nan")
    assert frames.warp_error([(0.2, 0.1), (nan, nan), (0.4, 0.1)]) == pytest.approx(3)
    assert np.isnan(frames.warp_error([(nan, nan)]))


def test_every_second_pass_runs_backwards():
    places = [films._where(step, 3) for step in range(1, 8)]
    assert places == [(1, 1), (1, 2), (1, 3), (2, 3), (2, 2), (2, 1), (3, 1)]


def flags_of(clip, **more):
    settings = QUICK | more
    keys = [f"--config.{key}={value}" for key, value in settings.items()]
    return ["--config=film", f"--config.content={clip}", *keys]


@pytest.mark.slow
def test_a_film_is_painted_reported_and_resumed_to_the_byte(clip, tmp_path):
    """Two passes. The frames from the middle of each on are taken away, and a line is cut off."""
    flags = flags_of(clip, **{"film.passes": 2, "film.output": "film.mp4"})
    whole = tmp_path / "whole"
    said, _ = run_command("nst_jax.film", *flags, f"--workdir={whole}")
    assert said.strip() == str(whole / "film.mp4")
    assert clips.open_clip(str(whole / "film.mp4")).length == 5
    result = json.loads((whole / "result.json").read_text())
    assert (result["status"], result["steps"]) == ("done", 10)
    assert 0 < result["metrics"]["warp_error"] < 10
    assert result["metrics"]["brightness_drift"] < 0.05
    page = (whole / "report.html").read_text()
    assert 'id="film-painting">data:video/webm;base64,' in page
    lines = (whole / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line)["step"] for line in lines] == list(range(1, 11))
    for kept in (3, 7):
        part = tmp_path / f"{kept}"
        shutil.copytree(whole, part)
        (part / "metrics.jsonl").write_text("".join(f"{line}\n" for line in lines[:kept]))
        with (part / "metrics.jsonl").open("a") as file:
            file.write(lines[kept][:20])
        if kept < 5:
            shutil.rmtree(part / "frames")
            for number in range(kept + 2, 6):
                (part / "pass_1" / f"{number:06d}.png").unlink()
        (part / "result.json").unlink()
        _, said = run_command("nst_jax.film", *flags, f"--workdir={part}")
        assert "resuming after" in said
        for name in ("frames", "pass_1", "source"):
            for path in (whole / name).iterdir():
                assert (part / name / path.name).read_bytes() == path.read_bytes(), path
    _, said = run_command("nst_jax.film", *flags, f"--workdir={whole}")
    assert said.strip() == "it is finished already"
    other = [*flags, "--config.film.temporal_weight=1", f"--workdir={whole}"]
    _, said = run_command("nst_jax.film", *other, code=2)
    assert "film.temporal_weight was" in said


@pytest.mark.slow
def test_a_damaged_film_keeps_the_frames_that_it_has(clip, tmp_path):
    folder = tmp_path / "mixed"
    shutil.copytree(clip, folder)
    images.write(folder / "3.png", np.zeros((40, 64, 3), np.float32))
    flags = [*flags_of(folder), f"--workdir={tmp_path / 'run'}"]
    _, said = run_command("nst_jax.film", *flags, code=2)
    assert "3.png has 64x40 pixels" in said.splitlines()[-1]
    assert "3 frames are kept" in said.splitlines()[-1]
    assert len(list((tmp_path / "run" / "frames").iterdir())) == 3


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        ({"content": ""}, "name a clip with --config.content"),
        ({"content": "gone.mp4"}, "cannot read gone.mp4: no such file"),
        ({"film.frames": "9:"}, "has no frame 9"),
        ({"film.frames": "4:2"}, "config.film.frames: '4:2' is not FIRST:LAST"),
        ({"film.long_term": "0"}, "config.film.long_term: '0' is not a list"),
        ({"film.output": "film.mov"}, "config.film.output is 'film.mov'; it must be"),
        ({"keep_alpha": True}, "config.keep_alpha"),
        ({"split": 2}, "config.split is for still pictures"),
        ({"style_losses": "hypercolumns"}, "config.style_losses=hypercolumns is for still"),
        ({"style": ""}, "a film needs a style picture"),
    ],
)
def test_mistakes_are_said_in_one_line(settings, text, clip, tmp_path):
    flags = [*flags_of(clip, **settings), f"--workdir={tmp_path / 'run'}"]
    _, said = run_command("nst_jax.film", *flags, code=2)
    assert text in said.splitlines()[-1]
    assert not (tmp_path / "run").exists()


def test_a_dry_run_says_how_much_there_is_to_do(clip):
    said, _ = run_command("nst_jax.film", *flags_of(clip, **{"film.passes": 2}), "--dry_run")
    assert said.startswith("5 frames of 64x48 pixels, 2 passes, memory")


def test_stylize_film_takes_frames_as_they_come(scene):
    settings = {key: value for key, value in QUICK.items() if key != "style"}
    taken = []

    def source():
        for frame in scene.frames:
            taken.append(frame)
            yield frame

    painted = stylize_film(source(), QUICK["style"], **settings)
    first = next(painted)
    assert first.shape == (48, 64, 3)
    assert len(taken) == 1
    assert len(list(painted)) == 4
    with pytest.raises(UserError, match=r"config\.film\.passes"):
        next(stylize_film(scene.frames, QUICK["style"], **settings | {"film.passes": 2}))
    with pytest.raises(UserError, match="no frames"):
        next(stylize_film([], QUICK["style"], **settings))
