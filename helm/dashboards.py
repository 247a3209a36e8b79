"""Writes the Grafana dashboards of the chart: `python helm/dashboards.py [--check]`.

files/dashboards/service.json          are we behind, and what do events wait for
files/dashboards/guard-quality.json    is the guard well, and are verdicts right
files/dashboards/cost.json             what does it cost

The words and queries stand here; their form is that of Grafana's own types (grafana-foundation-sdk). Data
source, namespace and job are variables of each dashboard. Over 300 lines: most of them are one query each.
"""  # noqa: INP001 (a script beside the chart, not a package)

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from grafana_foundation_sdk.builders import common, heatmap, prometheus, stat, table, timeseries
from grafana_foundation_sdk.builders import dashboard as build
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models import dashboard as model
from grafana_foundation_sdk.models.common import StackingMode
from grafana_foundation_sdk.models.prometheus import PromQueryFormat

FOLDER: Final = Path(__file__).resolve().parent / "rsafe-stream" / "files" / "dashboards"
SOURCE: Final = model.DataSourceRef(type_val="prometheus", uid="${datasource}")
SELECTED: Final = 'namespace=~"$namespace", job=~"$job"'
# Of 24 columns: three panels a row, or four figures.
WIDTH: Final = {"line": 8, "stack": 8, "heat": 8, "stat": 6, "table": 12}
HEIGHT: Final = {"line": 8, "stack": 8, "heat": 8, "stat": 4, "table": 8}


@dataclass(frozen=True)
class Panel:
    """A question in a few words, its unit in Grafana's words, and queries with their legends.

    In a query `%` stands for the selection of namespace and job, and `[rate]` for the interval of rates.
    """

    title: str
    unit: str
    queries: tuple[tuple[str, str], ...]
    meaning: str
    kind: Literal["line", "stack", "stat", "heat", "table"] = "line"


@dataclass(frozen=True)
class Board:
    """A dashboard: rows of panels under a heading each. `variables`: further ones, with what they begin as,
    and their labels."""

    name: str
    title: str
    question: str
    rows: tuple[tuple[str, tuple[Panel, ...]], ...]
    variables: tuple[tuple[str, str, str], ...] = ()


def one(title: str, unit: str, query: str, meaning: str, kind: Literal["stat", "line"] = "stat") -> Panel:
    """A panel with one query and without a legend."""
    return Panel(title, unit, ((query, ""),), meaning, kind)


LATE: Final = (
    'sum(rate(rsafe_verdict_age_seconds_bucket{%, le=~"5|5.0"}[RANGE]))'
    " / sum(rate(rsafe_verdict_age_seconds_count{%}[RANGE]))"
)
AGES: Final = "histogram_quantile({q}, sum by (le) (rate(rsafe_verdict_age_seconds_bucket{{%}}[rate])))"

