"""The page in a real browser: filters, details, keyboard, accessibility, and reports that mean harm."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import time

import pytest
from conftest import ROOT, is_required
from made import case, comparison, report
from msgspec import structs
from test_views import SCRIPT, cell, hostile

from pt2e_ci.record.engines import Compared, EngineReport
from pt2e_ci.record.outcomes import Outcome
from pt2e_ci.record.records import Known
from pt2e_ci.record.report import Report, dump, end_record, read_whole_report
from pt2e_ci.views.diff import differences
from pt2e_ci.views.diff import page as diff_page
from pt2e_ci.views.pages import page

DIGEST = "sha256:" + "0" * 64
TORCHES = ("2.4.1", "2.10.0", "2.13.0")


def missing(request, reason):
    """Skip for want of a browser, or fail where one is required."""
    if is_required(request, "chromium"):
        pytest.fail(reason)
    pytest.skip(reason)


@pytest.fixture(scope="module")
def browser(request):
    """Chromium: the machine's own, or the one that Playwright has fetched."""
    from playwright.sync_api import Error, sync_playwright

    with contextlib.ExitStack() as stack:
        try:
            playwright = stack.enter_context(sync_playwright())
        except Exception as error:  # its driver does not start, for want of libatomic on a bare Debian
            missing(request, f"Playwright does not start: apt-get install libatomic1 ({str(error).splitlines()[0]})")
        own = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
        # Chromium's sandbox needs a user of its own.
        options = {"args": ["--no-sandbox"] if os.getuid() == 0 else [], "executable_path": own}
        try:
            browser = playwright.chromium.launch(**options)
        except Error as error:
            how = "apt-get install chromium, or playwright install chromium"
            missing(request, f"no Chromium: {how} ({str(error).splitlines()[0]})")
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def matrix(whole_run):
    """Six cells: those at hand in reports/, of which a run of this torch is one, and copies of that for the rest."""
    real = whole_run.report
    found = [real]
    machines = [(torch, machine) for torch in TORCHES for machine in ("x86_64", "aarch64")]
    for torch, machine in machines:
        made = cell(torch, machine)
        if made.cell != real.run.cell:
            kept = {name: getattr(made, name) for name in ("cell", "torch", "machine")}
            run = structs.replace(real.run, **kept, emulated=machine == "aarch64")
            found.append(Report(run, real.cases, real.end))
    return found


@pytest.fixture
def opened(browser, tmp_path):
    """Open a page from disk; at the end the console must have been silent, and nothing asked of a network."""
    said, contexts = [], []

    def open_page(html, address="", **options):
        path = tmp_path / "index.html"
        path.write_text(html, encoding="utf-8")
        context = browser.new_context(**options)
        contexts.append(context)
        shown = context.new_page()
        shown.on("console", lambda message: said.append(message.text) if message.type in ("error", "warning") else None)
        shown.on("pageerror", lambda error: said.append(str(error)))
        shown.on("dialog", lambda dialog: said.append(f"dialog: {dialog.message}"))
        shown.on("request", lambda one: None if one.url.startswith(("file:", "data:")) else said.append(one.url))
        shown.goto(f"file://{path}{address}")
        return shown

    yield open_page
    for context in contexts:
        context.close()
    assert said == []


def some(found, step):
    """Return a report with a part of its cases, conv2d among them: its rows are all made alike."""
    return Report(found.run, tuple(one for index, one in enumerate(found.cases) if index % step == 2), found.end)


def visible_rows(shown):
    return [row.get_attribute("data-name") for row in shown.locator("tbody tr:visible").all()]


