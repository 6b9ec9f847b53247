// The playground: what belongs together is put together here.

import { latest, PACKED } from "./api.js";
import { comparePictures } from "./compare.js";
import { showCommands } from "./curl.js";
import { byId, download, formatBytes, formatCount, showFacts } from "./dom.js";
import { EditedGrid } from "./edits.js";
import { codeOfBar, drawHistogram, inWords, showTopCodes } from "./histogram.js";
import { mediaType, takeFiles } from "./intake.js";
import { Labels } from "./labels.js";
import { Mosaic } from "./mosaic.js";
import { writeCodes } from "./npy.js";
import { decode, openCodes, openImage, psnrOf, thumbnailOf } from "./picture.js";
import { Service } from "./service.js";
import { readTess, writeTess } from "./tess.js";
import { Tools } from "./tools.js";
import { View } from "./view.js";
import { Wipe } from "./wipe.js";

const PAINT_DELAY_MS = 90;

const service = new Service();
const view = new View();
const wipe = new Wipe(
  /** @type {HTMLCanvasElement} */ (byId("wipe")),
  /** @type {HTMLInputElement} */ (byId("wipe-range")),
  view,
);
const mosaic = new Mosaic(/** @type {HTMLCanvasElement} */ (byId("mosaic")), view);
const tools = new Tools(mosaic);
const labels = new Labels();
const histogram = /** @type {HTMLCanvasElement} */ (byId("histogram"));

/** @type {import("./picture.js").Picture | null} */
let picture = null;
/** @type {import("./codebook.js").Codebook | null} */
let codebook = null;
/** @type {Map<number, number>} */
let counts = new Map();
/** @type {ReturnType<typeof setTimeout> | undefined} */
let painting;

// ---- opening ------------------------------------------------------------------------------

/** @param {number} share @param {string} text */
function progress(share, text) {
  byId("progress").hidden = share >= 1;
  /** @type {HTMLProgressElement} */ (byId("progress-bar")).value = share;
  byId("progress-text").textContent = text;
}

/** @param {string} text */
function refuse(text) {
  byId("message").textContent = text;
}

const opened = latest(async (signal, /** @type {File} */ file, /** @type {number} */ index) => {
  refuse("");
  if (!service.model) await service.loadModels();
  const isCodes = /\.tess$/i.test(file.name) || file.type === PACKED;
  let model = /** @type {import("./service.js").Model} */ (service.model);
  let made;
  if (isCodes) {
    progress(0.3, "Painting it from the codes");
    const codes = readTess(await file.arrayBuffer());
    // Where no model has their space, the service says so in its own words.
    made = await openCodes(file.name, codes, index, signal);
    model = service.models.find((one) => one.code_space === codes.codeSpace) ?? model;
  } else {
    const side = /** @type {HTMLSelectElement} */ (byId("longest-side")).value;
    made = await openImage(file, model.id, Number(side), signal, progress);
  }
  return { made, book: await service.codebook(model), model };
});

/** @type {File | null} */
let lastFile = null;

/** @param {File} file @param {number} [index] of the grid, in a file of codes */
async function open(file, index = 0) {
  lastFile = file;
  try {
    const result = await opened(file, index);
    if (!result) return; // another was opened meanwhile
    ({ made: picture, book: codebook } = result);
    progress(1, "");
    show(result.model);
  } catch (error) {
    progress(1, "");
    refuse(`${file.name || "The picture"} was refused. ${/** @type {Error} */ (error).message}`);
  }
}

/** @param {import("./service.js").Model} model */
function show(model) {
  if (!picture || !codebook) return;
  const grid = picture.codes.grids[picture.index];
  byId("work").hidden = false;
  byId("picture-name").textContent = picture.name;
  const several = picture.codes.grids.length > 1;
  byId("item-choice").hidden = !several;
  const select = /** @type {HTMLSelectElement} */ (byId("item-select"));
  select.replaceChildren(
    ...picture.codes.grids.map((one, i) => new Option(one.name || String(i + 1), String(i))),
  );
  select.value = String(picture.index);
  byId("left-caption").textContent = picture.original ? "Original" : "";
  byId("wipe-range").toggleAttribute("disabled", !picture.original);
  codebook.orient(grid.codes, thumbnailOf(picture.painted, grid));
  mosaic.grid = new EditedGrid(grid);
  mosaic.codebook = codebook;
  mosaic.stride = picture.codes.stride;
  mosaic.patches = null;
  mosaic.marked = mosaic.cursor = null;
  tools.clearRegion();
  wipe.original = picture.original;
  wipe.painted = picture.painted;
  wipe.marked = [];
  view.open(grid.width, grid.height);
  patchesOf = service.patches(model);
  drawAs(drawnAs());
  countCodes();
  tools.pick([...counts.keys()][0]);
  labels.open(model);
  labels.show(tessFile());
  wipe.moveLine(0.5);
  showNumbers();
  showActions();
  byId("picture").scrollIntoView({ block: "start" });
}

