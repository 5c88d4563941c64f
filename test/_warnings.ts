import assert from 'node:assert/strict'

/** What Node warns of when somebody listens too often, or sets a timer that cannot be. */
const OURS = /MaxListenersExceededWarning|Timeout\w+Warning/

const heard: string[] = []

process.on('warning', ({ name, stack = name }) => {
  if (OURS.test(name)) heard.push(stack)
})

/** Looks for such warnings in what a child program has written. */
export function lookForWarnings(stderr: string): void {
  heard.push(...stderr.split('\n').filter(line => OURS.test(line)))
}

/** For `after()`: none came, here or in a child. */
export function assertNoWarnings(): void {
  // The runner names the file in which the hook is written, which is a helper.
  assert.deepEqual(heard.splice(0), [], `${process.argv[1]}: warnings of Node that users would see, too`)
}