def test_filters_show_a_part_and_stay_in_the_address(opened, matrix):
    shown = opened(page(matrix))
    every = visible_rows(shown)
    shown.get_by_label("Family").select_option("conv")
    convs = visible_rows(shown)
    assert 0 < len(convs) < len(every)
    shown.get_by_role("searchbox", name="Text").fill("depthwise")
    assert visible_rows(shown) == ["conv2d_depthwise"]
    shown.get_by_role("searchbox", name="Text").fill("conv2d depthwise")  # as one reads it
    assert visible_rows(shown) == ["conv2d_depthwise"]
    shown.get_by_role("searchbox", name="Text").fill("depthwise")
    address = shown.evaluate("location.hash")
    assert address == "#q=depthwise&family=conv"
    assert shown.locator("#count").inner_text() == f"1 of {len(every)} rows"
    columns = shown.locator("thead tr:nth-child(2) th:visible").count()
    shown.get_by_label("Architecture").select_option("aarch64")
    assert shown.locator("thead tr:nth-child(2) th:visible").count() < columns
    again = opened(page(matrix), address=address)
    assert visible_rows(again) == ["conv2d_depthwise"]
    shown.get_by_role("button", name="Clear").click()
    shown.wait_for_function(f"document.querySelectorAll('tbody tr:not([hidden])').length === {len(every)}")
    shown.get_by_label("Outcome").select_option("mismatch")
    assert 0 < len(visible_rows(shown)) < len(every)
    shown.get_by_label("Outcome").select_option("")
    shown.get_by_role("searchbox", name="Text").fill("INTERNAL ASSERT")  # of a reason
    assert "linear_no_bias" in visible_rows(shown)
    assert visible_rows(opened(page(matrix), address="#outcome=nonsense")) == every


def test_first_screen_says_what_holds_and_how_it_is_known(opened, matrix):
    shown = opened(page(matrix), viewport={"width": 1280, "height": 800})
    finding = shown.locator(".finding").inner_text()
    assert finding.startswith("Integer in no cell: ")
    assert "conv2d" in finding.partition(";")[0]
    assert "conv2d" not in finding.partition(";")[2]
    strip = dict(zip(*(shown.locator(f".strip {name}").all_inner_texts() for name in ("dt", "dd")), strict=True))
    operators = [one for report in matrix for case in report.cases for one in case.operators if one.verdict]
    floats = [one for one in operators if one.verdict != "integer"]
    assert (strip["cells"], strip["operators"]) == (str(len(matrix)), str(len(operators)))
    assert strip["in float"] == str(len(floats))
    known = sum(int(strip[name]) for name in ("proved", "partly", "tested", "refuted"))
    assert known == sum(one.evidence is not None for one in operators) - sum(one.evidence is not None for one in floats)
    row = shown.locator("tr[data-name=add_scales]")
    assert row.locator("button").first.locator(".evidence").inner_text() == "■ proved"


@pytest.fixture(scope="module")
def wide(whole_run):
    """Fifteen releases on two architectures, as the whole matrix has them."""
    real = whole_run.report
    runs = [cell(f"2.{minor}.0", machine) for minor in range(1, 16) for machine in ("x86_64", "aarch64")]
    kept = ("cell", "torch", "machine")
    return [
        Report(structs.replace(real.run, **{name: getattr(run, name) for name in kept}), real.cases, real.end)
        for run in runs
    ]


def test_whole_matrix_is_a_heat_map_that_needs_no_scrolling_sideways(opened, wide):
    shown = opened(page(wide), viewport={"width": 1280, "height": 800})
    needed, there = shown.locator(".scroll").evaluate("region => [region.scrollWidth, region.clientWidth]")
    assert needed <= there
    square = shown.locator("tr[data-name=conv2d] button").last
    assert square.bounding_box()["width"] < 40
    assert square.get_attribute("title") == "float, known"
    assert "float" in square.inner_text()  # for a screen reader
    square.click()
    assert "conv2d on " in shown.get_by_role("dialog").inner_text()


def test_neighbours_of_equal_outcome_are_one_bar(opened, wide):
    other = structs.replace(wide[20].cases[0], outcome=Outcome.CRASH, known=None)
    changed = Report(wide[20].run, (other, *wide[20].cases[1:]), wide[20].end)
    shown = opened(page([*wide[:20], changed, *wide[21:]]), viewport={"width": 1280, "height": 800})

    def bars(name):
        fields = shown.locator(f"tr[data-name={name}] td:visible")
        return fields.evaluate_all("all => all.filter((one) => !one.classList.contains('same')).length")

    assert (bars(other.name), bars("conv2d")) == (3, 1)
    word = shown.locator("tr[data-name=conv2d] .word").first
    assert word.bounding_box()["width"] > 200  # it has the bar's length
    assert shown.locator("tr[data-name=conv2d] td:nth-of-type(30) .word").first.bounding_box()["width"] == 1
    shown.locator("tr[data-name=conv2d] button").nth(17).click()
    cell_of_field = shown.locator("thead tr:nth-child(2) th").nth(17).get_attribute("title")
    assert cell_of_field in shown.locator("#detail-title").inner_text()  # each field still opens
    shown.keyboard.press("Escape")
    shown.get_by_label("Architecture").select_option(changed.run.machine)
    assert (bars(other.name), bars("conv2d")) == (3, 1)
    word = "aarch64" if changed.run.machine == "x86_64" else "x86_64"
    shown.get_by_label("Architecture").select_option(word)
    assert bars(other.name) == 1


