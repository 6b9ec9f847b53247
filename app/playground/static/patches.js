// Each code as the patch of pixels that it decodes to.

import { send } from "./api.js";

// A decoder sees around a patch, so a code is asked for amid eight of its own kind.
const AMID = 3;
// Blocks along one side of a sheet: 32 × 3 × 8 = 768 pixels at stride 8.
const BLOCKS = 32;

/** The patches of one model's codes, fetched as they are needed. */
export class Patches {
  /** @param {{name: string, code_space: string, stride: number}} model */
  constructor(model) {
    this.model = model;
    /** @type {Map<number, ImageData>} */
    this.known = new Map();
    /** @type {Map<number, string>} */
    this.colours = new Map();
  }

  /** @param {number} code */
  get(code) {
    return this.known.get(code);
  }

  /** @param {number} code @returns {string | undefined} its patch's mean colour, as CSS */
  css(code) {
    return this.colours.get(code);
  }

  /**
   * Fetches what isn't known yet.
   * @param {Iterable<number>} codes
   * @returns {Promise<void>}
   */
  async load(codes) {
    const missing = [...new Set(codes)].filter((code) => !this.known.has(code));
    for (let i = 0; i < missing.length; i += BLOCKS * BLOCKS) {
      await this.#loadSheet(missing.slice(i, i + BLOCKS * BLOCKS));
    }
  }

  /** @param {number[]} codes at most `BLOCKS`² */
  async #loadSheet(codes) {
    const columns = Math.min(BLOCKS, codes.length);
    const rows = Math.ceil(codes.length / columns);
    const grid = Array.from({ length: rows * AMID }, (_, r) =>
      Array.from({ length: columns * AMID }, (_, c) => {
        const block = Math.floor(r / AMID) * columns + Math.floor(c / AMID);
        return codes[Math.min(block, codes.length - 1)];
      }),
    );
    const answer = await send("v1/decode", {
      method: "POST",
      headers: { "Content-Type": "application/json" },
      accept: "image/png",
      body: JSON.stringify({ code_space: this.model.code_space, data: [{ codes: grid }] }),
    });
    const sheet = await createImageBitmap(await answer.blob());
    const canvas = new OffscreenCanvas(sheet.width, sheet.height);
    const context = canvas.getContext("2d", { willReadFrequently: true });
    if (!context) return;
    context.drawImage(sheet, 0, 0);
    const { stride } = this.model;
    codes.forEach((code, i) => {
      const x = ((i % columns) * AMID + 1) * stride;
      const y = (Math.floor(i / columns) * AMID + 1) * stride;
      const patch = context.getImageData(x, y, stride, stride);
      this.known.set(code, patch);
      this.colours.set(code, meanColour(patch));
    });
  }
}

/** @param {ImageData} patch @returns {string} */
function meanColour({ data }) {
  const sums = [0, 0, 0];
  data.forEach((value, i) => i % 4 < 3 && (sums[i % 4] += value));
  return `rgb(${sums.map((sum) => Math.round((4 * sum) / data.length)).join(" ")})`;
}
