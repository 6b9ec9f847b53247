// Changing the codes: the toolbar, undoing, and how much is changed.

import { byId, formatCount, touchOnly } from "./dom.js";

/** @typedef {"pick" | "paint" | "copy"} Tool */

/** What each tool does, with a pointer. @type {Record<Tool, string>} */
const POINTER_HINTS = {
  pick: "Point at a tile to see its code and where else it is used.",
  paint: "Drag to paint with the chosen code. To choose another, look and click a tile.",
  copy: "Drag over a region, then click where a copy is to go. Escape clears the region.",
};

/** The same where there is only touch. @type {Record<Tool, string>} */
const TOUCH_HINTS = {
  pick: "Tap a tile to see its code and where else it is used.",
  paint: "Draw with the chosen code. To choose another, look and tap a tile.",
  copy: "Draw over a region, then tap where a copy is to go.",
};

/**
 * @param {import("./workspace.js").Workspace} workspace
 * @param {import("./mosaic.js").Mosaic} mosaic
 * @param {import("./tools.js").Tools} tools
 */
export function editCodes(workspace, mosaic, tools) {
  chooseTools(workspace, mosaic, tools);
  changeAtOnce(workspace, mosaic, tools);

  workspace.addEventListener("open", () => {
    tools.pick([...workspace.counts.keys()][0]);
    showHint(tools);
    showChanges(workspace);
  });
  workspace.addEventListener("colours", () => showBrush(workspace, tools));
  workspace.addEventListener("edit", () => showUndo(workspace));
  workspace.addEventListener("decode", () => showChanges(workspace));
}

/**
 * @param {import("./workspace.js").Workspace} workspace
 * @param {import("./mosaic.js").Mosaic} mosaic
 * @param {import("./tools.js").Tools} tools
 */
function chooseTools(workspace, mosaic, tools) {
  for (const radio of document.querySelectorAll("[name=tool]")) {
    radio.addEventListener("change", () => {
      const tool = /** @type {Tool} */ (/** @type {HTMLInputElement} */ (radio).value);
      tools.use(tool);
      byId("brush-size-choice").hidden = tool !== "paint";
      showHint(tools);
    });
  }
  byId("brush-size").addEventListener("change", (event) => {
    tools.brushSize = Number(/** @type {HTMLSelectElement} */ (event.target).value);
  });
  tools.addEventListener("edit", () => workspace.edited());
  tools.addEventListener("pick", () => showBrush(workspace, tools));
  document.addEventListener("keydown", (event) => {
    if (event.key !== "Escape") return;
    tools.clearRegion();
    mosaic.draw();
  });
}

/** @param {import("./tools.js").Tools} tools */
function showHint({ tool }) {
  byId("under-cursor").textContent = (touchOnly() ? TOUCH_HINTS : POINTER_HINTS)[tool];
}

/**
 * @param {import("./workspace.js").Workspace} workspace
 * @param {import("./tools.js").Tools} tools
 */
function showBrush(workspace, { code }) {
  byId("brush-code").textContent = String(code);
  byId("brush-swatch").style.background = workspace.colourOf(code);
}

/**
 * The buttons that change many codes in one step, or take steps back.
 * @param {import("./workspace.js").Workspace} workspace
 * @param {import("./mosaic.js").Mosaic} mosaic
 * @param {import("./tools.js").Tools} tools
 */
function changeAtOnce(workspace, mosaic, tools) {
  const onClick = (/** @type {string} */ id, /** @type {() => void} */ then) =>
    byId(id).addEventListener("click", then);
  const change = (/** @type {Parameters<typeof workspace.change>[0]} */ how) => {
    mosaic.marked = null;
    workspace.change(how);
  };
  const undo = () => {
    workspace.grid?.undo();
    workspace.edited();
  };
  onClick("replace-one", () =>
    change((grid, codebook) => {
      const next = codebook.neighbour(tools.code);
      grid.replace((code) => (code === tools.code ? next : code));
      tools.pick(next);
    }),
  );
  onClick("replace-all", () =>
    change((grid, codebook) => grid.replace((code) => codebook.neighbour(code))),
  );
  onClick("shuffle", () => change((grid) => grid.shuffle()));
  onClick("undo", undo);
  onClick("reset", () => {
    workspace.grid?.reset();
    workspace.edited();
  });
  document.addEventListener("keydown", (event) => {
    const typing = event.target instanceof HTMLInputElement && event.target.type === "password";
    const wanted = (event.ctrlKey || event.metaKey) && event.key.toLowerCase() === "z";
    if (!wanted || typing || !workspace.picture) return;
    event.preventDefault();
    undo();
  });
}

/** @param {import("./workspace.js").Workspace} workspace */
function showChanges(workspace) {
  const { grid } = workspace;
  if (!grid) return;
  const changed = grid.changed();
  const alone = grid.stages.length > 1 ? " What is painted or replaced is so in the first stage alone." : "";
  const share = ((100 * changed) / grid.codes.length).toFixed(1);
  byId("play-note").textContent = changed
    ? `${formatCount(changed)} of ${formatCount(grid.codes.length)} codes changed (${share} %).${alone}`
    : "";
  byId("right-caption").textContent = changed ? "Decoded from your codes" : "Reconstruction";
  showUndo(workspace);
}

/** @param {import("./workspace.js").Workspace} workspace */
function showUndo({ grid }) {
  byId("undo").toggleAttribute("disabled", !grid?.past.length);
  byId("reset").toggleAttribute("disabled", !grid?.changed());
}
