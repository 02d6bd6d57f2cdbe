"""Our own families are held to what every plugin is held to, by the same line."""

from __future__ import annotations

import zoo

test_cnn = zoo.testing.conformance("cnn")
