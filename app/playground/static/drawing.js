// The two drawings of the open picture: the picture itself and the mosaic of its codes.

import { byId, formatCount } from "./dom.js";

/** @typedef {import("./mosaic.js").Cell} Cell */

/** What the mosaic's colours mean. @type {Record<string, string>} */
const MEANINGS = {
  colours: "The mean colour of what each code decodes to.",
  patches: "What each code decodes to, alone.",
  axes: "Similar code vectors have similar colours: the first three principal axes of the codebook.",
};

/**
 * Keeps both drawings as the workspace is.
 * @param {import("./workspace.js").Workspace} workspace
 * @param {import("./wipe.js").Wipe} wipe
 * @param {import("./mosaic.js").Mosaic} mosaic
 * @param {import("./tools.js").Tools} tools
 * @param {import("./service.js").Service} service knows the patches
 */
export function drawPicture(workspace, wipe, mosaic, tools, service) {
  workspace.addEventListener("open", () => {
    const { picture, grid } = workspace;
    if (!picture || !grid) return;
    mosaic.grid = grid;
    mosaic.colourOf = (code) => workspace.colourOf(code);
    mosaic.stride = picture.codes.stride;
    mosaic.marked = mosaic.cursor = null;
    tools.clearRegion();
    wipe.original = picture.original;
    wipe.reconstruction = picture.reconstruction;
    wipe.marked = [];
    byId("left-caption").textContent = picture.original ? "Original" : "";
    byId("wipe-range").toggleAttribute("disabled", !picture.original);
    drawTiles(workspace, mosaic, service);
    wipe.moveLine(0.5);
  });

  workspace.addEventListener("edit", () => {
    // The first change: what it does is to be seen wherever it is, not hidden by the original.
    if (workspace.grid?.past.length === 1 && wipe.original) wipe.moveLine(0);
    mosaic.repaint();
  });
  workspace.addEventListener("settle", () => loadPatches(workspace, mosaic));
  workspace.addEventListener("decode", () => {
    wipe.reconstruction = workspace.picture?.reconstruction ?? null;
    wipe.draw();
  });

  workspace.addEventListener("mark", (event) => {
    const { code, cell } = /** @type {CustomEvent} */ (event).detail;
    showMark(workspace, wipe, mosaic, tools.tool === "pick", code, cell);
  });
  tools.addEventListener("hover", (event) => {
    const cell = /** @type {CustomEvent<Cell | null>} */ (event).detail;
    workspace.mark(cell && mosaic.codeAt(cell), cell);
  });

  for (const radio of document.querySelectorAll("[name=drawn]")) {
    radio.addEventListener("change", () => drawTiles(workspace, mosaic, service));
  }
  new ResizeObserver(() => {
    wipe.draw();
    mosaic.draw();
  }).observe(byId("work"));
}

/**
 * Draws the tiles in the way that is chosen.
 * @param {import("./workspace.js").Workspace} workspace
 * @param {import("./mosaic.js").Mosaic} mosaic
 * @param {import("./service.js").Service} service
 */
function drawTiles(workspace, mosaic, service) {
  const { model } = workspace;
  if (!model) return;
  const chosen = /** @type {HTMLInputElement} */ (document.querySelector("[name=drawn]:checked"));
  workspace.patches = chosen.value === "axes" ? null : service.patches(model);
  mosaic.patches = chosen.value === "patches" ? workspace.patches : null;
  byId("drawn-note").textContent = MEANINGS[chosen.value];
  mosaic.repaint();
  workspace.recoloured();
  loadPatches(workspace, mosaic);
}

/**
 * @param {import("./workspace.js").Workspace} workspace
 * @param {import("./mosaic.js").Mosaic} mosaic
 */
async function loadPatches(workspace, mosaic) {
  const { patches, grid, ownColours } = workspace;
  if (!patches || !grid) return;
  // Colours are asked for only of codes that came by changes: the picture's own have theirs.
  const wanted = mosaic.patches ? grid.codes : grid.codes.filter((code) => !ownColours.has(code));
  if (!wanted.length) return;
  try {
    await patches.load(wanted);
    mosaic.repaint();
    workspace.recoloured();
  } catch (error) {
    byId("under-cursor").textContent = /** @type {Error} */ (error).message;
  }
}

/**
 * Shows a code on the picture and in words; the mosaic has been told by who asks.
 * @param {import("./workspace.js").Workspace} workspace
 * @param {import("./wipe.js").Wipe} wipe
 * @param {import("./mosaic.js").Mosaic} mosaic
 * @param {boolean} everywhere whether all places of the code are shown, or the cell alone
 * @param {number | null} code
 * @param {Cell | null} cell
 */
function showMark({ codebook, bits, grid, decoding }, wipe, mosaic, everywhere, code, cell) {
  const places = code === null ? [] : everywhere ? mosaic.placesOf(code) : cell ? [cell] : [];
  const { stride } = mosaic;
  wipe.marked = places.map(({ row, column }) => ({
    x: column * stride,
    y: row * stride,
    width: stride,
    height: stride,
  }));
  wipe.draw();
  if (code === null || !codebook) return;
  const where = cell ? `row ${cell.row + 1}, column ${cell.column + 1}: ` : "";
  const codes = cell && grid ? grid.at(cell.row, cell.column).slice(1, decoding.stages) : [];
  const further = codes.map((of) => ` + ${of}`).join("");
  const cost = cell && bits ? `, ${bits[cell.row][cell.column].toFixed(1)} bits` : "";
  byId("under-cursor").textContent =
    `${where}code ${code}${further}${cost}, in ${inPlaces(mosaic.placesOf(code).length)}; ` +
    `its neighbour in the codebook is ${codebook.neighbour(code)}.`;
}

/** @param {number} count */
const inPlaces = (count) => (count === 1 ? "this place alone" : `${formatCount(count)} places`);
