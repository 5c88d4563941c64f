import type { Evaluator } from './evaluate.ts'

/** A line of the console. */
export interface ConsoleMessage {
  /** V8's: `log`, `warning`, `error`, `table`, … */
  level: string
  /** Its arguments, bounded. */
  text: string
}

interface Argument {
  type: string
  objectId?: string
  value?: string | number | boolean | null
  unserializableValue?: string
  description?: string
  preview?: { overflow: boolean; properties: { name: string; type: string; value?: string }[] }
}

interface Called {
  type: string
  args: Argument[]
  stackTrace?: { callFrames: { url: string }[] }
}

const LONGEST = 4_000

/**
 * Hears what the evaluated code prints: what is printed with our source on the stack. Only while it runs, since V8 otherwise hands over
 * every line that the application prints.
 *
 * @returns What stops it.
 */
export async function listen(evaluator: Evaluator, name: string, hear: (message: ConsoleMessage) => void): Promise<() => Promise<void>> {
  const { session } = evaluator
  // First come the last 1,000 messages from before.
  await session.post('Runtime.enable')
  const off = session.on<Called>('Runtime.consoleAPICalled', ({ type, args, stackTrace }) => {
    evaluator.release(...args)
    if (stackTrace?.callFrames.some(({ url }) => url === name)) hear({ level: type, text: args.map(told).join(' ').slice(0, LONGEST) })
  })
  return async () => {
    // What it printed last may be on its way: main sends it before it answers this.
    await session.post('Runtime.disable').catch(() => {})
    off()
  }
}

function told({ type, value, unserializableValue, description = type, preview }: Argument): string {
  if (unserializableValue !== undefined) return unserializableValue
  if (type !== 'object' || value === null || !preview) return value === undefined ? description : String(value)
  const members = preview.properties.map(({ name, type, value = type }) => `${name}: ${type === 'string' ? JSON.stringify(value) : value}`)
  return `${description} { ${members.join(', ')}${preview.overflow ? ', …' : ''} }`
}
