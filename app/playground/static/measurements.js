// What a bundle says was measured when it was exported, in groups with units.

/** @typedef {{title: string, rows: [name: string, value: string][]}} Group */

/** Words that are written in a way of their own. @type {Record<string, string>} */
const WORDS = {
  avif: "AVIF",
  jpeg: "JPEG",
  lpips: "LPIPS",
  "ms ssim": "MS-SSIM",
  psnr: "PSNR",
  ssim: "SSIM",
  webp: "WebP",
};

/** Names that no rule makes readable. @type {Record<string, string>} */
const NAMES = {
  bits_per_pixel: "Rate",
  bits_per_pixel_at_entropy: "Rate, entropy-coded",
  bits_per_code_kodak: "Bits per code, Kodak",
  bits_per_code_held_out: "Bits per code, held-out images",
  recognition_linear: "Linear probe, top-1",
  recognition_5_nearest: "5 nearest neighbours, top-1",
};

const SHARES = new Set(["codes_used", "recognition_linear", "recognition_5_nearest"]);

/**
 * @param {Record<string, unknown>} metrics as in a manifest: numbers and texts, in objects of any depth
 * @returns {Group[]} in the order of the manifest; what belongs to no object comes first
 */
export function groupsOf(metrics) {
  const entries = Object.entries(metrics);
  const groups = entries.flatMap(([name, value]) =>
    isObject(value) ? [{ title: titleOf(name), rows: rowsOf(value) }] : [],
  );
  const single = rowsOf(Object.fromEntries(entries.filter(([, value]) => !isObject(value))));
  return [{ title: "Model", rows: single }, ...groups].filter(({ rows }) => rows.length > 0);
}

/** @param {unknown} value @returns {value is Record<string, unknown>} */
const isObject = (value) => typeof value === "object" && value !== null && !Array.isArray(value);

/**
 * @param {Record<string, unknown>} values
 * @param {string} [of] the name of what they are of, where that isn't the group itself
 * @returns {[string, string][]}
 */
function rowsOf(values, of = "") {
  return Object.entries(values).flatMap(([name, value]) => {
    const full = of ? `${of}, ${inWords(name)}` : inWords(name);
    if (isObject(value)) return rowsOf(value, full);
    if (typeof value === "number") return [[full, quantity(name, value)]];
    return typeof value === "string" ? [[full, value]] : [];
  });
}

/** @param {string} name such as `kodak_int8` */
function titleOf(name) {
  const [, what, precision] = /^(.+?)(?:_(fp32|fp16|int8))?$/.exec(name) ?? [];
  return precision ? `${inWords(what)}, ${precision}` : inWords(name);
}

/** @param {string} name such as `jpeg_psnr_at_equal_bytes` */
function inWords(name) {
  if (NAMES[name]) return NAMES[name];
  let words = name.replaceAll("_", " ").replace(/^found: /, "found again, ");
  for (const [plain, written] of Object.entries(WORDS)) {
    words = words.replace(new RegExp(`(?<![\\w-])${plain}(?![\\w-])`, "g"), written);
  }
  return words.charAt(0).toUpperCase() + words.slice(1);
}

/**
 * @param {string} name
 * @param {number} value
 * @returns {string} with its unit
 */
function quantity(name, value) {
  if (SHARES.has(name) || name.startsWith("found:")) return `${(100 * value).toFixed(1)} %`;
  if (/(^|_)psnr(_|$)/.test(name)) return `${value.toFixed(2)} dB`;
  if (name.startsWith("bits_per_pixel")) return `${value.toFixed(3)} bit/px`;
  if (name.endsWith("_ms")) return `${plain(value)} ms`;
  return plain(value);
}

/** @param {number} value */
const plain = (value) =>
  Number.isInteger(value) || Math.abs(value) >= 1000
    ? Math.round(value).toLocaleString("en")
    : Number(value.toPrecision(4)).toString();