SERVICE: Final = Board(
    "service",
    "rsafe-stream: service",
    "Are we behind, and what do events wait for?",
    (
        (
            "Are we behind?",
            (
                one(
                    "Published within 5 s, last 30 days",
                    "percentunit",
                    LATE.replace("RANGE", "30d"),
                    "The objective is 99 %.",
                ),
                one(
                    "Published within 5 s, last hour",
                    "percentunit",
                    LATE.replace("RANGE", "1h"),
                    "The objective is 99 %.",
                ),
                one("Records behind", "short", "sum(rsafe_lag_records{%})", "Not committed, read or not."),
                one(
                    "Oldest without an outcome",
                    "s",
                    "max(rsafe_lag_seconds{%})",
                    "Its age, of all partitions.",
                ),
                Panel(
                    "Age of verdicts",
                    "s",
                    tuple(
                        (AGES.format(q=q), name)
                        for q, name in ((0.5, "half"), (0.95, "95 %"), (0.99, "99 %"))
                    ),
                    "From the broker's timestamp of an event to the broker's word that it has the outcome.",
                ),
                Panel(
                    "Outcomes",
                    "cps",
                    (
                        (
                            "sum by (status, cache) (rate(rsafe_decisions_total{%}[rate]))",
                            "{{status}}, {{cache}}",
                        ),
                        ("sum(rate(rsafe_dead_letters_total{%}[rate]))", "dead letters"),
                    ),
                    "Decisions by status and whether the verdict was remembered, and dead letters.",
                    "stack",
                ),
                Panel(
                    "Lag by partition",
                    "short",
                    (("topk(10, sum by (partition) (rsafe_lag_records{%}))", "partition {{partition}}"),),
                    "One partition alone is a busy conversation or a stuck record.",
                ),
            ),
        ),
        (
            "What do events wait for?",
            (
                Panel(
                    "Oldest uncommitted record",
                    "s",
                    (("max by (waiting_for) (rsafe_oldest_uncommitted_seconds{%})", "{{waiting_for}}"),),
                    "Since it was read, and what it waits for.",
                ),
                Panel(
                    "In flight",
                    "short",
                    (
                        ("sum(rsafe_in_flight_records{%})", "records in flight"),
                        ("sum(rsafe_window_records{%})", "records not committed"),
                        ("sum(rsafe_guard_waiting_questions{%})", "questions before the guard"),
                        ("sum(rsafe_guard_calls{%})", "calls at the guard"),
                    ),
                    "A window at its limit is a guard that is too slow for the traffic.",
                ),
                Panel(
                    "Since the last commit",
                    "s",
                    (
                        (
                            "time() - max by (instance) (rsafe_last_commit_timestamp_seconds{%} > 0)",
                            "{{instance}}",
                        ),
                    ),
                    "Grows while nothing comes in, too.",
                ),
                Panel(
                    "Commits",
                    "cps",
                    (("sum by (outcome) (rate(rsafe_commits_total{%}[rate]))", "{{outcome}}"),),
                    "Offsets of partitions, by what the broker said.",
                ),
                Panel(
                    "Given up",
                    "cps",
                    (("sum by (why) (rate(rsafe_discarded_records_total{%}[rate]))", "{{why}}"),),
                    "Records that were read and are read again by another worker.",
                ),
                Panel(
                    "Dead letters",
                    "cps",
                    (("sum by (reason) (rate(rsafe_dead_letters_total{%}[rate]))", "{{reason}}"),),
                    "Records that could not become decisions, by reason.",
                    "stack",
                ),
            ),
        ),
        (
            "Workers",
            (
                Panel(
                    "Guard answers",
                    "short",
                    (("rsafe_guard_up{%}", "{{instance}}"),),
                    "1 while the guard of a worker answers.",
                ),
                Panel(
                    "Partitions",
                    "short",
                    (("rsafe_assigned_partitions{%}", "{{instance}}"),),
                    "Partitions that each worker reads.",
                ),
                Panel(
                    "Memory",
                    "bytes",
                    (
                        (
                            "process_resident_memory_bytes{%} and on (namespace, job, instance) rsafe_guard_up",
                            "{{instance}}",
                        ),
                    ),
                    "Of the worker's process, without the one that holds the model.",
                ),
                Panel(
                    "Policies in force",
                    "short",
                    (("count by (fingerprint) (rsafe_policy_set_info{%})", "{{fingerprint}}"),),
                    "Workers by the set of policies; more than one line is a roll-out, or a mistake.",
                    "table",
                ),
                Panel(
                    "Checkpoints in force",
                    "short",
                    (
                        (
                            "count by (model, checkpoint_digest, engine, engine_version, verified) (rsafe_checkpoint_info{%})",
                            "",
                        ),
                    ),
                    "Workers by guard.",
                    "table",
                ),
            ),
        ),
    ),
)

