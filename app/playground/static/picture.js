// A picture through the service: its codes, and what is reconstruction from them.

import { PACKED, send, stageTimes } from "./api.js";
import { decoderQuery, stagesQuery } from "./decoding.js";
import { mediaType } from "./file_input.js";
import { firstStages, readTess, writeTess } from "./tess.js";

/**
 * @typedef {object} Picture
 * @property {string} name
 * @property {File | null} file null where only codes are known
 * @property {ImageBitmap | HTMLCanvasElement | null} original null where unknown, or the browser can't show it
 * @property {import("./tess.js").CodeFile} codes
 * @property {number} index of the grid among the file's
 * @property {ImageBitmap} reconstruction
 * @property {Blob} reconstructionFile
 * @property {number | null} psnr in dB, where the service made the reconstruction from the picture
 * @property {boolean} resized
 * @property {string} query of the requests that were made: the model, and how the picture is resized
 * @property {[string, Map<string, number>][]} times of each request, by stage
 *
 * @typedef {object} Reconstruction
 * @property {ImageBitmap} reconstruction
 * @property {Blob} reconstructionFile
 * @property {number | null} psnr in dB
 * @property {[string, Map<string, number>]} time of the request
 *
 * @typedef {import("./decoding.js").Decoding} Decoding
 * @typedef {import("./service.js").Model} Model
 */

/**
 * Encodes a picture, to codes of all stages, and reconstructs it.
 * @param {File} file
 * @param {Model} model
 * @param {Decoding} decoding
 * @param {number} longestSide most pixels of a side; 0 for as many as it has
 * @param {AbortSignal} signal
 * @param {(share: number, text: string) => void} progress
 * @returns {Promise<Picture>}
 */
export async function openImage(file, model, decoding, longestSide, signal, progress) {
  progress(0.1, "Reading the picture");
  // Samples are taken as sRGB, as the service takes them; undefined for what browsers don't show.
  const bitmap = await createImageBitmap(file, { colorSpaceConversion: "none" }).catch(() => undefined);
  const factor = bitmap && longestSide ? longestSide / Math.max(bitmap.width, bitmap.height) : 1;
  const query = new URLSearchParams({ model: model.id });
  if (bitmap && factor < 1) {
    const [width, height] = [bitmap.width, bitmap.height].map((side) =>
      Math.max(1, Math.round(side * factor)),
    );
    query.set("size", `${width}x${height}`);
    query.set("fit", "stretch");
  }
  progress(0.3, "Encoding the picture");
  const all = model.stages.length > 1 ? `&stages=${model.stages.length}` : "";
  const encoded = await sendImage(`v1/encode?${query}${all}`, file, PACKED, signal);
  const codes = readTess(await encoded.arrayBuffer());
  progress(0.6, "Decoding the codes");
  const { time, ...made } = await reconstruct(file, query.toString(), decoding, codes, signal);
  const { width, height } = codes.grids[0];
  codes.grids[0].name ||= file.name;
  return {
    name: file.name || "pasted picture",
    file,
    original: bitmap ? overWhite(bitmap, width, height) : null,
    codes,
    index: 0,
    ...made,
    resized: query.has("size"),
    query: query.toString(),
    times: [["Encode", stageTimes(encoded)], time],
  };
}

/**
 * @param {string} path
 * @param {File} file
 * @param {string} accept
 * @param {AbortSignal} signal
 */
function sendImage(path, file, accept, signal) {
  const headers = { "Content-Type": mediaType(file) };
  return send(path, { method: "POST", headers, accept, body: file, signal });
}

/**
 * What encoding and decoding make of a picture, with its PSNR.
 * @param {File} file
 * @param {string} query
 * @param {Decoding} decoding
 * @param {import("./tess.js").CodeFile} codes
 * @param {AbortSignal} signal
 * @returns {Promise<Reconstruction>}
 */
