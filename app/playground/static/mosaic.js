// The grid of codes as a mosaic, and a pointer or cursor on it.

import { fitCanvas } from "./dom.js";
import { stageSize } from "./view.js";

/** @typedef {{row: number, column: number}} Cell */

/**
 * Tells of what happens at its cells by events whose `detail` is a `Cell`, or null where the
 * pointer left: `hover`, `press`, `drag`, `release`; and `pick` from the keyboard.
 */
export class Mosaic extends EventTarget {
  /** @type {import("./edits.js").EditedGrid | null} */
  grid = null;
  /** @type {import("./patches.js").Patches | null} drawn instead of colours */
  patches = null;
  /** @type {(code: number) => string} as CSS */
  colourOf = () => "";
  stride = 8;
  /** @type {number | null} all its places are shown */
  marked = null;
  /** @type {Cell | null} the keyboard's cursor */
  cursor = null;
  /** @type {import("./edits.js").Region | null} */
  region = null;
  /** @type {import("./edits.js").Region | null} where the region would be put */
  ghost = null;

  /**
   * @param {HTMLCanvasElement} canvas
   * @param {import("./view.js").View} view
   */
  constructor(canvas, view) {
    super();
    this.canvas = canvas;
    this.view = view;
    this.tiles = document.createElement("canvas");
    view.addEventListener("change", () => this.draw());
    canvas.addEventListener("pointermove", (event) => {
      this.#tell(event.buttons & 1 ? "drag" : "hover", this.#cellAt(event));
    });
    canvas.addEventListener("pointerleave", (event) => {
      if (!event.buttons) this.#tell("hover", null);
    });
    canvas.addEventListener("pointerdown", (event) => {
      if (event.button !== 0) return;
      canvas.setPointerCapture(event.pointerId);
      this.cursor = null;
      this.#tell("press", this.#cellAt(event));
    });
    canvas.addEventListener("pointerup", (event) => this.#tell("release", this.#cellAt(event)));
    canvas.addEventListener("pointercancel", () => this.#tell("release", null));
    canvas.addEventListener("keydown", (event) => this.#key(event));
    canvas.addEventListener("blur", () => {
      this.cursor = null;
      this.#tell("hover", null);
    });
  }

  /** Makes the tiles anew, after codes or colours changed. */
  repaint() {
    const { grid, patches, stride } = this;
    if (!grid) return;
    const side = patches ? stride : 1;
    this.tiles.width = grid.columns * side;
    this.tiles.height = grid.rows * side;
    const context = /** @type {CanvasRenderingContext2D} */ (this.tiles.getContext("2d"));
    /** @type {Map<number, string>} */
    const colours = new Map();
    grid.codes.forEach((code, i) => {
      const patch = patches?.get(code);
      const [x, y] = [(i % grid.columns) * side, Math.floor(i / grid.columns) * side];
      if (patch) {
        context.putImageData(patch, x, y);
      } else {
        if (!colours.has(code)) colours.set(code, this.colourOf(code));
        context.fillStyle = colours.get(code) ?? "";
        context.fillRect(x, y, side, side);
      }
    });
    this.draw();
  }

  draw() {
    const { grid, stride } = this;
    if (!grid) return;
    const [width, height] = stageSize(this.canvas, this.view.size);
    const context = fitCanvas(this.canvas, width, height);
    const { scale, left, top } = this.view.place(width, height);
    const cell = stride * scale;
    const [w, h] = this.view.size.map((side) => side * scale);
    context.clearRect(0, 0, width, height);
    context.save();
    context.beginPath();
    context.rect(left, top, w, h); // the padding beyond the picture isn't shown
    context.clip();
    // Drawn smaller than they are, patches would flicker without smoothing.
    context.imageSmoothingEnabled = Boolean(this.patches) && scale < 1;
    context.drawImage(this.tiles, left, top, grid.columns * cell, grid.rows * cell);
    const box = (/** @type {Cell} */ at, rows = 1, columns = 1) =>
      context.rect(left + at.column * cell, top + at.row * cell, columns * cell, rows * cell);
    if (cell >= 9 && !this.patches) this.#drawJoints(context, cell, left, top);
    if (this.marked !== null) {
      context.beginPath();
      context.rect(left, top, w, h);
      for (const at of this.placesOf(this.marked)) box(at);
      context.fillStyle = "rgb(12 14 16 / 0.72)";
      context.fill("evenodd");
    }
    /** @type {[import("./edits.js").Region | null, number[]][]} */
    const outlined = [
      [this.region, [5, 4]],
      [this.ghost, []],
      [this.cursor && { ...this.cursor, rows: 1, columns: 1 }, []],
    ];
    for (const [region, dash] of outlined) {
      if (!region) continue;
      context.beginPath();
      box(region, region.rows, region.columns);
      outline(context, dash);
    }
    context.restore();
  }

  /** @param {number} code @returns {Cell[]} */
  placesOf(code) {
    const { grid } = this;
    const places = [];
    for (let i = 0; grid && i < grid.codes.length; i++) {
      if (grid.codes[i] === code) {
        places.push({ row: Math.floor(i / grid.columns), column: i % grid.columns });
      }
    }
    return places;
  }

  /** @param {Cell} cell */
  codeAt({ row, column }) {
    return this.grid ? this.grid.codes[row * this.grid.columns + column] : 0;
  }

  /**
   * @param {CanvasRenderingContext2D} context
   * @param {number} cell @param {number} left @param {number} top
   */
  #drawJoints(context, cell, left, top) {
    const { rows, columns } = /** @type {import("./edits.js").EditedGrid} */ (this.grid);
    context.fillStyle = "rgb(0 0 0 / 0.28)";
    for (let c = 1; c < columns; c++) context.fillRect(left + c * cell - 0.5, top, 1, rows * cell);
    for (let r = 1; r < rows; r++) context.fillRect(left, top + r * cell - 0.5, columns * cell, 1);
  }

  /** @param {string} what @param {Cell | null} cell */
  #tell(what, cell) {
    if (this.grid) this.dispatchEvent(new CustomEvent(what, { detail: cell }));
  }

  /** @param {PointerEvent} event @returns {Cell | null} */
  #cellAt(event) {
    if (!this.grid) return null;
    const box = this.canvas.getBoundingClientRect();
    const { scale, left, top } = this.view.place(box.width, box.height);
    const column = Math.floor((event.clientX - box.left - left) / scale / this.stride);
    const row = Math.floor((event.clientY - box.top - top) / scale / this.stride);
    const inside = row >= 0 && column >= 0 && row < this.grid.rows && column < this.grid.columns;
    return inside ? { row, column } : null;
  }