QUALITY: Final = Board(
    "guard-quality",
    "rsafe-stream: guard and verdicts",
    "Is the guard well, and are verdicts right?",
    (
        (
            "Is the guard well?",
            (
                one("Guards that answer", "short", "sum(rsafe_guard_up{%})", "Workers whose guard is up."),
                one(
                    "Unjudged",
                    "percentunit",
                    'sum(rate(rsafe_unjudged_total{%}[rate])) / sum(rate(rsafe_decisions_total{%, status=~"judged|unjudged"}[rate]))',
                    "Of what should be judged.",
                ),
                one(
                    "Unparseable",
                    "percentunit",
                    'sum(rate(rsafe_unjudged_total{%, reason="unparseable"}[rate])) '
                    '/ sum(rate(rsafe_decisions_total{%, status=~"judged|unjudged"}[rate]))',
                    "Of what should be judged.",
                ),
                one(
                    "Starts of the guard, last day",
                    "short",
                    "sum(increase(rsafe_guard_restarts_total{%}[1d]))",
                    "The first start of each worker included.",
                ),
                Panel(
                    "Time at the guard, 95 %",
                    "s",
                    (
                        (
                            "histogram_quantile(0.95, sum by (le, mode) (rate(rsafe_guard_seconds_bucket{%}[rate])))",
                            "{{mode}}",
                        ),
                    ),
                    "From a question to its answer, by the mode in which it was asked.",
                ),
                Panel(
                    "Time at the guard, half",
                    "s",
                    (
                        (
                            "histogram_quantile(0.5, sum by (le, mode) (rate(rsafe_guard_seconds_bucket{%}[rate])))",
                            "{{mode}}",
                        ),
                    ),
                    "From a question to its answer, by the mode in which it was asked.",
                ),
                Panel(
                    "Questions",
                    "short",
                    (
                        ("sum(rsafe_guard_calls{%})", "calls at the engine"),
                        ("sum(rsafe_guard_waiting_questions{%})", "waiting"),
                    ),
                    "At the engine, and before it.",
                ),
                Panel(
                    "Servers of the fleet",
                    "short",
                    (("sum by (state) (rsafe_guard_servers{%})", "{{state}}"),),
                    "As each worker sees them; none where the guard runs in the worker.",
                ),
                Panel(
                    "Redis",
                    "short",
                    (
                        (
                            "sum by (operation) (rate(rsafe_cache_failures_total{%}[rate]))",
                            "failures a second, {{operation}}",
                        ),
                        ("sum by (use) (rsafe_cache_servers_left_alone{%})", "left alone for {{use}}"),
                    ),
                    "Failures, and servers that are tried only now and then.",
                ),
                Panel(
                    "Deaths of the guard",
                    "cps",
                    (
                        ("sum(rate(rsafe_suspects_total{%}[rate]))", "questions judged again alone"),
                        (
                            "sum by (outcome) (rate(rsafe_guard_restarts_total{%}[rate]))",
                            "starts: {{outcome}}",
                        ),
                    ),
                    "What was at the guard when it died, and its starts.",
                ),
            ),
        ),
        (
            "Are verdicts right?",
            (
                Panel(
                    "p(unsafe)",
                    "percentunit",
                    (("sum by (le) (increase(rsafe_guard_score_bucket{%}[rate]))", "{{le}}"),),
                    "Scores of new verdicts, raw. A heap in the middle is a guard that does not know.",
                    "heat",
                ),
                Panel(
                    "Mean p(unsafe)",
                    "percentunit",
                    (
                        (
                            "sum by (answered_in) (rate(rsafe_guard_score_sum{%}[6h])) "
                            "/ sum by (answered_in) (rate(rsafe_guard_score_count{%}[6h]))",
                            "{{answered_in}}",
                        ),
                    ),
                    "Over six hours.",
                ),
                Panel(
                    "Actions",
                    "percentunit",
                    (
                        (
                            'sum by (action) (rate(rsafe_decisions_total{%, status="judged"}[rate])) '
                            '/ ignoring (action) group_left sum(rate(rsafe_decisions_total{%, status="judged"}[rate]))',
                            "{{action}}",
                        ),
                    ),
                    "Of judged messages.",
                    "stack",
                ),
                Panel(
                    "Violated categories",
                    "cps",
                    (
                        (
                            "topk(10, sum by (category, action) (rate(rsafe_violations_total{%}[rate])))",
                            "{{category}}: {{action}}",
                        ),
                    ),
                    "Unnamed: the score alone decided.",
                    "stack",
                ),
                Panel(
                    "Unjudged by reason",
                    "cps",
                    (("sum by (reason) (rate(rsafe_unjudged_total{%}[rate]))", "{{reason}}"),),
                    "Never taken for safe; the policy says what follows.",
                    "stack",
                ),
                Panel(
                    "Signs of injection",
                    "cps",
                    (("sum by (sign) (rate(rsafe_injection_signs_total{%}[rate]))", "{{sign}}"),),
                    "Messages with words of a guard's or a model's own format. They do nothing by themselves.",
                ),
                Panel(
                    "Ways of `adaptive`",
                    "cps",
                    (
                        (
                            'sum by (answered_in) (rate(rsafe_guard_verdicts_total{%, mode="adaptive"}[rate]))',
                            "{{answered_in}}",
                        ),
                    ),
                    "Where it thought, the fast score was uncertain.",
                    "stack",
                ),
            ),
        ),
    ),
)

