// The open picture and its codes: what the parts of the page share.

import { latest } from "./api.js";
import { EditedGrid } from "./edits.js";
import { decode, thumbnailOf } from "./picture.js";
import { writeTess } from "./tess.js";
import { View } from "./view.js";

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
  /** Codes have the colours of these, or else of the codebook. @type {import("./patches.js").Patches | null} */
  patches = null;
  /** The reconstruction, one RGBA pixel for each code. @type {Uint8ClampedArray} */
  preview = new Uint8ClampedArray();
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
    this.preview = thumbnailOf(picture.reconstruction, grid);
    codebook.orient(grid.codes, this.preview);
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
    // Until its patch is there: what the picture shows where the code is first used.
    const at = this.grid?.codes.indexOf(code) ?? -1;
    const [r, g, b] = at < 0 ? [128, 128, 128] : this.preview.subarray(at * 4, at * 4 + 3);
    return this.patches.css(code) ?? `rgb(${r} ${g} ${b})`;
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
      this.preview = thumbnailOf(picture.reconstruction, grid);
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
