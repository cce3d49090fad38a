"""XMP says that colors are generated, and all else in it is kept."""

import re
from xml.dom import minidom

import numpy as np
import pytest
from exiftool import needs_exiftool, read_tags, write_tags

from colorgan_jax.photos.xmp import add_provenance, make_upright, read_provenance

GENERATED = "http://cv.iptc.org/newscodes/digitalsourcetype/compositeWithTrainedAlgorithmicMedia"
IPTC = "http://iptc.org/std/Iptc4xmpExt/2008-02-29/"
RDF = "http://www.w3.org/1999/02/22-rdf-syntax-ns#"
XMLNS = "http://www.w3.org/2000/xmlns/"

# As Lightroom lays it out: attributes and elements, structures, comments, escapes.
PACKET = """<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>
<x:xmpmeta xmlns:x="adobe:ns:meta/" x:xmptk="Adobe XMP Core 7.0">
 <rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">
  <!-- a scan of Grandmother's album -->
  <rdf:Description rdf:about="uuid:4711"
    xmlns:xmp="http://ns.adobe.com/xap/1.0/"
    xmlns:dc="http://purl.org/dc/elements/1.1/"
    xmlns:photoshop="http://ns.adobe.com/photoshop/1.0/"
    xmlns:tiff="http://ns.adobe.com/tiff/1.0/"
    xmlns:xmpGImg="http://ns.adobe.com/xap/1.0/g/img/"
    xmlns:ext='http://iptc.org/std/Iptc4xmpExt/2008-02-29/'
   xmp:CreatorTool="EPSON Scan &lt;3&gt;&#10;second line"
   photoshop:City='Zürich "old"'
   tiff:Orientation = '6'
   photoshop:ColorMode="1"
   xmp:Rating="5">
   <dc:subject>
    <rdf:Bag>
     <rdf:li>children</rdf:li>
     <rdf:li>snow &amp; ice</rdf:li>
    </rdf:Bag>
   </dc:subject>
   <xmp:Thumbnails><rdf:Alt><rdf:li rdf:parseType="Resource">
     <xmpGImg:image>/9j/gray</xmpGImg:image></rdf:li></rdf:Alt></xmp:Thumbnails>
   <ext:DigitalSourceType rdf:resource="http://example.org/negativeFilm"/>
   <dc:title><rdf:Alt><rdf:li xml:lang="x-default">Winter</rdf:li></rdf:Alt></dc:title>
  </rdf:Description>
 </rdf:RDF>
</x:xmpmeta>

<?xpacket end="w"?>""".encode()


def colored(packet, *, source="0a1b", settings="2c3d", version="0.1.0"):
    return add_provenance(packet, source=source, settings=settings, version=version)


def properties(packet):
    """What the XML of a packet holds, by an independent reader: name and text."""
    found = []
    for description in minidom.parseString(packet).getElementsByTagNameNS(
        RDF, "Description"
    ):
        for attribute in description.attributes.values():
            if attribute.namespaceURI not in (RDF, XMLNS):
                name = f"{{{attribute.namespaceURI}}}{attribute.localName}"
                found.append((name, attribute.value))
        for child in description.childNodes:
            if child.nodeType == child.ELEMENT_NODE:
                text = "".join(
                    node.data for node in child.childNodes if node.nodeType == 3
                )
                found.append(
                    (f"{{{child.namespaceURI}}}{child.localName}", text.strip())
                )
    return found


@pytest.mark.parametrize("packet", [None, b"", PACKET], ids=["none", "empty", "one"])
def test_provenance_is_added(packet):
    found = properties(colored(packet))
    assert found.count((f"{{{IPTC}}}DigitalSourceType", GENERATED)) == 1
    assert found.count((f"{{{IPTC}}}AISystemUsed", "colorgan_jax")) == 1
    assert found.count((f"{{{IPTC}}}AISystemVersionUsed", "0.1.0")) == 1
    names = [name for name, _ in found]
    assert len(names) == len(set(names))
    assert read_provenance(colored(packet)) == ("0a1b", "2c3d")


