import errno
import hashlib
import io
import os
import shutil
import tarfile
import threading
import zipfile
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from hypothesis import given
from hypothesis import strategies as some
from tars import write_tar

from mmqsa.config.data import DatasetConfig
from mmqsa.data import archives, fetch
from mmqsa.data.download import RECEIPT, download
from mmqsa.errors import InputError, MachineError

pytestmark = pytest.mark.faults


VOC = {
    "VOCdevkit/VOC2012/JPEGImages/a.jpg": b"x" * 500_000,
    "VOCdevkit/VOC2012/ImageSets/Segmentation/val.txt": b"a\n",
}


@pytest.fixture
def tar(tmp_path):
    path = tmp_path / "voc.tar"
    return path, write_tar(path, VOC)


@pytest.fixture
def server(tar):
    """Plays sources by the first part of the path; each has its own fault, and tells of ranges."""
    content, asked = tar[0].read_bytes(), []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            fault = self.path.split("/")[1]
            if fault == "absent":
                self.send_error(404)
                return
            asked.append(self.headers.get("Range"))
            first = int(asked[-1].split("=")[1].rstrip("-")) if asked[-1] else 0
            self.send_response(206 if asked[-1] else 200)
            self.send_header("Content-Length", str(len(content) - first))
            self.end_headers()
            sent = b"?" * len(content) if fault == "other" else content
            # A connection breaks after a part of the whole; one that stalls stays open.
            parts = {"drops": (0.3, 0.6), "breaks": (0.5, 0), "stalls": (0.5,) * 9}.get(fault, ())
            share = parts[len(asked) - 1] if len(asked) <= len(parts) else 1
            self.wfile.write(sent[first : int(share * len(content))])
            self.wfile.flush()
            if fault == "stalls":
                released.wait(20)
            self.close_connection = True

        def log_message(self, *_):
            pass

    released = threading.Event()
    httpd = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=httpd.serve_forever, daemon=True)
    thread.start()
    yield lambda fault: f"http://127.0.0.1:{httpd.server_port}/{fault}/voc.tar", asked
    released.set()
    httpd.shutdown()


def test_goes_on_as_long_as_every_connection_brings_something(tmp_path, server, tar):
    url, asked = server[0]("drops"), server[1]
    assert download(DatasetConfig(sources=[url], md5=tar[1]), tmp_path / "out") == url
    assert len(asked) == 3 and asked[0] is None
    first, second = (int(range_.strip("bytes=-")) for range_ in asked[1:])
    assert 0 < first < second < 500_000


def test_resumes_after_an_interruption(tmp_path, server, tar):
    url, asked = server[0]("breaks"), server[1]
    dataset = DatasetConfig(sources=[url], md5=tar[1])
    with pytest.raises(InputError, match=r"voc.tar"):
        download(dataset, tmp_path / "out")
    (part,) = (tmp_path / "out").glob("voc.tar.*.part")
    half = part.stat().st_size
    assert half and not (tmp_path / "out" / RECEIPT).exists()
    assert download(dataset, tmp_path / "out") == url
    assert asked == [None, f"bytes={half}-", f"bytes={half}-"]
    assert (tmp_path / "out/VOCdevkit/VOC2012/JPEGImages/a.jpg").stat().st_size == 500_000
    assert (tmp_path / "out" / RECEIPT).exists()


@pytest.mark.parametrize(
    "fault, said",
    [
        ("absent", "404"),
        ("other", "another or a damaged file"),
        ("stalls", "timed out"),
        ("unreachable", "refused|[Rr]esol|[Cc]onnect"),
    ],
)
def test_a_source_that_fails_is_told_of_and_the_next_one_is_asked(
    tmp_path, server, tar, monkeypatch, fault, said
):
    monkeypatch.setattr(fetch, "TIMEOUT", 0.5)
    bad = server[0](fault) if fault != "unreachable" else "http://127.0.0.1:9/voc.tar"
    with pytest.raises(InputError, match=said) as error:
        download(DatasetConfig(sources=[bad], md5=tar[1]), tmp_path / "out")
    # What to do by hand: which file, and where to say that it is there.
    line = str(error.value)
    assert "Fetch voc.tar elsewhere and name it file:///FOLDER/voc.tar in dataset.sources" in line
    assert "\n" not in line and not (tmp_path / "out" / RECEIPT).exists()
    good = server[0]("good")
    assert download(DatasetConfig(sources=[bad, good], md5=tar[1]), tmp_path / "out") == good


