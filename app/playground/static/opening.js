// Opening a picture or a file of codes: progress, refusals, and the choices that open it anew.

import { latest, PACKED } from "./api.js";
import { readCodes } from "./context_coding.js";
import { byId, showRefusal } from "./dom.js";
import { sample } from "./file_input.js";
import { openCodes, openImage } from "./picture.js";

const FIRST_SAMPLE = "lake.webp";

/**
 * @param {import("./service.js").Service} service
 * @param {import("./workspace.js").Workspace} workspace
 * @param {import("./decoding.js").DecodingChoice} choice
 * @returns {(file: File) => Promise<void>} opens a file
 */
export function openFiles(service, workspace, choice) {
  /** @type {File | null} */
  let lastFile = null;

  /**
   * @param {File} file
   * @param {number} [index] of the grid, in a file of codes
   * @param {boolean} [unasked] nobody waits for it, so the page stays where it is
   */
  const open = async (file, index = 0, unasked = false) => {
    lastFile = file;
    const message = byId("message");
    message.textContent = "";
    try {
      const result = await read(service, choice, file, index);
      if (!result) return; // another was opened meanwhile
      showProgress(1, "");
      workspace.open(result.picture, result.codebook, result.model, result.decoding);
      if (!unasked) byId("picture").scrollIntoView({ block: "start" });
    } catch (error) {
      showProgress(1, "");
      const text = `${file.name || "The picture"} was refused. ${/** @type {Error} */ (error).message}`;
      if (unasked) message.textContent = text;
      else showRefusal(message, text);
    }
  };

  // A sample at first sight, to show what this is about; not in the place of a picture chosen since.
  const openSample = async () => {
    const file = await sample(FIRST_SAMPLE);
    if (!lastFile) open(file, 0, true);
  };

  const reopenImage = () => lastFile && workspace.picture?.file && open(lastFile);
  byId("item-select").addEventListener("change", (event) => {
    if (lastFile) open(lastFile, Number(/** @type {HTMLSelectElement} */ (event.target).value));
  });
  byId("longest-side").addEventListener("change", reopenImage);
  service.addEventListener("change", () => (lastFile ? reopenImage() : openSample()));
  workspace.addEventListener("open", () => showTitle(workspace));
  return open;
}

const read = latest(
  async (
    signal,
    /** @type {import("./service.js").Service} */ service,
    /** @type {import("./decoding.js").DecodingChoice} */ choice,
    /** @type {File} */ file,
    /** @type {number} */ index,
  ) => {
    if (!service.model) await service.loadModels();
    const isCodes = /\.tess$/i.test(file.name) || file.type === PACKED;
    let model = /** @type {import("./service.js").Model} */ (service.model);
    let decoding = choice.of(model, model.stages.length, model.default_stages);
    let picture;
    if (isCodes) {
      showProgress(0.3, "Decoding the codes");
      const codes = await readCodes(file, signal);
      const stages = codes.codebookSizes.length;
      const fitting = [model, ...service.models].find((one) => one.code_space === codes.codeSpace);
      decoding = choice.of(fitting, stages, stages);
      // Where no model has their space, the service says so in its own words.
      picture = await openCodes(file.name, codes, index, fitting, decoding, signal);
      model = fitting ?? model;
    } else {
      const side = /** @type {HTMLSelectElement} */ (byId("longest-side")).value;
      picture = await openImage(file, model, decoding, Number(side), signal, showProgress);
    }
    return { picture, codebook: await service.codebook(model), model, decoding };
  },
);

/** @param {import("./workspace.js").Workspace} workspace */
function showTitle({ picture }) {
  if (!picture) return;
  const { grids } = picture.codes;
  byId("work").hidden = false;
  byId("picture-name").textContent = picture.name;
  byId("item-choice").hidden = grids.length < 2;
  const select = /** @type {HTMLSelectElement} */ (byId("item-select"));
  select.replaceChildren(...grids.map((one, i) => new Option(one.name || String(i + 1), String(i))));
  select.value = String(picture.index);
}

/** @param {number} share 0…1 @param {string} text */
function showProgress(share, text) {
  byId("progress").hidden = share >= 1;
  /** @type {HTMLProgressElement} */ (byId("progress-bar")).value = share;
  byId("progress-text").textContent = text;
}