// ---- what is known of the picture -----------------------------------------------------------

function countCodes() {
  if (!mosaic.grid || !codebook) return;
  counts = mosaic.grid.counts();
  drawHistogram(histogram, counts, codebook, mosaic.marked);
  byId("histogram-text").textContent = inWords(counts, codebook.size);
  showTopCodes(byId("top-codes"), counts, codebook, (code) => tools.pick(code), markCode);
}

/** @type {Record<string, string>} */
const STAGES = { decode: "read", queue: "wait", infer: "model", encode: "write" };

function showNumbers() {
  if (!picture || !mosaic.grid) return;
  const grid = picture.codes.grids[picture.index];
  const { width, height } = grid;
  const raw = width * height * 3;
  const bytes = tessFile().length;
  const changed = mosaic.grid.changed();
  const bits = Math.ceil(Math.log2(picture.codes.codebookSize));
  /** @type {[string, string | Node, string?][]} */
  const facts = [["Size", `${width} × ${height}`, `${grid.columns} × ${grid.rows} codes`]];
  if (picture.psnr !== null && changed === 0) {
    facts.push(["PSNR", `${picture.psnr.toFixed(2)} dB`, "of the painted against the original"]);
  } else if (picture.original) {
    const psnr = psnrOf(picture.original, picture.painted, width, height);
    facts.push(["PSNR", `${psnr.toFixed(2)} dB`, "as changed, against the original"]);
  }
  facts.push(
    [
      "Rate",
      `${((bits * grid.codes.length) / (width * height)).toFixed(3)} bit/px`,
      `${bits} bits for each code`,
    ],
    ["Codes", formatBytes(bytes), `1 : ${(raw / bytes).toFixed(0)} of raw RGB, ${formatBytes(raw)}`],
  );
  if (picture.file) {
    const note = picture.resized ? "before it was made smaller" : "as it was given";
    facts.push(["Its file", formatBytes(picture.file.size), note]);
  }
  for (const [name, times] of picture.times) {
    let sum = 0;
    for (const time of times.values()) sum += time;
    const parts = [...times].map(([stage, ms]) => `${STAGES[stage] ?? stage} ${ms.toFixed(ms < 10 ? 1 : 0)}`);
    facts.push([name, `${sum.toFixed(0)} ms`, parts.join(" · ")]);
  }
  showFacts(byId("facts"), facts);
  byId("tess-bytes").textContent = formatBytes(bytes);
  const share = ((100 * changed) / grid.codes.length).toFixed(1);
  byId("play-note").textContent = changed
    ? `${formatCount(changed)} of ${formatCount(grid.codes.length)} codes changed (${share} %).`
    : "";
  showUndo();
  byId("right-caption").textContent = changed ? "Painted from your codes" : "Painted from the codes";
}

function showUndo() {
  byId("undo").toggleAttribute("disabled", !mosaic.grid?.past.length);
  byId("reset").toggleAttribute("disabled", !mosaic.grid?.changed());
}

function showActions() {
  if (!picture) return;
  const name = picture.name.replace(/\.\w+$/, "") || "picture";
  const type = picture.file && mediaType(picture.file);
  const own = picture.file && {
    headers: { "Content-Type": type ?? "" },
    data: picture.file.name || "picture.png",
  };
  showCommands(byId("commands"), [
    ...(own
      ? [
          {
            title: "Picture to codes",
            path: `v1/encode?${picture.query}`,
            headers: { ...own.headers, Accept: PACKED },
            data: own.data,
            output: `${name}.tess`,
          },
        ]
      : []),
    {
      title: "Codes to picture",
      path: "v1/decode",
      headers: { "Content-Type": PACKED, Accept: "image/png" },
      data: `${name}.tess`,
      output: `${name}.png`,
    },
    ...(own
      ? [
          {
            title: "Both at once, with its PSNR",
            path: `v1/reconstruct?${picture.query}`,
            headers: { ...own.headers, Accept: "image/png" },
            data: own.data,
            output: `${name}-painted.png`,
          },
        ]
      : []),
    {
      title: "Codes to a vector",
      path: "v1/embed",
      headers: { "Content-Type": PACKED },
      data: `${name}.tess`,
    },
    ...(labels.path
      ? [
          {
            title: "Codes to labels",
            path: labels.path,
            headers: { "Content-Type": PACKED },
            data: `${name}.tess`,
          },
        ]
      : []),
  ]);
}

labels.addEventListener("change", () => {
  wipe.overlay = labels.overlay;
  wipe.draw();
});
byId("recognizer-select").addEventListener("change", showActions);