def test_all_else_is_kept_to_the_byte():
    result = colored(PACKET)
    kept = PACKET
    for removed in (
        b"\n   tiff:Orientation = '6'",
        b'\n   photoshop:ColorMode="1"',
        b'\n   <ext:DigitalSourceType rdf:resource="http://example.org/negativeFilm"/>',
        re.search(rb"\n   <xmp:Thumbnails>.*</xmp:Thumbnails>", PACKET, re.DOTALL)[0],
    ):
        assert kept.count(removed) == 1
        kept = kept.replace(removed, b"")
    end = kept.index(b"\n </rdf:RDF>")
    assert result.startswith(kept[:end] + b"\n  <rdf:Description ")
    assert result.endswith(
        b"\n  </rdf:Description>" + kept[end:].replace(b"\n\n<?xp", b"\n<?xp")
    )


def test_without_provenance_only_what_is_outdated_goes():
    result = make_upright(PACKET)
    before, after = properties(PACKET), properties(result)
    gone = {"Orientation", "ColorMode", "Thumbnails"}
    expected = [item for item in before if item[0].split("}")[1] not in gone]
    assert after == [*expected, ("{http://ns.adobe.com/tiff/1.0/}Orientation", "1")]
    assert b"negativeFilm" in result
    assert make_upright(result) == result
    assert properties(make_upright(colored(PACKET))) == properties(colored(PACKET))


def test_orientation_becomes_upright_where_there_is_one():
    name = "{http://ns.adobe.com/tiff/1.0/}Orientation"
    assert (name, "1") in properties(colored(PACKET))
    assert name not in dict(properties(colored(None)))


def test_what_is_added_is_about_the_same_photo():
    description = minidom.parseString(colored(PACKET)).getElementsByTagName(
        "rdf:Description"
    )[-1]
    assert description.getAttributeNS(RDF, "about") == "uuid:4711"


def test_second_run_replaces_the_first():
    once = colored(PACKET, source="first", version="0.0.9")
    assert colored(once) == colored(PACKET)
    assert colored(colored(None)) == colored(None)


def test_padding_makes_room():
    padded = PACKET.replace(
        b"\n\n<?xpacket end", b"\n" + b" " * 2_000 + b"<?xpacket end"
    )
    assert colored(padded) == colored(PACKET)


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-le", "utf-16-be"])
@pytest.mark.parametrize("end", [b"", b"\0\0"])
def test_other_encodings_and_ends_are_read(encoding, end):
    packet = PACKET.decode().encode(encoding) + end
    assert colored(packet) == colored(PACKET)


@pytest.mark.parametrize("mark", [b"\x1a", b"\xff\xfe", b""])
def test_garbled_byte_order_mark_costs_nothing(mark):
    # The first is how F-Spot writes it.
    packet = PACKET.replace("\ufeff".encode(), mark)
    expected = colored(PACKET).replace("\ufeff".encode(), mark)
    assert colored(packet) == expected
    assert read_provenance(expected) == ("0a1b", "2c3d")


@pytest.mark.parametrize("prefix", ["rdf", "RDF-1"])
def test_any_prefixes_and_a_packet_without_wrapper(prefix):
    packet = f"""<{prefix}:RDF xmlns:{prefix}="{RDF}"><{prefix}:Description
        {prefix}:about="" xmlns="{IPTC}"><DigitalSourceType>x</DigitalSourceType>
        <Event>Fair</Event></{prefix}:Description></{prefix}:RDF>"""
    found = properties(colored(packet.encode()))
    assert found[0] == (f"{{{IPTC}}}Event", "Fair")
    assert [text for name, text in found if "DigitalSourceType" in name] == [GENERATED]


def test_source_and_settings_may_be_absent():
    packet = colored(PACKET, source=None, settings=None)
    assert b"colorgan-jax" not in packet
    assert read_provenance(packet) == (None, None)
    assert read_provenance(colored(packet, source="a", settings=None)) == ("a", None)


def test_values_are_escaped():
    packet = colored(None, source="<&>", settings='"')
    assert read_provenance(packet) == ("<&>", '"')
    minidom.parseString(packet)


DAMAGED = {
    "cut": PACKET[:-200],
    "no XML": b"\xff\xd8\xff\xe0 a JPEG",
    "no UTF-8": PACKET.replace("ü".encode(), b"\xfc"),
    "no RDF": b'<x:xmpmeta xmlns:x="adobe:ns:meta/"/>',
    "nothing in the RDF": f'<rdf:RDF xmlns:rdf="{RDF}"/>'.encode(),
    "undeclared prefix": PACKET.replace(b"xmlns:dc=", b"xmlns:cd="),
    "half of UTF-16": PACKET.decode().encode("utf-16")[:-1],
    "a harmless DOCTYPE": PACKET.replace(
        b"<x:xmpmeta", b'<!DOCTYPE x [<!ENTITY e "Winter">]><x:xmpmeta', 1
    ),
    "deep": b"<a>" * 5_000,
}


