// Runs a .tflite in LiteRT.js, in Node: one of the engines.
//
//     node litertjs_engine.mjs MODEL INPUTS OUTPUTS
//
// LiteRT.js is made for browsers: what loads its WebAssembly there is a script
// element or importScripts, which Node lacks and gets here. The WebAssembly
// and its kernels are the ones that browsers run on their CPU.

import fs from 'node:fs';
import {createRequire} from 'node:module';
import path from 'node:path';

const [modelPath, inputsPath, outputsPath] = process.argv.slice(2);
// The packages lie in the working directory, not beside this file.
const require = createRequire(path.join(process.cwd(), 'engine.js'));
const main = require.resolve('@litertjs/core');
const folder = path.dirname(path.dirname(main));
globalThis.self = globalThis;
globalThis.importScripts = (file) => {
  const code = fs.readFileSync(file, 'utf8') + '\nreturn ModuleFactory;';
  globalThis.ModuleFactory = new Function('require', '__dirname', '__filename',
                                          code)(
      require, path.dirname(file), file);
};
const {loadAndCompile, loadLiteRt, Tensor} = await import(main);
await loadLiteRt(path.join(folder, 'wasm'), {});

const given = JSON.parse(fs.readFileSync(inputsPath, 'utf8'));
const model = await loadAndCompile(
    new Uint8Array(fs.readFileSync(modelPath)), {accelerator: 'wasm'});
const signature = model.signatures[given.signature];
const outputs = {};
const rows = given.inputs.token_ids.length;
for (let i = 0; i < rows; i += given.batch_size) {
  const feed = {};
  for (const {name} of signature.getInputDetails()) {
    const part = given.inputs[name].slice(i, i + given.batch_size);
    feed[name] = new Tensor(new Int32Array(part.flat()),
                            [part.length, part[0].length]);
  }
  const results = await signature.run(feed);
  for (const {name} of signature.getOutputDetails()) {
    const values = Array.from(results[name].toTypedArray());
    const width = values.length / feed.token_ids.type.layout.dimensions[0];
    for (let j = 0; j < values.length; j += width) {
      (outputs[name] ??= []).push(values.slice(j, j + width));
    }
    results[name].delete();
  }
  Object.values(feed).forEach((tensor) => tensor.delete());
}
const {version} =
    JSON.parse(fs.readFileSync(path.join(folder, 'package.json'), 'utf8'));
fs.writeFileSync(outputsPath, JSON.stringify({version, outputs}));
