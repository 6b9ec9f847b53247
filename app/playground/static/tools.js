// What a pointer or the keyboard does to the codes: look, paint, copy a region.

/** @typedef {import("./mosaic.js").Cell} Cell */

/**
 * Tells by `edit` that codes changed, by `hover` (detail: cell or null) where the pointer is, and
 * by `pick` (detail: code) that a code was chosen.
 */
export class Tools extends EventTarget {
  /** @type {"pick" | "paint" | "copy"} */
  tool = "pick";
  brushSize = 3;
  /** @type {number} */
  code = 0;
  /** @type {Cell | null} first corner of a region that is being marked */
  #corner = null;
  #marking = false;

  /** @param {import("./mosaic.js").Mosaic} mosaic */
  constructor(mosaic) {
    super();
    this.mosaic = mosaic;
    const on = (/** @type {string} */ name, /** @type {(cell: Cell | null) => void} */ then) =>
      mosaic.addEventListener(name, (event) => then(/** @type {CustomEvent} */ (event).detail));
    on("hover", (cell) => this.#hover(cell));
    on("press", (cell) => cell && this.#press(cell));
    on("drag", (cell) => cell && this.#drag(cell));
    on("release", () => this.#release());
    on("pick", (cell) => cell && this.pick(mosaic.codeAt(cell)));
  }

  /** @param {"pick" | "paint" | "copy"} tool */
  use(tool) {
    this.tool = tool;
    this.clearRegion();
    this.mosaic.marked = null;
    this.mosaic.canvas.dataset.tool = tool;
    this.mosaic.draw();
  }

  /** @param {number} code */
  pick(code) {
    this.code = code;
    this.#say("pick", code);
  }

  clearRegion() {
    this.mosaic.region = this.mosaic.ghost = this.#corner = null;
    this.#marking = false;
  }

  /** @param {Cell | null} cell */
  #hover(cell) {
    const { mosaic } = this;
    // Shown only while looking: who paints wants to see the mosaic.
    mosaic.marked = cell && this.tool === "pick" ? mosaic.codeAt(cell) : null;
    if (this.tool === "paint") {
      mosaic.ghost = cell && this.#around(cell, this.brushSize, this.brushSize);
    } else if (this.tool === "copy" && mosaic.region && !this.#marking) {
      mosaic.ghost = cell && this.#around(cell, mosaic.region.rows, mosaic.region.columns);
    } else if (this.#marking && mosaic.cursor && cell) {
      this.#mark(cell); // the keyboard's way: press, move, press
    }
    mosaic.draw();
    this.#say("hover", cell);
  }

  /** @param {Cell} cell */
  #press(cell) {
    const { mosaic } = this;
    const grid = /** @type {import("./edits.js").EditedGrid} */ (mosaic.grid);
    if (this.tool === "pick") {
      this.pick(mosaic.codeAt(cell));
      this.#hover(cell);
    } else if (this.tool === "paint") {
      grid.remember();
      this.#paint(cell);
    } else if (this.#marking) {
      this.#mark(cell);
      this.#marking = false;
    } else if (mosaic.region) {
      grid.remember();
      const target = this.#around(cell, mosaic.region.rows, mosaic.region.columns);
      grid.copy(mosaic.region, target.row, target.column);
      grid.forgetUnchanged();
      this.#say("edit", null);
    } else {
      this.#corner = cell;
      this.#marking = true;
      this.#mark(cell);
    }
  }

  /** @param {Cell} cell */
  #drag(cell) {
    if (this.tool === "paint") this.#paint(cell);
    else if (this.#marking) this.#mark(cell);
    else if (this.tool === "pick") this.#hover(cell);
  }

  #release() {
    if (this.tool === "paint") this.mosaic.grid?.forgetUnchanged();
    // From the keyboard, marking goes on until the next press.
    if (this.#marking && !this.mosaic.cursor) this.#marking = false;
    this.#say("hover", null);
  }

  /** @param {Cell} cell */
  #paint(cell) {
    this.mosaic.ghost = this.#around(cell, this.brushSize, this.brushSize);
    this.mosaic.grid?.paint(cell.row, cell.column, this.brushSize, this.code);
    this.#say("edit", null);
    this.#say("hover", cell);
  }

  /** @param {Cell} cell the corner across from the first */
  #mark(cell) {
    const from = this.#corner ?? cell;
    const [row, column] = [Math.min(from.row, cell.row), Math.min(from.column, cell.column)];
    const [rows, columns] = [Math.abs(from.row - cell.row) + 1, Math.abs(from.column - cell.column) + 1];
    this.mosaic.region = { row, column, rows, columns };
    this.mosaic.ghost = null;
    this.mosaic.draw();
  }

  /**
   * @param {Cell} cell @param {number} rows @param {number} columns
   * @returns {import("./edits.js").Region}
   */
  #around({ row, column }, rows, columns) {
    const [r, c] = [row - Math.floor((rows - 1) / 2), column - Math.floor((columns - 1) / 2)];
    return { row: r, column: c, rows, columns };
  }

  /** @param {string} what @param {unknown} detail */
  #say(what, detail) {
    this.dispatchEvent(new CustomEvent(what, { detail }));
  }
}
