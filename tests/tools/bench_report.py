"""What bench.py has found, as a table, as CSV and as a picture."""
import csv
import dataclasses
import io
import statistics

METRICS = "rate", "p50", "p99", "p999", "cpu", "calls"
BASE = "nutcracker"


@dataclasses.dataclass
class Row:
    """A case with one of the proxies; without results if it cannot do it."""
    case: object
    proxy: str
    asking: int = 0
    idle: int = 0
    results: list = dataclasses.field(default_factory=list)
    failure: str = ""

    def set_calls(self, calls):
        for result in self.results:
            result.calls = calls

    def median(self, metric):
        """None if it is not known."""
        values = [getattr(result, metric) for result in self.results]
        if not values or self.failure or None in values:
            return None
        return statistics.median(values)

    def ratio(self, metric, base):
        """The median over the rounds of the ratio to another row."""
        if self.median(metric) is None or not base or (
                base.median(metric) is None):
            return None
        return statistics.median(
            getattr(ours, metric) / getattr(theirs, metric)
            for ours, theirs in zip(self.results, base.results))

    def servers(self):
        if self.proxy == "magent" and self.case.backups:
            return "%d+%d" % (self.case.servers, self.case.backups)
        return str(self.case.servers)

    def clients(self):
        """How many there are, and how many there should be."""
        if not self.asking:
            return "-"
        return "{:,}".format(self.asking + self.idle) + (
            " of {:,}".format(self.wanted()) if self.is_short() else "")

    def wanted(self):
        return self.case.clients + self.case.idle

    def is_short(self):
        """Whether not all clients fit."""
        return 0 < self.asking + self.idle < self.wanted()


def base_of(row, rows):
    for other in rows:
        if other.case is row.case and other.proxy == BASE:
            return other
    return None


def number(form, value):
    return "-" if value is None else form.format(value)


def median_of(form, metric):
    return lambda row, base: number(form, row.median(metric))


def ratio_of(metric):
    return lambda row, base: number("{:.2f}", row.ratio(metric, base))


# Head, width and contents of each column of the table.
COLUMNS = [
    ("case", 25, lambda row, base: row.case.what),
    ("servers", 7, lambda row, base: row.servers()),
    ("clients", 16, lambda row, base: row.clients()),
    ("proxy", 10, lambda row, base: row.proxy),
    ("requests/s", -10, median_of("{:,.0f}", "rate")),
    ("p50 us", -9, median_of("{:,.0f}", "p50")),
    ("p99 us", -9, median_of("{:,.0f}", "p99")),
    ("p99.9 us", -9, median_of("{:,.0f}", "p999")),
    ("cpu us", -8, median_of("{:,.1f}", "cpu")),
    ("calls", -7, median_of("{:,.2f}", "calls")),
    ("rate:", -6, ratio_of("rate")),
    ("cpu:", -6, ratio_of("cpu")),
    ("p99:", -6, ratio_of("p99")),
]

LEGEND = """\
cpu and calls: processor time and system calls of the proxy for one request.
rate:, cpu:, p99: the medians of the ratios to nutcracker.
servers: how many are behind; 1+1: a primary and its backup.
"""


def cells(row, base):
    return [column[2](row, base) for column in COLUMNS]


def line(texts):
    return "  ".join(
        text.ljust(width) if width > 0 else text.rjust(-width)
        for text, (_, width, _) in zip(texts, COLUMNS)).rstrip()


def table(rows):
    lines = [line([head for head, _, _ in COLUMNS])]
    last = None
    for row in rows:
        if last and last.case is not row.case:
            lines.append("")
        lines.append(line(cells(row, base_of(row, rows))))
        last = row
    failures = ["failed: %s, %s: %s" % (row.case.name, row.proxy, row.failure)
                for row in rows if row.failure]
    return "\n".join([*lines, "", LEGEND.strip(), *failures])


def csv_of(rows):
    """Each round, and the medians with the ratios."""
    ratios = "rate", "cpu", "p99"
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["case", "servers", "clients", "proxy", "round", *METRICS,
                     *("ratio_" + metric for metric in ratios)])
    for row in rows:
        base = base_of(row, rows)
        first = [row.case.name, row.servers(), row.asking + row.idle, row.proxy]
        for n, result in enumerate(row.results, 1):
            writer.writerow(first + [n] + rounded(
                [getattr(result, metric) for metric in METRICS] +
                [None] * len(ratios)))
        if row.results and not row.failure:
            writer.writerow(first + ["median"] + rounded(
                [row.median(metric) for metric in METRICS] +
                [row.ratio(metric, base) for metric in ratios]))
    return text.getvalue()


def rounded(values):
    return ["" if value is None else round(value, 3) for value in values]


# The picture: a line for each case, and three columns with magent as a bar and
# the others as marks.

PANELS = [("rate", "requests per second", "longer is better"),
          ("cpu", "processor time", "of the proxy; shorter is better"),
          ("p99", "p99 latency", "shorter is better")]
