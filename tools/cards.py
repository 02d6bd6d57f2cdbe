"""The cards of our own weights, in cards/, and what they cost, in cards/costs.json.

python tools/cards.py            write them, counting what has not been counted yet
python tools/cards.py --recount  count everything again
python tools/cards.py --check    say whether they are what they would be, all counted again; exit with 1 if not
"""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from pathlib import Path

import zoo
from zoo import registry
from zoo.cards import card
from zoo.cost import Cost, clip_of, cost_of

CARDS = Path(__file__).parent.parent / "cards"
COSTS = "costs.json"


def names() -> list[str]:
    """Our own weights."""
    return [name for name in zoo.list_models(pretrained=True) if "/" not in name]


def stored() -> dict[str, Cost]:
    """What was counted before."""
    path = CARDS / COSTS
    counted = json.loads(path.read_text()) if path.is_file() else {}
    return {name: Cost(**{**cost, "clip": tuple(cost["clip"])}) for name, cost in counted.items()}


def generated(known: dict[str, Cost]) -> dict[str, str]:
    """File -> text, of every card and of the costs; those that are not known are counted."""
    files, costs = {}, {}
    for name in names():
        spec, weights = registry.default.find(name)
        cost = known.get(name)
        if cost is None or cost.clip != clip_of(spec, weights):
            cost = cost_of(spec, weights)
        costs[name] = cost
        files[f"{name}.md"] = card(spec, weights, cost=cost)
    lines = (f"{json.dumps(name)}: {json.dumps(asdict(cost))}" for name, cost in sorted(costs.items()))
    return {**files, COSTS: "{\n" + ",\n".join(lines) + "\n}\n"}


def main() -> None:
    options = sys.argv[1:]
    new = generated({} if options else stored())
    old = {path.name: path.read_text() for path in CARDS.glob("*")}
    changed = sorted(name for name in new.keys() | old.keys() if new.get(name) != old.get(name))
    if options == ["--check"]:
        if changed:
            sys.exit(f"out of date: {', '.join(changed)}; run python tools/cards.py")
        return
    CARDS.mkdir(exist_ok=True)
    for name in changed:
        if name in new:
            (CARDS / name).write_text(new[name])
        else:
            (CARDS / name).unlink()


if __name__ == "__main__":
    main()
