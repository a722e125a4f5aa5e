"""mediaserver: live captions and watch parties over WebRTC and WebSockets."""

__version__ = "0.1.0"
