// How codes are decoded: by which decoder, and from how many of their stages.

import { byId, element, formatBytes, readable } from "./dom.js";

/** The decoder that every model has. */
export const DEFAULT_DECODER = "default";

/**
 * @typedef {object} Decoding
 * @property {string} decoder
 * @property {number} stages the first so many
 */

/**
 * The two choices, of which only those are shown that the open picture has. Tells by `change` that
 * another is made.
 */
export class DecodingChoice extends EventTarget {
  #decoders = byId("decoder-choice");
  #stages = /** @type {HTMLSelectElement} */ (byId("stages-select"));
  /** What was chosen last, whichever picture it was for. */
  #decoder = DEFAULT_DECODER;
  /** @type {number | null} */
  #stage = null;

  /** @param {import("./workspace.js").Workspace} workspace */
  constructor(workspace) {
    super();
    this.workspace = workspace;
    this.#stages.addEventListener("change", () => {
      this.#stage = Number(this.#stages.value);
      this.#apply({ stages: this.#stage });
    });
    const say = (/** @type {string} */ trouble) => (byId("decoding-trouble").textContent = trouble);
    workspace.addEventListener("open", () => {
      this.#show();
      say("");
    });
    workspace.addEventListener("decode", () => say(""));
    workspace.addEventListener("failure", (event) => say(/** @type {CustomEvent<string>} */ (event).detail));
  }

  /**
   * How codes are to be decoded, so far as what was chosen last applies to them.
   * @param {import("./service.js").Model | undefined} model
   * @param {number} stages that there are
   * @param {number} usual how many of them where nobody chose
   * @returns {Decoding}
   */
  of(model, stages, usual) {
    return {
      decoder: model?.decoders[this.#decoder] ? this.#decoder : DEFAULT_DECODER,
      stages: Math.min(this.#stage ?? usual, stages),
    };
  }

  /** @param {Partial<Decoding>} change */
  #apply(change) {
    this.workspace.decodeAs({ ...this.workspace.decoding, ...change });
    this.dispatchEvent(new Event("change"));
  }

  #show() {
    const { model, picture, decoding } = this.workspace;
    const names = Object.keys(model?.decoders ?? {});
    byId("decoder-row").hidden = names.length < 2;
    this.#decoders.replaceChildren(...names.map((name) => this.#option(name, name === decoding.decoder)));
    const stages = picture?.codes.codebookSizes.length ?? 1;
    byId("stages-choice").hidden = stages < 2;
    this.#stages.replaceChildren(
      ...Array.from({ length: stages }, (_, i) => {
        const bytes = formatBytes(this.workspace.tessFile(i + 1).length);
        return new Option(`${i + 1} of ${stages}, ${bytes}`, String(i + 1));
      }),
    );
    this.#stages.value = String(decoding.stages);
  }

  /** @param {string} name @param {boolean} checked */
  #option(name, checked) {
    const radio = element("input", { type: "radio", name: "decoder", value: name });
    radio.toggleAttribute("checked", checked);
    radio.addEventListener("change", () => {
      this.#decoder = name;
      this.#apply({ decoder: name });
    });
    return element("label", {}, radio, element("span", {}, titleOf(name)));
  }
}

/** @param {string} name of a decoder */
export const titleOf = (name) =>
  name === DEFAULT_DECODER ? "Squared error" : readable(name).replace(/^./, (first) => first.toUpperCase());

/** @param {Decoding} decoding @returns {string} to be added to a query */
export const decoderQuery = ({ decoder }) => (decoder === DEFAULT_DECODER ? "" : `&decoder=${decoder}`);

/**
 * @param {import("./tess.js").CodeFile} codes
 * @param {Decoding} decoding
 * @returns {string} to be added to a query; nothing where there is one stage
 */
export const stagesQuery = ({ codebookSizes }, { stages }) =>
  codebookSizes.length > 1 ? `&stages=${stages}` : "";
