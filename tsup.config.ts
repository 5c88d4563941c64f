import { defineConfig } from 'tsup'

export default defineConfig({
  entry: {
    index: 'src/core/index.ts',
    express: 'src/adapters/express.ts',
    koa: 'src/adapters/koa.ts',
    hapi: 'src/adapters/hapi.ts',
    fastify: 'src/adapters/fastify.ts',
    nestjs: 'src/adapters/nestjs.ts',
    ws: 'src/adapters/ws.ts',
    stoppable: 'src/adapters/stoppable.ts',
    // What `require('lameduck/stoppable')` gives: with one default export and nothing else, cjsInterop makes it the function itself, in code and types.
    'stoppable-cjs': 'src/adapters/stoppable-cjs.ts',
    terminus: 'src/adapters/terminus.ts',
    'http-terminator': 'src/adapters/http-terminator.ts',
  },
  format: ['esm', 'cjs'],
  target: 'node20',
  dts: true,
  cjsInterop: true,
  // Imports stay as written, with `node:`: a package that is called http cannot come between.
  removeNodeProtocol: false,
  // The subpaths share one copy of the core per format, in CJS as well (tsup splits only ESM by default).
  splitting: true,
  // No source maps: the output is not minified and keeps its names, so a stack trace reads well without them, and they
  // would double what every service installs.
  sourcemap: false,
  clean: true,
})
