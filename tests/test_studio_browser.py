"""The studio in a real browser, from the drop to the saved picture: pytest -n 0 -m browser."""

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request

import numpy as np
import pytest

from nst_jax.pictures import images

pytestmark = pytest.mark.browser

SMALL = {
    "image_size": "40",
    "pyramid.min_size": "0",
    "content_layers": "relu2_1",
    "style_layers": "relu1_1",
    "convolution": "direct",
}


@pytest.fixture(scope="module")
def webdriver():
    if not shutil.which("chromedriver"):
        pytest.skip("no chromedriver")
    return pytest.importorskip("selenium.webdriver")


@pytest.fixture
def browser(webdriver):
    options = webdriver.ChromeOptions()
    for argument in ("--headless=new", "--no-sandbox", "--window-size=1400,1300"):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    service = webdriver.ChromeService(shutil.which("chromedriver"))
    with webdriver.Chrome(options=options, service=service) as driver:
        yield driver
        errors = [entry["message"] for entry in driver.get_log("browser")]
        assert [one for one in errors if "net::ERR" not in one] == []


class Studio:
    """A server in a process of its own."""

    def __init__(self, root, *runs):
        self.root, self.runs = root, runs
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.address = f"http://127.0.0.1:{self.port}/"
        self.start()

    def start(self):
        # Without pytest's mark, at which NiceGUI behaves in another way.
        environment = {k: v for k, v in os.environ.items() if k != "PYTEST_CURRENT_TEST"}
        words = [*map(str, self.runs), f"--workdir={self.root}", f"--port={self.port}"]
        self.process = subprocess.Popen(
            [sys.executable, "-m", "nst_jax.studio", *words],
            stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=environment,
        )  # fmt: skip
        assert self.process.stdout.readline() == f"{self.address}\n"
        until(self.answers)

    def answers(self):
        try:
            return urllib.request.urlopen(self.address, timeout=5).status == 200
        except OSError:
            return False

    def kill(self):
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def rows(self):
        """The log of the newest painting."""
        paths = sorted(self.root.glob("paintings/*/metrics.jsonl"))
        lines = paths[-1].read_text().splitlines() if paths else []
        return [json.loads(line) for line in lines if line.endswith("}")]


def until(condition, seconds=90):
    end = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < end
        time.sleep(0.1)
    return found


@pytest.fixture
def studio(tmp_path):
    served = Studio(tmp_path / "studio")
    yield served
    served.kill()


def find(browser, selector):
    return until(lambda: browser.find_elements("css selector", selector))[0]


def button(browser, icon):
    """A button, by the name of its icon."""
    path = f"//button[.//i[text()='{icon}']]"
    return until(lambda: browser.find_elements("xpath", path))[0]


def status(browser):
    return find(browser, "[role=status]").text


def choose(browser, keys):
    """Writes keys into "All settings"."""
    find(browser, ".all .q-expansion-item__container .q-item").click()
    for name, value in keys.items():
        field = find(browser, f'input[aria-label="{name}"]')
        browser.execute_script("arguments[0].scrollIntoView({block: 'center'})", field)
        time.sleep(0.3)
        field.send_keys(value, "\t")
    time.sleep(0.5)


def click(browser, element):
    """Clicks an element that others may cover for a moment, such as a message."""
    browser.execute_script("arguments[0].click()", element)


def paint(browser):
    click(browser, button(browser, "brush"))


def pictures(folder):
    paths = [folder / name for name in ("me.png", "painting.png")]
    for seed, path in enumerate(paths):
        images.write(path, np.float32(np.random.default_rng(seed).random((48, 60, 3))))
    return paths


def test_from_the_drop_to_the_saved_picture(studio, browser, tmp_path):
    browser.get(studio.address)
    files = until(lambda: browser.find_elements("css selector", "input[type=file]"))
    for file, path in zip(files, pictures(tmp_path), strict=True):
        file.send_keys(str(path))
        time.sleep(1)
    until(lambda: len(browser.find_elements("css selector", ".chosen img")) == 3)
    choose(browser, SMALL | {"steps": "6"})
    paint(browser)
    until(lambda: status(browser).startswith("done, 6 steps"))
    picture = find(browser, "img.painting")
    width = "return arguments[0].naturalWidth"
    assert until(lambda: browser.execute_script(width, picture)) == 40
    (folder,) = studio.root.glob("paintings/*")
    assert {"final.png", "report.html", "config.json"} <= {path.name for path in folder.iterdir()}
    given = json.loads((folder / "config.json").read_text())
    click(browser, button(browser, "zoom_out_map"))
    until(lambda: len([*studio.root.glob("paintings/*/result.json")]) == 2)
    until(lambda: status(browser).startswith("done, 6 steps"))
    width = "return arguments[0].naturalWidth"
    assert until(lambda: browser.execute_script(width, picture) == 80)
    assert (given["image_size"], given["steps"]) == (40, 6)
    assert given["style"].count(":") == 2, "the sample and the one that was dropped"
    hosts = {
        re.sub("^[a-z]+://|/.*", "", found)
        for entry in browser.get_log("performance")
        for found in re.findall(r'"url":"((?:https?|wss?)://[^"]*)', entry["message"])
    }
    assert hosts == {f"127.0.0.1:{studio.port}"}, "no address outside is asked"


