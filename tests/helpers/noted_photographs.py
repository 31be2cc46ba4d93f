"""Photographs with what cameras and people write into files, each note with a secret in it."""

import io
import struct

import pytest

image, cms, png, tiff = (
    pytest.importorskip(f"PIL.{name}") for name in ("Image", "ImageCms", "PngImagePlugin", "TiffImagePlugin")
)

SECRET = b"Mrs. Hidden"
TEXT = SECRET.decode() + ", 48.1371 N 11.5754 E, tench"
PROFILE = cms.ImageCmsProfile(cms.createProfile("sRGB")).tobytes()

ENDINGS = ("jpg", "png", "webp", "gif", "tif", "jp2")
TURNED = ("jpg", "png", "webp", "tif")
"""Those that say how the camera was held, and what it meant by its colours."""

LEFT, RIGHT = (220, 40, 40), (40, 40, 220)

_XMP = (
    '<?xpacket begin="" id="W5M0MpCehiHzreSzNTczkc9d"?><x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF '
    'xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#"><rdf:Description '
    f'xmlns:dc="http://purl.org/dc/elements/1.1/" dc:title="{TEXT}"/></rdf:RDF></x:xmpmeta>'
).encode()


def _iptc():
    """Return a caption and a keyword as IPTC-IIM writes them."""
    fields = ((120, TEXT), (25, TEXT))
    return b"".join(struct.pack(">BBBH", 0x1C, 2, kind, len(text)) + text.encode() for kind, text in fields)


def _exif():
    exif = image.Exif()
    exif[0x0112] = 6  # to be turned by 90 degrees: what is left is above
    exif[0x010F] = exif[0x010E] = TEXT
    exif.get_ifd(0x8825)[29] = TEXT  # of the place
    return exif


def _segment(marker, data):
    return struct.pack(">BBH", 0xFF, marker, len(data) + 2) + data


def _jpeg(picture):
    made = io.BytesIO()
    picture.save(made, "JPEG", exif=_exif(), icc_profile=PROFILE, quality=95)
    data = made.getvalue()
    at = 4 + struct.unpack(">H", data[4:6])[0]  # behind the JFIF header
    iptc = _iptc()
    resource = b"Photoshop 3.0\x008BIM\x04\x04\0\0" + struct.pack(">I", len(iptc)) + iptc
    notes = (
        _segment(0xFE, TEXT.encode()),
        _segment(0xE1, b"http://ns.adobe.com/xap/1.0/\0" + _XMP),
        _segment(0xED, resource + b"\0" * (len(iptc) % 2)),
    )
    return data[:at] + b"".join(notes) + data[at:]


def _png():
    notes = png.PngInfo()
    notes.add_text("Comment", TEXT)
    notes.add_text("comment", TEXT, zip=True)  # Pillow's own name for the comment of a JPEG
    notes.add_text("Raw profile type iptc", _iptc().hex(), zip=True)
    notes.add_itxt("XML:com.adobe.xmp", _XMP.decode())
    return notes


def _tiff():
    tags = tiff.ImageFileDirectory_v2()
    tags[270] = tags[315] = TEXT
    tags[274] = 6
    tags.tagtype[700] = tags.tagtype[33723] = 1
    tags[700], tags[33723] = _XMP, _iptc()
    return tags


def write_photograph(path):
    """Write a red and blue photograph of 400 × 200 pixels in the format of its ending; see `TURNED`."""
    picture = image.new("RGB", (400, 200), LEFT)
    picture.paste(RIGHT, (200, 0, 400, 200))
    ending = path.suffix[1:]
    if ending == "jpg":
        path.write_bytes(_jpeg(picture))
    else:
        notes = {
            "png": {"pnginfo": _png(), "exif": _exif(), "icc_profile": PROFILE},
            "webp": {"exif": _exif(), "xmp": _XMP, "icc_profile": PROFILE, "quality": 95},
            "gif": {"comment": TEXT.encode()},
            "tif": {"tiffinfo": _tiff(), "icc_profile": PROFILE},
            "jp2": {"comment": TEXT.encode()},
        }
        picture.save(path, **notes[ending])
    return path
