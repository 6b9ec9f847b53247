// Surprise: how many bits the codes of each patch take, coded by their context, as a map over the
// picture.

import { latest, PACKED, send } from "./api.js";
import { byId, formatBytes, formatCount } from "./dom.js";

// The colours of Matplotlib's inferno, which are ordered by lightness and so for every eye.
const SCALE = [
  [0, 0, 4],
  [66, 10, 104],
  [147, 38, 103],
  [221, 81, 58],
  [252, 165, 10],
  [252, 255, 164],
];
const OPACITY = 0.78; // so that the picture is still made out
const MOST = 1.5; // times the bits of a packed code: where the scale ends

/**
 * @typedef {object} Item as `/v1/bits` answers it
 * @property {number} bits of all codes
 * @property {number[][]} map bits of each patch
 */

/**
 * The switch, the map and its legend. Nothing is asked before the switch is on. Whoever draws the
 * picture listens to `change`.
 */
export class Surprise extends EventTarget {
  /** @type {Uint8Array<ArrayBuffer> | null} */
  #codes = null;
  /** @type {Item | null} */
  #item = null;
  #toggle = /** @type {HTMLInputElement} */ (byId("surprise-shown"));

  /** @param {import("./workspace.js").Workspace} workspace */
  constructor(workspace) {
    super();
    this.workspace = workspace;
    const stops = SCALE.map((colour) => `rgb(${colour.join(" ")})`);
    byId("surprise-ramp").style.background = `linear-gradient(to right, ${stops.join(", ")})`;
    this.#toggle.addEventListener("change", () => this.#show());
    workspace.addEventListener("open", () => {
      byId("surprise-choice").hidden = !workspace.model?.prior;
      this.#codes = null;
      this.#take(null, "");
      this.#show();
    });
    workspace.addEventListener("settle", () => this.#show());
  }

  /** Switches it off. */
  hide() {
    this.#toggle.checked = false;
    this.#show();
  }

  /** What is to be laid over the picture, while it is wanted. */
  get overlay() {
    const { model } = this.workspace;
    if (!this.#item || !model) return null;
    const { map } = this.#item;
    return {
      image: coloured(map, this.#most),
      smooth: false,
      width: map[0].length * model.stride,
      height: map.length * model.stride,
      label: null,
    };
  }

  /** The path that is asked, for a command that does the same; null without a prior. */
  get path() {
    const { model } = this.workspace;
    return model?.prior ? `v1/bits?model=${model.id}&map=true` : null;
  }

  /** What packed codes take for each patch, in the stages in use. */
  get #packed() {
    const { model, decoding } = this.workspace;
    const stages = model?.stages.slice(0, decoding.stages) ?? [];
    return stages.reduce((sum, { bits_per_code }) => sum + bits_per_code, 0);
  }

  /** Bits at the upper end of the scale. */
  get #most() {
    return Math.round(MOST * this.#packed);
  }

  async #show() {
    const { path } = this;
    if (!this.#toggle.checked || !path) {
      this.#codes = null;
      return this.#take(null, "");
    }
    const codes = (this.#codes = this.workspace.tessFile());
    try {
      const item = await this.#asked(path, codes);
      // It may have been switched off meanwhile, or another picture opened.
      if (item && this.#codes === codes) this.#take(item, "");
    } catch (error) {
      if (this.#codes === codes) this.#take(null, /** @type {Error} */ (error).message);
    }
  }

  #asked = latest(
    async (signal, /** @type {string} */ path, /** @type {Uint8Array<ArrayBuffer>} */ codes) => {
      const headers = { "Content-Type": PACKED };
      const answer = await send(path, { method: "POST", headers, body: codes, signal });
      const { bits, map } = (await answer.json()).data[0];
      return { bits, map: sumOfStages(map) };
    },
  );

  /** @param {Item | null} item @param {string} trouble */
  #take(item, trouble) {
    this.#item = item;
    this.workspace.bits = item?.map ?? null;
    const packed = this.#packed;
    byId("surprise-legend").hidden = !item;
    byId("surprise-packed").textContent = String(packed);
    byId("surprise-packed").style.left = `${(100 * packed) / this.#most}%`;
    byId("surprise-most").textContent = `${this.#most}+`;
    byId("surprise-text").textContent = trouble || (item ? inWords(item, packed) : "");
    byId("wipe").setAttribute("aria-describedby", item ? "pan-note surprise-text" : "pan-note");
    this.dispatchEvent(new Event("change"));
  }
}

/**
 * What the map shows, for those who don't see it too.
 * @param {Item} item
 * @param {number} packed bits of a packed code
 */
function inWords({ bits, map }, packed) {
  const columns = map[0].length;
  const descending = map.flat().map((value, i) => ({ value, i }));
  descending.sort((a, b) => b.value - a.value);
  let half = 0;
  for (let sum = 0; sum < bits / 2 && half < descending.length; half++) sum += descending[half].value;
  const share = Math.round((100 * half) / descending.length);
  const { value, i } = descending[0];
  return (
    `${(bits / descending.length).toFixed(2)} bits for each patch, where packed codes take ${packed}; ` +
    `${formatCount(Math.round(bits))} bits in all, ${formatBytes(Math.ceil(bits / 8))}. ` +
    `Half of them are in ${share} % of the patches. Most surprising: ` +
    `row ${Math.floor(i / columns) + 1}, column ${(i % columns) + 1}, ${value.toFixed(1)} bits.`
  );
}

/**
 * @param {number[][] | number[][][]} map rows of the code grid, or such rows of each stage
 * @returns {number[][]} rows of the code grid
 */
export function sumOfStages(map) {
  if (!isStaged(map)) return map;
  return map[0].map((row, r) => row.map((_, c) => map.reduce((sum, stage) => sum + stage[r][c], 0)));
}

/** @param {number[][] | number[][][]} map @returns {map is number[][][]} */
const isStaged = (map) => Array.isArray(map[0][0]);

/**
 * A map as a picture of one pixel for each patch.
 * @param {number[][]} map
 * @param {number} most bits at the upper end of the scale
 */
function coloured(map, most) {
  const [rows, columns] = [map.length, map[0].length];
  const canvas = new OffscreenCanvas(columns, rows);
  const context = /** @type {OffscreenCanvasRenderingContext2D} */ (canvas.getContext("2d"));
  const image = context.createImageData(columns, rows);
  map.flat().forEach((bits, i) => {
    image.data.set([...colourAt(bits / most), Math.round(255 * OPACITY)], 4 * i);
  });
  context.putImageData(image, 0, 0);
  return canvas;
}

/**
 * @param {number} share of the scale; what is beyond its ends has their colours
 * @returns {number[]} RGB
 */
export function colourAt(share) {
  const at = Math.min(Math.max(share, 0), 1) * (SCALE.length - 1);
  const lower = Math.min(Math.floor(at), SCALE.length - 2);
  return SCALE[lower].map((from, i) => Math.round(from + (at - lower) * (SCALE[lower + 1][i] - from)));
}
