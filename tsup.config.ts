import { cpSync } from 'node:fs'
import { isBuiltin } from 'node:module'
import { defineConfig, type Options } from 'tsup'

const shared: Options = {
  target: 'node20',
  // Imports stay as written, with `node:`: a package that is called http cannot come between.
  removeNodeProtocol: false,
  // The subpaths share one copy of the core per format, in CJS as well (tsup splits only ESM by default).
  splitting: true,
  // No source maps: the output is not minified and keeps its names, so a stack trace reads well without them, and they
  // would double what every service installs.
  sourcemap: false,
}

export default defineConfig([
  {
    ...shared,
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
      ops: 'src/ops/index.ts',
      gc: 'src/ops/gc/index.ts',
      cluster: 'src/cluster/index.ts',
      // What the supervisor loads into each worker, before the application.
      'cluster-worker': 'src/cluster/worker.ts',
    },
    format: ['esm', 'cjs'],
    dts: true,
    cjsInterop: true,
    // `import.meta.url` in CJS: where the worker's program is.
    shims: true,
  },
  {
    ...shared,
    // The endpoint's worker is a program of its own, whoever starts it.
    entry: { 'ops-worker': 'src/ops/worker.ts' },
    format: 'esm',
    splitting: false,
    onSuccess: async () => cpSync('src/ops/page', 'dist/ops-page', { recursive: true, filter: source => !source.endsWith('.ts') }),
  },
  {
    ...shared,
    // Its packages come with it: an installed lameduck brings none along. (Shebang: main.ts.)
    entry: { cli: 'src/cli/main.ts' },
    format: 'esm',
    platform: 'node',
    noExternal: [/^(?!node:)/],
    external: ['bufferutil', 'utf-8-validate', '@colors/colors'],
    // CommonJS packages in it ask for a require().
    banner: { js: "import { createRequire as __createRequire } from 'node:module'; const require = __createRequire(import.meta.url);" },
    // Without these ws looks for addons, of which the package would then seem to depend.
    define: { 'process.env.WS_NO_BUFFER_UTIL': '"1"', 'process.env.WS_NO_UTF_8_VALIDATE': '"1"' },
    esbuildPlugins: [{
      name: 'cli',
      setup(build) {
        build.onResolve({ filter: /^[a-z_/]+$/ }, ({ path }) => (isBuiltin(path) ? { path: `node:${path}`, external: true } : undefined))
        // The supervisor is not bundled twice.
        build.onResolve({ filter: /^\.\.\/cluster\// }, () => ({ path: './cluster.js', external: true }))
      },
    }],
  },
])
