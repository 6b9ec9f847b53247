// Labels: what a recognizer makes of the codes, and where in the picture it sees that.

import { latest, PACKED, send } from "./api.js";
import { byId, element, inBrief, readable } from "./dom.js";

const MOST = 5;
const TINT = [255, 120, 0];
const OPACITY = 0.65; // of the map where it is highest

/**
 * @typedef {object} Item as `/v1/classify` answers it
 * @property {{label: string, probability: number}[]} labels the most probable first
 * @property {number[][]} [map] of the first label over the code grid, 0…1
 * @property {[number, number, number, number]} [box] left, top, right, bottom in pixels
 */

/** @param {number} share 0…1 */
const percent = (share) => `${(100 * share).toFixed(1)} %`;

/**
 * The section of labels, closed at first: a recognizer chooses among its own classes whatever a
 * picture shows, so it is asked only when somebody wants to know. Whoever draws the picture listens
 * to `change`.
 */
export class Labels extends EventTarget {
  /** @type {import("./service.js").Model | null} */
  #model = null;
  /** @type {Uint8Array<ArrayBuffer> | null} */
  #codes = null;
  /** @type {Item | null} */
  #item = null;
  #select = /** @type {HTMLSelectElement} */ (byId("recognizer-select"));
  #toggle = /** @type {HTMLInputElement} */ (byId("map-shown"));
  #section = /** @type {HTMLDetailsElement} */ (byId("labels"));

  constructor() {
    super();
    this.#section.addEventListener("toggle", () => {
      if (this.#section.open && this.#codes && !this.#item) this.show(this.#codes);
      else this.dispatchEvent(new Event("change"));
    });
    this.#select.addEventListener("change", () => this.#codes && this.show(this.#codes));
    this.#toggle.addEventListener("change", () => this.dispatchEvent(new Event("change")));
  }

  /**
   * Of which model codes will be. Without a recognizer there is nothing to see.
   * @param {import("./service.js").Model} model
   */
  open(model) {
    const names = Object.keys(model.recognizers);
    if (this.#model !== model) {
      this.#select.replaceChildren(...names.map((name) => element("option", { value: name }, name)));
    }
    this.#model = model;
    this.#section.hidden = names.length === 0;
    byId("recognizer-choice").hidden = names.length < 2;
    this.#codes = null;
    this.#take(null, "");
  }

  /**
   * Asks for the labels of codes.
   * @param {Uint8Array<ArrayBuffer>} codes a packed file of one grid
   */
  async show(codes) {
    if (!this.#model || this.#section.hidden) return;
    this.#codes = codes;
    if (!this.#section.open) return this.#take(null, "");
    try {
      const item = await this.#asked(codes);
      // Another picture may have been opened meanwhile, of a model that has no recognizer.
      if (item && this.#codes === codes) this.#take(item, "");
    } catch (error) {
      if (this.#codes === codes) this.#take(null, /** @type {Error} */ (error).message);
    }
  }

  /** Takes the map away. */
  hideMap() {
    this.#toggle.checked = false;
    this.dispatchEvent(new Event("change"));
  }

  /** What is to be laid over the picture, while it is wanted. */
  get overlay() {
    const { map, box, labels } = this.#item ?? {};
    if (!map || !box || !labels || !this.#model) return null;
    if (!this.#section.open || !this.#toggle.checked) return null;
    const [left, top, right, bottom] = box;
    return {
      image: tinted(map),
      smooth: true,
      width: map[0].length * this.#model.stride,
      height: map.length * this.#model.stride,
      label: {
        box: { x: left, y: top, width: right - left, height: bottom - top },
        words: `${readable(labels[0].label)} ${percent(labels[0].probability)}`,
      },
    };
  }

  /** The path that was asked, for a command that does the same; null without a recognizer. */
  get path() {
    if (!this.#model || this.#section.hidden) return null;
    const query = new URLSearchParams({ model: this.#model.id, recognizer: this.#select.value });
    if (this.#hasMap) query.set("map", "true");
    return `v1/classify?${query}`;
  }

  get #hasMap() {
    return this.#model?.recognizers[this.#select.value]?.map ?? false;
  }

  #classes() {
    const { classes } = this.#model?.recognizers[this.#select.value] ?? {};
    if (!classes) return "";
    return `Chooses among ${classes.length} classes: ${inBrief(classes.map(readable))}.`;
  }

  #asked = latest(async (signal, /** @type {Uint8Array<ArrayBuffer>} */ codes) => {
    const answer = await send(`${this.path}&k=${MOST}`, {
      method: "POST",
      headers: { "Content-Type": PACKED },
      body: codes,
      signal,
    });
    return /** @type {Item} */ ((await answer.json()).data[0]);
  });

  /** @param {Item | null} item @param {string} trouble */
  #take(item, trouble) {
    this.#item = item;
    byId("label-bars").replaceChildren(...(item?.labels ?? []).map(bar));
    byId("map-choice").hidden = byId("map-note").hidden = !this.#hasMap;
    byId("labels-title").textContent = `Recognizer ${this.#select.value}`;
    byId("label-classes").textContent = this.#classes();
    byId("labels-status").textContent = trouble || (item ? inWords(item) : "");
    this.dispatchEvent(new Event("change"));
  }
}

/** @param {{label: string, probability: number}} label */
function bar({ label, probability }) {
  // The number says it; the bar is for the eyes.
  const share = element("span", { class: "share", "aria-hidden": "true" });
  share.style.setProperty("--share", String(probability));
  return element(
    "li",
    {},
    element("span", { class: "label-name" }, readable(label)),
    share,
    element("span", { class: "label-share" }, percent(probability)),
  );
}

/** @param {Item} item */
function inWords({ labels, box }) {
  const most = `Of its classes most probably ${readable(labels[0].label)}, ${percent(labels[0].probability)}`;
  if (!box) return `${most}.`;
  const [left, top, right, bottom] = box;
  return `${most}; mainly because of what is between ${left} and ${right} px from the left, ${top} and ${bottom} px from the top.`;
}

/**
 * A map as a picture of one pixel for each code, the more opaque the higher.
 * @param {number[][]} map
 */
function tinted(map) {
  const [rows, columns] = [map.length, map[0].length];
  const canvas = new OffscreenCanvas(columns, rows);
  const context = /** @type {OffscreenCanvasRenderingContext2D} */ (canvas.getContext("2d"));
  const image = context.createImageData(columns, rows);
  map.flat().forEach((value, i) => {
    image.data.set([...TINT, Math.round(255 * OPACITY * value)], 4 * i);
  });
  context.putImageData(image, 0, 0);
  return canvas;
}
