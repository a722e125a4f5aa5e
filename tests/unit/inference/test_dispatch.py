"""Who is decoded next, under load too; and the loop that runs the model survives its failures."""

import asyncio
import itertools
import statistics
import threading
import time
from collections.abc import Awaitable, Callable

import pytest

from mediaserver.captions.events import Revision, SpeechEvent
from mediaserver.inference.worker.dispatch import MAX_FAILURES, Dispatcher, choose
from mediaserver.inference.worker.parameters import StreamOptions
from mediaserver.inference.worker.recogniser import Heard, Job
from mediaserver.inference.worker.stream import SpeechStream
from tests.unit.inference.scripted import (
    Script,
    ScriptedRecogniser,
    ScriptedVad,
    ScriptedWord,
    random_script,
)
from tests.unit.inference.simulation import Cost, SimulatedTrack, Simulation

ENGLISH = StreamOptions("en")


def fluent(seconds: float, offset_s: float = 0.0) -> Script:
    """Speech without pauses from half a second on."""
    count = int((seconds - 0.5) / 0.4)
    words = tuple(
        ScriptedWord(f"w{i}", 0.5 + offset_s + 0.4 * i, 0.88 + offset_s + 0.4 * i)
        for i in range(count)
    )
    return Script(words, seconds + offset_s)


def new_stream(recogniser: ScriptedRecogniser, stream_id: str, script: Script) -> SpeechStream:
    recogniser.add(stream_id, script)
    return SpeechStream(stream_id, ENGLISH, ScriptedVad(), recogniser.encode_text)


# ---- choose


def test_nothing_is_chosen_where_nothing_is_due() -> None:
    recogniser = ScriptedRecogniser()
    quiet = new_stream(recogniser, "quiet", Script((), 9.0))
    quiet.push(recogniser.scripts["quiet"].audio())
    assert choose([quiet, new_stream(recogniser, "new", Script((), 1.0))], 4) == []


def test_what_completes_an_utterance_goes_before_partials_and_the_longest_wait_first() -> None:
    recogniser = ScriptedRecogniser()
    streams = {}
    for name, seconds in (("partial-1", 2.0), ("partial-2", 3.0), ("final", 2.5)):
        streams[name] = new_stream(recogniser, name, fluent(9.0))
        streams[name].push(recogniser.scripts[name].audio()[: round(seconds * 16_000)])
    streams["final"].end()
    chosen = [stream.id for stream in choose(streams.values(), 9)]
    assert chosen == ["final", "partial-2", "partial-1"]
    assert [s.id for s in choose(streams.values(), 1)] == ["final"]


def test_a_partial_that_waited_for_long_goes_before_a_fresh_final() -> None:
    recogniser = ScriptedRecogniser()
    old = new_stream(recogniser, "old", fluent(20.0))
    old.push(recogniser.scripts["old"].audio()[: 12 * 16_000])
    fresh = new_stream(recogniser, "fresh", fluent(20.0))
    fresh.push(recogniser.scripts["fresh"].audio()[: 1 * 16_000])
    fresh.end()
    assert [s.id for s in choose([fresh, old], 2)] == ["old", "fresh"]


def test_a_stream_in_decode_is_not_chosen_again() -> None:
    recogniser = ScriptedRecogniser()
    stream = new_stream(recogniser, "s", fluent(5.0))
    stream.push(recogniser.scripts["s"].audio())
    assert choose([stream], 1) == [stream]
    assert stream.next_job() is not None
    assert choose([stream], 1) == []


# ---- under load, on the virtual clock


def simulate(
    count: int, cost: Cost, seconds: float = 30.0, pauses: bool = True
) -> tuple[Simulation, list[SimulatedTrack]]:
    simulation = Simulation(cost=cost)
    tracks = [
        simulation.add(
            random_script(i, seconds) if pauses else fluent(seconds), starts_at_s=0.13 * i
        )
        for i in range(count)
    ]
    simulation.run()
    for track in tracks:
        track.check_laws()
        assert track.final_texts == track.script.texts
    return simulation, tracks


def test_within_capacity_words_are_final_soon_on_every_stream() -> None:
    _, tracks = simulate(6, Cost(0.02, 0.04, 0.005))
    for track in tracks:
        delays = sorted(track.commit_delays())
        assert statistics.median(delays) < 1.6
        assert delays[int(len(delays) * 0.95)] < 3.0


OVERLOAD = Cost(0.1, 0.2, 0.02)