def test_what_is_no_picture_is_said_in_the_page(studio, browser, tmp_path):
    bad = tmp_path / "bad.png"
    bad.write_text("no picture")
    browser.get(studio.address)
    until(lambda: browser.find_elements("css selector", "input[type=file]"))[0].send_keys(str(bad))
    text = until(lambda: [e.text for e in browser.find_elements("css selector", ".q-notification")])
    assert "bad.png" in text[0]
    assert "no picture" in text[0] or "not a picture" in text[0]


def test_strength_counts_on_the_way_and_a_killed_server_goes_on(studio, browser, webdriver):
    """The tab is closed, the server is killed; the painting goes on from its checkpoint."""
    browser.get(studio.address)
    choose(browser, SMALL | {"steps": "40000", "checkpoint_every": "1"})
    paint(browser)
    until(lambda: "step" in status(browser))
    slider = find(browser, '[aria-labelledby="strength"] [tabindex="0"]')
    browser.execute_script("arguments[0].focus()", slider)
    (asked,) = studio.root.glob("requests/*.json")

    def is_ten():
        webdriver.ActionChains(browser).send_keys("\ue014").perform()  # a little stronger
        return find(browser, "#strength").text == "Strength 10"

    until(is_ten)
    until(lambda: status(browser) and json.loads(asked.read_text())["changes"].get("beta") == 0.2)
    share = {row["step"]: row["total"] / row["style"] for row in until(studio.rows)}
    until(lambda: studio.rows()[-1]["total"] / studio.rows()[-1]["style"] > 5 * share[0])
    browser.get("about:blank")
    until(lambda: list(studio.root.glob("paintings/*/checkpoints/*.state")))
    studio.kill()
    step = studio.rows()[-1]["step"]
    studio.start()
    until(lambda: studio.rows()[-1]["step"] > step + 10)
    steps = [row["step"] for row in studio.rows()]
    assert steps == sorted({*steps})
    browser.get(studio.address)
    click(browser, find(browser, ".strip button"))
    until(lambda: status(browser).startswith("painting on CPU, step"))
    click(browser, button(browser, "check"))
    until(lambda: status(browser).startswith("kept after"))


