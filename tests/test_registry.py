"""The door: every row of the isolation table, namespaces, selection, threads, notebooks."""

from __future__ import annotations

import sys
import threading
import warnings

import pytest
from conftest import GOOD

import zoo
from zoo import discovery
from zoo.errors import PluginError, SpecError, UnknownModel
from zoo.registry import PluginWarning, Registry

BROKEN = {
    "missing import": ("import not_installed_thing", "ModuleNotFoundError"),
    "exits": ("raise SystemExit(3)", "SystemExit"),
    "wrong signature": ("import zoo\n@zoo.hookimpl\ndef zoo_models(registry): ...", "PluginValidationError"),
    "half a plugin": (
        "import zoo\n@zoo.hookimpl\ndef zoo_models():\n"
        "  yield zoo.ModelSpec(name='good', builder='x:y')\n"
        "  yield zoo.ModelSpec(name='bad', bulider='x:y')\n"
        "  yield zoo.ModelSpec(name='also_good', builder='x:y')",
        "newer zoo",
    ),
    "not a spec": (
        "import zoo\n@zoo.hookimpl\ndef zoo_models(): return ['r3d_18']",
        "'r3d_18', which is not a ModelSpec",
    ),
    "illegal model name": (GOOD.format("R3D-18"), "lower case"),
    "one name twice": (
        "import zoo\n@zoo.hookimpl\ndef zoo_models(): return [zoo.ModelSpec(name='a', builder='x:y')] * 2",
        "two models are called 'a'",
    ),
}


@pytest.mark.parametrize(("code", "message"), BROKEN.values(), ids=BROKEN)
def test_a_broken_plugin_is_a_record_and_disturbs_nobody(site, monkeypatch, code, message):
    site("zoo-bad", {"bad": "bad_plugin"}, bad_plugin=code)
    site("zoo-acme", {"acme": "acme_plugin"}, acme_plugin=GOOD.format("x3d_s"))
    registry = Registry()
    with pytest.warns(PluginWarning, match=message) as caught:
        assert registry.list_models() == ["acme/x3d_s", "r3d_18"]
    assert len(caught) == 1
    assert caught[0].filename == __file__, "the warning points at the user's line"
    bad = registry.plugin("bad")
    assert bad.status == "failed"
    assert bad.n_models == 0
    assert "Traceback" in bad.error
    assert registry.info("acme/x3d_s").plugin == "acme"
    with pytest.raises(UnknownModel, match="plugin 'bad' is switched off"):
        registry.info("bad/good")
    monkeypatch.setenv("ZOO_STRICT", "1")
    with pytest.raises(PluginError, match=r"'bad' \(zoo-bad 1\.0\)"):
        Registry().list_models()


def test_33_seven_broken_plugins_at_once_leave_the_others_working(site):
    for i, (code, _) in enumerate(BROKEN.values()):
        site(f"zoo-bad{i}", {f"bad{i}": f"bad_plugin{i}"}, **{f"bad_plugin{i}": code})
    site("zoo-acme", {"acme": "acme_plugin"}, acme_plugin=GOOD.format("x3d_s"))
    registry = Registry()
    with pytest.warns(PluginWarning) as caught:
        assert registry.list_models() == ["acme/x3d_s", "r3d_18"]
    assert len(caught) == len(BROKEN) == 7
    assert [r.status for r in registry.plugins()] == ["ok"] + ["failed"] * 7 + ["ok"]


def test_metadata_is_read_once_for_all_plugins_of_a_distribution(site, monkeypatch):
    from importlib.metadata import PathDistribution

    site("zoo-acme", {name: f"{name}_plugin" for name in ("one", "two", "three")})
    read = []
    original = PathDistribution.metadata.fget
    monkeypatch.setattr(PathDistribution, "metadata", property(lambda self: read.append(self) or original(self)))
    found, _ = discovery.discover()
    assert [found[name].origin for name in ("one", "two", "three")] == ["zoo-acme 1.0"] * 3
    assert len([each for each in read if original(each)["Name"] == "zoo-acme"]) == 1


def test_an_illegal_plugin_name_is_a_failed_record(site):
    site("zoo-bad", {"Bad-Name": "bad_plugin"}, bad_plugin=GOOD.format("a"))
    with pytest.warns(PluginWarning, match="'Bad-Name'"):
        assert Registry().list_models() == ["r3d_18"]


def test_a_keyboard_interrupt_is_not_swallowed(site):
    site("zoo-bad", {"bad": "bad_plugin"}, bad_plugin="raise KeyboardInterrupt")
    with pytest.raises(KeyboardInterrupt):
        Registry().list_models()