COST: Final = Board(
    "cost",
    "rsafe-stream: cost",
    "What does it cost?",
    (
        (
            "What does it cost?",
            (
                one(
                    "Price of 1,000 decisions",
                    "short",
                    "1000 * $price_per_hour / 3600 * count(rsafe_guard_up{%}) / sum(rate(rsafe_decisions_total{%}[1h]))",
                    "Workers times the price of one in an hour, over the decisions of the last hour; in the currency of the price.",
                ),
                one(
                    "Verdicts remembered",
                    "percentunit",
                    'sum(rate(rsafe_decisions_total{%, cache="hit"}[1h])) / sum(rate(rsafe_decisions_total{%}[1h]))',
                    "Decisions for which the guard was not asked, last hour.",
                ),
                one(
                    "Prompt tokens held",
                    "percentunit",
                    "sum(rate(rsafe_guard_cached_prompt_tokens_total{%}[1h])) / sum(rate(rsafe_guard_prompt_tokens_total{%}[1h]))",
                    "Hit rate of the prefix cache, last hour: about the policy's share of a prompt.",
                ),
                one(
                    "Tokens a judgement",
                    "short",
                    "(sum(rate(rsafe_guard_prompt_tokens_total{%}[1h])) + sum(rate(rsafe_guard_completion_tokens_total{%}[1h]))) "
                    "/ sum(rate(rsafe_guard_answers_total{%}[1h]))",
                    "Read and written, for one answer of the guard.",
                ),
                Panel(
                    "Tokens",
                    "cps",
                    (
                        (
                            "sum(rate(rsafe_guard_prompt_tokens_total{%}[rate])) - sum(rate(rsafe_guard_cached_prompt_tokens_total{%}[rate]))",
                            "read and computed",
                        ),
                        ("sum(rate(rsafe_guard_cached_prompt_tokens_total{%}[rate]))", "read and held"),
                        ("sum(rate(rsafe_guard_completion_tokens_total{%}[rate]))", "written"),
                    ),
                    "What the GPU is paid for. Held ones cost next to nothing.",
                    "stack",
                ),
                Panel(
                    "Hit rate of the verdict cache, by tier",
                    "percentunit",
                    (
                        (
                            'sum by (tier) (rate(rsafe_cache_lookups_total{%, result="hit"}[rate])) '
                            "/ sum by (tier) (rate(rsafe_cache_lookups_total{%}[rate]))",
                            "{{tier}}",
                        ),
                    ),
                    "Of what each tier was asked: Redis only for what the process does not know.",
                ),
                Panel(
                    "Hit rate of the prefix cache",
                    "percentunit",
                    (
                        (
                            "sum by (instance) (rate(rsafe_guard_cached_prompt_tokens_total{%}[rate])) "
                            "/ sum by (instance) (rate(rsafe_guard_prompt_tokens_total{%}[rate]))",
                            "{{instance}}",
                        ),
                    ),
                    "It falls when there are more policies than the engine's cache holds.",
                ),
                Panel(
                    "Decisions a worker",
                    "cps",
                    (("sum(rate(rsafe_decisions_total{%}[rate])) / count(rsafe_guard_up{%})", "decisions"),),
                    "What one worker gives.",
                ),
                Panel(
                    "Processor time a worker",
                    "percentunit",
                    (
                        (
                            "rate(process_cpu_seconds_total{%}[rate]) and on (namespace, job, instance) rsafe_guard_up",
                            "{{instance}}",
                        ),
                    ),
                    "Of one core; without the process that holds the model.",
                ),
                Panel(
                    "Remembered in the process",
                    "bytes",
                    (("rsafe_local_cache_bytes{%}", "{{instance}}"),),
                    "Against `RSAFE_CACHE__LOCAL_BYTES`.",
                ),
                Panel(
                    "Leases",
                    "cps",
                    (("sum by (outcome) (rate(rsafe_cache_leases_total{%}[rate]))", "{{outcome}}"),),
                    "Questions that one worker asks for all; answered ones were spared.",
                ),
            ),
        ),
    ),
    (("price_per_hour", "2.50", "Price of a worker with its guard, for an hour"),),
)
BOARDS: Final = (SERVICE, QUALITY, COST)


