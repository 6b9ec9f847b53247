// The service behind the page: its models, its health, its key.

import { apiKey, NPY, send, setApiKey } from "./api.js";
import { Codebook } from "./codebook.js";
import { byId, element, formatCount, inBrief, showFacts } from "./dom.js";
import { readFloats } from "./npy.js";
import { Patches } from "./patches.js";
import { showCommands } from "./curl.js";

const HEALTH_EVERY_MS = 10_000;

/**
 * @typedef {object} Model as `/v1/models` describes it
 * @property {string} id name and version, which alone mean one model for good
 * @property {string} name
 * @property {string} version
 * @property {string[]} aliases
 * @property {string} code_space
 * @property {number} stride
 * @property {number} codebook_size
 * @property {number} codebook_width
 * @property {number} bits_per_code
 * @property {number} embedding_dimension
 * @property {string} precision
 * @property {string} device
 * @property {Record<string, {classes: string[], licence: string, map: boolean, metrics: Record<string, unknown>}>} recognizers
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
    byId("model-card").addEventListener("toggle", () => this.#showCard());
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
    if (model) {
      /** @type {HTMLSelectElement} */ (byId("model-select")).value = model.id;
      showModel(model);
    }
    this.#showCard();
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

  /** The card is fetched when it is wanted: with the key, which a plain link couldn't send. */
  async #showCard() {
    const details = /** @type {HTMLDetailsElement} */ (byId("model-card"));
    const model = this.model;
    if (!details.open || !model) return;
    const text = await send(`v1/models/${model.id}/card`)
      .then((answer) => answer.text())
      .catch((error) => /** @type {Error} */ (error).message);
    if (this.model === model) byId("model-card-text").textContent = text;
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

/** @param {Model} model */
function showModel(model) {
  const perPixel = model.bits_per_code / model.stride ** 2;
  showFacts(byId("model-facts"), [
    ["Name", model.name, `version ${model.version}`],
    ["Codebook", formatCount(model.codebook_size), `vectors of ${model.codebook_width} numbers`],
    ["Patch", `${model.stride} × ${model.stride} px`, `${model.bits_per_code} bits each`],
    ["Rate", `${perPixel.toFixed(3)} bit/px`, `1 : ${(24 / perPixel).toFixed(0)} of raw RGB`],
    ["Embedding", formatCount(model.embedding_dimension), "numbers, of length 1"],
    ["Runs on", model.device, `in ${model.precision}`],
    ["Code space", element("code", { class: "digest" }, model.code_space), "Codes mean the same wherever this digest is the same."],
  ]);
  const list = model.data.map(({ name, licence }) => element("li", {}, `${name} (${licence})`));
  const recognizers = Object.entries(model.recognizers).map(([name, { classes, licence, metrics }]) => {
    const right = typeof metrics.top1 === "number" ? ` Right on ${(100 * metrics.top1).toFixed(1)} % of its test images.` : "";
    const words = `${name}, ${classes.length} classes: ${inBrief(classes)}.${right} Licence of its data: ${licence}`;
    return element("li", {}, words);
  });
  byId("model-data").replaceChildren(
    ...metricsTable(model.metrics),
    ...(list.length ? [element("h3", {}, "Trained on"), element("ul", {}, ...list)] : []),
    ...(recognizers.length
      ? [element("h3", {}, "Recognizers"), element("ul", {}, ...recognizers)]
      : []),
  );
  /** @type {HTMLAnchorElement} */ (byId("model-card-link")).href = `v1/models/${model.id}/card`;
  showCommands(byId("model-commands"), [
    { title: "What the service says of it", path: `v1/models/${model.id}` },
    {
      title: "Its code vectors, as NumPy reads them",
      path: `v1/models/${model.id}/codebook`,
      headers: { Accept: NPY },
      output: "codebook.npy",
    },
    { title: "Its model card", path: `v1/models/${model.id}/card` },
    { title: "Is it ready", path: "readyz" },
  ]);
}

/** @param {Record<string, unknown>} metrics */
function metricsTable(metrics) {
  /** @type {[string, string][]} */
  const rows = [];
  const walk = (/** @type {Record<string, unknown>} */ values, /** @type {string} */ prefix) => {
    for (const [name, value] of Object.entries(values)) {
      const full = prefix ? `${prefix}, ${name}` : name;
      if (typeof value === "number") rows.push([full, Number(value.toPrecision(5)).toString()]);
      else if (typeof value === "string") rows.push([full, value]);
      else if (value && typeof value === "object" && !Array.isArray(value)) {
        walk(/** @type {Record<string, unknown>} */ (value), full);
      }
    }
  };
  walk(metrics, "");
  if (!rows.length) return [];
  const body = rows.map(([name, value]) =>
    element("tr", {}, element("th", { scope: "row" }, name.replaceAll("_", " ")), element("td", {}, value)),
  );
  return [element("h3", {}, "Measured at export"), element("table", { class: "metrics" }, ...body)];
}
