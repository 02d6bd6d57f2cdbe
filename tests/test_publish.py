"""Publishing: what is checked beforehand, what is sent, and what happens when it is done again (34-36, 39-42)."""

from __future__ import annotations

import json
import os
import stat
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner
from faulty_hub import body, headers, status
from publishing import LABELS, NAME, ON_SHELF, PROTOCOL, REPO, TERMS, acme, commits, holds, quietly, trained, written
from safetensors.torch import load_file, save_file

import zoo
from zoo import cards
from zoo.cli import commands
from zoo.errors import PublishError, SpecError, UnknownModel, WeightsCorrupt, WeightsMismatch
from zoo.publishing.stanza import as_python

WRITES = ("POST", "PUT", "DELETE", "PATCH")


@pytest.fixture(autouse=True)
def plugin():
    with acme() as spec:
        yield spec


@pytest.fixture
def publish(hub):
    def publish(model=None, **options):
        options = {**TERMS, "endpoint": hub.url, "tell": quietly, **options}
        return zoo.publish(trained() if model is None else model, options.pop("repo", REPO), **options)

    return publish


def sent(hub) -> list[str]:
    return [request for method in WRITES for request in hub.requests(method)]


def test_what_is_published_is_the_model_at_a_commit_that_a_plugin_can_pin(hub, publish, tmp_path):
    model = trained()
    published = publish(model, tag="v1")
    for name in (published.revision, "main", "v1"):
        assert holds(hub, model, tmp_path / "cache", name)
    assert commits(hub) == 1
    assert hub._store.repositories[REPO].private
    weights = eval(published.stanza, {"zoo": zoo})
    assert weights.source == f"hf://{REPO}/model.safetensors@{published.revision}"
    assert (weights.sha256, weights.labels, weights.preprocessing) == (published.sha256, LABELS, PROTOCOL)
    assert all(getattr(weights, name) == value for name, value in TERMS.items())
    with acme(moves=weights):
        pinned = zoo.create(f"{NAME}.moves", endpoint=hub.url, cache_dir=tmp_path / "cache")
    assert all(torch.equal(t, pinned.state_dict()[key]) for key, t in model.state_dict().items())
    authorized = {r.headers.get("authorization") for r in hub._log}
    assert authorized == {None}


def test_the_token_goes_to_the_hub_and_not_to_where_large_files_are(hub, publish):
    publish(token="secret")
    told = [(r.storage, r.headers.get("authorization")) for r in hub._log]
    assert set(told) == {(False, "Bearer secret"), (True, None)}


def test_a_token_that_cannot_be_sent_is_refused_before_any_request(hub, publish):
    with pytest.raises(SpecError, match="the token is not one word"):
        publish(token="hf_secret\n")
    assert not hub.requests()


def test_training_goes_on_afterwards_as_if_nothing_had_been(publish):
    model = trained().double()
    before = {key: tensor.clone() for key, tensor in model.state_dict().items()}
    publish(model)
    assert model.training
    assert all(torch.equal(tensor, before[key]) for key, tensor in model.state_dict().items())


def test_34_in_python_too_the_plan_is_to_be_seen(hub, capsys):
    zoo.publish(trained(), REPO, endpoint=hub.url, dry_run=True, **TERMS)
    assert "new      model.safetensors" in capsys.readouterr().out


def test_34_a_dry_run_sends_nothing_and_says_what_would_be(hub, publish):
    told = []
    published = publish(dry_run=True, tag="v1", private=False, tell=told.append)
    assert not sent(hub)
    assert published.revision == ""
    (plan,) = told
    assert all(f"new      {name}" in plan for name in ON_SHELF)
    assert published.sha256 in plan
    assert "to be made" in plan
    assert "tag      v1" in plan
    assert "becomes public" in plan
    done = publish()
    before = len(sent(hub))
    assert publish(dry_run=True, tell=told.append) == done
    assert "nothing to upload" in told[-1]
    publish(trained(seed=1), dry_run=True, tell=told.append)
    assert "changed  model.safetensors" in told[-1]
    assert "stays    .gitattributes" in told[-1]
    assert len(sent(hub)) == before


