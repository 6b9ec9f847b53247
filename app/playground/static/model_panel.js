// The model that is chosen: what it is, what was measured, what it was trained on.

import { NPY, send } from "./api.js";
import { showCommands } from "./curl.js";
import { DEFAULT_DECODER } from "./decoding.js";
import { byId, element, formatCount, inBrief, readable, showFacts } from "./dom.js";
import { groupsOf } from "./measurements.js";

/** @typedef {import("./service.js").Model} Model */

/** @param {import("./service.js").Service} service */
export function showModels(service) {
  service.addEventListener("change", () => {
    if (service.model) showModel(service.model);
    showCard(service);
  });
  byId("model-card").addEventListener("toggle", () => showCard(service));
}

/** @param {Model} model */
function showModel(model) {
  const bits = model.stages.map(({ bits_per_code }) => bits_per_code);
  const perPixel = bits.reduce((sum, of) => sum + of, 0) / model.stride ** 2;
  const sizes = model.stages.map(({ codebook_size }) => formatCount(codebook_size));
  showFacts(byId("model-facts"), [
    ["Name", model.name, `version ${model.version}`],
    ["Codebook", sizes.join(" + "), `vectors of ${model.codebook_width} numbers`],
    ["Patch", `${model.stride} × ${model.stride} px`, `${bits.join(" + ")} bits each`],
    ["Rate", `${perPixel.toFixed(3)} bit/px`, `1 : ${(24 / perPixel).toFixed(0)} of raw RGB`],
    ["Embedding", formatCount(model.embedding_dimension), "numbers, of length 1"],
    ["Runs on", model.device.toUpperCase(), `in ${model.precision}`],
  ]);
  byId("code-space").textContent = model.code_space;
  fill("model-metrics", groupsOf(measured(model)).map(group));
  fill("model-data", model.data.map(({ name, licence }) => listed(name, `Licence: ${licence}`)));
  fill("model-recognizers", Object.entries(model.recognizers).map(recognizer));
  showModelCommands(model);
}

/**
 * @param {Model} model
 * @returns {Record<string, unknown>} what was measured of it and of its parts
 */
function measured({ metrics, decoders, prior }) {
  const further = Object.entries(decoders)
    .filter(([name]) => name !== DEFAULT_DECODER)
    .map(([name, decoder]) => [`${name}_decoder`, decoder.metrics]);
  return { ...metrics, ...Object.fromEntries(further), ...(prior ? { prior: prior.metrics } : {}) };
}

/**
 * Fills what can be opened, or hides it where there is nothing.
 * @param {string} id of a `details` that holds an element of class `content`
 * @param {HTMLElement[]} content
 */
function fill(id, content) {
  const details = byId(id);
  details.hidden = content.length === 0;
  details.querySelector(".content")?.replaceChildren(...content);
}

/** @param {import("./measurements.js").Group} group */
function group({ title, rows }) {
  const body = rows.map(([name, value]) =>
    element("tr", {}, element("th", { scope: "row" }, name), element("td", {}, value)),
  );
  return element(
    "table",
    { class: "metrics" },
    element("caption", {}, title),
    element("tbody", {}, ...body),
  );
}

/** @param {string} name @param {string} note */
const listed = (name, note) => element("li", {}, name, element("small", {}, note));

/** @param {[string, Model["recognizers"][string]]} named */
function recognizer([name, { classes, licence, metrics }]) {
  const right =
    typeof metrics.top1 === "number"
      ? `${(100 * metrics.top1).toFixed(1)} % of its test images are recognized. `
      : "";
  const words = `${classes.length} classes: ${inBrief(classes.map(readable))}.`;
  return listed(name, `${words} ${right}Licence of its data: ${licence}.`);
}

/** @param {Model} model */
function showModelCommands(model) {
  showCommands(byId("model-commands"), [
    { title: "What the service says of it", path: `v1/models/${model.id}` },
    {
      title: "Its code vectors, as NumPy reads them",
      path: `v1/models/${model.id}/codebook`,
      headers: { Accept: NPY },
      output: "codebook.npy",
    },
    { title: "Whether the service is ready", path: "readyz" },
  ]);
}

/**
 * The card is fetched when it is wanted: with the key, which a plain link couldn't send.
 * @param {import("./service.js").Service} service
 */
async function showCard(service) {
  const { model } = service;
  if (!model) return;
  const path = `v1/models/${model.id}/card`;
  /** @type {HTMLAnchorElement} */ (byId("model-card-link")).href = path;
  if (!(/** @type {HTMLDetailsElement} */ (byId("model-card")).open)) return;
  const text = await send(path)
    .then((answer) => answer.text())
    .catch((error) => /** @type {Error} */ (error).message);
  if (service.model === model) byId("model-card-text").textContent = text;
}