def test_an_archive_that_is_cut_short(tmp_path, tar):
    """Its md5 would tell; here it is the very one that was asked for."""
    path = tmp_path / "cut.tar"
    path.write_bytes(tar[0].read_bytes()[:300_000])
    md5 = hashlib.md5(path.read_bytes()).hexdigest()
    with pytest.raises(InputError, match=r"cut.tar: cannot be unpacked safely \(unexpected end"):
        download(DatasetConfig(sources=[f"file://{path}"], md5=md5), tmp_path / "out")
    assert not (tmp_path / "out" / RECEIPT).exists()
    download(DatasetConfig(sources=[f"file://{tar[0]}"], md5=tar[1]), tmp_path / "out")
    assert (tmp_path / "out/VOCdevkit/VOC2012/JPEGImages/a.jpg").stat().st_size == 500_000


def test_next_source_after_a_wrong_md5(tmp_path, tar):
    other = tmp_path / "other.tar"
    write_tar(other, {"b": b"b"})
    dataset = DatasetConfig(sources=[f"file://{other}", f"file://{tar[0]}"], md5=tar[1])
    assert download(dataset, tmp_path / "out") == f"file://{tar[0]}"


def test_wrong_md5_everywhere_leaves_nothing_unpacked(tmp_path, tar):
    dataset = DatasetConfig(sources=[f"file://{tar[0]}"], md5="0" * 32)
    with pytest.raises(InputError, match=rf"md5 {tar[1]}, expected 0000"):
        download(dataset, tmp_path / "out")
    assert list((tmp_path / "out").iterdir()) == []


def test_a_path_that_leaves_the_folder_is_refused(tmp_path):
    path = tmp_path / "voc.tar"
    md5 = write_tar(path, {**VOC, "../evil": b"evil"})
    with pytest.raises(InputError, match="cannot be unpacked safely"):
        download(DatasetConfig(sources=[f"file://{path}"], md5=md5), tmp_path / "in/out")
    assert not list(tmp_path.rglob("*evil*"))


def test_a_link_is_refused(tmp_path):
    path = tmp_path / "voc.tar"
    with tarfile.open(path, "w") as tar:
        link = tarfile.TarInfo("VOC2012")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc"
        tar.addfile(link)
    md5 = hashlib.md5(path.read_bytes()).hexdigest()
    with pytest.raises(InputError, match="neither a file nor a folder"):
        download(DatasetConfig(sources=[f"file://{path}"], md5=md5), tmp_path / "out")
    assert not (tmp_path / "out/VOC2012").is_symlink()


def test_a_zip_may_not_leave_the_folder_either(tmp_path):
    path = tmp_path / "coco.zip"
    with zipfile.ZipFile(path, "w") as members:
        members.writestr("../evil", "evil")
    md5 = hashlib.md5(path.read_bytes()).hexdigest()
    dataset = DatasetConfig(kind="coco", sources=[f"file://{tmp_path}"], archives={"coco.zip": md5})
    with pytest.raises(InputError, match="leads out of the folder"):
        download(dataset, tmp_path / "in/out")
    assert not list(tmp_path.rglob("*evil*"))


def test_an_absolute_path_stays_inside(tmp_path):
    path, outside = tmp_path / "voc.tar", tmp_path / "evil"
    md5 = write_tar(path, {**VOC, str(outside): b"evil"})
    download(DatasetConfig(sources=[f"file://{path}"], md5=md5), tmp_path / "out")
    assert not outside.exists()


def test_folder_is_linked_not_copied(tmp_path, own_voc):
    root = tmp_path / "root"
    download(DatasetConfig(sources=[str(own_voc.parent)]), root)
    download(DatasetConfig(sources=[str(own_voc)]), root)  # again: nothing to mend
    assert (root / "VOC2012").is_symlink()
    assert (root / "VOC2012").resolve() == own_voc


def test_unset_variable_is_named(tmp_path, monkeypatch):
    monkeypatch.delenv("MMQSA_NOWHERE", raising=False)
    with pytest.raises(InputError, match=r"dataset.sources: '\$MMQSA_NOWHERE'.*not set"):
        download(DatasetConfig(sources=["$MMQSA_NOWHERE"]), tmp_path / "root")


