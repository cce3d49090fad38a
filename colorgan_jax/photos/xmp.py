"""XMP packets: what they say of a photo is kept, and where its colors are from is added.

XMP is RDF in XML (ISO 16684-1). A packet is not written anew but cut and spliced where
it is read, so that all else in it stays the same to the byte, but for its padding.
"""

import codecs
import dataclasses
import re
from typing import NamedTuple
from xml.parsers import expat
from xml.sax.saxutils import escape, quoteattr

_RDF = "http://www.w3.org/1999/02/22-rdf-syntax-ns#"
_IPTC = "http://iptc.org/std/Iptc4xmpExt/2008-02-29/"
_COLORGAN = "https://github.com/colorgan-jax/colorgan_jax/ns/1.0/"
_XMP = "http://ns.adobe.com/xap/1.0/"
_TIFF = "http://ns.adobe.com/tiff/1.0/"
_EXIF = "http://ns.adobe.com/exif/1.0/"
_PHOTOSHOP = "http://ns.adobe.com/photoshop/1.0/"
_PREFIXES = {_IPTC: "Iptc4xmpExt", _COLORGAN: "colorgan", _TIFF: "tiff"}

_DIGITAL_SOURCE_TYPE = (_IPTC, "DigitalSourceType")
_SYSTEM_USED = (_IPTC, "AISystemUsed")
_SYSTEM_VERSION_USED = (_IPTC, "AISystemVersionUsed")
_SOURCE = (_COLORGAN, "Source")
_SETTINGS = (_COLORGAN, "Settings")
_ORIENTATION = (_TIFF, "Orientation")

# https://cv.iptc.org/newscodes/digitalsourcetype/
_COMPOSITE_WITH_GENERATED = "http://cv.iptc.org/newscodes/digitalsourcetype/compositeWithTrainedAlgorithmicMedia"
_SYSTEM = "colorgan_jax"

_PROVENANCE = frozenset(
    (_DIGITAL_SOURCE_TYPE, _SYSTEM_USED, _SYSTEM_VERSION_USED, _SOURCE, _SETTINGS)
)
# No longer true of a photo that is upright, sRGB and in color.
_OUTDATED = frozenset(
    (
        _ORIENTATION,
        (_XMP, "Thumbnails"),
        (_TIFF, "ImageWidth"),
        (_TIFF, "ImageLength"),
        (_TIFF, "BitsPerSample"),
        (_TIFF, "Compression"),
        (_TIFF, "PhotometricInterpretation"),
        (_TIFF, "SamplesPerPixel"),
        (_TIFF, "PlanarConfiguration"),
        (_EXIF, "ColorSpace"),
        (_EXIF, "PixelXDimension"),
        (_EXIF, "PixelYDimension"),
        (_PHOTOSHOP, "ColorMode"),
        (_PHOTOSHOP, "ICCProfile"),
    )
)

_EMPTY_PACKET = f"""<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>
<x:xmpmeta xmlns:x="adobe:ns:meta/">
 <rdf:RDF xmlns:rdf="{_RDF}">
 </rdf:RDF>
</x:xmpmeta>
<?xpacket end="w"?>""".encode()

_ATTRIBUTE = re.compile(rb"""\s+([^\s=]+)\s*=\s*(?:"[^"]*"|'[^']*')""")
_START_TAG = re.compile(rb"<[^\s/>]+((?:" + _ATTRIBUTE.pattern + rb")*)\s*(/?)>")
_WRAPPER = re.compile(rb"\A\s*<\?xpacket begin=[^>]*\?>")
_PADDING = re.compile(rb"\s+(<\?xpacket end)")

# Between namespace, name and prefix as the parser gives them. In a packet it can stand
# in none of them but as `&#10;`.
_SEPARATOR = "\n"


class _DamagedError(ValueError):
    """A packet is not well-formed, declares entities, or has no `rdf:RDF`."""


class _Property(NamedTuple):
    """A property of the photo: an attribute or an element, and where it stands."""

    name: tuple[str, str]
    value: str
    start: int
    end: int


@dataclasses.dataclass
class _Description:
    """An `rdf:Description`: its properties, and where it stands."""

    about: str
    properties: list[_Property]
    start: int
    end: int


