// What a browser's canvas drops from photo files: the EXIF block, and the note that colors are
// generated. They are read from the bytes of one file and spliced into those of another.

const encoder = new TextEncoder();
const EXIF_PREFIX = encoder.encode("Exif\0\0");
const XMP_PREFIX = encoder.encode("http://ns.adobe.com/xap/1.0/\0");
const PNG_START = 8;
const ORIENTATION = 274;

/**
 * The EXIF block of a JPEG, PNG or WebP file, from `II*` or `MM` on.
 * @param {Uint8Array} file
 * @returns {Uint8Array | null}
 */
export function readExif(file) {
  try {
    return findExif(file);
  } catch (error) {
    // The file ends amid its structure; what a browser makes of its pixels is its matter.
    if (error instanceof RangeError) return null;
    throw error;
  }
}

function findExif(file) {
  const view = viewOf(file);
  if (view.getUint16(0) === 0xffd8) {
    for (let at = 2; view.getUint8(at) === 0xff; at += 2 + view.getUint16(at + 2)) {
      const marker = view.getUint8(at + 1);
      if (marker === 0xda) return null; // The pixels begin.
      const start = at + 4 + EXIF_PREFIX.length;
      if (marker === 0xe1 && startsWith(file, EXIF_PREFIX, at + 4)) {
        return file.slice(start, at + 2 + view.getUint16(at + 2));
      }
    }
    return null;
  }
  if (view.getUint32(0) === 0x89504e47) {
    for (let at = PNG_START; at < file.length;) {
      const length = view.getUint32(at);
      if (textAt(file, at + 4) === "eXIf") return file.slice(at + 8, at + 8 + length);
      at += 12 + length;
    }
    return null;
  }
  if (textAt(file, 0) === "RIFF" && textAt(file, 8) === "WEBP") {
    for (let at = 12; at < file.length;) {
      const length = view.getUint32(at + 4, true);
      if (textAt(file, at) === "EXIF") {
        const start = at + 8 + (startsWith(file, EXIF_PREFIX, at + 8) ? EXIF_PREFIX.length : 0);
        return file.slice(start, at + 8 + length);
      }
      at += 8 + length + (length % 2);
    }
  }
  return null;
}

/**
 * Makes an EXIF block describe the photo as it is written: upright, and without the thumbnail,
 * which shows it in gray. All else stays where it is.
 * @param {Uint8Array} block
 * @returns {Uint8Array | null} null if it is damaged
 */
export function makeUpright(block) {
  const result = block.slice();
  const view = viewOf(result);
  try {
    const little = textAt(result, 0, 2) === "II";
    if (!little && textAt(result, 0, 2) !== "MM") return null;
    const start = view.getUint32(4, little);
    const count = view.getUint16(start, little);
    for (let entry = start + 2; entry < start + 2 + 12 * count; entry += 12) {
      if (view.getUint16(entry, little) === ORIENTATION) view.setUint16(entry + 8, 1, little);
    }
    const next = start + 2 + 12 * count;
    const thumbnail = view.getUint32(next, little);
    view.setUint32(next, 0, little);
    // Its directory and its pixels are usually the end of the block.
    return thumbnail > next ? withoutThumbnail(result, thumbnail, little) : result;
  } catch (error) {
    if (error instanceof RangeError) return null;
    throw error;
  }
}

const THUMBNAIL_OFFSET = 513;
const THUMBNAIL_LENGTH = 514;

/** Cuts the thumbnail off if the block ends with it, and overwrites it otherwise. */
function withoutThumbnail(block, directory, little) {
  const view = viewOf(block);
  const numbers = new Map();
  const count = view.getUint16(directory, little);
  for (let entry = directory + 2; entry < directory + 2 + 12 * count; entry += 12) {
    numbers.set(view.getUint16(entry, little), view.getUint32(entry + 8, little));
  }
  const start = numbers.get(THUMBNAIL_OFFSET);
  const end = start + numbers.get(THUMBNAIL_LENGTH);
  if (!(start > directory && end <= block.length)) return block;
  block.fill(0, start, end);
  return end === block.length ? block.slice(0, start) : block;
}

