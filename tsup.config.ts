import { defineConfig } from 'tsup'

export default defineConfig({
  entry: {
    index: 'src/core/index.ts',
    express: 'src/adapters/express.ts',
    koa: 'src/adapters/koa.ts',
    hapi: 'src/adapters/hapi.ts',
  },
  format: ['esm', 'cjs'],
  target: 'node20',
  dts: true,
  // Imports stay as written, with `node:`: a package that is called http cannot come between.
  removeNodeProtocol: false,
  // The subpaths share one copy of the core per format, in CJS as well (tsup splits only ESM by default).
  splitting: true,
  // No source maps: the output is not minified and keeps its names, so a stack trace reads well without them, and they
  // would double what every service installs.
  sourcemap: false,
  clean: true,
})