  /** @param {KeyboardEvent} event */
  #key(event) {
    if (!this.grid || event.ctrlKey || event.metaKey || event.altKey) return;
    const { row, column } = this.cursor ?? {
      row: Math.floor(this.grid.rows / 2),
      column: Math.floor(this.grid.columns / 2),
    };
    const moved = {
      ArrowLeft: { row, column: Math.max(0, column - 1) },
      ArrowRight: { row, column: Math.min(this.grid.columns - 1, column + 1) },
      ArrowUp: { row: Math.max(0, row - 1), column },
      ArrowDown: { row: Math.min(this.grid.rows - 1, row + 1), column },
    }[event.key];
    if (moved) {
      this.cursor = this.cursor ? moved : { row, column };
      this.#tell("hover", this.cursor);
    } else if (event.key === "Enter" || event.key === " ") {
      this.cursor = { row, column };
      this.#tell("press", this.cursor);
      this.#tell("release", this.cursor);
    } else if (event.key === "p" || event.key === "P") {
      this.#tell("pick", { row, column });
    } else {
      return;
    }
    event.preventDefault();
  }
}

/**
 * Strokes the path so that it is seen on light and dark.
 * @param {CanvasRenderingContext2D} context
 * @param {number[]} dash
 */
function outline(context, dash) {
  context.lineWidth = 4;
  context.strokeStyle = "rgb(0 0 0 / 0.8)";
  context.stroke();
  context.lineWidth = 2;
  context.strokeStyle = "#fff";
  context.setLineDash(dash);
  context.stroke();
  context.setLineDash([]);
}