class _Packet:
    """Finds the properties of a packet.

    Attributes:
      content: the packet in UTF-8.
      descriptions: those in its `rdf:RDF`.
      rdf_end: where the end tag of that begins.

    Raises:
      _DamagedError: see there.
    """

    def __init__(self, packet: bytes):
        self.content = _as_utf8(packet)
        self.descriptions: list[_Description] = []
        self.rdf_end = 0
        self._starts: list[int] = []  # of the elements that are open
        self._rdf_depth: int | None = None
        self._text: list[str] = []

        self._parser = expat.ParserCreate("utf-8", _SEPARATOR)
        self._parser.namespace_prefixes = True
        self._parser.StartDoctypeDeclHandler = self._refuse_doctype
        self._parser.StartElementHandler = self._start_element
        self._parser.EndElementHandler = self._end_element
        self._parser.CharacterDataHandler = self._text.append
        try:
            # Spaces in its place: some programs garble the byte order mark in it.
            content = _WRAPPER.sub(lambda found: b" " * len(found[0]), self.content)
            self._parser.Parse(content, True)
        except expat.ExpatError as error:
            raise _DamagedError(str(error)) from error
        if not self.rdf_end:
            raise _DamagedError("There is no rdf:RDF.")

    def _refuse_doctype(self, *declaration: object) -> None:
        raise _DamagedError("There is a DOCTYPE.")

    def _is_in_rdf(self, levels: int) -> bool:
        """Whether the newest open element is so many levels below `rdf:RDF`."""
        return (
            self._rdf_depth is not None
            and len(self._starts) == self._rdf_depth + levels
        )

    def _start_element(self, name: str, attributes: dict[str, str]) -> None:
        start = self._parser.CurrentByteIndex
        self._starts.append(start)
        namespace, local = _split_name(name)
        if self._rdf_depth is None:
            if (namespace, local) == (_RDF, "RDF"):
                self._rdf_depth = len(self._starts)
        elif self._is_in_rdf(1):
            self.descriptions.append(self._read_description(start, attributes))
        elif self._is_in_rdf(2):
            self._text.clear()

    def _end_element(self, name: str) -> None:
        if self._is_in_rdf(2):
            value = "".join(self._text).strip()
            start = self.before_space(self._starts[-1])
            self.descriptions[-1].properties.append(
                _Property(_split_name(name), value, start, self._end_of_element())
            )
        elif self._is_in_rdf(1):
            self.descriptions[-1].end = self._end_of_element()
        elif self._is_in_rdf(0):
            self._rdf_depth = None
            if (
                self._end_of_element() > self._parser.CurrentByteIndex
            ):  # no `<rdf:RDF/>`
                self.rdf_end = self._parser.CurrentByteIndex
        self._starts.pop()

    def _read_description(self, start: int, attributes: dict[str, str]) -> _Description:
        """Reads the start tag of a description."""
        spans = {
            attribute[1].decode(): attribute.span()
            for attribute in _ATTRIBUTE.finditer(
                self.content, *self._start_tag(start).span(1)
            )
        }
        about = ""
        properties = []
        for name, value in attributes.items():
            namespace, local = _split_name(name)
            prefix = name.split(_SEPARATOR)[2:]
            if local == "about" and namespace in (_RDF, ""):
                about = value
            else:
                span = spans[":".join([*prefix, local])]
                properties.append(_Property((namespace, local), value, *span))
        return _Description(about, properties, self.before_space(start), start)

    def _start_tag(self, start: int) -> re.Match[bytes]:
        """Matches the start tag at a place where the parser found one."""
        tag = _START_TAG.match(self.content, start)
        if tag is None:
            raise _DamagedError("A tag ends nowhere.")
        return tag

    def _end_of_element(self) -> int:
        """Where the newest open element ends, as the parser comes to its end."""
        tag = self._start_tag(self._starts[-1])
        if tag[3]:  # `<.../>`, which has no end tag
            return tag.end()
        return self.content.index(b">", self._parser.CurrentByteIndex) + 1

    def before_space(self, position: int) -> int:
        """Where the space before a position begins."""
        while self.content[position - 1] in b" \t\r\n":
            position -= 1
        return position


def _split_name(name: str) -> tuple[str, str]:
    """Namespace and local name of what the parser calls an element or attribute."""
    parts = name.split(_SEPARATOR)
    return (parts[0], parts[1]) if len(parts) > 1 else ("", name)


def _as_utf8(packet: bytes) -> bytes:
    """The packet in UTF-8, which is what nearly all have; XMP allows UTF-16, too."""
    encoding = None
    if packet.startswith((b"\xff\xfe", b"\xfe\xff")):
        encoding = "utf-16"
    elif packet.startswith(b"<\0"):
        encoding = "utf-16-le"
    elif packet.startswith(b"\0<"):
        encoding = "utf-16-be"
    if encoding:
        try:
            packet = packet.decode(encoding).encode()
        except UnicodeError as error:
            raise _DamagedError(str(error)) from error
    # Some writers end it like a string of C.
    return packet.removeprefix(codecs.BOM_UTF8).rstrip(b"\0")


