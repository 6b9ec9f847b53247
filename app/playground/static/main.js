// The playground: its parts are made and connected here.

import { comparePictures } from "./compare.js";
import { ContextCoding } from "./context_coding.js";
import { DecodingChoice } from "./decoding.js";
import { byId } from "./dom.js";
import { offerDownloads, showPictureCommands } from "./downloads.js";
import { drawPicture } from "./drawing.js";
import { editCodes } from "./editing.js";
import { showNumbers } from "./facts.js";
import { takeFiles } from "./file_input.js";
import { showCodesInUse } from "./histogram.js";
import { Labels } from "./labels.js";
import { showModels } from "./model_panel.js";
import { Mosaic } from "./mosaic.js";
import { openFiles } from "./opening.js";
import { Service } from "./service.js";
import { Surprise } from "./surprise.js";
import { Tools } from "./tools.js";
import { Wipe } from "./wipe.js";
import { Workspace } from "./workspace.js";
import { zoomByButtons } from "./zoom.js";

const service = new Service();
const workspace = new Workspace();
const wipe = new Wipe(
  /** @type {HTMLCanvasElement} */ (byId("wipe")),
  /** @type {HTMLInputElement} */ (byId("wipe-range")),
  workspace.view,
);
const mosaic = new Mosaic(/** @type {HTMLCanvasElement} */ (byId("mosaic")), workspace.view);
const tools = new Tools(mosaic);
const labels = new Labels();

showModels(service);
// Each hears of a picture in this order: the title is shown first, so that canvases have a width.
const decoding = new DecodingChoice(workspace);
const open = openFiles(service, workspace, decoding);
drawPicture(workspace, wipe, mosaic, tools, service);
showCodesInUse(workspace, mosaic, tools);
editCodes(workspace, mosaic, tools);
const contextCoding = new ContextCoding(workspace);
showNumbers(workspace, contextCoding);
zoomByButtons(workspace.view);
offerDownloads(workspace, contextCoding);
const surprise = new Surprise(workspace);

const showActions = () =>
  workspace.picture && showPictureCommands(workspace, surprise.path, labels.path);
workspace.addEventListener("open", () => {
  if (workspace.model) labels.open(workspace.model);
  labels.show(workspace.tessFile());
  showActions();
});
workspace.addEventListener("settle", () => labels.show(workspace.tessFile()));
byId("recognizer-select").addEventListener("change", showActions);
decoding.addEventListener("change", showActions);
// One map at a time: they would hide each other.
byId("surprise-shown").addEventListener("change", () => labels.hideMap());
byId("map-shown").addEventListener("change", () => surprise.hide());
for (const map of [surprise, labels]) {
  map.addEventListener("change", () => {
    wipe.overlay = surprise.overlay ?? labels.overlay;
    wipe.draw();
  });
}

const compare = comparePictures(service);
takeFiles((files) => {
  if (files.length === 1) open(files[0]);
  else {
    compare(files);
    byId("compare").scrollIntoView();
  }
});
service.start();
