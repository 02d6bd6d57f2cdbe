"""Asking costs nothing: the core imports no framework before a model or a video is wanted."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

HEAVY = ("torch", "torchvision", "timm", "av", "huggingface_hub", "numpy", "PIL")

QUESTIONS = {
    "import": "import zoo",
    "list_models": "import zoo; assert zoo.list_models()",
    "info": "import zoo; zoo.info('r3d_18').to_dict()",
    "plugins": "import zoo; assert all(p.status == 'ok' for p in zoo.plugins())",
    "an unknown model": "import zoo\ntry: zoo.info('r3d_81')\nexcept LookupError: pass",
    "dir": "import zoo; dir(zoo)",
    "samplers": "from zoo.video import sampling; sampling.uniform(10, 4)",
    "--help": "from zoo.cli import commands; commands(['--help'], standalone_mode=False)",
    "list": "from zoo.cli import commands; commands(['list'], standalone_mode=False)",
    "info NAME": "from zoo.cli import commands; commands(['info', 'r3d_18'], standalone_mode=False)",
    "card --help": "from zoo.cli import commands; commands(['card', '--help'], standalone_mode=False)",
    "plugins command": "from zoo.cli import commands; commands(['plugins'], standalone_mode=False)",
    "download --help": "from zoo.cli import commands; commands(['download', '--help'], standalone_mode=False)",
    "publish --help": "from zoo.cli import commands; commands(['publish', '--help'], standalone_mode=False)",
    "doctor --help": "from zoo.cli import commands; commands(['doctor', '--help'], standalone_mode=False)",
    "completion": "from zoo.cli import commands; commands(['completion', 'bash'], standalone_mode=False)",
    "train --help": "from zoo.cli import commands; commands(['train', '--help'], standalone_mode=False)",
    "evaluate --help": "from zoo.cli import commands; commands(['evaluate', '--help'], standalone_mode=False)",
    "batch --help": "from zoo.cli import commands; commands(['batch', '--help'], standalone_mode=False)",
    "gallery --help": "from zoo.cli import commands; commands(['gallery', 'build', '--help'], standalone_mode=False)",
    "export --help": "from zoo.cli import commands; commands(['export', '--help'], standalone_mode=False)",
    "bench --help": "from zoo.cli import commands; commands(['bench', '--help'], standalone_mode=False)",
    "predict --help": "from zoo.cli import commands; commands(['predict', '--help'], standalone_mode=False)",
}


@pytest.mark.parametrize("question", QUESTIONS.values(), ids=QUESTIONS)
def test_a_question_imports_nothing_heavy(question):
    code = f"import sys\n{question}\nprint('HEAVY', *sorted(set({HEAVY}) & set(sys.modules)))"
    environment = {k: v for k, v in os.environ.items() if k not in ("ZOO_PLUGINS", "ZOO_STRICT")}
    environment["PYTHONPATH"] = os.pathsep.join(sys.path)
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1].strip() == "HEAVY"


def test_every_public_name_exists_and_is_sorted():
    import zoo

    assert sorted(zoo.__all__) == zoo.__all__
    for name in zoo.__all__:
        assert getattr(zoo, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        zoo.nothing  # noqa: B018


def test_the_types_are_shipped():
    import zoo

    assert (Path(zoo.__file__).parent / "py.typed").is_file()
