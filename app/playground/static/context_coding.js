// The codes of a picture coded by their context: the same codes in fewer bytes.

import { CONTEXT_CODED, latest, PACKED, send } from "./api.js";
import { byId, formatBytes } from "./dom.js";
import { isContextCoded, readTess } from "./tess.js";

/**
 * Reads a .tess file in either coding. Only the service has the prior that codes are coded with by
 * their context, so such a file goes there first and comes back plain.
 * @param {File} file
 * @param {AbortSignal} signal
 * @returns {Promise<import("./tess.js").CodeFile>}
 * @throws {Error} in words for a person
 */
export async function readCodes(file, signal) {
  const bytes = new Uint8Array(await file.arrayBuffer());
  if (!isContextCoded(bytes)) return readTess(bytes.buffer);
  const plain = await recode("v1/recode", bytes, PACKED, signal);
  return readTess(await plain.arrayBuffer());
}

/**
 * @param {string} path
 * @param {Uint8Array<ArrayBuffer>} codes a packed file
 * @param {string} accept
 * @param {AbortSignal} signal
 */
async function recode(path, codes, accept, signal) {
  const headers = { "Content-Type": PACKED };
  const answer = await send(path, { method: "POST", headers, accept, body: codes, signal });
  return answer.blob();
}

/**
 * The open picture's codes, coded by their context, wherever the model has a prior. Tells by
 * `change` that the file is known, or isn't any more.
 */
export class ContextCoding extends EventTarget {
  /** @type {Blob | null} null while it isn't known */
  file = null;
  /** @type {Uint8Array | null} the plain file that was asked about last */
  #asked = null;

  /** @param {import("./workspace.js").Workspace} workspace */
  constructor(workspace) {
    super();
    this.workspace = workspace;
    workspace.addEventListener("open", () => this.#code());
    workspace.addEventListener("edit", () => this.#take(null, null, ""));
    workspace.addEventListener("settle", () => this.#code());
  }

  /** Whether the open picture's model has a prior. */
  get offered() {
    return Boolean(this.workspace.model?.prior);
  }

  async #code() {
    byId("context-coded").hidden = byId("context-note").hidden = !this.offered;
    const plain = this.offered ? this.workspace.tessFile() : null;
    this.#take(plain, null, "");
    if (!plain) return;
    try {
      const file = await this.#recodeLatest(plain);
      if (file && this.#asked === plain) this.#take(plain, file, "");
    } catch (error) {
      if (this.#asked === plain) this.#take(plain, null, /** @type {Error} */ (error).message);
    }
  }

  #recodeLatest = latest((signal, /** @type {Uint8Array<ArrayBuffer>} */ plain) =>
    recode(`v1/recode?model=${this.workspace.model?.id}`, plain, CONTEXT_CODED, signal),
  );

  /**
   * @param {Uint8Array | null} asked
   * @param {Blob | null} file
   * @param {string} trouble in words for a person
   */
  #take(asked, file, trouble) {
    this.#asked = asked;
    this.file = file;
    byId("context-coded").toggleAttribute("disabled", !file);
    byId("context-bytes").textContent = file ? formatBytes(file.size) : "";
    byId("context-trouble").textContent = trouble;
    this.dispatchEvent(new Event("change"));
  }
}
