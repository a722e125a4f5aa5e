"""What all messages have in common."""

import json

from mediaserver.protocol.chat import Chat


def test_a_changed_copy_is_written_anew() -> None:
    said = Chat(seq=1, id="c", member_id="m", name="n", text="before", sent_at=1.0)
    assert json.loads(said.wire_text())["text"] == "before"
    assert json.loads(said.model_copy(update={"text": "after"}).wire_text())["text"] == "after"
    received = Chat(seq=1, id="c", member_id="m", name="n", text="a", sent_at=1.0).sent_as("{}")
    assert received.wire_text() == "{}"