def test_under_warnings_as_errors_the_second_question_works(site):
    site("zoo-bad", {"bad": "bad_plugin"}, bad_plugin="1/0")
    registry = Registry()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(PluginWarning):
            registry.list_models()
        assert registry.list_models() == ["r3d_18"]


def test_an_eager_plugin_works_and_is_noted(site, monkeypatch):
    monkeypatch.delitem(sys.modules, "torch", raising=False)
    code = "import sys, types\nsys.modules['torch'] = types.ModuleType('torch')\n" + GOOD.format("x3d_s")
    site("zoo-acme", {"acme": "acme_plugin"}, acme_plugin=code)
    try:
        record = Registry().plugin("acme")
    finally:
        sys.modules.pop("torch", None)
    assert record.status == "ok"
    assert "imports torch on discovery" in record.notes[0]


def test_a_hook_we_do_not_know_is_a_note(site):
    code = GOOD.format("x3d_s") + "\n@zoo.hookimpl\ndef zoo_future(x): ..."
    site("zoo-acme", {"acme": "acme_plugin"}, acme_plugin=code)
    record = Registry().plugin("acme")
    assert record.status == "ok"
    assert record.notes == ["implements 'zoo_future', which this zoo does not know"]


def test_a_plugin_without_models_is_noted(site):
    site("zoo-acme", {"acme": "acme_plugin"}, acme_plugin="import zoo\n@zoo.hookimpl\ndef zoo_models(): return None")
    assert Registry().plugin("acme").notes == ["describes no models"]


def test_33_whoever_takes_our_plugin_name_is_named_and_ignored(site):
    site("aaa-squatter", {"cnn": "squatter"}, squatter=GOOD.format("evil"))
    registry = Registry()
    with pytest.warns(PluginWarning, match=r"Video_Zoo 1\.0 keeps it, aaa-squatter 1\.0 is ignored"):
        assert registry.list_models() == ["r3d_18"]
    assert registry.plugin("cnn").notes == ["aaa-squatter 1.0 wants this name too"]


def test_a_bare_name_is_ours_and_wakes_no_third_party(site):
    site("zoo-acme", {"acme": "acme_plugin"}, acme_plugin=GOOD.format("r3d_18"))
    registry = Registry()
    assert registry.info("r3d_18").plugin == "cnn"
    assert "acme_plugin" not in sys.modules
    assert registry.info("acme/r3d_18").full_name == "acme/r3d_18"
    assert registry.list_models() == ["acme/r3d_18", "r3d_18"]


def test_a_builder_whose_dependency_is_missing_names_the_pip_line(site):
    code = GOOD.replace("nowhere:build", "acme_model:build").format("x3d_s")
    site("zoo-acme", {"acme": "acme_plugin"}, acme_plugin=code, acme_model="import not_installed_thing")
    with zoo.testing.isolated() as registry:
        registry._discover = True
        assert zoo.list_models("acme/*") == ["acme/x3d_s"]
        with pytest.raises(ImportError, match="pip install not_installed_thing"):
            zoo.build("acme/x3d_s")


@pytest.mark.parametrize(
    ("selection", "names"),
    [
        ("cnn", ["r3d_18"]),
        ("-cnn", ["acme/x3d_s"]),
        ("", []),
        ("cnn,-cnn", []),
        (" acme , cnn ", ["acme/x3d_s", "r3d_18"]),
    ],
)
def test_zoo_plugins_selects_before_import(site, monkeypatch, selection, names):
    site("zoo-acme", {"acme": "acme_plugin"}, acme_plugin=GOOD.format("x3d_s"))
    monkeypatch.setenv("ZOO_PLUGINS", selection)
    assert Registry().list_models() == names
    assert ("acme_plugin" in sys.modules) == ("acme/x3d_s" in names)


def test_33_a_plugin_that_hangs_is_switched_off_before_it_is_imported(site, monkeypatch):
    # Within one process nothing can end it; what zoo does is not to start it.
    site("zoo-bad", {"bad": "hanging_plugin"}, hanging_plugin="while True: pass")
    site("zoo-acme", {"acme": "acme_plugin"}, acme_plugin=GOOD.format("x3d_s"))
    monkeypatch.setenv("ZOO_PLUGINS", "-bad")
    assert Registry().list_models() == ["acme/x3d_s", "r3d_18"]


