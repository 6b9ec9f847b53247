// What the page does, as commands for a terminal.

import { address, apiKey } from "./api.js";
import { element } from "./dom.js";

/** @typedef {{title: string, path: string, headers?: Record<string, string>, data?: string, files?: string[], output?: string}} Action */

/** @param {string} text */
const quoted = (text) => (/^[\w./:@=?&%+-]+$/.test(text) && !/[?&]/.test(text) ? text : `'${text.replaceAll("'", "'\\''")}'`);

/**
 * @param {Action} action
 * @returns {string} a command that does the same
 */
export function curlOf({ path, headers = {}, data, files, output }) {
  const parts = ["curl -sS"];
  if (apiKey()) parts.push(`-H "Authorization: Bearer $TESSERA_API_KEY"`);
  for (const [name, value] of Object.entries(headers)) parts.push(`-H ${quoted(`${name}: ${value}`)}`);
  if (data) parts.push(`--data-binary ${quoted(`@${data}`)}`);
  for (const file of files ?? []) parts.push(`-F ${quoted(`images=@${file}`)}`);
  if (output) parts.push(`-o ${quoted(output)}`);
  // An @ may stand in a query as it is: photo-f8@2 reads better than photo-f8%402.
  parts.push(quoted(address(path.replaceAll("%40", "@"))));
  return parts.join(" \\\n  ");
}

/**
 * Shows commands, each with a button that copies it.
 * @param {HTMLElement} into
 * @param {Action[]} actions
 */
export function showCommands(into, actions) {
  into.replaceChildren(
    ...actions.map((action) => {
      const text = curlOf(action);
      const copy = element("button", { type: "button", class: "copy" }, "Copy");
      copy.setAttribute("aria-label", `Copy the command: ${action.title}`);
      copy.addEventListener("click", async () => {
        copy.textContent = (await copied(text)) ? "Copied" : "Select it and copy";
        setTimeout(() => (copy.textContent = "Copy"), 2000);
      });
      return element(
        "details",
        {},
        element("summary", {}, action.title),
        element(
          "div",
          { class: "command" },
          element("pre", { tabindex: "0" }, element("code", {}, text)),
          copy,
        ),
      );
    }),
  );
}

/** @param {string} text */
async function copied(text) {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    return false; // without HTTPS, other than on localhost, browsers have no clipboard
  }
}
