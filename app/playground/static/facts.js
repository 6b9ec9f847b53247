// What is known of the open picture, in numbers.

import { byId, formatBytes, showFacts } from "./dom.js";
import { psnrOf } from "./picture.js";
import { bitsPerCode } from "./tess.js";

/** What the service calls its stages, and what a person would. @type {Record<string, string>} */
const STAGES = { decode: "read", queue: "wait", infer: "model", encode: "write" };

/** @typedef {[term: string, value: string, note: string]} Fact */

/**
 * @param {import("./workspace.js").Workspace} workspace
 * @param {import("./context_coding.js").ContextCoding} contextCoding
 */
export function showNumbers(workspace, contextCoding) {
  const show = () => {
    const { picture, grid } = workspace;
    if (!picture || !grid) return;
    const bytes = workspace.tessFile().length;
    byId("tess-bytes").textContent = formatBytes(bytes);
    showFacts(byId("facts"), [
      ...sizes(picture, grid.changed()),
      ...rates(workspace.currentCodes(), bytes),
      ...(contextCoding.offered ? [contextCoded(contextCoding.file, bytes)] : []),
      ...source(picture),
      ...picture.times.map(duration),
    ]);
  };
  workspace.addEventListener("open", show);
  workspace.addEventListener("decode", show);
  contextCoding.addEventListener("change", show);
}

/**
 * @param {import("./picture.js").Picture} picture
 * @param {number} changed codes
 * @returns {Fact[]}
 */
function sizes(picture, changed) {
  const { width, height, rows, columns } = picture.codes.grids[picture.index];
  /** @type {Fact[]} */
  const facts = [["Size", `${width} × ${height}`, `${columns} × ${rows} codes`]];
  // What is changed was decoded alone, and so is compared here.
  const measured = changed === 0 ? picture.psnr : null;
  if (measured !== null) {
    facts.push(["PSNR", `${measured.toFixed(2)} dB`, "against the original"]);
  } else if (picture.original) {
    const psnr = psnrOf(picture.original, picture.reconstruction, width, height);
    facts.push(["PSNR", `${psnr.toFixed(2)} dB`, "as changed, against the original"]);
  }
  return facts;
}

/**
 * @param {import("./tess.js").CodeFile} codes of one grid
 * @param {number} bytes of the packed codes
 * @returns {Fact[]}
 */
function rates({ codebookSizes, grids: [{ width, height, rows, columns }] }, bytes) {
  const raw = width * height * 3;
  const bits = codebookSizes.map(bitsPerCode);
  const perPatch = bits.reduce((sum, of) => sum + of, 0);
  const perPixel = (perPatch * rows * columns) / (width * height);
  return [
    ["Rate", `${perPixel.toFixed(3)} bit/px`, `${bits.join(" + ")} bits per patch`],
    ["Codes", formatBytes(bytes), `1 : ${(raw / bytes).toFixed(0)} of raw RGB`],
  ];
}

/**
 * @param {Blob | null} file null while it isn't known
 * @param {number} bytes of the packed codes
 * @returns {Fact}
 */
function contextCoded(file, bytes) {
  if (!file) return ["Context-coded", "…", "the same codes"];
  const saved = Math.round(100 * (1 - file.size / bytes));
  const note = saved < 0 ? `${-saved} % more bytes` : `${saved} % fewer bytes`;
  return ["Context-coded", formatBytes(file.size), note];
}

/**
 * @param {import("./picture.js").Picture} picture
 * @returns {Fact[]}
 */
function source({ file, resized }) {
  if (!file) return [];
  return [["Original file", formatBytes(file.size), resized ? "before it was resized" : "as it was given"]];
}

/**
 * @param {[string, Map<string, number>]} request its name, and its milliseconds by stage
 * @returns {Fact}
 */
function duration([name, times]) {
  let sum = 0;
  for (const time of times.values()) sum += time;
  const parts = [...times].map(
    ([stage, ms]) => `${STAGES[stage] ?? stage} ${ms.toFixed(ms < 10 ? 1 : 0)}`,
  );
  return [name, `${sum.toFixed(0)} ms`, parts.join(" · ")];
}
