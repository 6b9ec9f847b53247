// NumPy's .npy files: https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html

const MAGIC = [0x93, 0x4e, 0x55, 0x4d, 0x50, 0x59];

/**
 * Reads little-endian float32.
 * @param {ArrayBuffer} file
 * @returns {{shape: number[], values: Float32Array}}
 */
export function readFloats(file) {
  const bytes = new Uint8Array(file);
  if (!MAGIC.every((byte, i) => bytes[i] === byte)) throw new Error("not a .npy file");
  const view = new DataView(file);
  const [length, start] =
    bytes[6] === 1 ? [view.getUint16(8, true), 10] : [view.getUint32(8, true), 12];
  const header = new TextDecoder("latin1").decode(bytes.subarray(start, start + length));
  const shape = /'shape':\s*\(([^)]*)\)/.exec(header)?.[1].split(",").filter((s) => s.trim());
  if (!shape || !header.includes("'<f4'") || header.includes("'fortran_order': True")) {
    throw new Error("not an array of little-endian float32");
  }
  // slice: the numbers begin where a header of any length ends, and views need alignment.
  return {
    shape: shape.map(Number),
    values: new Float32Array(file.slice(start + length)),
  };
}

/**
 * Writes codes as int64, as the service does.
 * @param {ArrayLike<number>} codes
 * @param {number[]} shape
 * @returns {Uint8Array<ArrayBuffer>}
 */
export function writeCodes(codes, shape) {
  const tuple = `(${shape.join(", ")}${shape.length === 1 ? "," : ""})`;
  const text = `{'descr': '<i8', 'fortran_order': False, 'shape': ${tuple}, }`;
  const length = Math.ceil((10 + text.length + 1) / 64) * 64;
  const file = new Uint8Array(length + codes.length * 8);
  file.set([...MAGIC, 1, 0]);
  const view = new DataView(file.buffer);
  view.setUint16(8, length - 10, true);
  file.set(new TextEncoder().encode(`${text.padEnd(length - 11)}\n`), 10);
  for (let i = 0; i < codes.length; i++) view.setUint32(length + i * 8, codes[i], true);
  return file;
}
