"""The exported schema and the checked-in TypeScript follow the models."""

import json
from pathlib import Path

import pytest

from mediaserver.protocol import export
from mediaserver.protocol.messages import ClientMessage, ServerMessage

TYPES_FILE = Path(__file__).parents[3] / "clients/js/types.d.ts"


def test_the_checked_in_typescript_is_what_the_models_say() -> None:
    assert TYPES_FILE.read_text(encoding="utf-8") == export.typescript(), (
        "clients/js/types.d.ts is stale; renew it with: "
        "python -m mediaserver.protocol.export typescript clients/js/types.d.ts"
    )


def test_every_message_is_in_the_typescript_and_in_the_schema() -> None:
    typescript = export.typescript()
    definitions = export.json_schema()["$defs"]
    for union in (ClientMessage, ServerMessage):
        for model in export.message_models(union):
            assert f"export interface {model.__name__} {{" in typescript
            assert model.__name__ in definitions


def test_what_clients_may_leave_out_is_optional_and_what_the_server_sends_is_not() -> None:
    definitions = export.json_schema()["$defs"]
    assert definitions["Offer"]["required"] == ["type", "sdp"]
    assert set(definitions["Status"]["required"]) == {"type", "captions", "detail"}


def test_the_discriminator_maps_every_type_to_its_message() -> None:
    mapping = export.json_schema()["$defs"]["ServerMessage"]["discriminator"]["mapping"]
    assert mapping["track.started"] == "#/$defs/TrackStarted"
    assert mapping["error"] == "#/$defs/ErrorMessage"
    assert len(mapping) == len(export.message_models(ServerMessage))


def test_units_and_meanings_reach_the_typescript_as_comments() -> None:
    assert "/** Unix seconds. */\n  readonly sent_at: number;" in export.typescript()


def test_the_command_writes_a_file(tmp_path: Path) -> None:
    target = tmp_path / "schema.json"
    assert export.main(["json-schema", str(target)]) == 0
    schema = json.loads(target.read_text())
    assert schema["$schema"].endswith("2020-12/schema")
    assert "Caption" in schema["$defs"]


def test_the_command_prints_when_no_file_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert export.main(["typescript"]) == 0
    assert capsys.readouterr().out == export.typescript()