export async function reconstruct(file, query, decoding, codes, signal) {
  const path = `v1/reconstruct?${query}${decoderQuery(decoding)}${stagesQuery(codes, decoding)}`;
  const answer = await sendImage(path, file, "image/png", signal);
  const psnr = Number(answer.headers.get("Tessera-PSNR"));
  return { ...(await pictureOf(answer)), psnr, time: ["Reconstruct", stageTimes(answer)] };
}

/**
 * Decodes one grid of a packed file.
 * @param {string} name of the file
 * @param {import("./tess.js").CodeFile} codes
 * @param {number} index of the grid
 * @param {Model | undefined} model undefined where none has their code space
 * @param {Decoding} decoding
 * @param {AbortSignal} signal
 * @returns {Promise<Picture>}
 */
export async function openCodes(name, codes, index, model, decoding, signal) {
  const { time, ...made } = await decode(codes, codes.grids[index], model, decoding, signal);
  return {
    name: codes.grids[index].name || name,
    file: null,
    original: null,
    codes,
    index,
    ...made,
    resized: false,
    query: "",
    times: [time],
  };
}

/**
 * Decodes codes to a picture.
 * @param {import("./tess.js").CodeFile} file which says what the codes are of
 * @param {import("./tess.js").Grid} grid
 * @param {Model | undefined} model undefined where the service is to say that there is none
 * @param {Decoding} decoding
 * @param {AbortSignal} signal
 * @returns {Promise<Reconstruction>}
 */
export async function decode(file, grid, model, decoding, signal) {
  const query = model ? `?model=${model.id}${decoderQuery(decoding)}` : "";
  const answer = await send(`v1/decode${query}`, {
    method: "POST",
    headers: { "Content-Type": PACKED },
    accept: "image/png",
    body: writeTess(firstStages({ ...file, grids: [grid] }, decoding.stages)),
    signal,
  });
  return { ...(await pictureOf(answer)), psnr: null, time: ["Decode", stageTimes(answer)] };
}

/** @param {Response} answer */
async function pictureOf(answer) {
  const reconstructionFile = await answer.blob();
  return { reconstruction: await createImageBitmap(reconstructionFile), reconstructionFile };
}

/**
 * Peak signal-to-noise ratio of two pictures of one size.
 * @param {CanvasImageSource} a
 * @param {CanvasImageSource} b
 * @param {number} width
 * @param {number} height
 * @returns {number} dB; infinite if they are equal
 */
export function psnrOf(a, b, width, height) {
  const [one, other] = [a, b].map((image) => {
    const context = new OffscreenCanvas(width, height).getContext("2d", { willReadFrequently: true });
    context?.drawImage(image, 0, 0, width, height);
    return context?.getImageData(0, 0, width, height).data ?? new Uint8ClampedArray();
  });
  let sum = 0;
  for (let i = 0; i < one.length; i++) {
    if (i % 4 !== 3) sum += (one[i] - other[i]) ** 2;
  }
  return 10 * Math.log10((255 ** 2 * width * height * 3) / sum);
}

/**
 * The mean colour of the pixels behind each code, roughly: the picture made that small.
 * @param {CanvasImageSource} image
 * @param {{columns: number, rows: number}} grid
 * @returns {Uint8ClampedArray} RGBA of each code
 */
export function thumbnailOf(image, { columns, rows }) {
  const context = new OffscreenCanvas(columns, rows).getContext("2d");
  if (!context) return new Uint8ClampedArray(columns * rows * 4);
  context.imageSmoothingQuality = "high";
  context.drawImage(image, 0, 0, columns, rows);
  return context.getImageData(0, 0, columns, rows).data;
}

/**
 * The picture as the service sees it: of that size, transparency laid over white.
 * @param {ImageBitmap} bitmap
 * @param {number} width
 * @param {number} height
 */
function overWhite(bitmap, width, height) {
  const canvas = document.createElement("canvas");
  canvas.width = width;
  canvas.height = height;
  const context = /** @type {CanvasRenderingContext2D} */ (canvas.getContext("2d"));
  context.fillStyle = "#fff";
  context.fillRect(0, 0, width, height);
  context.imageSmoothingQuality = "high";
  context.drawImage(bitmap, 0, 0, width, height);
  return canvas;
}
