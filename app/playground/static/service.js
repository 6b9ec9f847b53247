// The service behind the page: its models, its health, its key.

import { apiKey, NPY, send, setApiKey } from "./api.js";
import { Codebook } from "./codebook.js";
import { byId, element } from "./dom.js";
import { readFloats } from "./npy.js";
import { Patches } from "./patches.js";

const HEALTH_EVERY_MS = 10_000;

/**
 * @typedef {object} Model as `/v1/models` describes it
 * @property {string} id name and version, which alone mean one model for good
 * @property {string} name
 * @property {string} version
 * @property {string[]} aliases
 * @property {string} code_space
 * @property {number} stride
 * @property {number} codebook_size of the first stage
 * @property {number} codebook_width
 * @property {number} bits_per_code of the first stage
 * @property {{codebook_size: number, bits_per_code: number}[]} stages
 * @property {number} default_stages
 * @property {Record<string, {precision: string, metrics: Record<string, unknown>}>} decoders
 * @property {number} embedding_dimension
 * @property {string} precision
 * @property {string} device
 * @property {Record<string, {classes: string[], licence: string, map: boolean, metrics: Record<string, unknown>}>} recognizers
 * @property {{digest: string, metrics: Record<string, unknown>} | null} prior codes by context; null without
 * @property {{name: string, licence: string, [more: string]: unknown}[]} data
 * @property {Record<string, unknown>} metrics
 */

/** Tells by `change` that another model is chosen. */
export class Service extends EventTarget {
  /** @type {Model[]} */
  models = [];
  /** @type {Model | null} */
  model = null;
  /** @type {Map<string, Promise<Codebook>>} */
  #codebooks = new Map();
  /** @type {Map<string, Patches>} */
  #patches = new Map();

  constructor() {
    super();
    const select = /** @type {HTMLSelectElement} */ (byId("model-select"));
    select.addEventListener("change", () => this.choose(select.value));
    this.#askForKeys();
  }

  /** Learns of the models, and from then on watches the health. */
  async start() {
    await this.#checkHealth();
    setInterval(() => this.#checkHealth(), HEALTH_EVERY_MS);
  }

  async loadModels() {
    const { default: name, data } = await (await send("v1/models")).json();
    this.models = data;
    byId("model-select").replaceChildren(
      ...this.models.map(({ id, aliases }) => element("option", { value: id }, aliases[0] ?? id)),
    );
    byId("model-choice").hidden = data.length < 2;
    this.choose(name);
  }

  /** @param {string} name its id, or an alias */
  choose(name) {
    const model = this.models.find(({ id, aliases }) => id === name || aliases.includes(name));
    this.model = model ?? null;
    if (model) /** @type {HTMLSelectElement} */ (byId("model-select")).value = model.id;
    this.dispatchEvent(new Event("change"));
  }

  /** @param {Model} model @returns {Promise<Codebook>} */
  codebook(model) {
    const known = this.#codebooks.get(model.code_space);
    if (known) return known;
    const path = `v1/models/${model.id}/codebook`;
    const loading = send(path, { accept: NPY })
      .then((answer) => answer.arrayBuffer())
      .then((file) => {
        const { shape, values } = readFloats(file);
        return new Codebook(values, shape[0], shape[1]);
      });
    // A failure isn't kept: the next picture tries again.
    loading.catch(() => this.#codebooks.delete(model.code_space));
    this.#codebooks.set(model.code_space, loading);
    return loading;
  }

  /** @param {Model} model */
  patches(model) {
    const made = this.#patches.get(model.code_space) ?? new Patches(model);
    this.#patches.set(model.code_space, made);
    return made;
  }

  async #checkHealth() {
    const health = byId("health");
    const show = (/** @type {string} */ state, /** @type {string} */ text) => {
      // Only what changed is announced.
      if (health.dataset.state !== state || health.textContent !== text) {
        health.dataset.state = state;
        health.textContent = text;
      }
    };
    try {
      await send("readyz");
      show("ready", "ready");
      // A key may be needed, then this waits for it.
      if (!this.models.length) await this.loadModels();
    } catch (error) {
      const status = /** @type {{status?: number}} */ (error).status;
      if (status === 401) return;
      if (status === 503) show("waiting", "starting or stopping");
      else show("down", "no answer");
    }
  }

  #askForKeys() {
    const form = byId("key-form");
    const field = /** @type {HTMLInputElement} */ (byId("key"));
    document.addEventListener("key-needed", () => {
      byId("key-text").textContent = apiKey()
        ? "The service doesn't accept this key."
        : "This service asks for a key.";
      if (form.hidden) {
        form.hidden = false;
        field.focus();
      }
    });
    form.addEventListener("submit", async (event) => {
      event.preventDefault();
      setApiKey(field.value.trim());
      try {
        await this.loadModels();
        form.hidden = true;
        field.value = "";
      } catch {
        field.select(); // what is wrong is told by the event above
      }
    });
  }
}
