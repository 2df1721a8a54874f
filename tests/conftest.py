"""Hypothesis profiles: `quick` (default), `ci` and `thorough`; choose with --hypothesis-profile=NAME.

`mutants` is `quick` without a search for the simplest failure: whoever only asks whether a test fails need not wait.
"""

from hypothesis import HealthCheck, Phase, settings

for name, examples in (("quick", 25), ("ci", 100), ("thorough", 1000)):
    settings.register_profile(
        name,
        max_examples=examples,
        deadline=None,
        derandomize=True,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
    )
settings.register_profile(
    "mutants",
    settings.get_profile("quick"),
    phases=[Phase.explicit, Phase.generate],
    report_multiple_bugs=False,
)
settings.load_profile("quick")
