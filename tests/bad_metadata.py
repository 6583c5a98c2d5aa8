"""Metadata that is broken, hostile, impossible, or contradicts the file."""

from __future__ import annotations

import json

from bad_cases import READS, add
from raw_tiff import ome, page, sizes, text, tiff
from source_files import bti_xml, ri_tag, texture, tiff_bytes


# 6. Metadata.
def _gen5(description: str | bytes) -> bytes:
    return tiff(page(t270=text(description)))


_LAUGHS = "".join(f'<!ENTITY l{i} "{f"&l{i - 1};" * 10 if i else "lol"}">' for i in range(12))
add("broken XML", "gen5", lambda: _gen5("<BTIImageMetaData><Image"), "bad_metadata")
add("a DTD", "gen5", lambda: _gen5("<!DOCTYPE BTIImageMetaData><BTIImageMetaData/>"), "bad_metadata")
add(
    "billion laughs",
    "gen5",
    lambda: _gen5(f"<!DOCTYPE b [{_LAUGHS}]><BTIImageMetaData>&l11;</BTIImageMetaData>"),
    "bad_metadata",
)
add(
    "an external entity",
    "gen5",
    lambda: _gen5('<!DOCTYPE b [<!ENTITY x SYSTEM "file:///etc/passwd">]><BTIImageMetaData>&x;</BTIImageMetaData>'),
    "bad_metadata",
)
add(
    "an external entity, OME",
    "ometiff",
    lambda: tiff(page(t270=text('<!DOCTYPE b [<!ENTITY x SYSTEM "file:///etc/passwd">]><OME xmlns="x">&x;</OME>'))),
    "bad_metadata",
)
add("100 MB of XML", "gen5", lambda: _gen5(b"<BTIImageMetaData>" + b"x" * 100_000_000), "too_large")
add(
    "15 MB of elements",
    "gen5",
    lambda: _gen5(b"<BTIImageMetaData>" + b"<a/>" * 3_700_000 + b"</BTIImageMetaData>"),
    "too_large",
)
add("elements a million deep", "gen5", lambda: _gen5(b"<BTIImageMetaData>" + b"<a>" * 700_000), "bad_metadata")
add("UTF-16 XML", "gen5", lambda: _gen5(bti_xml().encode("utf-16")), "no_pixel_size", "bad_metadata")
add(
    "XML that says another encoding",
    "gen5",
    lambda: _gen5('<?xml version="1.0" encoding="utf-16"?>' + bti_xml()),
    READS,
    "bad_metadata",
    "no_pixel_size",
)
add("NUL bytes in XML", "gen5", lambda: _gen5(bti_xml().replace("GFP", "G\0P")), "bad_metadata", "no_pixel_size", READS)
add("no metadata", "gen5", lambda: tiff(page()), "no_pixel_size")
for name, changes in {
    "no pixel size": {"PixelWidth": ""},
    "pixel size 0": {"ImageWidthMicrons": "0"},
    "pixel size negative": {"ImageWidthMicrons": "-394"},
    "pixel size NaN": {"ImageWidthMicrons": "nan"},
    "pixel size that overflows": {"ImageWidthMicrons": "1e300", "PixelWidth": "1e-300"},
}.items():
    add(name, "gen5", lambda changes=changes: _gen5(bti_xml(**changes)), "no_pixel_size")
add("pixel size 1e300", "gen5", lambda: _gen5(bti_xml(ImageWidthMicrons="1e300")), "bad_metadata")
add("a date that does not exist", "gen5", lambda: _gen5(bti_xml(Date="02/31/25")), READS)
add("year 99999", "gen5", lambda: _gen5(bti_xml(Date="02/01/99999")), READS)
add("year 0, OME", "ometiff", lambda: ome(date="0000-01-01T00:00:00"), READS)
add("year 1 east of Greenwich, OME", "ometiff", lambda: ome(date="0001-01-01T00:00:00+14:00"), READS)
add("kinetic time NaN", "gen5", lambda: _gen5(bti_xml(KineticTimeMs="NaN", KineticSequence="NaN")), READS)
add(
    "kinetic time 1e300 in the doubled hour",
    "gen5",
    lambda: _gen5(
        bti_xml(Date="10/26/25", Time="02:30:00", Daylight="", KineticTimeMs="1e300", KineticSequence="1e300")
    ),
    READS,
)