// ---- changing the codes ---------------------------------------------------------------------

const repainted = latest(async (signal, /** @type {import("./tess.js").Grid} */ grid) => {
  if (!picture) return undefined;
  return { of: picture, ...(await decode(picture.codes, grid, signal)) };
});

/** Codes changed: show them at once, and soon the picture that they make. */
function edited() {
  // The first change: what it does is to be seen wherever it is, not hidden by the original.
  if (mosaic.grid?.past.length === 1 && wipe.original) wipe.moveLine(0);
  mosaic.repaint();
  showUndo();
  clearTimeout(painting);
  painting = setTimeout(paintAgain, PAINT_DELAY_MS);
}

async function paintAgain() {
  if (!picture || !mosaic.grid) return;
  countCodes();
  if (mosaic.patches) loadPatches();
  labels.show(tessFile());
  try {
    const result = await repainted(currentGrid());
    if (!result || result.of !== picture) return;
    picture.painted = wipe.painted = result.painted;
    picture.paintedFile = result.paintedFile;
    picture.times = [...picture.times.filter(([name]) => name !== "Decode"), ["Decode", result.times]];
    wipe.draw();
    showNumbers();
  } catch (error) {
    byId("play-note").textContent = /** @type {Error} */ (error).message;
  }
}

/** @returns {import("./tess.js").Grid} */
function currentGrid() {
  const { codes, index } = /** @type {import("./picture.js").Picture} */ (picture);
  const edited = /** @type {EditedGrid} */ (mosaic.grid);
  return { ...codes.grids[index], codes: edited.codes };
}

const tessFile = () =>
  writeTess({ .../** @type {import("./picture.js").Picture} */ (picture).codes, grids: [currentGrid()] });

/**
 * Changes codes in one step that can be undone.
 * @param {(grid: EditedGrid, codebook: import("./codebook.js").Codebook) => void} change
 */
function change(change) {
  if (!mosaic.grid || !codebook) return;
  mosaic.grid.remember();
  change(mosaic.grid, codebook);
  mosaic.grid.forgetUnchanged();
  mosaic.marked = null;
  edited();
}

tools.addEventListener("edit", edited);
tools.addEventListener("pick", (event) => {
  const code = /** @type {CustomEvent<number>} */ (event).detail;
  byId("brush-code").textContent = String(code);
  const swatch = /** @type {HTMLCanvasElement} */ (byId("brush-swatch"));
  const context = swatch.getContext("2d");
  if (!context || !codebook) return;
  context.fillStyle = codebook.css(code);
  context.fillRect(0, 0, swatch.width, swatch.height);
});
tools.addEventListener("hover", (event) => {
  const cell = /** @type {CustomEvent<import("./mosaic.js").Cell | null>} */ (event).detail;
  mark(cell && mosaic.codeAt(cell), cell);
});

/**
 * Shows a code: on the mosaic, on the picture, in the histogram, in words.
 * @param {number | null} code
 * @param {import("./mosaic.js").Cell | null} cell where the pointer is
 */
function mark(code, cell) {
  if (!picture || !codebook) return;
  const { stride } = picture.codes;
  const looking = tools.tool === "pick";
  const places = code === null ? [] : looking ? mosaic.placesOf(code) : cell ? [cell] : [];
  wipe.marked = places.map(({ row, column }) => ({
    x: column * stride,
    y: row * stride,
    width: stride,
    height: stride,
  }));
  wipe.draw();
  drawHistogram(histogram, counts, codebook, looking ? code : null);
  if (code === null) return;
  const where = cell ? `row ${cell.row + 1}, column ${cell.column + 1}: ` : "";
  byId("under-cursor").textContent =
    `${where}code ${code}, in ${inPlaces(mosaic.placesOf(code).length)}; ` +
    `its neighbour in the codebook is ${codebook.neighbour(code)}.`;
}

/** @param {number} count */
const inPlaces = (count) => (count === 1 ? "this place alone" : `${formatCount(count)} places`);

byId("replace-one").addEventListener("click", () =>
  change((grid, book) => {
    const next = book.neighbour(tools.code);
    grid.replace((code) => (code === tools.code ? next : code));
    tools.pick(next);
  }),
);
byId("replace-all").addEventListener("click", () =>
  change((grid, book) => grid.replace((code) => book.neighbour(code))),
);
byId("shuffle").addEventListener("click", () => change((grid) => grid.shuffle()));
byId("undo").addEventListener("click", undo);
byId("reset").addEventListener("click", () => {
  mosaic.grid?.reset();
  edited();
});

function undo() {
  mosaic.grid?.undo();
  edited();
}

