"""How long the generated tests run: the same examples every time in `make test`, fresh ones in `make nightly`."""

from __future__ import annotations

from hypothesis import HealthCheck, Phase, settings

QUICK = settings(
    max_examples=50,
    derandomize=True,
    deadline=None,
    database=None,
    print_blob=False,
    phases=[Phase.explicit, Phase.generate, Phase.shrink],
    suppress_health_check=list(HealthCheck),
)
NIGHTLY = settings(QUICK, max_examples=65, derandomize=False)