@pytest.mark.parametrize("kind", ["tar", "zip"])
def test_an_archive_that_does_not_fit_on_the_disk_is_not_unpacked(tmp_path, monkeypatch, kind):
    """Its sizes are added up first: an archive of zeros is small."""
    path = tmp_path / f"large.{kind}"
    if kind == "tar":
        write_tar(path, {"VOCdevkit/zeros": b"\0" * 3_000_000})
    else:
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as large:
            large.writestr("VOCdevkit/zeros", b"\0" * 3_000_000)
    free = shutil.disk_usage(tmp_path)._replace(free=2_000_000)
    monkeypatch.setattr(fetch.shutil, "disk_usage", lambda _: free)
    dataset = DatasetConfig(
        sources=[f"file://{path}"], md5=hashlib.md5(path.read_bytes()).hexdigest()
    )
    with pytest.raises(MachineError, match=r"holds 0\.0 GB, and 0\.0 GB are free .*make room"):
        download(dataset, tmp_path / "out")
    assert not (tmp_path / "out/VOCdevkit").exists()


@pytest.mark.parametrize("module, function", [(fetch, "_write"), (archives, "_unpack_file")])
def test_a_full_disk_is_no_fault_of_a_source(tmp_path, tar, monkeypatch, module, function):
    def full(*_, **__):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(module, function, full)
    dataset = DatasetConfig(sources=[f"file://{tar[0]}"] * 2, md5=tar[1])
    with pytest.raises(OSError, match="No space left"):
        download(dataset, tmp_path / "out")


def test_a_source_that_does_not_fit_is_refused_before_it_is_copied(tmp_path):
    with (tmp_path / "voc.tar").open("wb") as sparse:
        sparse.truncate(10**13)
    dataset = DatasetConfig(sources=[f"file://{tmp_path}/voc.tar"], md5="0" * 32)
    with pytest.raises(MachineError, match=r"voc\.tar.* holds 10,000\.0 GB"):
        download(dataset, tmp_path / "out")
    assert not list(tmp_path.glob("out/*.part"))


def test_a_source_of_too_long_a_name_is_told_of_and_the_next_one_is_asked(tmp_path, own_voc):
    sources = ["/" + "a" * 300, f"file:///{'a' * 300}.tar", str(own_voc)]
    assert download(DatasetConfig(sources=sources), tmp_path / "out") == str(own_voc)


@pytest.mark.parametrize("source", ["file:///PIPE", "http://", "file:///", "http://[x/voc.tar"])
def test_a_source_that_is_no_file_is_named(tmp_path, source):
    os.mkfifo(tmp_path / "pipe.tar")
    source = source.replace("/PIPE", f"{tmp_path}/pipe.tar")
    with pytest.raises(InputError, match=r"not a regular file|names no file|http"):
        download(DatasetConfig(sources=[source]), tmp_path / "out")


def test_files_that_are_there_stay(tmp_path, tar):
    """A whole file of an interrupted attempt is not written again; another one is refused."""
    path = tmp_path / "out/VOCdevkit/VOC2012/JPEGImages/a.jpg"
    path.parent.mkdir(parents=True)
    path.write_bytes(b"mine")
    dataset = DatasetConfig(sources=[f"file://{tar[0]}"], md5=tar[1])
    with pytest.raises(InputError, match=r"a.jpg exists and is another file"):
        download(dataset, tmp_path / "out")
    assert path.read_bytes() == b"mine"
    path.unlink()
    download(dataset, tmp_path / "out")
    made = path.stat().st_mtime_ns
    (tmp_path / "out" / RECEIPT).unlink()
    download(dataset, tmp_path / "out")
    assert path.stat().st_mtime_ns == made


@pytest.mark.parametrize("size", [-512, -1, -(10**6)])
@pytest.mark.parametrize("where", ["head", "attributes", "name"])
def test_a_member_with_a_size_below_zero_is_refused(tmp_path, size, where):
    info = tarfile.TarInfo("a/b")
    if where == "attributes":
        info.pax_headers = {"size": str(size)}
    else:
        info.size = size
    if where == "name":  # of the next member, which is read whole
        info.type = tarfile.GNUTYPE_LONGNAME
    form = tarfile.PAX_FORMAT if where == "attributes" else tarfile.GNU_FORMAT
    before = tarfile.TarInfo("first").tobuf()
    path = tmp_path / "voc.tar"
    path.write_bytes(before + info.tobuf(form) + bytes(1024))
    with pytest.raises(InputError, match=r"cannot be unpacked safely \(.* has a size of -"):
        archives.unpack(path, tmp_path / "out")


