"""Image files that ask for more work than their bytes and pixels justify are refused before a decoder reads them."""

import pytest

from bundle.errors import ImageFileError
from bundle.images.decoder import ImageReader
from bundle.images.structure import Limits, check, check_exif
from tests.image_kinds import kinds
from tests.reliability.attacks.hostile_images import hostile, jpeg_with, png_with, progressive, segments, tags

SIZE_BYTES = 2**18
HOSTILE = hostile(SIZE_BYTES, side=64)
FEW = Limits(max_scans=20, max_parts=600)
# The one is refused by the server for its compression, the other once its text has been unpacked.
LATER = {"RLE of BMP", "hexadecimal EXIF"}


@pytest.mark.parametrize("name", sorted(HOSTILE.keys() - LATER))
def test_hostile_files_are_refused(name: str) -> None:
    with pytest.raises(ImageFileError, match=r"expected (at most|a PNG|tags)"):
        ImageReader(HOSTILE[name], FEW)


def test_exif_in_a_compressed_text_is_limited() -> None:
    with pytest.raises(ImageFileError, match="expected less EXIF, got 524"):
        ImageReader(HOSTILE["hexadecimal EXIF"], FEW).decode(1)


def test_ordinary_files_have_few_parts() -> None:
    for name, file in kinds(64, 48).items():
        check(file, FEW)
        assert ImageReader(file, FEW).scans <= 18, name


def test_the_number_of_scans_is_limited() -> None:
    assert len(check(progressive(15, side=64), FEW)) == 20
    with pytest.raises(ImageFileError, match="expected at most 20 scans in a JPEG file, got more: save it as baseline"):
        check(progressive(16, side=64), FEW)


def test_scans_of_thumbnails_and_of_what_follows_do_not_count() -> None:
    thumbnail = segments(0xE1, b"Exif\0\0" + b"\xff\xda" * 1000, 2100)
    assert len(check(jpeg_with(thumbnail) + b"\xff\xda" * 1000, FEW)) == 1


def test_parts_are_limited_by_number_and_by_size() -> None:
    comment = b"\xff\xfe\0\2"
    limits = Limits(max_parts=100)
    check(jpeg_with(comment * 80), limits)
    with pytest.raises(ImageFileError, match=r"expected at most 10\d markers, chunks, tag values and fill bytes"):
        check(jpeg_with(comment * 120), limits)
    # A megabyte of comments of 1,000 bytes.
    check(jpeg_with(segments(0xFE, bytes(1000), 2**20)), limits)
    check(png_with(behind=b"\0\0\4\0tEXt" + bytes(1028)), limits)


def test_tags_may_not_share_their_bytes() -> None:
    check_exif(tags(50), FEW)
    one = tags(100, kind=7, tag=0x9286, values=800)
    check_exif(one, FEW)
    with pytest.raises(ImageFileError, match="expected tags that lie side by side"):
        check_exif(one[:8] + b"\0\2" + one[10:22] * 2 + one[22:], FEW)
    with pytest.raises(ImageFileError, match="expected at most 6"):
        check_exif(b"Exif\0\0" + tags(700), FEW)


# Of a number in its place, and of no bytes at all.
@pytest.mark.parametrize("kind_and_count", [b"\0\4\0\0\0\1", b"\0\1\0\0\0\0"])
def test_a_directory_that_names_itself_ends(kind_and_count: bytes) -> None:
    circle = b"MM\0\x2a\0\0\0\x08\0\1" + b"\x87\x69" + kind_and_count + b"\0\0\0\x08" + bytes(4)
    with pytest.raises(ImageFileError, match="expected"):
        check_exif(circle, FEW)


def test_tags_whose_values_lie_outside_of_the_file_count_too() -> None:
    """Otherwise a directory that names itself as often as parts are allowed would be full of them for nothing."""
    outside = b"\1\x1a\0\5\0\1\0\0\0\0\0\0"
    check_exif(b"MM\0\x2a\0\0\0\x08" + (590).to_bytes(2, "big") + outside * 590, FEW)
    with pytest.raises(ImageFileError, match="expected at most 6"):
        check_exif(b"MM\0\x2a\0\0\0\x08" + (700).to_bytes(2, "big") + outside * 700, FEW)


@pytest.mark.parametrize(
    "data", [b"", b"\xff\xd8\xff", b"\x89PNG", b"GIF89a", b"II*\0", b"MM\0+", b"II*\0\xff\xff\xff\xff"]
)
def test_a_few_bytes_have_no_structure(data: bytes) -> None:
    assert check(data, FEW) == []
