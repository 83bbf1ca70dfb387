"""Packages that import a name when it is used."""

import subprocess
import sys

import pytest

import mmqsa

DOORS = "mmqsa, mmqsa.config, mmqsa.data, mmqsa.features, mmqsa.training"
HEAVY = {"torch", "timm", "numpy", "pydantic"}


def test_an_import_alone_loads_nothing_heavy():
    code = f"import sys, {DOORS}; print(sorted({HEAVY} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_a_name_is_that_of_its_module_and_others_are_errors():
    from mmqsa.discover.segmenter import Segmenter

    assert mmqsa.load is Segmenter and {"load", "__version__"} <= set(dir(mmqsa))
    with pytest.raises(AttributeError, match="module 'mmqsa' has no attribute 'lod'"):
        mmqsa.lod  # noqa: B018