def add_report(shown, found, name="mine.jsonl"):
    text = found if isinstance(found, str) else dump(found)
    shown.locator("#file").set_input_files({"name": name, "mimeType": "text/plain", "buffer": text.encode()})
    shown.wait_for_function(f"document.getElementById('count').textContent.includes({json.dumps(name)})")
    return shown.locator("#count").inner_text()


def test_report_of_ones_own_becomes_a_column(opened, matrix):
    mine = structs.replace(matrix[0].cases[0], outcome=Outcome.CRASH, known=None, complaint="new", digest=DIGEST)
    model = structs.replace(hostile().cases[0], known=Known(reason=SCRIPT, link="javascript:alert(3)"))
    shown = opened(page(matrix))
    before = shown.locator("thead tr:nth-child(2) th").count()
    added = Report(matrix[0].run, (mine, matrix[0].cases[2], model), end_record((mine, mine, model), 3, 1.0))
    assert add_report(shown, added).endswith("; the last column is mine.jsonl")
    assert shown.locator("thead tr:nth-child(2) th").count() == before + 1
    last = shown.locator(f"tr[data-name={mine.name}] td").last
    assert "crash, unexpected" in last.inner_text()
    assert last.locator("sup").inner_text() == "new"
    kept = shown.locator(f"tr[data-name={matrix[0].cases[2].name}] td")
    assert kept.last.inner_text() == kept.first.inner_text().replace(" known", ", known")
    assert shown.locator(f"tr[data-name={matrix[0].cases[1].name}] td").last.inner_text() == "not run"
    row = shown.locator("tbody tr").last  # of a case that no other report has
    assert row.get_attribute("data-name") == model.name
    row.locator("button").click()
    assert SCRIPT in shown.get_by_role("dialog").inner_text()
    assert shown.locator("dialog a").evaluate_all("all => all.map((one) => one.getAttribute('href')[0])") == ["#"]
    shown.keyboard.press("Escape")
    shown.get_by_role("searchbox", name="Text").fill("outcome:crash")
    assert visible_rows(shown) == [mine.name]
    add_report(shown, added, "again.jsonl")
    assert shown.locator("thead tr:nth-child(2) th").count() == before + 2


