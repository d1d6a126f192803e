import react from "@vitejs/plugin-react";
import { defineConfig } from "vitest/config";

export default defineConfig({
  plugins: [react()],
  build: {
    target: "es2022",
    // The CSP allows neither data: fonts nor inline scripts, so that nothing may be inlined.
    assetsInlineLimit: 0,
    modulePreload: { polyfill: false },
    license: { fileName: "licenses.md" },
  },
  // Those in tests/ drive a browser, and are run by node.
  test: { include: ["src/**/*.test.ts"] },
  server: { proxy: { "/api": { target: process.env.PGHERD_URL ?? "http://127.0.0.1:8080", ws: true } } },
});
