#!/usr/bin/env node
import { setImmediate as turn } from 'node:timers/promises'
import { EXIT } from './failure.ts'
import { outputFailure } from './io.ts'
import { run, tell } from './program.ts'

let left = false
let lost: Error | undefined

// `lameduck … | head`: whoever read our output has seen enough. What is under way is called off as by Ctrl-C, once: a second one would force.
process.stdout.on('error', (error: NodeJS.ErrnoException) => {
  if (error.code !== 'EPIPE') lost ??= error
  else if (process.listenerCount('SIGINT') === 0) process.exit(EXIT.ok)
  else if (!left) process.emit('SIGINT')
  left = true
})
// Remarks that nobody reads are no reason to stop.
process.stderr.on('error', () => {})

const code = await run(process.argv.slice(2), process)
// What was written without waiting for it, as the help is, fails a little later.
await turn()
if (lost && code === EXIT.ok) tell(process.stderr, outputFailure(lost))
process.exitCode = lost && code === EXIT.ok ? EXIT.failed : code