@pytest.mark.parametrize(
    "change",
    [
        lambda text: "",
        lambda text: "{}",
        lambda text: text[: len(text) // 2],
        lambda text: text.replace('"schema":2', '"schema":1'),
        lambda text: text.replace('"operators":[{', '"operators":7,"x":[{', 1),
        lambda text: "\n".join([*text.splitlines()[:2], *text.splitlines()[1:]]),
    ],
    ids=["empty", "none", "cut off", "old", "bent", "twice"],
)
def test_file_that_is_no_report_adds_nothing(opened, matrix, change):
    shown = opened(page(matrix[:2]))
    said = add_report(shown, change(dump(matrix[0])))
    assert said == "mine.jsonl: no whole report of schema 2: run `pt2e-ci report` on it, which says what is wrong"
    assert shown.locator("thead tr:nth-child(2) th").count() == 2


def test_operator_has_an_anchor_and_is_shown_to_be_wrong(opened, matrix):
    shown = opened(page(matrix))
    shown.locator("tr[data-name=mlp] button").last.click()
    operator = shown.locator("dialog a[data-operator]").last
    text = shown.get_by_role("dialog").inner_text()
    assert "refuted: too low on " in text
    assert "An input that shows it, of linear at " in text
    again = opened(page(matrix), address=operator.get_attribute("href"))
    again.wait_for_function("document.activeElement.dataset.operator !== undefined")
    assert again.evaluate("document.activeElement.dataset.operator") == operator.get_attribute("data-operator")
    assert again.evaluate("location.hash") == operator.get_attribute("href")
    again.keyboard.press("Escape")
    again.locator("tr[data-name=mul] button").first.click()
    assert "operator=" not in again.evaluate("location.hash")


def test_field_says_how_it_came_out_torch_by_torch(opened, wide):
    change = {"2.1.0": Outcome.PASS, "2.2.0": Outcome.PASS, "2.9.0": Outcome.CRASH}
    found = []
    for one in wide:
        outcome = change.get(one.run.torch)
        cases = [structs.replace(case, outcome=outcome or case.outcome) for case in one.cases[:3]]
        found.append(Report(one.run, tuple(cases), one.end))
    found = [one for one in found if one.run.machine == "x86_64" or one.run.torch == "2.9.0"]
    shown = opened(page(found))
    shown.locator("tr[data-name=conv2d] td button").first.click()
    text = shown.get_by_role("dialog").inner_text()
    assert "From torch to torch: pass 2.1 to 2.2, float 2.3 to 2.8, crash 2.9, float 2.10 to 2.15" in text


def test_phone_shows_the_newest_torch_first(opened, wide):
    shown = opened(page(wide), viewport={"width": 390, "height": 800})
    box = shown.locator("thead th.cell").last.bounding_box()
    assert box["x"] + box["width"] <= 390
    word = shown.locator("tr[data-name=conv2d] button").last.locator(".word").first.bounding_box()
    assert 300 < word["x"] + word["width"] <= 390  # at the right, where the bar ends
    name = shown.locator("tr[data-name=conv2d] th")
    covered = "one => { const { x, y, width, height } = one.getBoundingClientRect(); "
    covered += "return document.elementFromPoint(x + width - 4, y + height / 2) === one; }"
    assert name.evaluate(covered)  # what scrolls under a name does not lie over it
    assert not shown.get_by_label("Family").is_visible()
    shown.get_by_text("Filters", exact=True).click()
    assert shown.get_by_label("Family").is_visible()


@pytest.mark.parametrize(
    ("typed", "first", "others"),
    [
        ("seq(2.4:pass 2.13:float)", "mul", False),
        ("differs:arch", "mul", False),
        ("outcome:inexact add", "add", True),
        ("evidence:proved scales", "add_scales", False),
        ("outcome:float seq(2.4:inexact 2.4:pass)", None, False),
    ],
)
def test_query_asks_for_sequences_outcomes_and_evidence(opened, matrix, typed, first, others):
    reports = [one for one in matrix if one.run.torch[:4] in ("2.4.", "2.13")]
    old = next(one for one in reports if one.run.torch.startswith("2.4") and one.run.machine == "x86_64")
    cases = tuple(structs.replace(one, outcome=Outcome.PASS) if one.name == "mul" else one for one in old.cases)
    reports[reports.index(old)] = Report(old.run, cases, old.end)
    shown = opened(page(reports))
    shown.get_by_role("searchbox", name="Text").fill(typed)
    rows = visible_rows(shown)
    assert rows[:1] == ([first] if first else [])
    assert (len(rows) > 1) == others


@pytest.mark.parametrize(
    ("typed", "says"),
    [
        ("outcome:nonsense", "outcome: takes pass, inexact, "),
        ("evidence:zzz", "evidence: takes proved, partly, tested, refuted"),
        ("nosuch:x", "nosuch:x is no query: there are outcome:, evidence:, differs: and seq("),
        ("seq(2.4:float", "seq(2.4:float is no query"),
        ("seq(2.4)", "seq(2.12:pass 2.13:float) takes a torch and an outcome each"),
        ("nothing at all", "0 of "),
    ],
)
def test_query_that_is_none_says_so(opened, matrix, typed, says):
    shown = opened(page(matrix[:2]))
    shown.get_by_role("searchbox", name="Text").fill(typed)
    assert shown.locator("#count").inner_text().startswith(says)
    assert visible_rows(shown) == []


def test_link_opens_a_field_and_says_when_it_is_of_another_run(opened, matrix):
    shown = opened(page(matrix))
    shown.locator("tr[data-name=conv2d] button").nth(1).click()
    title = shown.locator("#detail-title").inner_text()
    link = shown.get_by_role("link", name="Link to this field of this run").get_attribute("href")
    again = opened(page(matrix), address=link)
    assert again.locator("#detail-title").inner_text() == title
    assert not again.locator("#stale").is_visible()
    later = opened(page(matrix[:3]), address=link)
    assert later.locator("#stale").is_visible()
    assert "these are the latest numbers" in later.get_by_role("dialog").inner_text()
    # Another link while a field is open.
    again.evaluate("(link) => { location.hash = link.replace('conv2d', 'mul'); }", link)
    again.wait_for_function("document.getElementById('detail-title').textContent.startsWith('mul on ')")
    again.keyboard.press("Escape")
    assert again.evaluate("location.hash") == ""


def test_engines_are_shown_beside(opened, matrix):
    def engine(name, *results):
        about = {
            "package": "p 1",
            "platform": "linux_x86_64",
            "cpu": "c",
            "flags": [],
            "python": "3.11",
            "vectors": "v",
        }
        return EngineReport(engine=name, results=list(results), **about)

    ties = {"ties": 4, "ties_by": {"half_up": 4}}
    linear = Compared(vector="linear-ties", operator="linear", outcome=Outcome.PASS, values=9, **ties)
    wrong = Compared(vector="add-pairs", operator="add", outcome=Outcome.MISMATCH, values=9, wrong=1, max=1, why=SCRIPT)
    shown = opened(page(matrix[:2], devices=[engine("one", linear, wrong), engine(SCRIPT, linear)]))
    table = shown.locator("table.engines")
    assert table.locator("thead th").all_inner_texts() == ["Operator", "one", SCRIPT]
    texts = [row.locator("th, td").all_inner_texts() for row in table.locator("tbody tr").all()]
    assert texts == [["linear", "exact, half_up", "exact, half_up"], ["add", "mismatch", ""]]
    assert SCRIPT in table.locator("tbody tr").nth(1).locator("td").first.get_attribute("title")
    assert opened(page(matrix[:2])).locator("table.engines").count() == 0


def test_only_what_differs_between_machines_is_shown(opened, matrix):
    changed = structs.replace(matrix[1].cases[2], digest="sha256:" + "0" * 64, outcome=Outcome.MISMATCH)
    cases = (*matrix[1].cases[:2], changed, *matrix[1].cases[3:])
    shown = opened(page([matrix[0], Report(matrix[1].run, cases, matrix[1].end), *matrix[2:]]))
    shown.get_by_label("Only").select_option("differs")
    assert visible_rows(shown) == [changed.name]
    shown.get_by_label("Only").select_option("changed")
    assert visible_rows(shown) == []  # no history was given


def test_chain_is_drawn_alone_and_added_up(opened, matrix):
    shown = opened(page(matrix))
    shown.locator("tr[data-name=mlp] button").first.click()
    plot = shown.locator("svg.plot")
    assert plot.locator("rect.isolated").count() >= 3
    assert plot.locator("polyline.cumulative").count() == 1
    assert plot.get_attribute("aria-label").startswith("LSB from exact, operator by operator: alone, up to 1")


def test_field_opens_to_numbers_programs_and_command(opened, matrix):
    shown = opened(page(matrix))
    shown.locator("tr[data-name=conv2d] button").first.click()
    dialog = shown.get_by_role("dialog")
    text = dialog.inner_text()
    assert "conv2d on " in text
    assert "aten.convolution.default, the program aten.conv2d.default" in text
    assert "nox -s test-" in text
    assert "qnnpack" in text
    assert "Upstream's own rule says" in text
    assert "Each operator against exact" in text
    assert dialog.locator("li.float").count() >= 1
    dialog.get_by_text("qdq vs exact: how many").click()
    assert dialog.locator("details[open] span.bar").first.is_visible()
    dialog.get_by_text("Quantization parameters").click()
    assert "quantize_per_tensor" in dialog.inner_text()
    shown.keyboard.press("Escape")
    assert not dialog.is_visible()


def test_keyboard_alone_gets_everywhere(opened, matrix):
    shown = opened(page(matrix))
    shown.locator("button[data-field='0 0']").focus()
    focused = "document.activeElement.dataset.field"
    for key, field in (
        ("ArrowDown", "1 0"),
        ("ArrowRight", "1 1"),
        ("ArrowUp", "0 1"),
        ("ArrowLeft", "0 0"),
        ("ArrowUp", "0 0"),
    ):
        shown.keyboard.press(key)
        assert shown.evaluate(focused) == field
    shown.keyboard.press("Enter")
    assert shown.get_by_role("dialog").is_visible()
    shown.keyboard.press("Escape")
    assert shown.evaluate(focused) == "0 0"


@pytest.mark.parametrize("width", [1300, 390])
def test_headings_stay_and_lie_over_no_focused_field(opened, matrix, width):
    shown = opened(page(matrix), viewport={"width": width, "height": 700})
    last = len(matrix[0].cases) - 1
    shown.locator(f"button[data-field='{last} {len(matrix) - 1}']").focus()
    covered = """() => {
        const box = document.activeElement.getBoundingClientRect();
        const at = document.elementFromPoint(box.left + box.width / 2, box.top + box.height / 2);
        return document.activeElement.contains(at) ? "" : at.outerHTML;
    }"""
    for key in ["ArrowUp"] * last + ["ArrowLeft"] * (len(matrix) - 1):
        shown.keyboard.press(key)
        assert shown.evaluate(covered) == ""
    shown.locator(f"button[data-field='{last} {len(matrix) - 1}']").focus()
    top, first, second = (
        shown.locator(place).first.bounding_box()["y"]
        for place in (".scroll", "thead tr:nth-child(1) th.cell", "thead tr:nth-child(2) th")
    )
    assert top <= first < second < top + 150


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1300, 390])
def test_accessibility_rules_hold(opened, matrix, wide, scheme, width):
    from axe_core_python.sync_playwright import Axe

    for reports in ([some(one, 8) for one in matrix[:2]], [some(one, 8) for one in wide[-10:]]):
        shown = opened(page(reports), color_scheme=scheme, viewport={"width": width, "height": 800}, bypass_csp=True)
        for step in ("table", "details"):
            if step == "details":
                shown.locator("tr[data-name=conv2d] button").first.click()
            found = Axe().run(shown)["violations"]
            assert [(one["id"], one["nodes"][0]["html"][:200]) for one in found] == []