@pytest.mark.parametrize("packet", DAMAGED.values(), ids=DAMAGED)
def test_damaged_packet_is_replaced(packet):
    assert read_provenance(packet) is None
    assert colored(packet) == colored(None)
    assert make_upright(packet) == make_upright(None) == b""


def test_entities_are_refused():
    bomb = b'<!DOCTYPE x [<!ENTITY a "' + b"a" * 1_000 + b'">'
    bomb += b"".join(
        b'<!ENTITY %c "%s">' % (98 + level, b"&%c;" % (97 + level) * 1_000)
        for level in range(5)
    )
    packet = colored(PACKET).replace(b"<x:xmpmeta", bomb + b"]><x:xmpmeta", 1)
    packet = packet.replace(b"Winter", b"&f;")
    assert read_provenance(packet) is None
    assert colored(packet) == colored(None)


@pytest.mark.parametrize("packet", [None, b"", PACKET])
def test_other_packets_are_not_ours(packet):
    assert read_provenance(packet) is None
    other = colored(packet).replace(b">colorgan_jax<", b">another<")
    assert read_provenance(other) is None


def test_attributes_are_read_too():
    # As other programs write simple properties.
    packet = f"""<rdf:RDF xmlns:rdf="{RDF}"><rdf:Description xmlns:a="{IPTC}"
      xmlns:b="https://github.com/colorgan-jax/colorgan_jax/ns/1.0/"
      a:AISystemUsed="colorgan_jax" b:Source="s" b:Settings="t"/></rdf:RDF>"""
    assert read_provenance(packet.encode()) == ("s", "t")
    assert properties(colored(packet.encode())) == properties(colored(None))


def test_deep_and_large_property_is_kept():
    history = b"<dc:source>%s</dc:source>" % (b"<a>b</a>" * 5_000)
    history += b"<dc:source>" + b"<a>" * 5_000 + b"</a>" * 5_000 + b"</dc:source>"
    packet = PACKET.replace(b"<dc:title>", history + b"<dc:title>")
    assert history in colored(packet)


def test_flipped_and_cut_bytes_are_no_error():
    packet = colored(PACKET)
    random = np.random.default_rng(0)
    survived = 0
    for _ in range(400):
        damaged = bytearray(
            packet[: random.integers(len(packet) // 2, len(packet) + 1)]
        )
        if random.random() < 0.7:
            damaged = bytearray(packet)
        for _ in range(random.integers(1, 4)):
            damaged[random.integers(len(damaged))] ^= 1 << random.integers(8)
        read_provenance(bytes(damaged))
        make_upright(bytes(damaged))
        result = colored(bytes(damaged))
        assert read_provenance(result) == ("0a1b", "2c3d")
        survived += b"children" in result
    assert 20 < survived < 300  # both ways were taken


@needs_exiftool
def test_exiftool_reads_the_provenance(tmp_path):
    path = tmp_path / "photo.xmp"
    path.write_bytes(PACKET)
    before = read_tags(path)
    path.write_bytes(colored(PACKET))
    tags = read_tags(path)
    assert tags["XMP-iptcExt:DigitalSourceType"] == GENERATED
    assert tags["XMP-iptcExt:AISystemUsed"] == "colorgan_jax"
    assert tags["XMP-iptcExt:AISystemVersionUsed"] == "0.1.0"
    assert tags["XMP-colorgan:Source"] == "0a1b"
    assert tags["XMP-tiff:Orientation"] == 1
    assert "XMP-xmp:ThumbnailImage" in before.keys() - tags.keys()
    for name in ("xmp:CreatorTool", "xmp:Rating", "dc:Subject", "dc:Title"):
        assert tags[f"XMP-{name}"] == before[f"XMP-{name}"]


@needs_exiftool
def test_provenance_survives_exiftool(tmp_path):
    path = tmp_path / "photo.xmp"
    path.write_bytes(colored(PACKET))
    write_tags(path, "-XMP-dc:Creator=Ann", "-XMP-xmp:Rating=1")
    assert b"Ann" in path.read_bytes()
    assert read_provenance(path.read_bytes()) == ("0a1b", "2c3d")
    assert colored(path.read_bytes()).count(GENERATED.encode()) == 1
