"""A report is drawn whatever it says: every kind of plot, values that are missing, and text that would be markup."""

from __future__ import annotations

import copy
import re
from html.parser import HTMLParser

import plotly.graph_objects as go
import pytest
from plotly.offline import get_plotlyjs

from studio.components import report
from studio.components.report import plots
from studio.settings import ROOT
from tests.studio.components import report_example as example

HOSTILE = [
    "<img src=x onerror=window.hacked=1>",
    "</script><script>window.hacked=2</script>",
    "'\"><svg onload=window.hacked=3>",
    '<a href="https://example.org/">x</a>',
    "%{x} ${window.hacked=4} {{window.hacked}}",
]
SERIES = [
    {"name": "one", "x": [1, 2, 3], "y": [0.1, 0.2, 0.3], "low": [0.0, 0.1, 0.2], "high": [0.2, 0.3, 0.4]}
]


def draw(**spec) -> go.Figure:
    (one,) = report.figures({"figures": [spec]})
    return one[1]


class Read(HTMLParser):
    """The elements and the scripts of a page, as a browser would find them."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict]] = []
        self.scripts: list[str] = []
        self.text = ""
        self._in = ""
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        self._in = tag
        if tag == "script":
            self.scripts.append("")

    def handle_endtag(self, tag):
        self._in = ""

    def handle_data(self, data):
        if self._in == "script":
            self.scripts[-1] += data
        elif self._in != "style":
            self.text += data


@pytest.fixture(scope="module")
def page():
    return report.html(example.report())


def test_every_kind_is_drawn_with_its_axes_named_and_no_two_series_look_alike():
    given = example.report()
    assert {spec["kind"] for spec in given["figures"]} == set(plots.KINDS)
    for spec, (title, figure, note) in zip(given["figures"], report.figures(given), strict=True):
        assert (title, note) == (spec["title"], spec.get("note", ""))
        assert figure.data and figure.layout.xaxis.title.text.strip(), title
    looks = plots.styles(given)
    assert looks[0]["words"] == looks[3]["words"] and looks[1]["projected"] == looks[-1]["projected"]
    for styles in looks:
        for name in ("form", "dash"):
            assert len({getattr(style, name) for style in styles.values()}) == len(styles)


def test_intervals_references_texts_and_logarithms_are_drawn_from_the_values():
    dots = draw(kind="dots", series=SERIES)
    assert list(dots.data[0].error_y.array) == pytest.approx([0.1] * 3)
    band, line = draw(kind="line", series=SERIES).data
    assert list(band.y) == [0.0, 0.1, 0.2, 0.4, 0.3, 0.2] and list(line.y) == [0.1, 0.2, 0.3]
    names = ["none", "perturbed-attention guidance joined with a projection"]
    flat = draw(
        kind="dots", series=[{"name": "", "x": names, "y": [1.0, 2.0]}], reference=0, reference_name="none"
    )
    assert [name.replace("<br>", " ") for name in flat.layout.yaxis.ticktext] == names
    assert flat.layout.shapes[0].x0 == 0 and flat.layout.annotations[0].text == "none"
    assert draw(kind="line", series=SERIES, reference=0.5).layout.shapes[0].y0 == 0.5
    written = {"name": "a", "x": [0.1, 1, 10], "y": [1, 2, 3], "text": ["tau 1", "tau <b>2", ""]}
    (line,) = draw(kind="line", log_x=True, series=[written], written=True).data
    assert line.text[1] == "tau &lt;b&gt;2" and "text" in line.mode
    axis = draw(kind="line", log_x=True, series=[written]).layout.xaxis
    assert axis.type == "log" and list(axis.ticktext) == ["0.1", "1", "10"]
    from_zero = draw(kind="line", log_x=True, series=[{"name": "a", "x": [0, 50], "y": [1, 2]}])
    assert from_zero.layout.xaxis.type == "linear"
    (cells,) = draw(kind="heatmap", z=[[1, -2], [None, 3.5]], rows=["a"], columns=["x", "y"]).data
    assert [list(row) for row in cells.text] == [["1", "-2"], ["–", "3.5"]]


@pytest.mark.parametrize("kind", [*plots.KINDS, "pie", None])
def test_a_plot_without_a_value_says_so(kind):
    nothing = {"name": None, "x": [None, NAN], "y": [None, NAN], "values": [None, NAN, "x"]}
    for spec in (
        {},
        {"series": None, "z": None},
        {"series": [None, 3, {}], "z": [None, 3, []]},
        {"series": [nothing], "z": [[None, NAN]]},
        {"series": [{"name": "a", "x": [{}], "y": [True], "values": {}}], "z": {"a": 1}},
    ):
        figure = draw(kind=kind, title="empty", **spec)
        said = figure.layout.annotations[0].text
        assert not figure.data and ("no values" in said or "not known" in said)


def test_histograms_share_their_bins_and_each_sums_to_a_hundred_percent():
    series = [{"name": "a", "values": [1, 2, 2, None]}, {"name": "b", "values": [5] * 50}]
    first, second = draw(kind="histogram", series=series).data
    assert list(first.x) == list(second.x) and first.name == "a (3)"
    assert sum(first.y) == pytest.approx(100) and sum(second.y) == pytest.approx(100)


@pytest.mark.parametrize(
    ("column", "said"),
    [
        ([123.4, 0.004], ["123.4", "0.004"]),  # a small value is not rounded away beside a large one
        ([1000, 0.25, 4.0], ["1000", "0.25", "4"]),
        (["0.1,1", 4.0, 2e-4, None, {"estimate": 0.5, "low": 0.4, "high": 0.6}],
         ["0.1,1", "4", "0.0002", "–", "0.500 [0.400, 0.600]"]),
    ],
)  # fmt: skip
def test_a_column_is_written_in_the_digits_that_its_values_need(column, said):
    rows = report.tables({"tables": [{"columns": ["v"], "rows": [[v] for v in column]}]})[0][2]
    assert [cell["text"] if isinstance(cell, dict) else cell for (cell,) in rows] == said


@pytest.mark.parametrize(
    ("seconds", "says"),
    [(None, ""), (41.6, "42 s"), (731.4, "12 min"), (9000, "2.5 h"), (-1, "")],
)
def test_durations_read_as_people_say_them(seconds, says):
    assert report.took(seconds) == says


NAN = float("nan")


@pytest.mark.parametrize("kind", plots.KINDS)
def test_missing_and_single_values_are_drawn_as_far_as_they_go(kind):
    holes = {"name": "a", "x": ["p", 2, 3.5, None], "y": [1, None, NAN, 2], "low": [0, None], "high": [None],
             "text": [None, "x"], "values": [3, None]}  # fmt: skip
    figure = draw(kind=kind, series=[holes], z=[[1, None], [2]], rows=None, columns=[None], reference=NAN)
    assert figure.data
    report.html({"figures": [{"kind": kind, "series": [holes], "z": [[1, None], [2]]}]})


def test_tables_say_intervals_and_shares_and_no_value():
    table = {"title": "t", "columns": ["method", "hold", "gain", "n"], "percent": ["hold"],
             "rows": [["none", {"estimate": 0.592, "low": 0.551, "high": 0.63}, 0.25, 7],
                      ["other", {"estimate": None, "low": None, "high": None}, 11.5, None], ["short"]]}  # fmt: skip
    ((_, head, rows, _),) = report.tables({"tables": [table]})
    text = [[cell["text"] if isinstance(cell, dict) else cell for cell in row] for row in rows]
    assert text == [
        ["none", "59.2 [55.1, 63.0]", "0.2", "7"],
        ["other", "–", "11.5", "–"],
        ["short", "–", "–", "–"],
    ]
    assert head[1] == {"text": "hold, %", "tone": "number"}


def test_the_file_says_what_was_measured_by_whom_and_when(page):
    text = Read(page).text
    for said in ("How far may the noise be moved?", "66.9 % [63.0, 70.7]", "59.2 [55.2, 63.2]", "data/models/diffuser",
                 "3f2c9ab01c77", "shapes-scorer/v3", "nothing was trained on", "12 min", "22 November 2026, 19:40 UTC"):  # fmt: skip
        assert said in text, said
    assert "not independent" in report.head({**example.report(), "judge": "scorer"})


def test_the_file_opens_without_a_network_and_holds_plotly_once(page):
    library = get_plotlyjs()
    assert page.count(library) == 1
    rest = page.replace(library, "")
    assert not re.search(r"https?:|//[a-z0-9-]+\.[a-z]", rest), re.findall(r"https?:\S{0,40}", rest)
    read = Read(page)
    assert all(
        not re.search("src|href", name) or value.startswith("data:")
        for _, a in read.tags
        for name, value in a.items()
    )
    assert read.tags.count(("html", {"lang": "en"})) == 1
    sheet = (ROOT / "studio/theme.css").read_text(encoding="utf-8")
    dark = re.search(r"\.dark \{(.*?)\}", sheet, re.DOTALL)[1]
    assert "prefers-color-scheme: dark" in page and dark in page


def test_hostile_text_is_text_everywhere():
    given = copy.deepcopy(example.report())

    def poison(value):
        """The report with each of its texts replaced, apart from those that choose a form."""
        count = iter(range(10**6))

        def walk(node, key=""):
            if isinstance(node, dict):
                return {walk(k) if key in ("config", "data") else k: walk(v, k) for k, v in node.items()}
            if isinstance(node, list):
                return [walk(v, key) for v in node]
            if isinstance(node, str) and key not in ("kind", "png"):
                return HOSTILE[next(count) % len(HOSTILE)]
            return node

        return walk(value)

    read = Read(report.html(poison(given)))
    tags = {tag for tag, _ in read.tags}
    assert not tags & {"svg", "a", "iframe", "object", "embed"}
    assert all(not name.startswith("on") for _, attributes in read.tags for name in attributes)
    assert all(a["src"].startswith("data:image/png;base64,") for tag, a in read.tags if tag == "img")
    assert len(read.scripts) == 3 and "<" not in read.scripts[0]
    assert HOSTILE[0] in read.text


def test_only_the_two_scripts_of_the_file_may_run(page):
    (policy,) = [
        a["content"] for tag, a in Read(page).tags if a.get("http-equiv") == "Content-Security-Policy"
    ]
    assert policy.startswith("default-src 'none'") and policy.count("'sha256-") == 2
    assert "script-src 'none'" in report.html({"title": "no plot"})


def test_what_is_no_png_is_not_shown():
    items = [
        {"png": example.png((1, 2, 3)), "caption": "a"},
        {"png": "PHN2Zy8+", "caption": "b"},
        {"png": None},
        {"png": "?"},
    ]
    page = Read(report.html({"pictures": [{"title": "p", "columns": 99, "items": items}]}))
    assert [a["alt"] for tag, a in page.tags if tag == "img"] == ["a"]
    assert page.text.count("The picture cannot be shown.") == 3


@pytest.mark.parametrize(
    "given",
    [{}, {"figures": 3, "tables": "x", "pictures": [None], "answer": None, "config": [], "seconds": "long", "created": 4},
     {"tables": [{"columns": None, "rows": [3, None]}], "answer": "one sentence", "backbone": 7},
     {"tables": [{"columns": ["a"], "rows": [[10**400], [1]]}], "seconds": 10**400}],  # beyond what a computer holds
)  # fmt: skip
def test_a_report_of_another_form_is_shown_as_far_as_it_goes(given):
    assert "</html>" in report.html(given)
