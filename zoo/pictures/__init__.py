"""Pictures of results: what a model saw, when it said what, the video with its labels, and a page with all of it.

Nothing here is kept by a prediction. It says what was run, as data, and the frames are read from the video again.
Drawn with Pillow and its built-in font, which knows Latin letters; the page leaves letters to the browser.
"""

from __future__ import annotations
