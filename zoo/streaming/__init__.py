"""Live video: `zoo.Stream`, and what it remembers."""

from zoo.streaming.stream import Stream

__all__ = ["Stream"]