add("OME: SizeC 3 and one page", "ometiff", lambda: ome(sizes=sizes(C=3)), "incomplete", "wrong_type", "bad_metadata")
add("OME: SizeT 10^9", "ometiff", lambda: ome(sizes=sizes(T=10**9)), "too_large")
add("OME: SizeX 10^9", "ometiff", lambda: ome(sizes=sizes(X=10**9)), "wrong_type", "too_large")
add("OME: SizeZ 0", "ometiff", lambda: ome(sizes=sizes(Z=0)), "bad_metadata")
add("OME: SizeT is no number", "ometiff", lambda: ome(sizes=sizes().replace('T="1"', 'T="many"')), "bad_metadata")
add("OME: no sizes", "ometiff", lambda: ome(sizes=""), "bad_metadata")
add("OME: an order of nothing", "ometiff", lambda: ome(order="ABCDE"), "bad_metadata")
add(
    "OME: TiffData beyond the pages",
    "ometiff",
    lambda: ome(data='<TiffData IFD="7" PlaneCount="1"/>'),
    "wrong_type",
    "incomplete",
    "unreadable",
    "bad_metadata",
)
add("OME: PlaneCount 10^9", "ometiff", lambda: ome(data='<TiffData IFD="0" PlaneCount="1000000000"/>'), "too_large")
add("OME: a million TiffData", "ometiff", lambda: ome(data="<TiffData/>" * 1_000_000), "too_large")
add(
    "OME: of another file",
    "ometiff",
    lambda: ome(data='<TiffData IFD="0" PlaneCount="1"><UUID FileName="../other.tif">urn:uuid:0</UUID></TiffData>'),
    "wrong_type",
)
add(
    "OME: Modulo 10^15",
    "ometiff",
    lambda: ome(
        more='<StructuredAnnotations><XMLAnnotation ID="a" '
        'Namespace="openmicroscopy.org/omero/dimension/modulo"><Value><Modulo><ModuloAlongT Type="phase" Start="0" '
        'End="1000000000000000"/></Modulo></Value></XMLAnnotation></StructuredAnnotations>'
    ),
    "wrong_type",
)
add("OME: no pixel size", "ometiff", lambda: ome(unit=""), "no_pixel_size")
add(
    "OME: pixel size in parsecs",
    "ometiff",
    lambda: ome(unit='PhysicalSizeX="1" PhysicalSizeXUnit="pc"'),
    "no_pixel_size",
)
add(
    "OME: broken XML",
    "ometiff",
    lambda: tiff(page(t270=text("<OME xmlns='x'><Image></OME>"))),
    "bad_metadata",
    "wrong_type",
)
add("not OME", "ometiff", lambda: tiff_bytes(texture()), "wrong_type")
add(
    "ImageJ of 10^9 images",
    "ometiff",
    lambda: tiff(page(t270=text("ImageJ=1.53\nimages=1000000000\nframes=1000000000\n"))),
    "too_large",
    "wrong_type",
    "unreadable",
)
add(
    "tifffile's own shape of 10^12",
    "plain",
    lambda: tiff(page(t270=text(json.dumps({"shape": [10**6, 10**6]})))),
    READS,
    "unreadable",
    "too_large",
)
add("an LSM that is none", "plain", lambda: tiff(page(t34412=(1, bytes(600)))), READS)
add("refractive index from 2 to 1", "nanolive", lambda: tiff_bytes(texture(), extratags=ri_tag(2, 1)), "bad_metadata")
add(
    "refractive index NaN", "nanolive", lambda: tiff_bytes(texture(), extratags=ri_tag(float("nan"), 2)), "bad_metadata"
)
