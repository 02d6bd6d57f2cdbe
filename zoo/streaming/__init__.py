"""Live video: `zoo.Stream`, what it remembers, and what it has said."""

from zoo.streaming.stream import Stream

__all__ = ["Stream"]
