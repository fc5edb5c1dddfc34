// Usage: node check.mjs FILE. Parses an AsyncAPI document with the official parser; the exit status is 1 if it finds an error.
import { readFileSync } from "node:fs";
import { resolve } from "node:path";
import { pathToFileURL } from "node:url";
import { Parser } from "@asyncapi/parser";

const file = resolve(process.argv[2]);
const { document, diagnostics } = await new Parser().parse(readFileSync(file, "utf8"), { source: pathToFileURL(file).href.replace("file://", "") });
let errors = 0;
for (const d of diagnostics) {
  if (d.severity !== 0) continue; // 0 = error; the others are matters of style
  errors++;
  console.error(`${process.argv[2]}:${d.range.start.line + 1}: ${d.path.join(".")}: ${d.message} (${d.code})`);
}
if (errors > 0 || !document) {
  console.error(`${errors} errors`);
  process.exit(1);
}
const { length: channels } = document.channels().all();
const { length: operations } = document.operations().all();
const messages = document.messages().all();
for (const m of messages) {
  if (!m.payload()) {
    console.error(`${m.id()}: no payload`);
    process.exit(1);
  }
}
console.log(`${process.argv[2]}: valid AsyncAPI ${document.version()}: ${channels} channels, ${operations} operations, ${messages.length} messages`);
