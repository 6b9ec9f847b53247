// Finding and making elements.

/**
 * The element with an id, of a page that is known to have it.
 * @template {HTMLElement} T
 * @param {string} id
 * @returns {T}
 */
export function byId(id) {
  const found = document.getElementById(id);
  if (!found) throw new Error(`the page has no element #${id}`);
  return /** @type {T} */ (found);
}

/**
 * A new element. Text is always text: nothing is ever parsed as HTML.
 * @param {string} tag
 * @param {Record<string, string>} attributes
 * @param {...(Node | string)} children
 * @returns {HTMLElement}
 */
export function element(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  made.append(...children);
  return made;
}

/**
 * Shows pairs of term and description.
 * @param {HTMLElement} list a `dl`
 * @param {[string, string | Node, string?][]} facts term, value, and a note below it
 */
export function showFacts(list, facts) {
  list.replaceChildren(
    ...facts.map(([term, value, note]) =>
      element(
        "div",
        {},
        element("dt", {}, term),
        element("dd", {}, value, ...(note ? [element("small", {}, note)] : [])),
      ),
    ),
  );
}

/**
 * A canvas made as large, in device pixels, as it is shown.
 * @param {HTMLCanvasElement} canvas
 * @param {number} width in CSS pixels
 * @param {number} height in CSS pixels
 * @returns {CanvasRenderingContext2D} that counts in CSS pixels
 */
export function fitCanvas(canvas, width, height) {
  const ratio = window.devicePixelRatio || 1;
  const [w, h] = [Math.max(1, Math.round(width * ratio)), Math.max(1, Math.round(height * ratio))];
  if (canvas.width !== w || canvas.height !== h) {
    canvas.width = w;
    canvas.height = h;
  }
  const context = /** @type {CanvasRenderingContext2D} */ (canvas.getContext("2d"));
  context.setTransform(w / width, 0, 0, h / height, 0, 0);
  return context;
}

/** @param {number} bytes */
export function formatBytes(bytes) {
  if (bytes < 1000) return `${bytes}\u00a0B`;
  if (bytes < 1e6) return `${(bytes / 1e3).toFixed(bytes < 1e4 ? 1 : 0)}\u00a0kB`;
  return `${(bytes / 1e6).toFixed(1)}\u00a0MB`;
}

/**
 * Shows a refusal where it is seen: the words come into view and have the focus.
 * @param {HTMLElement} message with `role="alert"` and `tabindex="-1"`
 * @param {string} text empty where nothing is refused
 */
export function showRefusal(message, text) {
  message.textContent = text;
  if (!text) return;
  message.focus({ preventScroll: true });
  message.scrollIntoView({ block: "center" });
}

/** Whether this device has a touch screen and nothing that could point or drop. */
export const touchOnly = () => matchMedia("not all and (any-pointer: fine)").matches;

/** @param {string} name as bundles write it: `golf_ball` */
export const readable = (name) => name.replaceAll("_", " ");

/** @param {string[]} names */
export const inBrief = (names) => (names.length > 20 ? `${names.slice(0, 20).join(", ")}, …` : names.join(", "));

/** @param {number} number */
export const formatCount = (number) => number.toLocaleString("en");

/**
 * Hands a file to the person.
 * @param {Blob} blob
 * @param {string} name
 */
export function download(blob, name) {
  const address = URL.createObjectURL(blob);
  element("a", { href: address, download: name }).click();
  // Not at once: the browser reads it after this function has returned.
  setTimeout(() => URL.revokeObjectURL(address), 10_000);
}
