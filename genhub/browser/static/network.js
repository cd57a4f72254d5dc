// Networks: fetched once, run by ONNX Runtime Web with a dynamic batch.

const networks = new Map();

/** Returns a function that does `work` once, and again only if it failed. */
export function once(work) {
  let done = null;
  return () => (done ??= work().catch((error) => {
    done = null;
    throw error;
  }));
}

const start = once(async () => {
  const ort = await import("./runtime/ort.wasm.min.mjs").catch(() => {
    throw new Error("ONNX Runtime Web could not be fetched. Is the network there, and the server?");
  });
  ort.env.wasm.numThreads = 1;
  ort.env.wasm.wasmPaths = new URL("runtime/", import.meta.url).href;
  return ort;
});

/** Returns the answer of the server to a request for a file of this page. */
export async function get(file) {
  const response = await fetch(file).catch(() => null);
  if (!response?.ok) throw new Error(`${file} could not be fetched${response ? ` (${response.status})` : ". Is the network there, and the server?"}`);
  return response;
}

/** Fetches the graphs of a model; `say` is told how many bytes have arrived. Returns run(name, inputs) -> Float32Array,
 * which knows when all had `arrived`. */
export async function load(model, say) {
  if (networks.has(model.name)) return networks.get(model.name);
  const ort = await start(), graphs = [], sessions = {};
  let count = 0;
  for (const [name, file] of Object.entries(model.graphs)) {
    const response = await get(file);
    const chunks = [];
    for (let reader = response.body.getReader(), next; !(next = await reader.read()).done; ) {
      chunks.push(next.value);
      say((count += next.value.length));
    }
    graphs.push([name, new Uint8Array(await new Blob(chunks).arrayBuffer())]);
  }
  const arrived = performance.now();
  for (const [name, bytes] of graphs) {
    sessions[name] = await ort.InferenceSession.create(bytes, { executionProviders: ["wasm"] });
  }
  let last = Promise.resolve(); // a session runs one call at a time
  const run = (name, inputs) => {
    const call = last.then(async () => {
      const feeds = Object.fromEntries(Object.entries(inputs).map(([key, { values, shape }]) => {
        const type = values instanceof BigInt64Array ? "int64" : "float32";
        return [key, new ort.Tensor(type, values, shape)];
      }));
      const outputs = await sessions[name].run(feeds);
      await new Promise((resolve) => setTimeout(resolve)); // the page is drawn, and hears its reader
      return Float32Array.from(outputs[sessions[name].outputNames[0]].data);
    });
    last = call.catch(() => {});
    return call;
  };
  run.arrived = arrived;
  networks.set(model.name, run);
  return run;
}

export const floats = (values, ...shape) => ({ values, shape });

/** Returns whole numbers, one for each of a batch. */
export const integers = (values) => ({ values: BigInt64Array.from(values, BigInt), shape: [values.length] });

let working = 0;
const showWork = (change) => {
  working += change;
  document.getElementById("panel").setAttribute("aria-busy", working > 0);
};

/** Returns a function that runs `work` again if it was called meanwhile, and never twice at a time. `work` is given a
 * function that tells whether it will be. */
export function latest(work) {
  let isRunning = false, isAsked = false;
  return async () => {
    isAsked = true;
    if (isRunning) return;
    isRunning = true;
    showWork(1);
    try {
      while (isAsked) {
        isAsked = false;
        await work(() => isAsked);
      }
    } finally {
      isRunning = false;
      showWork(-1);
    }
  };
}
