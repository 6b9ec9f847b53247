// Several pictures, compared by the vectors that the embedder makes of their codes.

import { send } from "./api.js";
import { showCommands } from "./curl.js";
import { byId, element, showRefusal } from "./dom.js";
import { sample } from "./file_input.js";

const SAMPLES = ["otter", "colosseum", "lake", "street", "spices", "flowers"].map((n) => `${n}.webp`);
const MOST = 24;
const SIZE = "256x256";

/** @typedef {{name: string, address: string, vector: Float32Array}} Embedded */

/** @param {import("./service.js").Service} service */
export function comparePictures(service) {
  /** @type {File[]} */
  let files = [];
  /** @type {Embedded[]} */
  let shown = [];
  const field = /** @type {HTMLInputElement} */ (byId("compare-file"));

  const show = async (/** @type {File[]} */ added) => {
    const message = byId("compare-message");
    message.textContent = "";
    if (!service.model) return;
    files = [...files, ...added].slice(0, MOST);
    if (files.length === 0) return;
    byId("compare-status").textContent = `Embedding ${files.length} pictures…`;
    try {
      const { embedded, refused } = await embed(files, service.model.id);
      for (const { address } of shown) URL.revokeObjectURL(address);
      shown = embedded;
      files = files.filter((_, i) => !refused.has(i));
      showRefusal(message, [...refused.values()].join(" "));
    } catch (error) {
      files = files.slice(0, files.length - added.length);
      showRefusal(message, /** @type {Error} */ (error).message);
    }
    byId("compare-status").textContent =
      shown.length === 1 ? "One picture. Add another to compare it with." : "";
    byId("compare-clear").hidden = shown.length === 0;
    draw(shown, files, service.model.id);
  };

  byId("compare-choose").addEventListener("click", () => field.click());
  field.addEventListener("change", () => {
    show([...(field.files ?? [])]);
    field.value = "";
  });
  byId("compare-samples").addEventListener("click", async () => show(await Promise.all(SAMPLES.map(sample))));
  byId("compare-clear").addEventListener("click", () => {
    for (const { address } of shown) URL.revokeObjectURL(address);
    files = shown = [];
    byId("compare-clear").hidden = true;
    byId("compare-message").textContent = "";
    draw(shown, files, "");
    byId("compare-choose").focus();
  });
  service.addEventListener("change", () => files.length && show([]));
  return show;
}

/**
 * @param {File[]} files
 * @param {string} model
 * @returns {Promise<{embedded: Embedded[], refused: Map<number, string>}>}
 */
async function embed(files, model) {
  const form = new FormData();
  for (const file of files) form.append("images", file);
  const query = new URLSearchParams({ model, size: SIZE });
  const answer = await (await send(`v1/embed?${query}`, { method: "POST", body: form })).json();
  const refused = new Map();
  const embedded = [];
  for (const { index, embedding, error } of answer.data) {
    const { name } = files[index];
    if (error) refused.set(index, `${name}: ${error.detail}.`);
    else {
      embedded.push({
        name,
        address: URL.createObjectURL(files[index]),
        vector: Float32Array.from(embedding),
      });
    }
  }
  return { embedded, refused };
}

/** @param {Float32Array} a @param {Float32Array} b */
const cosine = (a, b) => a.reduce((sum, value, i) => sum + value * b[i], 0);

/**
 * @param {Embedded[]} shown
 * @param {File[]} files
 * @param {string} model
 */
function draw(shown, files, model) {
  const matrix = byId("matrix");
  matrix.hidden = shown.length < 2;
  byId("neighbours").replaceChildren();
  byId("compare-commands").replaceChildren();
  if (shown.length < 2) return;
  const values = shown.map(({ vector: a }) => shown.map(({ vector: b }) => cosine(a, b)));
  matrix.replaceChildren(matrixTable(shown, values));
  if (shown.length > 2) byId("neighbours").replaceChildren(...nearest(shown, values));
  showCommands(byId("compare-commands"), [
    {
      title: "Pictures to vectors",
      path: `v1/embed?model=${model}&size=${SIZE}`,
      files: files.slice(0, 3).map(({ name }) => name),
    },
  ]);
}

/**
 * @param {Embedded[]} shown
 * @param {number[][]} values
 */
function matrixTable(shown, values) {
  const head = shown.map((picture) =>
    element("th", { scope: "col" }, thumbnail(picture, picture.name)),
  );
  const rows = values.map((row, i) =>
    element(
      "tr",
      {},
      element("th", { scope: "row" }, thumbnail(shown[i], shown[i].name)),
      ...row.map((value, j) => {
        const cell = element("td", {}, formatCosine(value));
        // The scale is fixed, 0 to 1, so that what is weak looks weak whatever stands next to it.
        if (i === j) cell.className = "self";
        else cell.style.setProperty("--share", Math.max(0, Math.min(value, 1)).toFixed(3));
        return cell;
      }),
    ),
  );
  return element(
    "table",
    { class: "matrix" },
    element(
      "caption",
      {},
      "Cosine similarity ",
      element("span", { class: "scale" }, "0", element("span", { class: "ramp" }), "1"),
      " Unrelated pictures are near 0.",
    ),
    element("thead", {}, element("tr", {}, element("td", {}), ...head)),
    element("tbody", {}, ...rows),
  );
}

/**
 * @param {Embedded[]} shown
 * @param {number[][]} values
 */
function nearest(shown, values) {
  const items = shown.map((picture, i) => {
    const near = values[i]
      .map((value, j) => ({ value, other: shown[j], j }))
      .filter(({ j }) => j !== i)
      .sort((a, b) => b.value - a.value)
      .slice(0, 3);
    return element(
      "li",
      {},
      thumbnail(picture, picture.name),
      element("span", { "aria-hidden": "true", class: "arrow" }, "→"),
      ...near.map(({ value, other }) =>
        element("figure", {}, thumbnail(other, other.name), element("figcaption", {}, formatCosine(value))),
      ),
    );
  });
  return [element("h3", {}, "Nearest to each"), element("ul", {}, ...items)];
}

/**
 * Two decimals, and never a zero with a sign.
 * @param {number} value
 */
export const formatCosine = (value) => {
  const text = value.toFixed(2);
  return text === "-0.00" ? "0.00" : text.replace("-", "−");
};

/** @param {Embedded} picture @param {string} alt */
const thumbnail = (picture, alt) =>
  element("img", { src: picture.address, alt, title: alt, width: "56", height: "56" });
