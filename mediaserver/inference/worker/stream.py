"""One track inside the worker: audio in, jobs out, hypotheses in, events out.

Pure of asyncio and clocks; the scheduler asks `next_job` and hands results to `apply`. A track is
a row of utterances (`Utterance`): the voice detector opens and closes them, the first open one is
decoded again and again over its live window, and when it is closed and decoded to its end it is
complete.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import Protocol

from mediaserver.captions.audio import AudioBuffer, Samples
from mediaserver.captions.endpointing import Endpointer
from mediaserver.captions.events import (
    Flushed,
    Revision,
    Settled,
    SpeechBegan,
    SpeechEvent,
)
from mediaserver.captions.language import LanguageLatch
from mediaserver.captions.policy import HeardWord, UtterancePolicy
from mediaserver.inference.worker.parameters import (
    Resume,
    StreamOptions,
    StreamParameters,
    Utterance,
)
from mediaserver.inference.worker.recogniser import Heard, Job
from mediaserver.inference.worker.window import LiveWindow

FRAME_S = 0.032


class Vad(Protocol):
    """A voice activity detector that keeps its state."""

    def feed(self, samples: Samples) -> Iterator[float]:
        """Yield the probability of each frame that `samples` complete."""
        ...

    def flush(self) -> Iterator[float]:
        """Complete the frame under way."""
        ...


class SpeechStream:
    """See the module's docstring."""

    def __init__(
        self,
        stream_id: str,
        options: StreamOptions,
        vad: Vad,
        encode_text: Callable[[str], tuple[int, ...]],
        parameters: StreamParameters | None = None,
        resume: Resume | None = None,
    ) -> None:
        resume = resume or Resume()
        self.id = stream_id
        self.options = options
        self.parameters = parameters or StreamParameters()
        self.audio = AudioBuffer(resume.start_s)
        self.in_flight = False
        self.ended = False
        self._vad = vad
        self._encode_text = encode_text
        self._endpointer = Endpointer(options.endpointing_s, resume.start_s)
        self._latch = LanguageLatch(options.language, resume.latched_language)
        self._utterances: deque[Utterance] = deque()  # bounded: trimmed as they complete
        self._next_number = resume.utterance
        self._flushes: list[tuple[int, float]] = []
        self._settled_s = resume.start_s
        self._settled_told_s = resume.start_s
        self._window = LiveWindow(resume.start_s, self.parameters)
        self._outcome: list[SpeechEvent] = []
        if resume.context:
            self._window.prompt = encode_text(resume.context)[-self.parameters.prompt_tokens :]
        if resume.final_words:
            self._resume_utterance(resume)

    def _resume_utterance(self, resume: Resume) -> None:
        words = [HeardWord(w, self._encode_text(w.text)) for w in resume.final_words]
        utterance = self._open(resume.start_s)
        utterance.start_s = resume.final_words[0].start_s
        utterance.policy.final.extend(words)
        utterance.shown = True
        self._window.remember(words)
        self._endpointer.in_speech = True

    # ---- in ---------------------------------------------------------------------------------

    def push(self, samples: Samples) -> list[SpeechEvent]:
        """Take the audio that follows; return what it made known at once."""
        self.audio.append(samples)
        self._listen(self._vad.feed(samples))
        return self._take()

    def finalize(self, request: int) -> list[SpeechEvent]:
        """Close what is open; `Flushed(request)` comes when all of it is final."""
        self._listen(self._vad.flush())
        self._close_open(self.audio.end_s)
        self._endpointer.cut()
        self._flushes.append((request, self.audio.end_s))
        self._settle()
        return self._take()

    def end(self) -> list[SpeechEvent]:
        """No more audio comes."""
        self._listen(self._vad.flush())
        self._close_open(self.audio.end_s)
        self.ended = True
        self._settle()
        return self._take()

    def configure(self, options: StreamOptions) -> None:
        """Change the options from here on."""
        if options.language != self.options.language:
            self._latch = LanguageLatch(options.language, None)
            self._window.forget_text()
        if options.translate != self.options.translate:
            self._window.forget_text()
        self._endpointer.endpointing_s = options.endpointing_s
        self.options = options

    # ---- state ------------------------------------------------------------------------------

    @property
    def done(self) -> bool:
        """Whether the audio has ended and all of it is final."""
        return self.ended and not self._utterances and not self.in_flight

    @property
    def processed_s(self) -> float:
        """Media time up to which nothing is left to do."""
        return self._utterances[0].decoded_s if self._utterances else self.audio.end_s

    @property
    def wants_final(self) -> bool:
        """Whether the next job completes an utterance."""
        return bool(self._utterances) and self._utterances[0].end_s is not None

    def lag_s(self) -> float:
        """Seconds of speech that no decode has seen yet; below zero: nothing to do."""
        if not self._utterances or self.in_flight:
            return -1.0
        current = self._utterances[0]
        end_s = self._heard_end(current)
        if current.end_s is not None:
            return max(0.0, end_s - max(current.decoded_s, current.start_s))
        if not self.options.interim and end_s - self._live_from(current) < 4.0:
            return -1.0
        new_s = end_s - max(current.decoded_s, current.start_s)
        p = self.parameters
        if self._pausing:
            seen = self._saw_end(current, self._endpointer.speech_end_s)
            idle = seen and not self._wants_detection(current, end_s - current.start_s)
            return -1.0 if idle else max(new_s, 0.0)
        needed_s = p.first_step_s if current.decoded_s < 0 else p.min_step_s
        return new_s if new_s >= needed_s else -1.0

    def _wants_detection(self, current: Utterance, speech_s: float) -> bool:
        done = current.end_s is not None or self._pausing
        return self._latch.wants_detection(current.number, speech_s, complete=done)

    @property
    def _pausing(self) -> bool:
        return self._endpointer.silence_s >= self.parameters.pause_s

    def _saw_end(self, current: Utterance, speech_end_s: float) -> bool:
        """Whether a decode has seen the speech to its end, and a little of the silence."""
        return current.decoded_s >= speech_end_s + self.parameters.pause_s / 2

    # ---- out --------------------------------------------------------------------------------

    def next_job(self) -> Job | None:
        """Return the decode that is due, if any, and mark it in flight."""
        if self.lag_s() < 0:
            return None
        current = self._utterances[0]
        end_s = self._window_end(current)
        self.in_flight = True
        return Job(
            stream_id=self.id,
            utterance=current.number,
            samples=self.audio.slice(self._window.start_s, end_s),
            start_s=self._window_start,
            prompt=self._window.prompt,
            prefix=self._window.prefix,
            draft=current.policy.draft,
            language=self._latch.current,
            detect=self._wants_detection(current, end_s - current.start_s),
            translate=self.options.translate,
            final=current.end_s is not None and end_s >= current.end_s - 1e-6,
            memory=self._window.memory,
            detect_from_s=current.start_s,
        )

    def apply(self, job: Job, heard: Heard) -> list[SpeechEvent]:
        """Take the answer to `job`; return what it made known."""
        self.in_flight = False
        self._window.memory = heard.memory if job.start_s == self._window_start else None
        current = self._utterances[0]
        if heard.detected is not None:
            before = self._latch.current
            self._latch.detected(job.utterance, *heard.detected, job.end_s - current.start_s)
            if before is not None and self._latch.current != before:
                self._window.forget_text()
                return self._take()  # decode again, in the new language
        current.decoded_s, current.language = job.end_s, heard.language
        words = self._believable(heard)
        live_s = job.end_s - self._live_from(current)
        complete = job.final or (
            current.speech_end_s is not None and self._saw_end(current, current.speech_end_s)
        )
        count = current.policy.update(words, job.end_s, complete=complete, live_s=live_s)
        if not complete:
            count += self._move_on(current, job, count, heard=bool(words))
        else:
            self._window.add(current.policy.newest(count))
        self._report(current, count, complete=complete)
        if complete:
            self._complete(current)
        else:
            self._split(current)
            self._settle()
        return self._take()

    def failed(self, job: Job) -> None:
        """The decode of `job` failed; it may be asked for again."""
        self.in_flight = False

    def _take(self) -> list[SpeechEvent]:
        events, self._outcome = self._outcome, []
        return events

    # ---- utterances -------------------------------------------------------------------------

    def _listen(self, probabilities: Iterable[float]) -> None:
        for probability in probabilities:
            end_s = min(self._endpointer.heard_s + FRAME_S, self.audio.end_s)
            boundary = self._endpointer.feed(probability, end_s)
            if boundary is None:
                continue
            if boundary.kind == "began":
                self._outcome.append(SpeechBegan(boundary.at_s))
                floor_s = self._utterances[-1].end_s if self._utterances else None
                start_s = max(boundary.at_s - self.parameters.preroll_s, floor_s or 0.0)
                self._open(max(start_s, self.audio.start_s))
            else:
                self._close_open(boundary.at_s)
        self._settle()

    def _open(self, start_s: float) -> Utterance:
        policy = UtterancePolicy(self.parameters.policy)
        utterance = Utterance(self._next_number, start_s, policy)
        self._next_number += 1
        if not self._utterances:
            self._window.join(start_s)
        self._utterances.append(utterance)
        return utterance

    def _close_open(self, speech_end_s: float) -> None:
        """The open utterance's speech ended; complete it without a decode if one saw its end."""
        if not self._utterances or self._utterances[-1].end_s is not None:
            return
        utterance = self._utterances[-1]
        utterance.speech_end_s = speech_end_s
        utterance.end_s = min(speech_end_s + self.parameters.tail_s, self.audio.end_s)
        if (
            self._saw_end(utterance, speech_end_s)
            and len(self._utterances) == 1
            and not self.in_flight
        ):
            count = utterance.policy.complete_as_shown()
            self._window.add(utterance.policy.newest(count))
            self._report(utterance, count, complete=True)
            self._complete(utterance)

    def _complete(self, utterance: Utterance) -> None:
        self._utterances.popleft()
        if self._utterances:
            self._window.join(self._utterances[0].start_s)
        self._settle()

    def _split(self, current: Utterance) -> None:
        """Complete an utterance that grew long; what is not final yet begins the next one."""
        final = current.policy.final
        if not final or current.end_s is not None:
            return
        length_s = final[-1].word.end_s - current.start_s
        sentence = final[-1].word.text.endswith((".", "?", "!", "。", "？", "！"))
        p = self.parameters
        if length_s < (p.split_s if sentence else p.split_hard_s):
            return
        edge_s = final[-1].word.end_s
        carried = UtterancePolicy(self.parameters.policy)
        carried.adopt(current.policy)
        after = Utterance(self._next_number, edge_s, carried)
        after.decoded_s, after.language = current.decoded_s, current.language
        self._next_number += 1
        current.endpoint = False
        self._report(current, 0, complete=True)
        self._utterances[0] = after
        if carried.tentative:
            self._report(after, 0, complete=False)

    def _report(self, current: Utterance, count: int, *, complete: bool) -> None:
        policy = current.policy
        tentative = policy.tentative if self.options.interim and not complete else ()
        if complete and not policy.final and not current.shown:
            return
        if not complete and not count and not tentative and not current.shown:
            return
        current.shown = True
        final = tuple(heard.word for heard in policy.final)
        edge_s = self._live_from(current)
        self._outcome.append(
            Revision(
                utterance=current.number,
                final=final,
                newly_final=count,
                tentative=tuple(heard.word for heard in tentative),
                complete=complete,
                start_s=final[0].start_s if final else current.start_s,
                language=current.language,
                settled_s=(current.end_s or edge_s) if complete else edge_s,
                end_s=current.decoded_s,
                endpoint=complete and current.endpoint,
            )
        )

    def _believable(self, heard: Heard) -> tuple[HeardWord, ...]:
        p = self.parameters.policy
        if not heard.words or heard.no_speech_probability < p.no_speech_probability:
            return heard.words
        mean = sum(h.word.probability for h in heard.words) / len(heard.words)
        return heard.words if mean >= p.weak_probability else ()

    # ---- window and prompt ------------------------------------------------------------------

    @property
    def _window_start(self) -> float:
        return max(self._window.start_s, self.audio.start_s)

    def _window_end(self, current: Utterance) -> float:
        return min(self._heard_end(current), self._window.start_s + self.parameters.max_window_s)

    def _heard_end(self, current: Utterance) -> float:
        """End of the speech heard so far, with a little silence."""
        if current.end_s is not None:
            return current.end_s
        return min(self.audio.end_s, self._endpointer.speech_end_s + self.parameters.tail_s)

    def _live_from(self, current: Utterance) -> float:
        """Where the audio starts that no final word covers."""
        return max(current.policy.final_end_s or current.start_s, current.skipped_s)

    def _move_on(self, current: Utterance, job: Job, count: int, *, heard: bool) -> int:
        """Cut the window behind `count` words that became final; return how many more did.

        A voice without words (music, a crowd) is passed over once the live part is at its bound,
        and a window at its own bound moves in any case: neither may grow without end.
        """
        p, policy = self.parameters, current.policy
        full = job.end_s - job.start_s >= p.max_window_s - 0.1
        idle = job.end_s - self._live_from(current) > p.policy.max_live_s and (not count or full)
        if idle:
            edge_s = job.end_s - p.skip_keep_s
            count, before = count + policy.commit_until(edge_s), count
            current.skipped_s = min(edge_s, policy.next_start_s or edge_s)
        else:
            before = count
        self._window.add(current.policy.newest(count))
        # With other words before it, speech in another language is often not heard at all.
        deaf = not heard and job.end_s - self._live_from(current) > p.deaf_s
        if idle or deaf or (full and self._window.start_s <= job.start_s):
            self._window.pass_all(self._live_from(current))
        return count - before

    def _settle(self) -> None:
        """Trim the audio that is needed no more, and answer flushes that are through."""
        if self._utterances:
            self._settled_s = max(self._settled_s, self._live_from(self._utterances[0]))
        else:
            quiet_s = self._endpointer.heard_s - self.parameters.preroll_s - 0.2
            self._settled_s = max(self._settled_s, quiet_s)
            said_s = self._window.said_until_s
            last_s = self._window.start_s if said_s is None else said_s
            if quiet_s - last_s > self.parameters.context_gap_s:
                self._window.pass_all(quiet_s)
        self.audio.trim(min(self._window.start_s, self.audio.end_s))
        if self._settled_s - self._settled_told_s >= 1.0:
            self._settled_told_s = self._settled_s
            self._outcome.append(Settled(self._settled_s))
        waiting = self._utterances[0].start_s if self._utterances else None
        while self._flushes and (waiting is None or waiting >= self._flushes[0][1] - 1e-6):
            self._outcome.append(Flushed(self._flushes.pop(0)[0]))