def test_under_overload_every_word_still_arrives_and_no_stream_starves() -> None:
    """16 streams of fluent speech, for a machine that is good for about six."""
    simulation, tracks = simulate(16, OVERLOAD, pauses=False)
    worst = [max(track.commit_delays()) for track in tracks]
    assert max(worst) < 1.7 * statistics.median(worst)
    decoded: dict[str, list[float]] = {track.id: [] for track in tracks}
    for at_s, job in simulation.decodes:
        decoded[job.stream_id].append(at_s)
    gaps = [max(b - a for a, b in itertools.pairwise(times)) for times in decoded.values()]
    assert max(gaps) < 2.5 * statistics.median(gaps)


def test_under_overload_steps_stretch_and_delays_do_not_grow_without_end() -> None:
    alone, (track,) = simulate(1, OVERLOAD, pauses=False)
    crowd, tracks = simulate(12, OVERLOAD, seconds=60.0, pauses=False)
    partials_alone = sum(not job.final for _, job in alone.decodes) / track.script.seconds
    partials = sum(not job.final for _, job in crowd.decodes) / 60.0 / len(tracks)
    assert partials < partials_alone / 2
    for stream in tracks:
        delays = stream.commit_delays()
        third = len(delays) // 3
        assert statistics.mean(delays[2 * third :]) < 2 * statistics.mean(delays[third : 2 * third])


# ---- the loop, with threads

Wait = Callable[[Callable[[], bool]], Awaitable[None]]