def test_a_damaged_head_is_not_taken_for_the_end(tmp_path):
    path = tmp_path / "voc.tar"
    write_tar(path, {"a": b"a", "b": b"b"})
    content = bytearray(path.read_bytes())
    content[2 * 512] ^= 1
    path.write_bytes(content)
    with pytest.raises(InputError, match="unexpected end of data"):
        archives.unpack(path, tmp_path)


def test_other_data_in_the_root_is_refused_and_stays(tmp_path, tar, own_voc):
    """Of another archive, whether its receipt is there or not, of a user, or linked."""
    root, (path, md5) = tmp_path / "out", tar
    download(DatasetConfig(sources=[f"file://{path}"], md5=md5), root)
    photograph = root / "VOCdevkit/VOC2012/JPEGImages/a.jpg"
    other, few = tmp_path / "other.tar", tmp_path / "few.tar"
    changed = {name: content.replace(b"x", b"y") for name, content in VOC.items()}
    others = {other: write_tar(other, changed)}
    others[few] = write_tar(few, {name.replace("a.jpg", "b.jpg"): VOC[name] for name in VOC})

    def refused(said, source, md5="0" * 32):
        before = {one: one.read_bytes() for one in root.rglob("*") if one.is_file()}
        with pytest.raises(InputError, match=said):
            download(DatasetConfig(sources=[source], md5=md5), root)
        assert (
            before.items()
            <= {one: one.read_bytes() for one in root.rglob("*") if one.is_file()}.items()
        )

    for one, sum_ in others.items():
        refused("holds another data set", f"file://{one}", sum_)
    (root / RECEIPT).unlink()
    refused(r"a\.jpg exists and is another file", f"file://{other}", others[other])
    refused(r"a\.jpg: is not of this data set", f"file://{few}", others[few])
    (root / "VOC2012").symlink_to(own_voc)
    refused(r"\.jpg: is not of this data set", f"file://{path}", md5)
    assert photograph.read_bytes() == b"x" * 500_000 and not (root / RECEIPT).exists()


@pytest.mark.parametrize("name", ["voc.tar", "voc.tar.part", RECEIPT])
@pytest.mark.parametrize("linked", [False, True])
def test_a_file_of_the_users_own_stays(tmp_path, tar, name, linked):
    root = tmp_path / "out"
    root.mkdir()
    mine = tmp_path / "mine" if linked else root / name
    mine.write_text('{"mine": 1}')
    if linked:
        (root / name).symlink_to(mine)
    dataset = DatasetConfig(sources=[f"file://{tar[0]}"], md5=tar[1])
    if name == "voc.tar.part":
        download(dataset, root)
    else:
        with pytest.raises(InputError, match=rf"{name}: .*remove it"):
            download(dataset, root)
    assert mine.read_text() == '{"mine": 1}' and (root / name).is_symlink() == linked


@pytest.mark.parametrize("target", ["elsewhere", "VOC2012", "/nowhere"])
def test_a_link_of_the_users_own_stays(tmp_path, own_voc, target):
    root = tmp_path / "out"
    (root / "elsewhere/JPEGImages").mkdir(parents=True)
    (root / "VOC2012").symlink_to(target)
    with pytest.raises(InputError, match=r"VOC2012: already holds, or leads to, other data"):
        download(DatasetConfig(sources=[str(own_voc)]), root)
    assert (root / "VOC2012").readlink().name == target.strip("/")


@pytest.mark.fuzz
@given(data=some.data())
def test_any_archive_is_unpacked_or_refused(tmp_path_factory, data):
    root = tmp_path_factory.mktemp("archive")
    path = root / f"any.{data.draw(some.sampled_from(['tar', 'tar.gz', 'zip']))}"
    if path.suffix == ".zip":
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as small:
            small.writestr("a/b", b"x" * 2000)
    else:
        with tarfile.open(path, "w:gz" if path.suffix == ".gz" else "w") as small:
            info = tarfile.TarInfo("a/b")
            info.size = 2000
            small.addfile(info, io.BytesIO(b"x" * 2000))
    content = bytearray(path.read_bytes())
    for _ in range(data.draw(some.integers(0, 5))):
        content[data.draw(some.integers(0, len(content) - 1))] = data.draw(some.integers(0, 255))
    path.write_bytes(content[: data.draw(some.integers(0, len(content)))])
    (root / "inside/out").mkdir(parents=True)
    try:
        archives.unpack(path, root / "inside/out")
    except InputError as error:
        assert "\n" not in str(error)
    outside = {one.name for one in root.iterdir()} | {
        one.name for one in (root / "inside").glob("*")
    }
    assert outside <= {path.name, "inside", "out"}
