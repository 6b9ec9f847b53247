// The open picture's codes and reconstruction as files, and as commands for a terminal.

import { CONTEXT_CODED, PACKED } from "./api.js";
import { showCommands } from "./curl.js";
import { decoderQuery, stagesQuery } from "./decoding.js";
import { byId, download } from "./dom.js";
import { mediaType } from "./file_input.js";
import { writeCodes } from "./npy.js";

/** @typedef {import("./picture.js").Picture} Picture */

/** @param {Picture} picture */
const stem = (picture) => picture.name.replace(/\.\w+$/, "") || "picture";

/**
 * @param {import("./workspace.js").Workspace} workspace
 * @param {import("./context_coding.js").ContextCoding} contextCoding
 */
export function offerDownloads(workspace, contextCoding) {
  for (const button of document.querySelectorAll("[data-download]")) {
    button.addEventListener("click", () => {
      const { picture } = workspace;
      if (!picture) return;
      const kind = /** @type {HTMLElement} */ (button).dataset.download ?? "";
      const { rows, columns, stages } = workspace.currentCodes().grids[0];
      const axis = stages.length > 1 ? [stages.length] : [];
      const files = {
        tess: () => new Blob([workspace.tessFile()], { type: PACKED }),
        npy: () => new Blob([writeCodes(stages.flatMap((codes) => [...codes]), [1, ...axis, rows, columns])]),
        png: () => picture.reconstructionFile,
      };
      download(files[/** @type {keyof typeof files} */ (kind)](), `${stem(picture)}.${kind}`);
    });
  }
  byId("context-coded").addEventListener("click", () => {
    const { picture } = workspace;
    if (picture && contextCoding.file) download(contextCoding.file, `${stem(picture)}.context.tess`);
  });
}

/**
 * Shows the commands that do what the page did with the open picture.
 * @param {import("./workspace.js").Workspace} workspace
 * @param {string | null} bitsPath what is asked for the bits of codes, if the model has a prior
 * @param {string | null} labelsPath what was asked for labels, if anything
 */
export function showPictureCommands({ picture, decoding }, bitsPath, labelsPath) {
  if (!picture) return;
  const name = stem(picture);
  const decoder = decoderQuery(decoding);
  const stages = stagesQuery(picture.codes, decoding);
  const packed = { headers: { "Content-Type": PACKED }, data: `${name}.tess` };
  showCommands(byId("commands"), [
    ...(picture.file ? [encoding(picture, picture.file, stages)] : []),
    {
      title: "Codes to picture",
      path: `v1/decode${decoder.replace("&", "?")}`,
      ...packed,
      headers: { ...packed.headers, Accept: "image/png" },
      output: `${name}.png`,
    },
    ...(picture.file ? [reconstruction(picture, picture.file, decoder + stages)] : []),
    { title: "Codes to a vector", path: "v1/embed", ...packed },
    ...(bitsPath ? contextCommands(name, packed, bitsPath) : []),
    ...(labelsPath ? [{ title: "Codes to labels", path: labelsPath, ...packed }] : []),
  ]);
}

/**
 * @param {string} name
 * @param {{headers: Record<string, string>, data: string}} packed
 * @param {string} bitsPath
 * @returns {import("./curl.js").Action[]}
 */
function contextCommands(name, packed, bitsPath) {
  return [
    {
      title: "Codes to the same, context-coded",
      path: "v1/recode",
      ...packed,
      headers: { ...packed.headers, Accept: CONTEXT_CODED },
      output: `${name}.context.tess`,
    },
    { title: "Bits of each code", path: bitsPath, ...packed },
  ];
}

/**
 * @param {Picture} picture @param {File} file
 * @param {string} more of the query
 * @returns {import("./curl.js").Action}
 */
function encoding(picture, file, more) {
  return {
    title: "Picture to codes",
    path: `v1/encode?${picture.query}${more}`,
    headers: { "Content-Type": mediaType(file), Accept: PACKED },
    data: file.name || "picture.png",
    output: `${stem(picture)}.tess`,
  };
}

/**
 * @param {Picture} picture @param {File} file
 * @param {string} more of the query
 * @returns {import("./curl.js").Action}
 */
function reconstruction(picture, file, more) {
  return {
    title: "Both at once, with its PSNR",
    path: `v1/reconstruct?${picture.query}${more}`,
    headers: { "Content-Type": mediaType(file), Accept: "image/png" },
    data: file.name || "picture.png",
    output: `${stem(picture)}-reconstruction.png`,
  };
}