def test_35_publishing_again_makes_no_commit_and_publishing_another_makes_one(hub, publish, tmp_path):
    first = publish(tag="v1")
    before = len(sent(hub))
    assert publish(tag="v1") == first
    assert sent(hub)[before:] == []
    model = trained(seed=1)
    second = publish(model, tag="v2")
    assert commits(hub) == 2
    assert second.revision != first.revision
    assert holds(hub, model, tmp_path / "cache")
    assert holds(hub, trained(), tmp_path / "cache", "v1")
    with pytest.raises(PublishError, match="tags do not move"):
        publish(trained(seed=2), tag="v1")
    with pytest.raises(PublishError, match="tags do not move"):
        publish(model, tag="v1")
    assert commits(hub) == 2
    hub.add(REPO, {"notes.txt": b"somebody's"})
    assert publish(model, tag="v2") == second, "main has moved, and the tag is still what it was"
    assert publish(tag="v1") == first
    assert commits(hub) == 3


@pytest.mark.parametrize("others", [{"config.json": b"{}"}, {"notes.txt": b"hello"}], ids=["ours", "another"])
def test_36_what_somebody_else_has_committed_meanwhile_is_not_overwritten(hub, publish, others):
    publish()

    def meanwhile(request, response):
        hub.add(REPO, others)
        return response

    hub.breaks(meanwhile, "POST", match="/preupload/", times=1)
    with pytest.raises(PublishError, match=r"somebody has changed main.*run the same again"):
        publish(trained(seed=1))
    assert commits(hub) == 2
    publish(trained(seed=1))
    assert commits(hub) == 3


def test_36_a_repository_that_appears_with_another_model_is_not_overwritten(hub, publish):
    def meanwhile(request, response):
        hub.add(REPO, {"config.json": b"{}"})
        return response

    hub.breaks(meanwhile, "POST", match="/repos/create", times=1)
    with pytest.raises(PublishError, match="made by somebody else"):
        publish()
    assert commits(hub) == 1


def test_39_secrets_extra_files_and_what_is_not_right_are_refused_before_any_request(hub, publish, tmp_path):
    diverged = trained()
    with torch.no_grad():
        diverged.fc.bias[0] = float("nan")
    rotten = trained()
    rotten.stem[1].running_var[0] = float("inf")  # no parameter, but as fatal
    tied = trained()
    tied.stem[1].bias = tied.stem[1].weight
    unlabelled, mislabelled, unprepared, twice, foreign = (trained() for _ in range(5))
    unlabelled.labels, mislabelled.labels, twice.labels = None, ("walk", "run"), ("walk", "run", "run")
    unprepared.preprocessing = None
    foreign.spec = None
    odd = trained()
    odd.register_forward_hook(lambda module, clip, logits: logits * 2)  # in no file
    wider = trained()
    wider.options = {}
    leaking = trained()
    leaking.labels = ("walk", "run", "hf_" + "a1B2" * 9)
    extra = written(tmp_path / "extra").files["config.json"].parent
    (extra / ".env").write_text("KEY=1")
    wrong = {
        "NaN": (diverged, {}, "fc.bias"),
        "infinite variance": (rotten, {}, "stem.1.running_var"),
        "tied": (tied, {}, "one tensor under two names"),
        "no labels": (unlabelled, {}, "3 logits and 0 labels"),
        "labels": (mislabelled, {}, "3 logits and 2 labels"),
        "a label twice": (twice, {}, "two labels are the same"),
        "no protocol": (unprepared, {}, "model.preprocessing"),
        "no spec": (foreign, {}, "not built by zoo"),
        "not in the file": (odd, {}, "says something else"),
        "other options": (wider, {}, "cannot be opened again|cannot be described"),
        "no licence": (None, {"license": ""}, "license="),
        "a licence nobody knows": (None, {"license": "mine"}, "'mine'"),
        "no data": (None, {"training_data": ""}, "training_data="),
        "a secret": (None, {"description": "my key is hf_" + "a1B2" * 9}, "secret"),
        "a service's key": (None, {"description": "sk-proj-" + "aB3" * 16}, "secret"),
        "Google's key": (None, {"description": "AIza" + "a1B2c" * 7}, "secret"),
        "GitLab's key": (None, {"description": "glpat-" + "a1B2c" * 4}, "secret"),
        "a password": (None, {"description": "from https://user:hunter2@example.org/d"}, "secret"),
        "a secret label": (leaking, {}, "secret"),
        "a private key": (None, {"training_data": "-----BEGIN RSA PRIVATE KEY-----"}, "secret"),
        "unprintable": (None, {"description": "a\x07"}, "cannot be described"),
        "not a metric": (None, {"metrics": [0.5]}, "cannot be described"),
        "a file too many": (extra, {}, r"\.env"),
        "a module": (torch.nn.Linear(1, 1), {}, "Linear"),
        "a tag": (None, {"tag": "main"}, "no name of a tag"),
    }
    for case, (model, options, words) in wrong.items():
        with pytest.raises(PublishError, match=words) as caught:
            publish(model, **options)
        assert len(str(caught.value)) < 1000, case
    for repo in ("tiny", "acme/../x", "acme/tiny@main", "/tmp/x"):
        with pytest.raises(SpecError):
            publish(repo=repo)
    with pytest.raises(UnknownModel):
        publish("acme/nothing")
    assert hub.requests() == []


