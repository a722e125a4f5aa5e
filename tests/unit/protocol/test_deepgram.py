"""Deepgram's messages: what its SDK sends is understood, what we send its SDK understands."""

import json
from typing import Any, cast

import pytest
from deepgram.core.unchecked_base_model import construct_type
from deepgram.listen.v1.socket_client import V1SocketClientResponse
from deepgram.listen.v1.types.listen_v1close_stream import ListenV1CloseStream
from deepgram.listen.v1.types.listen_v1configure import ListenV1Configure
from deepgram.listen.v1.types.listen_v1finalize import ListenV1Finalize
from deepgram.listen.v1.types.listen_v1keep_alive import ListenV1KeepAlive
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel

from mediaserver.kernel.errors import BadInput
from mediaserver.protocol.base import Wire
from mediaserver.protocol.deepgram import (
    Alternative,
    CloseStream,
    Configure,
    ConfigureFailure,
    ConfigureSuccess,
    Finalize,
    KeepAlive,
    ListenChannel,
    ListenError,
    ListenWord,
    Metadata,
    ModelInfo,
    Results,
    ResultsMetadata,
    SpeechStarted,
    UtteranceEnd,
    parse_listen_message,
)

INFO = ModelInfo(name="whisper-base", version="1", arch="whisper")
RESULTS = Results(
    channel_index=(0, 2),
    duration=1.5,
    start=0.25,
    is_final=True,
    speech_final=True,
    from_finalize=False,
    channel=ListenChannel(
        alternatives=(
            Alternative(
                transcript="hello",
                confidence=0.9,
                words=(
                    ListenWord(
                        word="hello", start=0.3, end=0.8, confidence=0.9, punctuated_word="Hello."
                    ),
                ),
            ),
        )
    ),
    metadata=ResultsMetadata(request_id="r", model_info=INFO, model_uuid="u"),
)


@pytest.mark.parametrize(
    ("sent", "kind"),
    [
        (ListenV1KeepAlive(type="KeepAlive"), KeepAlive),
        (ListenV1Finalize(type="Finalize"), Finalize),
        (ListenV1CloseStream(type="CloseStream"), CloseStream),
        (ListenV1Configure(keyterms=["a"], features={"punctuate": True}), Configure),
    ],
)
def test_what_the_sdk_sends_is_understood(sent: BaseModel, kind: type[object]) -> None:
    assert isinstance(parse_listen_message(json.dumps(sent.dict())), kind)


def test_finalize_may_name_a_channel() -> None:
    assert parse_listen_message('{"type":"Finalize","channel":1}') == Finalize(
        type="Finalize", channel=1
    )


@pytest.mark.parametrize(
    "message",
    [
        RESULTS,
        SpeechStarted(channel=(0, 1), timestamp=1.0),
        UtteranceEnd(channel=(0, 1), last_word_end=2.0),
        Metadata(
            request_id="r",
            sha256="0" * 64,
            created="2024-01-01T00:00:00.000Z",
            duration=1.0,
            channels=1,
            models=("u",),
            model_info={"u": INFO},
        ),
        ListenError(variant="SchemaError", description="what is that", message="?"),
        ConfigureSuccess(request_id="r"),
        ConfigureFailure(request_id="r", code="CONFIGURE_INTERNAL_ERROR", description="no"),
    ],
)
def test_what_we_send_the_sdk_understands(message: Wire) -> None:
    data = json.loads(message.model_dump_json(exclude_none=True))
    parsed = construct_type(type_=cast(Any, V1SocketClientResponse), object_=data)
    assert type(parsed).__name__.removeprefix("ListenV1") in type(message).__name__.replace(
        "ListenError", "Error"
    )
    for name, value in data.items():
        got = getattr(parsed, name)
        assert (got.dict() if isinstance(got, BaseModel) else got) is not None, name
        if not isinstance(value, dict):
            assert got == value
    type(parsed).model_validate(data)  # strictly, with every field that the SDK demands


@pytest.mark.parametrize(
    "text",
    [
        "hello",
        "{}",
        "[]",
        "null",
        '{"type":"Start"}',
        '{"type":1}',
        '{"type":"Finalize","channel":-1}',
    ],
)
def test_another_text_is_refused_with_what_is_known(text: str) -> None:
    with pytest.raises(BadInput, match="KeepAlive, Finalize"):
        parse_listen_message(text)


@given(st.text(max_size=200))
def test_any_text_is_understood_or_refused(text: str) -> None:
    with pytest.raises(BadInput):
        parse_listen_message(text)