def expression(query: str) -> str:
    """PromQL of a panel's query, for Grafana."""
    return query.replace("{%", "{" + SELECTED).replace("[rate]", "[$__rate_interval]")


def dashboard(board: Board) -> model.Dashboard:
    """The dashboard in Grafana's types."""
    made = (
        build.Dashboard(board.title)
        .uid(f"rsafe-{board.name}")
        .description(board.question)
        .tags(["rsafe-stream"])
        .timezone("browser")
        .time("now-3h", "now")
        .refresh("30s")
        .readonly()
        .tooltip(model.DashboardCursorSync.CROSSHAIR)
        .link(
            build.DashboardLink("rsafe-stream")
            .type(model.DashboardLinkType.DASHBOARDS)
            .tags(["rsafe-stream"])
            .include_vars(True)
            .keep_time(True)
        )
        .with_variable(build.DatasourceVariable("datasource").label("Data source").type("prometheus"))
    )
    for name, metric in (("namespace", "rsafe_guard_up"), ("job", 'rsafe_guard_up{namespace=~"$namespace"}')):
        made.with_variable(
            build.QueryVariable(name)
            .label(name.capitalize())
            .datasource(SOURCE)
            .query(f"label_values({metric}, {name})")
            .refresh(model.VariableRefresh.ON_TIME_RANGE_CHANGED)
            .sort(model.VariableSort.ALPHABETICAL_ASC)
            .multi(True)
            .include_all(True)
            .all_value(".*")  # also where nothing writes such a label
            .current(model.VariableOption(selected=True, text="All", value="$__all"))
        )
    for name, value, label in board.variables:
        made.with_variable(build.TextBoxVariable(name).label(label).default_value(value))
    number = 0
    for heading, panels in board.rows:
        number += 1
        made.with_row(build.Row(heading).id(number))
        for one_panel in panels:
            number += 1
            made.with_panel(_panel(one_panel).id(number))
    return made.build()


AnyPanel = timeseries.Panel | stat.Panel | heatmap.Panel | table.Panel


def _panel(panel: Panel) -> AnyPanel:
    made = _of_kind(panel)
    made.title(panel.title).description(panel.meaning).datasource(SOURCE).unit(panel.unit)
    made.span(WIDTH[panel.kind]).height(HEIGHT[panel.kind])
    for place, (query, legend) in enumerate(panel.queries):
        asked = (
            prometheus.Dataquery().expr(expression(query)).ref_id(chr(ord("A") + place)).datasource(SOURCE)
        )
        if legend:
            asked.legend_format(legend)
        if panel.kind in ("stat", "table"):
            asked.instant()
        if panel.kind == "table":
            asked.format(PromQueryFormat.TABLE)
        if panel.kind == "heat":
            asked.format(PromQueryFormat.HEATMAP)
        made.with_target(asked)
    return made


def _of_kind(panel: Panel) -> AnyPanel:
    match panel.kind:
        case "stat":
            return stat.Panel()
        case "heat":
            return heatmap.Panel()
        case "table":
            return table.Panel()
        case "stack":
            stacking = common.StackingConfig().mode(StackingMode.NORMAL)
            return timeseries.Panel().min(0).fill_opacity(25).stacking(stacking)
        case "line":
            return timeseries.Panel().min(0).fill_opacity(5)


def files() -> dict[Path, str]:
    """Text of each file, by its path."""
    return {
        FOLDER / f"{board.name}.json": json.dumps(dashboard(board), cls=JSONEncoder, indent=2, sort_keys=True)
        + "\n"
        for board in BOARDS
    }


def main(arguments: list[str]) -> int:
    """Write the files; with `--check` write nothing and return 1 when one is stale."""
    made = files()
    changed = [
        path for path, text in made.items() if not path.is_file() or path.read_text(encoding="utf-8") != text
    ]
    for path in changed:
        if "--check" in arguments:
            sys.stderr.write(f"{path.name} is stale: run `python helm/dashboards.py`\n")
        else:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(made[path], encoding="utf-8")
    return 1 if changed and "--check" in arguments else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
