"""Write `zoo_timm/index.json` from the installed timm, and say which of its architectures are no video models, and why.

    python tools/timm_index.py [--check] [--only PATTERN] [--at-least 98]    takes most of an hour on one core
    python tools/timm_index.py --pin [--endpoint URL]                        asks the Hub what is not pinned yet

Every architecture is built as a video model on the meta device, without its weights, and run on a clip of two frames.
`--check` writes nothing; with `--only` the other rows stay as they are. What is pinned stays pinned: commit, sha256 and
size of a file, from one HEAD request each.
"""

from __future__ import annotations

import argparse
import json
import sys
import warnings
from collections import Counter
from typing import Any

from zoo_timm import images, index, survey


def survey_all(pattern: str, configs: list[Any]) -> tuple[dict[str, list[Any]], dict[str, str]]:
    """Rows, and the reasons of those that do not build. New configs that rows refer to are added to `configs`."""
    rows: dict[str, list[Any]] = {}
    reasons: dict[str, str] = {}
    for arch in images.library().list_models(pattern):
        try:
            found = survey.surveyed(arch)
            assert found is not None
        except Exception as error:  # a report of what fails, whatever it is
            reasons[arch] = f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
            print(f"{arch}: {reasons[arch]}", file=sys.stderr, flush=True)
            continue
        row, own = found
        numbers = [survey.number_of(json.loads(json.dumps(config)), configs) for config in own]
        *facts, _, weights = row
        tags = {t: numbers[w] if isinstance(w, int) else [numbers[w[0]], w[1]] for t, w in weights.items()}
        rows[arch] = [*facts, numbers[0], tags]
    return rows, reasons


def pin(pins: dict[str, Any], endpoint: str | None) -> int:
    """Ask the Hub for what is not pinned; gives how many could not be asked for."""
    from pin import look_up

    failed = 0
    for arch in index.read()["architectures"]:
        spec = index.resolve(arch)
        for tag, weights in spec.weights.items():
            if not weights.pinned:
                try:
                    pins[f"{arch}.{tag}"] = list(look_up(weights.source, endpoint))
                except Exception as problem:  # a repository that is gone must not lose the others
                    failed += 1
                    print(f"{arch}.{tag}: {type(problem).__name__}: {str(problem).splitlines()[0]}", file=sys.stderr)
    return failed


def written(found: dict[str, Any]) -> str:
    """The file: JSON with one fact per line."""
    parts = [f'"timm": {json.dumps(found["timm"])}']
    for key, (start, end) in {"configs": "[]", "architectures": "{}", "pins": "{}"}.items():
        items = found[key]
        if isinstance(items, dict):
            lines = [f"{json.dumps(name)}:{json.dumps(items[name], separators=(',', ':'))}" for name in sorted(items)]
        else:
            lines = [json.dumps(item, separators=(",", ":")) for item in items]
        parts.append(f'"{key}": {start}\n' + ",\n".join(lines) + f"\n{end}")
    return "{\n" + ",\n".join(parts) + "\n}\n"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="write nothing")
    parser.add_argument("--only", default="*", help="architectures that match this pattern")
    parser.add_argument("--at-least", type=float, default=98, help="percent that have to build")
    parser.add_argument("--pin", action="store_true", help="ask the Hub for commits, digests and sizes")
    parser.add_argument("--endpoint", help="another Hub")
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    known = index.read() if index.FILE.is_file() else {"configs": [], "architectures": {}, "pins": {}}
    kept = known if options.only != "*" else {"configs": [], "architectures": {}}
    configs, pins = list(kept["configs"]), dict(known["pins"])
    if options.pin:
        failed = pin(pins, options.endpoint)
        index.FILE.write_text(written({**known, "pins": pins}))
        return 1 if failed else 0
    rows, reasons = survey_all(options.only, configs)
    tags = [tag for row in rows.values() for tag in row[5].items()]
    if not options.check:
        found = {"timm": images.library().__version__, "configs": configs, "pins": pins}
        found["architectures"] = {**kept["architectures"], **rows}
        index.FILE.write_text(written(found))
    share = 100 * len(rows) / max(1, len(rows) + len(reasons))
    sizes = Counter("fixed" if configs[row[4]][0] else f"from {row[2]} in steps of {row[3]}" for row in rows.values())
    print(
        f"timm {images.library().__version__}: {len(rows)} of {len(rows) + len(reasons)} ({share:.1f} %) build and run"
    )
    print(f"{len(tags)} weights on the Hub, {len(pins)} of them pinned; sides of frames: {dict(sizes.most_common())}")
    for arch, reason in sorted(reasons.items()):
        print(f"not {arch}: {reason}")
    return 0 if share >= options.at_least else 1


if __name__ == "__main__":
    sys.exit(main())
