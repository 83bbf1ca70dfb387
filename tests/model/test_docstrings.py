"""The examples in the docstrings of the model run and give what they show."""

import doctest
import pkgutil
from importlib import import_module

import pytest
import torch

import mmqsa.model

MODULES = [module.name for module in pkgutil.iter_modules(mmqsa.model.__path__)]
WITHOUT_EXAMPLE = {"masking", "learned_similarity"}


@pytest.mark.parametrize("name", MODULES)
def test_docstring_examples(name):
    module = import_module(f"mmqsa.model.{name}")
    result = doctest.testmod(module, extraglobs={"torch": torch})
    assert result.failed == 0
    assert result.attempted or name in WITHOUT_EXAMPLE


def test_the_public_names_are_importable():
    assert all(hasattr(mmqsa.model, name) for name in mmqsa.model.__all__)