def test_39_an_architecture_of_this_process_only_is_refused(hub, publish):
    zoo.register(zoo.ModelSpec(name="tiny", builder="models:tiny", preprocessing=PROTOCOL))
    with pytest.raises(PublishError, match="zoo new"):
        publish(zoo.create("local/tiny"))
    assert hub.requests() == []


def test_40_the_readme_is_the_card(hub, publish, plugin):
    published = publish()
    tree = hub._store.repositories[REPO].commits[published.revision]
    weights = eval(published.stanza, {"zoo": zoo})
    assert tree["README.md"].data == cards.card(plugin, weights, repo=REPO).encode()
    assert tree["README.md"].data.startswith(b"---\nlicense: cc-by-4.0\n")


def test_42_files_can_be_read_by_others_and_hold_no_other_metadata(tmp_path):
    before = os.umask(0o077)
    try:
        folder = written(tmp_path / "model")
    finally:
        os.umask(before)
    for path in folder.files.values():
        assert stat.S_IMODE(path.stat().st_mode) == 0o644
    data = folder.files["model.safetensors"].read_bytes()
    header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
    assert header["__metadata__"] == {"format": "pt"}


def test_a_registered_name_brings_its_own_terms(hub, publish, tmp_path):
    folder = written(tmp_path / "wheel")
    weights = replace(folder.weights, source=str(folder.files["model.safetensors"]), url="https://example.org")
    with acme(moves=weights):
        for name in (f"{NAME}.moves", NAME):
            published = zoo.publish(name, REPO, endpoint=hub.url, tell=quietly)
            found = eval(published.stanza, {"zoo": zoo})
            assert found == replace(weights, source=found.source)
        assert commits(hub) == 1
        tuned = zoo.create(f"{NAME}.moves")
        assert zoo.publish(tuned, REPO, endpoint=hub.url, tell=quietly) == published
        with torch.no_grad():
            tuned.fc.bias.add_(1)
        with pytest.raises(PublishError, match="no license"):  # what was said of others is not said of these
            zoo.publish(tuned, REPO, endpoint=hub.url)
    with pytest.raises(LookupError, match="default weights"):
        publish(NAME)


@pytest.mark.parametrize("as_what", [Path, str, "local-dir:{}".format])
def test_a_folder_is_published_as_it_is_with_a_new_card(hub, publish, tmp_path, as_what):
    files = written(tmp_path / "model", trained().half()).files
    folder = files["README.md"].parent
    files["README.md"].write_text("an old one")
    (folder / ".gitattributes").write_text("")
    published = zoo.publish(as_what(folder), REPO, endpoint=hub.url, tell=quietly)
    tree = hub._store.repositories[REPO].commits[published.revision]
    for name in ("config.json", "model.safetensors"):
        assert tree[name].data == files[name].read_bytes()
    assert b"an old one" not in tree["README.md"].data


def test_the_file_of_a_folder_is_written_anew_without_what_does_not_belong(hub, tmp_path):
    files = written(tmp_path / "model").files
    config = json.loads(files["config.json"].read_text())
    save_file(load_file(files["model.safetensors"]), files["model.safetensors"], {"format": "pt", "key": "secret"})
    data = files["model.safetensors"].read_bytes()
    with pytest.raises(WeightsCorrupt):
        zoo.publish(files["config.json"].parent, REPO, endpoint=hub.url)
    config["weights"] |= {"sha256": sha256(data).hexdigest(), "size": len(data)}
    files["config.json"].write_text(json.dumps(config))
    published = zoo.publish(files["config.json"].parent, REPO, endpoint=hub.url, tell=quietly)
    assert b"secret" not in hub._store.repositories[REPO].commits[published.revision]["model.safetensors"].data


