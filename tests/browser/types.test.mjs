// The playground's modules against the types in their comments.

import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { test } from "node:test";
import { fileURLToPath } from "node:url";

const COMPILER = fileURLToPath(new URL("./node_modules/typescript/bin/tsc", import.meta.url));
const MAIN = fileURLToPath(new URL("../../app/playground/static/main.js", import.meta.url));

test("every module that the page loads is of the types that its comments state", () => {
  const options = ["--noEmit", "--allowJs", "--checkJs", "--strict", "--skipLibCheck"];
  const platform = ["--target", "es2023", "--lib", "es2023,dom,dom.iterable"];
  const modules = ["--module", "esnext", "--moduleResolution", "bundler"];
  const { stdout, status } = spawnSync(
    process.execPath,
    [COMPILER, ...options, ...platform, ...modules, MAIN],
    { encoding: "utf8" },
  );
  assert.equal(stdout, "");
  assert.equal(status, 0);
});