LEFT, PANEL, GAP, TOP, STEP = 190, 190, 24, 78, 20
WIDTH = LEFT + 3 * (PANEL + GAP)
EDGE = 166              # of a panel, where its numbers are to stand

STYLE = """
  text { font: 12px system-ui, sans-serif; fill: #24292f }
  .head { font-size: 13px; font-weight: 600 }
  .small { font-size: 11px; fill: #57606a }
  .code { font: 11px ui-monospace, monospace; fill: #57606a }
  .end { text-anchor: end }
  .middle { text-anchor: middle }
  .magent { fill: #54aeff }
  .one { stroke: #57606a; stroke-width: 1.5 }
  .row { stroke: #d0d7de; stroke-width: 1 }
  .haproxy { fill: none; stroke: #bc4c00; stroke-width: 1.8 }
  .direct { fill: #1a7f37 }
  @media (prefers-color-scheme: dark) {
    text { fill: #e6edf3 }
    .small, .code { fill: #9198a1 }
    .magent { fill: #1f6feb }
    .one { stroke: #9198a1 }
    .row { stroke: #30363d }
    .haproxy { stroke: #db6d28 }
    .direct { fill: #3fb950 }
  }
"""


def escaped(text):
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(
        ">", "&gt;")


def label(x, y, text, style=""):
    return '<text x="%g" y="%g" class="%s">%s</text>' % (
        x, y, style, escaped(text))


def mark(proxy, x, y):
    if proxy == "haproxy":
        return '<path class="haproxy" d="M%g %gl4 4 4 -4 -4 -4z"/>' % (x - 4, y)
    return '<circle class="direct" cx="%g" cy="%g" r="3.2"/>' % (x, y)


class Panel:
    """One metric of all cases, on a scale that holds all of magent's."""

    def __init__(self, number, rows):
        self.metric, self.title, self.hint = PANELS[number]
        self.x = LEFT + number * (PANEL + GAP)
        self.ratios = {
            (row.case.name, row.proxy): row.ratio(
                self.metric, base_of(row, rows)) for row in rows}
        most = max([ratio for (_, proxy), ratio in self.ratios.items()
                    if proxy == "magent" and ratio is not None] + [1.2])
        self.scale = (EDGE - 4) / most

    def head(self, bottom):
        one = self.x + self.scale
        return [label(self.x, TOP - 34, self.title, "head"),
                label(self.x, TOP - 20, self.hint, "small"),
                '<path class="one" d="M%g %gV%g"/>' % (one, TOP - 8, bottom)]

    def row(self, case, y):
        parts = []
        magent = self.ratios.get((case.name, "magent"))
        if magent is not None:
            width = magent * self.scale
            parts += ['<rect class="magent" x="%g" y="%g" width="%.1f" '
                      'height="10"/>' % (self.x, y - 5, width),
                      label(self.x + PANEL + GAP - 10, y + 4,
                            "%.2f" % magent, "small end")]
        for proxy in "haproxy", "direct":
            ratio = self.ratios.get((case.name, proxy))
            if ratio is not None:
                parts.append(mark(
                    proxy, self.x + min(ratio * self.scale, EDGE), y))
        return parts


def key_of_marks(y):
    return ['<rect class="magent" x="%d" y="%d" width="16" height="10"/>' % (
                LEFT, y - 9), label(LEFT + 22, y, "magent, and its number"),
            '<path class="one" d="M%d %dv14"/>' % (LEFT + 186, y - 11),
            label(LEFT + 194, y, "nutcracker: 1"),
            mark("haproxy", LEFT + 298, y - 4),
            label(LEFT + 308, y, "haproxy"),
            mark("direct", LEFT + 378, y - 4),
            label(LEFT + 388, y, "no proxy (at the edge: beyond it)")]


def title_of(case):
    return case.what + (
        ", %d servers" % case.servers if case.servers > 1 else "")


def picture(rows, command, versions):
    """Of the cases that nutcracker can do; an SVG for light and for dark."""
    cases = [row.case for row in rows
             if row.proxy == BASE and row.median("rate") is not None]
    panels = [Panel(number, rows) for number in range(len(PANELS))]
    bottom = TOP + STEP * len(cases)
    parts = key_of_marks(20)
    for n, case in enumerate(cases):
        y = TOP + STEP * n + STEP / 2
        parts += ['<path class="row" d="M8 %gH%d"/>' % (y + 10, WIDTH - 8),
                  label(LEFT - 10, y + 4, title_of(case), "end")]
        for panel in panels:
            parts += panel.row(case, y)
    for panel in panels:
        parts += panel.head(bottom)
    parts += [label(8, bottom + 22, command, "code"),
              label(8, bottom + 38, versions, "small")]
    return """\
<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" role="img" \
aria-labelledby="title">
<title id="title">magent beside nutcracker, haproxy and no proxy</title>
<style>%s</style>
%s
</svg>
""" % (WIDTH, bottom + 50, STYLE, "\n".join(parts))
