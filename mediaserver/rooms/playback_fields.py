"""The state of playback as a flat Redis hash, for compare-and-set in Lua. Pure."""

import json
from collections.abc import Mapping

from mediaserver.rooms.playback import Playback


def to_fields(state: Playback) -> dict[str, str]:
    """Return the state as a flat hash: one field each, the same state always the same text.

    `epoch`, `seq`, `command_seq`: decimal integers. `begun`, `playing`: 1 or 0. `position_s`,
    `rate`, `anchor_s`: the shortest decimal that reads back equal. `item_id`, `duration_s`,
    `wait_until_s`: empty means none. `waiting_for`: a JSON array of member ids, in order.
    """
    return {
        "epoch": str(state.epoch),
        "seq": str(state.seq),
        "command_seq": str(state.command_seq),
        "item_id": state.item_id or "",
        "duration_s": "" if state.duration_s is None else repr(float(state.duration_s)),
        "begun": "1" if state.begun else "0",
        "playing": "1" if state.playing else "0",
        "position_s": repr(float(state.position_s)),
        "rate": repr(float(state.rate)),
        "anchor_s": repr(float(state.anchor_s)),
        "waiting_for": json.dumps(state.waiting_for, separators=(",", ":")),
        "wait_until_s": "" if state.wait_until_s is None else repr(float(state.wait_until_s)),
    }


def from_fields(fields: Mapping[str, str]) -> Playback:
    """Read what `to_fields` wrote; an empty hash is a room that has played nothing yet.

    Raises ValueError where a field is not what `to_fields` writes.
    """
    if not fields:
        return Playback()
    try:
        waiting_for = json.loads(fields["waiting_for"])
        if not isinstance(waiting_for, list) or not all(isinstance(m, str) for m in waiting_for):
            raise ValueError("waiting_for is no array of member ids")
        return Playback(
            epoch=int(fields["epoch"]),
            seq=int(fields["seq"]),
            command_seq=int(fields["command_seq"]),
            item_id=fields["item_id"] or None,
            duration_s=float(fields["duration_s"]) if fields["duration_s"] else None,
            begun=fields["begun"] == "1",
            playing=fields["playing"] == "1",
            position_s=float(fields["position_s"]),
            rate=float(fields["rate"]),
            anchor_s=float(fields["anchor_s"]),
            waiting_for=tuple(waiting_for),
            wait_until_s=float(fields["wait_until_s"]) if fields["wait_until_s"] else None,
        )
    except KeyError as missing:
        raise ValueError(f"the playback hash lacks the field {missing}") from missing
