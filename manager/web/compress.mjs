// Writes a .gz beside each text file of dist, so that pgherd need not compress anything itself.
import { readFileSync, readdirSync, utimesSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { gzipSync } from "node:zlib";

const dist = new URL("dist/", import.meta.url).pathname;
const font = new URL("node_modules/@fontsource-variable/inter/LICENSE", import.meta.url);
const licenses = join(dist, "licenses.md");
writeFileSync(licenses, `${readFileSync(licenses, "utf8")}\n## Inter (font)\n\n${readFileSync(font, "utf8")}`);

let raw = 0;
let packed = 0;
for (const name of readdirSync(dist, { recursive: true, withFileTypes: true })) {
  if (!name.isFile() || !/\.(html|js|css|svg|json|md)$/.test(name.name)) continue;
  const file = join(name.parentPath, name.name);
  const text = readFileSync(file);
  const gz = gzipSync(text, { level: 9 });
  writeFileSync(`${file}.gz`, gz);
  raw += text.length;
  packed += gz.length;
}
// Cargo takes the page in again when this file is newer.
const now = new Date();
utimesSync(new URL("../build.rs", import.meta.url), now, now);
console.log(`compressed ${raw} bytes to ${packed}`);