def test_page_is_usable_at_once(opened, matrix):
    """Its own script is done before the browser says that the page is loaded: nothing is fetched or awaited."""
    shown = opened(page(matrix))
    assert shown.locator("#count").inner_text().endswith(" rows")


def test_without_scripts_the_table_is_there(opened, matrix):
    shown = opened(page(matrix), java_script_enabled=False)
    assert shown.locator("tbody tr").count() == len(matrix[0].cases)


def test_hostile_report_is_harmless(opened):
    shown = opened(page([hostile()]))
    shown.locator("button[data-field]").first.click()
    text = shown.get_by_role("dialog").inner_text()
    assert SCRIPT in text
    links = shown.locator("dialog a").evaluate_all("all => all.map((one) => one.getAttribute('href')[0])")
    assert links == ["#"]  # to the page itself
    assert shown.locator("img").count() == 0


def test_field_with_an_enormous_histogram_opens(opened):
    numbers = comparison(9, histogram={str(key): 1 for key in range(10_000)})
    one = case("add", numerics={"reference_vs_qdq": numbers})
    shown = opened(page([report(one)]))
    shown.locator("button[data-field]").first.click()
    assert shown.get_by_role("dialog").is_visible()


def test_policy_stops_a_script_that_is_not_the_pages(browser, tmp_path, matrix):
    """The policy is no decoration: the same page with a script put in does not run it."""
    path = tmp_path / "index.html"
    path.write_text(page(matrix[:1]).replace("</main>", "<script>document.title = 'taken over'</script></main>"))
    shown = browser.new_page()
    shown.goto(f"file://{path}")
    assert shown.title() != "taken over"
    shown.close()


def test_diff_page_opens(opened, matrix):
    broken = Report(
        matrix[0].run, tuple(structs.replace(one, outcome=Outcome.CRASH) for one in matrix[0].cases), matrix[0].end
    )
    shown = opened(diff_page(differences(matrix[:1], [broken]), "before to after"))
    assert shown.locator("tbody tr").count() == len(matrix[0].cases)
    assert "broke" in shown.locator("header").inner_text()


def test_real_reports_make_a_page(opened):
    """Whatever the sessions of this checkout have left in reports/."""
    paths = sorted((ROOT / "reports").glob("*.jsonl"))
    if not paths:
        pytest.skip("no session of this checkout has left a report")
    reports = [read_whole_report(path) for path in paths]
    started = time.monotonic()
    html = page(reports)
    assert len(html) < 3_000_000
    print(f"{len(reports)} cells in {time.monotonic() - started:.1f} s, {len(html) / 1e6:.1f} MB")
    assert opened(html).locator("thead tr:nth-child(2) th").count() == len(reports)
