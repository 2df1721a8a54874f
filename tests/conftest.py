"""Hypothesis profiles: `quick` (default), `ci` and `thorough`; choose with --hypothesis-profile=NAME."""

from hypothesis import HealthCheck, settings

for name, examples in (("quick", 25), ("ci", 100), ("thorough", 1000)):
    settings.register_profile(
        name,
        max_examples=examples,
        deadline=None,
        derandomize=True,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
    )
settings.load_profile("quick")
