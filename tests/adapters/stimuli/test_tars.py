import gzip
import io
import tarfile

import numpy as np
import pytest

import brainalign as ba
from brainalign.adapters.stimuli.media import read_content
from brainalign.adapters.stimuli.tars import index_tar, read_images, read_members, read_samples
from brainalign.core.errors import FormatError


def write(path, members, **options):
    with tarfile.open(path, "w", **options) as tar:
        for name, content in members.items():
            member = tarfile.TarInfo(name)
            if not isinstance(content, tuple):
                member.size = len(content)
                tar.addfile(member, io.BytesIO(content))
            else:
                (member.type,), member.linkname = content, "/etc/passwd"
                tar.addfile(member)
    return path


@pytest.mark.parametrize("format", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_members_are_found_and_read_by_their_place(tmp_path, format):
    contents = {"a/1.txt": b"one", "a/2.txt": b"2" * 512, "long" * 24 + ".txt": b"", "ü.txt": b"u" * 513}
    path = write(tmp_path / "a.tar", contents, format=format)
    assert list(index_tar(path)) == list(contents)
    assert dict(zip(contents, read_members(path, list(contents)), strict=True)) == contents
    assert list(read_members(path, ["ü.txt", "a/1.txt"])) == [b"u" * 513, b"one"]
    with pytest.raises(FormatError, match=r"a\.tar' has no member 'b'. Expected one of 'a/1\.txt'"):
        next(read_members(path, ["b"]))


def test_indexing_and_reading_touch_only_their_bytes(tmp_path, bytes_read):
    path = write(tmp_path / "a.tar", {f"{i}.bin": bytes(500_000) for i in range(10)})
    assert bytes_read(index_tar, path) < 60_000
    assert bytes_read(lambda: list(read_members(path, ["7.bin"]))) < 520_000


def test_an_archive_that_changed_is_indexed_anew(tmp_path):
    path = write(tmp_path / "a.tar", {"a.txt": b"one"})
    assert list(read_members(path, ["a.txt"])) == [b"one"]
    write(path, {"first.txt": bytes(20_000), "a.txt": b"two"})
    assert list(read_members(path, ["a.txt"])) == [b"two"]


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("a.png", (tarfile.SYMTYPE,), "a link, a device"), ("a.png", (tarfile.LNKTYPE,), "a link, a device"),
        ("a.png", (tarfile.CHRTYPE,), "a link, a device"), ("a.png", (tarfile.FIFOTYPE,), "a link, a device"),
        ("../a.png", b"x", "a name that leads out"), ("/etc/a.png", b"x", "a name that leads out"),
        ("b/../../a.png", b"x", "a name that leads out"), ("..\\a.png", b"x", "a name that leads out"), ("\udc80.png", b"x", "a name that is no UTF-8"),
    ],
)  # fmt: skip
def test_what_could_do_harm_is_refused(tmp_path, name, content, said):
    path = write(tmp_path / "a.tar", {"1.png": b"x", name: content})
    with pytest.raises(FormatError, match=f"member .*, which is {said}"):
        index_tar(path)


def test_one_name_twice_is_refused(tmp_path):
    path = tmp_path / "a.tar"
    with tarfile.open(path, "w") as tar:
        for content in (b"x", b"y"):
            member = tarfile.TarInfo("1.png")
            member.size = 1
            tar.addfile(member, io.BytesIO(content))
    with pytest.raises(FormatError, match=r"member '1\.png', which is the name of an earlier member"):
        index_tar(path)


def test_compressed_archives_say_how_to_mend_it(tmp_path):
    plain = write(tmp_path / "a.tar", {"1.png": b"x"})
    packed = tmp_path / "a.tar.gz"
    packed.write_bytes(gzip.compress(plain.read_bytes()))
    with pytest.raises(FormatError, match=r"a\.tar\.gz' is compressed \(gzip\).*decompress it once"):
        index_tar(packed)


def test_truncation_is_named_wherever_it_falls(tmp_path):
    whole = write(tmp_path / "a.tar", {f"{i}.txt": bytes([i + 1]) * 700 for i in range(3)}).read_bytes()
    path = tmp_path / "cut.tar"
    end = 3 * (512 + 1024)
    for cut in (100, 512, 600, 1200, 512 + 1024, 512 + 1024 + 300, end - 1, end, end + 100):
        path.write_bytes(whole[:cut])
        with pytest.raises(FormatError, match=r"cut\.tar'"):
            index_tar(path)
    path.write_bytes(whole[: end + 512])  # one block of zeros is a mark of the end
    assert len(index_tar(path)) == 3


def test_samples_share_a_key_up_to_the_first_dot(tmp_path):
    path = write(
        tmp_path / "a.tar", {"./x.y/1.jpg": b"a", "./x.y/1.seg.PNG": b"b", "README": b"", ".hidden.txt": b"", "x.y/2.jpg": b"c"}
    )
    samples = read_samples([path])
    assert {key: sorted(members) for key, members in samples.items()} == {"x.y/1": ["jpg", "seg.png"], "x.y/2": ["jpg"]}
    assert samples["x.y/1"]["seg.png"] == (path, "./x.y/1.seg.PNG")
    with pytest.raises(FormatError, match="holds no sample"):
        read_samples([write(tmp_path / "b.tar", {"README": b"x"})])


def test_a_key_in_two_shards_is_named(tmp_path):
    one, two = write(tmp_path / "1.tar", {"k.jpg": b"x"}), write(tmp_path / "2.tar", {"k.cls": b"1"})
    with pytest.raises(FormatError, match=r"key 'k' is in .*1\.tar' as 'k\.jpg' and in .*2\.tar' as 'k\.cls'"):
        read_samples([one, two])
    with pytest.raises(FormatError, match=r"key 'k' is in .*as 'k\.jpg' and in .*as 'k\.JPG'"):
        read_samples([write(tmp_path / "3.tar", {"k.jpg": b"x", "k.JPG": b"y"})])


def picture(value):
    pil = pytest.importorskip("PIL.Image")
    stream = io.BytesIO()
    pil.fromarray(np.full((3, 2, 3), value, dtype=np.uint8)).save(stream, "PNG")
    return stream.getvalue()


def test_images_are_decoded_from_their_member(tmp_path):
    path = write(tmp_path / "a.tar", {"1.png": picture(1), "2.png": picture(2), "3.png": picture(3)[:40]})
    assert [image[0, 0, 0] for image in read_images(path, ["2.png", "1.png"])] == [2, 1]
    with pytest.raises(FormatError, match=r"a\.tar:3\.png' could not be read as an image"):
        read_images(path, ["3.png"])


@pytest.mark.parametrize("format", [tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_damage(tmp_path, survives_damage, format):
    members = {"k" * 120 + ".png": picture(1), "2.png": picture(2), "2.cls": b"1"}
    file = write(tmp_path / "a.tar", members, format=format)
    assert survives_damage(file, lambda: read_content(ba.stimuli.from_tars(file), slice(None)), header=2048, examples=60)
