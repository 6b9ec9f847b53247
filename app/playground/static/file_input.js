// Pictures on their way in: chosen, dropped, pasted, or one of the samples.

import { byId } from "./dom.js";

const RAW = ["image/png", "image/jpeg", "image/webp", "image/gif", "image/bmp", "image/tiff"];

/** @param {File} file @returns {string} the media type that the API takes it by */
export const mediaType = (file) => (RAW.includes(file.type) ? file.type : "application/octet-stream");

/**
 * @param {string} name of a sample
 * @returns {Promise<File>}
 */
export async function sample(name) {
  const answer = await fetch(`playground/samples/${name}`);
  return new File([await answer.blob()], name, { type: "image/webp" });
}

/**
 * Takes files however they come.
 * @param {(files: File[]) => void} open one or several, dropped or pasted anywhere
 */
export function takeFiles(open) {
  const field = /** @type {HTMLInputElement} */ (byId("file"));
  byId("choose").addEventListener("click", () => field.click());
  field.addEventListener("change", () => {
    open([...(field.files ?? [])]);
    field.value = ""; // so that choosing the same file again is a change
  });
  for (const button of document.querySelectorAll("[data-sample]")) {
    const name = /** @type {HTMLElement} */ (button).dataset.sample ?? "";
    button.addEventListener("click", async () => open([await sample(name)]));
  }
  document.addEventListener("paste", (event) => {
    const files = [...(event.clipboardData?.files ?? [])];
    if (files.length) {
      event.preventDefault();
      open(files);
    }
  });
  takeDrops(open);
}

/** @param {(files: File[]) => void} open */
function takeDrops(open) {
  const veil = byId("drop-veil");
  let depth = 0; // enter and leave come for every element on the way
  const holdsFiles = (/** @type {DragEvent} */ event) =>
    event.dataTransfer?.types.includes("Files") ?? false;
  document.addEventListener("dragenter", (event) => {
    if (holdsFiles(event) && ++depth) veil.hidden = false;
  });
  document.addEventListener("dragleave", (event) => {
    if (holdsFiles(event) && --depth <= 0) veil.hidden = true;
  });
  document.addEventListener("dragover", (event) => {
    if (holdsFiles(event)) event.preventDefault();
  });
  document.addEventListener("drop", (event) => {
    depth = 0;
    veil.hidden = true;
    if (!holdsFiles(event)) return;
    event.preventDefault();
    const files = [...(event.dataTransfer?.files ?? [])];
    if (files.length) open(files);
  });
}