def test_the_brush_gives_each_painting_its_place(studio, browser, webdriver):
    browser.get(studio.address)
    assert not find(browser, ".brush").is_displayed(), "one painting goes everywhere"
    click(browser, find(browser, 'button:has(> img[alt="sample ember"])'))
    until(lambda: find(browser, ".brush").is_displayed())
    find(browser, ".brush .q-item").click()
    canvas = find(browser, ".canvas img")
    browser.execute_script("arguments[0].scrollIntoView({block: 'center'})", canvas)
    until(lambda: canvas.size["height"] > 100)
    time.sleep(0.5)
    width, height = canvas.size["width"], canvas.size["height"]
    chain = webdriver.ActionChains(browser, duration=50)
    chain.move_to_element_with_offset(canvas, -width // 4, -height // 3).click_and_hold()
    for _ in range(10):
        chain.move_by_offset(0, height * 2 // 30)
    chain.release().perform()
    until(lambda: browser.find_elements("css selector", ".brush polyline"))
    choose(browser, SMALL | {"steps": "6"})
    paint(browser)
    until(lambda: status(browser).startswith("done, 6 steps"))
    (folder,) = studio.root.glob("paintings/*")
    given = json.loads((folder / "config.json").read_text())["guides"]
    assert given["style"] == "rest=; painting2="
    files = dict(word.split("=") for word in given["content"].split(", "))
    mask = images.read(files["painting2"])[..., 0]
    rows, columns = np.nonzero(mask)
    assert abs(columns.mean() / mask.shape[1] - 0.25) < 0.05
    assert abs(rows.mean() / mask.shape[0] - 0.5) < 0.1
    assert 0.05 < mask.mean() < 0.4
    assert np.array_equal(images.read(files["rest"])[..., 0], 1 - mask)


def test_two_tabs_do_not_disturb_each_other(studio, browser):
    tabs = [browser.current_window_handle]
    browser.get(studio.address)
    browser.switch_to.new_window("tab")
    tabs.append(browser.current_window_handle)
    browser.get(studio.address)
    for tab, steps in zip(tabs, (400, 6), strict=True):
        browser.switch_to.window(tab)
        choose(browser, SMALL | {"steps": str(steps)})
        paint(browser)
        until(lambda: re.match("preparing|painting|waiting", status(browser)))
    assert status(browser).startswith("waiting")
    browser.switch_to.window(tabs[0])
    until(lambda: "of 400" in status(browser))
    until(lambda: status(browser).startswith("done, 400 steps"))
    browser.switch_to.window(tabs[1])
    until(lambda: status(browser).startswith("done, 6 steps"))
    first, second = sorted(studio.root.glob("paintings/*"))
    assert [json.loads((f / "config.json").read_text())["steps"] for f in (first, second)] == [
        400, 6,
    ]  # fmt: skip
    assert second.name in find(browser, "img.painting").get_attribute("src")


def test_all_is_reached_and_named_by_the_keyboard(studio, browser, webdriver):
    browser.get(studio.address)
    find(browser, ".looks button")
    names = []
    for _ in range(60):
        webdriver.ActionChains(browser).send_keys("\ue004").perform()
        one = browser.switch_to.active_element
        # A slider has the focus in a part of it, and its name as a whole.
        whole = "return arguments[0].closest('[role=slider]') ?? arguments[0]"
        names.append(browser.execute_script(whole, one).accessible_name)
        if one.accessible_name == "faithful":
            one.send_keys(" ")
        if one.accessible_name.casefold() == "paint":
            break
    assert all(names), names
    for expected in ("sample starry", "faithful", "Strength 1", "Size of the strokes", "Quality",
                     "Smoothness", "Start from", "Keep the photograph's colours"):  # fmt: skip
        assert expected in names
    assert find(browser, ".looks [aria-checked=true]").text == "faithful"
    browser.switch_to.active_element.send_keys("\n")
    until(lambda: re.match("preparing|painting", status(browser)))
    (asked,) = studio.root.glob("requests/*.json")
    assert json.loads(asked.read_text())["knobs"]["look"] == "faithful"


def test_a_run_of_a_command_is_opened(browser, tmp_path):
    keys = [f"--config.{key}={value}" for key, value in SMALL.items()]
    words = ["--config=starry", *keys, "--config.steps=6", f"--workdir={tmp_path / 'mine'}"]
    subprocess.run([sys.executable, "-m", "nst_jax.run", *words], check=True, capture_output=True)
    studio = Studio(tmp_path / "studio", tmp_path / "mine")
    try:
        browser.get(studio.address)
        card = find(browser, ".strip button")
        assert card.text == "mine"
        click(browser, card)
        until(lambda: status(browser) == "done, 6 steps")
        report = find(browser, "a.report").get_attribute("href")
        page = urllib.request.urlopen(report)
        assert b"<html" in page.read()
        assert page.headers["Content-Security-Policy"].startswith("sandbox"), "it is not ours"
        click(browser, button(browser, "more_time"))
        until(lambda: status(browser) == "done, 46 steps")
    finally:
        studio.kill()
    assert json.loads((tmp_path / "mine" / "result.json").read_text())["steps"] == 46


def test_only_this_machine_is_answered(studio):
    request = urllib.request.Request(studio.address, headers={"Host": "evil.example"})
    with pytest.raises(urllib.error.HTTPError, match="400"):
        urllib.request.urlopen(request)
    for path in ("paintings/x/final.png", "uploads/..%2F..%2Fetc%2Fpasswd", "paintings/../x"):
        with pytest.raises(urllib.error.HTTPError, match="404"):
            urllib.request.urlopen(studio.address + path)


def test_a_second_studio_in_the_folder_is_refused(studio):
    words = ["-m", "nst_jax.studio", f"--workdir={studio.root}", "--port=65001"]
    done = subprocess.run([sys.executable, *words], capture_output=True, text=True)
    assert done.returncode == 2
    assert "another command is at work" in done.stderr
    assert done.stdout == ""


def test_a_phone_shows_all_of_it(studio, browser):
    metrics = {"width": 360, "height": 740, "deviceScaleFactor": 1, "mobile": True}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    browser.get(studio.address)
    find(browser, ".chosen img")
    assert browser.execute_script("return document.documentElement.scrollWidth") <= 360
    unnamed = "return [...document.images].filter((one) => !one.hasAttribute('alt')).length"
    assert browser.execute_script(unnamed) == 0


def test_without_nicegui_it_says_what_to_install(tmp_path):
    hidden = "import sys; sys.modules['nicegui'] = None; import runpy; sys.argv = ['studio']; "
    hidden += "runpy.run_module('nst_jax.studio', run_name='__main__')"
    done = subprocess.run(
        [sys.executable, "-c", hidden], cwd=tmp_path, capture_output=True, text=True, env=os.environ
    )
    assert done.returncode == 2
    assert 'pip install "nst_jax[studio]"' in done.stderr
    assert not list(tmp_path.iterdir())