def test_visibility_is_never_widened_by_accident(hub, publish):
    publish()
    assert hub._store.repositories[REPO].private
    publish(private=False)
    assert not hub._store.repositories[REPO].private
    before = len(sent(hub))
    with pytest.raises(PublishError, match="is public"):
        publish(trained(seed=1))
    assert len(sent(hub)) == before
    publish(trained(seed=1), private=False)
    assert commits(hub) == 2
    publish(repo="acme/open", private=False)
    order = [r for r in sent(hub) if "open" in r or "create" in r]
    assert order[-1].endswith("/settings"), "public only when all has arrived"
    assert not hub._store.repositories["acme/open"].private


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        (status(401, "", "Invalid credentials"), "hf auth login"),
        (status(403, "", "Forbidden: you need write access"), "hf auth login"),
        (status(400, "", "Repository name is reserved"), "Repository name is reserved"),
        (status(500), "answers 500.*run the same again"),
    ],
)
def test_what_the_hub_refuses_is_one_error_with_the_next_step(hub, publish, fault, words):
    hub.breaks(fault, "POST", match="/repos/create")
    with pytest.raises(PublishError, match=words) as caught:
        publish()
    assert REPO in str(caught.value)
    hub.heals()
    publish()
    assert commits(hub) == 1


def test_no_network_is_one_error(publish, monkeypatch):
    with pytest.raises(PublishError, match="cannot be reached"):
        publish(endpoint="http://127.0.0.1:9")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(PublishError, match="HF_HUB_OFFLINE"):
        publish()


def test_large_weights_are_compared_by_digest_and_header(hub, publish, monkeypatch, tmp_path):
    monkeypatch.setattr("zoo.publishing.arrival.SMALL", 1000)
    published = publish()
    whole = f"GET /{REPO}/{published.revision}/model.safetensors"
    (request,) = (r for r in hub._log if f"{r.method} {r.path}" == whole)
    assert request.headers["range"] == "bytes=0-100000"
    hub.breaks(headers(X_Linked_Etag="0" * 64), "HEAD", times=1)
    with pytest.raises(PublishError, match=r"the Hub has .* bytes with digest 000"):
        publish()
    other = written(tmp_path / "other", trained(width=7)).files["model.safetensors"].read_bytes()
    hub.breaks(body(other), "GET", match="/model.safetensors")
    with pytest.raises(PublishError, match="another header"):
        publish()


def test_a_stanza_is_python_for_any_weights():
    weights = zoo.Weights(
        source="hf://acme/tiny/model.safetensors@" + "1" * 40,
        labels=tuple(f'a "label" {i} \\ é\n' for i in range(400)),
        kwargs={"depth": (1, 2), "nested": {"a": None, "b": True}, "rate": 0.1, "one": (1,)},
        preprocessing=zoo.Preprocessing(num_frames=4, mean=(0.1, 0.2, 0.3)),
        metrics=[zoo.Metric(name="top1", value=v, dataset="d" * 80, origin="measured", by="b" * 80) for v in (1, 2.5)],
    )
    text = as_python(weights)
    assert eval(text, {"zoo": zoo}) == weights
    assert max(map(len, text.splitlines())) < 130
    assert len(text.splitlines()) < 140
    assert as_python(zoo.Weights(source="a", num_classes=3)) == 'zoo.Weights(source="a", num_classes=3)'


def test_the_command_prints_the_plan_and_the_stanza(hub, publish, tmp_path):
    folder = str(written(tmp_path / "model").files["config.json"].parent)

    def run(*arguments, code=0):
        result = CliRunner().invoke(commands, ["publish", folder, "--repo", REPO, "--endpoint", hub.url, *arguments])
        assert result.exit_code == code, result.output
        return result

    dry = run("--dry-run")
    assert "new      config.json" in dry.stderr
    assert dry.stdout == ""
    assert not sent(hub)
    done = run("--tag", "v1", "--public", "--description", "Other words.")
    assert eval(done.stdout, {"zoo": zoo}).description == "Other words."
    assert not hub._store.repositories[REPO].private
    assert "is public" in run(code=2).stderr


def test_what_cannot_be_loaded_is_not_published(tmp_path, hub):
    files = written(tmp_path / "model").files
    config = json.loads(files["config.json"].read_text())
    files["config.json"].write_text(json.dumps({**config, "kwargs": {"width": 5}}))
    with pytest.raises(WeightsMismatch):
        zoo.publish(files["config.json"].parent, REPO, endpoint=hub.url)
    assert hub.requests() == []
