// The few web standards that src/core may use. Workers, Node and browsers all have them; nothing else is ambient here.
// Only tsconfig.core.json includes this file: elsewhere the environment's own types apply.

declare namespace WebAssembly {
  class Module {
    private readonly brand: "WebAssembly.Module";
  }
  interface Memory {
    readonly buffer: ArrayBuffer;
    grow(pages: number): number;
  }
  class Instance {
    constructor(module: Module, imports?: Record<string, Record<string, unknown>>);
    readonly exports: Record<string, unknown>;
  }
}

declare class TextEncoder {
  encode(text: string): Uint8Array<ArrayBuffer>;
}

declare class TextDecoder {
  constructor(label?: string, options?: { fatal?: boolean });
  decode(bytes: Uint8Array): string;
}

declare class URL {
  constructor(url: string, base?: string);
  readonly protocol: string;
  readonly host: string;
  readonly hostname: string;
  readonly origin: string;
  readonly pathname: string;
  readonly search: string;
  readonly username: string;
  readonly password: string;
  readonly href: string;
}

/** A deep copy; every platform of ours has it. */
declare function structuredClone<T>(value: T): T;
