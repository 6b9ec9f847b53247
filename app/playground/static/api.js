// The service's API as this page uses it: keys, errors, stage times.

export const PACKED = "application/vnd.tessera.codes";
export const CONTEXT_CODED = `${PACKED};coding=context`;
export const NPY = "application/x-npy";

const KEY = "tessera-api-key";

/** A refusal, in words for a person. */
export class Refused extends Error {
  /**
   * @param {number} status 0 where the service wasn't reached
   * @param {string} code as in the API's error table
   * @param {string} detail
   */
  constructor(status, code, detail) {
    super(detail);
    this.status = status;
    this.code = code;
  }
}

/** @returns {string | null} */
export const apiKey = () => sessionStorage.getItem(KEY);

/** @param {string} key */
export const setApiKey = (key) => sessionStorage.setItem(KEY, key);

/**
 * Where the API is, seen from outside: for commands to copy.
 * @param {string} path such as `v1/encode`
 */
export const address = (path) => new URL(path, document.baseURI).href;

/**
 * Sends a request.
 * @param {string} path relative to the page, so that it works below a prefix too
 * @param {RequestInit & {accept?: string}} [options]
 * @returns {Promise<Response>} an answer with a status below 400
 * @throws {Refused} with the service's own words; or the request's `AbortError`
 */
export async function send(path, options = {}) {
  const headers = new Headers(options.headers);
  if (options.accept) headers.set("Accept", options.accept);
  const key = apiKey();
  if (key) headers.set("Authorization", `Bearer ${key}`);
  let response;
  try {
    response = await fetch(path, { ...options, headers });
  } catch (error) {
    if (error instanceof DOMException && error.name === "AbortError") throw error;
    throw new Refused(0, "unreachable", "The service doesn't answer. Is it still running?");
  }
  if (response.ok) return response;
  const problem = await response.json().catch(() => ({}));
  const refused = new Refused(
    response.status,
    problem.code ?? "unknown",
    inWords(response, problem),
  );
  if (response.status === 401) document.dispatchEvent(new CustomEvent("key-needed"));
  throw refused;
}

/**
 * @param {Response} response
 * @param {{title?: string, detail?: string}} problem
 */
function inWords(response, problem) {
  const parts = [problem.title ?? `The service answered ${response.status}`];
  if (problem.detail) parts.push(problem.detail);
  const text = parts.join(": ");
  const after = response.headers.get("Retry-After");
  return after ? `${text}. Try again in ${after} s.` : `${text}.`;
}

/**
 * @param {Response} response
 * @returns {Map<string, number>} milliseconds by stage
 */
export function stageTimes(response) {
  const times = new Map();
  for (const part of (response.headers.get("Server-Timing") ?? "").split(",")) {
    const found = /^\s*([\w-]+);dur=([\d.]+)/.exec(part);
    if (found) times.set(found[1], Number(found[2]));
  }
  return times;
}

/**
 * Runs only the latest of several calls: an earlier one still under way is abandoned, and its
 * result never seen.
 * @template {any[]} A
 * @template R
 * @param {(signal: AbortSignal, ...args: A) => Promise<R>} work
 * @returns {(...args: A) => Promise<R | undefined>} undefined where a later call overtook it
 */
export function latest(work) {
  /** @type {AbortController | undefined} */
  let current;
  return async (...args) => {
    current?.abort();
    const mine = (current = new AbortController());
    try {
      const result = await work(mine.signal, ...args);
      return mine === current ? result : undefined;
    } catch (error) {
      if (mine !== current) return undefined;
      throw error;
    }
  };
}
