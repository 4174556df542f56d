"""scripts/grafana-dashboard.json and scripts/prometheus-alerts.yaml: they ask
for nothing that magent does not say, and others can read them."""
import copy
import json
import os
import re
import shutil
import subprocess

import pytest

from lib.net import wait_for
from lib.servers import ROOT
from lib.way import states
from test_metrics import SAMPLE, Metered

yaml = pytest.importorskip("yaml")

DASHBOARD = ROOT / "scripts" / "grafana-dashboard.json"
ALERTS = ROOT / "scripts" / "prometheus-alerts.yaml"
ALERTS_TEST = ROOT / "tests" / "behaviour" / "prometheus-alerts-test.yaml"
# Prometheus adds these to all that it reads.
TARGET = {"instance", "job"}

needs_promtool = pytest.mark.skipif(shutil.which("promtool") is None,
                                    reason="no promtool")


def promtool(*words):
    """Its status, and what it says."""
    done = subprocess.run(["promtool", *map(str, words)], text=True,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    return done.returncode, done.stdout


@pytest.fixture(scope="module")
def board():
    return json.loads(DASHBOARD.read_text())


@pytest.fixture(scope="module")
def rules():
    return [rule for group in yaml.safe_load(ALERTS.read_text())["groups"]
            for rule in group["rules"]]


@pytest.fixture(scope="module")
def exported(module_stage):
    """The samples of a running magent: for each name the sets of labels."""
    magent = Metered(module_stage.memcacheds(1), module_stage.memcacheds(1))
    module_stage.add(magent).start()
    wait_for(lambda: states(magent) == ["up", "up"], "both")
    samples = {}
    for line in magent.ask("/metrics")[2].splitlines():
        if not line.startswith("#"):
            name, labels, _ = SAMPLE.fullmatch(
                line.replace("+Inf", "inf")).groups()
            samples.setdefault(name, []).append(
                dict(re.findall(r'(\w+)="([^"]*)"', labels or "")))
    return samples


def plain(expression):
    """What Grafana makes of it."""
    return expression.replace("$__rate_interval", "5m").replace(
        "$instance", ".*")


def strangers(expression, exported):
    """The metrics and labels of an expression that magent does not have."""
    known = set(TARGET)
    for name, selector in re.findall(r"\b(magent_\w+)(?:\{([^}]*)\})?",
                                     expression):
        if name not in exported:
            yield name
            continue
        known |= {label for labels in exported[name] for label in labels}
        asked = dict(re.findall(r'(\w+)="([^"]*)"', selector))
        if not any(labels.items() >= {k: v for k, v in asked.items()
                                      if k not in TARGET}.items()
                   for labels in exported[name]):
            yield "%s{%s}" % (name, selector)
        for label in re.findall(r"(\w+)(?:=~|!=|!~)", selector):
            if label not in known:
                yield "%s{%s}" % (name, label)
    for group in re.findall(r"\b(?:by|without|on|ignoring) ?\(([^)]*)\)",
                            expression):
        yield from set(re.findall(r"\w+", group)) - known


def queries(board):
    """Each panel with each of its queries."""
    return [(panel, target) for panel in board["panels"]
            for target in panel.get("targets", [])]


# The dashboard

def test_dashboard_asks_for_nothing_that_magent_does_not_say(board, exported):
    found = queries(board)
    assert len(found) > 40
    for panel, target in found:
        assert list(strangers(target["expr"], exported)) == [], panel["title"]
        known = TARGET | {label for name in re.findall(
            r"magent_\w+", target["expr"]) for labels in exported[name]
            for label in labels}
        shown = set(re.findall(r"\{\{(\w+)\}\}", target["legendFormat"]))
        assert shown <= known, panel["title"]


def test_dashboard_shows_each_metric(board, exported):
    """One that is new gets a place, too."""
    text = json.dumps([target["expr"] for _, target in queries(board)])
    missing = {name for name in exported
               if not re.search(r"\b%s\b" % re.sub(
                   "_(sum|count)$", "_bucket", name), text)}
    assert missing == set()


@needs_promtool
def test_expressions_of_the_dashboard_can_be_parsed(board, tmp_path):
    path = tmp_path / "rules.yaml"
    path.write_text(yaml.safe_dump({"groups": [{"name": "panels", "rules": [
        {"record": "panel%d:%s" % (panel["id"], target["refId"].lower()),
         "expr": plain(target["expr"])}
        for panel, target in queries(board)]}]}))
    status, said = promtool("check", "rules", path)
    assert status == 0, said


def test_panels_have_their_own_number_and_place(board):
    numbers = [panel["id"] for panel in board["panels"]]
    assert len(set(numbers)) == len(numbers)
    taken = set()
    for panel in board["panels"]:
        place = panel["gridPos"]
        assert place["x"] + place["w"] <= 24
        cells = {(x, y) for x in range(place["x"], place["x"] + place["w"])
                 for y in range(place["y"], place["y"] + place["h"])}
        assert cells and not cells & taken, panel["title"]
        taken |= cells
    rows = [panel["title"] for panel in board["panels"]
            if panel["type"] == "row"]
    assert rows == ["At a glance", "Clients and commands", "Latency",
                    "Servers", "Both copies", "Process"]


def test_dashboard_names_no_data_source_of_its_own(board):
    """It loads without a change: what Grafana would ask for at an import
    (__inputs) is a variable."""
    assert board["id"] is None and board["schemaVersion"] >= 36
    assert "__inputs" not in board
    variables = {one["name"]: one for one in board["templating"]["list"]}
    assert (variables["datasource"]["type"],
            variables["datasource"]["query"]) == ("datasource", "prometheus")
    assert variables["instance"]["query"]["query"] == (
        "label_values(magent_build_info,instance)")
    source = {"type": "prometheus", "uid": "${datasource}"}
    assert variables["instance"]["datasource"] == source
    assert all(panel["datasource"] == target["datasource"] == source
               for panel, target in queries(board))
    assert set(re.findall(r'"uid": ?"([^"]*)"', DASHBOARD.read_text())) == {
        "${datasource}", board["uid"]}


# Grafana has no schema of such a dashboard in JSON that can be had here.  The
# package @grafana/schema has what Grafana itself is compiled with: the types.
# So the dashboard is held against those, with the types of the options of each
# kind of panel.  A literal that is assigned may have no unknown field.
TYPES = """\
import type { Dashboard, Panel, RowPanel } from '@grafana/schema';
import type * as Stat from '%(raw)s/stat/panelcfg/x/types.gen';
import type * as Series from '%(raw)s/timeseries/panelcfg/x/types.gen';
import type * as States from '%(raw)s/statetimeline/panelcfg/x/types.gen';
import type * as Heat from '%(raw)s/heatmap/panelcfg/x/types.gen';
// As JSON has it: a string in the place of each name of an enum.
type Plain<T> = T extends string ? `${T}` :
    T extends number | boolean | null | undefined ? T :
    T extends Array<infer U> ? Array<Plain<U>> :
    unknown extends T ? T : { [K in keyof T]: Plain<T[K]> };
type Of<Options, Field> = Plain<Omit<Panel, 'options' | 'fieldConfig'>> & {
    options: Plain<Options>;
    fieldConfig: {
        defaults: Plain<Omit<Required<Panel>['fieldConfig']['defaults'],
            'custom'>> & { custom?: Plain<Field> };
        overrides: Plain<Required<Panel>['fieldConfig']['overrides']>;
    };
};
type Kinds = {
    row: Plain<RowPanel>;
    stat: Of<Stat.Options, {}>;
    timeseries: Of<Series.Options, Series.FieldConfig>;
    'state-timeline': Of<States.Options, States.FieldConfig>;
    heatmap: Of<Heat.Options, Heat.FieldConfig>;
};
"""


def faults_of(board, tmp_path):
    """What the types of Grafana have against it; scripts/test has put them
    there, or NODE_PATH says where they are."""
    path = os.environ.get("NODE_PATH") or str(ROOT / "build-npm/node_modules")
    if not os.path.exists(path + "/@grafana/schema") or not os.path.exists(
            path + "/typescript"):
        pytest.skip("@grafana/schema and typescript are not installed")
    lines = [TYPES % {"raw": path + "/@grafana/schema/dist/types/raw/"
                      "composable"}]
    for n, panel in enumerate(board["panels"]):
        lines.append("const panel%d: Kinds[%s] = %s;\n" % (
            n, json.dumps(panel["type"]), json.dumps(panel, indent=1)))
    lines.append("const rest: Plain<Omit<Dashboard, 'panels'>> = %s;\n" %
                 json.dumps({name: value for name, value in board.items()
                             if name != "panels"}))
    (tmp_path / "dashboard.ts").write_text("".join(lines))
    (tmp_path / "tsconfig.json").write_text(json.dumps({
        "compilerOptions": {
            "noEmit": True, "strict": True, "skipLibCheck": True,
            "target": "es2020", "module": "esnext", "types": [],
            "moduleResolution": "bundler",
            "paths": {"@grafana/schema": [
                path + "/@grafana/schema/dist/types/index.d.ts"]}},
        "files": ["dashboard.ts"]}))
    done = subprocess.run(
        ["node", path + "/typescript/bin/tsc", "-p", str(tmp_path)],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    assert (done.returncode == 0) == (done.stdout == "")
    return [line for line in done.stdout.splitlines()
            if not line.startswith(" ")]


def test_dashboard_has_no_fault_for_the_types_of_grafana(board, tmp_path):
    assert faults_of(board, tmp_path) == []


def test_types_find_a_wrong_value_and_an_unknown_field(board, tmp_path):
    wrong = copy.deepcopy(board)
    by_type = {panel["type"]: panel for panel in wrong["panels"]}
    by_type["stat"]["options"]["graphMode"] = "lines"
    by_type["timeseries"]["fieldConfig"]["defaults"]["custom"]["fill"] = 1
    by_type["heatmap"]["gridPos"]["w"] = "8"
    wrong["panel"] = []
    faults = faults_of(wrong, tmp_path)
    assert len(faults) == 4
    for word in '"lines"', '"fill"', "string", '"panel"':
        assert any(re.search(word, fault) for fault in faults), word


# The alerts

def test_alerts_ask_for_nothing_that_magent_does_not_say(rules, exported):
    assert len(rules) >= 10
    for rule in rules:
        assert list(strangers(rule["expr"], exported)) == [], rule["alert"]
        shown = set(re.findall(r"\$labels\.(\w+)",
                               json.dumps(rule["annotations"])))
        labels = {label for name in re.findall(r"magent_\w+", rule["expr"])
                  for one in exported[name] for label in one}
        assert shown <= TARGET | labels, rule["alert"]


def test_alerts_say_what_to_do(rules):
    text = (ROOT / "doc" / "operations.md").read_text()
    headings = re.findall(r"^#+ (.*)$", text, re.M)
    for rule in rules:
        assert rule["labels"]["severity"] in ("critical", "warning")
        notes = rule["annotations"]
        assert set(notes) == {"summary", "description", "runbook"}
        assert notes["runbook"] in headings, rule["alert"]
        assert len(notes["summary"]) < 100 < len(notes["description"])


def test_each_alert_is_seen_to_fire(rules):
    """And nothing else than the tests say: see below."""
    firing = set(re.findall(r'alertname="(\w+)"', ALERTS_TEST.read_text()))
    assert firing == {rule["alert"] for rule in rules}


@needs_promtool
def test_alerts_fire_when_they_should_and_otherwise_not():
    assert promtool("check", "rules", "--lint=all", "--lint-fatal",
                    ALERTS)[0] == 0
    status, said = promtool("test", "rules", ALERTS_TEST)
    assert status == 0, said


@needs_promtool
def test_texts_of_the_alerts_can_be_written(rules, tmp_path):
    """promtool shows the texts when it expects none."""
    tests = yaml.safe_load(ALERTS_TEST.read_text())
    tests["rule_files"] = [str(ALERTS)]
    for test in tests["tests"]:
        test["alert_rule_test"] = [
            {"eval_time": one["eval_time"], "exp_alerts": [],
             "alertname": re.search(r'"(\w+)"', sample["labels"]).group(1)}
            for one in test.pop("promql_expr_test")
            for sample in one["exp_samples"]]
    path = tmp_path / "tests.yaml"
    path.write_text(yaml.safe_dump(tests))
    status, said = promtool("test", "rules", path)
    assert status == 1
    for rule in rules:
        assert 'alertname="%s"' % rule["alert"] in said
    assert "error expanding" not in said and "<no value>" not in said
