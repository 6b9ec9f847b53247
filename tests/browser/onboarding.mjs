// The way of a new user, timed: clone, `make serve`, their picture in the page, in a real Chromium.
//
//   node tests/browser/onboarding.mjs [--no-cache]
//
// Of this checkout it takes the last commit and the browser's driver, nothing else: the clone makes
// an environment of its own. With --no-cache every package is downloaded anew.

import assert from "node:assert/strict";
import { execFileSync, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

import { freePort, openPage, photo, startBrowser } from "./harness.mjs";

const ROOT = fileURLToPath(new URL("../../", import.meta.url));
const LIMIT_S = 180;

// What `make onboarding` was told is not for that user's `make`.
const { MAKEFLAGS, MAKEOVERRIDES, MFLAGS, MAKELEVEL, ARGS, ...environment } = process.env;

const folder = await mkdtemp(join(tmpdir(), "tessera-onboarding-"));
const began = performance.now();
const sinceStart = () => (performance.now() - began) / 1000;
const tell = (text) => console.log(`${sinceStart().toFixed(1).padStart(6)} s  ${text}`);

let service;
let browser;
try {
  execFileSync("git", ["clone", "--quiet", `file://${ROOT}`, join(folder, "tessera")]);
  tell("cloned");
  const port = await freePort();
  const address = `http://127.0.0.1:${port}/`;
  service = spawn("make", ["serve"], {
    cwd: join(folder, "tessera"),
    detached: true, // a group of its own: what make started ends with it
    stdio: ["ignore", "ignore", "inherit"],
    env: {
      ...environment,
      TESSERA_PORT: String(port),
      TESSERA_LOG_LEVEL: "error",
      ...(process.argv.includes("--no-cache") ? { PIP_NO_CACHE_DIR: "1" } : {}),
    },
  });
  while (!(await fetch(`${address}readyz`).catch(() => undefined))?.ok) {
    assert.equal(service.exitCode, null, "make serve ended");
    assert.ok(sinceStart() < LIMIT_S, "it takes too long");
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
  tell("make serve is ready");
  browser = await startBrowser();
  const page = await openPage(browser, address);
  tell("the page is there, in Chromium");
  await page.setInputFiles("#file", photo("street.webp"));
  await page.getByRole("heading", { name: "street.webp" }).waitFor();
  const facts = await page.locator("#facts").innerText();
  assert.match(facts, /PSNR\s+\d\d\.\d/);
  assert.deepEqual(page.said, [], "the console is silent");
  tell(`their picture and what its codes decode to: ${facts.match(/PSNR\s+(\S+ dB)/)?.[1]}`);
  assert.ok(sinceStart() < LIMIT_S, `it took more than ${LIMIT_S} s`);
} finally {
  await browser?.close();
  if (service?.exitCode === null) {
    process.kill(-service.pid, "SIGTERM");
    await once(service, "exit");
  }
  await rm(folder, { recursive: true, force: true });
}
