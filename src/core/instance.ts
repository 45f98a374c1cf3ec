// An instance of the compiled assembly/, with a memory of its own. In: the module. Out: what it exports, as the caller knows it.

// Node's types know the namespace only as types; the constructor is there in Node, Workers and browsers alike.
const { Instance } = (
  globalThis as unknown as {
    WebAssembly: { Instance: new (module: WebAssembly.Module, imports: object) => { exports: object } };
  }
).WebAssembly;

/** The caller vouches for `Exports`: they are those of assembly/index.ts that it uses. */
export function instantiate<Exports>(module: WebAssembly.Module): Exports {
  return new Instance(module, { env: { abort } }).exports as Exports;
}

function abort(): never {
  throw new Error("the engine aborted");
}
