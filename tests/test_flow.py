"""Optical flow against known motion; films read and written."""

import numpy as np
import pytest
from conftest import script

from nst_jax.errors import UserError
from nst_jax.pictures import clips, images
from nst_jax.pictures.flow import flow, reliable, warp
from nst_jax.transfer.frames import MIN_FOUND_SHARE

EDGE = 12  # pixels at the edges, where the flow has little to go by


@pytest.fixture(scope="module")
def scene():
    return script("make_clip").scene(6, 96, 128, 0)


@pytest.mark.parametrize(("now", "other"), [(3, 2), (3, 1), (2, 4)])
def test_the_flow_is_that_of_the_scene(now, other, scene):
    found, true = flow(scene.frames[now], scene.frames[other]), scene.flow(now, other)
    seen = ~scene.hidden(now, other)
    seen[:EDGE] = seen[-EDGE:] = seen[:, :EDGE] = seen[:, -EDGE:] = False
    errors = np.linalg.norm(found - true, axis=-1)[seen]
    assert np.median(errors) < 0.25
    assert errors.mean() < 0.8


def test_a_warped_frame_is_the_frame_that_it_was_warped_to(scene):
    """Along the true flow, which is whole pixels, all that is not hidden is equal."""
    warped = warp(scene.frames[1], scene.flow(2, 1))
    seen = ~scene.hidden(2, 1)
    assert 0.5 < seen.mean() < 1
    np.testing.assert_allclose(warped[seen], scene.frames[2][seen], atol=1e-6)


def test_warping_interpolates_between_pixels(rng):
    picture = np.float32(rng.random((5, 6, 3)))
    half = np.zeros((5, 6, 2), np.float32)
    half[..., 0] = 0.5
    expected = (picture[:, :-1] + picture[:, 1:]) / 2
    np.testing.assert_allclose(warp(picture, half)[:, :-1], expected, atol=1e-6)
    np.testing.assert_allclose(warp(picture, half)[:, -1], picture[:, -1], atol=1e-6)


def test_what_was_hidden_is_not_reliable_and_the_rest_is(scene):
    now, other = 3, 2
    there, back = scene.flow(now, other), scene.flow(other, now)
    kept, hidden = reliable(there, back), scene.hidden(now, other)
    assert not kept[hidden].any()
    assert kept[~hidden].mean() > 0.95  # without the edges of the square's motion
    found = flow(scene.frames[now], scene.frames[other])
    returned = flow(scene.frames[other], scene.frames[now])
    kept = reliable(found, returned)
    assert kept[hidden].mean() < 0.35
    assert kept[~hidden].mean() > 0.8


def test_different_scenes_have_next_to_nothing_in_common(scene):
    other = script("make_clip").scene(1, 96, 128, 5).frames[0]
    there, back = flow(other, scene.frames[0]), flow(scene.frames[0], other)
    assert reliable(there, back).mean() < MIN_FOUND_SHARE


def test_a_small_frame_has_a_flow(rng):
    small = np.float32(rng.random((9, 7, 3)))
    assert flow(small, small).shape == (9, 7, 2)


@pytest.mark.parametrize("suffix", [".webm", ".mp4", ".avi", ".mkv"])
def test_a_film_is_read_as_it_was_written(suffix, scene, tmp_path):
    paths = [tmp_path / f"{k}.png" for k in range(6)]
    for path, frame in zip(paths, scene.frames, strict=True):
        images.write(path, frame)
    film = tmp_path / f"film{suffix}"
    clips.write(film, paths, 12.5)
    clip = clips.open_clip(str(film))
    assert clip.fps == pytest.approx(12.5)
    assert clip.length == 6
    found = list(clip.frames(1))
    assert len(found) == 6
    for ours, true in zip(found, scene.frames, strict=True):
        assert np.abs(ours - true).mean() < 0.05  # all of them lose some
    np.testing.assert_array_equal(next(clip.frames(4)), found[3])


def test_numbered_pictures_come_in_the_order_of_their_numbers(tmp_path, scene):
    for k in (1, 2, 10):
        images.write(tmp_path / f"frame{k}.png", scene.frames[min(k, 5)])
    clip = clips.open_clip(str(tmp_path))
    assert [path.rpartition("frame")[2] for path in clip.files] == ["1.png", "2.png", "10.png"]
    assert len(list(clip.frames(2))) == 2
    assert clips.open_clip(str(tmp_path / "frame1*.png")).length == 2


def test_pictures_of_another_size_and_no_pictures_are_refused(tmp_path, scene):
    images.write(tmp_path / "1.png", scene.frames[0])
    images.write(tmp_path / "2.png", scene.frames[1][:90])
    frames = clips.open_clip(str(tmp_path)).frames(1)
    next(frames)
    with pytest.raises(UserError, match=r"2\.png has 128x90 pixels, .* 128x96"):
        next(frames)
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="no pictures in"):
        clips.open_clip(str(tmp_path / "empty"))


def test_what_is_no_film_and_what_ends_early_is_said(tmp_path, scene):
    paths = [tmp_path / f"{k:02d}.png" for k in range(24)]
    for path in paths:
        images.write(path, scene.frames[int(path.stem) % 6])
    film = tmp_path / "film.avi"
    clips.write(film, paths, 25.0)
    (tmp_path / "text.mp4").write_text("no film")
    with pytest.raises(UserError, match="no film that OpenCV can read"):
        clips.open_clip(str(tmp_path / "text.mp4"))
    with pytest.raises(UserError, match="no such file"):
        clips.open_clip(str(tmp_path / "gone.mp4"))
    whole = film.read_bytes()
    film.write_bytes(whole[: len(whole) // 2])
    frames = clips.open_clip(str(film)).frames(1)
    found = []
    with pytest.raises(UserError, match=r"ends after \d+: it is damaged; .*film\.frames=:\d+"):
        for frame in frames:
            found.append(frame)
    assert 3 < len(found) < 24


@pytest.fixture
def ffmpeg(tmp_path, monkeypatch):
    """Puts a shell script in ffmpeg's place."""

    def installed(script: str):
        folder = tmp_path / "bin"
        folder.mkdir()
        (folder / "ffmpeg").write_text(f"#!/bin/sh\n{script}\n")
        (folder / "ffmpeg").chmod(0o755)
        monkeypatch.setenv("PATH", str(folder), prepend=":")

    return installed


def test_ffmpeg_gets_the_frames_and_the_sound(ffmpeg, tmp_path):
    ffmpeg(f'echo "$PWD $@" > {tmp_path}/seen; for last; do :; done; echo new > "${{last#file:}}"')
    film = tmp_path / "film.mp4"
    film.write_text("old")
    assert clips.finish(film, tmp_path, 25.0, ("clip.mp4", 0.4, 2.4)) == ""
    assert film.read_text() == "new\n"
    seen = (tmp_path / "seen").read_text()
    assert seen.startswith(f"{tmp_path} -v error -y -framerate 25.0 -i %06d.png -ss 0.4 -t 2.0 -i ")
    assert "libx264" in seen
    assert "-map 1:a?" in seen


def test_where_ffmpeg_fails_the_film_stays(ffmpeg, tmp_path):
    ffmpeg("echo first >&2; echo no such codec >&2; exit 1")
    film = tmp_path / "film.webm"
    film.write_text("old")
    assert clips.finish(film, tmp_path, 25.0, None) == "no such codec"
    assert film.read_text() == "old"
