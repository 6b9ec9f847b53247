// The buttons for zoom, and its level in words.

import { byId } from "./dom.js";

/** @param {import("./view.js").View} view */
export function zoomByButtons(view) {
  view.addEventListener("change", () => {
    const scale = view.fitScale(...view.shown) * view.zoom;
    byId("zoom-level").textContent = view.zoom === 1 ? "fit" : `${Math.round(scale * 100)} %`;
    document.body.classList.toggle("zoomed", view.zoom > 1);
  });
  byId("zoom-in").addEventListener("click", () => view.zoomTo(view.zoom * 1.5));
  byId("zoom-out").addEventListener("click", () => view.zoomTo(view.zoom / 1.5));
  byId("zoom-pixels").addEventListener("click", () => view.pixels());
  byId("zoom-fit").addEventListener("click", () => view.fit());
}
