// The open picture and its codes: what the parts of the page share.

import { latest } from "./api.js";
import { EditedGrid } from "./edits.js";
import { decode, thumbnailOf } from "./picture.js";
import { writeTess } from "./tess.js";
import { View } from "./view.js";

const UNKNOWN_COLOUR = "rgb(128 128 128)"; // of a code that came by a change, until its patch is there
const DECODE_DELAY_MS = 90; // after the last change, so that a stroke is decoded a few times only

/** @typedef {import("./mosaic.js").Cell} Cell */

/**
 * Parts of the page listen to its events:
 *
 * - `open`: another picture is there.
 * - `edit`: codes changed; comes with every tile of a stroke, so only what is cheap is done then.
 * - `settle`: codes changed, and then nothing for a moment.
 * - `decode`: the changed codes are decoded. `failure` (detail: words): they can't be.
 * - `colours`: codes have other colours.
 * - `mark` (detail: code or null, and the cell or null): a code is to be shown wherever it is.
 */
export class Workspace extends EventTarget {
  /** Which part of the picture is seen. */
  view = new View();
  /** @type {import("./picture.js").Picture | null} */
  picture = null;
  /** @type {import("./service.js").Model | null} */
  model = null;
  /** @type {import("./codebook.js").Codebook | null} */
  codebook = null;
  /** @type {EditedGrid | null} */
  grid = null;
  /**
   * What codes decode to, which gives them their colours; without it the codebook does.
   * @type {import("./patches.js").Patches | null}
   */
  patches = null;
  /** The mean colour of each of the picture's own codes where it is used, as CSS. @type {Map<number, string>} */
  ownColours = new Map();
  /** Bits of each code, coded by its context, while they are shown. @type {number[][] | null} */
  bits = null;
  /** How often each code is used, most frequent first. @type {Map<number, number>} */
  counts = new Map();
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  #waiting;

  /**
   * @param {import("./picture.js").Picture} picture
   * @param {import("./codebook.js").Codebook} codebook
   * @param {import("./service.js").Model} model
   */
  open(picture, codebook, model) {
    clearTimeout(this.#waiting);
    Object.assign(this, { picture, codebook, model });
    const grid = picture.codes.grids[picture.index];
    this.grid = new EditedGrid(grid);
    this.counts = this.grid.counts();
    const preview = thumbnailOf(picture.reconstruction, grid);
    codebook.orient(grid.codes, preview);
    this.ownColours = meanColours(grid.codes, preview);
    this.view.open(grid.width, grid.height);
    this.#tell("open");
  }

  /** To be called after codes changed. */
  edited() {
    this.#tell("edit");
    clearTimeout(this.#waiting);
    this.#waiting = setTimeout(() => this.#settle(), DECODE_DELAY_MS);
  }

  /**
   * Changes codes in one step that can be undone.
   * @param {(grid: EditedGrid, codebook: import("./codebook.js").Codebook) => void} change
   */
  change(change) {
    if (!this.grid || !this.codebook) return;
    this.grid.remember();
    change(this.grid, this.codebook);
    this.grid.forgetUnchanged();
    this.edited();
  }

  /**
   * Shows a code wherever it is.
   * @param {number | null} code
   * @param {Cell | null} cell where the pointer is, if on the mosaic
   */
  mark(code, cell) {
    if (this.picture) this.#tell("mark", { code, cell });
  }

  /** To be called after codes have other colours. */
  recoloured() {
    this.#tell("colours");
  }

  /** @param {number} code @returns {string} the colour that stands for it, as CSS */
  colourOf(code) {
    if (!this.patches) return this.codebook?.css(code) ?? "";
    return this.ownColours.get(code) ?? this.patches.css(code) ?? UNKNOWN_COLOUR;
  }

  /** The codes as they are now. @returns {import("./tess.js").Grid} */
  currentGrid() {
    const { codes, index } = /** @type {import("./picture.js").Picture} */ (this.picture);
    const edited = /** @type {EditedGrid} */ (this.grid);
    return { ...codes.grids[index], codes: edited.codes };
  }

  /** The codes as they are now, as a packed file. */
  tessFile() {
    const { codes } = /** @type {import("./picture.js").Picture} */ (this.picture);
    return writeTess({ ...codes, grids: [this.currentGrid()] });
  }

  async #settle() {
    const { picture, grid } = this;
    if (!picture || !grid) return;
    this.counts = grid.counts();
    this.#tell("settle");
    try {
      const result = await this.#decodeLatest(picture);
      if (!result || picture !== this.picture) return;
      picture.reconstruction = result.reconstruction;
      picture.reconstructionFile = result.reconstructionFile;
      picture.times = [...picture.times.filter(([name]) => name !== "Decode"), ["Decode", result.times]];
      this.#tell("decode");
    } catch (error) {
      this.#tell("failure", /** @type {Error} */ (error).message);
    }
  }

  #decodeLatest = latest((signal, /** @type {import("./picture.js").Picture} */ picture) =>
    decode(picture.codes, this.currentGrid(), signal),
  );

  /** @param {string} what @param {unknown} [detail] */
  #tell(what, detail) {
    this.dispatchEvent(new CustomEvent(what, { detail }));
  }
}

/**
 * @param {ArrayLike<number>} codes
 * @param {Uint8ClampedArray} pixels RGBA, one pixel for each code
 * @returns {Map<number, string>} of each code, the mean of its pixels, as CSS
 */
function meanColours(codes, pixels) {
  /** @type {Map<number, [red: number, green: number, blue: number, count: number]>} */
  const sums = new Map();
  for (let i = 0; i < codes.length; i++) {
    const [red, green, blue, count] = sums.get(codes[i]) ?? [0, 0, 0, 0];
    const [r, g, b] = pixels.subarray(i * 4, i * 4 + 3);
    sums.set(codes[i], [red + r, green + g, blue + b, count + 1]);
  }
  return new Map(
    [...sums].map(([code, [red, green, blue, count]]) => {
      const mean = [red, green, blue].map((sum) => Math.round(sum / count));
      return [code, `rgb(${mean.join(" ")})`];
    }),
  );
}
