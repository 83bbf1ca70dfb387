"""benchmarks/rehearsal*.py: its parts, and with `-m rehearsal` a reduced one to its page."""

import base64
import hashlib
import json
import subprocess
import sys
import tarfile
import time
from contextlib import suppress
from pathlib import Path

import numpy as np
import pandas as pd
import psutil
import pytest
import requests
import yaml

import rehearsal
import rehearsal_record
import rehearsal_voc
from mmqsa.config.data import DatasetConfig
from mmqsa.data.download import download
from mmqsa.data.voc import VocFolder
from mmqsa.errors import InputError
from mmqsa.workload import IMAGES
from rehearsal_server import serving

ROOT = Path(__file__).parents[1]


def test_lists_have_the_official_sizes():
    ids, lists = rehearsal_voc.image_ids(1, seed=0)
    assert len(ids) == len(set(ids)) == 17_125
    sizes = {name.replace("Main/", "detection-"): len(images) for name, images in lists.items()}
    sizes = {name.replace("Segmentation/", ""): size for name, size in sizes.items()}
    sizes["all-but-val"] = len(set(ids) - set(lists["Segmentation/val"]))
    assert IMAGES["voc"].items() >= sizes.items()
    for images in lists.values():
        assert len(images) == len(set(images)) and set(images) <= set(ids)
    assert not set(lists["Main/train"]) & set(lists["Main/val"])


@pytest.fixture(scope="module")
def archive(tmp_path_factory) -> Path:
    """A tar of 17 photographs, below a folder that a server may serve."""
    path = tmp_path_factory.mktemp("server") / "voc.tar"
    rehearsal_voc.write_archive(path, 0.001)
    return path


def test_the_archive_is_a_voc_folder(archive, tmp_path):
    with tarfile.open(archive) as tar:
        tar.extractall(tmp_path, filter="data")
    voc = VocFolder.find(tmp_path)
    assert voc.path == tmp_path / "VOCdevkit/VOC2012"
    assert len(voc.ids("all-but-val")) == 16 and len(voc.ids("detection-trainval")) == 12
    for image_id in [path.stem for path in voc.photographs()]:
        photograph = voc.image(image_id)
        boxes = voc.boxes(image_id)
        assert len(boxes) and (boxes[:, 2:] <= photograph.size).all()
        labelled = image_id in voc.ids("trainval")
        instances = voc.instances(image_id, photograph.size)
        assert (instances is not None) == labelled
        if labelled:  # the boxes are those of the label maps, but for the border, which is void
            for index, (left, top, right, bottom) in enumerate(boxes.astype(int), 1):
                inside = np.zeros(instances.shape, bool)
                inside[top:bottom, left:right] = True
                assert (instances[~inside] != index).all() and (instances[inside] == index).any()
            assert set(np.unique(voc.classes(image_id, photograph.size))) <= {*range(11), 255}


def test_the_download_survives_drops_of_the_server(archive, tmp_path):
    md5 = hashlib.md5(archive.read_bytes()).hexdigest()
    with serving(archive.parent, 1e9, [0.3, 0.8], tmp_path / "log") as url:
        dataset = DatasetConfig(sources=[f"{url}/voc.tar"], md5=md5)
        for attempt in range(3):  # as the rule has two retries
            try:
                download(dataset, tmp_path / "root")
                break
            except InputError:
                assert attempt < 2
        assert requests.get(f"{url}/../{archive.name}x", timeout=5).status_code == 404
    log = pd.read_csv(tmp_path / "log", header=None)
    assert log[4].tolist() == ["dropped", "dropped", "whole"]
    assert (log[1] <= [0, *log[2][:-1]]).all() and log[1].iloc[-1] > 0  # resumed, and no gap
    assert VocFolder.find(tmp_path / "root").photographs()


def test_the_server_is_as_slow_as_it_says(archive, tmp_path):
    size = archive.stat().st_size
    with serving(archive.parent, size / 3, [], tmp_path / "log") as url:
        begun = time.perf_counter()
        assert len(requests.get(f"{url}/voc.tar", timeout=30).content) == size
    assert 2 < time.perf_counter() - begun < 20


def test_peaks_of_jobs(tmp_path):
    """A process that holds 200 MB and two files for a while, and one that writes no log."""
    lines = "import os, time; a = b'x' * 200_000_000; b = [os.dup(2), os.dup(2)]; time.sleep(2)"
    command, log = [sys.executable, "-c", lines], tmp_path / "logs/job.log"
    log.parent.mkdir()
    with (
        rehearsal_record.watching(log.parent, tmp_path / "peaks.csv"),
        subprocess.Popen(command, stdout=subprocess.DEVNULL),
    ):
        subprocess.run(command, stdout=log.open("w"), check=True)
    (peak,) = pd.read_csv(tmp_path / "peaks.csv").to_dict("records")
    assert peak["log"] == str(log)
    assert 200 < peak["own_mb"] <= peak["peak_mb"] < 300 and peak["files"] >= 5


