"""Markdown tables of the figures, with the targets beside them. Pure."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from benchmarks.scoring import Figures
from benchmarks.servers import Usage

CAPACITY_COMMIT_P95_S = 4.0


@dataclass(frozen=True)
class Measured:
    """One run: some streams of one clip at once."""

    figures: Figures
    cpu: Usage
    """Used during the run."""

    @property
    def audio_s(self) -> float:
        return self.figures.audio_s * self.figures.streams


@dataclass
class Results:
    """All figures of one server."""

    name: str
    start_s: float | None = None
    stop_s: float | None = None
    idle: Usage | None = None
    after: Usage | None = None
    runs: list[Measured] = field(default_factory=list)
    capacity: int | None = None
    capacity_more: bool = False
    """Even the most streams tried met the bound."""

    def run(self, clip: str, streams: int) -> Figures | None:
        for one in self.runs:
            if (one.figures.clip, one.figures.streams) == (clip, streams):
                return one.figures
        return None


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [list(header), ["---"] * len(header), *map(list, rows)]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in lines) + "\n"


def seconds(*values: float | None) -> str:
    return " / ".join("–" if v is None else f"{v:.1f}" if v >= 9.95 else f"{v:.2f}" for v in values)


def latency(results: Results, offline: dict[str, float]) -> str:
    header = [
        "clip", "streams", "display p50 / p95 / p99, s", "commit p50 / p95 / p99, s",
        "WER mean (worst)", "offline", "erasure", "lost at the end", "tail, s",
        "CPU s per audio s: worker + app",
    ]  # fmt: skip
    rows = []
    for one in results.runs:
        f = one.figures
        rows.append(
            [
                f.clip,
                str(f.streams) if f.answered == f.streams else f"{f.streams} ({f.answered} heard)",
                seconds(f.display_p50, f.display_p95, f.display_p99),
                seconds(f.commit_p50, f.commit_p95, f.commit_p99),
                f"{f.wer_mean:.3f} ({f.wer_max:.3f})",
                f"{offline[f.clip]:.3f}" if f.clip in offline else "–",
                f"{f.erasure:.2f}",
                str(f.lost),
                seconds(f.tail_max),
                " + ".join(
                    f"{used / one.audio_s:.3f}"
                    for used in (one.cpu.worker_cpu_s, one.cpu.app_cpu_s)
                    if used
                )
                or "–",
            ]
        )
    return table(header, rows)


Values = Callable[[Results], list[float | None]]


def targets(ours: Results, peer: Results | None, offline: dict[str, float], clip: str) -> str:
    """The table of the aims: target, ours, whether it is met, the peer's in the same run."""

    def above(results: Results, streams: int) -> float | None:
        f = results.run(clip, streams)
        return None if f is None or clip not in offline else f.wer_mean - offline[clip]

    def lost(results: Results) -> float | None:
        runs = [one.figures for one in results.runs if one.figures.clip == clip]
        return float(sum(f.lost for f in runs)) if runs else None

    def of(streams: int, *names: str) -> Values:
        return lambda r: [getattr(r.run(clip, streams), name, None) for name in names]

    aims: list[tuple[str, list[float], Values, bool]] = [
        ("1 stream: display p50 / p95, s", [0.8, 1.5], of(1, "display_p50", "display_p95"), True),
        ("1 stream: commit p50 / p95, s", [1.0, 1.8], of(1, "commit_p50", "commit_p95"), True),
        ("8 streams: commit p50 / p95, s", [2.0, 4.0], of(8, "commit_p50", "commit_p95"), True),
        (
            "WER above offline, 1 / 8 streams",
            [0.01, 0.02],
            lambda r: [above(r, 1), above(r, 8)],
            True,
        ),
        ("shown words later changed, per final word", [0.2], of(1, "erasure"), True),
        ("words lost at the end of a stream", [0.0], lambda r: [lost(r)], True),
        (
            "end of speech to `speech_final`: p50 / p95, s",
            [0.7, 0.7],
            of(1, "endpoint_p50", "endpoint_p95"),
            False,
        ),
        ("start to /readyz, s", [10.0], lambda r: [r.start_s], False),
        ("Ctrl-C to the end, s", [5.0], lambda r: [r.stop_s], False),
    ]
    rows = [_capacity_row(ours, peer)]
    for what, bounds, values, compared in aims:
        shown = seconds(*values(peer)) if peer is not None and compared else "–"
        bound = " / ".join(f"{b:g}" for b in bounds)
        rows.append([what, bound, seconds(*values(ours)), _met(values(ours), bounds), shown])
    return table(["", "target", ours.name, "met", peer.name if peer else "peer"], rows)


def _met(values: list[float | None], bounds: list[float]) -> str:
    if any(value is None for value in values):
        return "–"
    pairs = zip(values, bounds, strict=True)
    return "yes" if all(v is not None and v <= bound for v, bound in pairs) else "no"


def _capacity_row(ours: Results, peer: Results | None) -> list[str]:
    def shown(results: Results | None) -> str:
        if results is None or results.capacity is None:
            return "–"
        return f"{results.capacity}{' or more' if results.capacity_more else ''}"

    met = "–" if ours.capacity is None else "yes" if ours.capacity >= 10 else "no"
    return ["streams with commit p95 under 4 s", "10", shown(ours), met, shown(peer)]


def memory(results: Results) -> str:
    rows = []
    for when, usage in (("idle, after the start", results.idle), ("after all runs", results.after)):
        if usage is not None:
            rows.append([when, f"{usage.app_mib:.0f}", f"{usage.worker_mib:.0f}"])
    return table(["resident memory, MiB", "app", "workers"], rows)
