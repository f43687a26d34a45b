"""The report in a headless Chromium: no errors, no network, and the viewer plays."""

import importlib.util
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from shared.evaluate import main

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser"))), None)

pytestmark = [
    pytest.mark.skipif(CHROMIUM is None, reason="needs chromium: apt-get install chromium"),
    pytest.mark.skipif(
        importlib.util.find_spec("playwright") is None,
        reason="needs playwright: pip install 'trajgen[browser]'",
    ),
]

# Share of a canvas that does not look like its corner, and a sum that tells pictures apart.
PICTURE = """name => {
  const source = document.querySelector(`#viewer-${name} canvas`);
  const copy = new OffscreenCanvas(source.width, source.height).getContext("2d");
  copy.drawImage(source, 0, 0);
  const bytes = copy.getImageData(0, 0, source.width, source.height).data;
  let drawn = 0, sum = 0;
  for (let i = 0; i < bytes.length; i += 4) {
    if ([0, 1, 2].some((k) => Math.abs(bytes[i + k] - bytes[k]) > 8)) drawn++;
    sum = (sum * 31 + bytes[i] + 7 * bytes[i + 1] + 13 * bytes[i + 2]) % 1e9;
  }
  return { share: drawn / (source.width * source.height), sum };
}"""


class Visit:
    """A page and all that it said and asked for."""

    def __init__(self, browser: Any, path: Path) -> None:
        self.problems: list[str] = []
        self.requests: list[str] = []
        self.page = browser.new_page(viewport={"width": 390, "height": 700})
        self.page.set_default_timeout(60_000)
        self.page.on("console", self._heard)
        self.page.on("pageerror", lambda error: self.problems.append(str(error)))
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.goto(path.as_uri())

    def _heard(self, message: Any) -> None:
        if message.type in ("error", "warning") and "GPU stall" not in message.text:
            self.problems.append(message.text)

    def went_well(self) -> None:
        """Nothing on the console, nothing asked of the network."""
        assert self.problems == []
        own = ("file:", "data:", "blob:")
        assert [url for url in self.requests if not url.startswith(own)] == []
        assert len([url for url in self.requests if url.startswith("file:")]) == 1

    def picture(self, name: str) -> dict[str, float]:
        return self.page.evaluate(PICTURE, name)

    def text(self, identity: str) -> str:
        return self.page.locator(f"#{identity}").text_content() or ""


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    from playwright.sync_api import sync_playwright

    # Software rendering: there is no graphics card where tests run, and no sandbox for root.
    arguments = ["--no-sandbox", "--use-angle=swiftshader", "--enable-unsafe-swiftshader"]
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=arguments)
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def visit(browser: Any, report: Path) -> Visit:
    return Visit(browser, report)


@pytest.fixture(autouse=True)
def _no_problems(visit: Visit) -> Iterator[None]:
    """Whatever a test does."""
    yield
    visit.went_well()


def test_both_molecules_are_drawn(visit: Visit) -> None:
    for name in ("generated", "reference"):
        assert 0.02 < visit.picture(name)["share"] < 0.9
    assert visit.text("viewer-generated-name") == "forcefield:md17s (fitted)"


def test_fits_a_phone(visit: Visit) -> None:
    assert visit.page.evaluate("document.documentElement.scrollWidth") <= 390


def test_the_slider_and_its_keys_change_the_frame(visit: Visit) -> None:
    slider = visit.page.locator("#viewer-frame")
    slider.focus()
    visit.page.keyboard.press("Home")
    before = visit.picture("generated")["sum"]
    for _ in range(5):
        visit.page.keyboard.press("ArrowRight")
    assert "frame 6 of 150" in visit.text("viewer-time")
    assert "10.0 fs" in (slider.get_attribute("aria-valuetext") or "")
    assert visit.picture("generated")["sum"] != before
    visit.page.keyboard.press("End")
    assert "frame 150 of 150" in visit.text("viewer-time")
    assert visit.text("viewer-reference-name") == "reference (ended)"


def test_plays_and_pauses(visit: Visit) -> None:
    from playwright.sync_api import expect

    button = visit.page.locator("#viewer-play")
    visit.page.locator("#viewer-frame").press("Home")
    button.press("Enter")
    assert button.get_attribute("aria-pressed") == "true"
    assert "Pause" in visit.text("viewer-play")
    expect(visit.page.locator("#viewer-frame")).not_to_have_value("0", timeout=60_000)
    button.press("Enter")
    assert button.get_attribute("aria-pressed") == "false"
    stopped = visit.text("viewer-time")
    visit.page.wait_for_timeout(300)
    assert visit.text("viewer-time") == stopped


def test_turns_with_the_keys_both_together(visit: Visit) -> None:
    visit.page.locator("#viewer-frame").press("Home")
    before = {name: visit.picture(name)["sum"] for name in ("generated", "reference")}
    visit.page.locator("#viewer-reference").press("ArrowRight")
    for name, picture in before.items():
        assert visit.picture(name)["sum"] != picture
    visit.page.locator("#viewer-reset").press("Enter")


def test_the_background_follows_the_theme(visit: Visit) -> None:
    corner = """() => {
      const source = document.querySelector("#viewer-generated canvas");
      const copy = new OffscreenCanvas(1, 1).getContext("2d");
      copy.drawImage(source, 0, 0);
      return copy.getImageData(0, 0, 1, 1).data[0];
    }"""

    def becomes(low: int, high: int) -> bool:
        for _ in range(100):  # the page is told at its next frame
            if low <= visit.page.evaluate(corner) <= high:
                return True
            visit.page.wait_for_timeout(100)
        return False

    assert becomes(230, 255)
    visit.page.emulate_media(color_scheme="dark")
    assert becomes(0, 40)
    visit.page.emulate_media(color_scheme="light")
    assert becomes(230, 255)


def test_style_and_ghost_change_the_picture(visit: Visit) -> None:
    before = visit.picture("generated")["share"]
    visit.page.select_option("#viewer-style", "sphere")
    assert visit.picture("generated")["share"] > 1.3 * before
    visit.page.select_option("#viewer-style", "ball")
    visit.page.locator("#viewer-frame").press("End")
    alone = visit.picture("generated")["sum"]
    visit.page.check("#viewer-overlay")
    assert visit.picture("generated")["sum"] != alone
    visit.page.uncheck("#viewer-overlay")


def test_choices_show_the_panels_that_agree(visit: Visit) -> None:
    panels = visit.page.locator("#s2l-1 figure:not([hidden])")
    assert panels.count() == 3  # of 18: one for each molecule
    visit.page.locator("input[value=aligned]").press("Space")
    assert panels.count() == 3
    assert panels.first.get_attribute("data-alignment") == "aligned"


@pytest.mark.data
def test_the_report_of_a_real_evaluation(browser: Any, tmp_path: Path) -> None:
    config = tmp_path / "config.yaml"
    config.write_text(
        "evaluation:\n  name: real\n  data: md17\n  systems: [ethanol]\n  parts: [s2l, windows]\n"
        "  models: [persistence, oracle, 'trajgen:md17s']\n"
        f"  results: {tmp_path}/real.json\n  artefacts: {tmp_path}\n"
    )
    assert main(["--config", str(config), "--quick"]) == 0
    page = Visit(browser, tmp_path / "quick.html")
    for name in ("generated", "reference"):
        assert 0.02 < page.picture(name)["share"] < 0.9
    assert "trajgen:md17s" in page.text("viewer-generated-name")
    assert page.page.locator("#s2l-1 figure:not([hidden])").count() == 1
    page.went_well()
