// Packed code files, `.tess`: docs/codes-format.md, versions 1 and 2, byte for byte.

/**
 * @typedef {object} Grid the codes of one picture
 * @property {number} width of the picture in pixels
 * @property {number} height of the picture in pixels
 * @property {number} rows
 * @property {number} columns
 * @property {string} name may be empty
 * @property {Uint32Array[]} stages codes of each stage, row after row
 *
 * @typedef {object} CodeFile grids of one code space
 * @property {string} codeSpace 64 hexadecimal digits
 * @property {number[]} codebookSizes of each stage
 * @property {number} stride pixels per code along each axis
 * @property {number} precision number, as in the file
 * @property {Grid[]} grids
 */

const MAGIC = [0x89, 0x54, 0x45, 0x53, 0x53, 0x0d, 0x0a, 0x1a];
const HEADER_BYTES = 56;
const IMAGE_BYTES = 21;
const CONTEXT_CODING = 1;
const MOST_STAGES = 16;

const CRC_TABLE = new Uint32Array(256).map((_, n) => {
  for (let k = 0; k < 8; k++) n = n & 1 ? (n >>> 1) ^ 0xedb88320 : n >>> 1;
  return n;
});

/** @param {Uint8Array} bytes */
export function crc32(bytes) {
  let crc = 0xffffffff;
  for (const byte of bytes) crc = CRC_TABLE[(crc ^ byte) & 255] ^ (crc >>> 8);
  return (crc ^ 0xffffffff) >>> 0;
}

/** @param {number} codebookSize */
export const bitsPerCode = (codebookSize) => 32 - Math.clz32(codebookSize - 1);

/**
 * Whether a file says that its codes are coded by their context, which takes a prior to read.
 * @param {Uint8Array} bytes
 */
export const isContextCoded = (bytes) =>
  bytes[10] === CONTEXT_CODING && MAGIC.every((byte, i) => bytes[i] === byte);

/**
 * Reads a file of packed codes. The service checks more when it decodes; here all that would mislead the page.
 * @param {ArrayBuffer} file
 * @returns {CodeFile}
 * @throws {Error} in words for a person
 */
export function readTess(file) {
  const bytes = new Uint8Array(file);
  const view = new DataView(file);
  if (bytes.length < HEADER_BYTES + 4 || !MAGIC.every((byte, i) => bytes[i] === byte)) {
    throw new Error("This is not a .tess file.");
  }
  const version = view.getUint16(8, true);
  if (version !== 1 && version !== 2) throw new Error("This .tess file is of an unknown version.");
  const end = bytes.length - 4;
  if (crc32(bytes.subarray(0, end)) !== view.getUint32(end, true)) {
    throw new Error("This .tess file is damaged: its checksum doesn't match.");
  }
  const stride = view.getUint16(16, true);
  const images = view.getUint32(20, true);
  const stages = version === 1 ? 1 : view.getUint16(18, true);
  let at = HEADER_BYTES + 4 * (stages - 1);
  const known = version === 1 || (stages >= 2 && stages <= MOST_STAGES && at <= end);
  const codebookSizes = known ? sizesOfStages(view, stages) : [];
  const sizesKnown = codebookSizes.every((size) => size >= 2 && size <= 2 ** 24);
  if (!known || !sizesKnown || bytes[10] !== 0 || !stride || !images) {
    throw new Error("This .tess file is coded in a way not known here.");
  }
  const grids = [];
  for (let i = 0; i < images; i++) {
    if (at + IMAGE_BYTES > end) throw new Error("This .tess file is cut off.");
    const [width, height, rows, columns, payload] = [0, 4, 8, 12, 16].map((offset) =>
      view.getUint32(at + offset, true),
    );
    const nameEnd = at + IMAGE_BYTES + bytes[at + 20];
    const name = new TextDecoder().decode(bytes.subarray(at + IMAGE_BYTES, nameEnd));
    const count = rows * columns;
    if (
      !count ||
      nameEnd + payload > end ||
      payload !== payloadBytes(count, codebookSizes) ||
      rows !== Math.ceil(height / stride) ||
      columns !== Math.ceil(width / stride)
    ) {
      throw new Error("This .tess file contradicts itself.");
    }
    at = nameEnd;
    const codes = codebookSizes.map((size) => {
      const from = at;
      at += payloadBytes(count, [size]);
      return unpack(bytes.subarray(from, at), count, bitsPerCode(size));
    });
    if (codes.some((of, stage) => of.some((code) => code >= codebookSizes[stage]))) {
      throw new Error("This .tess file has a code that its codebook doesn't have.");
    }
    grids.push({ width, height, rows, columns, name, stages: codes });
  }
  if (at !== end) throw new Error("This .tess file has bytes after its last picture.");
  const digest = bytes.subarray(24, HEADER_BYTES);
  const codeSpace = Array.from(digest, (byte) => byte.toString(16).padStart(2, "0")).join("");
  return { codeSpace, codebookSizes, stride, precision: bytes[11], grids };
}

