// The YAML language server, as an editor runs it, over a policy file with our schema: what it completes, says on hover, and marks.
//
// SCHEMA is the schema's file. Modules are found from the folder that the clients are installed in.

import { spawn } from "node:child_process";
import { createRequire } from "node:module";
import { pathToFileURL } from "node:url";
import path from "node:path";

const installed = process.env.CLIENTS;
const require = createRequire(path.join(installed, "x.js"));
const rpc = require("vscode-jsonrpc/node");
const server = path.join(installed, "node_modules/yaml-language-server/bin/yaml-language-server");
const child = spawn(process.execPath, [server, "--stdio"], { stdio: ["pipe", "pipe", "ignore"] });
const connection = rpc.createMessageConnection(new rpc.StreamMessageReader(child.stdout), new rpc.StreamMessageWriter(child.stdin));

const settings = { yaml: { completion: true, hover: true, validate: true, schemaStore: { enable: false }, schemas: {} } };
const marks = [];
connection.onRequest("workspace/configuration", ({ items }) => items.map(({ section }) => settings[section] ?? null));
connection.onRequest("client/registerCapability", () => null);
connection.onRequest("custom/schema/request", () => null);
connection.onNotification("textDocument/publishDiagnostics", ({ uri, diagnostics }) => marks.push({ uri, diagnostics }));
connection.listen();

const folder = pathToFileURL(installed).href;
await connection.sendRequest("initialize", {
  processId: process.pid,
  rootUri: folder,
  capabilities: { textDocument: { completion: { completionItem: { snippetSupport: false } }, hover: { contentFormat: ["plaintext"] } }, workspace: { configuration: true } },
  workspaceFolders: [{ uri: folder, name: "x" }],
});
connection.sendNotification("initialized", {});
connection.sendNotification("workspace/didChangeConfiguration", { settings });

const head = `# yaml-language-server: $schema=${pathToFileURL(process.env.SCHEMA).href}\n`;
let version = 0;

/** Opens a text; `|` is where the cursor is. */
function open(text) {
  const at = text.indexOf("|");
  const before = head + (at < 0 ? text : text.slice(0, at));
  const uri = `file:///policies-${++version}.yaml`;
  const whole = head + (at < 0 ? text : text.slice(0, at) + text.slice(at + 1));
  connection.sendNotification("textDocument/didOpen", { textDocument: { uri, languageId: "yaml", version: 1, text: whole } });
  const lines = before.split("\n");
  return { textDocument: { uri }, position: { line: lines.length - 1, character: lines.at(-1).length } };
}

const text = documentation => documentation?.value ?? documentation ?? "";

async function complete(source) {
  const found = await connection.sendRequest("textDocument/completion", open(source));
  return found.items.map(item => ({ label: item.label, about: text(item.documentation) }));
}

async function hover(source) {
  const found = await connection.sendRequest("textDocument/hover", open(source));
  return [found?.contents].flat().map(text).join("\n");
}

async function faults(source) {
  const { uri } = open(source).textDocument;
  const own = () => marks.filter(found => found.uri === uri).flatMap(found => found.diagnostics);
  for (let turn = 0; turn < 2400 && !own().length; turn++) await new Promise(done => setTimeout(done, 50));
  return own().map(({ message, range }) => ({ message, line: range.start.line }));
}

const told = {
  top: await complete("|\n"),
  profile: await complete("access_policies:\n  p:\n    api: orders\n    allow:\n      - |\n"),
  expect: await complete("tests:\n  - request: GET /orders\n    expect: |\n"),
  hover: await hover("access_policies:\n  p:\n    api: orders\n    mo|de: shadow\n    allow: []\n"),
  faults: await faults("access_policies:\n  p:\n    api: orders\n    allow: []\n    mod: shadow\n"),
};
console.log(JSON.stringify(told));
connection.dispose();
child.kill();
