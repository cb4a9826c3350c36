import { defineConfig } from "vitest/config";

// The tests talk to one real node, which test/support/node.ts starts, and some
// of them drive a real browser: files run one after the other.
export default defineConfig({
  test: {
    include: ["test/**/*.test.ts"],
    globalSetup: "test/support/node.ts",
    fileParallelism: false,
    testTimeout: 60_000,
    hookTimeout: 60_000,
  },
});
