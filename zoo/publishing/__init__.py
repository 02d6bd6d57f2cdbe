"""From a model to a repository on the Hub that `zoo.create("hf-hub:owner/name")` opens; it can be repeated any time.

Everything is built and checked on this machine first. Then one request tells what the repository holds, one atomic
commit adds what differs, and what arrived is fetched back and compared. Whatever fails in between, the repository is
either as before or complete, and the same call goes on from there.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from zoo.contract import VideoModel
from zoo.errors import PublishError
from zoo.publishing.arrival import verify
from zoo.publishing.checks import check_folder, check_model, check_terms
from zoo.publishing.folder import Folder, write_folder
from zoo.publishing.plan import Plan
from zoo.publishing.stanza import as_python
from zoo.publishing.subject import subject_of
from zoo.spec import Metric
from zoo.weights.hub_publish import HubRepository, State
from zoo.weights.source import COMMIT, MAIN, HubFile


@dataclass(frozen=True)
class Published:
    """What was published.

    revision: the commit; empty after a dry run that would have made one. sha256: of the weights.
    stanza: the `zoo.Weights(...)` to paste into a plugin, as Python.
    """

    revision: str
    sha256: str
    stanza: str


def publish(
    model: VideoModel | str | Path,
    repo: str,
    *,
    endpoint: str | None = None,
    token: str | bool | None = None,
    private: bool = True,
    dry_run: bool = False,
    tag: str | None = None,
    license: str = "",
    training_data: str = "",
    description: str = "",
    metrics: Sequence[Metric] = (),
    tell: Callable[[str], object] = print,
) -> Published:
    """Put a model into the repository `repo`, "owner/name", on the Hub: config.json, model.safetensors, README.md.

    model: a network that `zoo` has built, with its `labels` and `preprocessing`; a registered name, "architecture.tag"
    or "architecture" for its default weights; or a folder in zoo's own format.
    endpoint, token: of the Hub; None is what its client has (HF_ENDPOINT, `hf auth login`).
    private: a new repository is only for you; False makes it public once all has arrived.
    dry_run: check everything, say what would change, and change nothing.
    tag: a name for this commit, such as "v1"; it never moves. Where it means the same files already, all is done.
    license, training_data, description, metrics: of these weights. Registered weights, and those of a folder, bring
    their own; trained ones need at least the first two. Licences go by the Hub's names, such as "cc-by-4.0".
    tell: called with the plan and with each step, as text.
    Publishing the same again changes nothing. Raises PublishError, SpecError for a wrong name, or what loading raises.
    """
    HubFile(repo, "config.json", tag or MAIN)  # raises SpecError
    if tag == MAIN or COMMIT.fullmatch(tag or ""):
        raise PublishError(f"tag={tag!r} is no name of a tag", hint="such as 'v1'")
    terms = {"license": license, "training_data": training_data, "description": description, "metrics": tuple(metrics)}
    with TemporaryDirectory(prefix="zoo-publish-") as temporary:
        subject = subject_of(model)
        check_model(subject)
        folder = write_folder(subject, {name: value for name, value in terms.items() if value}, repo, Path(temporary))
        check_terms(folder)
        check_folder(subject, folder)
        remote = HubRepository(repo, endpoint, token)
        plan = _plan(folder, remote, private=private, tag=tag)
        tell(str(plan))
        if dry_run:
            revision = plan.state.head if plan.state and not plan.changes else ""
        else:
            revision = _carry_out(plan, folder, remote, tell)
            verify(folder, remote, revision, endpoint=endpoint, token=token)
            tell(f"commit {revision} has arrived as it was sent")
            if tag:
                remote.tag(tag, revision)
            if plan.becomes_public:
                remote.make_public()
        return Published(revision, folder.sha256, as_python(folder.weights_at(revision)))


def _plan(folder: Folder, remote: HubRepository, *, private: bool, tag: str | None) -> Plan:
    """What has to be done. Raises PublishError for what must not be."""
    state = remote.state()
    plan = Plan(page=remote.page, folder=folder, state=state, private=private, tag=tag)
    if state and private and not state.private:
        raise PublishError(
            f"{remote.page} is public, and what is published there can be seen by everybody",
            hint="say private=False (--public) if that is meant, or choose another repository",
        )
    if state and tag and (meant := remote.tags().get(tag)):
        tagged = state if meant == state.head else remote.state(meant)
        plan = dataclasses.replace(plan, state=tagged)
        if plan.changes:
            raise PublishError(
                f"{remote.page}: the tag {tag!r} is at {meant} already, which is something else",
                hint="tags do not move; choose another",
            )
    return plan


def _carry_out(plan: Plan, folder: Folder, remote: HubRepository, tell: Callable[[str], object]) -> str:
    """Make the repository hold the folder's files; gives the commit that does."""
    state = plan.state
    if state is None:
        remote.create()
        tell(f"made {remote.page}, private")
        if (state := remote.state()) is None:
            raise PublishError(f"{remote.page} was made but cannot be seen", hint="run the same again")
        if any(folder.differs(path, state.files.get(path)) and path in state.files for path in folder.files):
            raise PublishError(f"{remote.page} was made by somebody else meanwhile", hint="run the same again")
    if not folder.changes(state.files):
        return state.head

    def done() -> str:
        now: State | None = remote.state()
        return now.head if now and not folder.changes(now.files) else ""

    return remote.commit(folder.files, f"Publish {folder.architecture} with zoo", state.head, done)