/**
 * @param {DataView} view
 * @param {number} stages
 * @returns {number[]} the codebook size of each stage
 */
function sizesOfStages(view, stages) {
  const further = Array.from({ length: stages - 1 }, (_, i) => view.getUint32(HEADER_BYTES + 4 * i, true));
  return [view.getUint32(12, true), ...further];
}

/**
 * @param {number} count of codes in a stage
 * @param {number[]} codebookSizes
 * @returns {number} bytes that they take: each stage begins at a whole one
 */
const payloadBytes = (count, codebookSizes) =>
  codebookSizes.reduce((sum, size) => sum + Math.ceil((count * bitsPerCode(size)) / 8), 0);

/**
 * The same codes without their last stages.
 * @param {CodeFile} file
 * @param {number} stages that are kept
 * @returns {CodeFile}
 */
export const firstStages = (file, stages) => ({
  ...file,
  codebookSizes: file.codebookSizes.slice(0, stages),
  grids: file.grids.map((grid) => ({ ...grid, stages: grid.stages.slice(0, stages) })),
});

/**
 * Writes a file: version 1 for codes of one stage, version 2 for several.
 * @param {CodeFile} file
 * @returns {Uint8Array<ArrayBuffer>}
 */
export function writeTess(file) {
  const [codebookSize, ...further] = file.codebookSizes;
  const images = file.grids.map((grid) => {
    const payload = grid.stages.map((codes, i) => pack(codes, bitsPerCode(file.codebookSizes[i])));
    return { grid, name: cutName(grid.name), payload, size: payload.reduce((n, part) => n + part.length, 0) };
  });
  const length = images.reduce(
    (sum, { name, size }) => sum + IMAGE_BYTES + name.length + size,
    HEADER_BYTES + 4 * further.length,
  );
  const bytes = new Uint8Array(length + 4);
  const view = new DataView(bytes.buffer);
  bytes.set(MAGIC);
  view.setUint16(8, further.length ? 2 : 1, true);
  bytes[11] = file.precision;
  view.setUint32(12, codebookSize, true);
  view.setUint16(16, file.stride, true);
  view.setUint16(18, further.length ? 1 + further.length : 0, true);
  view.setUint32(20, images.length, true);
  bytes.set(file.codeSpace.match(/../g)?.map((pair) => parseInt(pair, 16)) ?? [], 24);
  further.forEach((size, i) => view.setUint32(HEADER_BYTES + 4 * i, size, true));
  let at = HEADER_BYTES + 4 * further.length;
  for (const { grid, name, payload, size } of images) {
    [grid.width, grid.height, grid.rows, grid.columns, size].forEach((value, i) =>
      view.setUint32(at + 4 * i, value, true),
    );
    bytes[at + 20] = name.length;
    bytes.set(name, at + IMAGE_BYTES);
    at += IMAGE_BYTES + name.length;
    for (const part of payload) {
      bytes.set(part, at);
      at += part.length;
    }
  }
  view.setUint32(length, crc32(bytes.subarray(0, length)), true);
  return bytes;
}

/**
 * UTF-8 without control characters, of at most 255 bytes, no half character at the end.
 * @param {string} name
 */
function cutName(name) {
  // eslint-disable-next-line no-control-regex
  const kept = name.replace(/[\u0000-\u001f\u007f]/g, "");
  const bytes = new Uint8Array(255);
  return bytes.subarray(0, new TextEncoder().encodeInto(kept, bytes).written);
}

/**
 * @param {Uint8Array} payload
 * @param {number} count
 * @param {number} bits
 */
function unpack(payload, count, bits) {
  const codes = new Uint32Array(count);
  let held = 0;
  let value = 0;
  let at = 0;
  for (let i = 0; i < count; i++) {
    while (held < bits) {
      // At most 23 + 8 bits are held, so this stays a positive 32-bit integer.
      value = ((value & ((1 << held) - 1)) << 8) | payload[at++];
      held += 8;
    }
    held -= bits;
    codes[i] = (value >>> held) & ((1 << bits) - 1);
  }
  return codes;
}

/**
 * @param {ArrayLike<number>} codes
 * @param {number} bits
 */
function pack(codes, bits) {
  const payload = new Uint8Array(Math.ceil((codes.length * bits) / 8));
  let held = 0;
  let value = 0;
  let at = 0;
  for (let i = 0; i < codes.length; i++) {
    value = ((value & ((1 << held) - 1)) << bits) | codes[i];
    held += bits;
    while (held >= 8) {
      held -= 8;
      payload[at++] = value >>> held;
    }
  }
  if (held) payload[at] = value << (8 - held);
  return payload;
}
