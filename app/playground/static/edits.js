// What can be done to a grid of codes, and undone again.

const KEPT = 100;

/**
 * @typedef {{row: number, column: number, rows: number, columns: number}} Region
 */

/** A grid of codes that changes. */
export class EditedGrid {
  /** @param {import("./tess.js").Grid} grid */
  constructor(grid) {
    this.rows = grid.rows;
    this.columns = grid.columns;
    this.original = grid.codes;
    /** @type {Uint32Array} */
    this.codes = grid.codes.slice();
    /** @type {Uint32Array[]} */
    this.past = [];
  }

  /** Remembers the codes as they are now, to come back to. Call it before a change. */
  remember() {
    this.past.push(this.codes.slice());
    if (this.past.length > KEPT) this.past.shift();
  }

  /** Forgets what `remember` kept last, where nothing came of it. */
  forgetUnchanged() {
    const last = this.past.at(-1);
    if (last && last.every((code, i) => code === this.codes[i])) this.past.pop();
  }

  undo() {
    this.codes = this.past.pop() ?? this.codes;
  }

  reset() {
    if (this.changed() === 0) return;
    this.remember();
    this.codes = this.original.slice();
  }

  /** How many codes are not as they were. */
  changed() {
    return this.codes.reduce((sum, code, i) => sum + Number(code !== this.original[i]), 0);
  }

  /**
   * Sets a square of codes.
   * @param {number} row of its middle
   * @param {number} column of its middle
   * @param {number} side odd
   * @param {number} code
   */
  paint(row, column, side, code) {
    const reach = (side - 1) / 2;
    for (let r = Math.max(0, row - reach); r <= Math.min(this.rows - 1, row + reach); r++) {
      const from = r * this.columns + Math.max(0, column - reach);
      this.codes.fill(code, from, r * this.columns + Math.min(this.columns, column + reach + 1));
    }
  }

  /**
   * Copies a region to another place; what would stick out is cut off.
   * @param {Region} region
   * @param {number} row of the target's first row
   * @param {number} column of the target's first column
   */
  copy(region, row, column) {
    const before = this.codes.slice();
    for (let r = 0; r < region.rows; r++) {
      for (let c = 0; c < region.columns; c++) {
        const [tr, tc] = [row + r, column + c];
        if (tr < 0 || tc < 0 || tr >= this.rows || tc >= this.columns) continue;
        this.codes[tr * this.columns + tc] =
          before[(region.row + r) * this.columns + region.column + c];
      }
    }
  }

  /**
   * Replaces codes by others, wherever they are.
   * @param {(code: number) => number} by
   */
  replace(by) {
    this.codes = this.codes.map(by);
  }

  /** Deals the codes out anew (Fisher and Yates). */
  shuffle() {
    for (let i = this.codes.length - 1; i > 0; i--) {
      const j = Math.floor(Math.random() * (i + 1));
      [this.codes[i], this.codes[j]] = [this.codes[j], this.codes[i]];
    }
  }

  /** @returns {Map<number, number>} how often each used code is there, most frequent first */
  counts() {
    /** @type {Map<number, number>} */
    const counts = new Map();
    for (const code of this.codes) counts.set(code, (counts.get(code) ?? 0) + 1);
    return new Map([...counts].sort((a, b) => b[1] - a[1] || a[0] - b[0]));
  }
}
