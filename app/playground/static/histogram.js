// How often each code of a picture is used.

import { element, fitCanvas, formatCount } from "./dom.js";

const HEIGHT = 84;
const TOP = 10;

/**
 * @param {HTMLCanvasElement} canvas
 * @param {Map<number, number>} counts most frequent first
 * @param {import("./codebook.js").Codebook} codebook
 * @param {number | null} marked
 */
export function drawHistogram(canvas, counts, codebook, marked) {
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
    context.fillStyle = codebook.css(code);
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
export function codeOfBar(canvas, counts, x) {
  const step = canvas.clientWidth / Math.max(counts.size, 24);
  return [...counts.keys()][Math.floor(x / step)] ?? null;
}

/**
 * @param {Map<number, number>} counts
 * @param {number} codebookSize
 */
export function inWords(counts, codebookSize) {
  let total = 0;
  for (const count of counts.values()) total += count;
  let entropy = 0;
  for (const count of counts.values()) entropy -= (count / total) * Math.log2(count / total);
  return (
    `${formatCount(counts.size)} of the codebook's ${formatCount(codebookSize)} codes, ` +
    `in ${formatCount(total)} places. Coded by frequency they would take ` +
    `${entropy.toFixed(2)} bits each instead of ${Math.ceil(Math.log2(codebookSize))}.`
  );
}

/**
 * Buttons for the most frequent codes.
 * @param {HTMLElement} into
 * @param {Map<number, number>} counts
 * @param {import("./codebook.js").Codebook} codebook
 * @param {(code: number) => void} pick
 * @param {(code: number | null) => void} mark shows all places of a code
 */
export function showTopCodes(into, counts, codebook, pick, mark) {
  into.replaceChildren(
    ...[...counts].slice(0, TOP).map(([code, count]) => {
      const swatch = element("span", { class: "swatch" });
      swatch.style.background = codebook.css(code);
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