for (const radio of document.querySelectorAll("[name=tool]")) {
  radio.addEventListener("change", () => {
    const tool = /** @type {"pick" | "paint" | "copy"} */ (/** @type {HTMLInputElement} */ (radio).value);
    tools.use(tool);
    byId("brush-size-choice").hidden = tool !== "paint";
    byId("under-cursor").textContent = {
      pick: "Point at a tile: the code, and all its other places.",
      paint: "Paint with the chosen code. Look at a tile and click to choose another.",
      copy: "Mark a region, then click where it is to be put. Escape to mark another.",
    }[tool];
  });
}
byId("brush-size").addEventListener("change", (event) => {
  tools.brushSize = Number(/** @type {HTMLSelectElement} */ (event.target).value);
});
document.addEventListener("keydown", (event) => {
  if (event.key === "Escape") {
    tools.clearRegion();
    mosaic.draw();
  }
  const typing = event.target instanceof HTMLInputElement && event.target.type === "password";
  if ((event.ctrlKey || event.metaKey) && event.key.toLowerCase() === "z" && picture && !typing) {
    event.preventDefault();
    undo();
  }
});

// ---- how codes are drawn --------------------------------------------------------------------

/** @type {import("./patches.js").Patches | null} */
let patchesOf = null;

const drawnAs = () =>
  /** @type {HTMLInputElement} */ (document.querySelector("[name=drawn]:checked")).value;

/** @param {string} how */
function drawAs(how) {
  mosaic.patches = how === "patches" ? patchesOf : null;
  mosaic.repaint();
  if (mosaic.patches) loadPatches();
}

async function loadPatches() {
  if (!patchesOf || !mosaic.grid) return;
  try {
    await patchesOf.load(mosaic.grid.codes);
    mosaic.repaint();
  } catch (error) {
    byId("under-cursor").textContent = /** @type {Error} */ (error).message;
  }
}

for (const radio of document.querySelectorAll("[name=drawn]")) {
  radio.addEventListener("change", () => drawAs(/** @type {HTMLInputElement} */ (radio).value));
}

/** @param {number | null} code shown with all its places, from elsewhere than the mosaic */
function markCode(code) {
  mosaic.marked = code;
  mosaic.draw();
  mark(code, null);
}

histogram.addEventListener("pointermove", (event) =>
  markCode(codeOfBar(histogram, counts, event.offsetX)),
);
histogram.addEventListener("pointerleave", () => markCode(null));
histogram.addEventListener("click", (event) => {
  const code = codeOfBar(histogram, counts, event.offsetX);
  if (code !== null) tools.pick(code);
});

// ---- zoom -----------------------------------------------------------------------------------

view.addEventListener("change", () => {
  const scale = view.fitScale(...view.shown) * view.zoom;
  byId("zoom-level").textContent = view.zoom === 1 ? "fit" : `${Math.round(scale * 100)} %`;
  document.body.classList.toggle("zoomed", view.zoom > 1);
});
byId("zoom-in").addEventListener("click", () => view.zoomTo(view.zoom * 1.5));
byId("zoom-out").addEventListener("click", () => view.zoomTo(view.zoom / 1.5));
byId("zoom-pixels").addEventListener("click", () => view.pixels());
byId("zoom-fit").addEventListener("click", () => view.fit());

new ResizeObserver(() => {
  wipe.draw();
  mosaic.draw();
  if (codebook) drawHistogram(histogram, counts, codebook, mosaic.marked);
}).observe(byId("work"));

// ---- taking it away -------------------------------------------------------------------------

for (const button of document.querySelectorAll("[data-download]")) {
  button.addEventListener("click", () => {
    if (!picture) return;
    const name = picture.name.replace(/\.\w+$/, "") || "picture";
    const grid = currentGrid();
    const kind = /** @type {HTMLElement} */ (button).dataset.download ?? "";
    const npy = () => new Blob([writeCodes(grid.codes, [1, grid.rows, grid.columns])]);
    const files = {
      tess: () => new Blob([tessFile()], { type: PACKED }),
      npy,
      png: () => /** @type {import("./picture.js").Picture} */ (picture).paintedFile,
    };
    download(files[/** @type {keyof typeof files} */ (kind)](), `${name}.${kind}`);
  });
}

// ---- beginning ------------------------------------------------------------------------------

const compare = comparePictures(service);
takeFiles((files) => {
  if (files.length === 1) open(files[0]);
  else {
    compare(files);
    byId("compare").scrollIntoView();
  }
});
byId("item-select").addEventListener("change", (event) => {
  if (lastFile) open(lastFile, Number(/** @type {HTMLSelectElement} */ (event.target).value));
});
byId("longest-side").addEventListener("change", () => lastFile && picture?.file && open(lastFile));
service.addEventListener("change", () => lastFile && picture?.file && open(lastFile));
service.start();
