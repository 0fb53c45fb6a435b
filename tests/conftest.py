"""What all tests share: no settings from outside, and how long Hypothesis looks for counter-examples."""

from __future__ import annotations

import os

from hypothesis import Phase, settings

# The settings of whoever runs the tests are not the tests' own.
for _name in [name for name in os.environ if name.startswith("TAMS_")]:
    del os.environ[_name]

# The quick profile is the same everywhere and every time, and does not shrink for minutes: CI must not find
# by chance what a change did not cause. HYPOTHESIS_PROFILE=search looks further, with fresh examples.
settings.register_profile(
    "quick",
    deadline=None,
    derandomize=True,
    database=None,
    phases=(Phase.explicit, Phase.reuse, Phase.generate, Phase.target),
)
settings.register_profile("search", deadline=None, max_examples=1000)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "quick"))
