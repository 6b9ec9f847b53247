// A real service on a free port, and a real browser that keeps what its console says.

import { spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync } from "node:fs";
import { cp, mkdtemp, rm } from "node:fs/promises";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { delimiter, join } from "node:path";
import { fileURLToPath } from "node:url";

import { chromium } from "playwright-core";

const ROOT = fileURLToPath(new URL("../../", import.meta.url));
const DATA = join(ROOT, "tests", "data");
const PYTHON = process.env.PYTHON ?? join(ROOT, ".venv", "bin", "python");
const START_MS = 120_000;

/** A packed file of a code space that no model here has. */
export const TESS = join(DATA, "codes", "photo.tess");

export const photo = (name) => join(DATA, "photos", name);

/** The first of the usual names on the PATH; CHROMIUM names another. */
function browserPath() {
  if (process.env.CHROMIUM) return process.env.CHROMIUM;
  for (const folder of (process.env.PATH ?? "").split(delimiter)) {
    for (const name of ["chromium", "chromium-browser", "google-chrome"]) {
      if (existsSync(join(folder, name))) return join(folder, name);
    }
  }
  throw new Error("There is no Chromium on the PATH. Install one, or name it: CHROMIUM=/path/to/it");
}

export const startBrowser = () =>
  chromium.launch({
    executablePath: browserPath(),
    // The sandbox needs rights that containers don't have; the pages are our own.
    args: [
      "--no-sandbox",
      "--disable-gpu",
      "--disable-quic",
      "--no-first-run",
      "--disable-background-networking",
      "--disable-component-update",
      "--disable-sync",
    ],
  });

/** Opens a sample of the page, and waits until it is shown. */
export async function openSample(page, name = "otter") {
  // The same sample may be there already.
  await page.locator("#picture-name").evaluate((title) => (title.textContent = ""));
  await page.click(`[data-sample="${name}.webp"]`);
  await page.getByRole("heading", { name: `${name}.webp` }).waitFor();
}

export async function freePort() {
  const server = createServer().listen(0, "127.0.0.1");
  await once(server, "listening");
  const { port } = server.address();
  server.close();
  await once(server, "close");
  return port;
}

/** Starts the service with the tiny model, or with those of `bundles`; `stop` ends it. */
export async function serve(environment = {}, ...bundles) {
  const models = await mkdtemp(join(tmpdir(), "tessera-browser-"));
  for (const bundle of bundles.length ? bundles : ["bundles/tiny"]) {
    await cp(join(DATA, bundle), join(models, bundle.replace("/", "-")), { recursive: true });
  }
  const port = await freePort();
  const address = `http://127.0.0.1:${port}/`;
  const service = spawn(PYTHON, ["-m", "app", "serve"], {
    cwd: ROOT,
    stdio: ["ignore", "ignore", "pipe"],
    env: {
      ...process.env,
      TESSERA_HOST: "127.0.0.1",
      TESSERA_PORT: String(port),
      TESSERA_MODELS_DIR: models,
      TESSERA_LOG_LEVEL: "error",
      ...environment,
    },
  });
  let said = "";
  service.stderr.on("data", (chunk) => (said += chunk));
  const ended = once(service, "exit");
  const stop = async () => {
    service.kill("SIGTERM");
    await ended;
    await rm(models, { recursive: true });
  };
  const deadline = Date.now() + START_MS;
  while (!(await fetch(`${address}readyz`).catch(() => undefined))?.ok) {
    if (service.exitCode !== null || Date.now() > deadline) {
      await stop();
      throw new Error(`the service doesn't start: ${said}`);
    }
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
  return { address, stop };
}

/**
 * A page whose `said` gathers errors and warnings, but those that were announced. Where it is to be
 * `ready`, it shows the sample that every visitor sees first.
 */
export async function openPage(browser, address, { ready = true, ...options } = {}) {
  const context = await browser.newContext({ viewport: { width: 1280, height: 900 }, ...options });
  context.setDefaultTimeout(60_000);
  const page = await context.newPage();
  const expected = [];
  page.said = [];
  page.expectErrors = (pattern) => expected.push(pattern);
  const keep = (text) => {
    if (!expected.some((pattern) => pattern.test(text))) page.said.push(text);
  };
  page.on("console", (message) => {
    if (["error", "warning"].includes(message.type())) keep(message.text());
  });
  page.on("pageerror", (error) => keep(String(error)));
  page.on("request", (request) => {
    if (!request.url().startsWith(address) && !/^(blob|data):/.test(request.url())) {
      page.said.push(`it asked ${request.url()}`);
    }
  });
  await page.goto(address);
  if (ready) await page.waitForSelector("#work:not([hidden])");
  return page;
}
