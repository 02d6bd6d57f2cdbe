"""What publishing would change, in words."""

from __future__ import annotations

from dataclasses import dataclass

from zoo.publishing.folder import Folder
from zoo.weights.hub_publish import State


@dataclass(frozen=True, kw_only=True)
class Plan:
    """A folder beside what the repository holds now; `state` is None where there is none."""

    page: str
    folder: Folder
    state: State | None
    private: bool
    tag: str | None

    @property
    def changes(self) -> list[str]:
        return self.folder.changes(self.state.files if self.state else {})

    @property
    def becomes_public(self) -> bool:
        return not self.private and (self.state is None or self.state.private)

    def __str__(self) -> str:
        there, changes = self.state.files if self.state else {}, self.changes
        kind = "private" if self.state is None or self.state.private else "public"
        lines = [f"{self.page} ({kind}{'' if self.state else ', to be made'})"]
        for name, path in self.folder.files.items():
            what = "same" if name not in changes else "changed" if name in there else "new"
            digest = self.folder.sha256 if path.suffix == ".safetensors" else ""
            lines.append(f"  {what:<8} {name:<18} {path.stat().st_size:>14,} bytes  {digest}".rstrip())
        lines += [f"  {'stays':<8} {name}" for name in sorted(there.keys() - self.folder.files.keys())]
        lines += [f"  tag      {self.tag}"] if self.tag else []
        lines += ["  becomes public when all has arrived"] if self.becomes_public else []
        return "\n".join(lines if changes else [*lines, "  nothing to upload"])
