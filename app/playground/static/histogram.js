// How often each code of a picture is used.

import { byId, element, fitCanvas, formatCount } from "./dom.js";
import { bitsPerCode } from "./tess.js";

const HEIGHT = 84;
const TOP = 10;

/**
 * Shows which codes are in use; a bar or a button of a code marks it, a click chooses it.
 * @param {import("./workspace.js").Workspace} workspace
 * @param {import("./mosaic.js").Mosaic} mosaic
 * @param {import("./tools.js").Tools} tools
 */
export function showCodesInUse(workspace, mosaic, tools) {
  const canvas = /** @type {HTMLCanvasElement} */ (byId("histogram"));
  const draw = (/** @type {number | null} */ marked) => {
    if (workspace.codebook) drawHistogram(canvas, workspace, marked);
  };
  const mark = (/** @type {number | null} */ code) => {
    mosaic.marked = code;
    mosaic.draw();
    workspace.mark(code, null);
  };
  const show = () => {
    const { counts, codebook } = workspace;
    if (!codebook) return;
    draw(mosaic.marked);
    const stages = workspace.picture?.codes.codebookSizes.length ?? 1;
    byId("histogram-title").textContent = stages > 1 ? "Codes in use, first stage" : "Codes in use";
    byId("histogram-text").textContent = inWords(counts, codebook.size);
    showTopCodes(byId("top-codes"), workspace, (code) => tools.pick(code), mark);
  };
  const barAt = (/** @type {MouseEvent} */ event) =>
    codeOfBar(canvas, workspace.counts, event.offsetX);

  workspace.addEventListener("open", show);
  workspace.addEventListener("settle", show);
  workspace.addEventListener("colours", () => {
    draw(mosaic.marked);
    // Not made anew: a button may have the focus.
    for (const swatch of byId("top-codes").querySelectorAll(".swatch")) {
      const { style, dataset } = /** @type {HTMLElement} */ (swatch);
      style.background = workspace.colourOf(Number(dataset.code));
    }
  });
  workspace.addEventListener("mark", (event) =>
    draw(tools.tool === "pick" ? /** @type {CustomEvent} */ (event).detail.code : null),
  );
  canvas.addEventListener("pointermove", (event) => mark(barAt(event)));
  canvas.addEventListener("pointerleave", () => mark(null));
  canvas.addEventListener("click", (event) => {
    const code = barAt(event);
    if (code !== null) tools.pick(code);
  });
  new ResizeObserver(() => draw(mosaic.marked)).observe(byId("work"));
}

/**
 * @param {HTMLCanvasElement} canvas
 * @param {import("./workspace.js").Workspace} workspace
 * @param {number | null} marked
 */
function drawHistogram(canvas, workspace, marked) {
  const { counts } = workspace;
  const width = /** @type {HTMLElement} */ (canvas.parentElement).clientWidth;
  canvas.style.width = `${width}px`;
  canvas.style.height = `${HEIGHT}px`;
  const context = fitCanvas(canvas, width, HEIGHT);
  context.clearRect(0, 0, width, HEIGHT);
  const entries = [...counts];
  const most = entries[0]?.[1] ?? 1;
  const step = width / Math.max(entries.length, 24);
  entries.forEach(([code, count], i) => {
    // Square roots: the many codes that are used once or twice are to be seen too.
    const height = Math.max(2, Math.sqrt(count / most) * (HEIGHT - 2));
    context.fillStyle = workspace.colourOf(code);
    context.globalAlpha = marked === null || marked === code ? 1 : 0.25;
    context.fillRect(i * step, HEIGHT - height, Math.max(step - (step > 4 ? 1 : 0), 0.5), height);
  });
  context.globalAlpha = 1;
}

/**
 * The code whose bar is at a place of the canvas.
 * @param {HTMLCanvasElement} canvas
 * @param {Map<number, number>} counts
 * @param {number} x CSS pixels from the canvas's left
 * @returns {number | null}
 */
function codeOfBar(canvas, counts, x) {
  const step = canvas.clientWidth / Math.max(counts.size, 24);
  return [...counts.keys()][Math.floor(x / step)] ?? null;
}

/**
 * @param {Map<number, number>} counts
 * @param {number} codebookSize
 */
function inWords(counts, codebookSize) {
  let total = 0;
  for (const count of counts.values()) total += count;
  let entropy = 0;
  for (const count of counts.values()) entropy -= (count / total) * Math.log2(count / total);
  return (
    `${formatCount(counts.size)} of the codebook's ${formatCount(codebookSize)} codes, ` +
    `in ${formatCount(total)} places. Coded by frequency they would take ` +
    `${entropy.toFixed(2)} bits each instead of ${bitsPerCode(codebookSize)}.`
  );
}

/**
 * Buttons for the most frequent codes.
 * @param {HTMLElement} into
 * @param {import("./workspace.js").Workspace} workspace
 * @param {(code: number) => void} pick
 * @param {(code: number | null) => void} mark shows all places of a code
 */
function showTopCodes(into, workspace, pick, mark) {
  into.replaceChildren(
    ...[...workspace.counts].slice(0, TOP).map(([code, count]) => {
      const swatch = element("span", { class: "swatch", "data-code": String(code) });
      swatch.style.background = workspace.colourOf(code);
      const button = element(
        "button",
        { type: "button" },
        swatch,
        element("span", { class: "visually-hidden" }, "Code "),
        String(code),
        element("small", {}, `${formatCount(count)}×`),
      );
      button.addEventListener("click", () => pick(code));
      for (const event of ["focus", "pointerenter"]) {
        button.addEventListener(event, () => mark(code));
      }
      for (const event of ["blur", "pointerleave"]) {
        button.addEventListener(event, () => mark(null));
      }
      return button;
    }),
  );
}
