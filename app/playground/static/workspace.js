// The open picture and its codes: what the parts of the page share.

import { latest } from "./api.js";
import { DEFAULT_DECODER } from "./decoding.js";
import { EditedGrid } from "./edits.js";
import { decode, reconstruct, thumbnailOf } from "./picture.js";
import { firstStages, writeTess } from "./tess.js";
import { View } from "./view.js";

const UNKNOWN_COLOUR = "rgb(128 128 128)"; // of a code that came by a change, until its patch is there
const DECODE_DELAY_MS = 90; // after the last change, so that a stroke is decoded a few times only

/** @typedef {import("./mosaic.js").Cell} Cell */
/** @typedef {import("./picture.js").Reconstruction} Reconstruction */

/**
 * Parts of the page listen to its events:
 *
 * - `open`: another picture is there.
 * - `edit`: codes changed; comes with every tile of a stroke, so only what is cheap is done then.
 * - `settle`: codes changed, and then nothing for a moment; or other stages of them are in use.
 * - `decode`: the codes are decoded anew, changed or in another way. `failure` (detail: words): they can't be.
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
  /** @type {import("./decoding.js").Decoding} */
  decoding = { decoder: DEFAULT_DECODER, stages: 1 };
  /** What the picture's own codes decode to, by decoder and stages. @type {Map<string, Reconstruction>} */
  #reconstructions = new Map();
  /**
   * What codes decode to, which gives them their colours; without it the codebook does.
   * @type {import("./patches.js").Patches | null}
   */
  patches = null;
  /** The mean colour of each of the picture's own codes where it is used, as CSS. @type {Map<number, string>} */
  ownColours = new Map();
  /** Bits of each patch, coded by its context, while they are shown. @type {number[][] | null} */
  bits = null;
  /** How often each code is used, most frequent first. @type {Map<number, number>} */
  counts = new Map();
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  #waiting;

  /**
   * @param {import("./picture.js").Picture} picture
   * @param {import("./codebook.js").Codebook} codebook
   * @param {import("./service.js").Model} model
   * @param {import("./decoding.js").Decoding} decoding how its reconstruction was made
   */
  open(picture, codebook, model, decoding) {
    clearTimeout(this.#waiting);
    Object.assign(this, { picture, codebook, model, decoding });
    const { reconstruction, reconstructionFile, psnr, times } = picture;
    const time = times[times.length - 1];
    this.#reconstructions = new Map([[wayOf(decoding), { reconstruction, reconstructionFile, psnr, time }]]);
    const grid = picture.codes.grids[picture.index];
    this.grid = new EditedGrid(grid);
    this.counts = this.grid.counts();
    const preview = thumbnailOf(picture.reconstruction, grid);
    codebook.orient(grid.stages[0], preview);
    this.ownColours = meanColours(grid.stages[0], preview);
    this.view.open(grid.width, grid.height);
    this.#tell("open");
  }

  /**
   * Decodes the codes in another way.
   * @param {import("./decoding.js").Decoding} decoding
   */
  decodeAs(decoding) {
    const restaged = decoding.stages !== this.decoding.stages;
    this.decoding = decoding;
    if (restaged) this.#tell("settle");
    this.#decode();
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

  /** The codes as they are now, of all stages. @returns {import("./tess.js").Grid} */
  #grid() {
    const { codes, index } = /** @type {import("./picture.js").Picture} */ (this.picture);
    const { stages } = /** @type {EditedGrid} */ (this.grid);
    return { ...codes.grids[index], stages };
  }

  /**
   * The codes as they are now, of the stages in use or of so many.
   * @returns {import("./tess.js").CodeFile} of one grid
   */
  currentCodes(stages = this.decoding.stages) {
    const { codes } = /** @type {import("./picture.js").Picture} */ (this.picture);
    return firstStages({ ...codes, grids: [this.#grid()] }, stages);
  }

  /** The same as a packed file. */
  tessFile(stages = this.decoding.stages) {
    return writeTess(this.currentCodes(stages));
  }

  #settle() {
    if (!this.grid) return;
    this.counts = this.grid.counts();
    this.#tell("settle");
    this.#decode();
  }

  async #decode() {
    const { picture } = this;
    if (!picture) return;
    try {
      const result = await this.#decodeLatest(picture);
      if (!result || picture !== this.picture) return;
      const { time, ...made } = result;
      Object.assign(picture, made);
      picture.times = [...picture.times.filter(([name]) => name !== time[0]), time];
      this.#tell("decode");
    } catch (error) {
      this.#tell("failure", /** @type {Error} */ (error).message);
    }
  }

  #decodeLatest = latest(async (signal, /** @type {import("./picture.js").Picture} */ picture) => {
    const { model, decoding, grid } = this;
    const decoded = () => decode(picture.codes, this.#grid(), model ?? undefined, decoding, signal);
    if (grid?.changed()) return decoded();
    // Kept, so that going to and fro between two ways of decoding is seen at once.
    const way = wayOf(decoding);
    const { file, query, codes } = picture;
    const result =
      this.#reconstructions.get(way) ??
      (file ? await reconstruct(file, query, decoding, codes, signal) : await decoded());
    if (picture === this.picture) this.#reconstructions.set(way, result);
    return result;
  });

  /** @param {string} what @param {unknown} [detail] */
  #tell(what, detail) {
    this.dispatchEvent(new CustomEvent(what, { detail }));
  }
}

/** @param {import("./decoding.js").Decoding} decoding */
const wayOf = ({ decoder, stages }) => `${decoder} ${stages}`;

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
