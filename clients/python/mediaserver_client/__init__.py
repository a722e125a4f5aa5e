"""Live captions for bots.

async with connect("http://127.0.0.1:8080") as session:
    await session.publish("speech.wav")
    async for caption in session.captions(finals_only=True):
        print(caption.text)
"""

from mediaserver_client.account_types import ApiKey, Principal, Ticket, User
from mediaserver_client.api import Api
from mediaserver_client.clock import ClockSync
from mediaserver_client.credentials import Tokens
from mediaserver_client.drift import PlayerState
from mediaserver_client.errors import (
    AnswerTimeout,
    AudioError,
    ClientError,
    ProtocolError,
    ReaderTooSlow,
    Refused,
    SentAway,
    ServerUnreachable,
    SessionClosed,
    SessionLost,
)
from mediaserver_client.follower import Follower, Player, TimePlayer
from mediaserver_client.media import MediaFile, Microphone
from mediaserver_client.messages import (
    Caption,
    Chat,
    ErrorMessage,
    Metrics,
    Problem,
    SpeechStarted,
    Status,
    TrackEnded,
    TrackStarted,
    Word,
)
from mediaserver_client.publication import Publication
from mediaserver_client.room import RoomSession, join_room
from mediaserver_client.room_types import (
    ChatPage,
    Grants,
    Invitation,
    JoinTicket,
    MemberInfo,
    QueueItem,
    RoomInfo,
    RoomSettings,
    RoomToken,
    RoomTokenInfo,
)
from mediaserver_client.session import Session, connect
from mediaserver_client.sources import AudioSource, PcmBytes, PcmStream, WavFile
from mediaserver_client.stats import PublicationStats
from mediaserver_client.sync import PlaybackFollower, PlaybackState, PlaybackStep
from mediaserver_client.transcript import render
from mediaserver_client.video_types import SegmentAuth, SignedPlayback, VideoInfo, VideoList

__version__ = "0.1.0"

__all__ = [
    "AnswerTimeout",
    "Api",
    "ApiKey",
    "AudioError",
    "AudioSource",
    "Caption",
    "Chat",
    "ChatPage",
    "ClientError",
    "ClockSync",
    "ErrorMessage",
    "Follower",
    "Grants",
    "Invitation",
    "JoinTicket",
    "MediaFile",
    "MemberInfo",
    "Metrics",
    "Microphone",
    "PcmBytes",
    "PcmStream",
    "PlaybackFollower",
    "PlaybackState",
    "PlaybackStep",
    "Player",
    "PlayerState",
    "Principal",
    "Problem",
    "ProtocolError",
    "Publication",
    "PublicationStats",
    "QueueItem",
    "ReaderTooSlow",
    "Refused",
    "RoomInfo",
    "RoomSession",
    "RoomSettings",
    "RoomToken",
    "RoomTokenInfo",
    "SegmentAuth",
    "SentAway",
    "ServerUnreachable",
    "Session",
    "SessionClosed",
    "SessionLost",
    "SignedPlayback",
    "SpeechStarted",
    "Status",
    "Ticket",
    "TimePlayer",
    "Tokens",
    "TrackEnded",
    "TrackStarted",
    "User",
    "VideoInfo",
    "VideoList",
    "WavFile",
    "Word",
    "connect",
    "join_room",
    "render",
]