/** The XMP packet that `colorgan colorize` writes: the colors are generated, and by what. */
export function provenance(version) {
  return `<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>
<x:xmpmeta xmlns:x="adobe:ns:meta/">
 <rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">
  <rdf:Description rdf:about=""
    xmlns:Iptc4xmpExt="http://iptc.org/std/Iptc4xmpExt/2008-02-29/">
   <Iptc4xmpExt:DigitalSourceType>http://cv.iptc.org/newscodes/digitalsourcetype/compositeWithTrainedAlgorithmicMedia</Iptc4xmpExt:DigitalSourceType>
   <Iptc4xmpExt:AISystemUsed>colorgan_jax</Iptc4xmpExt:AISystemUsed>
   <Iptc4xmpExt:AISystemVersionUsed>${version}</Iptc4xmpExt:AISystemVersionUsed>
  </rdf:Description>
 </rdf:RDF>
</x:xmpmeta>
<?xpacket end="w"?>`;
}

/**
 * A PNG or JPEG file with an EXIF block, if there is one, and an XMP packet.
 * @param {Uint8Array} file
 * @param {{exif: Uint8Array | null, xmp: string}} metadata
 * @returns {Uint8Array[]} its parts
 */
export function withMetadata(file, { exif, xmp }) {
  const packet = encoder.encode(xmp);
  if (viewOf(file).getUint16(0) === 0xffd8) {
    // A segment of JPEG has room for 64 KiB; an EXIF block comes from one, or may not fit.
    const fits = exif && exif.length + EXIF_PREFIX.length + 2 < 65536;
    // Behind the JFIF segment, which comes first.
    const at = file[3] === 0xe0 ? 4 + viewOf(file).getUint16(4) : 2;
    return [
      file.subarray(0, at),
      ...(fits ? [segment(EXIF_PREFIX, exif)] : []),
      segment(XMP_PREFIX, packet),
      file.subarray(at),
    ];
  }
  const at = PNG_START + 12 + viewOf(file).getUint32(PNG_START); // Behind the header.
  const text = encoder.encode("XML:com.adobe.xmp\0\0\0\0\0");
  return [
    file.subarray(0, at),
    ...(exif ? [chunk("eXIf", exif)] : []),
    chunk("iTXt", join(text, packet)),
    file.subarray(at),
  ];
}

function segment(prefix, content) {
  const head = new Uint8Array(4);
  viewOf(head).setUint16(0, 0xffe1);
  viewOf(head).setUint16(2, 2 + prefix.length + content.length);
  return join(head, prefix, content);
}

function chunk(kind, content) {
  const named = join(encoder.encode(kind), content);
  const length = new Uint8Array(4);
  const sum = new Uint8Array(4);
  viewOf(length).setUint32(0, content.length);
  viewOf(sum).setUint32(0, crc32(named));
  return join(length, named, sum);
}

const CRC_TABLE = Uint32Array.from({ length: 256 }, (_, byte) => {
  let rest = byte;
  for (let bit = 0; bit < 8; bit++) rest = rest & 1 ? 0xedb88320 ^ (rest >>> 1) : rest >>> 1;
  return rest;
});

/** The checksum of PNG's chunks (ISO 3309). */
function crc32(bytes) {
  let rest = 0xffffffff;
  for (const byte of bytes) rest = CRC_TABLE[(rest ^ byte) & 255] ^ (rest >>> 8);
  return (rest ^ 0xffffffff) >>> 0;
}

function join(...parts) {
  const result = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
  let at = 0;
  for (const part of parts) {
    result.set(part, at);
    at += part.length;
  }
  return result;
}

function viewOf(bytes) {
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}

function startsWith(bytes, prefix, at) {
  return prefix.every((value, place) => bytes[at + place] === value);
}

function textAt(bytes, at, length = 4) {
  return String.fromCharCode(...bytes.subarray(at, at + length));
}
