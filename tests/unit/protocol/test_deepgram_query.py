"""The query of /v1/listen: Deepgram's names and values, and clear words for what is wrong."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mediaserver.kernel.errors import BadInput
from mediaserver.protocol.deepgram_query import ListenQuery, parse_listen_query
from mediaserver.protocol.languages import LANGUAGES, language_of


def parse(text: str) -> ListenQuery:
    pairs = [part.partition("=") for part in text.split("&") if part]
    return parse_listen_query((name, value) for name, _, value in pairs)


def test_an_empty_query_is_a_container_in_english() -> None:
    query = parse("")
    assert query.encoding is None
    options = query.caption_options()
    assert (options.language, options.task, options.interim) == ("en", "transcribe", False)
    assert options.endpointing_ms == 500


def test_what_deepgrams_quickstart_sends_is_taken() -> None:
    query = parse(
        "model=nova-3&encoding=linear16&sample_rate=16000&channels=1&language=en-US"
        "&interim_results=true&utterance_end_ms=1000&vad_events=true&endpointing=300"
        "&smart_format=true&punctuate=true&numerals=true&filler_words=false&diarize=false"
        "&profanity_filter=false&mip_opt_out=true&keyterm=a&keyterm=b&tag=x&extra=k:v&redact=false"
    )
    assert query.keyterm == ("a", "b")
    assert query.punctuated
    options = query.caption_options()
    assert (options.language, options.interim, options.endpointing_ms) == ("en", True, 300)


@pytest.mark.parametrize(
    ("text", "language"),
    [
        ("language=es", "es"),
        ("language=pt-BR", "pt"),
        ("language=zh_CN", "zh"),
        ("language=nb", "no"),
        ("language=multi", None),
        ("detect_language=true", None),
        ("detect_language=true&language=en", None),
    ],
)
def test_languages(text: str, language: str | None) -> None:
    assert parse(text).caption_options().language == language


@pytest.mark.parametrize(
    ("text", "milliseconds"),
    [("endpointing=false", 5000), ("endpointing=true", 500), ("endpointing=0", 10)],
)
def test_endpointing_is_a_number_or_a_switch(text: str, milliseconds: int) -> None:
    assert parse(text).caption_options().endpointing_ms == milliseconds


def test_tentative_words_are_watched_for_utterance_end_without_being_sent() -> None:
    query = parse("utterance_end_ms=1000")
    assert not query.interim_results
    assert query.caption_options().interim


def test_telephone_audio_has_a_default_rate() -> None:
    assert parse("encoding=mulaw").sample_rate_hz == 8000


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("enconding=linear16", "is encoding meant"),
        ("colour=blue", "no such parameter"),
        ("encoding=linear16", "sample_rate is needed"),
        ("encoding=mp3", "encoding:"),
        ("encoding=g729", "g729 is not decoded"),
        ("encoding=opus&channels=3", "one or two channels"),
        ("sample_rate=7999", "8000"),
        ("sample_rate=200000", "192000"),
        ("sample_rate=fast", "sample_rate:"),
        ("channels=9", "channels:"),
        ("channels=0", "channels:"),
        ("language=klingon", "klingon"),
        ("language=", "language:"),
        ("endpointing=5001", "5000"),
        ("endpointing=soon", "endpointing:"),
        ("utterance_end_ms=1", "100"),
        ("interim_results=perhaps", "interim_results:"),
        ("task=sing", "task:"),
        ("redact=pci", "nothing is redacted"),
        ("diarize=true", "multichannel"),
        ("language=en&language=es", "twice"),
    ],
)
def test_what_is_wrong_is_named(text: str, told: str) -> None:
    with pytest.raises(BadInput, match=told) as caught:
        parse(text)
    assert caught.value.specific_code == "invalid_query_parameter"


@given(st.lists(st.tuples(st.text(max_size=40), st.text(max_size=40)), max_size=5))
def test_any_query_is_read_or_refused(pairs: list[tuple[str, str]]) -> None:
    try:
        parse_listen_query(pairs)
    except BadInput as error:
        refused = error.detail
    else:
        refused = ""
    assert len(refused) < 400


def test_every_language_is_its_own_code() -> None:
    assert len(LANGUAGES) == 99
    assert all(language_of(code) == code for code in LANGUAGES)
