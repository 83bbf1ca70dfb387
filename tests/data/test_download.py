import hashlib
import io
import tarfile
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from mmqsa.data.download import RECEIPT, download
from mmqsa.errors import InputError
from mmqsa.settings import Dataset


def archive(path, members):
    with tarfile.open(path, "w") as tar:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return hashlib.md5(path.read_bytes()).hexdigest()


VOC = {
    "VOCdevkit/VOC2012/JPEGImages/a.jpg": b"x" * 500_000,
    "VOCdevkit/VOC2012/ImageSets/Segmentation/val.txt": b"a\n",
}


@pytest.fixture
def tar(tmp_path):
    path = tmp_path / "voc.tar"
    return path, archive(path, VOC)


@pytest.fixture
def server(tar):
    """Serves the archive with ranges; the first request is cut off halfway."""
    content = tar[0].read_bytes()
    asked = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append(self.headers.get("Range"))
            start = int(asked[-1].split("=")[1].rstrip("-")) if asked[-1] else 0
            self.send_response(206 if asked[-1] else 200)
            self.send_header("Content-Length", str(len(content) - start))
            self.end_headers()
            end = len(content) // 2 if len(asked) == 1 else len(content)
            self.wfile.write(content[start:end])
            self.wfile.flush()
            self.close_connection = True

        def log_message(self, *_):
            pass

    httpd = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=httpd.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{httpd.server_port}/voc.tar", asked
    httpd.shutdown()


def test_resumes_after_an_interruption(tmp_path, server, tar):
    url, asked = server
    dataset = Dataset(sources=[url], md5=tar[1])
    with pytest.raises(InputError, match=r"voc.tar"):
        download(dataset, tmp_path / "out")
    half = (tmp_path / "out/voc.tar.part").stat().st_size
    assert half and not (tmp_path / "out" / RECEIPT).exists()
    assert download(dataset, tmp_path / "out") == url
    assert asked == [None, f"bytes={half}-"]
    assert (tmp_path / "out/VOCdevkit/VOC2012/JPEGImages/a.jpg").stat().st_size == 500_000
    assert (tmp_path / "out" / RECEIPT).exists()


def test_next_source_after_a_wrong_md5(tmp_path, tar):
    other = tmp_path / "other.tar"
    archive(other, {"b": b"b"})
    dataset = Dataset(sources=[f"file://{other}", f"file://{tar[0]}"], md5=tar[1])
    assert download(dataset, tmp_path / "out") == f"file://{tar[0]}"


def test_wrong_md5_everywhere_leaves_nothing_unpacked(tmp_path, tar):
    dataset = Dataset(sources=[f"file://{tar[0]}"], md5="0" * 32)
    with pytest.raises(InputError, match=rf"md5 {tar[1]}, expected 0000"):
        download(dataset, tmp_path / "out")
    assert list((tmp_path / "out").iterdir()) == []


def test_a_path_that_leaves_the_folder_is_refused(tmp_path):
    path = tmp_path / "voc.tar"
    md5 = archive(path, {**VOC, "../evil": b"evil"})
    with pytest.raises(InputError, match="cannot be unpacked safely"):
        download(Dataset(sources=[f"file://{path}"], md5=md5), tmp_path / "in/out")
    assert not list(tmp_path.rglob("*evil*"))


def test_a_link_is_refused(tmp_path):
    path = tmp_path / "voc.tar"
    with tarfile.open(path, "w") as tar:
        link = tarfile.TarInfo("VOC2012")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc"
        tar.addfile(link)
    md5 = hashlib.md5(path.read_bytes()).hexdigest()
    with pytest.raises(InputError, match="neither a file nor a folder"):
        download(Dataset(sources=[f"file://{path}"], md5=md5), tmp_path / "out")
    assert not (tmp_path / "out/VOC2012").is_symlink()


def test_an_absolute_path_stays_inside(tmp_path):
    path, outside = tmp_path / "voc.tar", tmp_path / "evil"
    md5 = archive(path, {**VOC, str(outside): b"evil"})
    download(Dataset(sources=[f"file://{path}"], md5=md5), tmp_path / "out")
    assert not outside.exists()


def test_folder_is_linked_not_copied(tmp_path, own_voc):
    root = tmp_path / "root"
    download(Dataset(sources=[str(own_voc.parent)]), root)
    download(Dataset(sources=[str(own_voc)]), root)  # again: nothing to mend
    assert (root / "VOC2012").is_symlink()
    assert (root / "VOC2012").resolve() == own_voc


def test_unset_variable_is_named(tmp_path, monkeypatch):
    monkeypatch.delenv("MMQSA_NOWHERE", raising=False)
    with pytest.raises(InputError, match=r"dataset.sources: '\$MMQSA_NOWHERE'.*not set"):
        download(Dataset(sources=["$MMQSA_NOWHERE"]), tmp_path / "root")
