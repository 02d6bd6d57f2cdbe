"""A plugin whose every text wants to be markup: what pages are made of must stay text."""

from __future__ import annotations

import zoo

EVIL = "<script>alert(1)</script>\"'><img src=x onerror=alert(2)></script><!-- --> [x](javascript:alert(3)) `|`"
ADDRESS = "javascript:alert(4)"


def spec(name: str = "evil", **fields) -> zoo.ModelSpec:
    """A model that cannot even be built, with hostile texts wherever a plugin writes one."""
    metric = zoo.Metric(
        name="top1", value=50.0, dataset=EVIL, split=EVIL, origin="published", by=EVIL, views=EVIL, url=ADDRESS
    )
    weights = zoo.Weights(
        source=f"weights/{EVIL}.safetensors",
        labels=(EVIL, f"</style>{EVIL}"),
        license=EVIL,
        training_data=EVIL,
        description=EVIL,
        url=ADDRESS,
        metrics=(metric,),
    )
    texts = {"family": EVIL, "task": EVIL, "description": EVIL, "license": EVIL, "paper": ADDRESS}
    return zoo.ModelSpec(name=name, builder="zoo_nowhere:build", weights={"t": weights}, **{**texts, **fields})
