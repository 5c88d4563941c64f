import type { Command } from 'commander'
import { makeProgram } from '../src/cli/program.ts'

const words = (line: string) => line.split(/\s+/).filter(Boolean)

/** What is wrong with a command line of `lameduck` in a document: a command or an option that there is not. Undefined when all is well. */
export function wrongWith(line: string): string | undefined {
  const [npx, name, ...rest] = words(line)
  if (npx !== 'npx' || name !== 'lameduck') return `no command line of lameduck: ${line}`
  let command: Command = makeProgram(process)
  const known = [...command.options]
  const left = [...rest]
  for (let next = left[0]; next !== undefined; next = left[0]) {
    const sub = command.commands.find(one => one.name() === next)
    if (!sub) break
    command = sub
    known.push(...sub.options)
    left.shift()
  }
  if (command.commands.length > 0) return `no such command: ${line}`
  const option = left.find(word => word.startsWith('-') && !known.some(({ short, long }) => word === short || word === long))
  return option && `no such option: ${option} of ${command.name()}`
}