def test_zoo_plugins_with_an_unknown_name_warns(site, monkeypatch):
    monkeypatch.setenv("ZOO_PLUGINS", "cnn,typo")
    with pytest.warns(PluginWarning, match="'typo', which is not installed"):
        assert Registry().list_models() == ["r3d_18"]


def test_did_you_mean(site):
    site("zoo-acme", {"acme": "acme_plugin"}, acme_plugin=GOOD.format("x3d_s"))
    with pytest.raises(UnknownModel, match=r"did you mean r3d_18\?"):
        Registry().info("r3d_81")
    with pytest.raises(UnknownModel, match=r"did you mean acme/x3d_s\?"):
        Registry().info("x3d_s")
    with pytest.raises(LookupError, match="zoo list"):
        Registry().info("nothing_like_it_at_all")


def test_a_checkout_that_is_not_installed_says_so(tmp_path, monkeypatch, clean_environment):
    monkeypatch.setattr("importlib.metadata.entry_points", lambda **_: ())
    with pytest.raises(UnknownModel, match=r"pip install -e \."):
        Registry().info("r3d_18")


def test_a_wrong_tag_lists_the_tags():
    with zoo.testing.isolated():
        weights = {"k400": zoo.Weights(source="a.safetensors"), "ssv2": zoo.Weights(source="b.safetensors")}
        zoo.register(zoo.ModelSpec(name="a", builder="x:y", weights=weights, default_tag="k400"))
        assert zoo.list_models() == ["local/a", "local/a.k400", "local/a.ssv2"]
        assert zoo.list_models(pretrained=True) == ["local/a.k400", "local/a.ssv2"]
        assert zoo.list_models(pretrained=False) == ["local/a"]
        with pytest.raises(UnknownModel, match=r"there are local/a\.k400, local/a\.ssv2"):
            zoo.info("local/a.k600")


def test_filters_combine():
    with zoo.testing.isolated():
        weights = {"t": zoo.Weights(source="a.safetensors", license="CC-BY-4.0")}
        zoo.register(zoo.ModelSpec(name="a", builder="x:y", family="cnn", license="MIT", weights=weights))
        zoo.register(zoo.ModelSpec(name="b", builder="x:y", family="rnn", task="next_frame", streaming=True))
        assert zoo.list_models(family="cnn", pretrained=False) == ["local/a"]
        assert zoo.list_models(task="next_frame") == ["local/b"]
        assert zoo.list_models(license="mit") == ["local/a"]
        assert zoo.list_models(license="cc-by-4.0") == ["local/a.t"]
        assert zoo.list_models(streaming=True) == ["local/b"]
        assert zoo.list_models("*/a*", plugin="local", streaming=False) == ["local/a", "local/a.t"]
        assert zoo.list_models(plugin="nobody") == []


def test_refresh_sees_what_was_installed_meanwhile(site):
    registry = Registry()
    assert registry.list_models() == ["r3d_18"]
    site("zoo-acme", {"acme": "acme_plugin"}, acme_plugin=GOOD.format("x3d_s"))
    assert registry.list_models() == ["r3d_18"]
    registry.register(zoo.ModelSpec(name="mine", builder="x:y"))
    registry.plugins(refresh=True)
    assert registry.list_models() == ["acme/x3d_s", "local/mine", "r3d_18"]


def test_in_a_notebook_the_newest_definition_wins():
    with zoo.testing.isolated() as registry:
        for classes in (10, 20):

            @zoo.model("tiny", num_classes=classes)
            def tiny(num_classes=1): ...

        assert zoo.list_models() == ["local/tiny"]
        assert zoo.info("local/tiny").num_classes == 20
        registry.register(zoo.ModelSpec(name="a", builder="x:y"), name="mine")
        with pytest.raises(PluginError, match="taken"):
            registry.register(zoo.ModelSpec(name="a", builder="x:y"), name="mine")


def test_a_namespace_makes_specs_for_concrete_names(site):
    code = """
import zoo

@zoo.hookimpl
def zoo_models():
    return [zoo.ModelSpec(name="*", resolver="acme_resolver:resolve"), zoo.ModelSpec(name="fixed", builder="x:y")]
"""
    resolver = """
import zoo

def resolve(name):
    if name == "boom":
        raise RuntimeError("kaputt")
    return zoo.ModelSpec(name=name, builder="x:y") if name.startswith("net") else None
"""
    site("zoo-acme", {"acme": "acme_plugin"}, acme_plugin=code, acme_resolver=resolver)
    registry = Registry()
    assert registry.info("acme/net50").full_name == "acme/net50"
    assert registry.list_models() == ["acme/fixed", "r3d_18"]
    with pytest.raises(UnknownModel):
        registry.info("acme/other")
    with pytest.raises(PluginError, match="kaputt"):
        registry.info("acme/boom")