@pytest.fixture
def until() -> Wait:
    async def wait(condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(20.0):
            while not condition():
                await asyncio.sleep(0.005)

    return wait


class FailingRecogniser(ScriptedRecogniser):
    """Fails for some streams, and a number of times for all."""

    def __init__(self, slots: int = 2) -> None:
        super().__init__(slots=slots)
        self.poisoned: set[str] = set()
        self.failures_left = 0
        self.gate = threading.Event()
        self.gate.set()
        self.calls = 0

    def recognise(self, jobs: list[Job]) -> list[Heard]:
        self.calls += 1
        self.gate.wait(30.0)
        if self.failures_left:
            self.failures_left -= 1
            raise RuntimeError("out of memory")
        if self.poisoned & {job.stream_id for job in jobs}:
            raise ValueError("poisoned")
        return super().recognise(jobs)


class Sink:
    def __init__(self) -> None:
        self.events: list[SpeechEvent] = []

    def __call__(self, events: list[SpeechEvent]) -> None:
        self.events += events

    @property
    def texts(self) -> list[str]:
        return [w.text for e in self.events if isinstance(e, Revision) for w in e.new_words]


def feed(dispatcher: Dispatcher, stream: SpeechStream, sink: Sink, script: Script) -> None:
    dispatcher.add(stream, sink)
    sink(stream.push(script.audio()))
    sink(stream.end())
    dispatcher.notice(stream)


def refuse(error: BaseException) -> None:
    raise AssertionError("the recogniser was given up") from error


async def test_streams_are_decoded_to_their_end(until: Wait) -> None:
    recogniser = ScriptedRecogniser()
    dispatcher = Dispatcher(recogniser, refuse)
    dispatcher.start()
    sinks = []
    for i in range(5):
        script = random_script(i, 10.0)
        stream, sink = new_stream(recogniser, f"s{i}", script), Sink()
        sinks.append((stream, sink, script))
        feed(dispatcher, stream, sink, script)
    await until(lambda: all(stream.done for stream, _, _ in sinks))
    for _, sink, script in sinks:
        assert sink.texts == script.texts
    assert dispatcher.computed_s > 0
    await dispatcher.aclose()


@pytest.mark.parametrize("slots", [1, 2])
async def test_a_decode_that_failed_is_tried_again(until: Wait, slots: int) -> None:
    """Also when the stream has ended, so that no audio comes that would wake the loop."""
    recogniser = FailingRecogniser(slots)
    recogniser.failures_left = 2
    dispatcher = Dispatcher(recogniser, refuse)
    dispatcher.start()
    script = random_script(1, 8.0)
    stream, sink = new_stream(recogniser, "s", script), Sink()
    feed(dispatcher, stream, sink, script)
    await until(lambda: stream.done)
    assert sink.texts == script.texts
    await dispatcher.aclose()


async def test_one_bad_stream_does_not_harm_those_in_its_batch(until: Wait) -> None:
    recogniser = FailingRecogniser(slots=1)
    recogniser.gate.clear()
    recogniser.poisoned = {"bad"}
    broken: list[BaseException] = []
    dispatcher = Dispatcher(recogniser, broken.append)
    dispatcher.start()
    good = []
    for name in ("first", "good-1", "bad", "good-2"):
        script = fluent(2.0)
        stream, sink = new_stream(recogniser, name, script), Sink()
        feed(dispatcher, stream, sink, script)
        if name != "bad":
            good.append((stream, sink, script))
        await until(lambda: recogniser.calls == 1)  # the first is in decode when the others come
    recogniser.gate.set()
    await until(lambda: all(stream.done for stream, _, _ in good))
    for _, sink, script in good:
        assert sink.texts == script.texts
    await dispatcher.aclose()


async def test_a_recogniser_that_keeps_failing_is_given_up(until: Wait) -> None:
    recogniser = FailingRecogniser(slots=1)
    recogniser.failures_left = 10**6
    broken: list[BaseException] = []
    dispatcher = Dispatcher(recogniser, broken.append)
    dispatcher.start()
    script = fluent(2.0)
    feed(dispatcher, new_stream(recogniser, "s", script), Sink(), script)
    await until(lambda: bool(broken))
    assert recogniser.calls >= MAX_FAILURES
    await dispatcher.aclose()


async def test_a_failure_outside_the_model_is_not_silent_either(until: Wait) -> None:
    recogniser = ScriptedRecogniser()
    broken: list[BaseException] = []
    dispatcher = Dispatcher(recogniser, broken.append)
    dispatcher.start()

    def sink(events: list[SpeechEvent]) -> None:
        raise ZeroDivisionError

    script = fluent(2.0)
    stream = new_stream(recogniser, "s", script)
    dispatcher.add(stream, sink)
    stream.push(script.audio())
    dispatcher.notice(stream)
    await until(lambda: bool(broken))
    assert isinstance(broken[0], ZeroDivisionError)
    await dispatcher.aclose()


async def test_a_stream_that_left_during_its_decode_is_forgotten(until: Wait) -> None:
    recogniser = FailingRecogniser(slots=1)
    recogniser.gate.clear()
    dispatcher = Dispatcher(recogniser, refuse)
    dispatcher.start()
    script = fluent(2.0)
    stream, sink = new_stream(recogniser, "s", script), Sink()
    feed(dispatcher, stream, sink, script)
    before = len(sink.events)
    await until(lambda: recogniser.calls == 1)
    dispatcher.remove(stream)
    assert len(dispatcher) == 0
    recogniser.gate.set()
    await until(lambda: not stream.in_flight)
    assert len(sink.events) == before
    other, other_sink = new_stream(recogniser, "t", script), Sink()
    feed(dispatcher, other, other_sink, script)
    await until(lambda: other.done)
    await dispatcher.aclose()


async def test_work_that_waits_for_the_model_is_measured(until: Wait) -> None:
    recogniser = FailingRecogniser(slots=1)
    recogniser.gate.clear()
    dispatcher = Dispatcher(recogniser, refuse)
    dispatcher.start()
    streams, started = [], time.monotonic()
    for i in range(3):
        script = fluent(2.0)
        streams.append(new_stream(recogniser, f"s{i}", script))
        feed(dispatcher, streams[-1], Sink(), script)
        await asyncio.sleep(0.02)
    await asyncio.sleep(0.3)
    recogniser.gate.set()
    await until(lambda: all(stream.done for stream in streams))
    assert 0.02 < dispatcher.queue_delay_s < time.monotonic() - started
    await dispatcher.aclose()


async def wait_for_stream(until: Wait, stream: SpeechStream) -> None:
    await until(lambda: stream.done)


async def test_decodes_are_thorough_while_nothing_waits(until: Wait) -> None:
    recogniser = FailingRecogniser(slots=1)
    dispatcher = Dispatcher(recogniser, refuse)
    dispatcher.start()
    thorough = []
    for delay_s in (0.0, 5.0):
        script = fluent(2.0)
        stream = new_stream(recogniser, f"s{delay_s}", script)
        dispatcher.queue_delay_s = delay_s
        feed(dispatcher, stream, Sink(), script)
        await wait_for_stream(until, stream)
        thorough.append({job.thorough for job in recogniser.jobs if job.stream_id == stream.id})
    assert thorough == [{True}, {False}]
    await dispatcher.aclose()


async def test_closing_does_not_wait_for_a_decode_that_hangs(until: Wait) -> None:
    recogniser = FailingRecogniser(slots=1)
    recogniser.gate.clear()
    dispatcher = Dispatcher(recogniser, refuse)
    dispatcher.start()
    script = fluent(2.0)
    feed(dispatcher, new_stream(recogniser, "s", script), Sink(), script)
    await until(lambda: recogniser.calls == 1)
    started = time.monotonic()
    await dispatcher.aclose()
    assert time.monotonic() - started < 10.0, "it hangs for longer"
    recogniser.gate.set()
