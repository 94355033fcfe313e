"""The report's page in a real browser: pytest -n 0 -m browser (Debian: chromium-driver, too)."""

import csv
import functools
import http.server
import json
import re
import shutil
import threading
import time
from urllib.parse import unquote, urlsplit
from xml.etree import ElementTree

import numpy as np
import pytest

from nst_jax import report
from nst_jax.pictures import images

pytestmark = pytest.mark.browser

DESKTOP, PHONE = (1440, 1000), (360, 740)


@pytest.fixture(scope="module")
def browser():
    """A headless Chromium, or a skip where there is none."""
    webdriver = pytest.importorskip("selenium.webdriver")
    if not shutil.which("chromedriver"):
        pytest.skip("no chromedriver")
    options = webdriver.ChromeOptions()
    for argument in ("--headless=new", "--no-sandbox", "--disable-gpu"):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    service = webdriver.ChromeService(shutil.which("chromedriver"))
    driver = webdriver.Chrome(options=options, service=service)
    yield driver
    driver.quit()


def size(browser, width, height):
    metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 500}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)


@pytest.fixture
def page(browser):
    """Opens a page at a size; once the test is over, the console must be silent."""
    browser.get_log("browser")

    def load(address, width=DESKTOP[0], height=DESKTOP[1]):
        size(browser, width, height)
        browser.get("about:blank")
        browser.get(address)
        return browser

    yield load
    assert browser.get_log("browser") == []


def sweep(folder, picture, axes, unended=()):
    """A sweep of small pictures; its third cell has failed, those of `unended` still run."""
    images.write(folder / "content.jpg", picture(90, 60))
    images.write(folder / "style.jpg", picture(60, 90))
    names, cells = list(axes), []
    for index, at in enumerate(np.ndindex(*map(len, axes.values()))):
        labels = {name: axes[name][k] for name, k in zip(names, at, strict=True)}
        config = {"content": str(folder / "content.jpg"), "style": str(folder / "style.jpg")}
        config |= {"output": "final.png", "seed": labels.get("seed"), "long": "x" * 300}
        name = f"{index:04d}"
        command = f"python -m nst_jax.run --config.x={index}"
        cells.append({"name": name, "labels": labels, "command": command, "config": config})
        run(folder / "cells" / name, picture, index, index not in unended)
    plan = {"name": "sweep", "cells": cells}
    plan["axes"] = [{"name": name, "labels": labels} for name, labels in axes.items()]
    (folder / "sweep.json").write_text(json.dumps(plan))
    return folder