def test_sixteen_threads_get_one_answer_and_one_warning(site):
    site("zoo-bad", {"bad": "bad_plugin"}, bad_plugin="1/0")
    registry, answers, barrier = Registry(), [], threading.Barrier(16)

    def ask():
        barrier.wait()
        answers.append(tuple(registry.list_models()))

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        with pytest.warns(PluginWarning) as caught:
            threads = [threading.Thread(target=ask, daemon=True) for _ in range(16)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join(30)
    finally:
        sys.setswitchinterval(interval)
    assert answers == [("r3d_18",)] * 16
    assert len(caught) == 1


def test_a_module_that_asks_the_zoo_while_it_is_imported_does_not_deadlock(site):
    slow = "import time, zoo.registry\ntime.sleep(0.3)\nzoo.registry.probed.list_models()\n"
    acme = GOOD.format("x3d_s").replace("def zoo_models():", "def zoo_models():\n    import slow_module")
    site("zoo-acme", {"acme": "acme_plugin"}, acme_plugin=acme, slow_module=slow)
    import zoo.registry as module

    module.probed = Registry()
    threads = [
        threading.Thread(target=__import__, args=("slow_module",), daemon=True),
        threading.Thread(target=module.probed.list_models, daemon=True),
    ]
    try:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(10)
        assert not any(thread.is_alive() for thread in threads)
        assert module.probed.list_models() == ["acme/x3d_s", "r3d_18"]
    finally:
        del module.probed


def test_a_bad_plugin_name_for_register_raises():
    with zoo.testing.isolated(), pytest.raises(SpecError, match="lower case"):
        zoo.register(zoo.ModelSpec(name="a", builder="x:y"), name="My Plugin")


def test_a_plugin_that_asks_the_zoo_while_it_is_loaded_keeps_its_models(site):
    site("zoo-acme", {"acme": "acme_plugin"}, acme_plugin=GOOD.format("x3d_s").replace("import zoo", ASKS))
    registry = Registry()
    sys.modules["zoo.registry"].probed = registry
    try:
        assert registry.list_models() == ["acme/x3d_s", "r3d_18"]
        assert registry.plugin("acme").notes == []
    finally:
        del sys.modules["zoo.registry"].probed


ASKS = "import zoo, zoo.registry\nassert 'acme/x3d_s' not in zoo.registry.probed.list_models()"

EVIL = {
    "its text raises": ("class Evil(Exception):\n  def __str__(self): raise RuntimeError\nraise Evil", "Evil"),
    "is cancelled": ("import asyncio\nraise asyncio.CancelledError", "CancelledError"),
    "a group": ("raise ExceptionGroup('several', [ValueError('a')])", "ExceptionGroup: several"),
    "a note": ("error = ValueError('the reason')\nerror.add_note('a note')\nraise error", "ValueError: the reason"),
}


@pytest.mark.parametrize(("code", "message"), EVIL.values(), ids=EVIL)
def test_33_odd_exceptions_are_isolated_too(site, code, message):
    site("zoo-bad", {"bad": "bad_plugin"}, bad_plugin=code)
    registry = Registry()
    with pytest.warns(PluginWarning, match=message):
        assert registry.list_models() == ["r3d_18"]
    with pytest.raises(UnknownModel, match=message):
        registry.info("bad/x")


def test_a_forgotten_hookimpl_is_named(site):
    code = GOOD.format("x3d_s").replace("@zoo.hookimpl", "")
    site("zoo-acme", {"acme": "acme_plugin"}, acme_plugin=code)
    assert "@zoo.hookimpl" in Registry().plugin("acme").notes[0]
    with zoo.testing.isolated(), pytest.raises(PluginError, match=r"describes no models.*@zoo\.hookimpl"):
        zoo.register(sys.modules["acme_plugin"])


WRONG_FIELDS = ("params='33M'", "description=5", "family=['x']", "license=None", "task=None", "streaming='no'")


@pytest.mark.parametrize("field", WRONG_FIELDS)
def test_a_spec_with_a_field_of_the_wrong_type_is_a_failed_plugin(site, field):
    code = GOOD.format("x3d_s").replace("builder=", f"{field}, builder=")
    site("zoo-bad", {"bad": "bad_plugin"}, bad_plugin=code)
    with pytest.warns(PluginWarning, match=field.partition("=")[0]):
        assert Registry().list_models(license="mit") == []