PLAN = """
rule train:
    input: a
    output: runs/full/weights
    log: logs/train.log
    jobid: 3
    threads: 2
    resources: tmpdir=/tmp, mem_mb=1000, mem_mib=954, runtime=12, gpu=1, expected_seconds=60
"""


def test_what_jobs_ask_for():
    (row,) = rehearsal_record.requests(PLAN, Path("/project")).to_dict("records")
    assert row == {
        **{"rule": "train", "log": "/project/logs/train.log", "threads": 2, "mem_mb": 1000},
        **{"runtime": 12, "expected_seconds": 60, "gpu": 1},
    }


def test_what_a_rule_took(tmp_path):
    """From Snakemake's records, one of them with a name so long that it lies in folders."""
    names, log = ["runs/full/weights", f"runs/{'long' * 60}/weights"], "logs/train.log"
    for name in names:
        output = tmp_path / name
        output.parent.mkdir(parents=True)
        output.write_bytes(b"x" * 1_000_000)
        code = base64.urlsafe_b64encode(name.encode()).decode()
        *folders, file = [code[start : start + 254] for start in range(0, len(code), 254)]
        record = tmp_path.joinpath(".snakemake/metadata", *(f"@{part}" for part in folders), file)
        record.parent.mkdir(parents=True, exist_ok=True)
        times = {"starttime": 100.0, "endtime": 460.0}
        record.write_text(json.dumps({"rule": "train", "log": [log], **times}))
    peaks = pd.DataFrame([[str(tmp_path / log), 1, 250.0, 200.0, 7, 1.0, 36.0]])
    peaks.to_csv(tmp_path / "peaks.csv", header=rehearsal_record.PEAKS, index=False)
    snakemake = tmp_path / "snakemake.log"
    took = (tmp_path, PLAN, tmp_path / "peaks.csv", snakemake)
    (row,) = rehearsal_record.by_rule(*took).to_dict("records")
    assert (row["jobs"], row["done"], row["longest_s"], row["disk_mb"]) == (1, 1, 360, 2)
    assert (row["hours"], row["cpu_hours"]) == (0.1, 0.01)
    assert (row["share"], row["late"]) == (0.25, 0.5)  # of 1,000 MB and of 12 minutes
    assert (row["peak_mb"], row["own_mb"], row["files"]) == (250, 200, 7)
    # The second time it began at 280 s: until then the job was killed, or waited.
    lines = [[0, 120], [280, 460, 500]]
    snakemake.write_text(
        "\n".join(
            "\n".join(["Job stats:", *(f"[{time.ctime(second)}]" for second in one), "rule train:"])
            for one in lines
        )
    )
    assert rehearsal_record.sessions(snakemake).to_numpy().tolist() == [[0, 120], [280, 500]]
    (row,) = rehearsal_record.by_rule(*took).to_dict("records")
    assert row["longest_s"] == 180


def test_the_config_changes_no_data_settings_or_tables():
    """What a data set of full size hides depends on them."""
    read = [
        yaml.safe_load((ROOT / name).read_text())
        for name in ("config.yaml", "config/tables.yaml", "config/rehearsal.yaml")
    ]
    changes = read[-1]
    assert not changes.keys() & {"settings", "grid", "tables", "other_datasets", "page"}
    assert changes["dataset"].keys() == {"sources"}
    assert "strategies" not in changes["matching"] and "sweep" not in changes["evaluation"]
    assert not changes["evaluation"].keys() & {"mask_sources", "baselines", "batch_size"}
    assert (changes["training"]["steps"], len(changes["seeds"])) == (20, 2)


@pytest.mark.rehearsal
@pytest.mark.workflow
def test_a_reduced_rehearsal_to_its_page(tmp_path, request):
    """2 % of the photographs: some 15 minutes. It is killed once, and continued."""
    if "rehearsal" not in request.config.option.markexpr:
        pytest.skip("takes some 15 minutes: pytest -m rehearsal")
    command = [sys.executable, rehearsal.__file__, "--images", "0.02", "--folder", tmp_path / "r"]
    first = subprocess.Popen(command, start_new_session=True)
    while not list((tmp_path / "r").glob("project/results/runs/*/*/model.safetensors")):
        assert first.poll() is None, "ended before a run was trained"
        time.sleep(1)
    for process in (psutil.Process(first.pid), *psutil.Process(first.pid).children(recursive=True)):
        with suppress(psutil.NoSuchProcess):
            process.kill()
    first.wait()
    subprocess.run(command, check=True)
    page = (tmp_path / "r/scale.md").read_text()
    rules = pd.read_csv(tmp_path / "r/rehearsal.csv").set_index("rule")
    assert (rules["done"] == rules["jobs"]).all() and "2 times started" in page
    assert (rules.loc[["train", "evaluate", "table"], ["hours", "peak_mb"]] > 0).all(axis=None)
    assert "dropped" in page and (tmp_path / "r/project/results/page/index.html").is_file()
