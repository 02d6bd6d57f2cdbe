"""What has to be right before anything is asked of the Hub: the model, what is said about it, and the files."""

from __future__ import annotations

import copy
import re

import torch
from torch import Tensor

from zoo import factory, registry
from zoo.cards.front_matter import LICENSES, slug
from zoo.contract import VideoModel
from zoo.errors import PublishError, ZooError
from zoo.publishing.folder import README, WEIGHTS, Folder
from zoo.publishing.subject import Subject
from zoo.weights.assign import some
from zoo.weights.repository import CONFIG, IN_FOLDER

# Keys that people paste by mistake: of the Hub, GitHub, Amazon, AI services, Google, GitLab; private ones; passwords.
SECRET = re.compile(
    r"hf_[A-Za-z0-9]{30,}|gh[pousr]_[A-Za-z0-9]{36,}|github_pat_\w{30,}|AKIA[0-9A-Z]{16}|-----BEGIN [A-Z ]*PRIVATE KEY"
    r"|\bsk-[A-Za-z0-9_-]{20,}|\bAIza[\w-]{35}|\bglpat-[\w-]{20,}|://[^\s/:@]+:[^\s/@]+@"
)


def check_model(subject: Subject) -> None:
    """The network can be built by others, and its tensors are ones that a file can hold."""
    name, tensors = subject.name, subject.tensors
    if subject.spec.namespace == registry.LOCAL:
        raise PublishError(
            f"{name} is an architecture of this process only, so that nobody else could build it",
            hint="put it into a plugin (`zoo new NAME`)",
        )
    if broken := [key for key, t in tensors.items() if t.is_floating_point() and not bool(t.isfinite().all())]:
        raise PublishError(f"{name}: NaN or infinity in {some(broken)}", hint="its training has diverged")
    places: dict[int, str] = {}
    for key, tensor in tensors.items():
        if tensor.numel() and (first := places.setdefault(tensor.data_ptr(), key)) != key:
            raise PublishError(
                f"{name}: {first} and {key} are one tensor under two names",
                hint="a file keeps only one of them; leave the other out of the state dict",
            )
    if subject.model.preprocessing is None:
        raise PublishError(f"{name} does not say how videos become clips", hint="set model.preprocessing")
    if subject.spec.task == "classification":
        _check_labels(name, subject.model)


def check_terms(folder: Folder) -> None:
    """Strangers are told under which terms they may use the weights, and what these have seen."""
    name, weights = folder.architecture, folder.weights
    if not weights.license or not weights.training_data:
        missing = "license" if not weights.license else "training_data"
        raise PublishError(
            f"{name}: no {missing} is given for these weights",
            hint=f"{missing}=... (--{missing.replace('_', '-')}); of weights that were trained only you can tell",
        )
    if slug(weights.license) not in LICENSES - {"unknown"}:
        raise PublishError(
            f"{name}: license={weights.license!r} is not one that the Hub knows",
            hint="such as 'apache-2.0', 'cc-by-4.0' or 'cc-by-nc-4.0'",
        )


def check_folder(subject: Subject, folder: Folder) -> None:
    """The files hold no secrets, and give a new model that says exactly what this one says."""
    for file in (CONFIG, README):
        if SECRET.search(folder.files[file].read_text()):
            raise PublishError(
                f"{folder.architecture}: {file} would hold what looks like a secret key",
                hint="take it out of the labels, descriptions and options, and replace the key: it may have been seen",
            )
    try:
        again = factory.create(f"{IN_FOLDER}{folder.files[CONFIG].parent}")
    except ZooError as error:
        raise PublishError(
            f"{folder.architecture}: what would be published cannot be opened again: {error}",
            hint="is the model built with other options than the ones in model.options?",
        ) from error
    this = copy.deepcopy(subject.model).to("cpu", torch.float32).eval()
    said, says = _ask(this), _ask(again)
    if not torch.equal(said, says):
        raise PublishError(
            f"{folder.architecture}: read back from {WEIGHTS}, the model says something else than it does now",
            hint="does it depend on something that is not in its state dict, or on chance?",
        )
    classes = folder.weights.num_classes
    if subject.spec.task == "classification" and classes and says.shape[-1] != classes:
        raise PublishError(
            f"{folder.architecture} gives {says.shape[-1]} logits, and says that it has {classes} classes",
            hint="call model.reset_classifier(...), or correct num_classes in the spec",
        )
    _check_golden(subject, this)


def _check_labels(name: str, model: VideoModel) -> None:
    labels, classes = model.labels or (), model.num_classes
    if len(labels) != classes:
        raise PublishError(
            f"{name} has {classes} logits and {len(labels)} labels", hint="set model.labels, in the logits' order"
        )


def _check_golden(subject: Subject, model: VideoModel) -> None:
    """Weights from inside a package still say what was recorded of them."""
    from zoo.testing.failure import CheckFailed
    from zoo.testing.golden import check_golden

    if subject.certain and subject.declared is not None:
        try:
            check_golden(model, subject.declared, f"{subject.name}.{subject.declared.tag}")
        except CheckFailed as failed:
            raise PublishError(
                f"{subject.name}: {failed}", hint="were they changed on purpose? Then zoo.testing.record_golden"
            ) from failed


def _ask(model: VideoModel) -> Tensor:
    from zoo.testing.golden import golden_clip, golden_shape
    from zoo.testing.subject import run

    return run(model, golden_clip(golden_shape(model)))
