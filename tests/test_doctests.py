"""The public API: docs/api.md lists it, every name has an example, and the examples run."""

import doctest
import re
import shutil
from importlib import import_module
from inspect import isclass, isfunction
from pathlib import Path

import numpy as np
import pytest
import torch
from pydantic import BaseModel

from mmqsa.config.files import dump_yaml
from mmqsa.data.voc import VocFolder

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "src"
PAGE = (ROOT / "docs/api.md").read_text(encoding="utf-8")
PUBLIC = {
    module: re.findall(r"`([\w.]+)`", names)
    for module, names in re.findall(r"^\| `(mmqsa[\w.]*)` \|(.*?)\|", PAGE, re.MULTILINE)
}
WITH_EXAMPLES = sorted(
    ".".join(path.relative_to(SOURCE).with_suffix("").parts).removesuffix(".__init__")
    for path in SOURCE.rglob("*.py")
    if ">>> " in path.read_text(encoding="utf-8")
)


@pytest.fixture(scope="module")
def examples(tmp_path_factory, config, voc_root, caches, run_folder) -> Path:
    """The folder that docs/api.md describes, where every example runs."""
    folder = tmp_path_factory.mktemp("examples")
    (folder / "config.yaml").write_text(dump_yaml(config.model_dump(mode="json")))
    voc = VocFolder.find(voc_root)
    voc.image(voc.ids("val")[0]).save(folder / "photo.jpg")
    (folder / "scenes").symlink_to(voc_root)
    for split, path in caches.items():
        (folder / f"{split}.h5").symlink_to(path)
    shutil.copytree(run_folder, folder / "run")
    return folder


@pytest.mark.parametrize("name", WITH_EXAMPLES)
def test_examples_give_what_they_show(name, examples, tmp_path, monkeypatch):
    for path in examples.iterdir():
        (tmp_path / path.name).symlink_to(path)
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(0)
    result = doctest.testmod(import_module(name), extraglobs={"torch": torch, "np": np})
    assert result.attempted and not result.failed


def test_the_page_lists_what_the_modules_offer():
    assert len(PUBLIC) > 10
    assert {name: sorted(import_module(name).__all__) for name in PUBLIC} == PUBLIC


@pytest.mark.parametrize("module", PUBLIC)
def test_every_public_name_is_there_and_has_an_example(module):
    for name in PUBLIC[module]:
        value = getattr(import_module(module), name)
        assert name in dir(import_module(module))
        # What a config section says becomes its description in the JSON schema.
        section = isclass(value) and issubclass(value, BaseModel)
        if isfunction(value) or (isclass(value) and not section):
            assert ">>> " in (value.__doc__ or ""), f"{module}.{name} has no example"