def run(folder, picture, index, ended=True, side=120):
    folder.mkdir(parents=True, exist_ok=True)
    rows = [
        {"step": k, "seconds": k / 2, "total": 9.0 / (k + 1), "style": 1.0, "style/gram/relu1_1": 2}
        for k in range(10)
    ]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    result = {"status": "done", "steps": 9, "terms": rows[-1], "metrics": {"lpips": 0.1 * index}}
    if index == 2:
        result |= {"status": "failed", "message": "<b>lost</b> " + "y" * 200}
    else:
        images.write(folder / "final.png", picture(side, side * 2 // 3))
        for step in (0, 5, 9):
            images.write(folder / "frames" / f"{step:06d}.png", picture(60, 40))
    if ended:
        (folder / "result.json").write_text(json.dumps(result))


AXES = {"beta": ["0.002", "0.02", "0.2"], "seed": ["0", "1"]}


@pytest.fixture
def small(tmp_path, picture):
    return report.write(sweep(tmp_path, picture, AXES)).as_uri()


def keys(browser, *pressed):
    from selenium.webdriver import ActionChains

    for key in pressed:
        ActionChains(browser).send_keys(key).perform()


def js(browser, expression):
    return browser.execute_script(f"return {expression}")


def wait(browser, expression, seconds=5):
    """Until an expression is true."""
    end = time.monotonic() + seconds
    while not js(browser, expression):
        assert time.monotonic() < end, expression
        time.sleep(0.02)


def test_with_keys_alone(page, small):
    from selenium.webdriver.common.keys import Keys

    browser = page(small)
    for _ in range(30):
        keys(browser, Keys.TAB)
        if js(browser, "document.activeElement.className") == "card":
            break
    assert js(browser, "document.activeElement.getAttribute('aria-label')").startswith("beta 0.002")
    assert js(browser, "document.activeElement.matches(':focus-visible')")
    keys(browser, Keys.ENTER)
    title = "document.querySelector('#viewer-title').textContent"
    wait(browser, "document.querySelector('#viewer').open")
    first = js(browser, title)
    keys(browser, Keys.ARROW_RIGHT)
    assert js(browser, title) != first
    keys(browser, Keys.ARROW_LEFT, Keys.ARROW_LEFT)
    assert js(browser, "document.querySelector('.place').textContent") == "6 / 6"
    # The slider's own arrows move the slider.
    js(browser, "document.querySelector('.frame input').focus()")
    last = js(browser, title)
    keys(browser, *[Keys.ARROW_RIGHT] * 20)
    assert "--split: 20%" in browser.find_element("class name", "frame").get_attribute("style")
    assert js(browser, title) == last
    keys(browser, Keys.ESCAPE)
    focused = "(document.activeElement.getAttribute('aria-label') ?? '')"
    wait(browser, f"{focused}.startsWith({json.dumps(last)})")
    assert not js(browser, "document.querySelector('#viewer').open")


def test_tabs_charts_and_table_with_keys(page, small):
    from selenium.webdriver.common.keys import Keys

    browser = page(small)
    js(browser, "document.querySelector('#tab-sheet').focus()")
    keys(browser, Keys.ARROW_RIGHT)
    assert js(browser, "location.hash") == "#curves"
    assert js(browser, "document.querySelectorAll('#panel-curves .line').length") == 6
    js(browser, "document.querySelector('#panel-curves .plot svg').focus()")
    keys(browser, Keys.ARROW_RIGHT, Keys.ARROW_RIGHT)
    assert "step 1" in js(browser, "document.querySelector('#panel-curves .tip').textContent")
    browser.execute_script("document.querySelector('#panel-curves .legend button').click()")
    assert js(browser, "document.querySelectorAll('#panel-curves .line').length") == 4
    js(browser, "document.querySelector('#tab-curves').focus()")
    keys(browser, Keys.ARROW_RIGHT)
    assert "bars: ± one standard deviation" in js(
        browser, "document.querySelector('#panel-axes .hint').textContent"
    )
    keys(browser, *[Keys.ARROW_RIGHT] * 3)
    column = "[...document.querySelectorAll('.results tbody th')].map(e => e.textContent)"
    assert js(browser, column) == [f"{k:04d}" for k in range(6)]
    heads = "[...document.querySelectorAll('.results thead button')]"
    lpips = f"{heads}.find(head => head.textContent.startsWith('lpips'))"
    browser.execute_script(f"{lpips}.click(); {lpips}.click()")
    assert js(browser, column) == ["0005", "0004", "0003", "0002", "0001", "0000"]


def test_the_table_for_a_paper_has_means_over_seeds_with_intervals(page, small):
    """beta 0.002 has the values 0 and 0.1: 0.05 +- 12.706 * 0.0707 / sqrt 2 = 0.64."""
    browser = page(f"{small}#table")
    assert js(browser, "halfWidth([0, 0.1])") == pytest.approx(12.706 * 0.05, rel=1e-4)
    assert js(browser, "halfWidth([0.3])") is None
    markdown, latex, table = (
        js(browser, f"PAPER.{name}(paperTable())") for name in ("Markdown", "LaTeX", "CSV")
    )
    head, rule, first, *_ = markdown.splitlines()
    assert (head, rule) == ("| beta | lpips \u2193 |", "|---|---|")
    assert first == "| 0.002 | 0.05 \u00b1 0.64 |"
    assert "0.002 & $0.05 \\pm 0.64$ \\\\" in latex.splitlines()
    assert "beta & lpips $\\downarrow$ \\\\" in latex.splitlines()
    head, first, *_ = csv.reader(table.splitlines())
    assert head == ["beta", "lpips \u2193", "lpips \u2193 95 %"]
    assert [float(number) for number in first] == pytest.approx([0.002, 0.05, 0.6353])


@pytest.fixture
def paired(tmp_path, picture):
    """A page of two betas by four seeds; of the last seed one cell has failed."""
    folder = sweep(tmp_path, picture, {"beta": ["1", "2"], "seed": ["0", "1", "2", "3"]})
    values = [0.1, 0.5, 0.2, 0.9, 0.15, 0.65, 0.3, 0.7]
    for index, value in enumerate(values):
        path = folder / "cells" / f"{index:04d}" / "result.json"
        status = "failed" if index == 7 else "done"
        path.write_text(json.dumps({"status": status, "steps": 9, "metrics": {"lpips": value}}))
    return report.write(folder).as_uri()


def test_differences_are_paired_by_seed(page, paired):
    """0.05, 0.15 and 0.1 more: 0.1 +- 4.303 * 0.05 / sqrt 3, far less than between all seeds."""
    browser = page(f"{paired}#table")
    difference = "paperTable(['beta', '1'])"
    assert js(browser, f"{difference}.head") == ["beta", "\u0394 lpips \u2193"]
    ((label, (mean, half)),) = js(browser, f"{difference}.rows")
    assert label == "2"
    assert mean == pytest.approx(0.1)
    assert half == pytest.approx(4.303 * 0.05 / 3**0.5, rel=1e-3)
    unpaired = js(browser, "paperTable().rows.at(-1)")
    assert unpaired[1][1] > 4 * half
    latex = js(browser, f"PAPER.LaTeX({difference})")
    assert "2 & $0.10 \\pm 0.12$ \\\\" in latex.splitlines()
    assert "$\\Delta$ lpips $\\downarrow$" in latex
    # What is shown is what is copied.
    pick = "document.querySelector('.means select')"
    value = f"[...{pick}.options].find(o => o.text === 'minus beta 1').value"
    browser.execute_script(f"{pick}.value = {value}; {pick}.dispatchEvent(new Event('change'))")
    rows = "[...document.querySelectorAll('.means tbody tr')].map(e => e.innerText.split('\\t'))"
    assert js(browser, rows) == [["2", "0.10 \u00b1 0.12"]]
    # A filter that hides what is subtracted does not change the difference.
    browser.execute_script("document.querySelector('.chips button').click()")
    assert js(browser, rows) == [["2", "0.10 \u00b1 0.12"]]


def test_quantiles_of_student(page, small):
    scipy_stats = pytest.importorskip("scipy.stats")
    browser = page(small)
    for freedom in (1, 2, 10, 11, 12, 30, 500):
        expected = scipy_stats.t.ppf(0.975, freedom)
        assert js(browser, f"studentT95({freedom})") == pytest.approx(expected, rel=1e-3)


def test_numbers_with_intervals(page, small):
    browser = page(small)
    written = {
        (0.1234, 0.0456): "0.123 \u00b1 0.046",
        (361017419, 86347405): "(3.61 \u00b1 0.86)e8",
        (0.00002, 0.0000031): "(2.00 \u00b1 0.31)e-5",
        (-7076.3, 1545.2): "-7076 \u00b1 1545",
        (2854052.5, 0): "2.854e6",
        (0, 0): "0",
    }
    for (mean, half), text in written.items():
        assert js(browser, f"withInterval([{mean}, {half}], PLAIN)") == text
    tex = js(browser, "withInterval([361017419, 86347405], MATH)")
    assert tex == "(3.61 \\pm 0.86) \\times 10^{8}"
    label = js(browser, r"PAPER.LaTeX({head: ['a_b~c^d\\e'], rows: []})")
    assert r"a\_b\textasciitilde{}c\textasciicircum{}d\textbackslash{}e" in label


def test_means_and_deviations_of_seeds(page, small):
    browser = page(f"{small}#axes")
    series = "summary([0.2, 0.3])"
    assert js(browser, series)["mean"] == pytest.approx(0.25)
    assert js(browser, series)["deviation"] == pytest.approx(0.1 / 2**0.5)
    # beta 0.002: seeds with 0 and 0.1; beta 0.02: one has failed; beta 0.2: 0.4 and 0.5.
    said = browser.find_element("css selector", "#panel-axes .plot svg")
    browser.execute_script("arguments[0].focus()", said)
    from selenium.webdriver.common.keys import Keys

    readouts = []
    for _ in range(3):
        keys(browser, Keys.ARROW_RIGHT)
        readouts.append(js(browser, "document.querySelector('#panel-axes .tip').innerText"))
    assert "0.05 ± 0.07071" in readouts[0]
    assert "0.3" in readouts[1] and "±" not in readouts[1]
    assert "0.45 ± 0.07071" in readouts[2]


def test_the_pareto_front_has_what_no_other_cell_beats(page, small):
    """lpips 0, 0.1, (failed), 0.3, 0.4, 0.5; of ssim more is better."""
    browser = page(f"{small}#scatter")
    assert js(browser, "document.querySelectorAll('#panel-scatter .line').length") == 6
    ssim = "data.cells.forEach((c, k) => c.metrics.ssim = [0.2, 0.5, 0.9, 0.4, 0.5, 0.8][k])"
    browser.execute_script(f"{ssim}; body.update()")
    done = "data.cells.filter(c => c.status === 'done')"
    front = f"paretoFront({done}, 'metrics:lpips', 'metrics:ssim').map(c => c.index)"
    assert js(browser, front) == [0, 1, 5]


def test_parallel_coordinates_have_the_better_end_on_top(page, small):
    browser = page(f"{small}#parallel")
    names = "[...document.querySelectorAll('#panel-parallel text.name')].map(e => e.textContent)"
    assert js(browser, names) == ["beta", "seed", "lpips \u2193"]
    lines = "[...document.querySelectorAll('#panel-parallel .line .stroke')]"
    ends = f"{lines}.map(e => e.getAttribute('d').split(' ').at(-1))"
    assert js(browser, ends) == ["44", "114.4", "255.2", "325.6", "396"]
    browser.execute_script(f"{lines}[1].dispatchEvent(new Event('click', {{bubbles: true}}))")
    assert js(browser, "document.querySelector('#viewer').open")
    assert "seed 1" in js(browser, "document.querySelector('#viewer-title').textContent")


@pytest.fixture
def several(tmp_path, picture):
    """One page over two sweeps with an axis in common, and a run."""
    for name in ("a", "b", "r"):
        (tmp_path / name).mkdir()
    first = sweep(tmp_path / "a", picture, AXES)
    second = sweep(tmp_path / "b", picture, {"loss": ["gram", "w2"], "seed": ["0", "1"]})
    run(tmp_path / "r", picture, 1)
    (tmp_path / "r" / "config.json").write_text(json.dumps({"output": "final.png", "seed": "0"}))
    return report.write_several([first, second, tmp_path / "r"], tmp_path / "page.html").as_uri()


def test_several_sweeps_on_one_page(page, several):
    browser = page(several)
    assert js(browser, "document.querySelector('h1').textContent") == "a, b, r"
    assert js(browser, "document.querySelectorAll('.card').length") == 11
    heads = "[...document.querySelectorAll('.sheet h3')].map(e => e.textContent)"
    dash = "\u2013"
    betas = [f"sweep a \u00b7 beta {beta}" for beta in AXES["beta"]]
    assert js(browser, heads) == [
        *betas,
        f"sweep b \u00b7 beta {dash}",
        f"sweep r \u00b7 beta {dash}",
    ]
    # Rows are sweeps, columns losses. With seed 0 and no beta, b lacks the run's place without a
    # loss, and the run both losses of b; what a whole group lacks takes no room.
    names = "document.querySelectorAll('.controls select')"
    browser.execute_script(
        f"for (const [k, name] of ['sweep', 'loss'].entries()) {{ {names}[k].value = name;"
        f" {names}[k].dispatchEvent(new Event('change')) }}"
    )
    assert js(browser, "document.querySelectorAll('.card').length") == 11
    assert js(browser, "document.querySelectorAll('.grid .missing').length") == 3
    assert js(browser, "document.querySelectorAll('.sheet img[src]').length") == 9, "two failed"
    browser.execute_script("document.querySelector('.card').click()")
    loaded = "document.querySelector('.painting').naturalWidth"
    wait(browser, f"{loaded} == 80")


def test_configs_of_several_sweeps_are_compared(page, several):
    browser = page(f"{several}#configs")
    rows = "[...document.querySelectorAll('#panel-configs tr')].map(e => e.innerText.split('\\t'))"
    table = {key: values for key, *values in js(browser, rows)}
    assert table["Key"] == ["a", "b", "r"]
    assert table["seed"] == ['"0", "1"', '"0", "1"', '"0"']
    assert table["long"][2] == "\u2013", "the run's config lacks it"
    assert "output" not in table
    marked = "[...document.querySelectorAll('#panel-configs .differs th')].map(e => e.textContent)"
    assert "seed" in js(browser, marked)


@pytest.mark.parametrize("address", ["", "#curves", "#axes", "#scatter", "#parallel", "#table"])
def test_every_tab_of_several_sweeps_draws(page, several, address):
    """The fixture checks that the console is silent."""
    browser = page(several + address)
    panel = f"document.querySelector('#panel-{address[1:] or 'sheet'}')"
    assert js(browser, f"{panel}.offsetHeight") > 300
    widths = "[document.documentElement.scrollWidth, document.documentElement.clientWidth]"
    assert js(browser, widths)[0] <= DESKTOP[0]


def test_two_cells_side_by_side_through_their_frames(page, small):
    browser = page(small)
    browser.execute_script("document.querySelectorAll('.card')[0].click()")
    sources = "['painting', 'other'].map(n => document.querySelector(`.${n}`).src)"
    browser.execute_script(
        "const pick = document.querySelector('.compare select'); pick.value = 'cell 0005';"
        "pick.dispatchEvent(new Event('change'))"
    )
    assert js(browser, sources) == js(browser, "[0, 5].map(k => largeOf(data.cells[k]))")
    assert (
        js(browser, "document.querySelector('.tag.left').textContent") == "beta 0.2 \u00b7 seed 1"
    )
    steps = "document.querySelector('.growth input')"
    assert js(browser, f"[{steps}.value, {steps}.max]") == ["2", "2"], (
        "steps 0, 5, and 9 at the end"
    )
    browser.execute_script(f"{steps}.value = 1; {steps}.dispatchEvent(new Event('input'))")
    assert js(browser, sources) == js(browser, "[embedded('frame-0-1'), embedded('frame-5-1')]")
    assert js(browser, "document.querySelector('.growth output').textContent") == "5"


def test_a_chart_is_saved_as_an_svg_of_its_own(page, small):
    browser = page(f"{small}#scatter")
    text = js(browser, "standalone(document.querySelector('#panel-scatter svg'))")
    root = ElementTree.fromstring(text)
    assert root.tag == "{http://www.w3.org/2000/svg}svg"
    colours = {e.get(name) for e in root.iter() for name in ("fill", "stroke")} - {None, "none"}
    assert all(re.fullmatch("#[0-9a-f]{6}", colour) for colour in colours)
    assert "class" not in text and "style=" not in text and "hidden" not in text


def test_an_axis_is_logarithmic_and_a_column_has_one_notation(page, small):
    browser = page(small)
    kinds = {
        ("0.002", "0.02", "0.2"): "log",
        ("1", "2", "4", "8"): "log",
        ("128", "256"): "linear",
        ("0.01", "0.1"): "log",
        ("0", "1", "10"): "linear",
        ("1", "2", "3"): "linear",
        ("all", "1"): "band",
    }
    for labels, kind in kinds.items():
        assert js(browser, f"scaleKind({{labels: {json.dumps(labels)}}})") == kind, labels
    columns = {
        (0.5, 0.0653, 0.1): ["0.5000", "0.0653", "0.1000"],
        (1.5e5, 2e6): ["1.50e5", "2.00e6"],
        (120.5, 33): ["120.5", "33.0"],
        (3, 40): ["3", "40"],
        (1e-9, 1): ["1.00e-9", "1.00e0"],
    }
    for values, texts in columns.items():
        written = f"(v => v.map(columnNumber(v)))({json.dumps(values)})"
        assert js(browser, written) == texts


def test_filter_and_sort_of_the_list(page, small):
    browser = page(small)
    browser.execute_script("document.querySelector('.chips button').click()")
    cards = "[...document.querySelectorAll('.card')].map(e => e.getAttribute('aria-label'))"
    assert len(js(browser, cards)) == 4
    assert js(browser, "document.querySelector('.count').textContent") == "4 of 6"
    browser.find_element("css selector", "input[type=search]").send_keys("seed 1")
    assert all("seed 1" in label for label in js(browser, cards))
    assert len(js(browser, cards)) == 2
    browser.execute_script("document.querySelectorAll('.segments button')[1].click()")
    browser.execute_script("document.querySelector('.pair .round').click()")
    assert js(browser, cards)[0].startswith("beta 0.2")


@pytest.mark.parametrize("address", ["", "#curves", "#axes", "#scatter", "#parallel", "#table"])
def test_a_phone_scrolls_only_down(page, small, address):
    browser = page(small + address, *PHONE)
    widths = "[document.documentElement.scrollWidth, document.documentElement.clientWidth]"
    assert js(browser, widths)[0] <= PHONE[0]
    if not address:
        browser.execute_script("document.querySelectorAll('.card')[1].click()")
        browser.execute_script("document.querySelector('details').open = true")
        dialog = "document.querySelector('dialog')"
        assert js(browser, f"{dialog}.scrollWidth <= {dialog}.clientWidth")
        assert js(browser, f"{dialog}.clientWidth") == PHONE[0]


def test_every_picture_has_a_text_and_every_control_a_name(page, small):
    browser = page(small)
    browser.execute_script("document.querySelectorAll('.card')[0].click()")
    pictures = "[...document.querySelectorAll('img')].filter(e => !e.hidden)"
    assert js(browser, f"{pictures}.length") == 2 + 5 + 2
    assert js(browser, f"{pictures}.every(e => e.alt && e.naturalWidth)")
    name = "(e.getAttribute('aria-label') || e.textContent || e.closest('label')?.textContent)"
    assert (
        js(
            browser,
            f"[...document.querySelectorAll('button, input, select')].filter(e => !{name})"
            ".map(e => e.outerHTML)",
        )
        == []
    )


def test_what_failed_says_why_as_text(page, small):
    browser = page(small)
    failed = browser.find_element("css selector", "[data-status=failed]")
    assert "<b>lost</b>" in failed.text
    failed.click()
    assert js(browser, "document.querySelector('.why').textContent").startswith("<b>lost</b>")


def test_a_hundred_cells_can_be_used_within_a_second(page, tmp_path, picture):
    axes = {"beta": list("0123456789"), "seed": list("0123456789")}
    browser = page(report.write(sweep(tmp_path, picture, axes)).as_uri())
    timing = "performance.getEntriesByType('navigation')[0]"
    assert js(browser, "document.querySelectorAll('.card').length") == 100
    assert js(browser, f"{timing}.domInteractive") < 1000
    start = "performance.now()"
    spent = browser.execute_script(
        f"const start = {start}; document.querySelector('.card').click();"
        f" document.querySelector('.heading .round').click(); return {start} - start"
    )
    assert spent < 1000


def test_a_run_has_no_tabs(page, tmp_path, picture):
    run(tmp_path / "r", picture, 0, side=360)  # larger than a thumbnail
    images.write(tmp_path / "content.jpg", picture(60, 40))
    config = {"output": "final.png", "content": str(tmp_path / "content.jpg")}
    (tmp_path / "r" / "config.json").write_text(json.dumps(config))
    browser = page(report.write(tmp_path / "r").as_uri())
    assert js(browser, "document.querySelectorAll('[role=tab]').length") == 0
    assert js(browser, "document.querySelectorAll('.line').length") == 2
    assert js(browser, "document.querySelector('.painting').naturalWidth") == 240
    assert not js(browser, "document.querySelector('.growth').hidden"), "steps on the way"


class Handler(http.server.BaseHTTPRequestHandler):
    """What `report.page` asks of a server."""

    def __init__(self, folder, *arguments):
        self.folder = folder
        super().__init__(*arguments)

    def do_GET(self):
        path = unquote(urlsplit(self.path).path)
        data = report.read(self.folder)
        if path == "/":
            body, kind = report.page(data, live=True).encode(), "text/html"
        elif path == "/data.json":
            body, kind = json.dumps(data).encode(), "application/json"
        elif path.startswith("/inputs/"):
            known = data["inputs"][int(path.removeprefix("/inputs/"))]
            body, kind = (self.folder / known["name"]).read_bytes(), "image/jpeg"
        else:
            body, kind = (self.folder / path.removeprefix("/files/")).read_bytes(), "image/png"
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        """Tests are quiet."""


@pytest.fixture
def serve():
    servers = []

    def start(folder):
        handler = functools.partial(Handler, folder)
        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        servers.append(server)
        return f"http://127.0.0.1:{server.server_port}/"

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


def test_a_live_page_says_who_paints_what_and_how_long_it_takes(page, serve, tmp_path, picture):
    folder = sweep(tmp_path, picture, AXES)
    plan = json.loads((folder / "sweep.json").read_text())
    for cell in plan["cells"]:
        cell["config"]["steps"] = 1209
    (folder / "sweep.json").write_text(json.dumps(plan))
    (folder / "claims").mkdir()
    for name, worker in (("0004", "gpu-a-11-aaaa"), ("0005", "gpu-b-12-bbbb")):
        (folder / "workers" / worker).mkdir(parents=True)
        (folder / "workers" / f"{worker}.json").write_text("{}")
        (folder / "claims" / f"{name}.1").write_text(worker)
        (folder / "cells" / name / "result.json").unlink()
        (folder / "cells" / name).rename(folder / "workers" / worker / name)
    browser = page(serve(folder))
    head = "document.querySelector('.summary').innerText"
    assert "2 workers" in js(browser, head)
    # Each took 9 steps in 4.5 s and has 1200 left: 2400 steps at 4 a second.
    assert "about 10 min left" in js(browser, head)
    card = "document.querySelector('.card[aria-label^=\"beta 0.2 \u00b7 seed 0\"]').textContent"
    assert "running, step 9 \u00b7 gpu-a-11" in js(browser, card)
    (folder / "workers" / "gpu-a-11-aaaa.json").unlink()
    wait(browser, f"{card}.includes('stopped after 9 steps \u00b7 gpu-a-11')")
    wait(browser, f"{head}.includes('1 worker') && {head}.includes('about 20 min left')")
    browser.execute_script("document.querySelector('#tab-table').click()")
    rows = "[...document.querySelectorAll('#panel-table > div > .scroller tbody tr')]"
    column = f"{rows}.map(e => e.cells[4].innerText)"
    assert js(browser, column)[3:6] == ["", "gpu-a-11", "gpu-b-12"]
    browser.find_element("css selector", "input[type=search]").send_keys("gpu-b")
    assert js(browser, column) == ["gpu-b-12"]


def test_a_live_page_follows_and_disturbs_nothing(page, serve, tmp_path, picture):
    folder = sweep(tmp_path, picture, AXES, unended=(4, 5))
    (folder / "cells" / "0005" / "metrics.jsonl").unlink()
    (folder / "cells" / "0005" / "final.png").unlink()
    browser = page(serve(folder), 1000, 500)
    state = "document.querySelector('.pulse').textContent"
    card = "document.querySelector('.card[aria-label^=\"beta 0.2 · seed 1\"]')"
    assert js(browser, state) == "Live"
    assert js(browser, f"{card}.textContent").lower().startswith("waiting")

    browser.execute_script("document.querySelector('.card').click()")
    browser.execute_script("document.querySelector('details').open = true")
    dialog = "document.querySelector('dialog')"
    browser.execute_script(f"{dialog}.scrollTop = 300; scrollTo(0, 200)")
    browser.execute_script("document.querySelector('.details pre').focus()")
    kept = (
        f"[{dialog}.open, {dialog}.scrollTop, scrollY, document.querySelector('details').open,"
        " document.activeElement.tagName, document.querySelector('#viewer-title').textContent]"
    )
    before = js(browser, kept)
    assert before[1] > 0 and before[2] > 0

    run(folder / "cells" / "0005", picture, 5, ended=False)
    wait(browser, f"{card}.textContent.includes('running, step 9')")
    assert js(browser, kept) == before
    wait(browser, f"{card}.querySelector('img').naturalWidth == 80 || {card}.scrollIntoView()")

    for index in (4, 5):
        run(folder / "cells" / f"{index:04d}", picture, index)
    wait(browser, f"{state} == 'Ended'")
    assert js(browser, f"{card}.dataset.status") == "done"
    assert js(browser, f"{dialog}.open")
    asked = "performance.getEntriesByType('resource').filter(e => e.name.includes('data.json'))"
    count = js(browser, f"{asked}.length")
    time.sleep(2.5)
    assert js(browser, f"{asked}.length") == count