def make_upright(packet: bytes | None) -> bytes:
    """Makes a packet describe the photo as it is written: upright, sRGB, no thumbnail.

    What it says of the pixels as they were stored is removed: size, color space,
    thumbnails. The orientation, if there is one, becomes upright. All else is kept.

    Args:
      packet: the XMP packet of the photo that was read, if it has one.

    Returns:
      The packet to write, in UTF-8; b"" if there is none, or if it is damaged.
    """
    try:
        return _replace_properties(_Packet(packet or b""), _OUTDATED, {})
    except _DamagedError:
        return b""


def add_provenance(
    packet: bytes | None, *, source: str | None, settings: str | None, version: str
) -> bytes:
    """Adds that the colors of the photo are generated, and by what.

    These are the IPTC properties DigitalSourceType (a composite with what a trained
    algorithm made), AISystemUsed and AISystemVersionUsed (IPTC Photo Metadata 2025.1),
    and two of our own by which a later run knows its results. All else is as
    `make_upright` leaves it.

    Args:
      packet: the XMP packet of the photo that was read, if it has one. One that is
        damaged or declares entities is replaced.
      source: names the photo that was colorized; hexadecimal digits, say.
      settings: names the weights and options, likewise.
      version: of colorgan_jax.

    Returns:
      The packet to write, in UTF-8.
    """
    try:
        old = _Packet(packet or _EMPTY_PACKET)
    except _DamagedError:
        old = _Packet(_EMPTY_PACKET)
    added = {
        _DIGITAL_SOURCE_TYPE: _COMPOSITE_WITH_GENERATED,
        _SYSTEM_USED: _SYSTEM,
        _SYSTEM_VERSION_USED: version,
        _SOURCE: source,
        _SETTINGS: settings,
    }
    added = {name: text for name, text in added.items() if text is not None}
    return _replace_properties(old, _OUTDATED | _PROVENANCE, added)


def _replace_properties(
    old: _Packet,
    outdated: frozenset[tuple[str, str]],
    added: dict[tuple[str, str], str],
) -> bytes:
    """Splices a packet: outdated properties go, others come in a description of their own.

    An outdated orientation is not lost but comes as 1.
    """
    added = dict(added)
    removed = []
    for description in old.descriptions:
        names = {found.name for found in description.properties}
        if _ORIENTATION in names:
            added[_ORIENTATION] = "1"
        if names and names <= outdated:
            removed.append((description.start, description.end))
        else:
            removed += [
                (found.start, found.end)
                for found in description.properties
                if found.name in outdated
            ]
    # What is added stands last, before the space that leads to the end tag.
    place = old.before_space(old.rdf_end)
    removed.append((place, place))

    kept = []
    position = 0
    for start, end in sorted(removed):
        kept.append(old.content[position:start])
        position = end
    if added:
        about = old.descriptions[0].about if old.descriptions else ""
        kept.append(_describe(about, added))
    # The padding is there for this; a JPEG file has room for 65,502 bytes in all.
    kept.append(_PADDING.sub(rb"\n\1", old.content[position:]))
    return b"".join(kept)


def _describe(about: str, properties: dict[tuple[str, str], str]) -> bytes:
    """Writes an `rdf:Description` of simple properties."""
    namespaces = dict.fromkeys(namespace for namespace, _ in properties)
    lines = [f'  <rdf:Description xmlns:rdf="{_RDF}" rdf:about={quoteattr(about)}']
    lines += [f'    xmlns:{_PREFIXES[name]}="{name}"' for name in namespaces]
    lines[-1] += ">"
    for (namespace, local), text in properties.items():
        name = f"{_PREFIXES[namespace]}:{local}"
        lines.append(f"   <{name}>{escape(text)}</{name}>")
    lines.append("  </rdf:Description>")
    return "".join(f"\n{line}" for line in lines).encode()


def read_provenance(packet: bytes | None) -> tuple[str | None, str | None] | None:
    """Reads what `add_provenance` wrote, even after another program wrote it anew.

    Args:
      packet: the XMP packet of a photo, if it has one.

    Returns:
      Source and settings; None if the packet is not ours, or damaged.
    """
    try:
        descriptions = _Packet(packet or _EMPTY_PACKET).descriptions
    except _DamagedError:
        return None
    values = {
        found.name: found.value
        for description in descriptions
        for found in description.properties
    }
    if values.get(_SYSTEM_USED) != _SYSTEM:
        return None
    return values.get(_SOURCE), values.get(_SETTINGS)
